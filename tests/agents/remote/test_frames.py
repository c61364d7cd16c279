"""What comes by a remote worker's WebSocket and is no frame, or another's: refused, recorded and harmless."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from accounts import actions as accounts
from accounts.roles import AccountRole
from agents.models import Run
from agents.remote import consumers
from tests.accounts.making import person
from tests.agents.remote.conftest import web
from tests.agents.remote.joined import Machine, refusals
from tests.factories import NOW, RunFactory, WorkerFactory

PATIENCE_S = 60  # of a busy machine
pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def socket(machine: Machine, port: int) -> Iterator[ClientConnection]:
    with web(port), connect(address(port, machine), additional_headers=headers(machine), proxy=None) as connection:
        assert json.loads(connection.recv(PATIENCE_S))["type"] == "ping"
        yield connection


def address(port: int, machine: Machine) -> str:
    return f"ws://127.0.0.1:{port}/api/v1/ws/worker/{machine.worker.pk}"


def headers(machine: Machine) -> dict[str, str]:
    return {"Authorization": f"Bearer {machine.text}"}


def said(socket: ClientConnection, frame: str | bytes) -> dict[str, Any]:
    """Send a frame, and return what comes back."""
    socket.send(frame)
    found: dict[str, Any] = json.loads(socket.recv(PATIENCE_S))
    return found


def test_what_is_no_frame_is_refused_and_the_connection_goes_on(socket: ClientConnection, machine: Machine) -> None:
    run = str(RunFactory(status="running", worker=machine.worker).pk)
    garbage: list[str | bytes] = [
        b"\x00\xff",
        "",
        "nonsense",
        "[" * 200_000,
        "x" * 2_000_001,
        "[]",
        "null",
        '{"type": "output"',
        '{"type": ["output"], "data": {}}',
        '{"type": "nonsense", "data": {}}',
        '{"type": "output", "data": []}',
        *(json.dumps({"type": "output", "data": {"subtask_id": run} | odd}) for odd in ({"x": "\ud800"}, {"x": 2**70})),
    ]
    for frame in garbage:
        answer = said(socket, frame)
        assert (answer["type"], answer["data"]["reason"]) == ("error", "no_frame"), str(frame)[:80]
    assert refusals() == ["no_frame"], "recorded, and not a row for each"


def test_frames_of_runs_that_it_has_not_are_refused(socket: ClientConnection, machine: Machine) -> None:
    before = Run.objects.count()
    others = RunFactory(status="running", worker=WorkerFactory()).pk
    over = RunFactory(status="lost", worker=machine.worker).pk
    for run_id in (others, over, "none", None, ["x"], "x" * 10_000, "\x00"):
        answer = said(socket, json.dumps({"type": "output", "data": {"subtask_id": str(run_id), "offset": 0}}))
        assert answer["type"] == "task_cancel", run_id
    assert refusals() == ["not_its_run", "run_ended"]
    assert Run.objects.filter(last_seq=0).count() == before + 2


def test_it_is_closed_when_the_keys_owner_is_no_admin_any_more(
    socket: ClientConnection, machine: Machine, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consumers, "RECHECK_S", 0)
    by = person(AccountRole.ADMIN, "another")
    accounts.set_role(machine.key.owner, AccountRole.VIEWER, by=by, now=NOW)

    with pytest.raises(ConnectionClosed) as closed:
        said(socket, json.dumps({"type": "ack", "data": {}}))
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == consumers.NOT_LET_IN
    with connect(address(port, machine), additional_headers=headers(machine), proxy=None) as again:
        with pytest.raises(ConnectionClosed) as refused:
            again.recv(PATIENCE_S)
        assert refused.value.rcvd is not None
        assert refused.value.rcvd.code == consumers.NOT_LET_IN


def test_it_is_closed_though_no_frame_passes(machine: Machine, port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consumers, "RECHECK_S", 0.1)
    with web(port), connect(address(port, machine), additional_headers=headers(machine), proxy=None) as socket:
        assert json.loads(socket.recv(PATIENCE_S))["type"] == "ping"
        accounts.set_role(machine.key.owner, AccountRole.VIEWER, by=person(AccountRole.ADMIN, "another"), now=NOW)
        with pytest.raises(ConnectionClosed) as closed:
            socket.recv(PATIENCE_S)
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == consumers.NOT_LET_IN
