"""The WebSocket of a remote worker: frames of its runs, passed on between it and the relays of their supervisors.

Nothing is kept here and nothing decided but whose a frame is: a run's bytes are numbered and acknowledged from end to
end (`agents.worker.streams`), so that a frame that is lost, doubled or comes through another web server does no harm.
Close codes: 4401 the key opens nothing (any more), 4404 no worker that joined with it, 1009 a frame that is too large.
"""

import asyncio
import logging
import time
from typing import Any
from uuid import UUID

from channels.db import database_sync_to_async
from channels.generic.websocket import AsyncJsonWebsocketConsumer
from django.db import Error as DatabaseError
from django.utils import timezone

from accounts.models import ApiKey
from accounts.queries import joining_keys
from agents.actions import remote
from agents.errors import ReportRefused
from agents.models import Worker
from agents.remote.names import TO_RUN, run_group, worker_group

logger = logging.getLogger(__name__)
NOT_LET_IN, NO_SUCH_WORKER = 4401, 4404
RECHECK_S = 10
TOO_LARGE = 1009
"""The web server's close code for a frame whose header says more than it takes (16 MiB); nothing of it is read."""
MOST_CHARS = 2_000_000
"""Of one frame. Bytes of a run come in pieces far smaller than this."""
NO_FRAME = 'A frame is {"type", "data"}, of a type that docs/remote-workers.md names.'
KNOWN = frozenset({"pong", "accepted", "output", "ack", "task_rejected"})
"""Types of frames that a worker sends."""


class WorkerSocket(AsyncJsonWebsocketConsumer):  # type: ignore[misc]  # channels has no types
    """One connection of a remote worker."""

    worker: Worker | None = None
    checked_at = 0.0
    is_out = False
    watch: "asyncio.Task[None] | None" = None

    async def __call__(self, *given: Any) -> None:
        """Serve the connection. However it ends, nobody watches over it any more."""
        try:
            await super().__call__(*given)
        finally:
            if self.watch is not None:
                self.watch.cancel()

    async def connect(self) -> None:
        """Accept first: only then does the client learn the close code."""
        await self.accept()
        key = self.scope.get("api_key")
        if not isinstance(key, ApiKey) or not await _lets_in(key.pk):
            await self.close(NOT_LET_IN)
            return
        worker_id = self.scope["url_route"]["kwargs"]["worker_id"]
        self.worker = await database_sync_to_async(Worker.objects.filter(pk=worker_id, key=key).first)()
        if self.worker is None:
            await self.close(NO_SUCH_WORKER)
            return
        self.own_runs: dict[str, float] = {}
        self.checked_at = time.monotonic()
        await self.channel_layer.group_add(worker_group(str(worker_id)), self.channel_name)
        await self.send_json({"type": "ping", "data": {}})
        self.watch = asyncio.create_task(self._watch())

    async def disconnect(self, code: int) -> None:
        """Leave the group. The worker's runs go on: it comes back, or its heartbeat stops."""
        if self.worker is not None:
            if code == TOO_LARGE:
                await database_sync_to_async(remote.refuse)(
                    self.worker, "frame_too_large", "Its frame was larger than any.", now=timezone.now()
                )
            await self.channel_layer.group_discard(worker_group(str(self.worker.pk)), self.channel_name)

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None, **kwargs: Any) -> None:
        """Take a frame; what is no frame, or too long for one, is refused and recorded."""
        if text_data is None or len(text_data) > MOST_CHARS:
            await self._refuse("no_frame", "A frame is JSON text of at most 2,000,000 characters.")
            return
        try:
            content = await self.decode_json(text_data)
        except (ValueError, RecursionError):
            content = None
        kind = content.get("type") if isinstance(content, dict) else None
        data = content.get("data", {}) if isinstance(content, dict) else None
        if not isinstance(kind, str) or kind not in KNOWN or not isinstance(data, dict):
            await self._refuse("no_frame", NO_FRAME)
        elif kind != "pong" and await self._may_go_on():
            await self._pass_on(kind, data)

    async def _pass_on(self, kind: str, data: dict[str, Any]) -> None:
        run_id = _canonical(data.get("subtask_id"))
        try:
            await self._check_owns(run_id)
        except ReportRefused as refused:
            await self.send_json({"type": "task_cancel", "data": {"subtask_id": run_id, "reason": str(refused)}})
            return
        frame = {"type": kind, "data": data}
        try:
            await self.channel_layer.group_send(run_group(run_id), {"type": TO_RUN, "frame": frame})
        except (ValueError, OverflowError):  # text or a number that JSON has, and the channel layer has not
            await self._refuse("no_frame", NO_FRAME)

    async def remote_to_worker(self, message: dict[str, Any]) -> None:
        """Send the worker what a relay has for it."""
        if await self._may_go_on():
            await self.send_json(message["frame"])

    async def _check_owns(self, run_id: str) -> None:
        assert self.worker is not None
        now = time.monotonic()
        if now - self.own_runs.get(run_id, -RECHECK_S) < RECHECK_S:
            return
        await database_sync_to_async(remote.run_of)(self.worker, UUID(run_id), now=timezone.now())
        self.own_runs = {known: at for known, at in self.own_runs.items() if now - at < RECHECK_S} | {run_id: now}

    async def _may_go_on(self) -> bool:
        """Whether the key still lets it in; one that was revoked, or whose owner is no admin any more, is out within
        seconds."""
        if self.worker is None or self.is_out:
            return False
        if time.monotonic() - self.checked_at >= RECHECK_S:
            await self._ask()
        return not self.is_out

    async def _watch(self) -> None:
        """Ask also while no frame passes."""
        while not self.is_out:
            await asyncio.sleep(RECHECK_S)
            try:
                await self._ask()
            except DatabaseError as error:  # it is away: ask again
                logger.warning("not asked whether a remote worker's key still lets it in: %s", error)

    async def _ask(self) -> None:
        assert self.worker is not None
        assert self.worker.key_id is not None
        if await _lets_in(self.worker.key_id):
            self.checked_at = time.monotonic()
        elif not self.is_out:
            self.is_out = True
            await self.close(NOT_LET_IN)

    async def _refuse(self, reason: str, sentence: str) -> None:
        if self.worker is not None:
            await database_sync_to_async(remote.refuse)(self.worker, reason, sentence, now=timezone.now())
            await self.send_json({"type": "error", "data": {"reason": reason, "message": sentence}})


def _canonical(run_id: object) -> str:
    """Return a run's id as it is written; of what is none, one that no run has."""
    try:
        return str(UUID(str(run_id)))
    except ValueError:
        return str(UUID(int=0))


@database_sync_to_async  # type: ignore[untyped-decorator]
def _lets_in(key_id: int) -> bool:
    return joining_keys(timezone.now()).filter(pk=key_id).exists()
