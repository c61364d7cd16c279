"""The main job of each project as an execution: opened with the project, carried on from stage to stage, held while the
project is paused, over when the project is.

Whoever ends a stage calls `reached`, in the transaction of what ended it; what follows is begun in the same one, by
what was registered for it. So nothing lies between two stages that a crash could lose. Locks are taken in the order of
`nodes`: the project, its execution, nodes; what begins may then make tasks and move the project.
"""

from datetime import datetime
from functools import partial
from typing import Any, Protocol
from uuid import UUID

from projects import audit
from projects.actions import nodes, steps, workflows
from projects.actors import Actor
from projects.errors import ProjectNotActive
from projects.jsontext import storable_json
from projects.models import Execution, ExecutionNode, Project, Workflow
from projects.states import ACTIVE_PROJECT, MAIN_JOB, NOT_BEGUN_NODE, ExecutionStatus, NodeStatus, ProjectStatus, Stage
from projects.sweeping import take_each
from projects.workflows import statements
from projects.workflows.anew import place
from projects.workflows.finishing import write
from projects.workflows.plan import Plan
from projects.workflows.rewinding import Stand, behind, places
from projects.workflows.shipped import shipped
from projects.workflows.work import Claimed

_NEWEST_LOOKED_AT = 20
_MOST_AT_ONCE = 200


class Begin(Protocol):
    """What begins a stage of a project: locked, active, and where the stages before it left it."""

    def __call__(self, project: Project, *, by: Actor, now: datetime) -> object: ...


_begins: dict[Stage, Begin] = {}


def register(stage: Stage, begin: Begin) -> None:
    """Say what begins a stage. A process that did not leaves the stage to one that did."""
    _begins[stage] = begin


def open_main_job(project: Project, *, by: Actor, now: datetime) -> Execution:
    """Start the main job of a new project, and its first stage."""
    with audit.journal(by=by, now=now) as journal:
        execution = _opened(project, journal, now=now)
        _begin_stages(project, execution, journal, now=now)
    return execution


def reached(project: Project, stage: Stage, result: dict[str, Any] | None = None, *, by: Actor, now: datetime) -> bool:
    """End a stage with what its conditions decide on, and begin what follows it. Return whether that counts.

    A stage that has not begun, because other nodes come before it, ends as soon as it begins; one that has ended stays
    as it is. A project from before its main job was an execution gets one that stands at this stage. Raises what the
    beginning of the next stage raises.
    """
    with audit.journal(by=by, now=now) as journal:
        locked = Project.objects.select_for_update(no_key=True).get(pk=project.pk)
        execution = _held(project) or _adopted(locked, stage, journal, now=now)
        node = _node(execution, stage)
        if node.status in NOT_BEGUN_NODE | {NodeStatus.CANCELLED}:
            ExecutionNode.objects.filter(pk=node.pk).update(result=storable_json(result or {}))
        elif node.status == NodeStatus.RUNNING:
            _end(execution, node, result or {}, journal, now=now)
        else:
            return False
        _begin_stages(project, execution, journal, now=now)
    return True


def check_at(project: Project, stage: Stage) -> None:
    """Raise ProjectNotActive unless a stage of the project's main job is under way, or nobody knows where it is."""
    execution = _of(project).first()
    if execution is not None and _node(execution, stage).status != NodeStatus.RUNNING:
        raise ProjectNotActive(f"The main job of {project.name} is not at “{stage.label}”.")


def is_at(project: Project, stage: Stage) -> bool:
    """Whether a stage of the project's main job is under way."""
    execution = _of(project).first()
    return execution is not None and _node(execution, stage).status == NodeStatus.RUNNING


def pause(project: Project, *, by: Actor, now: datetime) -> None:
    """Have nothing further begin while the project is paused; the caller holds the project."""
    with audit.journal(by=by, now=now) as journal:
        if (execution := _held(project)) and execution.status == ExecutionStatus.RUNNING:
            workflows.hold(execution, journal)


def resume(project: Project, *, by: Actor, now: datetime) -> None:
    """Begin what became ready while the project was paused; the caller holds the project, which is active again."""
    with audit.journal(by=by, now=now) as journal:
        if (execution := _held(project)) is None:
            return
        if execution.status == ExecutionStatus.PAUSED:
            workflows.release(execution, journal, now=now)
        _begin_stages(project, execution, journal, now=now)


def begin_ready(*, now: datetime) -> None:
    """Begin the stages of any project that became ready and were not begun, as behind a function; each project in a
    transaction of its own. What breaks in one keeps the others from nothing, and is raised in the end."""
    ready = ExecutionNode.objects.filter(status=NodeStatus.READY, kind="stage", execution__status="running")
    active = ready.filter(execution__project__status__in=ACTIVE_PROJECT)
    found = active.values_list("execution__project_id", flat=True).distinct()[:_MOST_AT_ONCE]
    take_each(*(partial(_begin_of, project_id, now) for project_id in found))


def _begin_of(project_id: UUID, now: datetime) -> None:
    with audit.journal(by=steps.ENGINE, now=now) as journal:
        project = Project.objects.select_for_update(no_key=True).get(pk=project_id)
        if execution := _held(project):
            _begin_stages(project, execution, journal, now=now)


def _begin_stages(project: Project, execution: Execution, journal: audit.Journal, *, now: datetime) -> None:
    """Begin the ready stages of a locked execution; one whose end came before its beginning ends, and others follow."""
    plan = nodes.plan_of(execution.workflow_id)
    ready = execution.nodes.filter(status=NodeStatus.READY, kind="stage", execution__status=ExecutionStatus.RUNNING)
    went_on = True
    while went_on and project.status in ACTIVE_PROJECT:
        went_on = False
        for node in ready.order_by("-priority", "id"):
            begin = _begins.get(Stage(plan.nodes[node.position].stage))
            if node.result is None and begin is None:  # a process that knows it does it
                continue
            nodes.execute(statements.BEGIN_STAGE, {"node": node.pk})
            went_on = True
            if node.result is not None:
                node.refresh_from_db()
                _end(execution, node, node.result, journal, now=now)
            elif begin is not None and node.started_at is None:  # else it had begun when the main job failed
                begin(project, by=journal.by, now=now)


def _end(
    execution: Execution, node: ExecutionNode, result: dict[str, Any], journal: audit.Journal, *, now: datetime
) -> None:
    tries = node.attempts - node.attempts_before
    plan = nodes.plan_of(execution.workflow_id)
    claimed = Claimed(execution.pk, node.position, node.attempts, execution.workflow_id, plan, tries)
    written = write(nodes.execute, [nodes.outcome_of(claimed, result)], keep=0)
    ended = Execution.objects.filter(pk__in=written.ended).select_related("workflow")
    nodes.record_news(journal, ended)
    steps.begin_ready(executions=written.to_begin, now=now)


def _of(project: Project) -> Any:
    return Execution.objects.filter(project=project, key=_key(project.pk))


def _key(project_id: UUID) -> str:
    # Not by the workflow alone: versions before it was carried out could be started by people.
    return f"main-job-{project_id}"


def _held(project: Project) -> Execution | None:
    """Return a project's main job, locked."""
    found: Execution | None = (
        _of(project).select_for_update(no_key=True, of=("self",)).select_related("workflow").first()
    )
    return found


def _node(execution: Execution, stage: Stage) -> ExecutionNode:
    return execution.nodes.get(position=nodes.plan_of(execution.workflow_id).stages[stage])


def _opened(project: Project, journal: audit.Journal, *, now: datetime) -> Execution:
    workflow = _workflow(by=journal.by, now=now)
    pk = workflows.open_execution(workflow, _key(project.pk), project, by=journal.by, now=now)
    execution = Execution.objects.select_for_update(no_key=True, of=("self",)).select_related("workflow").get(pk=pk)
    workflows.be_recorded(journal, execution)
    return execution


def _adopted(project: Project, stage: Stage, journal: audit.Journal, *, now: datetime) -> Execution:
    """Open the main job of a project that is at this stage already: what comes before it is left out."""
    execution = _opened(project, journal, now=now)
    plan: Plan = nodes.plan_of(execution.workflow_id)
    start = plan.stages[stage]
    anew = behind(plan, [start])
    left_out = [position for position in range(len(plan.nodes)) if position not in anew]
    nodes.execute(statements.BEGIN_AT, {"execution": execution.pk, "left_out": left_out, "position": start})
    stands = {position: Stand(NodeStatus.SKIPPED, {}) for position in left_out}
    place(nodes.execute, execution.pk, places(plan, stands, anew, start), is_paused=False)
    nodes.execute(statements.REOPEN, {"execution": execution.pk, "keys": []})
    nodes.execute(statements.BEGIN_STAGE, {"node": _node(execution, stage).pk})
    execution.refresh_from_db()
    if project.status == ProjectStatus.PAUSED:
        workflows.hold(execution, journal)
    return execution


def _workflow(*, by: Actor, now: datetime) -> Workflow:
    """Return the newest version that has the stages; before, the main job was written down but not carried out."""
    versions = Workflow.objects.filter(key=MAIN_JOB).defer("definition", "description").order_by("-version")
    for found in versions[:_NEWEST_LOOKED_AT]:
        if nodes.plan_of(found.pk).stages:
            return found
    document = next(one for one in shipped() if one.key == MAIN_JOB)
    return workflows.save_workflow(document, is_shipped=True, by=by, now=now)


def _wait(project: Project, *, by: Actor, now: datetime) -> None:
    """What ends such a stage was begun with the one before: a person decides, or the sweep looks."""


for _stage in (Stage.PLAN_APPROVAL, Stage.DEMO_APPROVAL, Stage.DELIVERY):
    register(_stage, _wait)
