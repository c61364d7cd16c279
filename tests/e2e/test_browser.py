"""A person takes a client's wish to a delivered project by clicking, in a real browser, on a real installation."""

import json
import os
import re
import subprocess
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Locator, Page, expect, sync_playwright

from eklavya.services.health import http_answers
from tests.e2e.conftest import ORDINARY, Portal

pytestmark = [pytest.mark.e2e, pytest.mark.browser, pytest.mark.cli, pytest.mark.timeout(900)]
LIMIT_MS = 180_000
"""How long a person waits for agents."""
PHONE = {"width": 375, "height": 812}
UNCLEAR = "Something nice, please."
CLEAR = "Our bakery takes orders for cakes: customer, phone, cake, size, pick-up date, paid or not."


@pytest.fixture
def browser(browser_type_launch_args: dict[str, Any]) -> Iterator[Browser]:
    """Chromium. Not the plugin's, whose event loop would outlive the test."""
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(**browser_type_launch_args)
        yield chromium
        chromium.close()


@contextmanager
def visit(browser: Browser, portal: Portal, **options: Any) -> Iterator[Page]:
    """A tab of a browser with nobody signed in. What any page of it complains about fails the test."""
    complaints: list[str] = []

    def note(message: ConsoleMessage) -> None:
        # Chromium asks each site for it; a client's application need not have one.
        is_icon = message.location["url"].endswith("/favicon.ico")
        if message.type in {"error", "warning"} and not is_icon:
            complaints.append(f"{message.page and message.page.url}: {message.text}")

    context = browser.new_context(base_url=portal.url, accept_downloads=True, **options)
    context.set_default_timeout(LIMIT_MS)
    context.on("console", note)
    context.on("weberror", lambda error: complaints.append(str(error.error)))
    yield context.new_page()
    context.close()
    assert complaints == []


@pytest.fixture(autouse=True)
def _patience() -> Iterator[None]:
    expect.set_options(timeout=LIMIT_MS)
    yield
    expect.set_options(timeout=5_000)


def sign_in(page: Page, link: str) -> None:
    page.goto(link)
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("heading", name="What shall we build?")).to_be_visible()


def start_project(page: Page, brief: str) -> str:
    """Send a brief and return the address of its project."""
    page.get_by_label("Brief").fill(brief)
    page.get_by_role("button", name="Start project").click()
    page.wait_for_url("**/projects/*/")
    return page.url


def open_tab(page: Page, name: str) -> None:
    page.get_by_role("navigation", name="Project").get_by_role("link", name=name, exact=True).click()
    expect(page.locator("[data-connection=live]").first).to_be_attached()


def open_decision(page: Page, title: str) -> None:
    """Wait on the project's page until it asks for this decision, and go there."""
    page.get_by_role("link", name=re.compile(f"Needs you: {title}")).click()
    expect(page.get_by_role("heading", name=re.compile(title))).to_be_visible()


def decide(page: Page, button: str, *, comment: str = "") -> None:
    if comment:
        page.get_by_label("Comment").fill(comment)
    page.get_by_role("button", name=button).click()
    page.wait_for_url("**/projects/*/")


def stays(page: Page) -> Locator:
    """Mark the document. The returned element is gone as soon as the page is loaded anew."""
    page.evaluate("document.head.append(Object.assign(document.createElement('meta'), {name: 'seen'}))")
    return page.locator("meta[name=seen]")


def preview(page: Page, heading: str) -> None:
    """Expect the preview beside the decision to show this heading."""
    expect(page.frame_locator("iframe").get_by_role("heading", level=1, name=heading)).to_be_visible()


def answer_questions(page: Page) -> None:
    open_decision(page, "2 questions")
    page.get_by_label("Your own answer").first.fill("Boats, members and bookings: who has which boat on which date.")
    page.get_by_label("Quick entry and search").check()
    decide(page, "Answer")
    expect(page.get_by_text("who has which boat on which date").first).to_be_visible()


def amend_and_approve_plan(page: Page) -> None:
    open_decision(page, "Plan 1")
    expect(page.get_by_role("img", name="Tasks and what they wait for")).to_be_visible()
    decide(page, "Ask for changes", comment="Add a weekly backup of all data.")
    open_decision(page, "Plan 2")
    expect(page.locator(".dag__title", has_text="weekly backup")).to_be_visible()
    decide(page, "Approve")


def watch_a_transcript(page: Page) -> None:
    """Lines of a run appear by themselves, and its end."""
    open_tab(page, "Runs")
    page.get_by_role("link", name="Build demo 1").click()
    seen = stays(page)
    lines = page.get_by_role("log").locator("[data-entry]")
    expect(lines.filter(has_text="Submit demo")).to_be_visible()
    expect(page.locator(".head [data-state=succeeded]")).to_be_visible()
    assert lines.count() > 5
    expect(seen).to_be_attached()
    page.go_back()


def open_demo_at_its_own_address(page: Page) -> None:
    """It works there, and knows nothing of who is signed in at the portal."""
    open_tab(page, "Demos")
    expect(page.frame_locator("iframe").get_by_role("heading", level=1)).to_be_visible()
    with page.expect_popup() as popup:
        page.get_by_role("link", name="Open in a tab").click()
    demo = popup.value
    expect(demo.get_by_role("heading", level=1)).to_be_visible()

    assert (urlsplit(demo.url).hostname or "").endswith(".preview.localhost")
    assert demo.evaluate("document.cookie") == ""
    assert_no_cookie_of_the_portal(page.context, demo.url)
    demo.close()


def assert_no_cookie_of_the_portal(context: BrowserContext, url: str) -> None:
    portal = {cookie["name"] for cookie in context.cookies(context.pages[0].url)}
    assert {"eklavya_session", "csrftoken"} <= portal
    assert portal.isdisjoint(cookie["name"] for cookie in context.cookies(url))


def ask_for_another_demo(page: Page) -> None:
    """The page of demos shows the second by itself; the first stays beside it."""
    decide(page, "Ask for changes", comment="Call it Harbour Log.")
    open_tab(page, "Demos")
    seen = stays(page)
    page.get_by_role("button", name="Approve demo 2").wait_for()
    preview(page, "Harbour Log")
    expect(seen).to_be_attached()
    page.get_by_role("link", name="Demo 1", exact=True).click()
    expect(page.frame_locator("iframe").get_by_role("heading", level=1)).to_be_visible()
    expect(page.frame_locator("iframe").get_by_role("heading", name="Harbour Log")).to_have_count(0)
    page.get_by_role("link", name="Demo 2", exact=True).click()
    decide(page, "Approve demo 2")


def watch_the_board(page: Page) -> None:
    """Cards move from lane to lane until the project is delivered, while the page stays."""
    open_tab(page, "Board")
    seen = stays(page)
    expect(page.locator("#lane-in_progress .tcard").first).to_be_visible()
    expect(page.locator(".head [data-state=complete]")).to_be_visible()
    expect(page.locator("#lane-completed .tcard").filter(has_text="Acceptance")).to_be_visible()
    expect(page.locator(".tcard").filter(has_text="Acceptance")).to_have_count(1)
    expect(seen).to_be_attached()


def take_the_repository_home(page: Page, directory: Path) -> None:
    """The shown command clones it without any account; the zip holds the same files."""
    open_tab(page, "Files")
    command = page.locator(".copyline code").inner_text().split()
    assert command[:2] == ["git", "clone"]
    subprocess.run([*command, str(directory / "clone")], check=True, timeout=60, capture_output=True)
    with page.expect_download() as download:
        page.get_by_role("link", name="Download as zip").click()
    download.value.save_as(directory / "project.zip")

    with zipfile.ZipFile(directory / "project.zip") as archive:
        assert archive.testzip() is None
        zipped = {name.partition("/")[2] for name in archive.namelist() if not name.endswith("/")}
    cloned = {
        str(path.relative_to(directory / "clone"))
        for path in (directory / "clone").rglob("*")
        if path.is_file() and ".git" not in path.relative_to(directory / "clone").parts
    }
    assert zipped == cloned
    assert {"eklavya.toml", "README.md"} <= cloned


def amount(element: Locator) -> Decimal:
    """Return what an amount says when pointed at: all its digits."""
    return Decimal((element.get_attribute("title") or "").split()[0])


def add_up_the_ledger(page: Page) -> None:
    """The total that is shown is the sum of the lines that are shown, over all pages."""
    open_tab(page, "Money")
    total = amount(page.locator("tfoot .num").last)
    added = Decimal(0)
    while True:
        for row in page.locator("tr[id^=line-]").filter(has_text=re.compile("Settle|Adjust")).all():
            added += amount(row.locator("td[data-label=Amount] .num"))
        older = page.get_by_role("link", name="Older")
        if not older.count():
            break
        older.click()
    assert added == total > 0


def read_the_trail(page: Page, portal: Portal) -> None:
    open_tab(page, "Audit")
    # Filtered: what requests cost is recorded up to a minute later, and fills the first page.
    page.get_by_role("link", name="Project", exact=True).click()
    expect(page.get_by_text("project.complete").first).to_be_visible()
    page.get_by_role("link", name="Approval", exact=True).click()
    expect(page.get_by_text("approval.decided")).to_have_count(5)
    portal.installation.manage("verify_audit")


def test_a_person_takes_a_wish_to_a_delivered_project(portal: Portal, browser: Browser, tmp_path: Path) -> None:
    with visit(browser, portal, viewport={"width": 1400, "height": 900}, color_scheme="light") as page:
        sign_in(page, portal.first_link)
        start_project(page, UNCLEAR)

        answer_questions(page)
        amend_and_approve_plan(page)
        watch_a_transcript(page)
        open_demo_at_its_own_address(page)
        ask_for_another_demo(page)
        watch_the_board(page)

        take_the_repository_home(page, tmp_path)
        add_up_the_ledger(page)
        read_the_trail(page, portal)

        assert page.context.request.get(portal.first_link).status == 410


def test_it_all_belongs_to_the_user_who_started_it(portal: Portal) -> None:
    record = json.loads((portal.installation.var / "run" / "eklavya.json").read_text())
    processes = [psutil.Process(one["pid"]) for one in record["processes"].values()]
    assert len(processes) == 8
    user = ORDINARY if os.geteuid() == 0 else os.geteuid()
    assert {process.uids() for process in processes} == {(user, user, user)}


@pytest.mark.last  # its projects would be in the way of who clicks
def test_two_projects_come_to_their_demos_at_once_beside_a_running_house(portal: Portal) -> None:
    done = portal.installation.rehearse("--projects", "2", "--demo-only")

    assert done.exit_code == 0, done.said
    assert [outcome["problems"] for outcome in done.outcomes] == [[], []]
    assert len({outcome["project_id"] for outcome in done.outcomes}) == 2
    assert len({outcome["preview_url"] for outcome in done.outcomes} - {""}) == 2
    assert all(outcome["status"] != "complete" and outcome["tasks"]["completed"] == 3 for outcome in done.outcomes)
    # It used what ran, and left it running.
    assert "servers stop" not in done.said
    assert http_answers(urlsplit(portal.url).port or 80)


@pytest.mark.last  # its sign-in is one too many for the link that was printed at the start
def test_a_phone_in_the_dark_is_enough_to_decide(portal: Portal, browser: Browser) -> None:
    phone = {"viewport": PHONE, "is_mobile": True, "has_touch": True, "color_scheme": "dark"}
    with visit(browser, portal, **phone) as page:
        sign_in(page, portal.new_link())
        project = start_project(page, CLEAR)
        open_decision(page, "Plan 1")
        decide(page, "Approve")

        open_tab(page, "Demos")
        expect(page.frame_locator("iframe").get_by_role("heading", level=1)).to_be_visible()
        name = re.escape(page.locator(".head h1").inner_text())
        assert page.evaluate("document.documentElement.scrollWidth") == PHONE["width"]
        assert page.evaluate("getComputedStyle(document.body).colorScheme") == "light dark"
        assert page.evaluate("matchMedia('(prefers-color-scheme: dark)').matches")

        page.get_by_role("navigation", name="Main, small screen").get_by_role("link", name="Approvals").click()
        page.get_by_role("link", name=re.compile(f"Demo 1 of {name}")).first.click()
        decide(page, "Approve")
        expect(page.locator(".head [data-state=building]")).to_be_visible()

        page.goto(project)
        page.once("dialog", lambda dialog: dialog.accept())
        page.get_by_role("button", name="Cancel project").click()
        expect(page.locator(".head [data-state=cancelled]")).to_be_visible()
