"""The money and the limits of model requests: before one is forwarded, and after it was answered.

Plain functions with the ORM, run on the gateway's database threads.
"""

import logging
from datetime import datetime
from decimal import Decimal
from uuid import UUID

from agents.actions import usage as usage_actions
from agents.errors import UnknownToken
from agents.gateway.api_errors import ApiError, ended
from agents.gateway.callers import Caller
from agents.gateway.model_request import ModelRequest
from agents.models import Run
from agents.states import RunStatus
from billing import actions as billing
from billing import queries as prices
from billing.errors import NoBudget, OverBudget, ReservationClosed, UnknownPrice
from billing.models import Budget, Price
from billing.prices import Usage, base_model, worst_case
from projects import audit

logger = logging.getLogger(__name__)

# What the CLI itself uses for small things, such as titles.
SMALL_MODEL = "claude-haiku-4-5"
# While these last the agent's process may be alive and in need of its model.
_WORKING = (RunStatus.STARTING, RunStatus.RUNNING)
_WAIT_FOR_MONEY_S = 2


def check_model(caller: Caller, model: str) -> None:
    """Raise ApiError unless the run may use this model."""
    if base_model(model) not in {base_model(caller.model), SMALL_MODEL}:
        raise ApiError("not_found_error", f"model: {model[:100]} is not for this run, use {caller.model}")


def admit(caller: Caller, asked: ModelRequest, *, in_flight: int, now: datetime) -> UUID:
    """Hold the money for a request and return the reservation's id. `in_flight` counts it in.

    Raises ApiError when the run may not send it, and asks the run to stop where it never may again.
    """
    _check_run(caller, in_flight=in_flight, now=now)
    price = _price(asked.model, now)
    amount = worst_case(
        price, input_tokens=asked.input_bound, max_tokens=asked.max_tokens, long_cache=asked.has_long_cache
    )
    try:
        reservation = billing.reserve(
            run_id=caller.run_id,
            agent_id=caller.agent_id,
            project_id=caller.project_id,
            model=base_model(asked.model),
            amount=amount,
            price=price,
            now=now,
        )
    except NoBudget as error:
        raise ended(str(error)) from error
    except OverBudget as error:
        if not error.is_final:
            # Others' requests hold more than they will cost: when they are done there may be room.
            raise ApiError("rate_limit_error", str(error), retry_after_s=_WAIT_FOR_MONEY_S) from error
        # The run's own limit is the platform's business; the project's and the account's wait for the admin.
        reason = "run_budget" if error.scope == Budget.Scope.RUN else "over_budget"
        usage_actions.request_stop(caller.run_id, reason, now=now)
        raise ended(str(error)) from error
    return reservation.pk


def _check_run(caller: Caller, *, in_flight: int, now: datetime) -> None:
    run = Run.objects.filter(pk=caller.run_id, status__in=_WORKING).values("turns", "stop_requested").first()
    if run is None:
        raise ApiError("authentication_error", str(UnknownToken()))
    if run["stop_requested"]:
        raise ended(f"This run is being stopped ({run['stop_requested']}).")
    if caller.max_turns is not None and run["turns"] + in_flight > caller.max_turns:
        usage_actions.request_stop(caller.run_id, "turn_limit", now=now)
        raise ended(f"This run has used its {caller.max_turns} requests to the model.")


def _price(model: str, now: datetime) -> Price:
    try:
        return prices.price_for(model, now.date())
    except UnknownPrice as error:
        raise ApiError("not_found_error", str(error)) from error


def close(caller: Caller, reservation_id: UUID, usage: Usage | None, *, now: datetime) -> Decimal:
    """Settle a request at what it used, or give its money back where it used nothing. Return the cost."""
    try:
        if usage is None:
            billing.release(reservation_id, now=now)
            return Decimal(0)
        # One transaction, so that run and ledger agree; the journal's, so that its chain is locked last.
        with audit.journal(by=usage_actions.GATEWAY, now=now):
            cost = billing.settle(reservation_id, usage, now=now)
            usage_actions.record_usage(caller.run_id, tokens=usage.total, cost=cost, now=now)
    except ReservationClosed:
        logger.warning("a request outlived its reservation", extra={"reservation": str(reservation_id)})
        return Decimal(0)
    return cost


def offered_models(caller: Caller) -> list[str]:
    """Return the ids of the models that the run may use."""
    return list(dict.fromkeys([caller.model, SMALL_MODEL]))
