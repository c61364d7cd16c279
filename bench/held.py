"""The rehearsal model with a hold: no answer begins before the file named by BENCH_GO is there.

`uvicorn bench.held:app`. GET /held says how many requests wait.
"""

import asyncio
import os
from pathlib import Path

from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from agents.rehearsal.server import create_app

LOOK_S = 0.2


class Held:
    """Keeps the requests for messages of an application waiting."""

    def __init__(self, application: ASGIApp, go: Path) -> None:
        self._application = application
        self._go = go
        self._waiting = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request, later."""
        if scope["type"] == "http" and scope["path"] == "/held":
            await PlainTextResponse(str(self._waiting))(scope, receive, send)
            return
        if scope["type"] == "http" and scope["path"] == "/v1/messages":
            self._waiting += 1
            try:
                while not self._go.exists():
                    await asyncio.sleep(LOOK_S)
            finally:
                self._waiting -= 1
        await self._application(scope, receive, send)


app = Held(create_app(), Path(os.environ["BENCH_GO"]))
