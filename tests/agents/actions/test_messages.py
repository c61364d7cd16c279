"""The message bus: who gets what, in which order, how often; and what it costs."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from importlib import import_module
from uuid import UUID

import pytest
from django.db import connection, connections, transaction
from django.db.models import F
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from agents import tasks
from agents.actions import leases, messages, runs, verbs
from agents.models import Agent, Message, MessageCounter, Run
from agents.states import MessageType
from projects.ids import new_id
from projects.models import AuditLog, Project
from projects.roles import Role
from projects.states import TaskStatus
from tests.factories import NOW, AgentFactory, MessageFactory, ProjectFactory, RunFactory, TaskFactory

pytestmark = pytest.mark.django_db


@pytest.fixture
def project() -> Project:
    made: Project = ProjectFactory(status="building")
    return made


def run_of(project: Project, role: Role = Role.DEVELOPER, agent: Agent | None = None) -> Run:
    task = TaskFactory(project=project, role=role, status="in_progress")
    options = {"agent": agent} if agent else {}
    made: Run = RunFactory(task=task, status="running", **options)
    return made


def say(project: Project, text: str, **options: object) -> Message:
    options.setdefault("sender", None)
    options.setdefault("key", str(new_id()))
    return messages.post(project.pk, MessageType.TASK_PROGRESS, {"body": text}, now=NOW, **options)  # type: ignore[arg-type]


def read(run: Run) -> list[str]:
    return [message.payload["body"] for message in messages.take(run, now=NOW)]


def test_broadcast_reaches_everybody_but_who_sent_it(project: Project) -> None:
    first, second, tester = run_of(project), run_of(project), run_of(project, Role.TESTER)
    verbs.send_message(first, "broadcast", "the database is up", now=NOW)

    assert [read(run) for run in (first, second, tester)] == [[], ["the database is up"], ["the database is up"]]
    assert [read(run) for run in (first, second, tester)] == [[], [], []]


def test_each_of_a_role_gets_what_is_for_the_role_and_nobody_what_is_for_others(project: Project) -> None:
    first, second, tester = run_of(project), run_of(project), run_of(project, Role.TESTER)
    stranger = run_of(ProjectFactory(status="building"))
    say(project, "to developers", to_role=Role.DEVELOPER)
    say(project, "to one", to_agent=second.agent)

    assert read(first) == ["to developers"]
    assert read(second) == ["to developers", "to one"]
    assert (read(tester), read(stranger)) == ([], [])


def test_messages_come_in_the_order_in_which_they_were_sent(project: Project) -> None:
    run = run_of(project)
    for number in range(messages.MAX_INBOX + 5):
        say(project, str(number), **({"to_agent": run.agent} if number % 3 else {}))
    assert read(run) == [str(number) for number in range(messages.MAX_INBOX)]
    assert read(run) == [str(number) for number in range(messages.MAX_INBOX, messages.MAX_INBOX + 5)]


def test_who_joins_late_reads_what_was_said_before(project: Project) -> None:
    say(project, "to developers", to_role=Role.DEVELOPER)
    assert read(run_of(project)) == ["to developers"]


def test_what_a_run_read_that_led_to_nothing_is_read_again_by_the_next(project: Project) -> None:
    run = run_of(project)
    say(project, "mind the umlauts")
    assert read(run) == ["mind the umlauts"]
    runs.fail(run, runs.Ending(runs.RunStatus.LOST, "lease_expired", ""), now=NOW)

    following = run_of(project, agent=run.agent)

    assert read(following) == ["mind the umlauts"]


def test_what_a_run_read_that_succeeded_is_not_read_again(project: Project) -> None:
    run = run_of(project)
    say(project, "mind the umlauts")
    read(run)
    Run.objects.filter(pk=run.pk).update(status="evaluating")
    type(run.task).objects.filter(pk=run.task_id).update(status=TaskStatus.REVIEW)
    run.refresh_from_db()
    run.task.refresh_from_db()
    runs.succeed(run, result={}, now=NOW)
    say(project, "and the dashes")

    assert read(run_of(project, agent=run.agent)) == ["and the dashes"]


def test_message_under_a_key_arrives_once_whoever_else_uses_the_key(project: Project) -> None:
    run, other = run_of(project), run_of(project)
    reader = run_of(project, Role.TESTER)
    for sender in (run, run, other):
        verbs.send_message(sender, "tester", f"by {sender.agent.name}", key="build-1", now=NOW)
    assert read(reader) == [f"by {run.agent.name}", f"by {other.agent.name}"]


def test_nothing_new_writes_nothing_and_costs_two_statements(project: Project) -> None:
    run = run_of(project)
    say(project, "hello")
    read(run)
    rows = AuditLog.objects.count()
    with CaptureQueriesContext(
        connection,
    ) as queries:
        assert read(run) == []
    assert len(queries) == 2
    assert AuditLog.objects.count() == rows


def test_the_beat_of_a_supervisor_hears_that_there_is_mail(project: Project) -> None:
    run = run_of(project)
    other = run_of(ProjectFactory(status="building"))
    Run.objects.update(lease_owner="here")

    def has_mail() -> list[bool]:
        heard = leases.renew_leases([run.pk, other.pk], owner="here", now=NOW)
        return [heard[one.pk].has_mail for one in (run, other)]

    assert has_mail() == [False, False]
    say(project, "hello")
    assert has_mail() == [True, False]
    read(run)
    assert has_mail() == [False, False]


def test_reading_looks_only_at_what_is_new(project: Project) -> None:
    """By the index of project and number, whatever the size of the table."""
    run = run_of(project)
    for number in range(30):
        MessageFactory(project=project, payload={"body": str(number)})
    read(run)
    say(project, "new")
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off")
        cursor.execute("SET LOCAL enable_bitmapscan = off")
        cursor.execute("SET LOCAL enable_sort = off")  # of the indexes on project, the one that has the order too
    plan = Message.objects.filter(project=project, seq__gt=30, seq__lte=31).order_by("seq").explain()
    assert "message_seq_once" in plan
    assert "Sort" not in plan
    assert read(run) == ["new"]


def test_old_messages_are_forgotten(project: Project) -> None:
    now = timezone.now()
    old = UUID(int=(int((now - messages.KEPT - timedelta(days=1)).timestamp() * 1000) << 80) + 7)
    MessageFactory(project=project, id=old)
    kept = MessageFactory(project=project)
    tasks.forget_messages()
    assert Message.objects.get() == kept


@pytest.mark.django_db(transaction=True)
def test_many_senders_at_once_lose_no_message_of_any_reader() -> None:
    """A reader that reads all the while gets each message once, in the order of the numbers."""
    project = ProjectFactory(status="building")
    run = run_of(project)
    senders, each = 4, 10

    def send(name: int) -> None:
        try:
            for number in range(each):
                with transaction.atomic():
                    say(project, f"{name}.{number}")
        finally:
            connections.close_all()

    got: list[Message] = []
    with ThreadPoolExecutor(senders) as pool:
        sending = [pool.submit(send, name) for name in range(senders)]
        is_over: Callable[[], bool] = lambda: all(one.done() for one in sending)  # noqa: E731
        while not is_over():
            got += messages.take(run, now=NOW)
        for one in sending:
            one.result()
    while found := messages.take(run, now=NOW):
        got += found

    assert [message.seq for message in got] == sorted({message.seq for message in got})
    assert len(got) == senders * each
    for name in range(senders):
        mine = [message.payload["body"] for message in got if message.payload["body"].startswith(f"{name}.")]
        assert mine == [f"{name}.{number}" for number in range(each)]


def test_migration_numbers_what_is_there_and_loses_nothing_unread(project: Project) -> None:
    agent = AgentFactory(project=project)
    rows = [MessageFactory(project=project, read_at=read_at) for read_at in (NOW, NOW, None, NOW)]
    other = MessageFactory(read_at=NOW)
    reader = AgentFactory(project=other.project)
    Message.objects.update(seq=F("seq") + 100)
    MessageCounter.objects.all().delete()
    migration = import_module("agents.migrations.0014_messages_in_order")

    with connection.cursor() as cursor:
        cursor.execute(migration.FILL)

    assert list(Message.objects.filter(project=project).order_by("id").values_list("id", "seq")) == [
        (row.pk, number) for number, row in enumerate(rows, 1)
    ]
    assert dict(MessageCounter.objects.values_list("project", "last_seq")) == {project.pk: 4, other.project_id: 1}
    agent.refresh_from_db()
    reader.refresh_from_db()
    assert (agent.inbox_seq, reader.inbox_seq) == (2, 1)
