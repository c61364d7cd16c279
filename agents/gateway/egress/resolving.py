"""Names to addresses, asked once a request: what was checked is what is connected to."""

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor

from agents.gateway.egress.policy import Reason, Refused
from projects.addresses import Address, look_up

Resolve = Callable[[str], Awaitable[list[Address]]]

# A thread waits while a name server is silent. A run may have four of them waiting: see accounts.
THREADS = 64
PATIENCE_S = 8.0


class SystemResolver:
    """Asks as this machine does: its hosts file, its name servers."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="egress-dns")

    async def __call__(self, name: str) -> list[Address]:
        """Return the addresses of a name, in the system's order of preference. Raises Refused when there are none."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(PATIENCE_S):
                return await loop.run_in_executor(self._threads, look_up, name)
        except (OSError, UnicodeError, TimeoutError):
            raise Refused(502, Reason.UNRESOLVED, f"The name {name} has no address.") from None

    def close(self) -> None:
        """Let go of the threads; one that waits ends by itself."""
        self._threads.shutdown(wait=False, cancel_futures=True)
