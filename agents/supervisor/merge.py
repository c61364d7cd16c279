"""A run's change on its way through the project's merge queue: what that needs of rows, repository and sandboxes."""

from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial
from typing import Any

from agents.actions import runs
from agents.merging.batch import Landed, Seen
from agents.models import Run, Verification
from agents.observations import facts_of, observe
from agents.sandboxes import repository
from agents.states import RunStatus
from agents.supervisor import queue, verdicts
from agents.supervisor.connections import give_back
from agents.supervisor.verdicts import Collision, Conflict, Observed
from agents.supervisor.workplace import author_of
from agents.workspace.errors import MergeConflict
from agents.workspace.paths import PathPolicy
from projects.states import TaskKind

Clock = Callable[[], datetime]

# Work on the product must leave an application that starts; documents may come before there is one.
_NEEDS_APP = frozenset({TaskKind.DEMO, TaskKind.BUILD, TaskKind.STEP, TaskKind.CONFLICT})
_KEPT = ("tree", "passed", "reason", "tests_run", "test_output", "test_output_sha256", "start_output")


def message_of(run: Run) -> str:
    """Return what the platform's own commits of a run say: the task, and that its model was only the rehearsal's."""
    model = "\nModel: rehearsal" if run.rehearsal else ""
    return f"{run.task.title}\n\nTask: {run.task.key}\nRun: {run.pk}{model}"


def bring(run: Run, *, clock: Clock, check: Callable[[], None]) -> Landed:
    """Have a run's collected change verified, alone or with others, and main moved to it.

    Raises Conflict, Collision, `batch.FailedCheck`, `batch.MainBusy` and what `check` raises.
    """
    confirm = partial(_confirm, run, clock=clock, check=check)
    return queue.bring(run, _Ground(run), confirm=confirm, check=check, clock=clock)


def record(run: Run, seen: Seen, *, now: datetime) -> dict[str, Any]:
    """Keep what was seen of the commit that a run's change led to, and return it."""
    facts = verdicts.facts_of(seen)
    runs.record_verification(run.project, run, Verification.Purpose.MERGE, facts, now=now)
    return facts


def _confirm(run: Run, commit: str, seen: Seen, *, clock: Clock, check: Callable[[], None]) -> None:
    """Write down that main is about to move, and where to for this run. Comes again when it did not."""
    if run.status == RunStatus.MERGING:
        runs.merge_again(run, now=clock())
    record(run, seen, now=clock())
    check()
    runs.begin_merge(run, merge_commit=commit, now=clock())


class _Ground:
    """The project of a run that leads a batch. Its name is that of the sandboxes in which commits are looked at."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._repository = repository(run.project_id)
        self.head = self._repository.head
        self.advance = self._repository.advance_main
        self.is_merged = self._repository.is_merged

    def merge(self, change: Run, onto: str) -> str:
        try:
            merged = self._repository.merge(str(change.pk), message_of(change), author=author_of(change), onto=onto)
        except MergeConflict as conflict:
            raise Conflict(conflict, onto) from conflict
        if not merged.fast_forward:
            violations = self._repository.check_paths(onto, merged.commit, policy=PathPolicy(("**",)))
            if violations:
                raise Collision(violations)
        return merged.commit

    def verify(self, commit: str, changes: Sequence[Run]) -> Observed:
        needs_app = any(change.task.kind in _NEEDS_APP for change in changes)
        facts = self._seen_before(commit, needs_app=needs_app) or self._look(commit, needs_app=needs_app)
        if len(changes) > 1:
            others = f"{len(changes) - 1} other change{'' if len(changes) == 2 else 's'}"
            facts["detail"] = f"{facts['detail']}\nLooked at together with {others}.".strip()
        return Observed(facts)

    def _look(self, commit: str, *, needs_app: bool) -> dict[str, Any]:
        give_back()
        return facts_of(observe(self._run.project, commit, name=f"check-{self._run.pk.hex}", require_app=needs_app))

    def _seen_before(self, commit: str, *, needs_app: bool) -> dict[str, Any] | None:
        """Return what was seen of the very same files, if they passed, and under no easier conditions."""
        passed = Verification.objects.filter(
            project=self._run.project_id,
            tree=self._repository.tree_sha(commit),
            purpose=Verification.Purpose.MERGE,
            passed=True,
        )
        if needs_app:
            passed = passed.filter(run__task__kind__in=_NEEDS_APP)
        earlier = passed.order_by("-created_at").first()
        if earlier is None:
            return None
        facts = {name: getattr(earlier, name) for name in _KEPT}
        detail = f"Its files are those of {earlier.commit[:12]}, which passed before."
        return facts | {"commit": commit, "detail": detail, "duration_s": 0}
