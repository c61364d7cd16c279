"""Conflicts: a change that does not go into main becomes a task of its own, below the task whose change it is.

That one waits for it (AWAITING_MERGE) and asks nobody. It is completed with the conflict (`tasks.complete_task`); when
nobody resolves the conflict, people are asked about it.
"""

from datetime import datetime
from typing import Any

from django.db.models import Exists, OuterRef

from projects import audit
from projects.actions import tasks
from projects.actions.tasks import Setback
from projects.actors import Actor
from projects.models import Task
from projects.roles import Role
from projects.states import AWAITING_MERGE, OPEN_TASK, TaskKind, TaskStatus

# Main moves on meanwhile, and others wait for the task.
PRIORITY = 100
_INSTRUCTIONS = """\
Another change went into main that touched the same places as this one. Your checkout is the merge of both, with Git's \
conflict markers where they touched the same lines: between `<<<<<<<` and `=======` is what main has, below it what \
this change has. `conflict` in your context says which files, and `conflict.task` what the change was made for.

Bring both together: keep what each of them was made for, leave no marker in any file, and change nothing else. The \
history has to keep both commits, else your work is refused as `unresolved`: what you commit goes on top of what you \
were given, without squash, reset or rebase.\
"""


def open_conflict(
    task: Task, setback: Setback, *, key: str, handed_in: dict[str, Any], by: Actor, now: datetime
) -> Task:
    """Have a task of its own bring a change and main together, and let the task whose change it is wait for it.

    `setback.context["conflict"]` says what conflicts (paths, detail, the commits main and commit, and run), `handed_in`
    is the task's result. Raises StaleState when nobody works on the task any more, ProjectNotActive.
    """
    told = setback.context["conflict"]
    title = f"Resolve the conflict of “{task.title}”"[:255]
    with audit.journal(by=by, now=now):
        detail = f"{setback.detail}\n\n“{title}” brings both together; then this is done."
        waiting = Setback(AWAITING_MERGE, detail, setback.context, counts=False)
        tasks.block_task(task, waiting, ask_person=False, handed_in=handed_in, by=by, now=now)
        made_for = {
            "key": task.key,
            "title": task.title,
            "description": task.description,
            "acceptance_criteria": task.acceptance_criteria,
        }
        kept = {name: task.context[name] for name in ("workflow", "feedback") if name in task.context}
        return tasks.create_task(
            task.project,
            TaskKind.CONFLICT,
            key=key,
            role=Role(task.role),
            title=title,
            description=_INSTRUCTIONS,
            context=kept | {"conflict": told | {"task": made_for}},
            priority=PRIORITY,
            parent=task,
            by=by,
            now=now,
        )


def ask_about_unresolved(*, by: Actor, now: datetime) -> int:
    """Ask a person about each task whose conflict nobody resolves any more, and return how many. May be done at once
    by any number of sweepers."""
    resolving = Task.objects.filter(parent=OuterRef("pk"), kind=TaskKind.CONFLICT, status__in=OPEN_TASK)
    waiting = Task.objects.filter(~Exists(resolving), status=TaskStatus.BLOCKED, reason=AWAITING_MERGE)
    return sum(_ask_about(pk, by=by, now=now) for pk in list(waiting.values_list("pk", flat=True)))


def _ask_about(pk: Any, *, by: Actor, now: datetime) -> bool:
    with audit.journal(by=by, now=now):
        found = Task.objects.select_for_update(of=("self",), skip_locked=True).filter(pk=pk, status=TaskStatus.BLOCKED)
        task = found.filter(reason=AWAITING_MERGE).select_related("project").first()
        if task is None or tasks.open_conflict_of(task) is not None:
            return False
        last = task.subtasks.filter(kind=TaskKind.CONFLICT).order_by("-pk").first()
        told = task.context.get("conflict", {})
        lines = [
            f"Its change {told.get('commit', '')[:12]} conflicts with main as it was at {told.get('main', '')[:12]}, "
            f"in {', '.join(told.get('paths', [])[:10]) or 'some files'}, and nobody brought both together.",
            last.detail if last else "",
            "Tried again, it is done anew on what main has now.",
        ]
        tasks.unblock_task(task, {}, by=by, now=now)
        setback = Setback("conflict", "\n\n".join(filter(None, lines)), counts=False)
        tasks.block_task(task, setback, ask_person=True, by=by, now=now)
    return True
