"""Whether a restored installation is what it was: audit chains, the ledger against its budgets, merged commits."""

from collections.abc import Iterator
from decimal import Decimal
from uuid import UUID

from django.db.models import F, Sum

from agents.models import Run
from agents.sandboxes import repository
from agents.states import RunStatus
from agents.workspace.errors import WorkspaceError
from billing.models import Budget, LedgerEntry
from billing.queries import SPENT
from projects.chains import check_chains


def problems() -> Iterator[str]:
    """Yield each thing that does not fit, in a sentence. Must not be called in a transaction."""
    for report in check_chains():
        if report.found:
            yield f"Audit chain {report.chain} is broken at row {report.found.seq}: {report.found.problem}."
    yield from _of_money()
    yield from _of_commits()


def _of_money() -> Iterator[str]:
    booked = LedgerEntry.objects.filter(kind__in=SPENT).values("project_id").annotate(total=Sum("amount"))
    spent = dict(booked.values_list("project_id", "total"))
    for scope_id, settled in Budget.objects.filter(scope=Budget.Scope.PROJECT).values_list("scope_id", "settled"):
        if spent.get(scope_id, Decimal(0)) != settled:
            total = spent.get(scope_id, Decimal(0))
            yield f"The ledger of project {scope_id} has {total}, and its budget {settled}."


def _of_commits() -> Iterator[str]:
    """Each merged run's commit is in main."""
    merged = Run.objects.filter(status=RunStatus.SUCCEEDED).exclude(merge_commit="")
    for project_id, commit in merged.values_list("project_id", "merge_commit").order_by(F("project_id"), "id"):
        try:
            is_there = repository(UUID(str(project_id))).is_merged(commit)
        except WorkspaceError:
            is_there = False
        if not is_there:
            yield f"Commit {commit[:12]} of project {project_id} was merged, and is not in main."
