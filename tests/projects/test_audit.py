"""The audit journal: one transaction, one append, chains that hold."""

import hashlib
import json
import threading
from contextlib import suppress
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pgtrigger
import pytest
from django.db import connection, transaction
from django.db.transaction import TransactionManagementError
from django.test.utils import CaptureQueriesContext
from hypothesis import HealthCheck, given, settings
from pytest_django import DjangoCaptureOnCommitCallbacks

from projects import audit
from projects.actions import projects
from projects.actors import Actor
from projects.events import NOTIFICATION, Event, Published
from projects.ids import new_id
from projects.models import AuditChain, AuditLog, Project
from tests.factories import NOW, TESTER, AgentFactory, AuditLogFactory, ProjectFactory, UserFactory
from tests.projects.conftest import Together
from tests.projects.test_jsontext import EVIL_JSON, EVIL_TEXT

pytestmark = pytest.mark.django_db


def rows(chain: str = "account") -> list[AuditLog]:
    return list(AuditLog.objects.filter(chain=chain).order_by("seq"))


def verify(chain: str = "account") -> audit.Break | None:
    return audit.verify(rows(chain), AuditChain.objects.get(key=chain))


def write(*actions: str, **fields: Any) -> None:
    with audit.journal(by=TESTER, now=NOW) as journal:
        for action in actions:
            journal.add(action, **fields)


class Oops(Exception):
    """Undoes a transaction."""


def fail(*_: object) -> None:
    raise Oops


def test_row_says_who_did_what_when_to_which() -> None:
    user, project = UserFactory(), ProjectFactory()
    with audit.journal(by=Actor.person(user), now=NOW) as journal:
        journal.add("project.noted", project_id=project.pk, obj=project, details={"why": "tests"})
    row = AuditLog.objects.get()
    assert (row.actor_kind, row.actor_id, row.actor_name) == ("person", str(user.pk), user.username)
    assert (row.action, row.object_type, row.object_id) == ("project.noted", "project", str(project.pk))
    assert (row.timestamp, row.details, row.event_type, row.event_payload) == (NOW, {"why": "tests"}, "", None)


def test_row_of_an_agent_names_it() -> None:
    agent = AgentFactory()
    with audit.journal(by=Actor.agent(agent.pk, agent.name), now=NOW) as journal:
        journal.add("task.noted")
    assert AuditLog.objects.get().agent_id == agent.pk


def test_chain_is_the_projects_or_the_accounts() -> None:
    project = ProjectFactory()
    write("a.b", "c.d", project_id=project.pk)
    write("e.f")
    assert [(row.seq, row.action) for row in rows(str(project.pk))] == [(1, "a.b"), (2, "c.d")]
    assert [(row.seq, row.action) for row in rows()] == [(1, "e.f")]


def test_hash_is_that_of_the_documented_text() -> None:
    write("a.b", details={"ü": Decimal("1.50")})
    row = rows()[0]
    content = {
        "chain": "account", "seq": 1, "timestamp": "2026-03-01T12:00:00.000000+00:00", "project_id": None,
        "agent_id": None, "actor_kind": "system", "actor_id": "", "actor_name": "tests", "action": "a.b",
        "object_type": "", "object_id": "", "details": {"ü": "1.50"}, "event_type": "", "event_payload": None,
        "prev_hash": "",
    }  # fmt: skip
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert row.hash == hashlib.sha256(text.encode()).hexdigest()


def test_row_follows_the_one_before_it() -> None:
    write("a.b")
    write("c.d", "e.f")
    first, second, third = rows()
    assert (first.prev_hash, second.prev_hash, third.prev_hash) == ("", first.hash, second.hash)
    head = AuditChain.objects.get()
    assert (head.last_seq, head.last_hash) == (3, third.hash)


def test_journal_without_rows_touches_nothing() -> None:
    write()
    assert not AuditChain.objects.exists()


def test_rows_of_an_inner_journal_keep_their_own_doer_and_order() -> None:
    with audit.journal(by=TESTER, now=NOW) as outer:
        outer.add("a.b")
        with audit.journal(by=Actor.system("inner"), now=NOW + timedelta(hours=1)) as inner:
            inner.add("c.d")
        outer.add("e.f")
    assert [(row.action, row.actor_name, row.timestamp.hour) for row in rows()] == [
        ("a.b", "tests", 12),
        ("c.d", "inner", 13),
        ("e.f", "tests", 12),
    ]


def test_inner_journal_that_fails_takes_its_rows_along() -> None:
    with audit.journal(by=TESTER, now=NOW) as outer:
        outer.add("a.b")
        with suppress(Oops), audit.journal(by=TESTER, now=NOW) as inner:
            inner.add("c.d")
            ProjectFactory()
            fail()
        outer.add("e.f")
    assert [row.action for row in rows()] == ["a.b", "e.f"]
    assert not Project.objects.exists()


def test_whole_journal_stands_or_falls_with_what_is_inside() -> None:
    with CaptureQueriesContext(connection) as captured, audit.journal(by=TESTER, now=NOW, is_whole=True):
        write("a.b")
    assert [query["sql"].split()[0] for query in captured.captured_queries].count("SAVEPOINT") == 1  # this test's own

    def go_on() -> None:
        with (
            audit.journal(by=TESTER, now=NOW, is_whole=True),
            suppress(Oops),
            audit.journal(by=TESTER, now=NOW) as inner,
        ):
            inner.add("c.d")
            fail()

    with pytest.raises(TransactionManagementError, match="went on"):
        go_on()
    assert [row.action for row in rows()] == ["a.b"]


def test_outer_journal_that_fails_takes_all_along() -> None:
    with suppress(Oops), audit.journal(by=TESTER, now=NOW):
        write("a.b")
        fail()
    assert not AuditLog.objects.exists()
    write("c.d")
    assert [row.action for row in rows()] == ["c.d"], "the next journal starts anew"


def test_committed_rows_are_published_once_in_order(
    published: list[Published], django_capture_on_commit_callbacks: DjangoCaptureOnCommitCallbacks
) -> None:
    project = ProjectFactory()
    with django_capture_on_commit_callbacks(execute=True) as callbacks, audit.journal(by=TESTER, now=NOW) as outer:
        outer.add("a.b", project_id=project.pk)
        write("c.d", event=Event(NOTIFICATION, {"title": "Hello"}))
    assert len(callbacks) == 1
    assert [(row.action, row.project_id, row.event_type) for row in published] == [
        ("a.b", project.pk, ""),
        ("c.d", None, "notification"),
    ]
    assert {row.id for row in published} == {row.pk for row in AuditLog.objects.all()}


@pytest.mark.django_db(transaction=True)
def test_nothing_is_published_before_the_commit_or_after_a_rollback(published: list[Published]) -> None:
    with suppress(Oops), transaction.atomic():
        write("a.b")
        assert published == []
        fail()
    assert published == []
    write("c.d")
    assert [row.action for row in published] == ["c.d"]


def test_failing_subscriber_stops_neither_the_others_nor_the_change(
    published: list[Published],
    monkeypatch: pytest.MonkeyPatch,
    django_capture_on_commit_callbacks: DjangoCaptureOnCommitCallbacks,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr("projects.events._subscribers", [fail, published.extend])
    with django_capture_on_commit_callbacks(execute=True):
        write("a.b")
    assert len(published) == AuditLog.objects.count() == 1
    assert "event subscriber failed" in caplog.text


def test_unknown_event_is_a_mistake_of_ours() -> None:
    with pytest.raises(AssertionError):
        write("a.b", event=Event("project:exploded", {}))


@pytest.mark.parametrize(
    "details",
    [
        {"id": new_id(), "at": NOW, "cost": Decimal("0.10"), "nothing": None},
        {"big": 1e22, "bigger": 10**400, "zero": -0.0, "small": 1e-9, "none": float("nan"), "sum": 0.1 + 0.2},
        {"\x00": "\ud800", "text": "x" * 10_000, "🦉": "\u202eabc"},
        {"deep": [[[{"a": [1, 2.0, True]}]]]},
    ],
)
def test_any_details_verify_as_they_come_back(details: dict[str, Any]) -> None:
    write("a.b", details=details)
    assert verify() is None


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(value=EVIL_JSON, text=EVIL_TEXT)
def test_whatever_agents_write_verifies(value: Any, text: str) -> None:
    write("a.b", details={"value": value, text: text}, event=Event(NOTIFICATION, {"value": value}))
    assert verify() is None


def test_long_details_are_cut() -> None:
    write("a.b", details={"text": "x" * 10_000})
    assert len(rows()[0].details["text"]) == audit.MAX_DETAIL_CHARS


def test_time_of_any_zone_verifies() -> None:
    at = datetime(2026, 3, 1, 23, 59, 59, 999999, tzinfo=timezone(timedelta(hours=5, minutes=30)))
    with audit.journal(by=TESTER, now=at) as journal:
        journal.add("a.b")
    assert rows()[0].timestamp == at.astimezone(UTC)
    assert verify() is None


def test_record_survives_the_deletion_of_its_project() -> None:
    project = projects.create_project(projects.NewProject("We lend tools."), by=TESTER, now=NOW)
    chain = str(project.pk)
    count = len(rows(chain))
    project.delete()
    assert len(rows(chain)) == count > 0
    assert verify(chain) is None


TAMPERINGS = {
    "details": ("UPDATE projects_auditlog SET details = '{\"a\": 1}' WHERE seq = 3", 3, "was changed"),
    "time": ("UPDATE projects_auditlog SET timestamp = timestamp + interval '1 us' WHERE seq = 3", 3, "was changed"),
    "actor": ("UPDATE projects_auditlog SET actor_name = 'nobody' WHERE seq = 3", 3, "was changed"),
    "event": ("UPDATE projects_auditlog SET event_type = '', event_payload = NULL WHERE seq = 3", 3, "was changed"),
    "hash": ("UPDATE projects_auditlog SET hash = repeat('0', 64) WHERE seq = 3", 3, "was changed"),
    "link": ("UPDATE projects_auditlog SET prev_hash = repeat('0', 64) WHERE seq = 3", 3, "does not follow"),
    "first": ("DELETE FROM projects_auditlog WHERE seq = 1", 1, "is missing"),
    "middle": ("DELETE FROM projects_auditlog WHERE seq = 3", 3, "is missing"),
    "newest": ("DELETE FROM projects_auditlog WHERE seq = 5", 5, "newest rows are missing"),
    "all": ("DELETE FROM projects_auditlog", 1, "newest rows are missing"),
    "head": ("UPDATE projects_auditchain SET last_hash = repeat('0', 64)", 6, "newest rows are missing"),
    "swapped": (
        "UPDATE projects_auditlog SET seq = seq + 10 WHERE seq IN (2, 3); "
        "UPDATE projects_auditlog SET seq = 15 - seq WHERE seq > 10",
        2,
        "does not follow",
    ),
}


@pytest.mark.parametrize("name", TAMPERINGS)
def test_tampering_is_found(name: str) -> None:
    sql, seq, problem = TAMPERINGS[name]
    write(*["a.b"] * 5, event=Event(NOTIFICATION, {}))
    assert verify() is None
    with pgtrigger.ignore(), connection.cursor() as cursor:
        cursor.execute(sql)
    found = verify()
    assert found is not None
    assert (found.chain, found.seq) == ("account", seq)
    assert problem in found.problem


def test_row_rewritten_with_a_fitting_hash_breaks_the_next() -> None:
    write(*["a.b"] * 5)
    row = rows()[2]
    row.actor_name = "nobody"
    row.hash = audit.digest(row)
    with pgtrigger.ignore():
        row.save()
    found = verify()
    assert found is not None
    assert (found.seq, found.problem) == (4, "does not follow the row before it")


def test_row_moved_to_another_chain_is_found() -> None:
    write("a.b")
    project = ProjectFactory()
    write("a.b", project_id=project.pk)
    with pgtrigger.ignore(), connection.cursor() as cursor:
        cursor.execute("UPDATE projects_auditlog SET seq = 2, chain = 'account' WHERE project_id IS NOT NULL")
    assert verify() is not None
    assert verify(str(project.pk)) is not None


@pytest.mark.django_db(transaction=True)
def test_journals_at_once_neither_fork_nor_wait_for_each_other(together: Together) -> None:
    made = [ProjectFactory() for _ in range(2)]
    start = threading.Barrier(4, timeout=20)

    def record(turn: int) -> None:
        start.wait()
        for number in range(10):
            # Each writes to all chains, in an order of its own.
            order = [None, *(project.pk for project in made)][:: 1 if turn % 2 else -1]
            with audit.journal(by=TESTER, now=NOW) as journal:
                for project_id in order:
                    journal.add(f"turn{turn}.{number}", project_id=project_id)

    for future in together(*[lambda turn=turn: record(turn) for turn in range(4)]):
        future.result()
    for chain in ("account", *(str(project.pk) for project in made)):
        assert len(rows(chain)) == 40
        assert verify(chain) is None


@pytest.mark.django_db(transaction=True)
def test_first_rows_of_a_chain_at_once_make_one_chain(together: Together) -> None:
    project_id = new_id()
    start = threading.Barrier(4, timeout=20)

    def record() -> None:
        start.wait()
        write("a.b", project_id=project_id)

    for future in together(*[record] * 4):
        future.result()
    assert [row.seq for row in rows(str(project_id))] == [1, 2, 3, 4]
    assert verify(str(project_id)) is None


def test_factory_appends_to_the_chain() -> None:
    AuditLogFactory()
    AuditLogFactory()
    assert verify() is None
