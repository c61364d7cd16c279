"""The first page and the list of projects."""

import pytest
from django.test import Client
from django.urls import reverse

from projects.models import Project
from projects.states import ApprovalStatus, ProjectStatus, TaskStatus
from tests.factories import ApprovalFactory, NotificationFactory, ProjectFactory, TaskFactory, UserFactory

pytestmark = pytest.mark.django_db
BRIEF = "A page where our members book the boat."


@pytest.fixture
def admin_in(client: Client) -> Client:
    client.force_login(UserFactory(username="asha", is_superuser=True))
    return client


def test_home_asks_visitors_to_sign_in(client: Client) -> None:
    response = client.get(reverse("home"))

    assert response.status_code == 302
    assert response.url == "/login/?next=/"


def test_home_offers_the_sample_brief_when_there_is_nothing(admin_in: Client) -> None:
    page = admin_in.get(reverse("home")).content.decode()

    assert "We run a tool library" in page
    assert "Nothing runs yet" in page


def test_home_shows_what_waits_what_runs_and_what_is_finished(admin_in: Client) -> None:
    ApprovalFactory(title="Plan 7 of the boat house")
    TaskFactory(title="Row the boat", status=TaskStatus.IN_PROGRESS)
    ProjectFactory(name="The old pier", status=ProjectStatus.COMPLETE)

    page = admin_in.get(reverse("home")).content.decode()

    assert "Plan 7 of the boat house" in page
    assert "Row the boat" in page
    assert "The old pier" in page


def test_home_leaves_out_what_was_decided(admin_in: Client) -> None:
    ApprovalFactory(title="Long settled", status=ApprovalStatus.APPROVED)

    assert "Long settled" not in admin_in.get(reverse("home")).content.decode()


def test_home_gives_htmx_its_live_part_alone(admin_in: Client) -> None:
    response = admin_in.get(reverse("home"), headers={"HX-Request": "true"})

    assert response.content.strip().startswith(b'<div class="page')
    assert b"<html" not in response.content
    assert "HX-Request" in response.headers["Vary"]


def test_project_new_starts_a_project(admin_in: Client) -> None:
    response = admin_in.post(
        reverse("project_new"), {"brief": BRIEF, "client_name": "Rowing club", "budget_limit": "12.50"}
    )

    project = Project.objects.get()
    assert response.url == reverse("project", args=[project.pk])
    assert (project.description, project.client_name, project.budget_limit) == (BRIEF, "Rowing club", 12.5)
    assert project.created_by.username == "asha"


@pytest.mark.parametrize("brief", ["", "   ", "?!", "\x00\x01\x02"])
def test_project_new_says_what_is_wrong_with_a_brief(admin_in: Client, brief: str) -> None:
    response = admin_in.post(reverse("project_new"), {"brief": brief, "name": "Kept"})

    assert response.status_code == 422
    assert b"field__error" in response.content
    assert b'value="Kept"' in response.content
    assert not Project.objects.exists()


def test_a_reload_after_a_refused_brief_shows_the_form(admin_in: Client) -> None:
    response = admin_in.get(reverse("project_new"), headers={"Accept": "text/html"})

    assert response.status_code == 200
    assert 'name="brief"' in response.content.decode()


def test_a_follow_up_begins_with_the_brief_of_the_first(admin_in: Client) -> None:
    first = ProjectFactory(description="A page for the <boat> house.", client_name="Rowing club")

    page = admin_in.get(reverse("project_new"), {"like": str(first.pk)}).content.decode()

    assert "A page for the &lt;boat&gt; house.\n\nWhat should be different this time:\n</textarea>" in page
    assert 'value="Rowing club"' in page


@pytest.mark.parametrize("like", ["", "7", "\x00", "00000000-0000-0000-0000-000000000000"])
def test_a_follow_up_of_nothing_is_an_empty_form(admin_in: Client, like: str) -> None:
    response = admin_in.get(reverse("project_new"), {"like": like})

    assert response.context["form"].initial == {}


def test_a_refused_brief_is_not_refreshed_away(admin_in: Client) -> None:
    page = admin_in.post(reverse("project_new"), {"brief": ""}).content.decode()

    assert 'id="live"' in page
    assert "eklavya:change from:body" not in page


def test_project_new_shows_markup_in_a_brief_as_text(admin_in: Client) -> None:
    response = admin_in.post(reverse("project_new"), {"brief": "<script>alert(1)</script> a shop"}, follow=True)

    assert b"<script>alert" not in response.content
    assert b"&lt;script&gt;alert" in response.content


def test_projects_shows_only_what_the_filter_asks_for(admin_in: Client) -> None:
    ProjectFactory(name="Still open")
    ProjectFactory(name="Long done", status=ProjectStatus.COMPLETE)

    page = admin_in.get(reverse("projects"), {"show": "delivered"}).content.decode()

    assert "Long done" in page
    assert "Still open" not in page


def test_projects_says_that_nothing_matches(admin_in: Client) -> None:
    ProjectFactory(name="Still open")

    page = admin_in.get(reverse("projects"), {"q": "zzz"}).content.decode()

    assert 'data-empty="filtered"' in page


def test_projects_pages_by_key_without_gaps_or_repeats(admin_in: Client) -> None:
    made = {ProjectFactory(name=f"number {n:02}").name for n in range(35)}

    first = admin_in.get(reverse("projects"))
    second = admin_in.get(first.context["page"].next_url)

    pages = [[row.project.name for row in response.context["rows"]] for response in (first, second)]
    assert [len(page) for page in pages] == [30, 5]
    assert set(pages[0]) | set(pages[1]) == made


def test_projects_refuses_a_page_that_is_none(admin_in: Client) -> None:
    assert admin_in.get(reverse("projects"), {"before": "yesterday~x"}).status_code == 404


def test_home_shows_news_until_they_are_read(admin_in: Client) -> None:
    NotificationFactory(level="warning", title="80 % of the budget is spent")

    before = admin_in.get(reverse("home")).content.decode()
    admin_in.post(reverse("news_read"))
    after = admin_in.get(reverse("home")).content.decode()

    assert "80 % of the budget is spent" in before
    assert "80 % of the budget is spent" not in after


def test_home_shows_decisions_once_and_not_as_news_too(admin_in: Client) -> None:
    NotificationFactory(level="action", title="Plan 1 waits")

    assert "Plan 1 waits" not in admin_in.get(reverse("home")).content.decode()
