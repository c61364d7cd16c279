"""What programs are refused: recorded with the reason, counted and bounded; and 100 MB sent for real."""

import asyncio
import json
import os
import socket as sockets
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import chain
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis
from asgiref.sync import sync_to_async
from django.core.cache import cache
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from pytest_django import Settings
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from accounts.roles import AccountRole
from agents.gateway.app import build
from agents.models import Run
from agents.remote import files
from agents.sandboxes import run_directory
from eklavya import refused
from eklavya.refused import note_body
from projects.actions import refusals as actions
from projects.actions.refusals import OTHERS, Refusal, note
from projects.models import AuditLog
from tests.accounts.making import bearer, key_of, person
from tests.agents.gateway.harness import serve, start_run
from tests.agents.remote.conftest import web
from tests.agents.remote.joined import Machine, refusals
from tests.factories import NOW, TESTER, RunFactory
from tests.projects import lives

HUGE = 100 * 10**6
PIECE = b"x" * 2**16
# Far below what was sent, far above what a request needs.
GROWN_MB = 40
PATIENCE_S = 60


def rows(action: str = "request.refused") -> list[dict[str, Any]]:
    return list(AuditLog.objects.filter(action=action).order_by("timestamp", "seq").values_list("details", flat=True))


@contextmanager
def hardly_growing() -> Iterator[None]:
    """Fail when this process, and with it the servers in its threads, had that much more memory in between."""
    status = Path("/proc/self/status")

    def kb(name: str) -> int:
        line = next(line for line in status.read_text().splitlines() if line.startswith(name))
        return int(line.split()[1])

    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before = kb("VmRSS")
    yield
    assert kb("VmHWM") - before < GROWN_MB * 1024


def pieces() -> Iterator[bytes]:
    for _ in range(HUGE // len(PIECE)):
        yield PIECE


# -- the API's refusals


@pytest.mark.django_db
def test_what_a_worker_says_wrong_is_recorded_with_the_reason(machine: Machine) -> None:
    secret = "hunter2-not-to-be-recorded"
    assert machine.beat(status=secret).status_code == 400

    (row,) = AuditLog.objects.filter(action="request.refused")
    assert row.actor_name == machine.key.owner.get_username()
    assert (row.object_type, row.object_id) == ("apikey", str(machine.key.pk))
    assert row.details == {
        "request": "POST api_worker_heartbeat",
        "status": 400,
        "code": "invalid",
        "why": "{'status': ['invalid_choice']}",
        "key": machine.key.prefix,
        "requests": 1,
    }
    assert secret not in str(row.details)


@pytest.mark.django_db
def test_an_answer_that_repeats_what_was_sent_is_recorded_without_it() -> None:
    approval = lives.planned()
    _, text = key_of(person(AccountRole.ADMIN), "projects:read", "approvals:decide", now=timezone.now())
    secret = "sk-ant-hunter2"

    def post(body: str, content_type: str = "application/json") -> Any:
        return Client().post(reverse("api_decide", args=[approval.pk]), body, content_type, headers=bearer(text))

    assert secret in post(json.dumps({"option": secret})).content.decode()
    assert post("{}", f"text/{secret}").status_code == 415

    recorded = [(row["status"], row["why"]) for row in rows()]
    assert recorded == [(422, "InvalidDecision"), (415, "unsupported_media_type")]
    assert secret not in str(rows())


@pytest.mark.django_db
def test_a_kind_of_refusal_is_a_row_a_minute_with_their_number(machine: Machine) -> None:
    def refused() -> list[int]:
        return [row["requests"] for row in rows()]

    for _ in range(5):
        assert machine.beat(resources={}).status_code == 400
    assert machine.client.get(reverse("api_workers")).status_code == 403  # another kind
    assert refused() == [1, 1]

    for key in cache._cache.get_client().scan_iter("*:row"):  # type: ignore[attr-defined]  # the minute is over
        cache._cache.get_client().delete(key)  # type: ignore[attr-defined]
    assert machine.beat(resources={}).status_code == 400
    assert refused() == [1, 1, 5]


@pytest.mark.django_db
def test_nobody_writes_rows_for_ever_by_other_kinds() -> None:
    for number in range(50):
        note(Refusal("request.refused", "key 1", f"kind {number}", {"n": number}, most_kinds=3), by=TESTER, now=NOW)
    assert rows() == [{"n": n, "requests": 1} for n in range(3)] + [{"kind": OTHERS, "requests": 1}]
    assert note(Refusal("request.refused", "key 2", "kind"), by=TESTER, now=NOW), "each has its own"


@pytest.mark.django_db
def test_what_people_mistype_and_what_is_recorded_already_are_no_such_rows(machine: Machine) -> None:
    run = RunFactory(status="running")
    address = reverse("api_run_result", args=[run.pk])
    assert machine.client.post(address, {}, content_type="application/json").status_code == 409
    assert (rows(), refusals()) == ([], ["not_its_run"])


@pytest.mark.django_db
def test_without_the_cache_the_answer_is_the_same(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_: object) -> None:
        raise redis.ConnectionError("away")

    monkeypatch.setattr(actions, "_count", away)
    assert machine.beat(resources={}).status_code == 400
    assert rows() == []


# -- 100 MB


@pytest.fixture
def result(machine: Machine, settings: Settings, tmp_path: Path) -> str:
    """The address for the files of a run that the server asked for, without the host."""
    settings.EKLAVYA_VAR = tmp_path
    run = RunFactory(status="running", worker=machine.worker)
    run_directory(run.pk).mkdir(parents=True)
    files.mark_begun(run.pk)
    (files.incoming(run.pk) / f"{'0' * 32}.wanted").touch()
    return reverse("api_run_files", args=[run.pk]) + f"?request={'0' * 32}&offset=0"


@pytest.mark.django_db(transaction=True)
def test_a_result_of_100_megabytes_by_rest(machine: Machine, result: str, port: int, tmp_path: Path) -> None:
    head = {"Authorization": f"Bearer {machine.text}", "Content-Type": "application/octet-stream"}
    with web(port), hardly_growing():
        for declared in ({"Content-Length": str(HUGE)}, {}):
            assert sent_anyhow("PUT", f"http://127.0.0.1:{port}{result}", head | declared) == 413
        assert sent_anyhow("PUT", f"http://127.0.0.1:{port}{result}", {}) == 413  # who shows no key
    assert [(row["status"], row["code"], row.get("key")) for row in rows()] == [
        (413, "too_large", machine.key.prefix),
        (413, "too_large", None),
    ]
    assert not list(tmp_path.rglob("*.part")), "it keeps no place"
    assert machine.beat().status_code == 200


def too_large_from(address: str) -> dict[str, Any]:
    return {"type": "http", "headers": [], "client": (address, 1), "path": "/"}


@pytest.mark.django_db(transaction=True)
def test_a_body_is_recorded_while_the_thread_of_websockets_is_busy() -> None:
    async def noted() -> None:
        over = threading.Event()
        busy = asyncio.create_task(sync_to_async(over.wait)(PATIENCE_S))
        try:
            await asyncio.wait_for(note_body(too_large_from("127.0.0.1")), PATIENCE_S / 2)
        finally:
            over.set()
            await busy

    asyncio.run(noted())
    assert len(rows()) == 1


@pytest.mark.django_db(transaction=True)
def test_bodies_of_many_at_once_are_counted_and_do_not_queue(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refused, "_missed", 0)

    async def noted(*numbers: int) -> None:
        await asyncio.gather(*(note_body(too_large_from(f"127.0.0.{number}")) for number in numbers))

    asyncio.run(noted(*range(24)))
    assert len(rows()) == refused.MOST_AT_ONCE
    asyncio.run(noted(24))
    assert rows()[-1] == {
        "status": 413,
        "code": "too_large",
        "from": "127.0.0.24",
        "path": "/",
        "missed": 24 - refused.MOST_AT_ONCE,
        "requests": 1,
    }


def sent_anyhow(method: str, address: str, headers: dict[str, str], begin: bytes = b"") -> int:
    """Send 100 MB, whatever the server says meanwhile, as far as it lets us; return what it answered."""
    url = httpx.URL(address)
    is_declared = "Content-Length" in headers
    head = headers | {"Host": url.netloc.decode()} | ({} if is_declared else {"Transfer-Encoding": "chunked"})
    lines = [f"{method} {url.raw_path.decode()} HTTP/1.1", *(f"{name}: {said}" for name, said in head.items()), "", ""]
    with sockets.create_connection((url.host, url.port or 80), timeout=PATIENCE_S) as connection:
        connection.sendall("\r\n".join(lines).encode())
        with suppress(ConnectionError):  # it has said all it has to say; what it said can be read
            for piece in chain([begin] if begin else [], pieces()):
                connection.sendall(piece if is_declared else b"%x\r\n%b\r\n" % (len(piece), piece))
        return int(connection.recv(100).split()[1])


@pytest.mark.django_db(transaction=True)
def test_a_frame_of_100_megabytes_by_websocket(machine: Machine, port: int) -> None:
    address = f"ws://127.0.0.1:{port}/api/v1/ws/worker/{machine.worker.pk}"
    head = {"Authorization": f"Bearer {machine.text}"}
    with web(port), hardly_growing(), connect(address, additional_headers=head, proxy=None) as connection:
        connection.recv(PATIENCE_S)
        # Text, whole, masked, of 100 MB: by hand, as the client would make a copy of it first.
        with suppress(OSError):
            connection.socket.sendall(b"\x81\xff" + struct.pack("!Q", HUGE) + os.urandom(4))
            for piece in pieces():
                connection.socket.sendall(piece)
        with pytest.raises(ConnectionClosed):
            connection.recv(PATIENCE_S)
    assert refusals() == ["frame_too_large"]
    assert machine.beat().status_code == 200


@pytest.mark.django_db(transaction=True)
def test_a_result_of_100_megabytes_by_mcp() -> None:
    run, token = start_run()
    head = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    begin = (
        b'{"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "task_complete", "arguments": {"x": "'
    )

    with serve(build()) as gateway, hardly_growing():
        for declared in ({"Content-Length": str(HUGE)}, {}):
            assert sent_anyhow("POST", f"{gateway}/mcp", head | declared, begin) == 413
    (row,) = AuditLog.objects.filter(action="mcp.refused")
    assert (row.project_id, row.object_id, row.details["status"]) == (run.project_id, str(run.pk), 413)
    assert "at most" in row.details["why"]
    assert Run.objects.get(pk=run.pk).outcome == {}
