"""What the pages of executions read, as frozen values."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.db.models import F, Window
from django.db.models.functions import RowNumber
from django.urls import reverse

from projects import graph
from projects.actions.nodes import plan_of
from projects.models import Approval, Execution, ExecutionNode, Workflow
from projects.roles import Role
from projects.states import (
    MAIN_JOB,
    NOT_BEGUN_NODE,
    OPEN_APPROVAL,
    OPEN_EXECUTION,
    OPEN_NODE,
    ApprovalKind,
    NodeStatus,
    Stage,
    TaskKind,
)
from projects.workflows.definition import Node
from projects.workflows.plan import Plan

# What is larger is listed, and not drawn.
MAX_DRAWN = 200
MAX_LISTED = 500
MAX_ASKED = 50
# A result is small, and shown in words, as far as its values are; what is more is JSON.
MAX_FACTS = 8
MAX_FACT_CHARS = 300

# Who carries a stage out. Without an entry it is a person who decides.
_STAGE_ROLES = {Stage.REQUIREMENTS: Role.PM, Stage.PLAN: Role.ARCHITECT, Stage.DEMO: Role.DEVELOPER}
_STAGE_WHO = {Stage.BUILD: "The squad", Stage.DELIVERY: "Eklavya"}
# Where a decision is waited for: by what is decided, else by the task that it is about.
_ASKS = {ApprovalKind.PLAN: Stage.PLAN_APPROVAL, ApprovalKind.DEMO: Stage.DEMO_APPROVAL}
_ASKS_ABOUT = {
    TaskKind.REQUIREMENTS: Stage.REQUIREMENTS,
    TaskKind.PLAN: Stage.PLAN,
    TaskKind.DEMO: Stage.DEMO,
    TaskKind.BUILD: Stage.BUILD,
}


@dataclass(frozen=True)
class Row:
    """A node of an execution beside what the workflow says of it."""

    node: ExecutionNode
    step: Node
    can_retry: bool
    can_skip: bool
    decides: bool
    """Whether conditions on what follows look at its result."""
    leads_back: str
    """Where edges lead back to from it, by title."""
    role: str
    who: str
    """Who does it in words, where no one role does; empty for a function."""
    decision: Approval | None
    """What it waits for a person to decide."""
    facts: list[tuple[str, str]]
    """What of its result is small enough for words, by name."""


@dataclass(frozen=True)
class Detail:
    """An execution: its drawing, unless it is too large for one, and its nodes."""

    graph: graph.Graph | None
    rows: list[Row]
    count: int

    @property
    def more(self) -> int:
        """How many nodes are not listed."""
        return self.count - len(self.rows)

    @property
    def decisions(self) -> list[Approval]:
        """What its nodes wait for people to decide."""
        return [row.decision for row in self.rows if row.decision]


def newest() -> list[Workflow]:
    """Return the newest version of each workflow, by name."""
    age = Window(RowNumber(), partition_by="key", order_by=F("version").desc())
    found = Workflow.objects.defer("definition").annotate(age=age).filter(age=1)
    return sorted(found[:500], key=lambda one: one.name)


def startable(found: Iterable[Workflow]) -> list[Workflow]:
    """Return those that a person may start in a project: all but the main job, with which each begins."""
    return [one for one in found if one.key != MAIN_JOB]


def detail(execution: Execution) -> Detail:
    """Return what an execution's page shows. Needs its workflow."""
    plan = plan_of(execution.workflow_id)
    nodes = list(execution.nodes.select_related("task").order_by("position")[:MAX_LISTED])
    asked = _asked(execution, plan, nodes)
    rows = [_row(execution, plan, node, asked.get(node.position)) for node in nodes]
    drawing = graph.draw(_drawn(plan, rows)) if len(plan.nodes) <= MAX_DRAWN else None
    return Detail(drawing, rows, len(plan.nodes))


def key_at(execution: Execution, position: int | None) -> str:
    """Return the key of a node by its position; empty for what is about the whole."""
    return "" if position is None else plan_of(execution.workflow_id).nodes[position].key


def _asked(execution: Execution, plan: Plan, nodes: Iterable[ExecutionNode]) -> dict[int, Approval]:
    """Return what people are asked about the nodes that are at work, by position: the oldest for each."""
    if execution.project_id is None or execution.status not in OPEN_EXECUTION:
        return {}
    waiting = Approval.objects.filter(project_id=execution.project_id, status__in=OPEN_APPROVAL)
    found: dict[int, Approval] = {}
    by_task = {node.task_id: node.position for node in nodes if node.task_id and node.status == NodeStatus.RUNNING}
    at_work = {node.position for node in nodes if node.status == NodeStatus.RUNNING}
    for approval in waiting.select_related("task").defer("body").order_by("created_at", "id")[:MAX_ASKED]:
        position = by_task.get(approval.task_id) if approval.task_id else None
        if position is None and (stage := _stage_of(approval)):
            position = plan.stages.get(stage)
        if position is not None and position in at_work:
            found.setdefault(position, approval)
    return found


def _stage_of(approval: Approval) -> Stage | None:
    if approval.kind in _ASKS:
        return _ASKS[ApprovalKind(approval.kind)]
    return _ASKS_ABOUT.get(TaskKind(approval.task.kind)) if approval.task else None


def _facts(result: Mapping[str, Any] | None) -> list[tuple[str, str]]:
    given = sorted((result or {}).items(), key=lambda one: one[0] != "summary")  # jsonb has an order of its own
    shown = [(name, _fact(value)) for name, value in given]
    return [(name, text) for name, text in shown if text][:MAX_FACTS]


def _fact(value: object) -> str:
    """Return a value in words; empty for what is no short value, or a list of such."""
    match value:
        case bool():
            text = "yes" if value else "no"
        case str() | int() | float():
            text = str(value)
        case list() if all(isinstance(one, str | int | float) for one in value):
            text = ", ".join(map(str, value))
        case _:
            text = ""
    return text if len(text) <= MAX_FACT_CHARS else ""


def _row(execution: Execution, plan: Plan, node: ExecutionNode, decision: Approval | None) -> Row:
    is_open = execution.status in OPEN_EXECUTION
    # Of a delivered project nothing is done anew.
    is_delivered = execution.workflow.key == MAIN_JOB and bool(execution.project and execution.project.delivered_commit)
    of = plan.nodes[node.position]
    stage = Stage(of.stage) if of.stage else None
    role = _STAGE_ROLES.get(stage, "") if stage else of.role
    return Row(
        node,
        of,
        can_retry=node.kind != "stage" and not is_delivered and node.status not in NOT_BEGUN_NODE,
        can_skip=node.kind != "stage" and is_open and node.status in OPEN_NODE,
        decides=any(way.when for way in plan.ways[node.position]),
        leads_back=", ".join(_title(plan.nodes[way.target]) for way in plan.backs[node.position]),
        role=role,
        who=_STAGE_WHO.get(stage, "A person") if stage and not role else "",
        decision=decision,
        facts=_facts(node.result),
    )


def _title(step: Node) -> str:
    return step.title or step.key


def _drawn(plan: Plan, rows: Sequence[Row]) -> list[graph.Node]:
    return [
        graph.Node(
            key=row.node.key,
            title=_title(row.step),
            role=row.role or row.who or row.step.function,
            depends_on=tuple(plan.nodes[parent].key for parent in plan.parents[row.node.position]),
            status=row.node.status,
            url=_url(row),
            is_waiting=row.decision is not None,
        )
        for row in rows
    ]


def _url(row: Row) -> str:
    if row.decision:
        return reverse("approval", args=[row.decision.pk])
    return reverse("task", args=[row.node.task_id]) if row.node.task_id else ""
