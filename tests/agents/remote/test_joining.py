"""Remote workers join, beat and leave by the API; what does not fit is refused, recorded and does no harm."""

from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from accounts import actions as accounts
from accounts.models import ApiKey
from accounts.roles import AccountRole
from accounts.scopes import Scope
from agents.actions.dispatch import dispatch
from agents.actions.workers import notice_shut_out, notice_silent
from agents.allocation import Wanted, choose
from agents.models import Run, Worker
from agents.states import Trust, WorkerStatus
from projects.models import AuditLog
from tests.accounts.making import person
from tests.agents.remote.joined import READING, Machine, refusals
from tests.factories import ProjectFactory, RunFactory, TaskFactory, WorkerFactory

pytestmark = pytest.mark.django_db


def test_a_machine_joins_beats_and_leaves(machine: Machine) -> None:
    worker = machine.worker
    assert (worker.name, worker.status, worker.trust) == ("far-away", WorkerStatus.ONLINE, Trust.NORMAL)
    assert worker.is_remote

    answer = machine.beat(running=[])
    assert answer.json() == {"status": "online", "unwanted": []}
    assert machine.worker.load["disk_free_mb"] == 50_000

    again = machine.join().json()
    assert again["worker_id"] == str(worker.pk), "a restart makes no second worker"

    assert machine.leave(worker).status_code == 204
    assert machine.worker.status == WorkerStatus.OFFLINE
    assert machine.leave(worker).status_code == 204


def test_its_page_says_that_it_is_remote(machine: Machine, client: Client) -> None:
    client.force_login(person(AccountRole.VIEWER))

    assert "Remote</span>" in client.get(reverse("workers")).content.decode()


@pytest.mark.parametrize(
    ("scopes", "role"), [((Scope.WORKERS_WRITE,), AccountRole.ADMIN), ((Scope.WORKERS_JOIN,), AccountRole.OPERATOR)]
)
def test_who_may_not_let_machines_in_lets_none_in(scopes: tuple[Scope, ...], role: AccountRole) -> None:
    assert Machine(*scopes, role=role).join().status_code == 403
    assert not Worker.objects.exists()


@pytest.mark.parametrize(
    "wrong",
    [
        {"machine_id": "../../etc"},
        {"machine_name": "a\nb"},
        {"capacity": 0},
        {"runtime": "podman"},
        {"available_tools": ["x" * 41]},
        {"cpus": "many"},
        {"platform": "\x00"},
    ],
)
def test_nonsense_is_no_machine(wrong: dict[str, Any]) -> None:
    assert Machine(Scope.WORKERS_JOIN, **wrong).join().status_code == 400
    assert not Worker.objects.exists()


def test_trust_is_the_keys_and_not_the_machines_word() -> None:
    trusted = Machine(Scope.WORKERS_JOIN, Scope.WORKERS_SENSITIVE)
    boasting = Machine(Scope.WORKERS_JOIN, machine_id="b" * 32, machine_name="boasting", trust="sensitive")
    for one in (trusted, boasting):
        assert one.join().status_code == 201
    assert (trusted.worker.trust, boasting.worker.trust) == (Trust.SENSITIVE, Trust.NORMAL)

    only = boasting.worker
    assert choose([only], {only.pk: 2}, Wanted(frozenset({"claude_code"}), is_sensitive=True)) is None


def test_nobody_becomes_another_worker_by_its_name_or_id(machine: Machine) -> None:
    celery = WorkerFactory(name="own", machine_id="c" * 32, status=WorkerStatus.OFFLINE)
    for about in (
        {},
        {"machine_id": celery.machine_id, "machine_name": "x"},
        {"machine_id": "d" * 32, "machine_name": "own"},
    ):
        other = Machine(Scope.WORKERS_JOIN, **about)
        assert other.join().status_code == 409
        assert other.beat(machine.worker).status_code == 404
        assert other.leave(machine.worker).status_code == 403

    accounts.revoke_key(machine.key, by=machine.key.owner, now=timezone.now())
    assert Machine(Scope.WORKERS_JOIN).join().status_code == 201, "who replaces a key goes on with the machine"


@pytest.mark.parametrize("what", ["demoted", "switched off", "deleted", "revoked", "expired"])
def test_a_machine_is_out_when_its_keys_owner_is_no_admin_any_more(machine: Machine, what: str) -> None:
    worker, owner, now = machine.worker, machine.key.owner, timezone.now()
    run = RunFactory(status="running", worker=worker)
    by = person(AccountRole.ADMIN, "another")
    assert notice_shut_out(now=now) == 0
    match what:
        case "demoted":
            accounts.set_role(owner, AccountRole.OPERATOR, by=by, now=now)
        case "switched off":
            accounts.switch_off(owner, by=by, now=now)
        case "deleted":
            owner.delete()
        case "revoked":
            accounts.revoke_key(machine.key, by=by, now=now)
        case "expired":
            ApiKey.objects.update(expires_at=now)

    refused = 403 if what == "demoted" else 401
    files = machine.client.get(reverse("api_run_files", args=[run.pk]))
    assert {machine.beat(worker).status_code, files.status_code, machine.join().status_code} == {refused}
    assert refusals() == (["owner_is_no_admin"] if what == "demoted" else [])

    assert notice_shut_out(now=now) == 1, "at once, though it was heard a moment ago"
    run.refresh_from_db()
    worker.refresh_from_db()
    assert (worker.status, run.stop_requested) == (WorkerStatus.OFFLINE, "worker_gone")
    if what == "demoted":
        assert Machine(Scope.WORKERS_JOIN).join().status_code == 201, "another admin's key goes on with the machine"


def test_a_heartbeat_from_the_future_says_nothing(machine: Machine) -> None:
    before = machine.worker.heartbeat_at
    ahead = (timezone.now() + timedelta(hours=1)).isoformat()

    answers = [machine.beat(timestamp=ahead) for _ in range(3)]

    assert {answer.status_code for answer in answers} == {409}
    assert "clock" in answers[0].json()["error"]["message"]
    assert machine.worker.heartbeat_at == before
    assert refusals() == ["clock_ahead"], "recorded, and not a row for each"


def test_a_clock_that_is_behind_does_no_harm(machine: Machine) -> None:
    began = timezone.now()
    for behind in (timedelta(hours=1), timedelta(days=20_000)):
        assert machine.beat(timestamp=(began - behind).isoformat()).status_code == 200
    assert machine.worker.heartbeat_at >= began, "when it was heard, by our clock"
    assert (notice_silent(now=timezone.now()), refusals()) == (0, [])


@pytest.mark.parametrize(
    "wrong",
    [
        {"timestamp": "yesterday"},
        {"resources": READING | {"cpu_percent": -1}},
        {"resources": READING | {"cpu_percent": 1e999}},
        {"resources": READING | {"memory_mb": 0}},
        {"resources": []},
        {"running": ["../x"]},
        {"running": ["00000000-0000-0000-0000-000000000000"] * 1_001},
    ],
)
def test_a_heartbeat_of_nonsense_is_refused(machine: Machine, wrong: dict[str, Any]) -> None:
    assert machine.beat(**wrong).status_code == 400


def test_a_heartbeat_learns_which_runs_are_not_wanted_any_more(machine: Machine) -> None:
    mine = RunFactory(status="running", worker=machine.worker)
    over = RunFactory(status="succeeded", worker=machine.worker)
    others = RunFactory(status="running", worker=WorkerFactory())

    answer = machine.beat(running=[str(one.pk) for one in (mine, over, others)]).json()

    assert answer["unwanted"] == [str(over.pk), str(others.pk)]


def test_a_machine_that_stops_gets_nothing_new_and_gives_back_what_it_has(machine: Machine) -> None:
    run = RunFactory(status="running", worker=machine.worker)
    TaskFactory(project=ProjectFactory(status="building"), status="ready")

    machine.beat(status="stopping")
    machine.beat(status="stopping")

    run.refresh_from_db()
    assert (run.stop_requested, machine.worker.reason) == ("worker_stopping", "worker_stopping")
    assert dispatch(now=timezone.now()) == []
    assert AuditLog.objects.filter(action="worker.stopping").count() == 1
    machine.join()
    assert machine.worker.reason == ""


def test_the_runs_of_a_machine_that_fell_silent_are_asked_to_end(machine: Machine) -> None:
    run = RunFactory(status="running", worker=machine.worker)

    notice_silent(now=timezone.now() + timedelta(minutes=1))

    assert Run.objects.get(pk=run.pk).stop_requested == "worker_gone"
    machine.beat()
    assert machine.worker.status == WorkerStatus.ONLINE
