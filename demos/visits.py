"""One visit to a preview, as both protocols see it, and waiting for whatever ends it first."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, MutableMapping
from dataclasses import dataclass
from typing import Any

from demos.headers import Headers, to_application

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


@dataclass(frozen=True, kw_only=True)
class Visit:
    """Who comes, what they ask for, and where the application is. `address` comes from the demo's row alone."""

    scope: Scope
    receive: Receive
    send: Send
    token: str
    host: str
    """The preview's own host, as in its address."""
    address: str
    """host:port of the application."""

    @property
    def target(self) -> bytes:
        """Path and query, as they were asked for."""
        path: bytes = self.scope.get("raw_path") or self.scope["path"].encode()
        query: bytes = self.scope["query_string"]
        return path + b"?" + query if query else path

    def headers(self) -> Headers:
        """The visitor's headers as the application gets them."""
        client = self.scope.get("client") or ("", 0)
        return to_application(self.scope["headers"], client=str(client[0]), host=self.host)


async def first_of(*waiting: Coroutine[Any, Any, Any]) -> None:
    """Wait until one of them returns or raises, and end the others; raises what that one raised."""
    tasks = [asyncio.create_task(one) for one in waiting]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in done:
        task.result()
