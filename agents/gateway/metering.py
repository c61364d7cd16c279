"""Counting what the model's answer used, while it passes through.

The API says so itself: the input in the stream's first event, the output in its last. Where an answer breaks off, the
output is guessed from what was delivered, on the high side, because the API charges for it.

Source: https://docs.anthropic.com/en/api/messages-streaming.
"""

import json
from collections.abc import Mapping
from typing import Any, Protocol

from agents.gateway.model_request import SEARCH_FEE
from billing.prices import Usage

# English has about four bytes a token, code and JSON three.
_BYTES_PER_TOKEN = 3
_MOST_TOKENS = 10**9
_DELTA = b'"content_block_delta"'
_NEAR_THE_START = 64
_KEPT_BYTES = 256 * 1024
_LONGEST_LINE_BYTES = 16 * 1024 * 1024
_MOST_SEARCHES = 1_000
_TEXT_OF_DELTA = ("text", "partial_json", "thinking", "signature", "data")
_COUNTS = ("input_tokens", "output_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")


class Meter(Protocol):
    """What is told the bytes of an answer in their order, and knows what they used."""

    def feed(self, chunk: bytes) -> None:
        """Take the next bytes."""

    def usage(self) -> Usage | None:
        """Return what was used so far, None when there is no sign that the model did anything."""


class _Counts:
    """The newest numbers that the API gave, and how much of an answer was seen."""

    def __init__(self, input_estimate: int) -> None:
        self._input_estimate = input_estimate
        self._counts: dict[str, int] = {}
        self._long_cache = 0
        self._searches = 0
        self.has_final = False
        self.seen_bytes = 0

    def take(self, usage: object) -> None:
        """Read a `usage` object. What it leaves out stays as it was."""
        if not isinstance(usage, Mapping):
            return
        self._counts |= {name: _count(usage[name]) for name in _COUNTS if usage.get(name) is not None}
        created = usage.get("cache_creation")
        if isinstance(created, Mapping):
            self._long_cache = _count(created.get("ephemeral_1h_input_tokens"))
        tools = usage.get("server_tool_use")
        if isinstance(tools, Mapping):
            self._searches = max(self._searches, _count(tools.get("web_search_requests")))

    def see_block(self, block: Mapping[str, Any]) -> None:
        """Take the beginning of a block: a search is charged as soon as it is made."""
        self.seen_bytes += 1
        if not self.has_final and block.get("type") == "server_tool_use" and block.get("name") == "web_search":
            self._searches += 1

    def usage(self) -> Usage | None:
        """Return the numbers, with guesses for those that never came."""
        if not self._counts and not self.seen_bytes:
            return None
        counts = self._counts
        output = counts.get("output_tokens", 0)
        if not self.has_final:
            output = max(output, estimate_tokens(self.seen_bytes))
        written = counts.get("cache_creation_input_tokens", 0)
        long = min(self._long_cache, written)
        return Usage(
            input_tokens=counts.get("input_tokens", 0) if counts else self._input_estimate,
            output_tokens=output,
            cache_write_tokens=written - long,
            cache_read_tokens=counts.get("cache_read_input_tokens", 0),
            long_cache_write_tokens=long,
            fees=SEARCH_FEE * min(self._searches, _MOST_SEARCHES),
        )


class StreamMeter:
    """Reads server-sent events."""

    def __init__(self, *, input_estimate: int) -> None:
        self._counts = _Counts(input_estimate)
        self._rest = bytearray()
        self._deltas: list[bytes] = []
        self._delta_bytes = 0

    def feed(self, chunk: bytes) -> None:
        """Take the next bytes; they may end anywhere."""
        self._rest += chunk
        if b"\n" not in chunk:
            if len(self._rest) > _LONGEST_LINE_BYTES:
                self._rest.clear()
            return
        *lines, rest = bytes(self._rest).split(b"\n")
        self._rest = bytearray(rest)
        for line in lines:
            if not line.startswith(b"data:"):
                continue
            if _DELTA in line[:_NEAR_THE_START]:
                self._deltas.append(line)
                self._delta_bytes += len(line)
                if self._delta_bytes > _KEPT_BYTES:
                    self._read_deltas()
            else:
                self._take_event(line[5:])

    def _read_deltas(self) -> None:
        """Look into the pieces of text, nearly all that a stream is made of: only a stream without an end needs it."""
        deltas, self._deltas, self._delta_bytes = self._deltas, [], 0
        for line in deltas:
            self._take_event(line[5:])

    def _take_event(self, data: bytes) -> None:
        try:
            event = json.loads(data)
        except (ValueError, RecursionError):
            return
        match event:
            case {"type": "message_start", "message": {"usage": usage}}:
                self._counts.take(usage)
            case {"type": "message_delta", "usage": usage}:
                self._counts.take(usage)
                self._counts.has_final = True
            case {"type": "content_block_start", "content_block": dict(block)}:
                self._counts.see_block(block)
            case {"type": "content_block_delta", "delta": dict(delta)}:
                self._counts.seen_bytes += _delivered(delta)

    def usage(self) -> Usage | None:
        """Return what was used so far."""
        if not self._counts.has_final:
            self._read_deltas()
        return self._counts.usage()


class WholeMeter:
    """Reads an answer that comes in one piece of JSON."""

    def __init__(self, *, input_estimate: int) -> None:
        self._counts = _Counts(input_estimate)
        self._body = bytearray()

    def feed(self, chunk: bytes) -> None:
        """Take the next bytes."""
        self._body += chunk

    def usage(self) -> Usage | None:
        """Return what was used; half an answer was still paid for, an answer that is none at all was not."""
        try:
            answer = json.loads(bytes(self._body))
        except (ValueError, RecursionError):
            self._counts.seen_bytes = len(self._body) if self._body.lstrip().startswith(b"{") else 0
            return self._counts.usage()
        if isinstance(answer, dict) and isinstance(answer.get("usage"), dict):
            self._counts.take(answer["usage"])
            self._counts.has_final = True
        return self._counts.usage()


class BlindMeter:
    """Stands for an answer that cannot be read: it costs all that was held for it."""

    def __init__(self, most: Usage) -> None:
        self._most = most

    def feed(self, chunk: bytes) -> None:
        """Take the next bytes."""

    def usage(self) -> Usage | None:
        """Return the most that may have been used."""
        return self._most


def meter_of(first: bytes, *, input_estimate: int) -> Meter:
    """Return the meter for an answer that begins like this.

    By what it is, whatever was asked for or said of it: an answer that is read the wrong way would cost nothing.
    """
    meter = WholeMeter if first.lstrip().startswith(b"{") else StreamMeter
    return meter(input_estimate=input_estimate)


def estimate_tokens(size_bytes: int) -> int:
    """Return about how many tokens so many bytes are, rather too many than too few."""
    return -(-size_bytes // _BYTES_PER_TOKEN)


def _delivered(delta: Mapping[str, Any]) -> int:
    texts = (delta.get(name) for name in _TEXT_OF_DELTA)
    return sum(len(text.encode("utf-8", "replace")) for text in texts if isinstance(text, str))


def _count(value: object) -> int:
    """Return a number of tokens, whatever the other side sent."""
    if isinstance(value, bool) or not isinstance(value, int):
        return 0
    return min(max(value, 0), _MOST_TOKENS)
