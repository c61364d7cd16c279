"""The portal in a real browser, under its real policy, live over a real WebSocket."""

import asyncio
import socket
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest
import uvicorn
from asgiref.sync import sync_to_async
from channels.auth import AuthMiddlewareStack
from channels.routing import ProtocolTypeRouter, URLRouter
from channels.security.websocket import AllowedHostsOriginValidator
from django.conf import settings
from django.contrib.auth.models import User
from django.core.asgi import get_asgi_application
from django.db import connections
from django.test import Client
from django.urls import reverse
from playwright.async_api import ConsoleMessage, Page, Route, async_playwright, expect

from agents.actions.transcript import Line, record_lines
from agents.models import Run, RunEvent
from agents.states import RunStatus
from eklavya.routing import websocket_urlpatterns
from projects.actions.chat import post_message
from projects.actors import Actor
from projects.live import broadcast
from projects.models import Project
from projects.pages import header
from projects.states import TaskStatus
from tests.factories import (
    NOW,
    AgentFactory,
    ApprovalFactory,
    DemoFactory,
    DemoFeedbackFactory,
    ExecutionFactory,
    LedgerEntryFactory,
    PlanFactory,
    ProjectFactory,
    RequirementFactory,
    RunEventFactory,
    RunFactory,
    TaskFactory,
    UserFactory,
    WebhookEndpointFactory,
    WorkerFactory,
)
from tests.serving import QuickServer

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]
PHONE = {"width": 375, "height": 812}
SEEN_MS = 60_000
HOUSE = ("home", "projects", "approvals", "agents", "workflows", "workers", "budget", "audit", "secrets")
HOUSE = (*HOUSE, "styleguide")
SETTINGS = ("people", "api_keys", "webhooks", "recovery", "roles", "account_change_password", "mfa_index")


@pytest.fixture
async def portal() -> AsyncIterator[str]:
    """The portal on a port of its own; its address."""
    http, sockets = get_asgi_application(), AuthMiddlewareStack(URLRouter(websocket_urlpatterns))
    app = ProtocolTypeRouter({"http": http, "websocket": AllowedHostsOriginValidator(sockets)})
    listener = socket.create_server(("127.0.0.1", 0))
    server = QuickServer(uvicorn.Config(app, lifespan="off", log_level="warning", ws="websockets-sansio"))
    serving = asyncio.create_task(server.serve([listener]))
    yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    server.should_exit = True
    await serving
    await sync_to_async(connections.close_all)()


@pytest.fixture
async def page(portal: str, browser_type_launch_args: dict[str, Any]) -> AsyncIterator[Page]:
    """A tab with somebody signed in. What the browser complains about fails the test."""
    complaints: list[str] = []
    cookie = await sync_to_async(_sign_in)(await sync_to_async(UserFactory)(username="asha", is_superuser=True))
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(**browser_type_launch_args)
        context = await browser.new_context(base_url=portal)
        context.set_default_timeout(SEEN_MS)
        expect.set_options(timeout=SEEN_MS)
        await context.add_cookies([{"name": settings.SESSION_COOKIE_NAME, "value": cookie, "url": portal}])
        tab = await context.new_page()
        tab.on("console", lambda message: _note(message, complaints))
        tab.on("pageerror", lambda error: complaints.append(str(error)))
        yield tab
        expect.set_options(timeout=5_000)
        await browser.close()
    assert complaints == []


def _sign_in(user: User) -> str:
    client = Client()
    client.force_login(user)
    return client.cookies[settings.SESSION_COOKIE_NAME].value


def _note(message: ConsoleMessage, complaints: list[str]) -> None:
    if message.type in {"error", "warning"}:
        complaints.append(message.text)


async def live(page: Page, path: str) -> None:
    """Open a page and wait until it hears of events."""
    await page.goto(path)
    await expect(page.locator("[data-connection=live]").first).to_be_attached()


@sync_to_async
def say(project: Project, text: str) -> None:
    message = post_message(project, text, by=Actor.system("pm"), now=NOW)
    event = {"id": "1", "type": "chat:message", "payload": {"messageId": str(message.pk)}}
    broadcast(event, project_id=project.pk)


@sync_to_async
def write(run: Run, *texts: str) -> None:
    record_lines(run, [Line(RunEvent.Kind.TEXT, {"text": text}, datetime.now(UTC)) for text in texts])


async def test_news_arrive_and_leave_what_the_reader_does_alone(page: Page) -> None:
    project = await sync_to_async(ProjectFactory)()
    await live(page, reverse("project", args=[project.pk]))
    await page.fill("textarea[name=body]", "half a thought")
    await page.click("#brief summary")

    await say(project, "The requirements are **written**.")

    await expect(page.get_by_text("The requirements are written.")).to_be_visible()
    await expect(page.locator("textarea[name=body]")).to_have_value("half a thought")
    await expect(page.locator("#brief")).not_to_have_attribute("open", "")


@sync_to_async
def rename(project: Project, name: str) -> None:
    Project.objects.filter(pk=project.pk).update(name=name)
    broadcast({"id": "1", "type": "project:status", "payload": {}}, project_id=project.pk)


async def test_a_new_name_shows_in_path_and_title(page: Page) -> None:
    project = await sync_to_async(ProjectFactory)(name="We run a library")
    await sync_to_async(ApprovalFactory)(project=project)
    await live(page, reverse("project", args=[project.pk]))

    await rename(project, "Tool Library")

    await expect(page.locator("h1")).to_have_text("Tool Library")
    await expect(page.locator("#crumbs")).to_contain_text("Tool Library")
    await expect(page).to_have_title("(1) Tool Library · Eklavya")


async def test_a_transcript_follows_its_end_until_the_reader_scrolls(page: Page) -> None:
    run = await sync_to_async(RunFactory)(status=RunStatus.RUNNING)
    for number in range(1, 61):
        await sync_to_async(RunEventFactory)(run=run, seq=number, payload={"text": f"line {number}."})
    run.last_seq = 60
    await sync_to_async(run.save)(update_fields=["last_seq"])
    await live(page, reverse("run", args=[run.pk]))

    await write(run, "the next step")
    await expect(page.get_by_text("the next step")).to_be_in_viewport()

    await page.evaluate("document.getElementById('log').scrollTop = 0")
    await expect(page.locator(".log__jump")).to_be_visible()
    await write(run, "one more", "and another")
    await expect(page.locator(".log__jump")).to_contain_text("2 new")
    assert await page.evaluate("document.getElementById('log').scrollTop") == 0

    await page.click(".log__jump")
    await expect(page.get_by_text("and another")).to_be_in_viewport()
    await expect(page.locator(".log__jump")).to_be_hidden()


async def test_a_line_that_comes_while_the_tail_is_being_fetched_is_not_missed(page: Page) -> None:
    run = await sync_to_async(RunFactory)(status=RunStatus.RUNNING)
    async with page.expect_response("**/*after=0"):  # as the hello of the socket has it
        await live(page, reverse("run", args=[run.pk]))
    listen = "void (window.heard = new Promise((it) => document.body.addEventListener('eklavya:run:events', it)))"
    held: list[Route] = []

    async def answer_late(route: Route) -> None:
        if held:
            await route.continue_()
            return
        held.append(route)
        old = await route.fetch()
        await page.evaluate(listen)
        await write(run, "the last word")
        await page.evaluate("window.heard.then(() => 1)")
        await route.fulfill(response=old)

    await page.route("**/*after=*", answer_late)
    await write(run, "the first word")

    await expect(page.get_by_text("the last word")).to_be_visible()


async def test_a_project_starts_from_the_sample_brief(page: Page) -> None:
    await live(page, "/")

    await page.get_by_role("button", name="Use the sample brief").click()
    await page.get_by_role("button", name="Start project").click()

    await expect(page.get_by_role("heading", level=1)).to_contain_text("We run a tool library")


async def test_the_theme_is_chosen_once_and_right_from_the_first_byte(page: Page) -> None:
    await live(page, "/")

    await page.get_by_role("button", name="Dark").first.click()
    await page.reload()

    await expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    assert await page.evaluate("getComputedStyle(document.body).colorScheme") == "dark"


async def test_an_ended_session_leads_to_the_login_form(page: Page) -> None:
    project = await sync_to_async(ProjectFactory)()
    await live(page, reverse("project", args=[project.pk]))
    await page.context.clear_cookies()

    await say(project, "Is anybody there?")

    await expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    assert page.url.endswith(f"/login/?next=%2Fprojects%2F{project.pk}%2F")


async def test_the_keyboard_goes_places_but_not_while_typing(page: Page) -> None:
    await live(page, "/")

    await page.keyboard.press("c")
    await page.keyboard.type("gp stays text")
    await expect(page.locator("textarea[name=brief]")).to_have_value("gp stays text")
    await page.locator("h1").click()
    await page.keyboard.type("gp")

    await page.wait_for_url("**/projects/")


def furnish() -> list[str]:
    """Have one of everything that pages show; return the addresses of the pages of the house, people's settings too."""
    worker = WorkerFactory(name="worker-with-a-long-name.internal.example")
    project = ProjectFactory(name="A_name_without_any_space_that_is_as_long_as_names_may_well_be")
    plan = PlanFactory(project=project)
    task = TaskFactory(
        project=project, status=TaskStatus.IN_PROGRESS, title="Keep " + "what_has_no_place_to_break_" * 2
    )
    run = RunFactory(task=task, status=RunStatus.RUNNING, worker=worker)
    RunEventFactory(run=run, payload={"text": "https://example.org/" + "x" * 200})
    RequirementFactory(project=project)
    DemoFeedbackFactory(demo=DemoFactory(project=project, status="expired"), user=UserFactory())
    LedgerEntryFactory(project_id=project.pk, created_at=datetime.now(UTC))
    execution = ExecutionFactory(project=project)
    asked = ApprovalFactory(project=project, subject_id=plan.pk)
    post_message(project, "x" * 200, by=Actor.system("pm"), now=NOW)
    webhook = WebhookEndpointFactory()
    pages = [reverse(name) for name in (*HOUSE, *SETTINGS)]
    pages += [tab.url for tab in header(project, "project").tabs]
    pages += [reverse("project_secrets", args=[project.pk])]
    pages += [reverse("run", args=[run.pk]), reverse("task", args=[task.pk]), reverse("approval", args=[asked.pk])]
    pages += [reverse("execution", args=[execution.pk]), reverse("workflow", args=[execution.workflow.key])]
    pages += [reverse("webhook", args=[webhook.pk])]
    return pages


async def test_every_page_of_the_house_fits_a_phone_and_says_where_it_is(page: Page) -> None:
    pages = await sync_to_async(furnish)()
    await page.set_viewport_size(PHONE)

    too_wide, lost = {}, []
    for address in pages:
        response = await page.goto(address, wait_until="domcontentloaded")
        assert response
        assert response.status == 200, address
        await expect(page.get_by_role("navigation", name="Main, small screen")).to_be_visible()
        if (width := await page.evaluate("document.documentElement.scrollWidth")) != PHONE["width"]:
            too_wide[address] = width
        if not await page.locator(".nav__link[aria-current]").count():
            lost.append(address)
    assert too_wide == {}
    assert lost == [reverse("styleguide")]  # nothing leads there


async def height(page: Page, selector: str) -> float:
    box = await page.locator(selector).first.bounding_box()
    assert box
    return box["height"]


async def test_fields_of_the_first_form_are_alike_and_none_is_refused_under_the_head(page: Page) -> None:
    await page.set_viewport_size({"width": 1280, "height": 420})
    await page.goto(reverse("home"))
    await page.fill("#id_brief", "A page where our members book the boat.")
    await page.click(".composer__more summary")
    assert len({await height(page, f"#id_{name}") for name in ("name", "client_name", "budget_limit")}) == 1

    await page.fill("#id_budget_limit", "-1")
    await page.evaluate("scrollTo(0, document.body.scrollHeight)")
    await page.evaluate("document.querySelector('.composer').requestSubmit()")

    await expect(page.locator("#id_budget_limit")).to_be_focused()
    field, head = await page.locator("#id_budget_limit").bounding_box(), await height(page, ".top")
    assert field
    assert field["y"] >= head


async def test_a_plan_is_drawn_whole_beside_what_else_waits(page: Page) -> None:
    chain = [
        {"key": f"t{n}", "title": f"Task {n}", "role": "developer", "depends_on": [f"t{n - 1}"] * (n > 0)}
        for n in range(4)
    ]
    plan = await sync_to_async(PlanFactory)(content=chain)
    asked = await sync_to_async(ApprovalFactory)(project=plan.project, subject_id=plan.pk)
    await sync_to_async(ApprovalFactory)()
    await page.set_viewport_size({"width": 1280, "height": 800})

    await page.goto(reverse("approval", args=[asked.pk]))

    assert await page.evaluate("(d => d.scrollWidth - d.clientWidth)(document.querySelector('.dag'))") == 0


async def test_a_phone_shows_agents_briefly_and_days_legibly(page: Page) -> None:
    await sync_to_async(AgentFactory)()
    await sync_to_async(LedgerEntryFactory)(created_at=datetime.now(UTC))
    await page.set_viewport_size(PHONE)

    await page.goto(reverse("agents"))
    assert await height(page, "tbody tr") < 90
    await page.goto(reverse("budget"))
    assert await height(page, ".burn__label:visible") >= 9
