"""Every page under the strict policy: the header is there, and nothing on the page would break it."""

import re
from html.parser import HTMLParser

import pytest
from django.test import Client
from django.urls import reverse

from projects.ids import new_id
from projects.states import TaskStatus
from tests.factories import DemoFactory, PlanFactory, RunEventFactory, RunFactory, TaskFactory, UserFactory

pytestmark = pytest.mark.django_db
OF_THE_HOUSE = ["home", "projects", "approvals", "audit", "agents", "workers", "budget"]
OF_A_PROJECT = ["", "_board", "_plan", "_audit", "_runs", "_files", "_demos", "_money"]


class Inline(HTMLParser):
    """Collects what the policy would refuse to run or apply."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        is_code = tag == "script" and given.get("type") != "application/json"  # data is not run
        if tag == "style" or (is_code and not (given.get("src") or "").startswith("/static/")):
            self.found.append(tag)
        self.found += [name for name in given if name == "style" or re.match(r"on[a-z]+$|hx-on", name)]
        if tag == "link" and given.get("rel") == "stylesheet" and not (given["href"] or "").startswith("/static/"):
            self.found.append("foreign stylesheet")


def inline_parts(html: str) -> list[str]:
    parser = Inline()
    parser.feed(html)
    return parser.found


@pytest.fixture
def admin_in(client: Client) -> Client:
    client.force_login(UserFactory(username="asha", is_superuser=True))
    return client


def policy_of(client: Client, path: str) -> dict[str, str]:
    header = client.get(path).headers["Content-Security-Policy"]
    return dict(part.strip().split(" ", 1) for part in header.split(";") if " " in part.strip())


def check(client: Client, path: str) -> None:
    response = client.get(path)
    assert response.status_code == 200, path
    assert inline_parts(response.content.decode()) == []


@pytest.mark.parametrize("path", ["/login/", "/", "/nothing/here/", "/login/link/none/"])
def test_the_policy_is_on_every_answer(admin_in: Client, path: str) -> None:
    policy = policy_of(admin_in, path)

    assert policy["script-src"] == "'self'"
    assert policy["style-src"] == "'self'"
    assert policy["default-src"] == "'none'"
    assert policy["frame-ancestors"] == "'none'"


def test_the_policy_frames_previews_and_nothing_else(admin_in: Client) -> None:
    assert re.fullmatch(r"https?://\*\.preview\.localhost:\d+", policy_of(admin_in, "/")["frame-src"])


@pytest.mark.parametrize("name", OF_THE_HOUSE)
def test_a_page_of_the_house_has_nothing_inline(admin_in: Client, name: str) -> None:
    RunFactory(status="running")

    check(admin_in, reverse(name))


@pytest.mark.parametrize("tab", OF_A_PROJECT)
def test_a_tab_of_a_project_has_nothing_inline(admin_in: Client, tab: str) -> None:
    task = TaskFactory(status=TaskStatus.IN_PROGRESS)
    PlanFactory(project=task.project)
    DemoFactory(project=task.project)
    RunFactory(task=task, status="running")

    check(admin_in, reverse(f"project{tab}", args=[task.project_id]))


def test_run_and_task_have_nothing_inline(admin_in: Client) -> None:
    event = RunEventFactory(payload={"text": "<b style='x' onclick='y'>bold</b>"})

    check(admin_in, reverse("run", args=[event.run_id]))
    check(admin_in, reverse("task", args=[event.run.task_id]))


def test_the_admin_has_nothing_inline(admin_in: Client) -> None:
    check(admin_in, reverse("admin:index"))


def test_the_login_page_has_nothing_inline(client: Client) -> None:
    check(client, reverse("account_login"))


def test_a_missing_page_has_nothing_inline(admin_in: Client) -> None:
    response = admin_in.get(reverse("project", args=[new_id()]))

    assert response.status_code == 404
    assert b"There is nothing here" in response.content
    assert inline_parts(response.content.decode()) == []
