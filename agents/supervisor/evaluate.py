"""From an agent's claim to a merged commit: collect, check the paths, merge, verify the merge, move main.

Main only ever moves to a commit that was checked out clean, tested and started by the platform itself.
"""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

from agents.actions import changes, outcomes, runs
from agents.actions.runs import Ending
from agents.models import Run, Verification
from agents.observations import facts_of, observe
from agents.roles import policy_of
from agents.sandboxes import repository
from agents.states import RunStatus
from agents.supervisor import gate
from agents.supervisor.connections import give_back
from agents.supervisor.workplace import Workplace, author_of
from agents.workspace.errors import CloneError, MainMoved, MergeConflict
from agents.workspace.paths import PathPolicy
from agents.workspace.values import Collected, MergeCandidate, Violation
from projects.states import TaskKind

# Each time main moved meanwhile the merge is verified anew; a busy project settles long before this.
MAX_MERGES = 20
MAX_CONFLICTS = 5
# Work on the product must leave an application that starts; documents may come before there is one.
_NEEDS_APP = frozenset({TaskKind.DEMO, TaskKind.BUILD, TaskKind.STEP})


class _Refused(Exception):
    """The change cannot be merged; carries how the run ends, and which rules refused it if they did."""

    def __init__(self, reason: str, detail: str, violations: Sequence[Violation] = (), **context: Any) -> None:
        self.violations = violations
        self.ending = Ending(RunStatus.FAILED, reason, detail, context, counts=context.pop("counts", True))
        super().__init__(reason)


def evaluate(place: Workplace, *, clock: Callable[[], datetime], check: Callable[[], None]) -> None:
    """Take in what the run's agent left, and complete or fail the run. The agent's process must be gone.

    `check` raises when the run does not belong to this supervisor any more or is not wanted any more; it is asked
    before every step that others see. May be called again after a step that broke off, such as by a database that
    went away: it goes on from what the run's row says.
    """
    run = place.run
    try:
        if run.status == RunStatus.MERGING and (result := _moved_already(run)):
            outcomes.deliver(run, result, now=clock())
            return
        collected = _collect(place)
        check()
        _begin(run, collected, clock())
        result = _merge(run, collected, clock=clock, check=check)
        outcomes.deliver(run, result, now=clock())
    except _Refused as refused:
        check()
        if refused.violations:
            changes.refuse_change(run, refused.ending, refused.violations, now=clock())
        else:
            runs.fail(run, refused.ending, now=clock())


def _moved_already(run: Run) -> dict[str, Any] | None:
    """Return the result of a run that moved main before it broke off."""
    return (
        {"commit": run.merge_commit, "changed": []} if repository(run.project_id).is_merged(run.merge_commit) else None
    )


def _begin(run: Run, collected: Collected, now: datetime) -> None:
    match run.status:
        case RunStatus.RUNNING:
            runs.begin_evaluation(run, commit=collected.commit, now=now)
        case RunStatus.MERGING:
            runs.merge_again(run, now=now)


def _collect(place: Workplace) -> Collected:
    run, repo = place.run, repository(place.run.project_id)
    try:
        collected = repo.collect(str(run.pk), place.clone, author=author_of(run), message=_message(run))
    except CloneError as error:
        raise _refused("clone_refused", [gate.of_clone(error)]) from error
    if collected.empty and run.task.kind == TaskKind.DEMO:
        detail = "The demo was submitted, but nothing was changed or committed."
        raise _Refused("no_change", detail, failure={"reason": "no_change", "detail": detail})
    policy = policy_of(run).path_policy
    _check(gate.violations_of(run.project_id, collected, policy=policy))
    return collected


def _check(violations: list[Violation]) -> None:
    if violations:
        raise _refused(gate.reason_of(violations), violations)


def _refused(reason: str, violations: list[Violation]) -> _Refused:
    told = gate.told(reason, violations)
    return _Refused(reason, told["failure"]["detail"], violations, **told)


def _merge(
    run: Run,
    collected: Collected,
    *,
    clock: Callable[[], datetime],
    check: Callable[[], None],
) -> dict[str, Any]:
    """Merge a change into main and return the task's result. A change of nothing only needs a main that works."""
    repo = repository(run.project_id)
    if collected.empty:
        return {"commit": repo.head(), "changed": []}
    for _ in range(MAX_MERGES):
        candidate = _candidate(run, _message(run))
        _verify(run, candidate, clock=clock)
        check()
        runs.begin_merge(run, merge_commit=candidate.commit, now=clock())
        try:
            repo.advance_main(expected_old=candidate.parent, new=candidate.commit)
        except MainMoved:
            runs.merge_again(run, now=clock())
            continue
        return {"commit": candidate.commit, "changed": list(collected.changed[:200])}
    raise _Refused("main_busy", "Main kept moving while the change was verified.", counts=False)


def _message(run: Run) -> str:
    """What the platform's own commits of a run say: the task, and that its model was only the rehearsal's."""
    model = "\nModel: rehearsal" if run.rehearsal else ""
    return f"{run.task.title}\n\nTask: {run.task.key}\nRun: {run.pk}{model}"


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


def _verify(run: Run, candidate: MergeCandidate, *, clock: Callable[[], datetime]) -> None:
    """Verify the merged commit and keep what was seen."""
    if not candidate.fast_forward:
        # Two changes may each be right and yet make names that some file systems cannot keep apart.
        repo = repository(run.project_id)
        _check(repo.check_paths(candidate.parent, candidate.commit, policy=PathPolicy(("**",))))
    facts = _seen_before(run, candidate.commit) or _observe(run, candidate.commit)
    runs.record_verification(run.project, run, Verification.Purpose.MERGE, facts, now=clock())
    if not facts["passed"]:
        detail = f"{facts['detail']}\n{facts['test_output'] or facts['start_output']}".strip()
        raise _Refused(facts["reason"], detail, failure={"reason": facts["reason"], "detail": detail[-4_000:]})


def _observe(run: Run, commit: str) -> dict[str, Any]:
    give_back()
    needs_app = run.task.kind in _NEEDS_APP
    return facts_of(observe(run.project, commit, name=f"check-{run.pk.hex}", require_app=needs_app))


def _seen_before(run: Run, commit: str) -> dict[str, Any] | None:
    """Return what was seen of the very same files, if they passed, and under no easier conditions."""
    passed = Verification.objects.filter(
        project=run.project_id,
        tree=repository(run.project_id).tree_sha(commit),
        purpose=Verification.Purpose.MERGE,
        passed=True,
    )
    if run.task.kind in _NEEDS_APP:
        passed = passed.filter(run__task__kind__in=_NEEDS_APP)
    earlier = passed.order_by("-created_at").first()
    if earlier is None:
        return None
    kept = ("tree", "passed", "reason", "tests_run", "test_output", "test_output_sha256", "start_output")
    facts = {name: getattr(earlier, name) for name in kept}
    detail = f"Its files are those of {earlier.commit[:12]}, which passed before."
    return facts | {"commit": commit, "detail": detail, "duration_s": 0}
