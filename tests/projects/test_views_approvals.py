"""The inbox: each decision in one place, taken once."""

import re
from decimal import Decimal

import pytest
from django.test import Client
from django.urls import reverse

from projects.models import Approval, Correction
from projects.states import ApprovalKind, ApprovalStatus, PlanStatus, ProjectStatus, TaskKind, TaskStatus
from tests.factories import ApprovalFactory, PlanFactory, ProjectFactory, TaskFactory, UserFactory

pytestmark = pytest.mark.django_db
QUESTIONS = [
    {"question": "By invoice?", "options": ["Yes", "No"], "recommended": "Yes"},
    {"question": "Which language?", "options": ["German", "English"], "recommended": "English"},
]


@pytest.fixture
def admin_in(client: Client) -> Client:
    client.force_login(UserFactory(username="asha", is_superuser=True))
    return client


def asked_plan() -> Approval:
    project = ProjectFactory()
    plan = PlanFactory(project=project)
    return ApprovalFactory(project=project, subject_id=plan.pk, title="Plan 1 of the boat house")


def asked_questions() -> Approval:
    task = TaskFactory(kind=TaskKind.REQUIREMENTS, key="requirements", role="pm", status=TaskStatus.BLOCKED)
    return ApprovalFactory(project=task.project, task=task, kind=ApprovalKind.QUESTION, questions=QUESTIONS)


def test_the_inbox_is_empty_in_words(admin_in: Client) -> None:
    assert b"Nothing needs you" in admin_in.get(reverse("approvals")).content


def test_the_inbox_shows_the_oldest_whole(admin_in: Client) -> None:
    asked = asked_plan()

    page = admin_in.get(reverse("approvals")).content.decode()

    assert f'id="ask-{asked.pk}"' in page
    assert page.count('class="dag__box"') == 2


def test_a_decision_that_was_never_asked_is_not_found(admin_in: Client) -> None:
    assert admin_in.get(reverse("approval", args=[ProjectFactory().pk])).status_code == 404


def test_approve(admin_in: Client) -> None:
    asked = asked_plan()

    response = admin_in.post(reverse("approval", args=[asked.pk]), {"option": "approve"})

    asked.refresh_from_db()
    assert response.url == reverse("project", args=[asked.project_id])
    assert (asked.status, asked.decided_by.username) == (ApprovalStatus.APPROVED, "asha")
    assert asked.project.plans.get().status == PlanStatus.ACTIVE


def test_amend_passes_the_comment_on(admin_in: Client) -> None:
    asked = asked_plan()

    admin_in.post(reverse("approval", args=[asked.pk]), {"option": "amend", "comment": "Smaller steps."})

    assert Correction.objects.get().text == "Smaller steps."


@pytest.mark.parametrize("option", ["amend", "reject"])
def test_a_change_without_a_word_is_refused_on_the_spot(admin_in: Client, option: str) -> None:
    asked = asked_plan()

    response = admin_in.post(reverse("approval", args=[asked.pk]), {"option": option})

    page = response.content.decode()
    assert response.status_code == 422
    assert "needs a comment" in page[page.index("<textarea") :]
    assert re.search(
        r'<textarea id="comment"[^>]* aria-invalid="true" aria-describedby="comment_error" autofocus>', page
    )
    assert Approval.objects.get().status == ApprovalStatus.PENDING


def test_what_was_typed_stays_when_the_option_is_wrong(admin_in: Client) -> None:
    asked = asked_plan()

    response = admin_in.post(reverse("approval", args=[asked.pk]), {"option": "fly", "comment": "my words"})

    assert response.status_code == 422
    assert b"my words</textarea>" in response.content


def test_who_comes_second_learns_who_was_first(admin_in: Client) -> None:
    asked = asked_plan()
    admin_in.post(reverse("approval", args=[asked.pk]), {"option": "approve"})
    admin_in.force_login(UserFactory(username="ben", is_superuser=True))

    response = admin_in.post(reverse("approval", args=[asked.pk]), {"option": "reject", "comment": "No."})

    assert response.status_code == 409
    assert b"asha already decided: approved." in response.content
    assert Approval.objects.get().status == ApprovalStatus.APPROVED


def test_answers_are_the_options_or_own_words(admin_in: Client) -> None:
    asked = asked_questions()

    admin_in.post(
        reverse("approval", args=[asked.pk]),
        {"option": "answer", "answer_0": "Yes", "answer_1": "English", "other_1": "Both, please"},
    )

    asked.refresh_from_db()
    assert asked.answers == ["Yes", "Both, please"]
    assert asked.task.status == TaskStatus.READY


def test_every_question_wants_an_answer(admin_in: Client) -> None:
    asked = asked_questions()

    response = admin_in.post(reverse("approval", args=[asked.pk]), {"option": "answer", "answer_0": "Yes"})

    assert response.status_code == 422
    assert b"Answer every question." in response.content


def test_the_recommended_answer_is_chosen_beforehand(admin_in: Client) -> None:
    page = admin_in.get(reverse("approval", args=[asked_questions().pk])).content.decode()

    assert 'value="English" checked' in page
    assert 'value="German" checked' not in page


def test_a_stuck_task_can_be_given_up(admin_in: Client) -> None:
    task = TaskFactory(status=TaskStatus.BLOCKED)
    asked = ApprovalFactory(project=task.project, task=task, kind=ApprovalKind.BLOCKED_TASK)

    admin_in.post(reverse("approval", args=[asked.pk]), {"option": "give_up"})

    task.refresh_from_db()
    assert task.status == TaskStatus.FAILED


def test_a_raised_budget_lets_the_project_go_on(admin_in: Client) -> None:
    project = ProjectFactory(status=ProjectStatus.PAUSED, budget_limit=Decimal(2))
    asked = ApprovalFactory(project=project, kind=ApprovalKind.BUDGET, subject_id=project.pk)
    page = admin_in.get(reverse("approval", args=[asked.pk])).content.decode()

    admin_in.post(reverse("approval", args=[asked.pk]), {"option": "raise", "comment": "9.50"})

    project.refresh_from_db()
    assert 'name="comment" type="number" min="0" step="0.01" inputmode="decimal" value="4.00"' in page
    assert (project.budget_limit, project.status) == (Decimal("9.5"), ProjectStatus.PLANNING)


def test_what_was_decided_stays_readable(admin_in: Client) -> None:
    asked = asked_plan()
    admin_in.post(reverse("approval", args=[asked.pk]), {"option": "reject", "comment": "Too dear."})

    listed = admin_in.get(reverse("approvals"), {"show": "decided"}).content.decode()
    shown = admin_in.get(reverse("approval", args=[asked.pk])).content.decode()

    assert "Plan 1 of the boat house" in listed
    assert "Too dear." in shown
    assert 'name="option"' not in shown


def test_the_count_is_on_every_page(admin_in: Client) -> None:
    asked_plan()
    asked_questions()

    page = admin_in.get(reverse("workers")).content.decode()

    assert 'data-needs-you="2"' in page


@pytest.mark.parametrize(("option", "is_sent"), [("approve", True), ("amend", False), ("reject", False)])
def test_the_browser_itself_asks_for_the_words_of_a_change(admin_in: Client, option: str, is_sent: bool) -> None:
    page = admin_in.get(reverse("approval", args=[asked_plan().pk])).content.decode()

    button = re.search(rf'<button [^>]*value="{option}"[^>]*>', page)
    assert re.search(r'<textarea id="comment"[^>]* required ', page)
    assert button
    assert ("formnovalidate" in button[0]) is is_sent


def test_a_wrong_limit_is_refused_beside_its_buttons(admin_in: Client) -> None:
    project = ProjectFactory(status=ProjectStatus.PAUSED, budget_limit=Decimal(2))
    asked = ApprovalFactory(project=project, kind=ApprovalKind.BUDGET, subject_id=project.pk)

    response = admin_in.post(reverse("approval", args=[asked.pk]), {"option": "raise", "comment": "x" * 20_001})

    page = response.content.decode()
    assert response.status_code == 422
    assert page.index('id="comment"') < page.index("The comment cannot be used") < page.index('value="raise"')
