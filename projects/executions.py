"""What the pages of executions read, as frozen values."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from django.db.models import F, Window
from django.db.models.functions import RowNumber
from django.urls import reverse

from projects import graph
from projects.actions.nodes import plan_of
from projects.models import Execution, ExecutionNode, Workflow
from projects.states import MAIN_JOB, NOT_BEGUN_NODE, OPEN_EXECUTION, OPEN_NODE
from projects.workflows.definition import Node
from projects.workflows.plan import Plan

# What is larger is listed, and not drawn.
MAX_DRAWN = 200
MAX_LISTED = 500


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
    rows = [_row(execution, plan, node) for node in nodes]
    drawing = graph.draw(_drawn(plan, nodes)) if len(plan.nodes) <= MAX_DRAWN else None
    return Detail(drawing, rows, len(plan.nodes))


def key_at(execution: Execution, position: int | None) -> str:
    """Return the key of a node by its position; empty for what is about the whole."""
    return "" if position is None else plan_of(execution.workflow_id).nodes[position].key


def _row(execution: Execution, plan: Plan, node: ExecutionNode) -> Row:
    is_open = execution.status in OPEN_EXECUTION
    # Of a delivered project nothing is done anew.
    is_delivered = execution.workflow.key == MAIN_JOB and bool(execution.project and execution.project.delivered_commit)
    return Row(
        node,
        plan.nodes[node.position],
        can_retry=node.kind != "stage" and not is_delivered and node.status not in NOT_BEGUN_NODE,
        can_skip=node.kind != "stage" and is_open and node.status in OPEN_NODE,
        decides=any(way.when for way in plan.ways[node.position]),
        leads_back=", ".join(_title(plan.nodes[way.target]) for way in plan.backs[node.position]),
    )


def _title(step: Node) -> str:
    return step.title or step.key


def _drawn(plan: Plan, nodes: Sequence[ExecutionNode]) -> list[graph.Node]:
    return [
        graph.Node(
            key=node.key,
            title=_title(plan.nodes[node.position]),
            role=plan.nodes[node.position].role or plan.nodes[node.position].function or "stage",
            depends_on=tuple(plan.nodes[parent].key for parent in plan.parents[node.position]),
            status=node.status,
            url=reverse("task", args=[node.task_id]) if node.task_id else "",
        )
        for node in nodes
    ]
