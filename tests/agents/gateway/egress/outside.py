"""What the egress proxy's tests stand on: a proxy, hosts of an outside world on this machine, names that lie."""

import asyncio
import re
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Any

from agents.gateway.egress.policy import Reason, Refused
from agents.gateway.egress.server import EgressProxy, connect
from agents.gateway.egress.tunnel import Streams
from agents.models import EgressRecord, Run
from agents.tokens import hash_token, new_token
from projects.addresses import Address
from tests.agents.gateway.harness import DEADLINE_S, wait_until
from tests.factories import RunFactory

PUBLIC = "93.184.215.14"
# The proxy passes on what it has as soon as it has it.
WHOLE_S = 10.0


@dataclass
class Names:
    """Name servers that answer as told: each question takes the next answer, and the last one stays."""

    answers: dict[str, list[list[str]]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    async def __call__(self, name: str) -> list[Address]:
        self.asked.append(name)
        if name not in self.answers:
            raise Refused(502, Reason.UNRESOLVED, f"The name {name} has no address.")
        answers = self.answers[name]
        texts = answers.pop(0) if len(answers) > 1 else answers[0]
        return [ip_address(text) for text in texts]


@dataclass
class Wires:
    """Connections to public addresses end at this machine. What was connected to is remembered."""

    port: int = 0
    tried: list[tuple[str, int]] = field(default_factory=list)

    async def __call__(self, address: Address, port: int) -> Streams:
        self.tried.append((str(address), port))
        if str(address) == PUBLIC:
            return await connect(ip_address("127.0.0.1"), self.port)
        assert address.is_loopback, f"a test reached for {address}"
        return await connect(address, port)


@contextmanager
def running(proxy: EgressProxy, *, host: str = "127.0.0.1", port: int = 0) -> Iterator[int]:
    """Run a proxy in a thread and yield its port."""
    opened: Future[int] = Future()
    loop = asyncio.new_event_loop()
    serving = loop.create_task(proxy.serve(host, port, ready=opened.set_result))
    thread = threading.Thread(target=lambda: loop.run_until_complete(asyncio.wait({serving})), daemon=True)
    thread.start()
    try:
        yield opened.result(DEADLINE_S)
    finally:
        loop.call_soon_threadsafe(serving.cancel)
        thread.join(DEADLINE_S)
        assert not thread.is_alive(), "the proxy did not stop"
        loop.close()
        assert serving.cancelled(), serving.exception()


@dataclass
class Host:
    """A server of the outside world: `behave` is called with each connection, in a thread of its own."""

    port: int
    connections: list[socket.socket] = field(default_factory=list)
    received: bytearray = field(default_factory=bytearray)


def echo(host: Host, connection: socket.socket) -> None:
    while data := connection.recv(65_536):
        host.received += data
        connection.sendall(data)


def http(*answer: bytes) -> Callable[[Host, socket.socket], None]:
    """Read until the request is whole and nothing follows it, and answer with this."""

    def behave(host: Host, connection: socket.socket) -> None:
        request = b""
        try:
            while True:
                connection.settimeout(0.3 if is_whole(request) else WHOLE_S)
                if not (data := connection.recv(65_536)):
                    break
                host.received += data
                request += data
        except TimeoutError:
            pass
        connection.settimeout(DEADLINE_S)
        for part in answer:
            connection.sendall(part)

    return behave


def is_whole(request: bytes) -> bool:
    """Whether a request has come to its end, as far as its head says where that is."""
    head, end, body = request.partition(b"\r\n\r\n")
    if b"transfer-encoding: chunked" in head.lower():
        return body.endswith(b"0\r\n\r\n")
    length = re.search(rb"(?im)^content-length: *(\d+)\r?$", head)
    return bool(end) and len(body) >= (int(length[1]) if length else 0)


@contextmanager
def outside(behave: Callable[[Host, socket.socket], None] = echo) -> Iterator[Host]:
    """Run such a server on a free port."""
    listener = socket.create_server(("127.0.0.1", 0))
    host = Host(listener.getsockname()[1])
    threads = []

    def serve(connection: socket.socket) -> None:
        with connection, suppress(OSError):
            behave(host, connection)

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            # Longer than any client waits: a tunnel that ends was ended by the proxy.
            connection.settimeout(4 * DEADLINE_S)
            host.connections.append(connection)
            threads.append(threading.Thread(target=serve, args=[connection], daemon=True))
            threads[-1].start()

    accepting = threading.Thread(target=accept, daemon=True)
    accepting.start()
    try:
        yield host
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        for connection in host.connections:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in [accepting, *threads]:
            thread.join(DEADLINE_S)


@dataclass
class World:
    """A proxy with its surroundings."""

    proxy: EgressProxy
    port: int
    names: Names
    wires: Wires
    stop: Callable[[], None] = lambda: None

    def open(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=DEADLINE_S)

    def send(self, data: bytes) -> bytes:
        """Send bytes and return all that comes back until the proxy hangs up."""
        with self.open() as connection:
            with suppress(OSError):  # it has hung up already
                connection.sendall(data)
                connection.shutdown(socket.SHUT_WR)
            return read_all(connection)

    def tunnel(self, authority: str, token: str) -> tuple[socket.socket, bytes]:
        """CONNECT, and return the connection and the head of the answer."""
        connection = self.open()
        connection.sendall(connect_request(authority, token))
        return connection, read_head(connection)


def connect_request(authority: str, token: str) -> bytes:
    return f"CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\nProxy-Authorization: Bearer {token}\r\n\r\n".encode()


def get_request(url: str, token: str, *headers: str, method: str = "GET", body: bytes = b"") -> bytes:
    lines = [f"{method} {url} HTTP/1.1", "Host: whatever.test", f"Proxy-Authorization: Bearer {token}", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


def read_head(connection: socket.socket) -> bytes:
    head = b""
    while not head.endswith(b"\r\n\r\n") and (data := connection.recv(1)):
        head += data
    return head


def read_all(connection: socket.socket) -> bytes:
    data = b""
    try:
        while more := connection.recv(65_536):
            data += more
    except ConnectionResetError:
        pass
    return data


def working_run(role: str = "developer", **fields: Any) -> tuple[Run, str]:
    """A run at work and its token. Developers have the class `packages`, SREs `full`, orchestrators `internal`."""
    token = new_token()
    values = {"status": "running", "task__role": role, "agent__agent_type": role} | fields
    return RunFactory(**values, token_hash=hash_token(token)), token


def recorded(run: Run) -> set[tuple[str, int, str, str]]:
    """What the run's record says: host, port, decision, reason."""
    return set(EgressRecord.objects.filter(run=run).values_list("host", "port", "decision", "reason"))


def wait_for_record(run: Run, *expected: tuple[str, int, str, str]) -> None:
    wait_until(lambda: recorded(run) >= set(expected))
