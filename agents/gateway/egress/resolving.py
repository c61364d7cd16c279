"""Names to addresses, asked once a request: what was checked is what is connected to."""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from ipaddress import ip_address

from agents.egress import Address
from agents.gateway.egress.policy import Reason, Refused

Resolve = Callable[[str], Awaitable[list[Address]]]

# A thread waits while a name server is silent. A run may have four of them waiting: see accounts.
THREADS = 64
PATIENCE_S = 8.0
_MOST_ADDRESSES = 8


class SystemResolver:
    """Asks as this machine does: its hosts file, its name servers."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="egress-dns")

    async def __call__(self, name: str) -> list[Address]:
        """Return the addresses of a name, in the system's order of preference. Raises Refused when there are none."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(PATIENCE_S):
                found = await loop.run_in_executor(self._threads, _look_up, name)
        except (OSError, UnicodeError, TimeoutError):
            raise Refused(502, Reason.UNRESOLVED, f"The name {name} has no address.") from None
        return found[:_MOST_ADDRESSES]

    def close(self) -> None:
        """Let go of the threads; one that waits ends by itself."""
        self._threads.shutdown(wait=False, cancel_futures=True)


def _look_up(name: str) -> list[Address]:
    answers = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    # An IPv6 address may come with an interface, which only a link-local one has; that is refused later.
    texts = dict.fromkeys(str(answer[4][0]).partition("%")[0] for answer in answers)
    return [ip_address(text) for text in texts]
