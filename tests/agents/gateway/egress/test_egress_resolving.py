"""The system's resolver; what it would ask of name servers is answered here, for tests ask nobody."""

import asyncio
import socket
import threading
from collections.abc import AsyncIterator
from ipaddress import ip_address
from typing import Any

import pytest

from agents.gateway.egress import resolving
from agents.gateway.egress.policy import Reason, Refused
from agents.gateway.egress.resolving import SystemResolver


@pytest.fixture
async def resolve() -> AsyncIterator[SystemResolver]:
    resolver = SystemResolver()
    yield resolver
    resolver.close()


def _answer(*addresses: str) -> list[Any]:
    return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 0)) for address in addresses]


async def test_this_machines_own_name_is_found(resolve: SystemResolver) -> None:
    assert ip_address("127.0.0.1") in await resolve("localhost")


async def test_addresses_keep_their_order_and_come_once(
    resolve: SystemResolver, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = ["fe80::1%eth0", "10.0.0.2", "10.0.0.1", "10.0.0.2", *(f"10.0.1.{number}" for number in range(20))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **kwargs: _answer(*found))

    addresses = await resolve("a.test")

    assert addresses[:3] == [ip_address("fe80::1"), ip_address("10.0.0.2"), ip_address("10.0.0.1")]
    assert len(addresses) == 8


@pytest.mark.parametrize("error", [socket.gaierror("no such name"), UnicodeError("label too long")])
async def test_a_name_without_address_is_refused(
    resolve: SystemResolver, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(*args: Any, **kwargs: Any) -> None:
        raise error

    monkeypatch.setattr(socket, "getaddrinfo", fail)

    with pytest.raises(Refused) as caught:
        await resolve("a.test")
    assert (caught.value.status, caught.value.reason) == (502, Reason.UNRESOLVED)


async def test_silent_name_servers_hold_up_nobody_else(
    resolve: SystemResolver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resolving, "PATIENCE_S", 0.2)
    go_on = threading.Event()

    def ask(name: str, *args: Any, **kwargs: Any) -> list[Any]:
        if name == "silent.test":
            go_on.wait(15)
        return _answer("10.0.0.1")

    monkeypatch.setattr(socket, "getaddrinfo", ask)
    silent = [asyncio.create_task(resolve("silent.test")) for _ in range(20)]

    try:
        assert await resolve("a.test") == [ip_address("10.0.0.1")]
        found = await asyncio.gather(*silent, return_exceptions=True)
        assert all(isinstance(one, Refused) for one in found)
    finally:
        go_on.set()
