"""From an agent's claim to a merged commit: collect, check the paths, merge, verify the merge, move main.

Main only ever moves to a commit that was checked out clean, tested and started by the platform itself.
"""

from collections.abc import Callable
from datetime import datetime
from typing import Any

from agents.actions import outcomes, runs
from agents.actions.runs import Ending
from agents.models import Run, Verification
from agents.observations import facts_of, observe
from agents.roles import ROLES
from agents.sandboxes import repository
from agents.states import RunStatus
from agents.supervisor.workplace import Workplace, author_of
from agents.workspace.errors import CloneError, MainMoved, MergeConflict
from agents.workspace.values import Collected, MergeCandidate
from projects.roles import Role
from projects.states import TaskKind

# Each time main moved meanwhile the merge is verified anew; a busy project settles long before this.
MAX_MERGES = 20
MAX_CONFLICTS = 5
# Work on the product must leave an application that starts; documents may come before there is one.
_NEEDS_APP = frozenset({TaskKind.DEMO, TaskKind.BUILD})


class _Refused(Exception):
    """The change cannot be merged; carries how the run ends."""

    def __init__(self, reason: str, detail: str, **context: Any) -> None:
        self.ending = Ending(RunStatus.FAILED, reason, detail, context, counts=context.pop("counts", True))
        super().__init__(reason)


def evaluate(place: Workplace, *, clock: Callable[[], datetime], check_lease: Callable[[], None]) -> None:
    """Take in what the run's agent left, and complete or fail the run. The agent's process must be gone.

    `check_lease` raises when the run does not belong to this supervisor any more; it is asked before every step that
    others see.
    """
    run = place.run
    try:
        collected = _collect(place)
        check_lease()
        runs.begin_evaluation(run, commit=collected.commit, now=clock())
        result = _merge(run, collected, clock=clock, check_lease=check_lease)
        outcomes.deliver(run, result, now=clock())
    except _Refused as refused:
        check_lease()
        runs.fail(run, refused.ending, now=clock())


def _collect(place: Workplace) -> Collected:
    run, repo = place.run, repository(place.run.project_id)
    try:
        collected = repo.collect(str(run.pk), place.clone, author=author_of(run))
    except CloneError as error:
        raise _Refused(
            "clone_refused", str(error), failure={"reason": "clone_refused", "detail": str(error)}
        ) from error
    if collected.empty and run.task.kind == TaskKind.DEMO:
        detail = "The demo was submitted, but nothing was changed or committed."
        raise _Refused("no_change", detail, failure={"reason": "no_change", "detail": detail})
    policy = ROLES[Role(run.task.role)].path_policy
    violations = repo.check_paths(collected.base, collected.commit, policy=policy)
    if violations:
        detail = "\n".join(violation.sentence for violation in violations[:20])
        raise _Refused("paths_refused", detail, failure={"reason": "paths_refused", "detail": detail})
    return collected


def _merge(
    run: Run,
    collected: Collected,
    *,
    clock: Callable[[], datetime],
    check_lease: Callable[[], None],
) -> dict[str, Any]:
    """Merge a change into main and return the task's result. A change of nothing only needs a main that works."""
    repo = repository(run.project_id)
    if collected.empty:
        return {"commit": repo.head(), "changed": []}
    message = f"{run.task.title}\n\nTask: {run.task.key}\nRun: {run.pk}"
    for _ in range(MAX_MERGES):
        candidate = _candidate(run, message)
        _check(run, candidate, clock=clock)
        check_lease()
        runs.begin_merge(run, merge_commit=candidate.commit, now=clock())
        try:
            repo.advance_main(expected_old=candidate.parent, new=candidate.commit)
        except MainMoved:
            runs.merge_again(run, now=clock())
            continue
        return {"commit": candidate.commit, "changed": list(collected.changed[:200])}
    raise _Refused("main_busy", "Main kept moving while the change was verified.", counts=False)


def _candidate(run: Run, message: str) -> MergeCandidate:
    try:
        return repository(run.project_id).merge(str(run.pk), message, author=author_of(run))
    except MergeConflict as conflict:
        seen = run.task.context.get("conflicts", 0) + 1
        told = {"paths": list(conflict.paths), "detail": conflict.detail}
        # Nobody's fault, so it costs no attempt, within reason.
        raise _Refused(
            "conflict",
            f"Others changed the same places: {', '.join(conflict.paths[:10])}.",
            conflict=told,
            conflicts=seen,
            counts=seen > MAX_CONFLICTS,
        ) from conflict


def _check(run: Run, candidate: MergeCandidate, *, clock: Callable[[], datetime]) -> None:
    """Verify the merged commit and keep what was seen."""
    seen = observe(run.project, candidate.commit, name=f"check-{run.pk.hex}", require_app=run.task.kind in _NEEDS_APP)
    runs.record_verification(run.project, run, Verification.Purpose.MERGE, facts_of(seen), now=clock())
    if not seen.passed:
        detail = f"{seen.detail}\n{seen.test_output_tail or seen.start_output_tail}".strip()
        raise _Refused(seen.reason, detail, failure={"reason": seen.reason, "detail": detail[-4_000:]})
