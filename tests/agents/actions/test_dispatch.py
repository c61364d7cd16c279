import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from django.conf import LazySettings
from django.db import connection, transaction
from django.test import TestCase
from django.test.utils import CaptureQueriesContext
from pytest_django import DjangoCaptureOnCommitCallbacks

from agents.actions import runs
from agents.actions.dispatch import Dispatched, Host, dispatch
from agents.actions.leases import Held
from agents.actions.runs import Ending
from agents.models import Agent, Run
from agents.states import AgentStatus, RunStatus, WorkerStatus
from agents.tokens import hash_token
from billing.models import Budget
from projects import events, queries
from projects.events import Published
from projects.models import Project, Squad, Task
from projects.roles import Role
from projects.states import TaskStatus
from tests.agents.supervisor.line import wait_until
from tests.factories import NOW, ProjectFactory, TaskFactory, WorkerFactory

pytestmark = pytest.mark.django_db


@pytest.fixture
def project() -> Project:
    return ProjectFactory(status="building")


def test_dispatch_makes_a_run_for_a_ready_task(project: Project) -> None:
    worker = WorkerFactory()
    task = TaskFactory(project=project)

    (made,) = dispatch(now=NOW)

    run = Run.objects.get(pk=made.run_id)
    task.refresh_from_db()
    assert (run.task, run.status, run.worker, made.queue) == (task, RunStatus.QUEUED, worker, worker.queue)
    assert (task.status, task.agent_id) == (TaskStatus.ALLOCATED, run.agent_id)
    assert run.agent.status == AgentStatus.WORKING
    assert Budget.objects.filter(scope="run", scope_id=run.pk).exists()


def test_news_is_published_though_no_message_can_be_sent(
    project: Project, django_capture_on_commit_callbacks: DjangoCaptureOnCommitCallbacks, caplog: Any
) -> None:
    WorkerFactory()
    TaskFactory(project=project)
    published: list[Published] = []

    def fail(made: list[Dispatched]) -> None:
        raise ConnectionError("the broker is away")

    with pytest.MonkeyPatch.context() as patch, django_capture_on_commit_callbacks(execute=True):
        patch.setattr(events, "_subscribers", [published.extend])
        dispatch(now=NOW, send=fail)

    assert "run.queued" in {row.action for row in published}
    assert "the broker is away" in caplog.text


def test_dispatch_begins_one_run_of_its_own_worker_and_sends_the_others(
    project: Project, django_capture_on_commit_callbacks: DjangoCaptureOnCommitCallbacks
) -> None:
    worker = WorkerFactory(name="here", capacity=9)
    TaskFactory.create_batch(3, project=project, role=Role.DEVELOPER)
    sent: list[Dispatched] = []
    begun: list[tuple[Held, bool]] = []

    def begin(held: Held) -> None:
        begun.append((held, Run.objects.filter(pk=held.run.pk).exists()))

    with django_capture_on_commit_callbacks(execute=True):
        made = dispatch(now=NOW, send=sent.extend, host=Host("here", "here:1", begin))

    [(held, was_there)] = begun
    assert was_there, "its program shows its token within a second"
    first, other = made
    assert sent == [other]
    assert (first.run_id, first.is_begun, other.is_begun) == (held.run.pk, True, False)
    run = Run.objects.get(pk=first.run_id)
    assert (run.status, run.lease_owner, run.worker) == (RunStatus.QUEUED, "here:1", worker)
    assert run.lease_until is not None
    assert run.lease_until > NOW
    assert run.token_hash == hash_token(held.token)
    assert held.token not in repr(held)
    assert Run.objects.get(pk=other.run_id).lease_owner == ""


def test_dispatch_begins_nothing_that_another_worker_should_take(project: Project) -> None:
    WorkerFactory(name="elsewhere")
    TaskFactory(project=project)

    (made,) = dispatch(now=NOW, host=Host("here", "here:1", pytest.fail))

    assert not made.is_begun


def test_dispatch_without_a_worker_leaves_the_task_ready(project: Project) -> None:
    task = TaskFactory(project=project)

    assert dispatch(now=NOW) == []

    task.refresh_from_db()
    assert task.status == TaskStatus.READY


@pytest.mark.parametrize("status", [WorkerStatus.OFFLINE, WorkerStatus.DRAINING, WorkerStatus.ERROR])
def test_dispatch_gives_nothing_to_a_worker_that_takes_nothing(project: Project, status: WorkerStatus) -> None:
    WorkerFactory(status=status)
    TaskFactory(project=project)

    assert dispatch(now=NOW) == []


def test_dispatch_leaves_a_task_whose_time_has_not_come(project: Project) -> None:
    WorkerFactory()
    TaskFactory(project=project, next_attempt_at=NOW + timedelta(seconds=1))

    assert dispatch(now=NOW) == []
    assert len(dispatch(now=NOW + timedelta(seconds=1))) == 1


def test_dispatch_leaves_the_tasks_of_a_paused_project() -> None:
    WorkerFactory()
    TaskFactory(project=ProjectFactory(status="paused", paused_from="building"))

    assert dispatch(now=NOW) == []


def test_dispatch_gives_a_role_no_more_runs_than_it_has_agents(project: Project) -> None:
    WorkerFactory(capacity=10)
    TaskFactory.create_batch(4, project=project, role=Role.DEVELOPER)

    assert len(dispatch(now=NOW)) == 2  # the default squad has two developers


def test_dispatch_keeps_to_the_squads_limit(project: Project) -> None:
    WorkerFactory(capacity=10)
    Squad.objects.filter(project=project).update(max_concurrent_runs=1)
    TaskFactory(project=project, role=Role.DEVELOPER)
    TaskFactory(project=project, role=Role.TESTER)

    assert len(dispatch(now=NOW)) == 1
    assert dispatch(now=NOW) == []


def test_dispatch_keeps_to_the_workers_capacity(project: Project) -> None:
    WorkerFactory(capacity=1)
    TaskFactory(project=project, role=Role.DEVELOPER)
    TaskFactory(project=project, role=Role.TESTER)

    assert len(dispatch(now=NOW)) == 1


def test_dispatch_gives_a_worker_no_more_than_its_disk_holds_beside_what_is_promised() -> None:
    """A run takes 2 GB and the check at its end 2 more; what was given after the reading is in none yet."""
    small = WorkerFactory(name="small", capacity=8, load={"disk_free_mb": 12_000, "disk_promised_mb": 2_500})
    for _ in range(4):
        TaskFactory(project=ProjectFactory(status="building"), role=Role.DEVELOPER)

    assert len(dispatch(now=NOW)) == 2  # 12,000 - 2,500 - 1,024 in reserve
    assert dispatch(now=NOW) == []

    Run.objects.update(started_at=NOW)
    small.load = {"disk_free_mb": 12_000, "disk_promised_mb": 6_500}  # now it shows
    small.heartbeat_at = NOW + timedelta(minutes=1)
    small.save()
    assert dispatch(now=NOW) == []

    small.load = {"disk_free_mb": 14_500, "disk_promised_mb": 5_000}  # 1,024 in reserve and 4,096 for two checks
    small.save()
    assert len(dispatch(now=NOW)) == 1


def test_what_one_disk_does_not_hold_another_machine_takes() -> None:
    WorkerFactory(name="full", capacity=8, load={"disk_free_mb": 90_000, "disk_promised_mb": 89_000})
    local = WorkerFactory(name="local", capacity=8, load={"disk_free_mb": 9_000})
    TaskFactory(project=ProjectFactory(status="building"), role=Role.DEVELOPER)

    dispatch(now=NOW)

    assert Run.objects.get().worker == local


def test_dispatch_keeps_to_the_accounts_limit(project: Project, settings: object) -> None:
    settings.EKLAVYA_MAX_CONCURRENT_RUNS = 1  # type: ignore[attr-defined]
    WorkerFactory(capacity=10)
    TaskFactory(project=project, role=Role.DEVELOPER)
    TaskFactory(project=ProjectFactory(status="building"), role=Role.DEVELOPER)

    assert len(dispatch(now=NOW)) == 1


def test_dispatch_keeps_to_the_limit_of_a_tool(settings: object) -> None:
    settings.EKLAVYA_TOOL_LIMITS = {"browser": 1}  # type: ignore[attr-defined]
    WorkerFactory(capacity=10)
    made = [TaskFactory(project=ProjectFactory(status="building"), role=Role.UAT) for _ in range(3)]
    other = TaskFactory(project=made[2].project, role=Role.PM)

    dispatch(now=NOW)

    allocated = Task.objects.filter(status=TaskStatus.ALLOCATED)
    assert [task.role for task in allocated.exclude(pk=other.pk)] == [Role.UAT]
    assert other in allocated
    assert dispatch(now=NOW) == []
    runs.fail(Run.objects.get(task__role=Role.UAT), Ending(RunStatus.FAILED, "x", "x", {}), now=NOW)
    assert len(dispatch(now=NOW)) == 1


def test_what_waits_for_a_tool_keeps_nobody_else_waiting(settings: object) -> None:
    settings.EKLAVYA_TOOL_LIMITS = {"browser": 1}  # type: ignore[attr-defined]
    WorkerFactory(capacity=2)
    for _ in range(40):  # more than are looked at for two places
        TaskFactory(project=ProjectFactory(status="building"), role=Role.UAT, priority=100)
    dispatch(now=NOW)
    late = TaskFactory(project=ProjectFactory(status="building"), role=Role.PM)

    dispatch(now=NOW)

    late.refresh_from_db()
    assert late.status == TaskStatus.ALLOCATED


def test_dispatch_keeps_to_the_limit_of_a_role_over_all_projects(settings: LazySettings) -> None:
    settings.EKLAVYA_ROLE_LIMITS = {"developer": 3}
    WorkerFactory(capacity=20)
    for _ in range(3):
        TaskFactory.create_batch(2, project=ProjectFactory(status="building"), role=Role.DEVELOPER)
    for _ in range(40):  # more than are looked at for the places that are left
        TaskFactory(project=ProjectFactory(status="building"), role=Role.DEVELOPER, priority=100)
    tester = TaskFactory(project=ProjectFactory(status="building"), role=Role.TESTER)

    dispatch(now=NOW)

    allocated = Task.objects.filter(status=TaskStatus.ALLOCATED)
    assert allocated.filter(role=Role.DEVELOPER).count() == 3
    assert dispatch(now=NOW) == []
    tester.refresh_from_db()
    assert tester.status == TaskStatus.ALLOCATED, "what waits for a role keeps nobody else waiting"
    runs.fail(Run.objects.filter(task__role=Role.DEVELOPER)[0], Ending(RunStatus.FAILED, "x", "x", {}), now=NOW)
    assert len(dispatch(now=NOW)) == 1


def test_a_limit_that_became_lower_than_what_is_at_work_ends_nothing(project: Project, settings: LazySettings) -> None:
    WorkerFactory(capacity=9)
    TaskFactory.create_batch(3, project=project, role=Role.DEVELOPER)
    assert len(dispatch(now=NOW)) == 2
    settings.EKLAVYA_ROLE_LIMITS = {"developer": 1}

    runs.fail(Run.objects.all()[0], Ending(RunStatus.FAILED, "x", "x", {}), now=NOW)

    assert dispatch(now=NOW) == []
    assert Run.objects.filter(status=RunStatus.QUEUED).count() == 1


def test_dispatch_is_fair_between_projects(project: Project) -> None:
    WorkerFactory(capacity=2)
    other = ProjectFactory(status="building")
    TaskFactory.create_batch(3, project=project, priority=50)
    late = TaskFactory(project=other, priority=0)

    dispatch(now=NOW)

    assert Task.objects.filter(status=TaskStatus.ALLOCATED, project=project).count() == 1
    late.refresh_from_db()
    assert late.status == TaskStatus.ALLOCATED


def test_dispatch_takes_the_higher_priority_first(project: Project) -> None:
    WorkerFactory(capacity=1)
    TaskFactory(project=project, priority=0)
    urgent = TaskFactory(project=project, priority=5)

    dispatch(now=NOW)

    urgent.refresh_from_db()
    assert urgent.status == TaskStatus.ALLOCATED


def test_dispatch_returns_a_task_to_the_agent_that_asked(project: Project) -> None:
    WorkerFactory(capacity=2)
    first = TaskFactory(project=project)
    dispatch(now=NOW)
    (run,) = Run.objects.all()
    second = Agent.objects.get(project=project, agent_type=Role.DEVELOPER, status=AgentStatus.READY)
    task = TaskFactory(project=project, context={"agent": str(second.pk)})

    dispatch(now=NOW)

    task.refresh_from_db()
    assert run.task == first
    assert task.agent_id == second.pk


def test_dispatch_takes_a_constant_number_of_looks(project: Project, django_assert_max_num_queries: object) -> None:
    WorkerFactory(capacity=1)
    TaskFactory.create_batch(100, project=project)
    dispatch(now=NOW)  # calls the squad in

    with django_assert_max_num_queries(12):  # type: ignore[operator]
        assert dispatch(now=NOW) == []


def test_dispatch_takes_as_many_statements_for_many_as_for_few(settings: LazySettings) -> None:
    settings.EKLAVYA_MAX_CONCURRENT_RUNS = 1000
    WorkerFactory(capacity=1000)

    def ready(count: int) -> None:
        for project in ProjectFactory.create_batch(count, status="building"):
            TaskFactory.create_batch(2, project=project, role=Role.DEVELOPER)

    settings.EKLAVYA_ROLE_LIMITS = {"developer": 1000}

    def statements(count: int) -> int:
        ready(count)
        with CaptureQueriesContext(connection) as found:
            assert len(dispatch(now=NOW)) == 2 * count
        return len(found)

    assert statements(20) == statements(2)


def test_more_than_are_given_out_at_once_are_given_out_one_after_the_other(
    settings: LazySettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.EKLAVYA_MAX_CONCURRENT_RUNS = 1000
    monkeypatch.setattr("agents.actions.dispatch.AT_ONCE", 8)
    WorkerFactory(capacity=1000)
    for project in ProjectFactory.create_batch(10, status="building"):
        TaskFactory.create_batch(2, project=project, role=Role.DEVELOPER)
    sizes: list[int] = []

    with TestCase.captureOnCommitCallbacks(execute=True):
        made = dispatch(now=NOW, send=lambda some: sizes.append(len(some)))

    assert len(made) == Run.objects.count() == 20
    assert sizes == [8, 8, 4]


@pytest.mark.django_db(transaction=True)
def test_what_another_has_just_now_is_left_and_the_others_are_given_out() -> None:
    WorkerFactory(capacity=1)
    project = ProjectFactory(status="building")
    busy = TaskFactory(project=project, priority=100)
    other = TaskFactory(project=project)

    def lock_and_dispatch() -> list[Dispatched]:
        with transaction.atomic(), ThreadPoolExecutor(1) as elsewhere:
            Task.objects.select_for_update().get(pk=busy.pk)
            return elsewhere.submit(work).result(30)

    def work() -> list[Dispatched]:
        try:
            return dispatch(now=NOW)
        finally:
            connection.close()

    (made,) = lock_and_dispatch()

    assert Run.objects.get(pk=made.run_id).task == other
    busy.refresh_from_db()
    assert busy.status == TaskStatus.READY


@pytest.mark.parametrize("changed", [{"role": Role.TESTER}, {"specialisation": "frontend"}])
def test_a_task_that_changes_while_it_is_given_out_is_left(
    project: Project, monkeypatch: pytest.MonkeyPatch, changed: dict[str, str]
) -> None:
    WorkerFactory()
    task = TaskFactory(project=project, role=Role.DEVELOPER)
    find = queries.dispatchable

    def find_and_change(**given: Any) -> list[queries.Candidate]:
        found = find(**given)
        Task.objects.filter(pk=task.pk).update(**changed)
        return found

    with monkeypatch.context() as patch:
        patch.setattr(queries, "dispatchable", find_and_change)
        assert dispatch(now=NOW) == []

    (made,) = dispatch(now=NOW)
    run = Run.objects.select_related("agent", "task").get(pk=made.run_id)
    assert run.agent.agent_type == run.task.role


def test_a_project_that_becomes_sensitive_meanwhile_goes_nowhere_else(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    WorkerFactory()
    TaskFactory(project=project)
    find = queries.dispatchable

    def find_and_change(**given: Any) -> list[queries.Candidate]:
        found = find(**given)
        Project.objects.filter(pk=project.pk).update(config={"privacy": "sensitive"})
        return found

    monkeypatch.setattr(queries, "dispatchable", find_and_change)

    assert dispatch(now=NOW) == []
    assert not Run.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_two_dispatchers_at_once_make_one_run_per_task() -> None:
    WorkerFactory(capacity=3)
    TaskFactory.create_batch(6, project=ProjectFactory(status="building"))
    TaskFactory.create_batch(6, project=ProjectFactory(status="building"))

    def work() -> None:
        try:
            dispatch(now=NOW)
        finally:
            connection.close()

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert Run.objects.count() == 3
    assert Task.objects.filter(status=TaskStatus.ALLOCATED).count() == 3


@pytest.mark.django_db(transaction=True)
def test_a_second_dispatcher_counts_what_the_first_has_not_committed_yet(settings: LazySettings) -> None:
    settings.EKLAVYA_ROLE_LIMITS = {"developer": 1}
    WorkerFactory(capacity=20)
    TaskFactory(project=ProjectFactory(status="building"), role=Role.DEVELOPER)

    def work() -> list[Dispatched]:
        try:
            # The first has not seen this one: it waits for nothing but the count.
            TaskFactory(project=ProjectFactory(status="building"), role=Role.DEVELOPER)
            return dispatch(now=NOW)
        finally:
            connection.close()

    with ThreadPoolExecutor(1) as elsewhere:
        with transaction.atomic():
            assert len(dispatch(now=NOW)) == 1
            second = elsewhere.submit(work)
            wait_until(lambda: second.done() or _is_waited_for())
        assert second.result(30) == []

    assert Run.objects.count() == 1


def _is_waited_for() -> bool:
    with connection.cursor() as cursor:
        cursor.execute("SELECT EXISTS (SELECT FROM pg_locks WHERE pg_backend_pid() = ANY(pg_blocking_pids(pid)))")
        return bool(cursor.fetchone()[0])
