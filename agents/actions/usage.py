"""What a run uses while it works, and asking it to stop because of that."""

from datetime import datetime
from decimal import Decimal
from uuid import UUID

from django.db.models import F
from django.db.models.functions import Coalesce

from agents.models import Agent, Run
from agents.states import ACTIVE_RUN
from projects import audit
from projects.actors import Actor

GATEWAY = Actor.system("gateway")


def record_usage(run_id: UUID, *, tokens: int, cost: Decimal, now: datetime) -> None:
    """Add one model request to its run and agent. `tokens` are of all kinds, `cost` is in the ledger's currency."""
    run = Run.objects.filter(pk=run_id)
    run.update(
        turns=F("turns") + 1,
        tokens_used=F("tokens_used") + tokens,
        cost=F("cost") + cost,
        first_request_at=Coalesce("first_request_at", now),
        model_silent_since=None,
    )
    Agent.objects.filter(pk__in=run.values("agent_id")).update(tokens_used=F("tokens_used") + tokens)


def request_stop(run_id: UUID, reason: str, *, now: datetime) -> bool:
    """Ask a run's supervisor to end it. The first reason stands; return whether this was it."""
    asked = Run.objects.filter(pk=run_id, status__in=ACTIVE_RUN, stop_requested="")
    with audit.journal(by=GATEWAY, now=now) as journal:
        if not asked.update(stop_requested=reason):
            return False
        run = Run.objects.get(pk=run_id)
        journal.add(
            "run.stop_requested",
            project_id=run.project_id,
            agent_id=run.agent_id,
            obj=run,
            details={"reason": reason},
        )
    return True
