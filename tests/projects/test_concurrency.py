"""Several at once, each on a connection of its own."""

import threading
import time
from functools import partial

import pytest
from django.db import connection, transaction

from projects.actions import approvals, conflicts, plans, projects, steering, tasks
from projects.models import Approval, AuditLog, Plan, Project, Task
from projects.plans import PlannedTask
from projects.roles import Role
from projects.states import TaskKind
from tests.factories import COMMIT, NOW, TESTER, AgentFactory, DemoFactory, PlanFactory, ProjectFactory, TaskFactory
from tests.projects import lives
from tests.projects.conftest import Together

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("published")]
WHO = {"by": TESTER, "now": NOW}


def until_somebody_waits(*, timeout_s: float = 60) -> None:
    """Return as soon as another session of this database waits for a lock."""
    deadline = time.monotonic() + timeout_s
    waiting = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    while time.monotonic() < deadline:
        with connection.cursor() as cursor:
            # Within a transaction the view would stay as it was when first read.
            cursor.execute("SELECT pg_stat_clear_snapshot()")
            cursor.execute(waiting)
            if cursor.fetchone():
                return
        time.sleep(0.005)
    raise AssertionError("nobody waits")


def outcomes(futures: list[object]) -> list[str]:
    """Names of what the calls raised, "" for those that did not."""
    return sorted(type(error).__name__ if (error := future.exception()) else "" for future in futures)  # type: ignore[attr-defined]


@pytest.mark.parametrize("options", [("approve", "approve"), ("approve", "amend"), ("reject", "amend")])
def test_of_two_deciders_one_wins(together: Together, options: tuple[str, str]) -> None:
    approval = lives.planned()
    calls = [partial(lives.decide, approval, option, "Because.") for option in options]
    first, second = outcomes(together(*calls))
    assert first == ""
    assert second in {"IllegalTransition", "StaleState"}
    assert AuditLog.objects.filter(action="approval.decided").count() == 1
    assert Plan.objects.get().status in {"active", "amended", "rejected"}
    lives.check_invariants(approval.project)


def test_a_task_made_while_its_project_is_cancelled_is_cancelled_too(together: Together) -> None:
    """As when an agent asks the mentor: its task is held, cancelling waits for it, and another task is made."""
    task = TaskFactory(status="in_progress", project=ProjectFactory(status="building"))
    started = threading.Event()

    def ask() -> None:
        with transaction.atomic():
            tasks.block_task(task, tasks.Setback("awaiting_mentor", "How?"), ask_person=False, **WHO)
            started.set()
            until_somebody_waits()
            tasks.create_task(task.project, TaskKind.MENTOR, key="mentor-1", role=Role.MENTOR, title="Advise", **WHO)

    def cancel() -> None:
        started.wait(60)
        projects.cancel_project(Project.objects.get(pk=task.project_id), reason="", **WHO)

    assert outcomes(together(ask, cancel)) == ["", ""]
    assert set(Task.objects.values_list("key", "status")) == {(task.key, "cancelled"), ("mentor-1", "cancelled")}


def test_second_decider_waits_for_the_first(together: Together) -> None:
    approval = lives.planned()

    started = threading.Event()

    def second() -> None:
        started.wait(60)
        lives.decide(approval, "reject", "No.")

    def first() -> None:
        with transaction.atomic():
            lives.decide(approval, "approve")
            started.set()
            until_somebody_waits()

    assert outcomes(together(first, second)) == ["", "IllegalTransition"]
    assert Approval.objects.get().status == "approved"


def test_cancelling_and_deciding_do_not_wait_for_each_other(together: Together) -> None:
    approval = lives.planned()
    project = Project.objects.get(pk=approval.project_id)
    cancelled = threading.Event()

    def cancel() -> None:
        with transaction.atomic():
            # As cancel_project does it: the project first, then its tasks and questions.
            Project.objects.filter(pk=project.pk).update(status_reason="The client left.")
            cancelled.set()
            until_somebody_waits()
            projects.cancel_project(project, reason="", **WHO)

    def decide() -> None:
        cancelled.wait(60)
        lives.decide(approval, "approve")

    assert outcomes(together(cancel, decide)) == ["", "IllegalTransition"]
    lives.check_invariants(project)


def test_last_two_dependencies_completed_at_once_free_it_once(together: Together) -> None:
    made = lives.building()
    lives.complete(made["storage"])
    running = [lives.begin(made["pages"]), lives.begin(made["report"])]
    futures = together(*[partial(tasks.complete_task, task, {}, **WHO) for task in running])
    assert sorted(future.result() for future in futures) == [[], [made["review"].pk]]
    assert AuditLog.objects.filter(action="task.ready", object_id=str(made["review"].pk)).count() == 1
    lives.check_invariants(made["review"].project)


def test_task_completed_twice_at_once_frees_once(together: Together) -> None:
    made = lives.building()
    lives.begin(made["storage"])
    copies = [Task.objects.select_related("project").get(pk=made["storage"].pk) for _ in range(2)]
    futures = together(*[partial(tasks.complete_task, task, {}, **WHO) for task in copies])
    assert outcomes(futures) == ["", "StaleState"]
    lives.check_invariants(made["storage"].project)


def test_many_completions_at_once_never_wait_in_a_circle(together: Together) -> None:
    parents = [PlannedTask(f"p{number}", "P", "developer") for number in range(8)]
    # Edges of each parent in an order of its own: locks taken as they come would cross.
    keys = tuple(parent.key for parent in parents)
    children = [
        PlannedTask(f"c{number}", "C", "developer", depends_on=keys[number % 8 :] + keys[: number % 8])
        for number in range(40)
    ]
    made = lives.building([*children[::2], *parents, *children[1::2]])
    running = [lives.begin(made[key]) for key in keys]
    futures = together(*[partial(tasks.complete_task, task, {}, **WHO) for task in running])
    assert sorted(len(future.result()) for future in futures) == [0] * 7 + [40]
    lives.check_invariants(made["p0"].project)


def test_completing_while_the_project_is_cancelled_never_waits_in_a_circle(together: Together) -> None:
    for _ in range(3):
        made = lives.building()
        running = lives.begin(made["storage"])
        project = Project.objects.get(pk=running.project_id)
        cancel = partial(projects.cancel_project, project, reason="", **WHO)
        futures = together(partial(tasks.complete_task, running, {}, **WHO), cancel)
        assert outcomes(futures) in (["", ""], ["", "StaleState"])
        lives.check_invariants(project)


@pytest.mark.parametrize("way", ["retry", "skip", "cancel", "sweep"])
def test_a_conflict_completed_while_its_task_goes_another_way_never_waits_in_a_circle(
    together: Together, way: str
) -> None:
    made = lives.building()
    task = made["storage"]
    told = tasks.Setback("conflict", "", {"conflict": {"paths": ["a"]}}, counts=False)
    opened = conflicts.open_conflict(lives.begin(task), told, key="conflict-1", handed_in={}, **WHO)
    running = lives.begin(opened)
    project = Project.objects.get(pk=task.project_id)
    other = {
        "retry": partial(steering.retry_task, task, **WHO),
        "skip": partial(steering.skip_task, task, **WHO),
        "cancel": partial(projects.cancel_project, project, reason="", **WHO),
        "sweep": partial(conflicts.ask_about_unresolved, **WHO),
    }[way]

    found = outcomes(together(partial(tasks.complete_task, running, {}, **WHO), other))

    assert found[0] == ""
    assert found[1] in {"", "StaleState", "IllegalTransition"}
    after = {one.pk: one.status for one in Task.objects.filter(pk__in=[task.pk, opened.pk])}
    ended = {"retry": "ready", "skip": "cancelled", "cancel": "cancelled"}.get(way)
    assert (after[opened.pk], after[task.pk]) in {("completed", "completed"), ("cancelled", ended)}
    lives.check_whole(str(project.pk))


def test_task_is_allocated_once(together: Together) -> None:
    task = TaskFactory()
    agents = [AgentFactory(project=task.project).pk for _ in range(4)]
    copies = [Task.objects.select_related("project").get(pk=task.pk) for _ in agents]
    calls = [partial(tasks.allocate_tasks, [(copy, agent)], **WHO) for copy, agent in zip(copies, agents, strict=True)]
    assert outcomes(together(*calls)) == ["", "StaleState", "StaleState", "StaleState"]
    assert AuditLog.objects.filter(action="task.allocated").count() == 1


def test_building_starts_once_however_many_start_it(together: Together) -> None:
    project = ProjectFactory(status="demo")
    PlanFactory(project=project, status="active")
    demo = DemoFactory(project=project, status="approved")
    copies = [Project.objects.get(pk=project.pk) for _ in range(3)]
    calls = [partial(plans.start_building, copy, demo_id=demo.pk, commit=COMMIT, **WHO) for copy in copies]
    assert outcomes(together(*calls)) == ["", "StaleState", "StaleState"]
    assert Task.objects.filter(kind="build").count() == 2


def test_resuming_twice_at_once_resumes_once(together: Together) -> None:
    project = ProjectFactory(status="paused", paused_from="demo")
    copies = [Project.objects.get(pk=project.pk) for _ in range(2)]
    futures = together(*[partial(projects.resume_project, copy, **WHO) for copy in copies])
    assert outcomes(futures) == ["", "ProjectNotActive"]


def test_escalating_twice_at_once_reminds_once(together: Together) -> None:
    lives.planned()
    late = NOW + approvals.DEADLINE
    futures = together(*[partial(approvals.escalate_overdue, by=TESTER, now=late)] * 3)
    assert sum(future.result() for future in futures) == 1


def test_projects_of_one_brief_get_names_of_their_own_also_at_once(together: Together) -> None:
    create = partial(projects.create_project, projects.NewProject("A bakery takes orders."), **WHO)
    assert outcomes(together(*[create] * 4)) == [""] * 4
    names = [f"A bakery takes orders.{number}" for number in ("", " (2)", " (3)", " (4)")]
    assert sorted(Project.objects.values_list("name", flat=True)) == names

    draft = plans.RequirementDraft("Order", "", ["Ordered."])
    calls = [partial(plans.record_requirements, one, "Bakery", [draft], **WHO) for one in Project.objects.all()]
    assert outcomes(together(*calls)) == [""] * 4
    assert sorted(Project.objects.values_list("name", flat=True)) == [
        "Bakery",
        "Bakery (2)",
        "Bakery (3)",
        "Bakery (4)",
    ]
