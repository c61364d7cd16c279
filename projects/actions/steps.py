"""The tasks of executions: one is made of each node of a role when the node becomes ready, and the execution goes on
when it ends."""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db.models import Exists, OuterRef, Q

from projects import audit
from projects.actions import nodes
from projects.actions.new_tasks import create_build_tasks
from projects.actors import Actor
from projects.ids import new_id
from projects.jsontext import storable_json
from projects.models import Execution, ExecutionNode, Task, TaskDependency
from projects.states import GIVEN_UP_PROJECT, OPEN_TASK, ExecutionStatus, NodeStatus, TaskKind, TaskStatus
from projects.workflows.definition import InvalidWorkflow

ENGINE = Actor.system("workflows")
MAX_AT_ONCE = 200
# As tasks of a plan have; a node may ask for more.
USUAL_ATTEMPTS = 3
MAX_TOLD_CHARS = 4_000
MAX_TOLD_RESULTS = 50
MAX_TOLD_CONDITIONS = 20

_LINK = """
UPDATE projects_executionnode n
SET status = 'running', task_id = new.task, attempts = n.attempts + 1, started_at = clock_timestamp()
FROM unnest(%(nodes)s::bigint[], %(tasks)s::uuid[]) AS new(node, task) WHERE n.id = new.node
"""
_LOG = """
INSERT INTO projects_executionlog (execution_id, position, event, detail, at)
SELECT execution_id, position, 'begun', '', clock_timestamp() FROM projects_executionnode
WHERE id = ANY(%(nodes)s::bigint[]) ORDER BY id
"""


def begin_ready(*, executions: Collection[UUID] | None = None, now: datetime) -> int:
    """Make the tasks of nodes of a role that became ready, of these executions or of any; return how many.

    Any number of callers may do it at once: an execution is one caller's, and the others leave it alone.
    """
    with audit.journal(by=ENGINE, now=now) as journal:
        waiting = ExecutionNode.objects.filter(status=NodeStatus.READY, kind="task")
        if executions is not None:
            waiting = waiting.filter(execution__in=executions)
        wanted = waiting.order_by("execution_id").values_list("execution_id", flat=True).distinct()[:MAX_AT_ONCE]
        running = (
            Execution.objects.filter(pk__in=list(wanted), status=ExecutionStatus.RUNNING, project__isnull=False)
            .exclude(project__status__in=GIVEN_UP_PROJECT)
            .select_related("workflow", "project")
        )
        held = {one.pk: one for one in running.select_for_update(of=("self",), no_key=True, skip_locked=True)}
        # Looked at again under the executions' locks: what was ready may be held, ended or begun by now.
        ready = waiting.filter(execution__in=held).select_for_update().order_by("-priority", "id")[:MAX_AT_ONCE]
        return _begin(list(ready), held, journal, now=now)


def complete(task: Task, *, by: Actor, now: datetime) -> None:
    """Let the execution go on from a task that was completed."""
    with audit.journal(by=by, now=now) as journal:
        root = root_of(task)
        # Of two that end at once, as a batch of the merge queue does, the later one sees the other.
        Execution.objects.select_for_update(no_key=True, of=("self",)).filter(nodes__task=root).first()
        root.refresh_from_db(fields=["status"])
        if root.status == TaskStatus.COMPLETED and not _below(root):
            begin_ready(executions=nodes.complete_node(root, journal=journal), now=now)


def fail(task: Task, said: str, *, by: Actor, now: datetime) -> None:
    """Let the execution go on from a task that was given up: by an edge for that, or it has failed."""
    with audit.journal(by=by, now=now) as journal:
        begin_ready(executions=nodes.fail_node(root_of(task), said, journal=journal), now=now)


def root_of(task: Task) -> Task:
    """Return the task that a node is, of this one or above it: a running task may have added others below itself."""
    while task.parent is not None:
        task = task.parent
    return task


def _below(root: Task) -> bool:
    """Whether tasks that were added below this one are still open."""
    levels = Q(parent=root) | Q(parent__parent=root) | Q(parent__parent__parent=root)
    return Task.objects.filter(levels, project=root.project_id, status__in=OPEN_TASK).exists()


def left_tasks(project_id: UUID | None = None) -> list[Task]:
    """Return, of a project or all, the open tasks of nodes that wait for them no more, and failed ones of nodes that
    were done anew since, where others still wait for them; by id."""
    of_task = Q(task=OuterRef("pk")) | Q(task=OuterRef("parent"))
    of_task |= Q(task=OuterRef("parent__parent")) | Q(task=OuterRef("parent__parent__parent"))
    its_node = ExecutionNode.objects.filter(of_task)
    steps = Task.objects.filter(kind=TaskKind.STEP, **({"project": project_id} if project_id else {}))
    left = steps.filter(~Exists(its_node.filter(status=NodeStatus.RUNNING)), status__in=OPEN_TASK)
    # By way of those who wait, of whom there are few.
    awaited = TaskDependency.objects.filter(task__status=TaskStatus.PENDING).values("depends_on")
    failed = steps.filter(~Exists(its_node), status=TaskStatus.FAILED, pk__in=awaited)
    return sorted([*left.select_related("project"), *failed.select_related("project")], key=lambda task: task.pk)


def _begin(
    ready: Sequence[ExecutionNode], executions: dict[UUID, Execution], journal: audit.Journal, *, now: datetime
) -> int:
    by_project: dict[UUID, list[Task]] = {}
    made = []
    unusable: dict[UUID, str] = {}
    for node in ready:
        execution = executions[node.execution_id]
        assert execution.project is not None
        try:
            task = _task_of(node, execution, now)
        except InvalidWorkflow as error:  # it was saved by an older version; the others must not wait for it
            unusable[execution.pk] = str(error)
            continue
        made.append((node.pk, task.pk))
        by_project.setdefault(execution.project.pk, []).append(task)
    for tasks in by_project.values():
        create_build_tasks(tasks[0].project, tasks, [], by=journal.by, now=now)
    for pk, why in unusable.items():
        nodes.give_up(executions[pk], why, journal=journal)
    if made:
        given = {"nodes": [node for node, _ in made], "tasks": [task for _, task in made]}
        nodes.execute(_LINK, given)
        nodes.execute(_LOG, given)
    return len(made) + len(unusable)


def _task_of(node: ExecutionNode, execution: Execution, now: datetime) -> Task:
    step = nodes.plan_of(execution.workflow_id).nodes[node.position]
    again = f"-{node.attempts + 1}" if node.attempts else ""
    return Task(
        id=new_id(),
        project=execution.project,
        kind=TaskKind.STEP,
        key=f"{node.key[:40]}-{node.pk:x}{again}",
        role=step.role,
        title=step.title[:255],
        description=step.brief,
        context={"workflow": _told(node, execution)},
        priority=step.priority,
        max_attempts=max(USUAL_ATTEMPTS, step.retries + 1),
        status=TaskStatus.READY,
        next_attempt_at=now,
        ready_at=now,
        created_at=now,
    )


def _told(node: ExecutionNode, execution: Execution) -> dict[str, Any]:
    """Return what a step's agent is told of the whole: what it was started with, what came of the steps so far,
    and the conditions that are decided on its result."""
    done = execution.nodes.filter(status=NodeStatus.COMPLETED).order_by("-finished_at", "-position")
    before = dict(reversed(done.values_list("key", "result")[:MAX_TOLD_RESULTS]))
    plan = nodes.plan_of(execution.workflow_id)
    ways = (*plan.ways[node.position], *plan.backs[node.position])
    told = {
        "name": execution.workflow.name,
        "step": node.key,
        "decides": list(dict.fromkeys(way.when for way in ways if way.when))[:MAX_TOLD_CONDITIONS],
        "input": execution.input,
        "results": before,
    }
    return storable_json(told, max_chars=MAX_TOLD_CHARS)  # type: ignore[no-any-return]
