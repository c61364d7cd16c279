"""Decisions asked of a person: asking, deciding, expiring.

What follows a decision depends on its kind. Each kind has one handler, registered by the app that owns the subject
(`register`), run in the deciding transaction.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from projects import audit
from projects.actions.chat import notify, post_message
from projects.actors import Actor
from projects.defaults import RULES, SETTING, WAIT, without_answer
from projects.errors import DomainError, InvalidDecision, StaleState
from projects.ids import new_id
from projects.jsontext import storable_json, storable_text
from projects.models import Approval, Correction, Notification, Project, Task
from projects.states import APPROVAL_TRANSITIONS, ApprovalKind, ApprovalStatus
from projects.sweeping import is_away
from projects.transitions import step

logger = logging.getLogger(__name__)

DEADLINE = timedelta(days=7)
_BY_DEFAULT = {
    ApprovalKind.QUESTION: "Nobody answered in time: the recommended answers were taken.",
    ApprovalKind.PLAN: "Nobody decided in time: approved, as an admin chose for this project.",
    ApprovalKind.DEMO: "Nobody decided in time: approved, as an admin chose for this project.",
    ApprovalKind.BLOCKED_TASK: "Nobody decided in time: tried again, as an admin chose for this project.",
}


@dataclass(frozen=True)
class Decision:
    """What a person said: the option's value, a comment, and for questions the answers in their order.

    `by_default` is for what nobody said: the deadline passed.
    """

    option: str
    comment: str = ""
    answers: Sequence[str] = field(default_factory=tuple)
    by_default: bool = False


@dataclass(frozen=True)
class Option:
    """One possible answer. `status` is what the approval becomes, `needs_comment` whether why must be said."""

    value: str
    label: str
    status: ApprovalStatus
    needs_comment: bool = False


APPROVE = Option("approve", "Approve", ApprovalStatus.APPROVED)
OPTIONS: dict[ApprovalKind, tuple[Option, ...]] = {
    ApprovalKind.PLAN: (
        APPROVE,
        Option("amend", "Ask for changes", ApprovalStatus.AMENDED, needs_comment=True),
        Option("reject", "Reject", ApprovalStatus.REJECTED, needs_comment=True),
    ),
    ApprovalKind.DEMO: (
        APPROVE,
        Option("amend", "Ask for changes", ApprovalStatus.AMENDED, needs_comment=True),
        Option("reject", "Reject", ApprovalStatus.REJECTED, needs_comment=True),
    ),
    ApprovalKind.QUESTION: (Option("answer", "Answer", ApprovalStatus.APPROVED),),
    ApprovalKind.BLOCKED_TASK: (
        Option("retry", "Try again", ApprovalStatus.APPROVED),
        Option("give_up", "Give up the task", ApprovalStatus.REJECTED),
    ),
    ApprovalKind.BUDGET: (
        Option("raise", "Raise the limit", ApprovalStatus.APPROVED),
        Option("stop", "Stop the project", ApprovalStatus.REJECTED),
    ),
}

Handler = Callable[[Approval, Decision, Actor, datetime], None]
_handlers: dict[ApprovalKind, Handler] = {}


def register(kind: ApprovalKind, handler: Handler) -> None:
    """Have `handler(approval, decision, by, now)` act on decisions of this kind, in the deciding transaction."""
    _handlers[kind] = handler


def ask(
    project: Project,
    kind: ApprovalKind,
    *,
    subject_id: UUID,
    title: str,
    body: str = "",
    task: Task | None = None,
    questions: list[dict[str, Any]] | None = None,
    by: Actor,
    now: datetime,
) -> Approval:
    """Ask people for one decision; it shows in the inbox and as a notification. The first option is recommended.

    What is taken when nobody decides by the deadline is said by `projects.defaults`: mostly nothing, and it waits.
    """
    options = OPTIONS[kind]
    with audit.journal(by=by, now=now) as journal:
        approval = Approval.objects.create(
            id=new_id(),
            project=project,
            task=task,
            kind=kind,
            subject_id=subject_id,
            title=storable_text(title, max_chars=255),
            body=storable_text(body, max_chars=20_000),
            options=[{"value": option.value, "label": option.label} for option in options],
            questions=storable_json(questions or []),
            recommended=options[0].value,
            default_option=_default(project, kind, subject_id, questions or []),
            deadline_at=now + DEADLINE,
            created_at=now,
        )
        journal.add("approval.asked", project_id=project.pk, obj=approval, details={"kind": kind.value})
        link = {"label": "Decide", "url": f"/approvals/{approval.pk}/"}
        notify(project, level=Notification.Level.ACTION, title=approval.title, links=[link], by=by, now=now)
    return approval


def decide(approval_id: UUID, decision: Decision, *, by: Actor, now: datetime) -> Approval:
    """Take a decision and let its consequences follow, all in one transaction.

    Raises InvalidDecision for an option that is not offered or lacks its comment or answers, StaleState or
    IllegalTransition when it was decided before or its default was taken back, and what the consequence itself raises.
    """
    with audit.journal(by=by, now=now) as journal:
        # The project before the approval, as when a project is cancelled with all its questions: else both could
        # wait for each other.
        project_id = Approval.objects.values_list("project_id", flat=True).get(pk=approval_id)
        Project.objects.select_for_update(no_key=True).get(pk=project_id)
        approval = (
            Approval.objects.select_for_update(of=("self",)).select_related("project", "task").get(pk=approval_id)
        )
        if decision.by_default and not _is_default(approval, decision.option):
            raise StaleState(f"{approval} is not decided by default any more.")
        option = _check_option(approval, decision)
        step(
            approval,
            option.status,
            table=APPROVAL_TRANSITIONS,
            comment=storable_text(decision.comment, max_chars=20_000),
            answers=storable_json(list(decision.answers), max_chars=4_000),
            decided_at=now,
            decided_by_id=by.user_id,
        )
        if decision.comment and option.status in {ApprovalStatus.AMENDED, ApprovalStatus.REJECTED}:
            Correction.objects.create(
                id=new_id(),
                project=approval.project,
                approval=approval,
                text=approval.comment,
                created_at=now,
            )
        journal.add(
            "approval.decided",
            project_id=approval.project_id,
            obj=approval,
            details={"kind": approval.kind, "option": option.value, "comment": decision.comment}
            | ({"by_default": True} if decision.by_default else {}),
        )
        post_message(approval.project, _summary(approval, option), by=by, now=now, approval=approval)
        _handlers[ApprovalKind(approval.kind)](approval, decision, by, now)
    return approval


def withdraw(approvals: Sequence[Approval], *, reason: str, by: Actor, now: datetime) -> None:
    """End open questions that fell away, because their project or task did."""
    with audit.journal(by=by, now=now) as journal:
        for approval in approvals:
            step(
                approval,
                ApprovalStatus.EXPIRED,
                table=APPROVAL_TRANSITIONS,
                comment=reason,
                decided_at=now,
            )
            journal.add("approval.withdrawn", project_id=approval.project_id, obj=approval, details={"reason": reason})


def take_defaults(*, by: Actor, now: datetime) -> int:
    """Decide what has a default and was not decided in time, each in its transaction; return how many."""
    overdue = Approval.objects.filter(status=ApprovalStatus.PENDING, deadline_at__lte=now).exclude(default_option="")
    taken = 0
    for approval in list(overdue.order_by("deadline_at")):
        comment = _BY_DEFAULT[ApprovalKind(approval.kind)]
        answers = _recommended(approval.questions)
        said = Decision(approval.default_option, comment=comment, answers=answers, by_default=True)
        try:
            decide(approval.pk, said, by=by, now=now)
        except DomainError as error:  # a person was quicker, or its project stands still: then people are reminded
            logger.info("the default of approval %s was not taken: %s", approval.pk, error)
        except Exception as error:  # one that cannot be decided must not keep the others
            if is_away(error):
                raise
            logger.exception("the default of approval %s could not be taken", approval.pk)
        else:
            taken += 1
    return taken


def choose_without_answer(project: Project, chosen: dict[ApprovalKind, str], *, by: Actor, now: datetime) -> None:
    """Choose for a project what happens with decisions that nobody takes in time, those that wait already among them.

    Raises InvalidDecision for what a kind does not allow. Whose choice it is, is checked by the caller.
    """
    for kind, option in chosen.items():
        if option not in RULES[kind].choices:
            raise InvalidDecision(f"“{option}” cannot happen by itself to {kind.label.lower()}.")
    with audit.journal(by=by, now=now) as journal:
        locked = Project.objects.select_for_update(no_key=True).get(pk=project.pk)
        before = {kind.value: without_answer(locked, kind) for kind in chosen}
        locked.config[SETTING] = before | {kind.value: option for kind, option in chosen.items()}
        project.config = locked.config
        locked.save(update_fields=["config"])
        waiting = Approval.objects.select_for_update().filter(project=locked, status=ApprovalStatus.PENDING)
        for approval in waiting.order_by("pk"):
            kind = ApprovalKind(approval.kind)
            approval.default_option = _default(locked, kind, approval.subject_id, approval.questions)
            approval.save(update_fields=["default_option"])
        details = {"from": before, "to": locked.config[SETTING]}
        journal.add("project.without_answer", project_id=locked.pk, obj=locked, details=details)


def _default(project: Project, kind: ApprovalKind, subject_id: UUID, questions: Sequence[dict[str, Any]]) -> str:
    """Return the option that is taken at the deadline; none where a person has to say something."""
    option = without_answer(project, kind)
    if kind == ApprovalKind.QUESTION and not _recommended(questions):
        return WAIT
    if kind == ApprovalKind.BLOCKED_TASK and option != WAIT:
        # Never a second try of a second try.
        taken = Approval.objects.filter(kind=kind, subject_id=subject_id, status=ApprovalStatus.APPROVED)
        if taken.filter(default_option=option, decided_by__isnull=True).exists():
            return WAIT
    return option


def _is_default(approval: Approval, option: str) -> bool:
    """Whether this is what still happens by itself: an admin may have taken it back, or a person been reminded."""
    return approval.status == ApprovalStatus.PENDING and approval.default_option == option


def _recommended(questions: Sequence[dict[str, Any]]) -> tuple[str, ...]:
    """Return the answer that each question recommends; none where one recommends nothing."""
    found = tuple(str(question.get("recommended") or "").strip() for question in questions)
    return found if all(found) else ()


def escalate_overdue(*, by: Actor, now: datetime) -> int:
    """Remind people of what they did not decide in time. Nothing is decided for them here; work on it waits."""
    overdue = Approval.objects.select_for_update(skip_locked=True, of=("self",)).filter(
        status=ApprovalStatus.PENDING, deadline_at__lte=now
    )
    with audit.journal(by=by, now=now) as journal:
        found = list(overdue.select_related("project"))
        for approval in found:
            step(approval, ApprovalStatus.ESCALATED, table=APPROVAL_TRANSITIONS)
            journal.add("approval.escalated", project_id=approval.project_id, obj=approval)
            title = f"Still waits for you: {approval.title}"
            link = {"label": "Decide", "url": f"/approvals/{approval.pk}/"}
            notify(approval.project, level=Notification.Level.WARNING, title=title, links=[link], by=by, now=now)
    return len(found)


def _check_option(approval: Approval, decision: Decision) -> Option:
    offered = {option.value: option for option in OPTIONS[ApprovalKind(approval.kind)]}
    option = offered.get(decision.option)
    if option is None:
        raise InvalidDecision(f"“{decision.option}” is not offered here. Choose one of: {', '.join(offered)}.")
    if option.needs_comment and not decision.comment.strip():
        raise InvalidDecision(f"“{option.label}” needs a comment: say what should be different.", field="comment")
    # Whoever rejects need not answer, and a new limit may be said in a comment instead.
    is_said = approval.kind == ApprovalKind.BUDGET and decision.comment.strip()
    if option.status == ApprovalStatus.REJECTED or is_said:
        return option
    given = [bool(answer.strip()) for answer in decision.answers]
    if approval.questions and not (all(given) and len(given) == len(approval.questions)):
        raise InvalidDecision("Answer every question.")
    return option


def _summary(approval: Approval, option: Option) -> str:
    lines = [f"**{option.label}**: {approval.title}"]
    pairs = zip(approval.questions, approval.answers, strict=False)
    lines += [f"{pair[0]['question']}\n> {pair[1]}" for pair in pairs]
    if approval.comment:
        lines.append(approval.comment)
    return "\n\n".join(lines)
