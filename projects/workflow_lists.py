"""What the pages of the house's workflows read: each workflow with what is and was lately carried out of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db.models import Count, Exists, OuterRef, Q, QuerySet

from projects.models import Execution, Workflow
from projects.states import OPEN_EXECUTION, ExecutionStatus

RECENT = timedelta(days=7)
"""Executions that ended longer ago are not counted: there may be any number of them."""
MOST_VERSIONS = 20


@dataclass(frozen=True)
class Listed:
    """A workflow's newest version, and how many executions of any version there are, by state."""

    workflow: Workflow
    counts: list[tuple[str, int]]


def newest_versions() -> QuerySet[Workflow]:
    """Return the newest version of each workflow, without its definition."""
    newer = Workflow.objects.filter(key=OuterRef("key"), version__gt=OuterRef("version"))
    return Workflow.objects.defer("definition").filter(~Exists(newer))


def listed(found: Sequence[Workflow], *, now: datetime) -> list[Listed]:
    """Return workflows with their executions: those under way, and those that ended lately. One statement."""
    counted = Execution.objects.filter(workflow__key__in=[one.key for one in found]).filter(
        Q(status__in=OPEN_EXECUTION) | Q(finished_at__gte=now - RECENT)
    )
    rows = counted.values_list("workflow__key", "status").annotate(n=Count("pk"))
    counts = {(key, status): n for key, status, n in rows}
    return [
        Listed(one, [(state, counts[one.key, state]) for state in ExecutionStatus.values if (one.key, state) in counts])
        for one in found
    ]


def versions(key: str) -> list[Workflow]:
    """Return the newest versions of a workflow, the first in force; none where there is no such workflow."""
    return list(Workflow.objects.filter(key=key).defer("definition").order_by("-version")[:MOST_VERSIONS])


def executions(key: str, state: str = "") -> QuerySet[Execution]:
    """Return the executions of a workflow in all projects, in one state or all."""
    found = Execution.objects.filter(workflow__key=key).select_related("workflow", "project")
    return found.filter(status=state) if state else found
