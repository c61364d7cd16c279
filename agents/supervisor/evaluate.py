"""From an agent's claim to a merged commit: collect, check the paths, merge, verify the merge, move main.

Main only ever moves to a commit that was checked out clean, tested and started by the platform itself.
"""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

from agents.actions import changes, outages, outcomes, runs
from agents.actions.runs import Ending
from agents.merging.batch import FailedCheck, MainBusy
from agents.models import Run
from agents.roles import policy_of
from agents.sandboxes import repository
from agents.states import RunStatus
from agents.supervisor import gate, merge
from agents.supervisor.verdicts import Collision, Conflict
from agents.supervisor.workplace import Workplace, author_of
from agents.workspace.errors import CloneError
from agents.workspace.values import Collected, Violation
from projects.states import TaskKind

MAX_CONFLICTS = 5
MAX_BUSY = 5


class _Refused(Exception):
    """The change cannot be merged; carries how the run ends, and which rules refused it if they did."""

    def __init__(self, reason: str, detail: str, violations: Sequence[Violation] = (), **context: Any) -> None:
        self.violations = violations
        self.ending = Ending(RunStatus.FAILED, reason, detail, context, counts=context.pop("counts", True))
        super().__init__(reason)


class _Conflicting(_Refused):
    """The change and main touch the same places."""


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
        if isinstance(refused, _Conflicting):
            outcomes.conflict(run, refused.ending, now=clock())
        elif refused.violations:
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
        collected = repo.collect(str(run.pk), place.clone, author=author_of(run), message=merge.message_of(run))
    except CloneError as error:
        raise _refused("clone_refused", [gate.of_clone(error)]) from error
    if collected.empty and run.task.kind == TaskKind.DEMO:
        detail = "The demo was submitted, but nothing was changed or committed."
        raise _Refused("no_change", detail, failure={"reason": "no_change", "detail": detail})
    if run.task.kind == TaskKind.CONFLICT:
        _check_resolved(run, collected)
    policy = policy_of(run).path_policy
    _check(gate.violations_of(run.project_id, collected, policy=policy))
    return collected


def _check_resolved(run: Run, collected: Collected) -> None:
    """A conflict is resolved by a commit that has both changes, and no marker of Git's in the files."""
    told, repo = run.task.context["conflict"], repository(run.project_id)
    if not repo.contains(collected.commit, told["commit"]):
        detail = "The history was made anew: build on the commit that you were given, which has both changes."
        raise _Refused("unresolved", detail, failure={"reason": "unresolved", "detail": detail})
    before = (collected.base, told["commit"])
    if marked := repo.marked(collected.commit, collected.changed, conflicting=told["paths"], before=before):
        detail = f"There are still conflict markers in {', '.join(marked[:10])}."
        raise _Refused("unresolved", detail, failure={"reason": "unresolved", "detail": detail})


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
    if collected.empty and run.task.kind != TaskKind.CONFLICT:
        return {"commit": repository(run.project_id).head(), "changed": []}
    try:
        landed = merge.bring(run, clock=clock, check=check)
    except Conflict as conflict:
        raise _conflicting(run, collected, conflict) from conflict
    except Collision as collision:
        raise _refused(gate.reason_of(collision.violations), collision.violations) from collision
    except FailedCheck as failed:
        raise _failing(merge.record(run, failed.seen, now=clock())) from failed
    except MainBusy as busy:
        counts = outages.in_a_row(run, "main_busy", most=MAX_BUSY) >= MAX_BUSY
        raise _Refused("main_busy", "Main kept moving while the change was verified.", counts=counts) from busy
    return {"commit": landed.commit, "changed": list(collected.changed[:200])}


def _conflicting(run: Run, collected: Collected, conflict: Conflict) -> _Refused:
    """A task of its own is what resolves it (`outcomes.conflict`); it goes through the queue as all do."""
    seen = run.task.context.get("conflicts", 0) + 1
    found = conflict.found
    told = {"paths": list(found.paths), "detail": found.detail, "main": conflict.main, "commit": collected.commit}
    before = run.task.context.get("conflict") or {}
    kept = {"task": before["task"]} if "task" in before else {}
    # Nobody's fault, so it costs no attempt, within reason.
    return _Conflicting(
        "conflict",
        f"Others changed the same places: {', '.join(found.paths[:10])}.",
        conflict=told | {"run": str(run.pk)} | kept,
        conflicts=seen,
        counts=seen > MAX_CONFLICTS,
    )


def _failing(facts: dict[str, Any]) -> _Refused:
    detail = f"{facts['detail']}\n{facts['test_output'] or facts['start_output']}".strip()
    return _Refused(facts["reason"], detail, failure={"reason": facts["reason"], "detail": detail[-4_000:]})
