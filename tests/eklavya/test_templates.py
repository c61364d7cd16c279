"""What holds for every template, and for the files that the pages load."""

import hashlib
import re
from pathlib import Path

import pytest
from django.conf import settings
from django.template.loader import get_template

from agents.states import AgentStatus, RunStatus, WorkerStatus
from demos.states import DemoStatus
from projects.roles import Role
from projects.states import ApprovalKind, ApprovalStatus, PlanStatus, ProjectStatus, TaskStatus
from projects.vocabulary import APPROVAL_ICONS, LOOKS, ROLE_ICONS

ROOT = Path(settings.BASE_DIR)
TEMPLATES = sorted((ROOT / "templates").rglob("*.html"))
DIST = ROOT / "static" / "dist"
MACHINES = {
    "project": ProjectStatus,
    "plan": PlanStatus,
    "task": TaskStatus,
    "run": RunStatus,
    "agent": AgentStatus,
    "demo": DemoStatus,
    "approval": ApprovalStatus,
    "worker": WorkerStatus,
}
FORBIDDEN = {
    "an inline script": r"<script(?![^>]*\ssrc=)[^>]*>",
    "an inline style": r"<style\b|\sstyle=",
    "an inline handler": r"\son[a-z]+=\"",
    "htmx code that needs eval": r"hx-on|hx-vals=['\"]js:|hx-trigger=\"[^\"]*\[",
    "a javascript: address": r"javascript:",
    "text passed on without escaping": r"\|safe\b|autoescape off|mark_safe",
}


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


def test_there_are_templates() -> None:
    assert len(TEMPLATES) > 50


@pytest.mark.parametrize("path", TEMPLATES, ids=relative)
def test_a_template_holds_nothing_that_the_policy_refuses(path: Path) -> None:
    text = path.read_text()

    assert [what for what, pattern in FORBIDDEN.items() if re.search(pattern, text)] == []


@pytest.mark.parametrize("path", TEMPLATES, ids=relative)
def test_a_template_compiles(path: Path) -> None:
    get_template(str(path.relative_to(ROOT / "templates")))


@pytest.mark.parametrize("path", TEMPLATES, ids=relative)
def test_a_form_that_writes_carries_its_token(path: Path) -> None:
    forms = re.findall(r"<form\b[^>]*method=\"post\".*?</form>", path.read_text(), re.DOTALL)

    assert [form[:80] for form in forms if "{% csrf_token %}" not in form] == []


@pytest.mark.parametrize("machine", MACHINES)
def test_every_state_has_a_badge_and_no_badge_lacks_a_state(machine: str) -> None:
    assert set(LOOKS[machine]) == set(MACHINES[machine].values)


def test_every_role_and_kind_of_decision_has_an_icon() -> None:
    assert set(ROLE_ICONS) == set(Role.values)
    assert set(APPROVAL_ICONS) == set(ApprovalKind.values)


def test_every_icon_that_is_named_is_in_the_sprite() -> None:
    drawn = set(re.findall(r'<symbol id="([a-z0-9-]+)"', (DIST / "icons.svg").read_text()))
    named = {look.icon for states in LOOKS.values() for look in states.values()}
    named |= set(ROLE_ICONS.values()) | set(APPROVAL_ICONS.values())
    for path in TEMPLATES:
        named |= set(re.findall(r"{% icon \"([^\"]+)\"", path.read_text()))
        named |= set(re.findall(r"icon_name=\"([^\"]+)\"", path.read_text()))
    named |= set(re.findall(r'_entry\(event, "\w+", "([a-z-]+)"', (ROOT / "agents/transcript.py").read_text()))

    assert named - drawn == set()


def test_the_built_files_are_those_of_their_manifest() -> None:
    listed = dict(line.split("  ")[::-1] for line in (DIST / "MANIFEST.sha256").read_text().splitlines())
    there = {
        str(path.relative_to(DIST)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in DIST.rglob("*")
        if path.is_file() and path.name != "MANIFEST.sha256"
    }

    assert there == listed


def test_the_built_files_are_those_of_the_present_sources() -> None:
    """What `make lint` asks of digests; `npm run check` builds anew."""
    listed = dict(line.split("  ")[::-1] for line in (DIST / "SOURCES.sha256").read_text().splitlines())
    frontend = ROOT / "frontend"
    read = [frontend / name for name in ("build.mjs", "icons.txt", "package-lock.json")]
    read += [path for name in ("src", "styles") for path in (frontend / name).rglob("*") if path.is_file()]

    assert {
        str(path.relative_to(frontend)): hashlib.sha256(path.read_bytes()).hexdigest() for path in read
    } == listed, "make frontend"


def test_the_bundle_needs_nothing_from_elsewhere() -> None:
    css = (DIST / "app.css").read_text()

    assert set(re.findall(r"url\(([^)]+)\)", css)) == {
        f"./fonts/{name}.woff2" for name in ("inter-latin", "inter-latin-ext", "mono-latin", "mono-latin-ext")
    }


def test_the_lock_names_no_registry() -> None:
    assert '"resolved"' not in (ROOT / "frontend" / "package-lock.json").read_text()
