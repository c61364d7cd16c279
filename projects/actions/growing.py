"""Tasks that a running task adds below itself: the graph grows while it is worked on, within limits."""

from collections.abc import Sequence
from datetime import datetime

from django.db.models import F, Q

from projects import audit
from projects.actions import steering
from projects.actions.new_tasks import create_build_tasks, new_build_tasks, record_task
from projects.actors import Actor
from projects.errors import IllegalTransition, InvalidPlan
from projects.ids import new_id
from projects.models import Project, SquadMember, Task, TaskDependency
from projects.plans import PlannedTask, check_plan, find_cycle
from projects.states import GIVEN_UP_PROJECT, TaskKind, TaskStatus

MAX_DEPTH = 3
MAX_AT_ONCE = 50
MAX_IN_PROJECT = 200
# Tasks of a plan and of executions may name each other; nobody else has a say in the graph.
_OF_GRAPH = steering.STEERED


def add_tasks(
    parent: Task, drafts: Sequence[PlannedTask], *, narrowed_by: Sequence[str] = (), by: Actor, now: datetime
) -> list[Task]:
    """Add tasks below one that is being worked on. What waits for it waits for them too; of an execution, the node is
    done when they are.

    `depends_on` names tasks of the same call, or others of the project. `narrowed_by` are the specialisations that
    whoever adds them has beside the task's: they hold for tasks of its own role too. Raises InvalidPlan with all that
    is wrong (limits, keys, roles, cycles), IllegalTransition when nobody works on the task any more.
    """
    with audit.journal(by=by, now=now) as journal:
        project = Project.objects.select_for_update(no_key=True).get(pk=parent.project_id)
        named = {key for draft in drafts for key in draft.depends_on}
        # By key, as `lock_with_dependents`: what is completed now is seen, or waits and sees the new edges.
        wanted = Q(pk=parent.pk) | Q(project=project, key__in=named, kind__in=_OF_GRAPH)
        list(Task.objects.select_for_update().filter(wanted).order_by("pk"))
        parent = Task.objects.get(pk=parent.pk)
        if parent.status != TaskStatus.IN_PROGRESS or parent.kind not in _OF_GRAPH:
            raise IllegalTransition(f"{parent} is not being worked on, or can have no tasks below it.")
        if project.status in GIVEN_UP_PROJECT:
            raise IllegalTransition(f"{project.name} takes no more work.")
        others = {task.key: task for task in project.tasks.filter(kind__in=_OF_GRAPH)}
        _check(project, parent, drafts, others)
        narrowing = _narrowing(parent, drafts, narrowed_by)
        waiting = list(
            Task.objects.select_for_update(of=("self",))
            .filter(dependency_edges__depends_on=parent, status=TaskStatus.PENDING)
            .order_by("pk")
        )
        made, edges = _made(parent, drafts, others, narrowing, now)
        edges += [TaskDependency(id=new_id(), task=later, depends_on=task) for later in waiting for task in made]
        create_build_tasks(project, made, edges, by=by, now=now)
        Task.objects.filter(pk__in=[later.pk for later in waiting]).update(unmet_count=F("unmet_count") + len(made))
        record_task(journal, "task.grown", parent, {"added": [task.key for task in made]})
    return made


def depth_of(task: Task) -> int:
    """Return how many tasks there are above this one."""
    depth, above = 0, task.parent
    while above is not None and depth <= MAX_DEPTH:
        depth, above = depth + 1, above.parent
    return depth


def _check(project: Project, parent: Task, drafts: Sequence[PlannedTask], others: dict[str, Task]) -> None:
    problems = []
    if len(drafts) > MAX_AT_ONCE:
        problems.append(f"At most {MAX_AT_ONCE} tasks are added at once, not {len(drafts)}.")
    if depth_of(parent) >= MAX_DEPTH:
        problems.append(f"Tasks lie at most {MAX_DEPTH} levels below each other: do this one yourself.")
    # What the platform itself made below a task is not what the project grew by.
    count = project.tasks.filter(parent__isnull=False).exclude(kind=TaskKind.CONFLICT).count()
    if count + len(drafts) > MAX_IN_PROJECT:
        problems.append(f"A project grows by at most {MAX_IN_PROJECT} tasks; {count} were added already.")
    if problems:
        raise InvalidPlan(problems)
    squad = set(SquadMember.objects.filter(squad__project=project).values_list("role", flat=True))
    for draft in drafts:
        if draft.key in others:
            problems.append(f"The key “{draft.key}” is another task's.")
        if draft.role not in squad:
            problems.append(f"Nobody in the squad is “{draft.role[:40]}”, whom task “{draft.key[:60]}” names.")
    keys = {draft.key for draft in drafts}
    within = [_within(draft, keys) for draft in drafts]
    unknown = {key for draft in drafts for key in draft.depends_on} - keys - others.keys()
    problems += [f"“{key[:60]}” is no task of this project." for key in sorted(unknown)]
    if problems:
        raise InvalidPlan(problems[:20])
    check_plan(within)
    _check_cycles(parent, drafts, others)


def _within(draft: PlannedTask, keys: set[str]) -> PlannedTask:
    """Return a draft with those of its dependencies that are of the same call: the plan's own checks are about them."""
    kept = tuple(key for key in draft.depends_on if key in keys)
    return PlannedTask(draft.key, draft.title, draft.role, draft.description, kept, draft.estimate_minutes)


def _check_cycles(parent: Task, drafts: Sequence[PlannedTask], others: dict[str, Task]) -> None:
    """Raise InvalidPlan when a task would wait for one that waits for it: what waits for the parent waits for all of
    the new ones."""
    key_of = {task.pk: key for key, task in others.items()}
    waits: dict[str, list[str]] = {key: [] for key in others} | {draft.key: list(draft.depends_on) for draft in drafts}
    edges = TaskDependency.objects.filter(task__project=parent.project_id).values_list("task", "depends_on")
    for task, depends_on in edges:
        if task in key_of and depends_on in key_of:
            waits[key_of[task]].append(key_of[depends_on])
            if depends_on == parent.pk:
                waits[key_of[task]] += [draft.key for draft in drafts]
    if cycle := find_cycle(waits):
        raise InvalidPlan([f"Tasks would wait for each other in a circle: {' → '.join(cycle[:12])}."])


def _narrowing(parent: Task, drafts: Sequence[PlannedTask], narrowed_by: Sequence[str]) -> str:
    """Return what narrows tasks of the parent's own role: who is narrowed does not get the whole role by way of another
    task. Raises InvalidPlan where that is more than one task can say."""
    found = list(dict.fromkeys(filter(None, [*narrowed_by, parent.specialisation])))
    if len(found) > 1 and any(draft.role == parent.role for draft in drafts):
        both = " and ".join(f"“{key}”" for key in found)
        raise InvalidPlan([f"You are narrowed to {both}, and a task to one: add none for your own, {parent.role}."])
    return found[0] if found else ""


def _made(
    parent: Task, drafts: Sequence[PlannedTask], others: dict[str, Task], narrowing: str, now: datetime
) -> tuple[list[Task], list[TaskDependency]]:
    made = []
    for draft in drafts:
        # What is completed already, or was left out, is not waited for.
        open_ones = [key for key in draft.depends_on if key not in others or _is_open(others[key])]
        made.append((_task(parent, draft, open_ones, narrowing, now), [key for key in open_ones if key not in others]))
    tasks, edges = new_build_tasks(parent.project, made)
    by_key = {task.key: task for task in tasks}
    edges += [
        TaskDependency(id=new_id(), task=by_key[draft.key], depends_on=others[key])
        for draft in drafts
        for key in draft.depends_on
        if key in others and _is_open(others[key])
    ]
    return tasks, edges


def _is_open(task: Task) -> bool:
    return task.status not in {TaskStatus.COMPLETED, TaskStatus.CANCELLED}


def _task(parent: Task, draft: PlannedTask, waits_for: Sequence[str], narrowing: str, now: datetime) -> Task:
    return Task(
        id=new_id(),
        project_id=parent.project_id,
        plan_id=parent.plan_id,
        parent=parent,
        kind=parent.kind,
        key=draft.key,
        role=draft.role,
        specialisation=narrowing if draft.role == parent.role else "",
        title=draft.title[:255],
        description=draft.description,
        acceptance_criteria=list(draft.acceptance_criteria),
        estimate_minutes=draft.estimate_minutes,
        context={name: parent.context[name] for name in ("workflow", "feedback") if name in parent.context},
        priority=parent.priority,
        status=TaskStatus.PENDING if waits_for else TaskStatus.READY,
        unmet_count=len(waits_for),
        ready_at=None if waits_for else now,
        next_attempt_at=now,
        created_at=now,
    )
