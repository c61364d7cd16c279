"""Reads that several callers need."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db.models import Count, Exists, F, OuterRef, Q, QuerySet, Subquery
from django.db.models.functions import Coalesce

from agents.models import Worker
from agents.states import WorkerStatus
from demos.errors import FAILURES
from demos.models import Demo
from demos.states import DemoStatus
from projects.models import Project, Task
from projects.states import ProjectStatus, TaskKind, TaskStatus

_ENDED_PROJECT = (ProjectStatus.CANCELLED, ProjectStatus.ARCHIVED)
UNDECIDED_DEMO = frozenset({DemoStatus.BUILDING, DemoStatus.READY})


def demo_number_of(task: Task) -> int:
    """Return the number of the demo that a demo task makes: its place among the project's demo tasks."""
    return task.project.tasks.filter(kind=TaskKind.DEMO, pk__lte=task.pk).count()


def tasks_without_demo() -> QuerySet[Task]:
    """Return completed demo tasks whose demo was not opened yet, of projects that are at their demos."""
    earlier = Task.objects.filter(project=OuterRef("project"), kind=TaskKind.DEMO, pk__lte=OuterRef("pk"))
    counts = earlier.order_by().values("project").annotate(n=Count("pk")).values("n")
    return (
        Task.objects.filter(kind=TaskKind.DEMO, status=TaskStatus.COMPLETED, project__status=ProjectStatus.DEMO)
        .annotate(number=Coalesce(Subquery(counts), 0))
        .exclude(Exists(Demo.objects.filter(project=OuterRef("project"), demo_number=OuterRef("number"))))
        .select_related("project")
        .order_by("pk")
    )


def _wanted(now: datetime) -> Q:
    """Demos whose preview should run: until they expire, are closed, or their project is given up.

    A demo that was sent back stays open beside the next one, until that one is decided too (`actions.decide_demo`).
    """
    return (
        ~Q(status=DemoStatus.EXPIRED)
        & Q(revoked_at__isnull=True, expires_at__gt=now)
        & ~Q(project__status__in=_ENDED_PROJECT)
    )


def wanting_preview(now: datetime) -> QuerySet[Demo]:
    """Return the demos whose preview should be running, oldest first."""
    return Demo.objects.filter(_wanted(now)).select_related("project").order_by("pk")


def done_with_preview(now: datetime) -> QuerySet[Demo]:
    """Return the demos that still name a sandbox but should not have one."""
    return Demo.objects.exclude(sandbox="").exclude(_wanted(now)).select_related("project").order_by("pk")


def present_workers() -> frozenset[str]:
    """Return the names of the workers that beat: each keeps the previews that are its own, and nobody else does."""
    return frozenset(Worker.objects.exclude(status=WorkerStatus.OFFLINE).values_list("name", flat=True))


def to_expire(now: datetime) -> QuerySet[Demo]:
    """Return undecided demos whose time is over or whose project is not at its demos any more."""
    at_demos = Q(project__status=ProjectStatus.DEMO) | Q(project__paused_from=ProjectStatus.DEMO)
    undecided = Demo.objects.filter(status__in=UNDECIDED_DEMO).select_related("project").order_by("pk")
    return undecided.filter(Q(expires_at__lte=now) | ~at_demos)


def is_at_demos(project: Project) -> bool:
    """Return whether a project is at its demos, running or paused there."""
    return (project.paused_from or project.status) == ProjectStatus.DEMO


def is_open(demo: Demo, now: datetime) -> bool:
    """Return whether people may look at a demo's preview: as `Door.is_open`, and it has been started.

    One that was sent back stays open until the next is decided, so that the two can be compared.
    """
    closed = demo.status in {DemoStatus.BUILDING, DemoStatus.EXPIRED} or demo.revoked_at is not None
    return not closed and now < demo.expires_at and demo.project.status not in _ENDED_PROJECT


def failed_in_a_row(project: Project) -> int:
    """Return how many of the project's newest demos, one after the other, could not be shown."""
    count = 0
    for status, reason in project.demos.order_by("-demo_number").values_list("status", "reason"):
        if status != DemoStatus.EXPIRED or reason not in FAILURES:
            break
        count += 1
    return count


def feedback_so_far(project: Project) -> list[dict[str, Any]]:
    """Return what was said of each demo, [{"demo", "text"}] in order, for the developer of the next one.

    Also what the platform says of demos that could not be shown.
    """
    told: list[dict[str, Any]] = []
    for demo in project.demos.order_by("demo_number").prefetch_related("remarks"):
        remarks = [remark.body for remark in sorted(demo.remarks.all(), key=lambda remark: remark.pk)]
        told += [{"demo": demo.demo_number, "text": _as_told(demo, body)} for body in remarks]
        if demo.status == DemoStatus.EXPIRED and demo.reason in FAILURES:
            text = f"The platform could not show this demo ({demo.reason}). {demo.detail}"
            told.append({"demo": demo.demo_number, "text": text})
    return told


def _as_told(demo: Demo, body: str) -> str:
    if demo.status == DemoStatus.REJECTED:
        return f"This demo was rejected: start over instead of changing it. {body}"
    return body


@dataclass(frozen=True)
class Door:
    """What the proxy needs to know of a demo: whether to open, and to where."""

    demo_id: UUID
    demo_number: int
    status: DemoStatus
    reason: str
    address: str
    """host:port, or empty while the preview does not run."""
    expires_at: datetime
    revoked: bool

    def is_open(self, now: datetime) -> bool:
        """Return whether visitors may come in."""
        return not self.revoked and self.status != DemoStatus.EXPIRED and now < self.expires_at


def door(token: str) -> Door | None:
    """Return what is behind a token, or None when no demo has it."""
    demo = Demo.objects.filter(token=token).annotate(project_status=F("project__status")).first()
    if demo is None:
        return None
    return Door(
        demo_id=demo.pk,
        demo_number=demo.demo_number,
        status=DemoStatus(demo.status),
        reason=demo.reason,
        address=demo.address,
        expires_at=demo.expires_at,
        revoked=demo.revoked_at is not None or demo.project_status in _ENDED_PROJECT,
    )
