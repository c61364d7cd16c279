"""A model that streams at a given pace, and a load of clients that read such streams and take the time.

Both are programs of their own, so that what is measured shares no interpreter with what measures it:

    python bench/streams.py model --port 9000
    python bench/streams.py load --url http://127.0.0.1:9000/v1/messages --keys keys.txt --streams 50 --requests 500
"""

import argparse
import asyncio
import json
import re
import sys
import time
from itertools import cycle
from pathlib import Path
from urllib.parse import urlsplit

import httptools
import uvloop

MODEL = "claude-sonnet-4-5"
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


async def _load(
    url: str, keys: list[str], *, streams: int, requests: int, events: int, pace_s: float
) -> dict[str, object]:
    """Keep `streams` streams open until `requests` were answered. Return times to the first byte and the whole."""
    left = iter(range(requests))
    firsts: list[float] = []
    refused: list[int] = []
    sent = body(events, pace_s)

    async def work(number: int, key: str) -> None:
        # Not all at the same moment: streams of agents do not begin together either.
        await asyncio.sleep(number / streams * min(events * pace_s, 2.0))
        parts = urlsplit(url)
        head = (
            f"POST {parts.path} HTTP/1.1\r\nhost: {parts.netloc}\r\ncontent-type: application/json\r\n"
            f"anthropic-version: 2023-06-01\r\nx-api-key: {key}\r\ncontent-length: {len(sent)}\r\n\r\n"
        ).encode()
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port, limit=2**20)
        for _ in left:
            began = time.perf_counter()
            writer.write(head + sent)
            answer = await reader.readuntil(b"\r\n\r\n")
            status = int(answer.split(b" ", 2)[1])
            if status != 200:
                refused.append(status)
                writer.close()
                reader, writer = await asyncio.open_connection(parts.hostname, parts.port, limit=2**20)
                await asyncio.sleep(0.05)
                continue
            chunk = await reader.read(65_536)
            firsts.append(time.perf_counter() - began)
            tail = chunk[-len(_END) :]
            while tail != _END:
                chunk = await reader.read(65_536)
                if not chunk:
                    raise SystemExit("an answer was cut")
                tail = (tail + chunk)[-len(_END) :]
        writer.close()

    began = time.perf_counter()
    await asyncio.gather(*(work(number, key) for number, key in zip(range(streams), cycle(keys), strict=False)))
    return {"firsts": firsts, "took": time.perf_counter() - began, "refused": refused}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("part", choices=["model", "load"])
    parser.add_argument("--port", type=int)
    parser.add_argument("--url")
    parser.add_argument("--keys", type=Path)
    parser.add_argument("--streams", type=int, default=50)
    parser.add_argument("--requests", type=int, default=200)
    parser.add_argument("--events", type=int, default=100)
    parser.add_argument("--pace", type=float, default=0.03)
    given = parser.parse_args()
    if given.part == "model":
        uvloop.run(_serve(given.port))
    else:
        keys = given.keys.read_text().split()
        options = {"streams": given.streams, "requests": given.requests, "events": given.events, "pace_s": given.pace}
        sys.stdout.write(json.dumps(uvloop.run(_load(given.url, keys, **options))))


if __name__ == "__main__":
    main()
