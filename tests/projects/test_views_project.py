"""The tabs of a project that need nothing from higher apps."""

import re

import pytest
from django.test import Client
from django.urls import reverse

from projects.actions.chat import post_message
from projects.actors import Actor
from projects.ids import new_id
from projects.models import ChatMessage, Project
from projects.states import ACTIVE_PROJECT, PlanStatus, ProjectStatus, TaskStatus
from tests.factories import (
    NOW,
    ApprovalFactory,
    PlanFactory,
    ProjectFactory,
    RequirementFactory,
    TaskFactory,
    UserFactory,
)

pytestmark = pytest.mark.django_db
TABS = ["project", "project_board", "project_plan", "project_audit"]


@pytest.fixture
def admin_in(client: Client) -> Client:
    client.force_login(UserFactory(username="asha", is_superuser=True))
    return client


@pytest.mark.parametrize("tab", TABS)
def test_a_tab_of_an_empty_project_says_what_comes_first(admin_in: Client, tab: str) -> None:
    project = ProjectFactory(name="Boat house")

    response = admin_in.get(reverse(tab, args=[project.pk]))

    assert response.status_code == 200
    assert b"Boat house" in response.content


@pytest.mark.parametrize("tab", TABS)
def test_a_tab_of_no_project_is_not_found(admin_in: Client, tab: str) -> None:
    assert admin_in.get(reverse(tab, args=[new_id()])).status_code == 404


def test_the_page_watches_its_own_project(admin_in: Client) -> None:
    project = ProjectFactory()

    page = admin_in.get(reverse("project", args=[project.pk])).content.decode()

    assert f'data-live-url="/ws/projects/{project.pk}/"' in page


def test_overview_shows_conversation_and_requirements(admin_in: Client) -> None:
    project = ProjectFactory()
    RequirementFactory(project=project, title="Book a boat")
    post_message(project, "Which **boats** do you have?", by=Actor.system("pm"), now=NOW)

    page = admin_in.get(reverse("project", args=[project.pk])).content.decode()

    assert "Book a boat" in page
    assert "Which <strong>boats</strong> do you have?" in page


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("<script>alert(1)</script>", "&lt;script&gt;alert(1)&lt;/script&gt;"),
        ("<img src=x onerror=alert(1)>", "&lt;img src=x onerror=alert(1)&gt;"),
        ("[here](javascript:alert(1))", "[here](javascript:alert(1))"),
    ],
)
def test_overview_shows_what_agents_write_as_text(admin_in: Client, written: str, shown: str) -> None:
    project = ProjectFactory()
    post_message(project, written, by=Actor.system("pm"), now=NOW)

    page = admin_in.get(reverse("project", args=[project.pk])).content.decode()

    assert shown in page


def test_overview_shows_the_newest_lines_in_reading_order(admin_in: Client) -> None:
    project = ProjectFactory()
    for number in range(45):
        post_message(project, f"line {number}", by=Actor.system("pm"), now=NOW)

    shown = admin_in.get(reverse("project", args=[project.pk])).context["chat"]

    assert [message.body for message in shown] == [f"line {number}" for number in range(5, 45)]


def test_say_adds_to_the_conversation(admin_in: Client) -> None:
    project = ProjectFactory()

    response = admin_in.post(reverse("project_say", args=[project.pk]), {"body": "Make it blue."})

    message = ChatMessage.objects.get()
    assert response.url == reverse("project", args=[project.pk])
    assert (message.body, message.author_name, message.user.username) == ("Make it blue.", "asha", "asha")


OVER = [ProjectStatus.COMPLETE, ProjectStatus.CANCELLED, ProjectStatus.ARCHIVED]


@pytest.mark.parametrize("status", OVER)
def test_say_is_refused_where_nobody_reads(admin_in: Client, status: ProjectStatus) -> None:
    project = ProjectFactory(name="Pier", status=status)

    response = admin_in.post(reverse("project_say", args=[project.pk]), {"body": "Hello?"}, follow=True)

    assert f"Nobody reads here any more: Pier is {status.label.lower()}." in response.content.decode()
    assert not ChatMessage.objects.exists()


@pytest.mark.parametrize("status", OVER)
def test_a_project_that_is_over_says_what_can_be_done_instead_of_writing(
    admin_in: Client, status: ProjectStatus
) -> None:
    project = ProjectFactory(status=status)

    page = admin_in.get(reverse("project", args=[project.pk])).content.decode()

    assert 'name="body"' not in page
    assert f'href="{reverse("project_new")}?like={project.pk}"' in page


@pytest.mark.parametrize("status", [*ACTIVE_PROJECT, ProjectStatus.PAUSED])
def test_while_a_project_lives_one_can_write(admin_in: Client, status: ProjectStatus) -> None:
    page = admin_in.get(reverse("project", args=[ProjectFactory(status=status).pk])).content.decode()

    assert 'name="body"' in page
    assert "?like=" not in page


def test_the_refused_button_says_the_same_as_the_endpoint(client: Client) -> None:
    client.force_login(UserFactory())

    page = client.get(reverse("project", args=[ProjectFactory().pk])).content.decode()

    assert re.search(r'<button class="btn btn--primary" type="submit" disabled data-refused title="[^"]*role', page)


@pytest.mark.parametrize("verb", ["say", "pause"])
def test_a_browser_that_asks_for_an_answered_form_gets_to_its_page(admin_in: Client, verb: str) -> None:
    project = ProjectFactory()

    response = admin_in.get(reverse(f"project_{verb}", args=[project.pk]), headers={"Accept": "text/html,*/*"})

    assert response.url == reverse("project", args=[project.pk])


def test_a_refresh_by_htmx_names_what_was_renamed(admin_in: Client) -> None:
    project = ProjectFactory(name="Boat house")

    part = admin_in.get(reverse("project", args=[project.pk]), headers={"HX-Request": "true"}).content.decode()

    assert "<title>Boat house · Eklavya</title>" in part
    assert re.search(r'<ol class="crumbs" id="crumbs" hx-swap-oob="outerMorph">.*Boat house.*</ol>', part, re.DOTALL)


def test_pause_and_resume(admin_in: Client) -> None:
    project = ProjectFactory(status=ProjectStatus.DEMO)

    admin_in.post(reverse("project_pause", args=[project.pk]), {"reason": "The client is on holiday."})
    paused = Project.objects.get()
    admin_in.post(reverse("project_resume", args=[project.pk]))

    assert (paused.status, paused.status_reason) == (ProjectStatus.PAUSED, "The client is on holiday.")
    assert Project.objects.get().status == ProjectStatus.DEMO


def test_pause_is_refused_in_words_when_there_is_nothing_to_pause(admin_in: Client) -> None:
    project = ProjectFactory(name="Pier", status=ProjectStatus.COMPLETE)

    response = admin_in.post(reverse("project_pause", args=[project.pk]), follow=True)

    assert b"Nothing to pause: Pier is complete." in response.content


def test_cancel_and_archive(admin_in: Client) -> None:
    project = ProjectFactory()

    admin_in.post(reverse("project_cancel", args=[project.pk]))
    cancelled = Project.objects.get().status
    admin_in.post(reverse("project_archive", args=[project.pk]))

    assert cancelled == ProjectStatus.CANCELLED
    assert Project.objects.get().status == ProjectStatus.ARCHIVED


@pytest.mark.parametrize("verb", ["say", "pause", "resume", "cancel", "archive"])
def test_a_write_is_no_get(admin_in: Client, verb: str) -> None:
    project = ProjectFactory()

    assert admin_in.get(reverse(f"project_{verb}", args=[project.pk])).status_code == 405


def test_board_puts_each_task_into_its_lane(admin_in: Client) -> None:
    project = ProjectFactory(status=ProjectStatus.BUILDING)
    for status in TaskStatus:
        unmet = {"unmet_count": 1} if status == TaskStatus.PENDING else {}
        TaskFactory(project=project, status=status, title=status.value, **unmet)

    lanes = admin_in.get(reverse("project_board", args=[project.pk])).context["lanes"]

    assert {lane.label: {task.title for task in lane.tasks} for lane in lanes} == {
        "To do": {"pending"},
        "Ready": {"ready"},
        "Running": {"allocated", "in_progress"},
        "Checking": {"review"},
        "Needs you": {"blocked", "failed"},
        "Done": {"completed", "cancelled"},
    }
    assert sum(lane.count for lane in lanes) == len(TaskStatus)


def test_what_waits_for_its_merge_needs_nobody(admin_in: Client) -> None:
    task = TaskFactory(status=TaskStatus.BLOCKED, reason="awaiting_merge")

    lanes = admin_in.get(reverse("project_board", args=[task.project_id])).context["lanes"]

    assert [(lane.label, lane.tasks, lane.count) for lane in lanes if lane.count] == [("Checking", [task], 1)]


def test_board_costs_the_same_for_many_tasks(
    admin_in: Client, django_assert_max_num_queries: pytest.FixtureRequest
) -> None:
    project = ProjectFactory(status=ProjectStatus.BUILDING)
    for _ in range(40):
        TaskFactory(project=project)

    with django_assert_max_num_queries(14):
        admin_in.get(reverse("project_board", args=[project.pk]))


def test_plan_draws_the_plan_and_lists_it(admin_in: Client) -> None:
    plan = PlanFactory(status=PlanStatus.ACTIVE)
    TaskFactory(project=plan.project, plan=plan, key="storage", status=TaskStatus.COMPLETED)

    page = admin_in.get(reverse("project_plan", args=[plan.project.pk])).content.decode()

    assert page.count('class="dag__box"') == 2
    assert "dag__edge--done" in page
    assert 'id="plan-pages"' in page


def test_plan_leads_to_its_decision(admin_in: Client) -> None:
    asked = ApprovalFactory()

    page = admin_in.get(reverse("project_plan", args=[asked.project.pk])).content.decode()

    assert reverse("approval", args=[asked.pk]) in page


def test_plan_shows_an_earlier_version(admin_in: Client) -> None:
    old = PlanFactory(status=PlanStatus.REJECTED, summary="The first idea.")
    PlanFactory(project=old.project, summary="The second idea.")

    page = admin_in.get(reverse("project_plan", args=[old.project.pk]), {"version": "1"}).content.decode()

    assert "The first idea." in page
    assert "The second idea." not in page


def test_plan_has_no_version_that_was_never_made(admin_in: Client) -> None:
    plan = PlanFactory()

    assert admin_in.get(reverse("project_plan", args=[plan.project.pk]), {"version": "9"}).status_code == 404


def test_audit_shows_who_did_what(admin_in: Client) -> None:
    project = ProjectFactory()
    admin_in.post(reverse("project_pause", args=[project.pk]))

    page = admin_in.get(reverse("project_audit", args=[project.pk]), {"action": "project"}).content.decode()

    assert "project.paused" in page
    assert "asha" in page


def test_the_trail_of_all_names_the_projects(admin_in: Client) -> None:
    project = ProjectFactory(name="Boat house")
    admin_in.post(reverse("project_pause", args=[project.pk]))

    page = admin_in.get(reverse("audit")).content.decode()

    assert "Boat house" in page


def test_the_trail_pages_by_key(admin_in: Client) -> None:
    project = ProjectFactory()
    for number in range(60):
        post_message(project, str(number), by=Actor.system("pm"), now=NOW)

    first = admin_in.get(reverse("project_audit", args=[project.pk]))
    second = admin_in.get(first.context["page"].next_url)

    seqs = [[row.seq for row in response.context["page"].items] for response in (first, second)]
    assert seqs == [list(range(60, 10, -1)), list(range(10, 0, -1))]
