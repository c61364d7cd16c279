"""What ends in the same moment as something else changes the graph: nothing may wait for ever."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest
from django.db import connection, transaction

from projects.actions import growing, redoing, tasks, workflows
from projects.models import Execution, Task
from projects.plans import PlannedTask
from projects.states import ExecutionStatus, TaskStatus
from tests.factories import NOW, TESTER
from tests.projects.lives import begin, building
from tests.projects.test_growing import draft
from tests.projects.workflows.test_steps import open_steps, save, started, status_of

WHO = {"by": TESTER, "now": NOW}
pytestmark = pytest.mark.django_db


def held_open(first: Callable[[], object], second: Callable[[], object]) -> None:
    """Do `first`, then `second` in another thread while the first is not committed; commit once it is done or waits."""

    def work() -> None:
        try:
            second()
        finally:
            connection.close()

    with ThreadPoolExecutor(1) as pool:
        with transaction.atomic():
            first()
            other = pool.submit(work)
            with suppress(TimeoutError):  # it waits for the first, as it should
                other.result(timeout=1)
        other.result(timeout=60)


@pytest.mark.django_db(transaction=True)
def test_last_two_tasks_below_a_node_that_end_at_once_end_the_node() -> None:
    execution = started(save([{"key": "a"}]))
    task = begin(open_steps(execution)["a"])
    one, two = growing.add_tasks(task, [draft("one"), draft("two")], **WHO)
    tasks.complete_task(task, {"summary": "Divided."}, **WHO)
    one, two = begin(one), begin(two)

    held_open(
        lambda: tasks.complete_task(one, {"summary": "1"}, **WHO),
        lambda: tasks.complete_task(two, {"summary": "2"}, **WHO),
    )

    assert set(Task.objects.values_list("status", flat=True)) == {"completed"}
    assert status_of(execution) == ExecutionStatus.COMPLETED


@pytest.mark.django_db(transaction=True)
def test_added_task_does_not_wait_for_one_that_is_completed_meanwhile() -> None:
    made = building((PlannedTask("x", "X", "developer"), PlannedTask("y", "Y", "developer")))
    x, y = begin(made["x"]), begin(made["y"])

    held_open(
        lambda: tasks.complete_task(y, {"summary": "y"}, **WHO),
        lambda: growing.add_tasks(x, [draft("late", "y")], **WHO),
    )

    late = Task.objects.get(key="late")
    assert (late.status, late.unmet_count) == (TaskStatus.READY, 0)


def test_what_waits_for_a_step_goes_on_when_its_execution_is_cancelled() -> None:
    made, execution, step = beside_a_step()
    growing.add_tasks(begin(made["x"]), [draft("after", step.key), draft("last", "after", step.key)], **WHO)

    workflows.cancel_execution(execution, reason="", **WHO)

    step.refresh_from_db()
    after, last = Task.objects.get(key="after"), Task.objects.get(key="last")
    assert (step.status, after.status, last.status, last.unmet_count) == ("cancelled", "ready", "pending", 1)


def test_what_waits_for_a_step_and_for_what_it_added_goes_on_when_all_of_them_are_left() -> None:
    made, execution, step = beside_a_step()
    (below,) = growing.add_tasks(begin(step), [draft("below")], **WHO)
    growing.add_tasks(begin(made["x"]), [draft("after", step.key, below.key)], **WHO)

    workflows.cancel_execution(execution, reason="", **WHO)

    after = Task.objects.get(key="after")
    assert (after.status, after.unmet_count) == (TaskStatus.READY, 0)


def test_what_waits_for_a_step_that_failed_goes_on_when_its_node_is_done_anew() -> None:
    made, execution, step = beside_a_step()
    growing.add_tasks(begin(made["x"]), [draft("after", step.key)], **WHO)
    tasks.fail_task(begin(step), reason="given_up", detail="", **WHO)
    assert tasks.cancel_left(now=NOW) == 0
    assert Task.objects.get(key="after").status == TaskStatus.PENDING, "a person decides what becomes of it"

    redoing.retry_from(execution, "a", **WHO)

    step.refresh_from_db()
    assert step.status == TaskStatus.CANCELLED
    assert Task.objects.get(key="after").status == TaskStatus.READY


def beside_a_step() -> tuple[dict[str, Task], Execution, Task]:
    """A task of a plan at work, and in the same project an execution with a step."""
    made = building((PlannedTask("x", "X", "developer"), PlannedTask("y", "Y", "developer")))
    execution = started(save([{"key": "a"}]), project=made["x"].project)
    return made, execution, open_steps(execution)["a"]
