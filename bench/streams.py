"""A model that streams at a given pace, and a load of clients that read such streams and take the time.

Both are programs of their own, so that what is measured shares no interpreter with what measures it:

    python bench/streams.py model --port 9000
    python bench/streams.py arrive --url http://127.0.0.1:9000/v1/messages --keys keys.txt --streams 50 --seconds 10
"""

import argparse
import asyncio
import json
import random
import re
import sys
import time
from itertools import cycle
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httptools
import uvloop

JSON = dict[str, Any]

MODEL = "claude-sonnet-4-5"
# In the middle, of an answer: with 30 ms between them a stream is open for three seconds.
_EVENTS = 100
_ORDER = re.compile(rb"events=(\d+) pace=([0-9.]+)")
_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nrequest-id: req_bench\r\ntransfer-encoding: chunked\r\n\r\n"
)
_END = b"0\r\n\r\n"


def body(events: int, pace_s: float, *, size_bytes: int = 48_000) -> bytes:
    """Return a request like the CLI's: a long system prompt and a list of tools, with the order to the model."""
    tool = {"name": "Read", "description": "x" * 1_500, "input_schema": {"type": "object", "properties": {}}}
    asked = {
        "model": MODEL,
        "max_tokens": 1_000,
        "stream": True,
        "system": [{"type": "text", "text": "y" * (size_bytes - 16 * 1_600)}],
        "tools": [tool | {"name": f"Tool{number}"} for number in range(16)],
        "messages": [{"role": "user", "content": f"events={events} pace={pace_s}"}],
    }
    return json.dumps(asked).encode()


# -- the model


def _event(kind: str, **fields: object) -> bytes:
    event = f"event: {kind}\ndata: {json.dumps({'type': kind, **fields})}\n\n".encode()
    return b"%x\r\n%s\r\n" % (len(event), event)


_USAGE = {"input_tokens": 1_000, "output_tokens": 1, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0}
_MESSAGE = {"id": "msg_1", "type": "message", "role": "assistant", "model": MODEL, "content": []}
_START = _event("message_start", message=_MESSAGE | {"stop_reason": None, "stop_sequence": None, "usage": _USAGE})
_START += _event("content_block_start", index=0, content_block={"type": "text", "text": ""})
_DELTA = _event("content_block_delta", index=0, delta={"type": "text_delta", "text": "about twenty letters"})
_STOP = _event("content_block_stop", index=0) + _event(
    "message_delta", delta={"stop_reason": "end_turn", "stop_sequence": None}, usage={"output_tokens": 200}
)
_STOP += _event("message_stop")


class _Model(asyncio.Protocol):
    """Answers each request with as many events as it asks for."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: asyncio.Transport = transport  # type: ignore[assignment]
        self._parser = httptools.HttpRequestParser(self)
        self._body = bytearray()

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_body(self, data: bytes) -> None:
        self._body += data

    def on_message_complete(self) -> None:
        found = _ORDER.search(self._body)
        events, pace_s = (int(found[1]), float(found[2])) if found else (10, 0.0)
        self._body.clear()
        asyncio.get_running_loop().create_task(self._answer(events, pace_s))

    async def _answer(self, events: int, pace_s: float) -> None:
        self._transport.write(_HEAD + _START)
        for _ in range(events):
            await asyncio.sleep(pace_s)
            if self._transport.is_closing():
                return
            self._transport.write(_DELTA)
        self._transport.write(_STOP + _END)


async def _serve(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(_Model, "127.0.0.1", port, backlog=1_000)
    await server.serve_forever()


# -- the clients


class _Connection:
    """A connection that is kept from request to request, as the CLI keeps its own."""

    def __init__(self, url: str) -> None:
        self._parts = urlsplit(url)
        self._reader: asyncio.StreamReader
        self._writer: asyncio.StreamWriter

    async def open(self) -> "_Connection":
        self._reader, self._writer = await asyncio.open_connection(self._parts.hostname, self._parts.port, limit=2**20)
        return self

    def close(self) -> None:
        self._writer.close()

    async def ask(self, key: str, sent: bytes) -> tuple[int, float]:
        """Send a request. Return its status and, with 200, when the first byte of its body was there; else 0."""
        head = (
            f"POST {self._parts.path} HTTP/1.1\r\nhost: {self._parts.netloc}\r\ncontent-type: application/json\r\n"
            f"anthropic-version: 2023-06-01\r\nx-api-key: {key}\r\ncontent-length: {len(sent)}\r\n\r\n"
        )
        self._writer.write(head.encode() + sent)
        answer = await self._reader.readuntil(b"\r\n\r\n")
        status = int(answer.split(b" ", 2)[1])
        if status != 200:
            return status, 0.0
        self._tail = (await self._reader.read(65_536))[-len(_END) :]
        return status, time.perf_counter()

    async def finish(self) -> None:
        """Read the answer to its end."""
        while self._tail != _END:
            chunk = await self._reader.read(65_536)
            if not chunk:
                raise SystemExit("an answer was cut")
            self._tail = (self._tail + chunk)[-len(_END) :]


async def _arrive(url: str, keys: list[str], *, streams: int, seconds: float, pace_s: float, seed: int) -> JSON:
    """Let requests arrive by themselves, so that on average `streams` of their answers are open at a time.

    Times to the first byte count from the moment in which a request was due; the first ones, while the streams become
    so many, are not among them. The same seed makes the same moments and lengths again.
    """
    chance = random.Random(seed)
    shortest, longest = (round(_EVENTS * share) for share in (0.5, 1.5))
    bodies = {events: body(events, pace_s) for events in range(shortest, longest + 1)}
    a_second = streams / (_EVENTS * pace_s)
    ramp_s = longest * pace_s
    firsts: list[float] = []
    refused: list[int] = []
    open_now: list[int] = []
    answered = 0
    idle: list[_Connection] = [await _Connection(url).open() for _ in range(streams)]
    under_way: set[asyncio.Task[None]] = set()

    async def one(due: float, key: str, sent: bytes) -> None:
        nonlocal answered
        connection = idle.pop() if idle else await _Connection(url).open()
        status, came = await connection.ask(key, sent)
        if status != 200:
            refused.append(status)
            connection.close()
            return
        if due >= counted_from:
            firsts.append(came - due)
        await connection.finish()
        answered += 1
        idle.append(connection)

    began = time.perf_counter()
    counted_from, until = began + ramp_s, began + ramp_s + seconds
    due, key = began, cycle(keys)
    while (due := due + chance.expovariate(a_second)) < until:
        sent = bodies[chance.randint(shortest, longest)]
        await asyncio.sleep(due - time.perf_counter())
        if due >= counted_from:
            open_now.append(len(under_way))
        task = asyncio.create_task(one(due, next(key), sent))
        under_way.add(task)
        task.add_done_callback(under_way.discard)
    await asyncio.gather(*under_way)
    for connection in idle:
        connection.close()
    return {"answered": answered, "firsts": firsts, "refused": refused, "open": open_now}


async def _flat_out(url: str, keys: list[str], *, streams: int, requests: int) -> JSON:
    """Keep `streams` requests under way until so many were answered: the next follows at once, and nothing is slow."""
    left = iter(range(requests))
    refused: list[int] = []
    sent = body(_EVENTS, 0.0)

    async def work(key: str) -> None:
        connection = await _Connection(url).open()
        for _ in left:
            status, _came = await connection.ask(key, sent)
            if status == 200:
                await connection.finish()
                continue
            refused.append(status)
            connection.close()
            connection = await _Connection(url).open()
            await asyncio.sleep(0.05)
        connection.close()

    began = time.perf_counter()
    await asyncio.gather(*(work(key) for _, key in zip(range(streams), cycle(keys), strict=False)))
    took = time.perf_counter() - began
    return {"answered": requests - len(refused), "took": took, "refused": refused}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("part", choices=["model", "arrive", "flat-out"])
    parser.add_argument("--port", type=int)
    parser.add_argument("--url")
    parser.add_argument("--keys", type=Path)
    parser.add_argument("--streams", type=int, default=50)
    parser.add_argument("--requests", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--pace", type=float, default=0.03)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    if given.part == "model":
        uvloop.run(_serve(given.port))
        return
    keys = given.keys.read_text().split()
    if given.part == "arrive":
        pattern = {"streams": given.streams, "seconds": given.seconds, "pace_s": given.pace, "seed": given.seed}
        seen = uvloop.run(_arrive(given.url, keys, **pattern))
    else:
        seen = uvloop.run(_flat_out(given.url, keys, streams=given.streams, requests=given.requests))
    sys.stdout.write(json.dumps(seen))


if __name__ == "__main__":
    main()
