"""The server, as a remote worker sees it: REST calls and one WebSocket, all with its key."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

import httpx
import websockets
from websockets.asyncio.client import ClientConnection

TIMEOUT_S = 30.0
MOST_BYTES = 4 * 2**20
"""Of one frame. The largest is an assignment, with the agent's prompt."""


class Refused(Exception):
    """The server said no, and asking again changes nothing. Its sentence is the exception's text."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status


class Server:
    """A server's address and the key for it. Errors: Refused; httpx.HTTPError when it does not answer."""

    def __init__(self, url: str, key: str) -> None:
        self.url = url.rstrip("/")
        self._headers = {"Authorization": f"Bearer {key}"}
        # Not through a proxy that the environment may name: it is meant for what agents download.
        self._http = httpx.AsyncClient(
            base_url=f"{self.url}/api/v1", headers=self._headers, timeout=TIMEOUT_S, trust_env=False
        )

    @property
    def host(self) -> str:
        """The host's name."""
        return urlsplit(self.url).hostname or ""

    @property
    def is_encrypted(self) -> bool:
        """Whether it is asked by TLS."""
        return self.url.startswith("https:")

    async def join(self, about: dict[str, Any]) -> dict[str, Any]:
        """Register; return who the machine is now."""
        return await self._ask("POST", "/workers/", json=about)

    async def beat(self, worker_id: str, about: dict[str, Any]) -> dict[str, Any]:
        """Send a heartbeat, and return what is answered."""
        said = {"timestamp": datetime.now(UTC).isoformat(), **about}
        return await self._ask("POST", f"/workers/{worker_id}/heartbeat/", json=said)

    async def leave(self, worker_id: str) -> None:
        """Sign off."""
        await self._ask("DELETE", f"/workers/{worker_id}/")

    @asynccontextmanager
    async def socket(self, worker_id: str) -> AsyncIterator[ClientConnection]:
        """Open the WebSocket. Errors: OSError, websockets.WebSocketException."""
        address = f"ws{self.url.removeprefix('http')}/api/v1/ws/worker/{worker_id}"
        async with websockets.connect(
            address, additional_headers=self._headers, max_size=MOST_BYTES, open_timeout=TIMEOUT_S, proxy=None
        ) as connection:
            yield connection

    async def close(self) -> None:
        """Close all connections."""
        await self._http.aclose()

    async def _ask(self, method: str, path: str, **options: Any) -> dict[str, Any]:
        answer = await self._http.request(method, path, **options)
        if answer.status_code >= 500 or answer.status_code == 429:
            answer.raise_for_status()
        if answer.is_error:
            raise Refused(answer.status_code, _sentence(answer))
        found: dict[str, Any] = answer.json() if answer.content else {}
        return found


def _sentence(answer: httpx.Response) -> str:
    try:
        error = answer.json()["error"]
        return " ".join([str(error["message"]), *([str(error["fields"])] if "fields" in error else [])])
    except (ValueError, KeyError, TypeError):
        return f"The server answered {answer.status_code}."
