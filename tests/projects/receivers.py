"""A receiver of webhooks on this machine, name servers that lie, and a way to have everything sent that is due."""

import base64
import hashlib
import hmac
import json
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from typing import Any

from projects.addresses import Address
from projects.webhooks.pump import pump
from projects.webhooks.sending import Sender
from tests.factories import WEBHOOK_SECRET


@dataclass
class Received:
    """One request as it came."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def content(self) -> Any:
        return json.loads(self.body)

    def is_signed(self, secret: str = WEBHOOK_SECRET) -> bool:
        """Verify as the specification says, with nothing of ours."""
        key = base64.b64decode(secret.removeprefix("whsec_"))
        signed = f"{self.headers['webhook-id']}.{self.headers['webhook-timestamp']}.".encode() + self.body
        expected = "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
        return any(hmac.compare_digest(expected, one) for one in self.headers["webhook-signature"].split())


@dataclass
class Receiver:
    """Answers as told: `answers` one after the other, the last one for ever."""

    port: int = 0
    answers: list[tuple[int, dict[str, str], bytes]] = field(default_factory=lambda: [(200, {}, b"ok")])
    received: list[Received] = field(default_factory=list)
    gate: threading.Event = field(default_factory=threading.Event)
    taking: threading.Lock = field(default_factory=threading.Lock)
    arrived: threading.Event = field(default_factory=threading.Event)

    def url(self, path: str = "/hook", host: str = "127.0.0.1", scheme: str = "http") -> str:
        return f"{scheme}://{host}:{self.port}{path}"

    def answer(self, *statuses: int, **headers: str) -> None:
        self.answers = [(status, headers, b"" if status == 204 else b"said") for status in statuses]


@contextmanager
def receiving(tls: ssl.SSLContext | None = None) -> Iterator[Receiver]:
    """Run a receiver until the block ends. Requests to /slow wait for its gate."""
    receiver = Receiver()
    receiver.gate.clear()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            receiver.received.append(Received(self.path, {k.lower(): v for k, v in self.headers.items()}, body))
            receiver.arrived.set()
            if self.path == "/slow":
                receiver.gate.wait(60)
            with receiver.taking:  # several threads answer at a time
                status, headers, said = receiver.answers.pop(0) if len(receiver.answers) > 1 else receiver.answers[0]
            self.send_response(status)
            for name, value in ({"Content-Length": str(len(said))} | headers).items():
                self.send_header(name.replace("_", "-"), value)
            self.end_headers()
            self.wfile.write(said)

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.handle_error = lambda *_: None  # type: ignore[method-assign]  # a client that hung up
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    receiver.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield receiver
    finally:
        receiver.gate.set()
        server.shutdown()
        thread.join()
        server.server_close()


@dataclass
class Names:
    """A name server: each question takes the next answer, and the last one stays."""

    answers: dict[str, list[list[str]]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    def __call__(self, name: str) -> list[Address]:
        self.asked.append(name)
        if name not in self.answers:
            raise OSError("no such name")
        answers = self.answers[name]
        texts = answers.pop(0) if len(answers) > 1 else answers[0]
        return [ip_address(text) for text in texts]


@contextmanager
def sending(names: Names, tls: ssl.SSLContext | None = None) -> Iterator[Callable[[datetime], None]]:
    """Give a function that sends what is due at a time, and returns when nothing is on its way."""
    sender = Sender(resolve=names, tls=tls)
    try:
        yield lambda now: pump(sender, lambda: now)
    finally:
        sender.close()
