"""The pipe from the CLI, with a process at its other end: what is heard, what goes through the SDK, in which order."""

import asyncio
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import psutil
import pytest
from claude_agent_sdk import (
    AssistantMessage,
    ClaudeAgentOptions,
    ClaudeSDKError,
    CLIJSONDecodeError,
    Message,
    ProcessError,
    TextBlock,
)

from agents.supervisor.pipe import Pipe

SYSTEM = {"type": "system", "subtype": "status"}
CONTROL = {"type": "control_request", "request_id": "r", "request": {}}
RESULT = {
    "type": "result",
    "subtype": "success",
    "duration_ms": 1,
    "duration_api_ms": 1,
    "is_error": False,
    "num_turns": 1,
    "session_id": "s",
}


def said(text: str) -> dict[str, Any]:
    message = {"id": "m", "model": "fake", "role": "assistant", "content": [{"type": "text", "text": text}]}
    return {"type": "assistant", "parent_tool_use_id": None, "session_id": "s", "message": message}


def line(value: object) -> str:
    return json.dumps(value, ensure_ascii=False) + "\n"


class Other:
    """A CLI that does as its script says, at the end of a pipe."""

    def __init__(self, tmp_path: Path, script: str, **options: Any) -> None:
        program = tmp_path / "cli"
        program.write_text(f"#!{sys.executable} -IS\nimport sys, time, pathlib\nout = sys.stdout.buffer\n{script}")
        program.chmod(0o755)
        self.pipe = Pipe(ClaudeAgentOptions(cli_path=program, **options))
        self.heard: list[str] = []
        self.passed_on: list[str] = []

    def hear(self, message: Message) -> bool:
        found = [block.text for block in getattr(message, "content", ()) if isinstance(block, TextBlock)]
        self.heard.extend(found or [type(message).__name__])
        return False

    async def read(self, hear: Callable[[Message], bool] | None = None) -> None:
        """Read to the end."""
        await self.pipe.connect()
        try:
            self.pipe.listen(hear or self.hear)
            async with asyncio.timeout(60):
                async for data in self.pipe.read_messages():
                    self.passed_on.append(data["type"])
        finally:
            await self.pipe.close()


def test_everything_is_heard_in_order_and_the_sdk_gets_what_is_its(tmp_path: Path) -> None:
    whole = "".join(map(line, [SYSTEM, said("naïve ☃"), CONTROL, said("b"), RESULT, said("c")]))
    # In pieces of three bytes, so that lines and characters come apart; and what is no message between them.
    script = f"data = {whole.encode()!r}.replace(b'\\n', b'\\n\\n[debug] no message\\n')\n"
    script += "for at in range(0, len(data), 3):\n    out.write(data[at:at + 3]); out.flush()\n"
    other = Other(tmp_path, script)

    asyncio.run(other.read())

    assert other.heard == ["SystemMessage", "naïve ☃", "b", "ResultMessage", "c"]
    assert other.passed_on == ["system", "control_request", "result"]


def test_what_the_conversation_wants_to_look_at_is_passed_on(tmp_path: Path) -> None:
    other = Other(tmp_path, f"out.write({(line(said('a')) + line(said('b')) + line(said('c'))).encode()!r})")

    def hear(message: Message) -> bool:
        other.hear(message)
        return isinstance(message, AssistantMessage) and other.heard[-1] == "b"

    asyncio.run(other.read(hear))

    assert (other.heard, other.passed_on) == (["a", "b", "c"], ["assistant"])


def test_what_was_said_before_anybody_listened_is_heard_first(tmp_path: Path) -> None:
    before = line(said("before")) + line(CONTROL)
    script = f"out.write({before.encode()!r}); out.flush(); sys.stdin.readline()\n"
    other = Other(tmp_path, script + f"out.write({line(said('after')).encode()!r})")

    async def late() -> None:
        await other.pipe.connect()
        messages = other.pipe.read_messages()
        async with asyncio.timeout(60):
            other.passed_on.append((await anext(messages))["type"])
            assert other.heard == []
            other.pipe.listen(other.hear)
            await other.pipe.write("go\n")
            assert [data async for data in messages] == []
        await other.pipe.close()

    asyncio.run(late())

    assert other.heard == ["before", "after"]


def test_who_is_held_waits_and_goes_on(tmp_path: Path) -> None:
    done = tmp_path / "done"
    many = f"for _ in range(20000): out.write({line(said('x' * 100)).encode()!r})\nout.flush()\n"
    other = Other(tmp_path, many + f"pathlib.Path({str(done)!r}).touch()")

    def hear(message: Message) -> bool:
        if not other.heard:
            other.pipe.hold(is_held=True)
        other.hear(message)
        return len(other.heard) == 1

    async def hold() -> None:
        reading = asyncio.create_task(other.read(hear))
        while not other.passed_on:
            await asyncio.sleep(0.01)
        heard = len(other.heard)
        await asyncio.wait({reading}, timeout=0.3)
        assert len(other.heard) == heard < 20000
        assert not done.exists()
        other.pipe.hold(is_held=False)
        await reading

    asyncio.run(hold())

    assert done.exists()
    assert len(other.heard) == 20000


def test_closing_ends_who_is_held(tmp_path: Path) -> None:
    other = Other(tmp_path, f"while True: out.write({line(said('x' * 1000)).encode()!r})")

    async def close() -> None:
        await other.pipe.connect()
        process = other.pipe._process
        assert process is not None
        other.pipe.listen(other.hear)
        other.pipe.hold(is_held=True)
        process.kill()
        async with asyncio.timeout(20):
            await other.pipe.close()
            while not cast(asyncio.ReadTransport, other.pipe._out).is_closing():
                await asyncio.sleep(0.01)
        assert process.returncode is not None

    asyncio.run(close())


@pytest.mark.parametrize(
    ("script", "error"),
    [
        (f"out.write({line(said('x' * 5000)).encode()!r})", CLIJSONDecodeError),  # too long
        ("out.write(b'x' * 20000); out.flush(); sys.stdin.read()", CLIJSONDecodeError),  # and never ends
        ("import os; os.write(1, b'\\n' + b'x' * 20000); sys.stdin.read()", CLIJSONDecodeError),  # nor after a line
        ("out.write(b'{broken\\n')", CLIJSONDecodeError),
        ("out.write(b'\\xff\\n')", UnicodeDecodeError),
        ("""out.write(b'{"type": "assistant"}\\n')""", ClaudeSDKError),
        ("sys.exit(3)", ProcessError),
    ],
)
def test_what_is_wrong_is_raised_to_who_reads(tmp_path: Path, script: str, error: type[Exception]) -> None:
    other = Other(tmp_path, f"out.write({line(said('a')).encode()!r})\n{script}", max_buffer_size=4000)

    with pytest.raises(error):
        asyncio.run(other.read())

    assert other.heard in (["a"], [])


def test_a_line_that_was_cut_off_is_no_error_and_a_whole_one_is_heard(tmp_path: Path) -> None:
    cut = Other(tmp_path, f"out.write({(line(said('a')) + line(said('b'))[:-9]).encode()!r})")
    asyncio.run(cut.read())
    whole = Other(tmp_path, f"out.write({line(said('a')).rstrip().encode()!r})")
    asyncio.run(whole.read())

    assert (cut.heard, whole.heard) == (["a"], ["a"])


@pytest.mark.parametrize("last", ['{"type": "assistant"}', '{"type": "assistant", "message": null}', "{"])
def test_last_words_that_are_no_message_end_the_reading(tmp_path: Path, last: str) -> None:
    other = Other(tmp_path, f"out.write({(line(said('a')) + last).encode()!r})")
    asyncio.run(other.read())
    assert other.heard == ["a"]


def test_after_a_failure_nothing_is_kept_any_more(tmp_path: Path) -> None:
    other = Other(tmp_path, "while True: out.write(b'x' * 65536)", max_buffer_size=4000)

    async def read() -> int:
        await other.pipe.connect()
        try:
            other.pipe.listen(other.hear)
            with pytest.raises(CLIJSONDecodeError):
                await anext(other.pipe.read_messages())
            process = other.pipe._process
            assert process is not None
            before = psutil.Process(process.pid).io_counters().write_chars
            while psutil.Process(process.pid).io_counters().write_chars < before + 2**22:
                await asyncio.sleep(0.01)
            process.kill()
            return other.pipe._length
        finally:
            await other.pipe.close()

    assert asyncio.run(read()) == 0
