"""One conversation with the Claude Code CLI in its sandbox, from the first message to the end, whatever the end is.

Limits are enforced here and not by the CLI, whose own limits and whose exit are known to hang: the sandbox is killed
when the conversation is over, however it ended.
"""

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Any

from claude_agent_sdk import AssistantMessage, ClaudeSDKClient, Message, ResultMessage
from django.db import close_old_connections

from agents.actions import runs
from agents.actions.transcript import Line
from agents.context import CHECK_AGAIN
from agents.models import Run, RunEvent
from agents.supervisor.connections import AWAY, in_thread
from agents.supervisor.inbox import Inbox
from agents.supervisor.keeper import Stop
from agents.supervisor.program import Program, hang_up
from agents.supervisor.progress import Progress, Stuck
from agents.supervisor.transcripts import lines_of
from agents.supervisor.writer import Record, writer

logger = logging.getLogger(__name__)

# How long the CLI may take to hang up by itself.
GRACE_S = 2.0
MAX_REMINDERS = 2
_CALLS = frozenset({RunEvent.Kind.TOOL_USE, RunEvent.Kind.TOOL_RESULT})


@dataclass(frozen=True)
class Limits:
    """When a session is ended from outside."""

    wall_s: float
    stall_s: float
    turns: int


@dataclass(frozen=True)
class SessionEnd:
    """Why a session ended: "finished" (the agent called an ending verb), or what stopped it."""

    reason: str
    detail: str = ""


@dataclass(frozen=True)
class Keeping:
    """What saves the work as it is, called from a thread, and how often; 0: never."""

    save: Callable[[], None]
    every_s: float


@dataclass
class _Session:
    run: Run
    program: Program
    limits: Limits
    stop: Stop
    clock: Callable[[], datetime]
    opening: asyncio.Task[str]
    progress: Progress = field(default_factory=Progress)
    turns: set[str] = field(default_factory=set)
    reminders: int = 0
    is_over: asyncio.Event = field(default_factory=asyncio.Event)
    patience: asyncio.Timeout | None = None

    @cached_property
    def record(self) -> Record:
        """What was said and is not stored yet."""
        return writer().record(self.run, self.stop)

    @cached_property
    def inbox(self) -> Inbox:
        """What others write to the agent meanwhile."""
        return Inbox(self.run, self.stop, self.note, self.clock)

    def note(self, kind: RunEvent.Kind, payload: dict[str, Any]) -> None:
        """Add the platform's own line to the transcript."""
        self.record.add([Line(kind, payload, self.clock())])

    def hear(self, message: Message) -> bool:
        """Record a message where it arrives; return whether the talk has to look at what it has come to."""
        if self.is_over.is_set():
            return False
        if self.patience is not None:
            with suppress(RuntimeError):  # nobody waits for a message now
                self.patience.reschedule(asyncio.get_running_loop().time() + self.limits.stall_s)
        now = self.clock()
        said = list(lines_of(message, now))
        self.record.add(said)
        self.progress.take(said)
        if isinstance(message, AssistantMessage):
            self.turns.add(message.message_id or str(len(self.turns)))
        if self.record.is_full:
            self.program.pipe.hold(is_held=True)
            return True
        called = any(line.kind in _CALLS for line in said)
        is_stuck = called and self.progress.circling() is not None
        return is_stuck or len(self.turns) > self.limits.turns or self.progress.is_time_to_look(now)


def _closing_connections(call: Callable[[], str]) -> str:
    try:
        return call()
    finally:
        close_old_connections()


async def drive(
    run: Run,
    program: Program,
    *,
    opening: Callable[[], str],
    limits: Limits,
    stop: Stop,
    clock: Callable[[], datetime],
    kill: Callable[[], None],
    progress: Progress | None = None,
    keep: Keeping | None = None,
) -> SessionEnd:
    """Hold the conversation until the agent ends its run, a limit is reached or somebody asks to stop.

    `opening` makes the first message, in a thread, while the CLI starts. What it raises is raised here.
    `kill` ends all processes of the run; it is called in the end, from a thread. Every line is stored before this
    returns. Never raises for what the CLI or the agent does. An ending verb counts whatever came after it: who handed
    the work in and then went silent is finished.
    """
    opened = asyncio.create_task(asyncio.to_thread(_closing_connections, opening))
    session = _Session(run, program, limits, stop, clock, opened, progress or Progress())
    program.inbox = session.inbox
    program.pipe.listen(session.hear)
    beside = [asyncio.create_task(_keep_often(session, keep))] if keep is not None and keep.every_s else []
    try:
        end = await _converse(session, program, kill)
    except AWAY:
        raise
    except Exception as error:  # not all that the SDK raises is its own: a line it cannot read, a CLI that was killed
        logger.info("the conversation of run %s broke off: %r", run.pk, error)
        end = SessionEnd("cli_failed", "\n".join([f"The agent's program broke off: {error}", *program.stderr[-10:]]))
    finally:
        # Not cancelled: its thread would go on.
        session.is_over.set()
        await asyncio.gather(*beside)
        await asyncio.wait({session.opening})
        await session.record.stored()
    if failure := session.opening.exception():
        raise failure
    if end.reason != "finished" and await in_thread(_outcome, run):
        end = SessionEnd("finished")
    if end.reason != "finished":
        session.note(RunEvent.Kind.ERROR, {"reason": end.reason, "text": end.detail})
        await session.record.stored()
    return end


async def _converse(session: _Session, program: Program, kill: Callable[[], None]) -> SessionEnd:
    """Talk until the conversation ends by itself, somebody asks to stop, or the time is up."""
    with session.stop.listening() as asked:
        if asked.is_set():
            await hang_up(program, kill, grace_s=0)
            return SessionEnd(session.stop.reason, "The run was asked to stop before it began.")
        talking = asyncio.create_task(_talk(session, program))
        stopping = asyncio.create_task(asked.wait())
        try:
            await asyncio.wait({talking, stopping}, timeout=session.limits.wall_s, return_when=asyncio.FIRST_COMPLETED)
            if talking.done():
                return talking.result()
            if stopping.done():
                return SessionEnd(session.stop.reason, "The run was asked to stop.")
            minutes = session.limits.wall_s / 60
            return SessionEnd("wall_clock", f"The agent did not finish within {minutes:.3g} minutes.")
        finally:
            is_finished = talking.done() and not talking.cancelled() and not talking.exception()
            for task in (talking, stopping):
                task.cancel()
            await asyncio.wait({talking, stopping}, timeout=GRACE_S)
            await hang_up(program, kill, grace_s=GRACE_S if is_finished else 0)


async def _talk(session: _Session, program: Program) -> SessionEnd:
    """Start the CLI, say the first message, and listen until there is nothing more to say."""
    limits, client = session.limits, program.client
    try:
        async with asyncio.timeout(limits.stall_s):
            # Shielded: its thread would go on, and would still be at work in directories that are being removed.
            prompt, _ = await asyncio.gather(asyncio.shield(session.opening), program.connect())
            await client.query(prompt)
        if pid := program.pid:
            with suppress(*AWAY):  # nothing depends on it
                await in_thread(runs.note_process, session.run, pid)
        messages = client.receive_messages()
        while True:
            async with asyncio.timeout(limits.stall_s) as session.patience:
                message = await anext(messages, None)
            if session.record.is_full:
                await session.record.room()
            # Always: who was held may have been stored meanwhile.
            program.pipe.hold(is_held=False)
            if message is None:
                return await _after_silence(session)
            if stuck := await _stuck(session):
                return SessionEnd(stuck.reason, stuck.detail)
            if len(session.turns) > limits.turns:
                return SessionEnd("turn_limit", f"The agent used its {limits.turns} turns without finishing.")
            if isinstance(message, ResultMessage) and (end := await _after_turn(session, client, message)):
                return end
    except TimeoutError:
        return SessionEnd("stalled", f"The agent said nothing for {limits.stall_s:g} seconds.")


async def _stuck(session: _Session) -> Stuck | None:
    """Return why the agent gets nowhere, if it does."""
    if stuck := session.progress.circling():
        return stuck
    now = session.clock()
    if session.progress.is_time_to_look(now):
        return await asyncio.to_thread(session.progress.standing_still, now)
    return None


async def _after_silence(session: _Session) -> SessionEnd:
    """The CLI closed its output."""
    if await in_thread(_outcome, session.run):
        return SessionEnd("finished")
    return SessionEnd("cli_failed", "The agent's program ended without a result.")


async def _after_turn(session: _Session, client: ClaudeSDKClient, result: ResultMessage) -> SessionEnd | None:
    """The agent ended its turn: with an ending verb, with an error of the model, or without a word."""
    if await in_thread(_outcome, session.run):
        return SessionEnd("finished")
    if result.is_error:
        return SessionEnd("model_error", (result.result or "; ".join(result.errors or [])) or result.subtype)
    if told := await session.inbox.take():
        await client.query(told)
        return None
    session.reminders += 1
    if session.reminders > MAX_REMINDERS:
        return SessionEnd("no_outcome", "The agent ended its turn without saying how the task ended.")
    session.note(RunEvent.Kind.MESSAGE, {"from": "platform", "text": CHECK_AGAIN})
    await client.query(CHECK_AGAIN)
    return None


def _outcome(run: Run) -> dict[str, Any]:
    run.refresh_from_db(fields=["outcome"])
    outcome: dict[str, Any] = run.outcome
    return outcome


async def _keep_often(session: _Session, keep: Keeping) -> None:
    """Save the work now and then: a machine that dies takes no more than the last minutes of it."""
    while not session.is_over.is_set():
        with suppress(TimeoutError):
            await asyncio.wait_for(session.is_over.wait(), keep.every_s)
        if not session.is_over.is_set():
            try:
                await in_thread(keep.save)
            except Exception:  # the conversation goes on without
                logger.exception("run %s could not be saved meanwhile", session.run.pk)
