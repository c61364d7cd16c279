"""Asking people, and what they decide."""

from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from django.db import DatabaseError, connection, transaction

from projects.actions import approvals, tasks
from projects.actions.approvals import DEADLINE, OPTIONS, Decision
from projects.actors import Actor
from projects.errors import IllegalTransition, InvalidDecision, ProjectNotActive
from projects.ids import new_id
from projects.models import Approval, AuditLog, ChatMessage, Correction, Notification, Project
from projects.states import OPEN_APPROVAL, ApprovalKind, ApprovalStatus
from tests.factories import NOW, TESTER, ApprovalFactory, ProjectFactory, TaskFactory, UserFactory
from tests.projects import lives

pytestmark = pytest.mark.django_db


def ask(kind: ApprovalKind = ApprovalKind.PLAN, title: str = "Plan 1") -> Approval:
    return approvals.ask(ProjectFactory(), kind, subject_id=new_id(), title=title, by=TESTER, now=NOW)


@pytest.mark.parametrize("kind", ApprovalKind)
def test_asked_decision_recommends_its_first_option_and_has_a_deadline(kind: ApprovalKind) -> None:
    approval = ask(kind)
    assert approval.recommended == approval.options[0]["value"] == OPTIONS[kind][0].value
    assert approval.deadline_at == NOW + DEADLINE


def test_asking_notifies_with_a_way_to_decide() -> None:
    approval = ask()
    told = Notification.objects.get()
    assert (told.level, told.title) == ("action", "Plan 1")
    assert told.actions == [{"label": "Decide", "url": f"/approvals/{approval.pk}/"}]


def test_asked_text_is_safe_to_store() -> None:
    approval = ask(title="\x00" + "x" * 300)
    approval.refresh_from_db()
    assert len(approval.title) == 255


def test_same_thing_is_asked_once() -> None:
    approval = ask()
    with pytest.raises(DatabaseError, match="approval_open_once_per_subject"), transaction.atomic():
        approvals.ask(approval.project, ApprovalKind.PLAN, subject_id=approval.subject_id, title="", by=TESTER, now=NOW)


@pytest.mark.parametrize("kind", ApprovalKind)
def test_every_kind_has_a_handler(kind: ApprovalKind) -> None:
    assert kind in approvals._handlers


def test_decision_says_who_and_when() -> None:
    user = UserFactory()
    approval = lives.planned()
    approvals.decide(approval.pk, Decision("approve"), by=Actor.person(user), now=NOW)
    approval.refresh_from_db()
    assert (approval.status, approval.decided_by, approval.decided_at) == ("approved", user, NOW)
    row = AuditLog.objects.get(action="approval.decided")
    assert (row.actor_name, row.details["option"]) == (user.username, "approve")


def test_decision_is_told_in_the_chat() -> None:
    approval = lives.planned()
    lives.decide(approval, "amend", "Smaller steps.")
    line = ChatMessage.objects.get(approval=approval)
    assert line.body == f"**Ask for changes**: {approval.title}\n\nSmaller steps."


@pytest.mark.parametrize(("option", "count"), [("approve", 0), ("amend", 1), ("reject", 1)])
def test_correction_is_kept_of_what_is_not_approved(option: str, count: int) -> None:
    approval = lives.planned()
    lives.decide(approval, option, "Mind the \x00.")
    assert Correction.objects.filter(approval=approval, text="Mind the \N{REPLACEMENT CHARACTER}.").count() == count


@pytest.mark.parametrize("kind", ApprovalKind)
def test_option_that_is_not_offered_is_refused(kind: ApprovalKind) -> None:
    approval = ask(kind)
    with pytest.raises(InvalidDecision, match="is not offered here"):
        lives.decide(approval, "perhaps")
    assert Approval.objects.get(pk=approval.pk).status == ApprovalStatus.PENDING


@pytest.mark.parametrize(
    ("kind", "option"),
    [(kind, option.value) for kind, options in OPTIONS.items() for option in options if option.needs_comment],
)
@pytest.mark.parametrize("comment", ["", " \n"])
def test_option_that_needs_a_comment_is_refused_without(kind: ApprovalKind, option: str, comment: str) -> None:
    with pytest.raises(InvalidDecision, match="needs a comment"):
        lives.decide(ask(kind), option, comment)


@pytest.mark.parametrize(
    "answers", [[], ["Two weeks."], ["Two weeks.", " "], ["", "Two weeks.", "Five."], ["1", "2", "3"]]
)
def test_questions_are_answered_all_or_not_at_all(answers: list[str]) -> None:
    task = TaskFactory(kind="requirements", status="in_progress")
    two = [{"question": "How long?"}, {"question": "How many?"}]
    approval = tasks.ask_questions(task, two, by=TESTER, now=NOW)
    with pytest.raises(InvalidDecision, match="Answer every question"):
        lives.decide(approval, "answer", answers=answers)
    assert Approval.objects.get(pk=approval.pk).answers == []


@pytest.mark.parametrize("status", sorted(set(ApprovalStatus) - OPEN_APPROVAL))
def test_what_is_closed_is_not_decided_again(status: str) -> None:
    approval = ApprovalFactory(status=status)
    with pytest.raises(IllegalTransition):
        lives.decide(approval, "approve")
    assert Approval.objects.get(pk=approval.pk).status == status


def test_unknown_approval_is_refused() -> None:
    with pytest.raises(Approval.DoesNotExist):
        approvals.decide(new_id(), Decision("approve"), by=TESTER, now=NOW)


def test_decision_whose_consequence_fails_is_not_taken() -> None:
    approval = lives.planned()
    Project.objects.filter(pk=approval.project_id).update(status="paused", paused_from="planning")
    with pytest.raises(ProjectNotActive):
        lives.decide(approval, "approve")
    approval.refresh_from_db()
    assert (approval.status, approval.decided_at) == ("pending", None)
    assert not AuditLog.objects.filter(action="approval.decided").exists()


def test_withdrawn_question_says_why() -> None:
    approval = ask()
    approvals.withdraw([approval], reason="project_cancelled", by=TESTER, now=NOW)
    approval.refresh_from_db()
    assert (approval.status, approval.comment, approval.decided_at) == ("expired", "project_cancelled", NOW)


def test_decided_question_is_not_withdrawn() -> None:
    approval = ApprovalFactory(status="approved")
    with pytest.raises(IllegalTransition):
        approvals.withdraw([approval], reason="", by=TESTER, now=NOW)


def test_overdue_decision_is_escalated_once() -> None:
    approval = lives.planned()
    late = NOW + DEADLINE
    assert approvals.escalate_overdue(by=TESTER, now=late - timedelta(seconds=1)) == 0
    assert approvals.escalate_overdue(by=TESTER, now=late) == 1
    assert approvals.escalate_overdue(by=TESTER, now=late) == 0
    approval.refresh_from_db()
    assert (approval.status, approval.decided_at) == ("escalated", None)
    assert Notification.objects.filter(level="warning").count() == 1


def question(*recommended: str) -> Approval:
    task = TaskFactory(status="in_progress", project__status="building")
    asked = [
        {"question": f"Which {number}?", "options": [], "recommended": one} for number, one in enumerate(recommended)
    ]
    return tasks.ask_questions(task, asked, by=TESTER, now=NOW)


def test_recommended_answers_are_taken_when_nobody_answers_in_time() -> None:
    approval = question("blue", "large")
    assert approval.default_option == "answer"
    late = NOW + DEADLINE
    assert approvals.take_defaults(by=TESTER, now=late - timedelta(seconds=1)) == 0
    assert approvals.take_defaults(by=TESTER, now=late) == 1
    assert approvals.take_defaults(by=TESTER, now=late) == 0
    approval.refresh_from_db()
    assert (approval.status, approval.answers, approval.decided_by) == ("approved", ["blue", "large"], None)
    assert "Nobody answered in time" in approval.comment
    task = approval.task
    assert task is not None
    assert (task.status, [told["answer"] for told in task.context["questions"]]) == ("ready", ["blue", "large"])
    assert AuditLog.objects.filter(action="approval.decided", object_id=str(approval.pk)).count() == 1


def test_a_default_that_cannot_be_taken_does_not_keep_the_others() -> None:
    broken, other = question("blue"), question("green")
    Approval.objects.filter(pk=broken.pk).update(task=None)

    assert approvals.take_defaults(by=TESTER, now=NOW + DEADLINE) == 1

    other.refresh_from_db()
    assert (other.status, other.answers) == ("approved", ["green"])


def test_a_default_that_times_out_does_not_keep_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    slow, other = question("blue"), question("green")
    decide = approvals.decide

    def times_out(approval_id: UUID, *args: Any, **kwargs: Any) -> Approval:
        with transaction.atomic(), connection.cursor() as cursor:
            if approval_id == slow.pk:
                cursor.execute("SET LOCAL statement_timeout = 1")
                cursor.execute("SELECT pg_sleep(5)")
            return decide(approval_id, *args, **kwargs)

    monkeypatch.setattr(approvals, "decide", times_out)
    Approval.objects.filter(pk=slow.pk).update(deadline_at=NOW)

    assert approvals.take_defaults(by=TESTER, now=NOW + DEADLINE) == 1

    assert [Approval.objects.get(pk=one.pk).status for one in (slow, other)] == ["pending", "approved"]


def test_question_without_a_recommended_answer_waits_for_a_person() -> None:
    approval = question("blue", " ")
    assert approval.default_option == ""
    assert approvals.take_defaults(by=TESTER, now=NOW + DEADLINE) == 0
    assert approvals.escalate_overdue(by=TESTER, now=NOW + DEADLINE) == 1


@pytest.mark.parametrize("kind", set(ApprovalKind) - {ApprovalKind.QUESTION})
def test_what_spends_or_gives_up_something_has_no_default(kind: ApprovalKind) -> None:
    assert ask(kind).default_option == ""
    assert approvals.take_defaults(by=TESTER, now=NOW + DEADLINE) == 0


def test_escalated_decision_can_still_be_taken() -> None:
    approval = lives.planned()
    approvals.escalate_overdue(by=TESTER, now=NOW + DEADLINE)
    assert lives.decide(approval, "approve").status == ApprovalStatus.APPROVED
