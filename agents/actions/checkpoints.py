"""Keeping the state of a run's work."""

from collections.abc import Callable, Mapping
from datetime import datetime
from enum import Enum
from types import MappingProxyType
from typing import Any, TypeVar

from django.db import IntegrityError

from agents.models import Checkpoint, Run
from agents.sandboxes import repository, run_directory
from agents.workspace.values import Checkpoint as Snapshot
from projects import audit
from projects.actors import Actor
from projects.ids import new_id
from projects.jsontext import storable_text

INTERRUPTED = """\
You were interrupted from outside in the middle of this task, for no fault of yours. The checkout has your commits and
your unfinished files as they were. Look at both first (git log, git status), then go on from there."""

_RESUME = "resume"
T = TypeVar("T")


class Use(Enum):
    """When the next run goes on from a checkpoint."""

    ALWAYS = "always"
    IF_INTERRUPTED = "if_interrupted"
    NEVER = "never"


def save(run: Run, instructions: str, *, by: Actor, now: datetime) -> Checkpoint:
    """Keep a snapshot of a run's clone as its agent asks: its commits and the files as they are.

    `instructions` are for whoever goes on. Raises WorkspaceError.
    """
    return _once_more(lambda: _record(run, _snapshot(run), instructions, by=by, now=now))


def keep(run: Run, *, by: Actor, now: datetime, resumes: bool = False) -> Checkpoint | None:
    """Keep what an unfinished run left, unless that is nothing new. Raises WorkspaceError.

    No run goes on from it, unless it `resumes`: for work that was interrupted, and not for what led to nothing.
    """
    use = Use.ALWAYS if resumes else Use.NEVER
    return _once_more(lambda: _keep(run, by=by, now=now, use=use))


def keep_meanwhile(run: Run, *, by: Actor, now: datetime) -> Checkpoint | None:
    """Keep the work of a run that goes on, unless nothing changed since the last time. Raises WorkspaceError.

    The next run goes on from it if this one is interrupted (`resume_of`), and not if it fails.
    """
    return _once_more(lambda: _keep(run, by=by, now=now, use=Use.IF_INTERRUPTED))


def resume_of(run: Run, *, interrupted: bool) -> dict[str, Any]:
    """Return what the next run needs to go on: from where the agent last saved its work with instructions, if it did,
    or, after a run that was `interrupted`, from the last checkpoint that was made meanwhile."""
    for saved in run.checkpoints.order_by("-seq"):
        told = saved.resume_instructions or (saved.state.get(_RESUME, "") if interrupted else "")
        if told:
            return {"checkpoint": saved.file_snapshot, "resume": told}
    return {}


def give_up(run: Run, why: str, *, by: Actor, now: datetime) -> None:
    """Note that what a run left in its clone is not kept anywhere, and why."""
    with audit.journal(by=by, now=now) as journal:
        details = {"reason": storable_text(why, max_chars=500), "task": run.task.key}
        journal.add("workspace.given_up", project_id=run.project_id, agent_id=run.agent_id, obj=run, details=details)


def _once_more(step: Callable[[], T]) -> T:
    """Agent and platform may save in the same moment, in two processes: whoever comes second takes the next number."""
    try:
        return step()
    except IntegrityError:
        return step()


def _keep(run: Run, *, by: Actor, now: datetime, use: Use) -> Checkpoint | None:
    if not run.base_commit:
        return None
    repo = repository(run.project_id)
    newest = run.checkpoints.order_by("-seq").first()
    known = repo.tree_sha(newest.state["commit"] if newest else run.base_commit)
    snapshot = _snapshot(run)
    # One that was made meanwhile has no instructions for everybody yet.
    is_told = newest is None or bool(newest.resume_instructions) or use is not Use.ALWAYS
    if repo.tree_sha(snapshot.commit) == known and is_told:
        return None
    told = run.checkpoints.exclude(resume_instructions="").order_by("-seq").first()
    resume = "" if use is Use.NEVER else f"{INTERRUPTED}\n\n{told.resume_instructions if told else ''}".strip()
    if use is Use.IF_INTERRUPTED:
        return _record(run, snapshot, "", by=by, now=now, state={_RESUME: resume})
    return _record(run, snapshot, resume, by=by, now=now)


def _snapshot(run: Run) -> Snapshot:
    seq = run.checkpoints.count() + 1
    return repository(run.project_id).checkpoint(str(run.pk), run_directory(run.pk) / "workspace", seq=seq)


def _record(
    run: Run,
    snapshot: Snapshot,
    instructions: str,
    *,
    by: Actor,
    now: datetime,
    state: Mapping[str, str] = MappingProxyType({}),
) -> Checkpoint:
    with audit.journal(by=by, now=now) as journal:
        checkpoint = Checkpoint.objects.create(
            id=new_id(),
            agent_id=run.agent_id,
            run=run,
            seq=int(snapshot.ref.rpartition("/")[2]),
            state={"commit": snapshot.commit, "tip": snapshot.tip, "progress": run.task.progress, **state},
            file_snapshot=snapshot.ref,
            resume_instructions=storable_text(instructions, max_chars=20_000),
            created_at=now,
        )
        journal.add(
            "checkpoint.saved",
            project_id=run.project_id,
            agent_id=run.agent_id,
            obj=checkpoint,
            details={"commit": snapshot.commit, "run": run.pk},
        )
    return checkpoint
