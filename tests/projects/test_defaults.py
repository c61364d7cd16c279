"""What happens to decisions that nobody takes: mostly nothing, never money, and more only where an admin chose it."""

from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.db import IntegrityError, transaction
from django.test import Client
from django.urls import reverse

from projects import defaults
from projects.actions import approvals, tasks
from projects.actions.approvals import DEADLINE
from projects.actions.tasks import Setback
from projects.errors import InvalidDecision
from projects.ids import new_id
from projects.models import Approval, AuditLog, Project, Task
from projects.states import ApprovalKind
from tests.factories import NOW, TESTER, ApprovalFactory, ProjectFactory, TaskFactory, UserFactory
from tests.projects import lives

pytestmark = pytest.mark.django_db
LATE = NOW + DEADLINE


def choose(project: Project, kind: ApprovalKind, option: str) -> None:
    approvals.choose_without_answer(project, {kind: option}, by=TESTER, now=NOW)


def blocked(task: Task) -> Approval:
    tasks.block_task(task, Setback("stalled", "It hangs."), ask_person=True, by=TESTER, now=NOW)
    return task.approvals.get(status="pending")


def test_every_kind_has_a_rule_and_recommends_what_it_may_do_by_itself() -> None:
    assert set(defaults.RULES) == set(ApprovalKind)
    for kind, rule in defaults.RULES.items():
        offered = {option.value for option in approvals.OPTIONS[kind]}
        assert rule.shipped in rule.choices
        assert set(rule.choices) <= offered | {defaults.WAIT}
        assert set(rule.choices) <= set(defaults.LABELS)


def test_a_plan_waits_until_an_admin_chose_otherwise_for_its_project() -> None:
    approval = lives.planned()
    assert approvals.take_defaults(by=TESTER, now=LATE) == 0

    choose(approval.project, ApprovalKind.PLAN, "approve")
    assert approvals.take_defaults(by=TESTER, now=LATE) == 1

    approval.refresh_from_db()
    assert (approval.status, approval.decided_by) == ("approved", None)
    assert "as an admin chose" in approval.comment
    assert AuditLog.objects.get(action="approval.decided").details["by_default"] is True
    chosen = AuditLog.objects.get(action="project.without_answer").details
    assert (chosen["from"], chosen["to"]) == ({"plan": ""}, {"plan": "approve"})


def test_a_choice_is_taken_back_for_what_waits_too() -> None:
    approval = lives.planned()
    choose(approval.project, ApprovalKind.PLAN, "approve")
    choose(approval.project, ApprovalKind.PLAN, defaults.WAIT)
    assert approvals.take_defaults(by=TESTER, now=LATE) == 0


def test_a_choice_that_is_taken_back_while_defaults_are_taken_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    approval = lives.planned()
    choose(approval.project, ApprovalKind.PLAN, "approve")
    decide = approvals.decide

    def after_the_admin(*args: Any, **kwargs: Any) -> Approval:
        choose(approval.project, ApprovalKind.PLAN, defaults.WAIT)  # after it was found to be overdue
        return decide(*args, **kwargs)

    monkeypatch.setattr(approvals, "decide", after_the_admin)
    assert approvals.take_defaults(by=TESTER, now=LATE) == 0
    approval.refresh_from_db()
    assert (approval.status, approval.decided_at) == ("pending", None)


def test_a_blocked_task_is_tried_again_by_itself_once() -> None:
    task = TaskFactory(status="in_progress", project__status="building")
    choose(task.project, ApprovalKind.BLOCKED_TASK, "retry")
    assert blocked(task).default_option == "retry"
    assert approvals.take_defaults(by=TESTER, now=LATE) == 1

    task = lives.begin(task)
    assert blocked(task).default_option == defaults.WAIT


def test_money_is_never_granted_by_default() -> None:
    project = ProjectFactory(config={defaults.SETTING: {"budget": "raise"}})
    with pytest.raises(InvalidDecision):
        choose(project, ApprovalKind.BUDGET, "raise")
    asked = approvals.ask(project, ApprovalKind.BUDGET, subject_id=new_id(), title="More?", by=TESTER, now=NOW)
    assert asked.default_option == defaults.WAIT
    with pytest.raises(IntegrityError), transaction.atomic():
        Approval.objects.filter(pk=asked.pk).update(default_option="raise")


def test_admins_choose_and_others_see_it(client: Client) -> None:
    approval = ApprovalFactory(project=ProjectFactory())
    page = reverse("without_answer", args=[approval.project_id])
    client.force_login(UserFactory(is_superuser=True))
    assert page.encode() in client.get(reverse("approval", args=[approval.pk])).content
    assert client.post(page, {"plan": "approve", "budget": "raise"}).status_code == 302  # refused as a whole
    assert client.post(page, {"plan": "approve"}).status_code == 302
    assert defaults.without_answer(Project.objects.get(), ApprovalKind.PLAN) == "approve"
    assert b"it is approved on" in client.get(reverse("approval", args=[approval.pk])).content

    client.force_login(UserFactory())
    assert client.get(page).status_code == 200
    assert client.post(page, {"plan": ""}).status_code == 403
    assert b"<select" not in client.get(page).content


def test_the_page_of_messages_shows_the_table() -> None:
    assert defaults.table() in (Path(settings.BASE_DIR) / "docs" / "messages.md").read_text(encoding="utf-8")
