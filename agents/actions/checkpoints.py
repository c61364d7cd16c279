"""Keeping the state of a run's work."""

from datetime import datetime

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


def save(run: Run, instructions: str, *, by: Actor, now: datetime) -> Checkpoint:
    """Keep a snapshot of a run's clone as its agent asks: its commits and the files as they are.

    `instructions` are for whoever goes on. Raises WorkspaceError.
    """
    return _record(run, _snapshot(run), instructions, by=by, now=now)


def keep(run: Run, *, by: Actor, now: datetime, resumes: bool = False) -> Checkpoint | None:
    """Keep what an unfinished run left, unless that is nothing new. Raises WorkspaceError.

    No run goes on from it, unless it `resumes`: for work that was interrupted, and not for what led to nothing.
    """
    if not run.base_commit:
        return None
    repo = repository(run.project_id)
    newest = run.checkpoints.order_by("-seq").first()
    known = repo.tree_sha(newest.state["commit"] if newest else run.base_commit)
    snapshot = _snapshot(run)
    if repo.tree_sha(snapshot.commit) == known:
        return None
    told = (newest.resume_instructions if newest else "") if resumes else ""
    return _record(run, snapshot, f"{INTERRUPTED}\n\n{told}".strip() if resumes else "", by=by, now=now)


def _snapshot(run: Run) -> Snapshot:
    seq = run.checkpoints.count() + 1
    return repository(run.project_id).checkpoint(str(run.pk), run_directory(run.pk) / "workspace", seq=seq)


def _record(run: Run, snapshot: Snapshot, instructions: str, *, by: Actor, now: datetime) -> Checkpoint:
    with audit.journal(by=by, now=now) as journal:
        checkpoint = Checkpoint.objects.create(
            id=new_id(),
            agent_id=run.agent_id,
            run=run,
            seq=int(snapshot.ref.rpartition("/")[2]),
            state={"commit": snapshot.commit, "tip": snapshot.tip, "progress": run.task.progress},
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
