"""Nodes done anew or left out, at any moment: nothing is done twice, nothing waits for ever."""

import contextlib
import random
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest
from django.db import connection, transaction
from django.db.models import F
from psycopg.pq import TransactionStatus

from projects.actions import redoing, steering, steps, tasks, workflows
from projects.actions.nodes import CannotLeaveOut
from projects.actions.workflows import InvalidExecution
from projects.errors import DomainError, IllegalTransition
from projects.models import AuditLog, Execution, ExecutionNode, Project, Task
from projects.states import OPEN_EXECUTION, OPEN_NODE, OPEN_TASK, ExecutionStatus, NodeStatus, TaskKind, TaskStatus
from projects.workflows import statements
from projects.workflows.work import succeeded
from tests.factories import NOW, TESTER
from tests.projects.conftest import Together
from tests.projects.lives import begin, check_whole
from tests.projects.test_concurrency import until_somebody_waits
from tests.projects.workflows.test_runner import ended, running, standing
from tests.projects.workflows.test_steps import do, open_steps, save, shipped, started, status_of

pytestmark = pytest.mark.django_db
WHO = {"by": TESTER, "now": NOW}
CHAIN = [{"key": "a"}, {"key": "b"}, {"key": "c"}], [("a", "b"), ("b", "c")]


def statuses(execution: Execution) -> dict[str, str]:
    return dict(execution.nodes.values_list("key", "status"))


def check(execution: Execution) -> None:
    """Fail unless everything that must hold for an execution at any time holds now."""
    execution.refresh_from_db()
    nodes = list(execution.nodes.select_related("task"))
    assert execution.open_count == sum(node.status in OPEN_NODE for node in nodes)
    assert (execution.status in OPEN_EXECUTION) == (execution.open_count > 0)
    for node in nodes:
        if node.kind == "task" and node.status == NodeStatus.RUNNING:
            assert node.task
            assert node.task.status in OPEN_TASK
        assert node.status != NodeStatus.PENDING or node.unmet_count <= node.open_edges
    awaited = {node.task_id for node in nodes if node.status == NodeStatus.RUNNING}
    open_tasks = Task.objects.filter(project=execution.project, kind=TaskKind.STEP, status__in=OPEN_TASK)
    assert set(open_tasks.values_list("pk", flat=True)) == awaited
    check_whole(str(execution.project_id))


def test_failed_execution_goes_on_from_the_node_that_failed() -> None:
    execution = started(shipped("bug_fix"))
    do(execution, "analysis", cause="unknown")
    assert status_of(execution) == ExecutionStatus.FAILED

    redoing.retry_from(execution, "analysis", **WHO)
    assert status_of(execution) == ExecutionStatus.RUNNING
    check(execution)
    do(execution, "analysis", reproduced=False)
    do(execution, "not-reproduced")

    assert status_of(execution) == ExecutionStatus.COMPLETED
    assert Task.objects.filter(title="Find the cause").count() == 2
    row = AuditLog.objects.get(action="execution.retried")
    assert row.details["node"] == "analysis"


def test_completed_execution_is_done_anew_from_a_node_and_what_was_before_it_stays() -> None:
    execution = started(save(*CHAIN))
    for key in "abc":
        do(execution, key, by="first")

    redoing.retry_from(execution, "b", **WHO)
    check(execution)
    assert statuses(execution) == {"a": "completed", "b": "running", "c": "pending"}
    assert execution.result == {}
    do(execution, "b")
    do(execution, "c", by="second")

    assert status_of(execution) == ExecutionStatus.COMPLETED
    assert execution.result["c"]["by"] == "second"
    assert execution.nodes.get(key="a").result["by"] == "first"


def test_what_was_at_work_behind_the_node_comes_too_late() -> None:
    execution = started(save(*CHAIN))
    do(execution, "a")
    late = begin(open_steps(execution)["b"])

    redoing.retry_from(execution, "a", **WHO)

    late.refresh_from_db()
    assert (late.status, late.reason) == (TaskStatus.CANCELLED, "execution_over")
    assert statuses(execution) == {"a": "running", "b": "pending", "c": "pending"}
    check(execution)


def test_branches_beside_it_stay_and_skipped_ones_are_decided_anew() -> None:
    ways = [{"from": "a", "to": "yes", "when": "result.ok == true"}, {"from": "a", "to": "no", "when": "!result.ok"}]
    joined = [("yes", "end"), ("no", "end"), ("beside", "end")]
    nodes = [{"key": key} for key in ("a", "yes", "no", "beside")] + [{"key": "end", "join": 2}]
    execution = started(save(nodes, [*ways, *joined]))
    do(execution, "a", ok=True)
    do(execution, "beside")
    assert statuses(execution) == {
        "a": "completed",
        "yes": "running",
        "no": "skipped",
        "beside": "completed",
        "end": "pending",
    }

    redoing.retry_from(execution, "a", **WHO)
    check(execution)
    do(execution, "a", ok=False)
    do(execution, "no")
    do(execution, "end")

    assert status_of(execution) == ExecutionStatus.COMPLETED
    assert statuses(execution)["yes"] == "skipped"
    assert Task.objects.filter(key__startswith="beside").count() == 1


def test_cancelled_execution_is_taken_up_again_with_all_that_was_cancelled() -> None:
    execution = started(save([{"key": "a"}, {"key": "b"}, {"key": "c"}], [("a", "c"), ("b", "c")]))
    do(execution, "a")
    workflows.cancel_execution(execution, reason="", **WHO)

    redoing.retry_from(execution, "b", **WHO)

    check(execution)
    assert statuses(execution) == {"a": "completed", "b": "running", "c": "pending"}
    do(execution, "b")
    do(execution, "c")
    assert status_of(execution) == ExecutionStatus.COMPLETED


def test_paused_execution_stays_paused() -> None:
    execution = started(save(*CHAIN))
    do(execution, "a")
    workflows.pause_execution(execution, **WHO)

    redoing.retry_from(execution, "a", **WHO)

    check(execution)
    assert statuses(execution)["a"] == NodeStatus.HELD
    execution.refresh_from_db()
    workflows.resume_execution(execution, **WHO)
    assert list(open_steps(execution)) == ["a"]


def test_what_has_not_begun_or_is_not_there_is_refused() -> None:
    execution = started(save(*CHAIN))
    with pytest.raises(IllegalTransition, match="has not begun yet"):
        redoing.retry_from(execution, "b", **WHO)
    with pytest.raises(InvalidExecution, match="no node “x”"):
        redoing.retry_from(execution, "x", **WHO)
    do(execution, "a")
    Project.objects.filter(pk=execution.project_id).update(status="cancelled")
    with pytest.raises(InvalidExecution, match="is cancelled"):
        redoing.retry_from(execution, "a", **WHO)


@pytest.mark.parametrize("key", ["a", "b"])
def test_node_is_left_out_whether_it_has_begun_or_not(key: str) -> None:
    execution = started(save(*CHAIN))
    left = open_steps(execution).get(key)

    redoing.skip_node(execution, key, **WHO)

    check(execution)
    assert statuses(execution)[key] == NodeStatus.SKIPPED
    if left:
        left.refresh_from_db()
        assert (left.status, left.reason) == (TaskStatus.CANCELLED, "skipped")
    for other in sorted({"a", "b", "c"} - {key}):
        do(execution, other)
    assert status_of(execution) == ExecutionStatus.COMPLETED


def test_last_node_that_is_left_out_ends_the_execution() -> None:
    execution = started(save([{"key": "a"}]))
    steering.skip_task(open_steps(execution)["a"], **WHO)
    assert status_of(execution) == ExecutionStatus.COMPLETED
    with pytest.raises(CannotLeaveOut, match="skipped already"):
        redoing.skip_node(execution, "a", **WHO)
    redoing.retry_from(execution, "a", **WHO)
    check(execution)


def test_conditions_behind_what_is_left_out_are_decided_on_a_result_that_is_given() -> None:
    execution = started(shipped("bug_fix"))
    with pytest.raises(CannotLeaveOut, match="depends on its result, so one must be given"):
        redoing.skip_node(execution, "analysis", **WHO)
    assert list(open_steps(execution)) == ["analysis"]

    redoing.skip_node(execution, "analysis", result={"reproduced": True}, **WHO)

    assert list(open_steps(execution)) == ["regression-test"]
    check(execution)
    # What follows it is done anew: the way that was chosen by hand counts as before.
    redoing.retry_from(execution, "regression-test", **WHO)
    assert list(open_steps(execution)) == ["regression-test"]
    check(execution)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("is_over", [False, True])
def test_claim_of_a_function_that_is_done_anew_never_fits_again(is_over: bool) -> None:
    """Whether it is still at work then, or was taken back and somebody else ended the node."""
    execution = started(save([{"key": "a", "function": "noop", "retries": 1}]))
    with standing() as runner:
        (out,) = runner._claim(1)
        if is_over:
            ExecutionNode.objects.update(lease_until=NOW)
            runner._look_after()
            (other,) = runner._claim(1)
            runner._finish([succeeded(other, {})])
        redoing.retry_from(execution, "a", **WHO)
        (again,) = runner._claim(1)

        runner._finish([succeeded(out, {"late": True})])
        assert statuses(execution)["a"] == NodeStatus.RUNNING
        assert again.tries == 1, "it is tried as often as before"
        runner._finish([succeeded(again, {})])
    node = execution.nodes.get()
    assert (node.status, node.result, node.attempts) == (NodeStatus.COMPLETED, {}, 3 if is_over else 2)


def give_away(execution: Execution) -> None:
    for task in open_steps(execution).values():
        steering.reassign_task(task, "qa" if task.role != "qa" else "tester", **WHO)


def try_again(execution: Execution) -> None:
    for task in Task.objects.filter(project=execution.project, status__in=["blocked", "failed"]):
        steering.retry_task(task, **WHO)


def verbs_of(execution: Execution) -> list[Callable[[], Any]]:
    """Everything that may happen to it at the same time."""

    def finish() -> None:
        for task in open_steps(Execution.objects.get(pk=execution.pk)).values():
            tasks.complete_task(begin(task) if task.status == TaskStatus.READY else task, {"summary": ""}, **WHO)

    def give_up() -> None:
        for task in list(open_steps(execution).values())[:1]:
            tasks.fail_task(begin(task), reason="given_up", detail="", **WHO)

    def fresh(verb: Callable[..., None], *args: Any, **more: Any) -> Callable[[], None]:
        return lambda: verb(Execution.objects.select_related("workflow").get(pk=execution.pk), *args, **more, **WHO)

    def leave_out() -> None:
        for task in open_steps(execution).values():
            steering.skip_task(task, **WHO)

    return [
        finish,
        give_up,
        leave_out,
        partial(give_away, execution),
        partial(try_again, execution),
        fresh(redoing.retry_from, "a"),
        fresh(redoing.retry_from, "b"),
        fresh(redoing.skip_node, "b"),
        fresh(redoing.skip_node, "c"),
        fresh(workflows.pause_execution),
        fresh(workflows.resume_execution),
        fresh(workflows.cancel_execution, reason=""),
        partial(steps.begin_ready, now=NOW),
        partial(tasks.cancel_left, now=NOW),
    ]


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("seed", range(6))
def test_all_verbs_at_once_leave_an_execution_whole(together: Together, seed: int) -> None:
    """Each is done or refused with a reason; none waits for another for ever, and nothing is left half done."""
    execution = started(
        save([{"key": "a"}, {"key": "x"}, {"key": "b"}, {"key": "c"}], [("a", "b"), ("x", "b"), ("b", "c")])
    )
    order = random.Random(seed)
    for _ in range(3):
        chosen = order.sample(verbs_of(execution), 6)
        for future in together(*chosen):
            error = future.exception()
            assert error is None or isinstance(error, DomainError), error
        while steps.begin_ready(now=NOW):
            pass
        tasks.cancel_left(now=NOW)
        check(execution)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("seed", range(3))
def test_functions_that_runners_do_are_done_anew_at_any_moment(together: Together, seed: int) -> None:
    """Edges of what ends in the moment in which what follows is done anew are not lost: everything comes to its end."""
    sources = [{"key": f"s{number}", "function": "noop"} for number in range(30)]
    last = [{"key": key, "function": "noop"} for key in ("a", "b", "c")]
    ways = [(node["key"], "a") for node in sources] + [("a", "b"), ("b", "c")]
    execution = started(save([*sources, *last], ways))
    order = random.Random(seed)

    def again() -> None:
        for _ in range(10):
            key = order.choice(["s0", "a", "b", "c"])
            with contextlib.suppress(DomainError):
                redoing.retry_from(Execution.objects.get(pk=execution.pk), key, **WHO)

    with running(2):
        for future in together(again, again):
            assert future.exception() is None
        ended(execution)
    check(execution)
    assert set(statuses(execution).values()) == {NodeStatus.COMPLETED}


@pytest.mark.django_db(transaction=True)
def test_edge_of_what_ends_while_what_follows_is_done_anew_is_not_lost(together: Together) -> None:
    """The runner's statement waits for the execution, and sees the nodes as they were when it began."""
    nodes = [{"key": key, "function": "noop"} for key in ("s", "x", "a")]
    nodes[2]["join"] = "any"
    execution = started(save(nodes, [("s", "a"), ("x", "a")]))
    with standing() as runner:
        claimed = {node.plan.nodes[node.position].key: node for node in runner._claim(2)}
        done = {key: succeeded(node, {}) for key, node in claimed.items()}
        runner._release(runner._finish([done["x"]]))
        ExecutionNode.objects.filter(execution=execution, key="a").update(status="running", runner=0, lease_until=NOW)
        ExecutionNode.objects.filter(execution=execution, key="a").update(
            status="completed", runner=None, lease_until=None, finished_at=NOW
        )
        Execution.objects.filter(pk=execution.pk).update(open_count=1)

        def retry() -> None:
            with transaction.atomic():
                Execution.objects.select_for_update(no_key=True).get(pk=execution.pk)
                holding.set()
                until_somebody_waits()
                redoing.retry_from(execution, "x", **WHO)

        def finish() -> None:
            holding.wait(60)
            runner._finish([done["s"]])

        holding = threading.Event()
        for future in together(retry, finish):
            assert future.exception() is None, future.exception()
        assert statuses(execution)["a"] in {NodeStatus.READY, NodeStatus.RUNNING}


@pytest.mark.django_db(transaction=True)
def test_what_ended_is_written_however_often_people_have_something_done_anew_meanwhile() -> None:
    """Each statement that does not hold the execution already has to wait for somebody who does others anew."""
    execution = started(save([{"key": "a", "function": "noop"}]))
    met = []

    def redo(holding: threading.Event) -> None:
        with transaction.atomic():
            Execution.objects.select_for_update(no_key=True).get(pk=execution.pk)
            Execution.objects.filter(pk=execution.pk).update(redone=F("redone") + 1)
            holding.set()
            until_somebody_waits()
        connection.close()

    with standing() as runner, ThreadPoolExecutor(1) as pool:
        (claimed,) = runner._claim(1)
        execute = runner._execute

        def interrupted(statement: str, given: dict[str, Any] | None = None) -> list[Any]:
            assert runner._connection is not None
            is_alone = runner._connection.info.transaction_status == TransactionStatus.IDLE
            if statement != statements.FINISH or not is_alone or len(met) == 10:
                return execute(statement, given)
            met.append(pool.submit(redo, holding := threading.Event()))
            assert holding.wait(60)
            return execute(statement, given)

        runner._execute = interrupted  # type: ignore[method-assign]
        runner._finish([succeeded(claimed, {})])
        for one in met:
            one.result(timeout=60)
    assert statuses(execution) == {"a": NodeStatus.COMPLETED}
    assert len(met) == 1, "the second statement holds the execution before it looks"
