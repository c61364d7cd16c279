"""One model request from the sandbox to the API and back, with the money held while it is under way."""

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from functools import partial

import anyio
from anyio.lowlevel import checkpoint
from django.conf import settings
from django.db import InterfaceError, OperationalError
from django.utils import timezone
from psycopg.errors import ForeignKeyViolation
from starlette.requests import ClientDisconnect, Request
from starlette.types import Receive, Scope, Send

from agents.errors import UnknownToken
from agents.gateway import accounts
from agents.gateway.api_errors import ApiError, ended
from agents.gateway.attempts import Attempts, Refusal, Silent
from agents.gateway.bodies import read_body
from agents.gateway.callers import LOOKED_AT_S, Caller, Callers
from agents.gateway.cashier import Cashier, RunOver, RunStopping, TurnsUsed, Unusual
from agents.gateway.database import Database
from agents.gateway.limits import Places
from agents.gateway.metering import BlindMeter, Meter, estimate_tokens, meter_of
from agents.gateway.model_request import ModelRequest, read_request, with_model
from agents.gateway.refusals import Refusals
from agents.gateway.strangers import Door, Strangers, peer_of
from agents.gateway.upstream import OK, Answer, Cut, Unreachable, Upstream
from agents.gateway.ways import Ways
from billing.errors import NoBudget, OverBudget, ReservationClosed
from billing.models import Reservation
from billing.prices import Usage, base_model, worst_case

logger = logging.getLogger(__name__)

MOST_AT_ONCE = 4  # requests of one run
# Waits before the next attempt to settle, in seconds: a database that restarts is back by then.
_SETTLE_AGAIN_S = (0.5, 1, 2, 4, 8)
# In all, so that a reservation never expires under a request that is still alive.
_LONGEST_S = 30 * 60


@dataclass(frozen=True)
class Services:
    """What all endpoints of a gateway share."""

    callers: Callers
    database: Database
    cashier: Cashier
    ways: Ways
    attempts: Attempts
    places: Places
    refusals: Refusals
    strangers: Strangers


class Relay:
    """The endpoint of model requests, as an ASGI application. With `counting` nothing is spent and nothing held."""

    def __init__(self, path: str, services: Services) -> None:
        self._path = path
        self.counting = path.endswith("/count_tokens")
        self._callers = services.callers
        self._database = services.database
        self._cashier = services.cashier
        self._prices = accounts.Prices(services.database)
        self._ways = services.ways
        self._attempts = services.attempts
        self._places = services.places
        self._refusals = services.refusals
        self._strangers = services.strangers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        request = Request(scope, receive)
        caller: Caller | None = None
        try:
            # What is paid for looks at the run again when its money is held.
            age = {} if self.counting else {"max_age_s": LOOKED_AT_S}
            caller = await self._callers.of(request.headers, **age)
            asked = self._read(await read_body(request), caller)
            accounts.check_model(caller, asked.model)
            with self._places.take(caller.run_id) as in_flight, anyio.move_on_after(_LONGEST_S):
                exchange = _Exchange(self, request, caller, asked, in_flight)
                await exchange.run(send)
            await self._refusals.note_passed(caller, asked.unknown, now=timezone.now())
        except UnknownToken as error:
            await ApiError("authentication_error", str(error)).response()(scope, receive, send)
            await self._strangers.note(Door.MODEL, peer_of(request), now=timezone.now())
        except ApiError as error:
            await error.response()(scope, receive, send)
            if caller is not None:
                await self._refusals.note(caller, error, now=timezone.now())
        except ClientDisconnect:
            return
        except Exception:
            logger.exception("a model request failed on the platform's side")
            # In the middle of an answer nothing more can be said; the server cuts it.
            await ApiError("api_error", "Internal server error").response()(scope, receive, send)

    def _read(self, body: bytes, caller: Caller) -> ModelRequest:
        also = settings.EKLAVYA_MODEL_FIELDS
        return read_request(body, counting=self.counting, researches=caller.researches, also=also)

    async def way_of(self, caller: Caller) -> Upstream:
        """Return where the caller's requests go, and with whose key. Raises ApiError."""
        return await self._ways.of(caller)

    async def ask(
        self, way: Upstream, asked: ModelRequest, send: Callable[[], Awaitable[Answer]]
    ) -> tuple[Answer | Refusal, int]:
        """Have the request sent until it is answered; see `Attempts.ask`."""
        return await self._attempts.ask(send, of=f"{way.provider}/{base_model(asked.model)}")

    async def send(self, way: Upstream, request: Request, asked: ModelRequest) -> Answer:
        """Send the request on, once. Raises Unreachable."""
        return await way.send(self._path, asked.body, query=request.url.query, headers=request.headers)

    async def hold(self, caller: Caller, asked: ModelRequest, in_flight: int) -> Reservation | None:
        """Hold the request's money. Raises ApiError when the run may not send it."""
        if self.counting:
            return None
        try:
            return await self._hold(caller, asked, in_flight)
        except ForeignKeyViolation:
            # The price that was remembered is gone: a row that was never used may be removed, and entered again.
            self._prices.forget()
            return await self._hold(caller, asked, in_flight)

    async def _hold(self, caller: Caller, asked: ModelRequest, in_flight: int) -> Reservation:
        now = timezone.now()
        price = await self._prices.of(asked.model, now.date())
        amount = asked.fees + worst_case(
            price, input_tokens=asked.input_bound, max_tokens=asked.max_tokens, long_cache=asked.has_long_cache
        )
        hold = self._cashier.hold(
            caller, model=base_model(asked.model), amount=amount, price=price, in_flight=in_flight, now=now
        )
        # A cancelled wait would leave the money held.
        with anyio.CancelScope(shield=True):
            try:
                reservation = await hold
            except RunOver as error:
                raise ApiError("authentication_error", str(UnknownToken())) from error
            except RunStopping as error:
                raise ended(f"This run is being stopped ({error}).") from error
            except NoBudget as error:
                raise ended(str(error)) from error
            except TurnsUsed as error:
                raise await self._database.call(accounts.stop_for_turns, caller, str(error), now=now) from error
            except OverBudget as error:
                raise await self._database.call(accounts.refuse, caller, error, now=now) from error
        return reservation

    async def close(self, caller: Caller, reservation: Reservation | None, usage: Usage | None) -> None:
        """Settle or give back, whatever happens around. What cannot be settled expires at its full amount."""
        if reservation is None:
            return
        with anyio.CancelScope(shield=True):
            for pause in (*_SETTLE_AGAIN_S, None):
                try:
                    await self._close(caller, reservation, usage)
                    return
                except ReservationClosed:
                    accounts.outlived(reservation.pk)
                    return
                except (OperationalError, InterfaceError):
                    if pause is None:
                        raise
                    logger.warning("the database does not answer, settling again", exc_info=True)
                    await anyio.sleep(pause)

    async def _close(self, caller: Caller, reservation: Reservation, usage: Usage | None) -> None:
        now = timezone.now()
        try:
            await self._cashier.close(caller, reservation, usage, now=now)
        except Unusual:
            await self._database.call(accounts.close, caller, reservation.pk, usage, now=now)

    async def note_silence(self, caller: Caller) -> None:
        """Note that the API does not answer this run."""
        with anyio.CancelScope(shield=True):
            await self._database.call(accounts.note_silence, caller, now=timezone.now())


class _Exchange:
    """One request under way, watched for the client's leaving."""

    def __init__(self, relay: Relay, request: Request, caller: Caller, asked: ModelRequest, in_flight: int) -> None:
        self._relay = relay
        self._request = request
        self._caller = caller
        self._asked = asked
        self._in_flight = in_flight
        self._input_estimate = estimate_tokens(len(asked.body))
        self._way: Upstream
        self._meter: Meter | None = None  # as soon as something came
        self._lost = 0  # attempts that the API may have read, and that nobody answered
        self._is_waiting = False  # sent, and nothing known of an answer
        self._error: ApiError | None = None

    async def run(self, send: Send) -> None:
        """Carry the request out until its answer is through or the client left. Raises ApiError."""
        async with anyio.create_task_group() as group:
            group.start_soon(self._watch, group.cancel_scope)
            try:
                await self._carry_out(send)
            except ApiError as error:
                self._error = error  # raised in the group it would come out as a group
            group.cancel_scope.cancel()
        if self._error is not None:
            raise self._error

    async def _watch(self, scope: anyio.CancelScope) -> None:
        while (await self._request.receive())["type"] != "http.disconnect":
            pass
        scope.cancel()

    async def _carry_out(self, send: Send) -> None:
        """Ask the model, then the squad's second choice where the first does not answer for long."""
        self._way = await self._relay.way_of(self._caller)
        found = await self._try(self._asked, send)
        second = self._caller.fallback_model
        if found is not None and second and base_model(second) != base_model(self._asked.model):
            logger.warning("%s does not answer, asking %s", self._asked.model, second)
            found = await self._try(with_model(self._asked, second), send) or None
        if found is None:
            return
        await self._relay.note_silence(self._caller)
        if isinstance(found, Refusal):
            await _pass_refusal(found, send)
        else:
            wait = round(found.retry_after_s)
            raise ApiError("overloaded_error", str(found), retry_after_s=wait)

    async def _try(self, asked: ModelRequest, send: Send) -> Refusal | Silent | None:
        """Hold the money for a request, and pass its answer on. Return what stood in for an answer where none came."""
        self._meter = None
        self._lost = 0
        reservation = await self._relay.hold(self._caller, asked, self._in_flight)
        try:
            return await self._pass_through(asked, send)
        finally:
            self._is_waiting, waited = False, self._is_waiting
            await self._relay.close(self._caller, reservation, self._usage(waited=waited))

    def _usage(self, *, waited: bool) -> Usage | None:
        """Return what to settle. Whoever leaves before the answer begins still pays for what was read."""
        used = self._meter.usage() if self._meter else None
        if used is None and waited:
            used = Usage(input_tokens=self._input_estimate)
        if self._lost:
            used = used or Usage()
            used = replace(used, input_tokens=used.input_tokens + self._lost * self._input_estimate)
        return used

    async def _pass_through(self, asked: ModelRequest, send: Send) -> Refusal | Silent | None:
        await checkpoint()  # who left while the money was being held does not pay for what was never sent
        try:
            answer, self._lost = await self._relay.ask(self._way, asked, partial(self._send_on, asked))
        except Silent as silent:
            self._lost = silent.lost
            return silent
        if isinstance(answer, Refusal):
            if answer.is_outage:
                return answer
            await _pass_refusal(answer, send)
            return None
        try:
            await self._pass_answer(answer, asked, send)
        finally:
            answer.close()
        return None

    async def _send_on(self, asked: ModelRequest) -> Answer:
        self._is_waiting = True
        try:
            answer = await self._relay.send(self._way, self._request, asked)
        except Unreachable:
            self._is_waiting = False
            raise
        self._is_waiting = answer.status == OK
        return answer

    async def _pass_answer(self, answer: Answer, asked: ModelRequest, send: Send) -> None:
        await send({"type": "http.response.start", "status": answer.status, "headers": answer.returned_headers})
        try:
            async for chunk in answer.chunks():
                meter = self._meter or self._begin_meter(chunk, answer, asked)
                meter.feed(chunk)
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
        except Cut as error:
            # Left without its last message, the server cuts the client's connection too: the CLI must notice.
            self._is_waiting = False
            logger.warning("an answer of the model's API was cut: %s", error)
            return
        self._is_waiting = False
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    def _begin_meter(self, first: bytes, answer: Answer, asked: ModelRequest) -> Meter:
        if answer.is_packed:
            logger.error("an answer of the model's API is packed although that was not asked for, and cannot be read")
            self._meter = BlindMeter(asked.most)
            return self._meter
        meter = meter_of(first, input_estimate=self._input_estimate)
        if first.strip():
            self._meter = meter
        return meter


async def _pass_refusal(refusal: Refusal, send: Send) -> None:
    """Hand the API's refusal on; the CLI knows what to do about each."""
    if refusal.status in {401, 403}:
        logger.error("the model's API refuses the platform's key: status %s", refusal.status)
    await send({"type": "http.response.start", "status": refusal.status, "headers": refusal.headers})
    await send({"type": "http.response.body", "body": refusal.body, "more_body": False})
