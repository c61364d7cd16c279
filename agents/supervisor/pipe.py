"""The pipe from the CLI: its lines are heard where they arrive, and only what somebody waits for goes through the SDK.

The SDK passes each line through three tasks and a queue, which costs more than all else that is done with it. A line of
the transcript is wanted by nobody but the transcript, so it is taken in the event loop's own callback. What the SDK
answers or keeps count of (control messages, the system's, results) goes its way as before, in the order it came.
"""

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable
from functools import partial
from typing import Any, cast

from claude_agent_sdk import ClaudeAgentOptions, CLIJSONDecodeError, Message, ProcessError
from claude_agent_sdk._internal.message_parser import parse_message
from claude_agent_sdk._internal.transport.subprocess_cli import SubprocessCLITransport, _parse_stdout_line

logger = logging.getLogger(__name__)

_CONTROL = frozenset({"control_request", "control_response", "control_cancel_request"})
# What is only heard, unless who hears wants the conversation to look.
_TALK = frozenset({"assistant", "user"})
# So many may wait for the SDK; then the CLI does.
_MOST_WAITING = 200

Hear = Callable[[Message], bool]
"""Takes a message; returns whether whoever receives messages has to look now."""


class Pipe(SubprocessCLITransport):
    """The CLI's process and its pipes. Belongs to one event loop."""

    def __init__(self, options: ClaudeAgentOptions) -> None:
        super().__init__(prompt=_nothing(), options=options)
        self._hear: Hear | None = None
        self._unheard: list[dict[str, Any]] = []
        self._waiting: deque[dict[str, Any]] = deque()
        self._came = asyncio.Event()
        self._parts: list[bytes] = []
        self._length = 0
        self._failure: Exception | None = None
        self._is_eof = False
        self._is_held = self._is_closing = False
        self._out: asyncio.ReadTransport | None = None

    async def connect(self) -> None:
        """Start the CLI and begin to read."""
        if self._process is not None:
            return
        await super().connect()
        assert self._process is not None
        process: Any = self._process
        # What asyncio reads of the process goes to whatever its protocol has here.
        transport, protocol = process._process._transport, process._process._transport.get_protocol()
        self._out = transport.get_pipe_transport(1)
        old, protocol.stdout = protocol.stdout, self
        if old._buffer:
            self.feed_data(bytes(old._buffer))
        if old._eof:
            self.feed_eof()

    def listen(self, hear: Hear) -> None:
        """Have everything heard by `hear` from now on, first what nobody heard."""
        self._hear = hear
        unheard, self._unheard = self._unheard, []
        self._guarded(partial(_each, self._take, unheard))

    async def close(self) -> None:
        """Let go of the CLI. What it still says is not taken, so that it can end."""
        self._is_closing = True
        self._flow()
        await super().close()

    def hold(self, *, is_held: bool) -> None:
        """Read no more, or go on. The CLI waits when the pipe is full."""
        self._is_held = is_held
        self._flow()

    # -- as a reader of asyncio's protocol

    def feed_data(self, data: bytes) -> None:
        """Take what the CLI wrote. What comes after something went wrong is dropped: nobody bounds it any more."""
        if self._is_deaf:
            self._parts, self._length = [], 0
            return
        self._parts.append(data)
        self._length += len(data)
        if b"\n" in data:
            *lines, tail = b"".join(self._parts).split(b"\n")
            self._parts, self._length = [tail], len(tail)
            self._guarded(partial(_each, self._line, lines))
        # At most four bytes make a character.
        if self._length > 4 * self._max_buffer_size:
            self._guarded(partial(self._bound, self._length))

    def feed_eof(self) -> None:
        """Hear that the CLI closed its output. What it did not end with a newline was cut off, or is a message."""
        tail, self._parts, self._length = b"".join(self._parts), [], 0
        if not self._is_deaf:
            try:
                self._line(tail)
            except Exception as error:
                logger.info("the CLI's last words are no message: %r", error)
        self._is_eof = True
        self._came.set()

    def set_exception(self, error: Exception) -> None:
        """Hear that the pipe broke."""
        self._guarded(partial(_throw, error))

    # -- as the SDK's transport

    def read_messages(self) -> AsyncIterator[dict[str, Any]]:
        """Yield what goes through the SDK. Raises what went wrong with a line, or ProcessError in the end."""
        return self._messages()

    async def _messages(self) -> AsyncIterator[dict[str, Any]]:
        while True:
            while self._waiting:
                yield self._waiting.popleft()
                self._flow()
            if self._failure is not None:
                raise self._failure
            if self._is_eof:
                break
            self._came.clear()
            await self._came.wait()
        code = await self._process.wait() if self._process is not None else 0
        if code:
            self._exit_error = ProcessError(f"Command failed with exit code {code}", exit_code=code)
            raise self._exit_error

    def _line(self, line: bytes) -> None:
        text = line.decode()
        self._bound(len(text))
        data = _parse_stdout_line(text)
        if data is None:
            return
        if data.get("type") in _CONTROL:
            self._pass_on(data)
        elif self._hear is None:
            self._unheard.append(data)
        else:
            self._take(data)

    def _take(self, data: dict[str, Any]) -> None:
        kind = data.get("type")
        if kind == "system":
            self._check_claude_version(data)
        message = parse_message(data)
        is_wanted = message is not None and cast(Hear, self._hear)(message)
        if is_wanted or kind not in _TALK:
            self._pass_on(data)

    def _pass_on(self, data: dict[str, Any]) -> None:
        self._waiting.append(data)
        self._came.set()
        self._flow()

    def _flow(self) -> None:
        if self._out is None:
            return
        if not self._is_closing and (self._is_held or len(self._waiting) > _MOST_WAITING):
            self._out.pause_reading()
        else:
            self._out.resume_reading()

    def _bound(self, length: int) -> None:
        if length > self._max_buffer_size:
            raise CLIJSONDecodeError(
                f"a message of more than {self._max_buffer_size} characters", ValueError(f"{length} characters")
            )

    @property
    def _is_deaf(self) -> bool:
        return self._failure is not None or self._is_closing

    def _guarded(self, step: Callable[[], object]) -> None:
        """Take a step; what it raises is raised to who reads, and nothing is taken any more."""
        if self._is_deaf:
            return
        try:
            step()
        except Exception as error:
            self._failure = error
            self._came.set()


async def _nothing() -> AsyncIterator[dict[str, Any]]:
    return
    yield {}


def _each(step: Callable[[Any], None], values: Iterable[Any]) -> None:
    for value in values:
        step(value)


def _throw(error: Exception) -> None:
    raise error
