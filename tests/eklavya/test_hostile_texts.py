"""What clients and agents write is shown as text, on every page and in the admin, whatever it holds."""

from collections.abc import Callable
from datetime import timedelta
from html.parser import HTMLParser
from typing import Any

import pytest
from django.apps import apps
from django.contrib import admin
from django.db.models import Model
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from agents.models import RunEvent
from agents.sandboxes import repository
from agents.states import RunStatus
from demos.states import DemoStatus
from projects.actors import Actor
from projects.models import Plan, Project, Task
from projects.states import ApprovalKind, ApprovalStatus, PlanStatus, ProjectStatus, TaskStatus
from tests.demos.repositories import commit_files
from tests.factories import (
    ApprovalFactory,
    AuditLogFactory,
    ChatMessageFactory,
    CorrectionFactory,
    DemoFactory,
    DemoFeedbackFactory,
    LedgerEntryFactory,
    MessageFactory,
    NotificationFactory,
    PlanFactory,
    ProjectFactory,
    RequirementFactory,
    RunEventFactory,
    RunFactory,
    TaskFactory,
    UserFactory,
    VerificationFactory,
    WorkerFactory,
)

pytestmark = pytest.mark.django_db
MARK = "hostile7f3"
TEXT = (
    f"{MARK}\"'></title></text></textarea></pre></template><script>alert(1)</script><img src=x onerror=alert(1)>"
    "<svg onload=alert(1)><a href=javascript:alert(1)>a</a> [x](javascript:alert(1)) [y](data:text/html,<script>)"
    " ![z](https://evil.example/p.png) {{ settings.SECRET_KEY }}"
)
NAME = TEXT[:100]
ADDRESSES = {"href", "src", "action", "formaction", "xlink:href", "hx-get", "srcdoc", "poster", "background", "data"}
QUESTIONS = [{"question": TEXT, "options": [TEXT, "No"], "recommended": TEXT}]
FILE = "hostile7f3 '<img src=x onerror=alert(1)>.html"
Page = Callable[["House"], str]


class Finder(HTMLParser):
    """Collects what could run, and what would be asked of strangers."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag == "script" and not given.get("src", "").startswith("/static/"):
            self.found.append(f"script {given}")
        if tag in {"object", "embed", "base"} or (tag == "img" and "evil" in given.get("src", "")):
            self.found.append(f"{tag} {given}")
        for name, value in given.items():
            address = "".join(char for char in value if char > " ").lower()
            if name.startswith("on") or name == "style" or self._runs(name, address):
                self.found.append(f"{tag} {name}={value}")

    @staticmethod
    def _runs(name: str, address: str) -> bool:
        return name in ADDRESSES and (
            address.startswith(("javascript:", "vbscript:", "data:")) or name == "srcdoc" or "evil.example" in address
        )


class House:
    """A project full of what it should not be trusted with."""

    def __init__(self) -> None:
        user = UserFactory(username="asha")
        self.project: Project = ProjectFactory(
            name=NAME, client_name=NAME, description=TEXT, status=ProjectStatus.BUILDING, created_by=user
        )
        project = self.project
        RequirementFactory(project=project, title=NAME, body=TEXT, acceptance_criteria=[TEXT])
        self.plan: Plan = PlanFactory(project=project, summary=TEXT, content=planned(), status=PlanStatus.ACTIVE)
        self.task: Task = TaskFactory(
            project=project, plan=self.plan, key="storage", title=NAME, description=TEXT, detail=TEXT,
            acceptance_criteria=[TEXT], status=TaskStatus.IN_PROGRESS,
        )  # fmt: skip
        self.run = RunFactory(task=self.task, status=RunStatus.RUNNING, worker=WorkerFactory(name=NAME))
        for kind in RunEvent.Kind:
            RunEventFactory(run=self.run, kind=kind, payload=said(kind))
        VerificationFactory(project=project, run=self.run, detail=TEXT, test_output=TEXT, start_output=TEXT)
        self.failed = RunFactory(task=TaskFactory(project=project, title=NAME), status=RunStatus.FAILED, detail=TEXT)
        demo = DemoFactory(project=project, summary=TEXT, expires_at=timezone.now() + timedelta(days=1))
        DemoFeedbackFactory(demo=demo, body=TEXT, user=user)
        DemoFactory(project=project, status=DemoStatus.EXPIRED, detail=TEXT, summary=TEXT, feedback=TEXT)
        ChatMessageFactory(project=project, body=TEXT, author_name=NAME)
        ChatMessageFactory(project=project, body=TEXT, author_name=NAME, author="person")
        NotificationFactory(project=project, title=NAME, message=TEXT, level="warning")
        MessageFactory(project=project, payload={"body": TEXT})
        LedgerEntryFactory(project_id=project.pk, note=NAME, model=NAME)
        AuditLogFactory(project_id=project.pk, by=Actor.system(NAME), details={"key": TEXT, TEXT: TEXT, "reason": TEXT})
        self.approvals = [self._asked(kind, demo.pk) for kind in ApprovalKind]
        decided = self._asked(ApprovalKind.QUESTION, demo.pk, status=ApprovalStatus.AMENDED, answers=[TEXT])
        CorrectionFactory(project=project, approval=decided, text=TEXT)
        self.approvals.append(decided)
        self.commit = commit_files(repository(project.pk), {f'"{FILE}"': TEXT, "README.md": TEXT})

    def _asked(self, kind: ApprovalKind, demo: Any, **fields: Any) -> Any:
        subjects = {ApprovalKind.DEMO: demo, ApprovalKind.PLAN: self.plan.pk}
        is_question = kind == ApprovalKind.QUESTION
        return ApprovalFactory(
            project=self.project, kind=kind, title=NAME, body=TEXT, subject_id=subjects.get(kind, self.task.pk),
            task=self.task if kind in {ApprovalKind.QUESTION, ApprovalKind.BLOCKED_TASK} else None,
            questions=QUESTIONS if is_question else [], comment=TEXT if fields else "", **fields,
        )  # fmt: skip

    def tab(self, name: str, query: str = "") -> str:
        return reverse(name, args=[self.project.pk]) + query


def planned() -> list[dict[str, Any]]:
    """A plan whose every text is hostile."""
    criteria = {"description": TEXT, "acceptance_criteria": [TEXT]}
    return [
        {"key": "storage", "title": TEXT, "role": "developer", "depends_on": [], **criteria},
        {"key": "pages", "title": TEXT, "role": "tester", "depends_on": ["storage"], **criteria},
    ]


def said(kind: RunEvent.Kind) -> dict[str, Any]:
    """A payload of a transcript's line, hostile wherever it says something."""
    match kind:
        case RunEvent.Kind.TOOL_USE:
            return {"name": TEXT, "input": {"command": TEXT, TEXT: TEXT}}
        case RunEvent.Kind.MESSAGE:
            return {"messages": [{"from": TEXT, "data": {"body": TEXT}}]}
        case _:
            return {"text": TEXT, "content": TEXT, "result": TEXT, "is_error": True, "subtype": TEXT}


PAGES: dict[str, Page] = {
    name: lambda house, name=name: reverse(name)  # type: ignore[misc]
    for name in ("home", "projects", "approvals", "agents", "workers", "budget", "audit")
} | {
    name: lambda house, name=name: house.tab(name)  # type: ignore[misc]
    for name in (
        "project", "project_board", "project_plan", "project_runs", "project_demos", "project_files", "project_money",
        "project_audit",
    )
} | {
    "decided": lambda house: f"{reverse('approvals')}?show=decided",
    "an older demo": lambda house: house.tab("project_demos", "?demo=1"),
    "a task": lambda house: reverse("task", args=[house.task.pk]),
    "a run": lambda house: reverse("run", args=[house.run.pk]),
    "a run's new lines": lambda house: f"{reverse('run', args=[house.run.pk])}?after=0",
    "a failed run": lambda house: reverse("run", args=[house.failed.pk]),
    "a file": lambda house: house.tab("project_files", "?path=README.md"),
    "a commit's changes": lambda house: house.tab("project_changes", f"?commit={house.commit}"),
    **{
        f"asked: {kind}": lambda house, n=n: reverse("approval", args=[house.approvals[n].pk])  # type: ignore[misc]
        for n, kind in enumerate([*ApprovalKind.values, "answered"])
    },
}  # fmt: skip
SHOWN = [model for app in ("projects", "billing", "agents", "demos") for model in apps.get_app_config(app).get_models()]
REGISTERED = [model for model in SHOWN if admin.site.is_registered(model)]


@pytest.fixture
def admin_in(client: Client) -> Client:
    client.force_login(UserFactory(username="root", is_superuser=True, is_staff=True))
    return client


def dangers(html: str) -> list[str]:
    finder = Finder()
    finder.feed(html)
    return finder.found


@pytest.mark.parametrize("page", PAGES)
def test_hostile_texts_are_text(admin_in: Client, page: str) -> None:
    response = admin_in.get(PAGES[page](House()))

    html = response.content.decode()
    assert response.status_code == 200
    assert MARK in html
    assert dangers(html) == []


def test_hostile_texts_are_text_in_the_live_part_too(admin_in: Client) -> None:
    html = admin_in.get(House().tab("project"), headers={"HX-Request": "true"}).content.decode()

    assert MARK in html
    assert dangers(html) == []


@pytest.mark.parametrize("model", REGISTERED, ids=lambda model: model.__name__)
def test_hostile_texts_are_text_in_the_admin(admin_in: Client, model: type[Model]) -> None:
    House()
    row = model._default_manager.order_by("-pk").first()
    label = f"{model._meta.app_label}_{model._meta.model_name}"

    pages = [reverse(f"admin:{label}_changelist")]
    if row is not None:
        pages.append(reverse(f"admin:{label}_change", args=[row.pk]))

    for address in pages:
        response = admin_in.get(address)
        assert response.status_code == 200
        assert [danger for danger in dangers(response.content.decode()) if "alert" in danger or "evil" in danger] == []


def test_the_finder_finds() -> None:
    assert len(dangers("<script>1</script><b onclick=1><a href=' java\nscript:1'><img src=//evil.example/x>")) == 5
