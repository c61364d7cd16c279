"""The admin of a rehearsal: takes the recommended option of whatever is asked, and gives up where it does not help."""

from datetime import datetime
from uuid import UUID

from projects.actions import approvals
from projects.actions.approvals import Decision
from projects.actors import Actor
from projects.errors import DomainError
from projects.models import Approval
from projects.queries import open_approvals
from projects.states import ApprovalKind

ADMIN = Actor.system("rehearsal")
# How often a stuck task is tried again before it is given up.
MAX_RETRIES = 2


def decide_all(project_id: UUID, *, demo: bool, now: datetime) -> list[tuple[Approval, str]]:
    """Decide what waits in a project, and return each decision with the option taken.

    With `demo` off, demos are left for later: who only wants a demo stops there.
    """
    taken = []
    for approval in open_approvals().filter(project=project_id):
        if approval.kind == ApprovalKind.DEMO and not demo:
            continue
        decision = _decision(approval)
        try:
            approvals.decide(approval.pk, decision, by=ADMIN, now=now)
        except DomainError:
            # Somebody else decided it a moment ago.
            continue
        taken.append((approval, decision.option))
    return taken


def _decision(approval: Approval) -> Decision:
    match approval.kind:
        case ApprovalKind.QUESTION:
            return Decision("answer", answers=[_answer(question) for question in approval.questions])
        case ApprovalKind.BLOCKED_TASK if _times_asked(approval) > MAX_RETRIES:
            return Decision("give_up", comment="The rehearsal tried it often enough.")
        case ApprovalKind.BUDGET:
            return Decision("stop", comment="A rehearsal does not raise its budget.")
        case _:
            return Decision(approval.recommended)


def _answer(question: dict[str, object]) -> str:
    return str(question.get("recommended") or "Decide as you think best.")


def _times_asked(approval: Approval) -> int:
    return Approval.objects.filter(kind=approval.kind, subject_id=approval.subject_id).count()
