"""The tables of states, and the database's triggers behind them: every pair of states of every machine."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest
from django.db import DatabaseError, models, transaction

from agents.states import AGENT_TRANSITIONS, RUN_TRANSITIONS, WORKER_TRANSITIONS, AgentStatus, RunStatus, WorkerStatus
from demos.states import DEMO_TRANSITIONS, DemoStatus
from learning.states import PROMPT_TRANSITIONS, PromptStatus
from projects.states import (
    ACTIVE_PROJECT,
    APPROVAL_TRANSITIONS,
    DELIVERY_TRANSITIONS,
    EXECUTION_TRANSITIONS,
    NODE_TRANSITIONS,
    OPEN_APPROVAL,
    OPEN_DELIVERY,
    OPEN_EXECUTION,
    OPEN_NODE,
    OPEN_TASK,
    PLAN_TRANSITIONS,
    PROJECT_TRANSITIONS,
    RUNNING_TASK,
    TASK_TRANSITIONS,
    WEBHOOK_TRANSITIONS,
    ApprovalStatus,
    DeliveryStatus,
    ExecutionStatus,
    NodeStatus,
    PlanStatus,
    ProjectStatus,
    TaskStatus,
    WebhookStatus,
    pairs,
    values,
)
from tests import factories
from tests.factories import COMMIT, NOW, DemoFactory


@dataclass(frozen=True)
class Machine:
    """A table of steps, a way to make a row in any state, and what else must change so that only the step is judged."""

    states: type[models.TextChoices]
    table: Any
    factory: Any
    beside: Callable[[Any, str], dict[str, Any]]


def beside_project(project: Any, to: str) -> dict[str, Any]:
    fields: dict[str, Any] = {"paused_from": "planning" if to == ProjectStatus.PAUSED else ""}
    if to in {ProjectStatus.BUILDING, ProjectStatus.COMPLETE} and not project.approved_demo_id:
        demo = DemoFactory(project=project, status="approved")
        fields |= {"approved_demo_id": demo.pk, "approved_demo_commit": demo.commit}
    if to == ProjectStatus.COMPLETE:
        fields |= {"delivered_commit": COMMIT, "completed_at": NOW}
    return fields


def beside_run(run: Any, to: str) -> dict[str, Any]:
    is_active = to in {"queued", "starting", "running", "evaluating", "merging"}
    return {
        "lease_owner": "worker-1",
        "lease_until": NOW,
        "finished_at": None if is_active else NOW,
        "token_hash": run.token_hash if is_active else "",
    }


MACHINES = {
    "project": Machine(ProjectStatus, PROJECT_TRANSITIONS, factories.ProjectFactory, beside_project),
    "plan": Machine(
        PlanStatus,
        PLAN_TRANSITIONS,
        factories.PlanFactory,
        lambda _, to: {"decided_at": None if to == "proposed" else NOW},
    ),
    "task": Machine(
        TaskStatus,
        TASK_TRANSITIONS,
        # Out of blocked a task is completed for one reason only (test_conflicts.py).
        partial(factories.TaskFactory, reason="awaiting_merge"),
        lambda _, to: {"completed_at": NOW if to == "completed" else None},
    ),
    "approval": Machine(
        ApprovalStatus,
        APPROVAL_TRANSITIONS,
        factories.ApprovalFactory,
        lambda _, to: {"decided_at": None if to in OPEN_APPROVAL else NOW},
    ),
    "webhook": Machine(
        WebhookStatus,
        WEBHOOK_TRANSITIONS,
        factories.WebhookEndpointFactory,
        lambda _, to: {"active_since": NOW, "reason": ""} if to == "active" else {"active_since": None, "reason": "x"},
    ),
    "delivery": Machine(
        DeliveryStatus,
        DELIVERY_TRANSITIONS,
        factories.WebhookDeliveryFactory,
        lambda _, to: {
            "next_attempt_at": NOW if to in OPEN_DELIVERY else None,
            "delivered_at": NOW if to == "delivered" else None,
        },
    ),
    "execution": Machine(
        ExecutionStatus,
        EXECUTION_TRANSITIONS,
        factories.ExecutionFactory,
        lambda _, to: {"finished_at": None if to in OPEN_EXECUTION else NOW, "open_count": 0},
    ),
    "node": Machine(
        NodeStatus,
        NODE_TRANSITIONS,
        factories.ExecutionNodeFactory,
        lambda _, to: {
            "finished_at": None if to in OPEN_NODE else NOW,
            "runner": 1 if to == "running" else None,
            "lease_until": NOW if to == "running" else None,
        },
    ),
    "agent": Machine(AgentStatus, AGENT_TRANSITIONS, factories.AgentFactory, lambda *_: {}),
    "run": Machine(RunStatus, RUN_TRANSITIONS, factories.RunFactory, beside_run),
    "worker": Machine(WorkerStatus, WORKER_TRANSITIONS, factories.WorkerFactory, lambda *_: {"cordoned_at": NOW}),
    "demo": Machine(
        DemoStatus,
        DEMO_TRANSITIONS,
        factories.DemoFactory,
        lambda *_: {"approved_at": NOW, "ready_at": NOW, "commit": COMMIT},
    ),
    "prompt": Machine(PromptStatus, PROMPT_TRANSITIONS, factories.PromptVersionFactory, lambda *_: {}),
}
EACH = pytest.mark.parametrize("machine", MACHINES.values(), ids=MACHINES)
FROM_EACH_STATE = pytest.mark.parametrize(
    ("machine", "old"),
    [pytest.param(machine, old, id=f"{name}-{old}") for name, machine in MACHINES.items() for old in machine.states],
)


@EACH
def test_table_has_every_state(machine: Machine) -> None:
    assert set(machine.table) == set(machine.states)


@EACH
def test_no_state_follows_itself(machine: Machine) -> None:
    assert not [state for state, news in machine.table.items() if state in news]


@EACH
def test_every_state_can_be_reached_from_the_first(machine: Machine) -> None:
    reached, edge = set(), {next(iter(machine.states))}
    while edge:
        reached |= edge
        edge = {new for old in edge for new in machine.table[old]} - reached
    assert reached == set(machine.states)


@pytest.mark.parametrize(
    ("machine", "ends"),
    [
        ("project", {"archived"}),
        ("plan", {"amended", "rejected", "superseded"}),
        ("task", {"completed", "cancelled"}),
        ("approval", {"approved", "rejected", "amended", "expired"}),
        ("webhook", set()),
        ("delivery", set()),
        ("execution", set()),
        ("node", set()),
        ("agent", {"terminated"}),
        ("run", {"succeeded", "failed", "lost", "cancelled", "over_budget"}),
        ("worker", set()),
        ("demo", {"approved", "changes_requested", "rejected"}),
        ("prompt", set()),
    ],
)
def test_ends_are_ends(machine: str, ends: set[str]) -> None:
    assert {state for state, news in MACHINES[machine].table.items() if not news} == ends


@pytest.mark.django_db
@FROM_EACH_STATE
def test_database_takes_exactly_the_steps_of_the_table(machine: Machine, old: Any) -> None:
    row = machine.factory(status=old)
    taken = {new for new in machine.states if new != old and is_taken(machine, row, new)}
    assert taken == machine.table[old]


def is_taken(machine: Machine, row: Any, new: str) -> bool:
    """Whether the database lets the row take the step; it is as before afterwards."""
    try:
        with transaction.atomic():
            type(row).objects.filter(pk=row.pk).update(status=new, **machine.beside(row, new))
            transaction.set_rollback(True)
    except DatabaseError as error:
        if "Invalid transition" not in str(error):
            raise  # something else than the step is wrong
        return False
    return True


@pytest.mark.django_db
@EACH
def test_other_columns_change_without_a_step(machine: Machine) -> None:
    row = machine.factory()
    assert type(row).objects.filter(pk=row.pk).update(status=row.status) == 1


def test_groups_of_states_fit_the_tables() -> None:
    assert {state for state in ProjectStatus if ProjectStatus.PAUSED in PROJECT_TRANSITIONS[state]} == ACTIVE_PROJECT
    assert {state for state in ApprovalStatus if APPROVAL_TRANSITIONS[state]} == OPEN_APPROVAL
    # From the ends a person has them done anew, and nothing else happens to them.
    for ended in set(ExecutionStatus) - OPEN_EXECUTION:
        assert EXECUTION_TRANSITIONS[ended] == {ExecutionStatus.RUNNING}
    for over in set(NodeStatus) - OPEN_NODE:
        assert NODE_TRANSITIONS[over] == {NodeStatus.PENDING}
    assert RUNNING_TASK < OPEN_TASK == set(TaskStatus) - {TaskStatus.COMPLETED, TaskStatus.FAILED, TaskStatus.CANCELLED}


def test_pairs_and_values_are_sorted_text() -> None:
    table = {PlanStatus.PROPOSED: frozenset({PlanStatus.REJECTED, PlanStatus.ACTIVE}), PlanStatus.ACTIVE: frozenset()}
    assert pairs(table) == [("proposed", "active"), ("proposed", "rejected")]
    assert values({PlanStatus.REJECTED, PlanStatus.ACTIVE}) == ["active", "rejected"]
