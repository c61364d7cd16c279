"""Taking machines out of use: from their page and by the API. Who may, the walk through all addresses tests."""

from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from accounts.scopes import Scope
from agents.models import Worker
from agents.states import WorkerStatus
from tests.accounts.making import bearer, key_of
from tests.factories import NOW, ProjectFactory, RunFactory, TaskFactory, UserFactory, WorkerFactory

pytestmark = pytest.mark.django_db


@pytest.fixture
def admin() -> User:
    user: User = UserFactory(is_superuser=True)
    return user


def program(admin: User, *scopes: str, **limits: Any) -> Client:
    return Client(headers=bearer(key_of(admin, *scopes, now=timezone.now(), **limits)[1]))


def test_a_program_sees_machines_and_takes_them_out_of_use(admin: User) -> None:
    worker = WorkerFactory(load={"cpu_percent": 3}, tools=["git"])
    run = RunFactory(status="running", worker=worker)
    client = program(admin, Scope.WORKERS_READ, Scope.WORKERS_WRITE)

    (listed,) = client.get(reverse("api_workers")).json()["results"]
    assert (listed["running"], listed["tools"], listed["load"]) == (1, ["git"], {"cpu_percent": 3})

    drained = client.post(reverse("api_worker_drain", args=[worker.pk])).json()
    assert (drained["status"], drained["cordoned_at"] is None) == ("draining", False)
    run.refresh_from_db()
    assert run.stop_requested == "worker_draining"

    back = client.post(reverse("api_worker_uncordon", args=[worker.pk])).json()
    assert (back["status"], back["cordoned_at"]) == ("online", None)
    assert client.post(reverse("api_worker_cordon", args=[worker.pk])).json()["cordoned_at"]

    refused = client.delete(reverse("api_worker", args=[worker.pk]))
    assert (refused.status_code, Worker.objects.count()) == (409, 1)
    assert "still answers" in refused.json()["error"]["message"]
    Worker.objects.update(status=WorkerStatus.OFFLINE)
    assert client.delete(reverse("api_worker", args=[worker.pk])).status_code == 204
    assert client.get(reverse("api_worker", args=[worker.pk])).status_code == 404


def test_a_key_of_one_project_sees_no_machines(admin: User) -> None:
    WorkerFactory()
    client = program(admin, Scope.WORKERS_READ, project_id=ProjectFactory().pk)

    assert client.get(reverse("api_workers")).status_code == 403


def test_the_page_says_when_sensitive_projects_wait_for_a_trusted_machine(client: Client, admin: User) -> None:
    WorkerFactory(trust="normal")
    TaskFactory(project=ProjectFactory(status="building"))
    client.force_login(admin)
    assert "No trusted worker" not in client.get(reverse("workers")).content.decode()

    TaskFactory(project=ProjectFactory(status="building", config={"privacy": "sensitive"}))
    assert "1 task of sensitive projects waits" in client.get(reverse("workers")).content.decode()

    WorkerFactory(trust="sensitive")
    assert "No trusted worker" not in client.get(reverse("workers")).content.decode()


def test_the_page_shows_why_a_machine_takes_nothing_and_has_the_way_out(client: Client, admin: User) -> None:
    short = WorkerFactory(reason="disk_short", load={"disk_free_mb": 2048, "cpu_percent": 12.5})
    WorkerFactory(cordoned_at=NOW, trust="normal")
    WorkerFactory(status="offline")
    client.force_login(admin)

    page = client.get(reverse("workers")).content.decode()
    for said in ("Its disk is nearly full", "2 GB disk free", "12 % of CPU", "Cordoned", "Uncordon", "Forget", "Drain"):
        assert said in page

    client.post(reverse("worker_drain", args=[short.pk]))
    short.refresh_from_db()
    assert short.status == WorkerStatus.DRAINING
