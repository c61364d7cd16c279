"""Speaking HTTP by hand, as an attacker does."""

import json
import os
import socket
from dataclasses import dataclass
from typing import Any

from .base import World

TIMEOUT_S = 20.0
NO_ANSWER_S = 2.0


@dataclass
class Answer:
    status: int
    head: bytes
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def token(world: World) -> str:
    """The run's own, as the CLI has it."""
    return str(world.get("token") or os.environ["ANTHROPIC_API_KEY"])


def exchange(address: "tuple[str, int] | list[Any]", data: bytes) -> bytes:
    """Send bytes and return all that comes back."""
    with socket.create_connection((address[0], address[1]), timeout=TIMEOUT_S) as connection:
        connection.sendall(data)
        found = b""
        while more := connection.recv(65_536):
            found += more
    return found


def parse(data: bytes) -> Answer:
    head, _, body = data.partition(b"\r\n\r\n")
    status = int(head.split(b" ", 2)[1]) if head.startswith(b"HTTP/") else 0
    return Answer(status, head, body)


def http(
    world: World,
    method: str,
    target: str,
    body: Any = None,
    *,
    address: "list[Any] | None" = None,
    bearer: "str | None" = None,
    **headers: str,
) -> Answer:
    """Ask the gateway, or whoever is at the address."""
    sent = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
    given = {
        "Host": "gateway",
        "Content-Type": "application/json",
        "Accept": "application/json, text/event-stream",
        "Authorization": f"Bearer {token(world) if bearer is None else bearer}",
        "Connection": "close",
        "Content-Length": str(len(sent)),
    } | {name.replace("_", "-"): value for name, value in headers.items()}
    lines = "".join(f"{name}: {value}\r\n" for name, value in given.items() if value != "(none)")
    return parse(exchange(address or world["gateway"], f"{method} {target} HTTP/1.1\r\n{lines}\r\n".encode() + sent))


def model_request(world: World, **fields: Any) -> "dict[str, Any]":
    message = {"role": "user", "content": "hostile probe"}
    return {"model": world["model"], "max_tokens": 10, "messages": [message]} | fields


def connect(host: str, port: int, *, say: bytes = b"GET / HTTP/1.0\r\n\r\n", timeout_s: float = NO_ANSWER_S) -> str:
    """Return what a TCP service says."""
    with socket.create_connection((host, port), timeout=timeout_s) as connection:
        connection.settimeout(timeout_s)
        connection.sendall(say)
        return f"{host}:{port} said {connection.recv(100)!r}"
