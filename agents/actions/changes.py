"""What becomes of a change that may not be part of main."""

from collections.abc import Sequence
from datetime import datetime

from agents.actions import runs
from agents.actions.runs import Ending
from agents.models import Run
from agents.workspace.values import Violation
from projects import audit

MOST_KEPT = 20


def refuse_change(run: Run, ending: Ending, violations: Sequence[Violation], *, now: datetime) -> None:
    """End a run whose change is refused, and keep by which rules and where. What a file holds is not kept."""
    with audit.journal(by=runs.SUPERVISOR, now=now) as journal:
        kept = [{"rule": one.rule, "path": one.path[:200]} for one in violations[:MOST_KEPT]]
        details = {"reason": ending.reason, "violations": kept, "count": len(violations)}
        journal.add("change.refused", project_id=run.project_id, agent_id=run.agent_id, obj=run, details=details)
        runs.fail(run, ending, now=now)
