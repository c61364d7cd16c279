"""What a run may ask the model, at what price, and what happens when it may not or when its money is unusual.

Plain functions with the ORM, run on the gateway's database threads; the money of usual requests goes by `cashier`.
"""

import logging
from datetime import date, datetime
from decimal import Decimal
from uuid import UUID

from agents.actions import outages
from agents.actions import usage as usage_actions
from agents.gateway.api_errors import ApiError, ended
from agents.gateway.callers import Caller
from agents.gateway.database import Database
from agents.gateway.remembering import Remembered
from billing import actions as billing
from billing import queries as prices
from billing.errors import OverBudget, UnknownPrice
from billing.models import Budget, Price
from billing.prices import Usage, base_model
from projects import audit

logger = logging.getLogger(__name__)

# What the CLI itself uses for small things, such as titles.
SMALL_MODEL = "claude-haiku-4-5"
_WAIT_FOR_MONEY_S = 2
# A price that is added for today is used this much later; mostly sooner.
_PRICE_REMEMBERED_S = 30.0
_PRICE_FRESH_S = 10.0


def offered_models(caller: Caller) -> list[str]:
    """Return the ids of the models that the run may use: its squad's, the second choice, and the small one."""
    return [model for model in dict.fromkeys([caller.model, caller.fallback_model, SMALL_MODEL]) if model]


def check_model(caller: Caller, model: str) -> None:
    """Raise ApiError unless the run may use this model."""
    if base_model(model) not in {base_model(one) for one in offered_models(caller)}:
        raise ApiError("not_found_error", f"model: {model[:100]} is not for this run, use {caller.model}")


class Prices:
    """The prices of today's requests, remembered for a moment."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._known: Remembered[tuple[str, date], Price] = Remembered(self._look)

    async def of(self, model: str, on: date) -> Price:
        """Return the price of a model on a day. Raises ApiError when it has none."""
        return await self._known.of((base_model(model), on), fresh_s=_PRICE_FRESH_S, usable_s=_PRICE_REMEMBERED_S)

    async def _look(self, key: tuple[str, date]) -> Price:
        try:
            return await self._database.call(prices.price_for, *key)
        except UnknownPrice as error:
            raise ApiError("not_found_error", str(error)) from error

    def forget(self) -> None:
        """Ask again for each price."""
        self._known.forget()


def refuse(caller: Caller, error: OverBudget, *, now: datetime) -> ApiError:
    """Record that a request does not fit a limit, and return what the CLI is told."""
    if not error.is_final:
        # Others' requests hold more than they will cost: when they are done there may be room.
        return ApiError("rate_limit_error", str(error), retry_after_s=_WAIT_FOR_MONEY_S)
    # Several requests of a run may find out at once; one says so.
    # The run's own limit is the platform's business; all others wait for the admin.
    reason = "run_budget" if error.scope == Budget.Scope.RUN else "over_budget"
    if usage_actions.request_stop(caller.run_id, reason, now=now):
        billing.record_refusal(
            error, project_id=caller.project_id, run_id=caller.run_id, agent_id=caller.agent_id, now=now
        )
    return ended(str(error))


def stop_for_turns(caller: Caller, max_turns: str, *, now: datetime) -> ApiError:
    """Ask a run to stop that has used its requests, and return what the CLI is told."""
    usage_actions.request_stop(caller.run_id, "turn_limit", now=now)
    return ended(f"This run has used its {max_turns} requests to the model.")


def close(caller: Caller, reservation_id: UUID, usage: Usage | None, *, now: datetime) -> Decimal:
    """Settle a request at what it used, or give its money back where it used nothing. Return the cost.

    For what people must be told of; `cashier.Cashier.close` does the rest. Raises ReservationClosed.
    """
    if usage is None:
        billing.release(reservation_id, now=now)
        return Decimal(0)
    # One transaction, so that run and ledger agree; the journal's, so that its chain is locked last.
    with audit.journal(by=usage_actions.GATEWAY, now=now):
        cost = billing.settle(reservation_id, usage, now=now)
        usage_actions.record_usage(caller.run_id, tokens=usage.total, cost=cost, now=now)
    return cost


def note_silence(caller: Caller, *, now: datetime) -> None:
    """Note that the model's API did not answer this run for as long as the gateway asks."""
    outages.note_silence(caller.run_id, now=now)


def outlived(reservation_id: UUID) -> None:
    """Log a request that was settled, at its full amount, before it was over."""
    logger.warning("a request outlived its reservation", extra={"reservation": str(reservation_id)})
