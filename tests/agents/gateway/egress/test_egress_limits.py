"""What one run may use, and when it ends."""

import asyncio
import socket
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import ExitStack

import pytest
from django.db import connection, transaction

from agents.gateway.egress import callers, server, wire
from agents.gateway.egress.accounts import Accounts, Limits
from agents.gateway.egress.policy import Reason, Refused
from agents.gateway.egress.record import Account
from agents.gateway.egress.tunnel import Streams
from agents.models import EgressRecord, Run
from projects.addresses import Address
from projects.ids import new_id
from tests.agents.gateway.egress.outside import (
    Host,
    World,
    connect_request,
    outside,
    read_all,
    read_head,
    wait_for_record,
    working_run,
)
from tests.agents.gateway.harness import wait_until
from tests.factories import NOW

StartProxy = Callable[..., World]


def _end(run: Run) -> None:
    Run.objects.filter(pk=run.pk).update(status="failed", reason="x", token_hash="", finished_at=NOW)


def test_an_open_tunnel_is_cut_when_its_run_ends_and_the_token_is_dead(start_proxy: StartProxy) -> None:
    run, token = working_run()
    _, neighbours = working_run()
    with outside() as host:
        world = start_proxy({"packages": f"127.0.0.1:{host.port}"})
        authority = f"127.0.0.1:{host.port}"
        ours, head = world.tunnel(authority, token)
        theirs, _ = world.tunnel(authority, neighbours)
        assert b" 200 " in head

        with ours, theirs:
            _end(run)
            assert read_all(ours) == b""
            theirs.sendall(b"still here")
            assert theirs.recv(100) == b"still here"

        wait_until(lambda: world.send(connect_request(authority, token)).startswith(b"HTTP/1.1 407 "))


def test_when_the_database_is_silent_nothing_stays_open(
    start_proxy: StartProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "BLIND_S", 0.3)
    monkeypatch.setattr(callers, "PATIENCE_S", 0.3)
    _, token = working_run()
    with outside() as host:
        world = start_proxy({"packages": f"127.0.0.1:{host.port}"})
        authority = f"127.0.0.1:{host.port}"
        tunnel, head = world.tunnel(authority, token)
        assert b" 200 " in head

        with tunnel, transaction.atomic(), connection.cursor() as cursor:
            # Whoever reads runs waits for the end of this block.
            cursor.execute("LOCK TABLE agents_run IN ACCESS EXCLUSIVE MODE")
            assert read_all(tunnel) == b""
            assert world.send(connect_request(authority, "ekr_other")).startswith(b"HTTP/1.1 503 ")

        wait_until(lambda: world.send(connect_request(authority, token)).startswith(b"HTTP/1.1 200 "))


def test_a_run_moves_its_bytes_and_no_more(start_proxy: StartProxy) -> None:
    run, token = working_run()
    with outside() as host:
        allowed = {"packages": f"127.0.0.1:{host.port}"}
        world = start_proxy(allowed, BYTES=1_000_000)
        authority = f"127.0.0.1:{host.port}"

        answer = world.send(connect_request(authority, token) + b"x" * 5_000_000)

        assert len(answer) < 1_000_000
        wait_for_record(run, ("127.0.0.1", host.port, "refused", "byte_limit"))
        moved = EgressRecord.objects.get(run=run, decision="allowed")
        # The chunk that reaches the limit is the last one, of each direction.
        assert 1_000_000 <= moved.bytes_up + moved.bytes_down < 1_000_000 + 4 * wire.CHUNK_BYTES
        assert len(host.received) < 1_000_000
        assert b"x-egress-refused: byte_limit" in world.send(connect_request(authority, token)).lower()

        again = start_proxy(allowed, BYTES=1_000_000)
        assert b"another process" in again.send(connect_request(authority, token)).lower()
        world.stop()
        assert b"x-egress-refused: byte_limit" in again.send(connect_request(authority, token)).lower()


def test_a_run_holds_its_connections_and_no_more(start_proxy: StartProxy) -> None:
    run, token = working_run()
    _, neighbours = working_run()
    with outside() as host:
        world = start_proxy({"packages": f"127.0.0.1:{host.port}"}, CONNECTIONS=2)
        authority = f"127.0.0.1:{host.port}"
        first, _ = world.tunnel(authority, token)
        second, _ = world.tunnel(authority, token)

        with first, second:
            assert world.send(connect_request(authority, token)).startswith(b"HTTP/1.1 429 ")
            assert world.send(connect_request(authority, neighbours)).startswith(b"HTTP/1.1 200 ")
            wait_for_record(run, ("127.0.0.1", host.port, "refused", "connection_limit"))

        wait_until(lambda: world.send(connect_request(authority, token)).startswith(b"HTTP/1.1 200 "))


async def test_a_run_sends_so_many_requests_a_minute() -> None:
    now = [0.0]
    limits = Limits(connections=10, bytes_moved=1, requests_a_minute=3)
    accounts = Accounts(None, None, limits, clock=lambda: now[0])  # type: ignore[arg-type]
    account = Account(new_id())

    def ask() -> None:
        with accounts.place(account):
            pass

    for _ in range(3):
        ask()
    with pytest.raises(Refused, match="3 requests a minute"):
        ask()
    now[0] = 60.0
    ask()


def test_who_does_not_read_makes_the_other_side_wait(start_proxy: StartProxy) -> None:
    _, token = working_run()
    sent = [0]

    def pour(host: Host, connection: socket.socket) -> None:
        while sent[0] < 500_000_000:
            connection.sendall(b"x" * 65_536)
            sent[0] += 65_536

    with outside(pour) as host:
        world = start_proxy({"packages": f"127.0.0.1:{host.port}"})
        connection, head = world.tunnel(f"127.0.0.1:{host.port}", token)
        with connection:
            assert b" 200 " in head
            seen = [-1]

            def is_at_rest() -> bool:
                before, seen[0] = seen[0], sent[0]
                return connection.recv(1) == b"x" and 0 < before == sent[0]

            wait_until(is_at_rest)

    # What the kernel keeps of two connections is the most of it.
    assert sent[0] < 50_000_000


def test_a_host_that_does_not_answer_holds_up_nobody_else(start_proxy: StartProxy) -> None:
    _, token = working_run()
    with outside() as host:
        world = start_proxy({"packages": f"127.0.0.1:{host.port},127.0.0.9:443"})
        silent = _Silent(world.wires)
        world.proxy._connect = silent
        with world.open() as waiting:
            waiting.sendall(connect_request("127.0.0.9:443", token))
            wait_until(lambda: silent.asked)
            assert world.send(connect_request(f"127.0.0.1:{host.port}", token)).startswith(b"HTTP/1.1 200 ")
            silent.give_up.set_result(None)
            assert read_head(waiting).startswith(b"HTTP/1.1 502 ")


def test_a_run_waits_for_few_names_at_a_time(start_proxy: StartProxy) -> None:
    _, token = working_run()
    _, neighbours = working_run()
    world = start_proxy({"packages": "*.test:443"})
    names = _Slow()
    world.proxy._resolve = names

    with ExitStack() as stack:
        ours = [stack.enter_context(world.open()) for _ in range(6)]
        for number, one in enumerate(ours):
            one.sendall(connect_request(f"host{number}.test:443", token))
        wait_until(lambda: len(names.asked) == 4)
        theirs = stack.enter_context(world.open())
        theirs.sendall(connect_request("theirs.test:443", neighbours))
        wait_until(lambda: "theirs.test" in names.asked)
        assert len(names.asked) == 5
        names.go_on.set_result(None)
        assert all(read_head(one).startswith(b"HTTP/1.1 502 ") for one in [*ours, theirs])
    assert len(names.asked) == 7


class _Slow:
    """Name servers that answer at the test's word."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.go_on: Future[None] = Future()

    async def __call__(self, name: str) -> list[Address]:
        self.asked.append(name)
        await asyncio.wrap_future(self.go_on)
        raise Refused(502, Reason.UNRESOLVED, "no address")


class _Silent:
    """Connections to one address wait for the test's word."""

    def __init__(self, others: Callable[..., object]) -> None:
        self.others = others
        self.asked = False
        self.give_up: Future[None] = Future()

    async def __call__(self, address: Address, port: int) -> Streams:
        if str(address) != "127.0.0.9":
            return await self.others(address, port)  # type: ignore[no-any-return, misc]
        self.asked = True
        await asyncio.wrap_future(self.give_up)
        raise ConnectionRefusedError


def test_a_head_that_never_ends_has_its_time(start_proxy: StartProxy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "HEAD_S", 0.3)
    world = start_proxy({})

    with world.open() as connection:
        connection.sendall(b"CONNECT registry.test:443 HTTP/1.1\r\nHost: ")
        assert read_head(connection).startswith(b"HTTP/1.1 408 ")


def test_connections_that_ask_nothing_do_not_pile_up(start_proxy: StartProxy) -> None:
    world = start_proxy({})
    silent = [world.open() for _ in range(80)]
    try:
        # Those beyond the limit are hung up on at once; the others wait for a request.
        for one in silent:
            one.setblocking(False)

        def hung_up() -> int:
            return sum(_is_closed(one) for one in silent)

        wait_until(lambda: hung_up() == 80 - 64)
        silent.pop(0).close()
        wait_until(lambda: world.send(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").endswith(b"ok\n"))
    finally:
        for one in silent:
            one.close()


def _is_closed(connection: socket.socket) -> bool:
    try:
        return connection.recv(1, socket.MSG_PEEK) == b""
    except BlockingIOError:
        return False
    except ConnectionResetError:
        return True
