"""An agent that says more at once than is stored at once: it is held up meanwhile, and heard to the end."""

import asyncio
import sys
import threading
from pathlib import Path

import pytest
from claude_agent_sdk import ClaudeAgentOptions
from django.utils import timezone

from agents.models import Run, RunEvent
from agents.supervisor.keeper import Stop
from agents.supervisor.program import Program
from agents.supervisor.session import MAX_REMINDERS, Limits, SessionEnd, drive
from tests.agents.supervisor.test_writer import elsewhere
from tests.factories import RunFactory

pytestmark = pytest.mark.django_db(transaction=True)

# Answers each message with a burst of lines and ends its turn.
CLI = """#!{python} -IS
import json, sys
def say(**data):
    sys.stdout.write(json.dumps(data) + "\\n")
for got in map(json.loads, sys.stdin):
    if got["type"] == "control_request":
        answer = {{"subtype": "success", "request_id": got["request_id"], "response": {{}}}}
        say(type="control_response", response=answer)
    elif got["type"] == "user":
        for number in range({burst}):
            content = [{{"type": "text", "text": str(number)}}]
            message = {{"id": "m", "model": "fake", "role": "assistant", "content": content}}
            say(type="assistant", parent_tool_use_id=None, session_id="s", message=message)
        facts = {{"subtype": "success", "duration_ms": 1, "duration_api_ms": 1, "is_error": False, "num_turns": 1}}
        say(type="result", session_id="s", **facts)
    sys.stdout.flush()
"""


def talk(tmp_path: Path, run: Run, *, burst: int) -> SessionEnd:
    program = tmp_path / "cli"
    program.write_text(CLI.format(python=sys.executable, burst=burst))
    program.chmod(0o755)
    talking = drive(
        run,
        Program(ClaudeAgentOptions(cli_path=program, cwd=tmp_path, max_buffer_size=2**20), clock=timezone.now),
        opening=lambda: "go",
        limits=Limits(wall_s=120, stall_s=15, turns=10),
        stop=Stop(),
        clock=timezone.now,
        kill=lambda: None,
    )
    return asyncio.run(talking)


def heard(run: Run) -> int:
    return RunEvent.objects.filter(run=run, kind=RunEvent.Kind.TEXT).count()


def test_who_says_much_is_heard_to_the_end(tmp_path: Path) -> None:
    run = RunFactory(status="running")

    end = talk(tmp_path, run, burst=2_000)

    assert (end.reason, heard(run)) == ("no_outcome", 2_000 * (1 + MAX_REMINDERS))


def test_who_was_held_while_the_conversation_waited_for_something_else_goes_on(tmp_path: Path) -> None:
    """Its agent's row is somebody else's just as the first message went out: it is held, and all is stored by then."""
    run = RunFactory(status="running")
    is_locked, over = threading.Event(), threading.Event()

    def lock() -> None:
        with elsewhere() as other:
            other.execute("SELECT 1 FROM agents_agent WHERE id = %s FOR UPDATE", [run.agent_id])
            is_locked.set()
            over.wait(3)

    locking = threading.Thread(target=lock)
    locking.start()
    assert is_locked.wait(10)
    try:
        end = talk(tmp_path, run, burst=600)
    finally:
        over.set()
        locking.join()

    assert (end.reason, heard(run)) == ("no_outcome", 600 * (1 + MAX_REMINDERS))
