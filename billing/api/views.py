"""Money for programs."""

from decimal import Decimal
from typing import Any, ClassVar
from uuid import UUID

from django.conf import settings
from django.db.models import QuerySet, Sum
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.scopes import Scope
from billing.models import LedgerEntry
from projects.api.views import ProjectsApi

_SPENT = (LedgerEntry.Kind.SETTLE, LedgerEntry.Kind.ADJUST)


class TotalsSerializer(serializers.Serializer[Any]):
    """Sums over ledger lines. `spent` is what was settled and adjusted: all else only holds and gives back."""

    currency = serializers.CharField()
    spent = serializers.DecimalField(max_digits=20, decimal_places=6)
    by_kind = serializers.DictField(child=serializers.DecimalField(max_digits=20, decimal_places=6))
    input_tokens = serializers.IntegerField()
    output_tokens = serializers.IntegerField()


def totals(lines: QuerySet[LedgerEntry]) -> dict[str, Any]:
    """Return the sums over these lines."""
    kinds = {row["kind"]: row["sum"] for row in lines.order_by().values("kind").annotate(sum=Sum("amount"))}
    tokens = lines.filter(kind__in=_SPENT).aggregate(input=Sum("input_tokens"), output=Sum("output_tokens"))
    return {
        "currency": settings.EKLAVYA_CURRENCY,
        "spent": sum((kinds.get(kind, Decimal(0)) for kind in _SPENT), Decimal(0)),
        "by_kind": kinds,
        "input_tokens": tokens["input"] or 0,
        "output_tokens": tokens["output"] or 0,
    }


class Ledger(ProjectsApi):
    """What was spent by all projects, or by a key's own."""

    scopes: ClassVar = {"GET": Scope.MONEY_READ}
    serializer_class = TotalsSerializer

    @extend_schema(operation_id="ledger_totals")
    def get(self, request: Request) -> Response:
        """Show the totals."""
        return Response(self.get_serializer(totals(self.of_key(LedgerEntry.objects.all()))).data)


class ProjectLedger(ProjectsApi):
    """What a project spent."""

    scopes: ClassVar = {"GET": Scope.MONEY_READ}
    serializer_class = TotalsSerializer

    @extend_schema(operation_id="projects_ledger_totals")
    def get(self, request: Request, project_id: UUID) -> Response:
        """Show a project's totals."""
        lines = LedgerEntry.objects.filter(project_id=self.project().pk)
        return Response(self.get_serializer(totals(lines)).data)
