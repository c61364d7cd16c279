"""A web server for tests that ends as soon as it is told to."""

import asyncio
import math
import socket

import uvicorn

POLL_S = 0.005


class QuickServer(uvicorn.Server):
    """uvicorn's looks ten times a second whether it is to end, and again for its connections; tests start hundreds."""

    async def main_loop(self) -> None:
        await self.on_tick(0)  # the headers of its answers
        while not self.should_exit:
            await asyncio.sleep(POLL_S)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """As uvicorn does it: close, let answers be finished within the time there is, cancel what is left."""
        for server in self.servers:
            server.close()
        for listener in sockets or []:
            listener.close()
        state, clock = self.server_state, asyncio.get_running_loop()
        for connection in list(state.connections):
            connection.shutdown()
        give_up = clock.time() + (self.config.timeout_graceful_shutdown or math.inf)
        while (state.connections or state.tasks) and clock.time() < give_up:
            await asyncio.sleep(POLL_S)
        for task in state.tasks:
            task.cancel()
        await self.lifespan.shutdown()
