"""The proxy: each connection from its first byte to its last, and the clock that ends those of ended runs."""

import asyncio
import logging
import time
from asyncio import StreamReader, StreamWriter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from uuid import UUID

import h11
from django.conf import settings

from agents.egress import EgressClass, allow_list
from agents.gateway.database import Database
from agents.gateway.egress import wire
from agents.gateway.egress.accounts import Accounts, Doors, Limits
from agents.gateway.egress.callers import DATABASE_AWAY, Caller, Callers
from agents.gateway.egress.forwarding import Side, forward, upstream_parser
from agents.gateway.egress.policy import (
    Reason,
    Refused,
    check_addresses,
    check_target,
    read_authority,
    read_url,
)
from agents.gateway.egress.record import EVERY_S, Account, Recorder
from agents.gateway.egress.resolving import Resolve, SystemResolver
from agents.gateway.egress.tunnel import Streams, join
from agents.gateway.egress.wire import Client
from agents.gateway.holds import Holds
from projects.addresses import Address, Rule, Target, own_addresses

logger = logging.getLogger(__name__)

Connect = Callable[[Address, int], Awaitable[Streams]]

# Of both sides: more is not read before it was passed on.
_BUFFER_BYTES = 64 * 1024
_CONNECT_S = 5.0
_MOST_TRIES = 3
_OWN_ADDRESSES_S = 5.0
# Open connections outlive a silent database for so long; afterwards nobody could say whether their run has ended.
BLIND_S = 10.0


async def connect(address: Address, port: int) -> Streams:
    """Open a connection to exactly this address. Raises OSError."""
    return await asyncio.open_connection(str(address), port, limit=_BUFFER_BYTES)


class EgressProxy:
    """Serves all runs of a machine. `resolve` and `connect` are the system's; tests have their own."""

    def __init__(self, *, resolve: Resolve | None = None, connect: Connect = connect, every_s: float = EVERY_S) -> None:
        self._database = Database()
        self._system_resolver = SystemResolver() if resolve is None else None
        self._resolve: Resolve = resolve or self._system_resolver  # type: ignore[assignment]
        self._connect = connect
        self._every_s = every_s
        self._rules: dict[EgressClass, tuple[Rule, ...]] = {one: allow_list(one) for one in EgressClass}
        self._callers = Callers(self._database)
        limits = Limits(settings.EKLAVYA_EGRESS_CONNECTIONS, settings.EKLAVYA_EGRESS_BYTES)
        self._holds = Holds("egress")
        self._accounts = Accounts(self._database, self._holds, limits)
        self._recorder = Recorder(self._database)
        self._doors = Doors()
        self._tasks: set[asyncio.Task[None]] = set()
        self._own: tuple[float, frozenset[Address]] = (0.0, frozenset())

    # -- its life

    async def serve(self, host: str, port: int, *, ready: Callable[[int], None] = lambda port: None) -> None:
        """Serve until cancelled. `ready` is told the port once it is open."""
        server = await asyncio.start_server(self._accept, host, port, limit=_BUFFER_BYTES, backlog=512)
        ready(server.sockets[0].getsockname()[1])
        try:
            async with server:
                await asyncio.gather(self._write(), self._watch())
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            await self._recorder.flush(all_of_it=True)
            if self._system_resolver:
                self._system_resolver.close()
            await self._holds.stop()
            self._database.close()

    async def _write(self) -> None:
        """Write the record, again and again."""
        while True:
            await asyncio.sleep(self._every_s)
            await self._recorder.flush()
            self._accounts.forget_idle()

    async def _watch(self) -> None:
        """Cut the connections of runs that have ended; and all, when that cannot be known for too long."""
        sure_at = time.monotonic()
        while True:
            await asyncio.sleep(self._every_s)
            busy = self._accounts.busy
            working = await self._still_working(busy)
            if working is not None:
                self._cut([account for account in busy if account.run_id not in working])
                sure_at = time.monotonic()
            elif time.monotonic() - sure_at > BLIND_S:
                self._cut(self._accounts.busy)

    async def _still_working(self, accounts: list[Account]) -> set[UUID] | None:
        """Return which of these runs have not ended; None when the database does not say."""
        if not accounts:
            return set()
        try:
            async with asyncio.timeout(BLIND_S):
                return await self._callers.still_working([account.run_id for account in accounts])
        except (*DATABASE_AWAY, TimeoutError) as error:
            logger.warning("whether runs have ended cannot be known now: %r", error)
            return None

    def _cut(self, accounts: list[Account]) -> None:
        for account in accounts:
            logger.info("cutting %d connections of run %s", len(account.tasks), account.run_id)
            account.cut()

    # -- one connection

    def _accept(self, reader: StreamReader, writer: StreamWriter) -> None:
        peer = writer.get_extra_info("peername")
        # Here and not in the task: all that wait at once are accepted before the first task begins.
        if peer is None or (leave := self._doors.enter(peer[0])) is None:
            writer.transport.abort()
            return
        task = asyncio.create_task(self._serve(reader, writer, peer[0], leave))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: StreamReader, writer: StreamWriter, peer: str, leave: Callable[[], None]) -> None:
        parser = h11.Connection(h11.SERVER, max_incomplete_event_size=wire.MOST_HEAD_BYTES)
        client = Client(reader, writer, parser, peer)
        is_clean = False
        try:
            try:
                await self._serve_one(client, leave)
            except Refused as refused:
                await client.say(refused.status, str(refused), refused.reason)
            is_clean = True
        except (*wire.BROKEN, h11.ProtocolError) as error:
            logger.debug("a connection from %s broke off: %r", peer, error)
        except Exception:
            logger.exception("a connection from %s failed", peer)
        finally:
            leave()
            wire.hang_up(writer, is_clean=is_clean)

    async def _serve_one(self, client: Client, leave: Callable[[], None]) -> None:
        request = await wire.read_request(client.reader, client.parser)
        if request.target == b"/healthz":
            await client.say(200, "ok")
            return
        caller = await self._who(request, client.peer)
        try:
            account = await self._accounts.of(caller)
        except (*DATABASE_AWAY, TimeoutError):
            raise Refused(503, Reason.UNREACHABLE, "The run's record cannot be read right now: try again.") from None
        host, port = _named(request), 0
        try:
            target, path = _asked(request)
            host, port = target.host, target.port
            with self._accounts.place(account):
                leave()
                addresses = await self._find(target, account, self._rules[caller.egress])
                upstream = await self._reach(target, addresses)
                await self._pass(client, upstream, request, target, path, account)
        except Refused as refused:
            self._recorder.note(account, host, port, refused.reason)
            raise

    async def _who(self, request: h11.Request, peer: str) -> Caller:
        try:
            return await self._callers.of(wire.token_of(request))
        except Refused as refused:
            self._recorder.note_stranger(peer, refused.reason)
            raise

    async def _pass(
        self, client: Client, upstream: Streams, request: h11.Request, target: Target, path: str, account: Account
    ) -> None:
        seen = self._recorder.note(account, target.host, target.port)

        def count(*, up: int = 0, down: int = 0) -> None:
            self._recorder.move(account, seen, up=up, down=down)
            self._accounts.check_bytes(account)

        is_clean = False
        try:
            if request.method == b"CONNECT":
                first = client.switch()
                here = (client.reader, client.writer)
                await join(
                    here, upstream, first=first, count_up=lambda n: count(up=n), count_down=lambda n: count(down=n)
                )
            else:
                asking = Side(client.parser, client.reader, client.writer, lambda n: count(up=n))
                answering = Side(upstream_parser(), *upstream, lambda n: count(down=n))
                await forward(request, target, path, client=asking, upstream=answering)
            is_clean = True
        finally:
            wire.hang_up(upstream[1], is_clean=is_clean)

    # -- decisions

    async def _find(self, target: Target, account: Account, rules: tuple[Rule, ...]) -> list[Address]:
        """Return the addresses that may be connected to, asked once. Raises Refused."""
        check_target(rules, target)
        if target.address is not None:
            return [target.address]
        async with account.resolving:
            addresses = await self._resolve(target.host)
        check_addresses(rules, target, addresses, own=self._own_addresses())
        return addresses

    async def _reach(self, target: Target, addresses: list[Address]) -> Streams:
        for address in addresses[:_MOST_TRIES]:
            with suppress(OSError, TimeoutError):
                async with asyncio.timeout(_CONNECT_S):
                    reader, writer = await self._connect(address, target.port)
                writer.transport.set_write_buffer_limits(high=_BUFFER_BYTES)
                return reader, writer
        raise Refused(502, Reason.UNREACHABLE, f"{target.host} does not answer at port {target.port}.")

    def _own_addresses(self) -> frozenset[Address]:
        until, addresses = self._own
        if until < time.monotonic():
            addresses = own_addresses()
            self._own = (time.monotonic() + _OWN_ADDRESSES_S, addresses)
        return addresses


def _asked(request: h11.Request) -> tuple[Target, str]:
    target = request.target.decode("ascii")
    return (read_authority(target), "") if request.method == b"CONNECT" else read_url(target)


def _named(request: h11.Request) -> str:
    """Return what a request may mean by its host, for the record of those that are refused unread."""
    target = request.target.decode("ascii", "replace")
    return target.rpartition("://")[2].partition("/")[0][:100] or "(none)"
