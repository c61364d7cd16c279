"""The server, as a remote worker sees it: REST calls and one WebSocket, all with its key."""

import asyncio
import hashlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import httpx
import websockets
from websockets.asyncio.client import ClientConnection

logger = logging.getLogger(__name__)
T = TypeVar("T")

TIMEOUT_S = 30.0
TRIES, AGAIN_S = 30, 2.0
MOST_BYTES = 4 * 2**20
"""Of one frame. The largest is an assignment, with the agent's prompt."""


AWAY = (httpx.HTTPError, OSError, websockets.WebSocketException, TimeoutError)
"""The server does not answer: ask again."""
PIECE_BYTES = 4 * 2**20


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

    async def download(self, run_id: str, archive: Path) -> None:
        """Get the files of a run; from the beginning when the connection breaks."""
        await self._until_heard(lambda: self._download(run_id, archive))

    async def _download(self, run_id: str, archive: Path) -> None:
        async with self._http.stream("GET", f"/subtasks/{run_id}/files/") as answer:
            if answer.is_error:
                await answer.aread()
                _check_heard(answer)
                raise Refused(answer.status_code, _sentence(answer))
            with archive.open("wb") as file:
                async for block in answer.aiter_bytes():
                    file.write(block)

    async def give_back(self, run_id: str, request: str, archive: Path) -> None:
        """Send the files of a run, in pieces: what came already is not sent again."""
        digest, offset = hashlib.sha256(), 0
        with archive.open("rb") as file:
            while piece := file.read(PIECE_BYTES):
                digest.update(piece)
                asked = {"request": request, "offset": offset}
                path, headers = f"/subtasks/{run_id}/files/", {"Content-Type": "application/octet-stream"}
                await self._patiently("PUT", path, params=asked, content=piece, headers=headers)
                offset += len(piece)
        told = {"request": request, "bytes": offset, "sha256": digest.hexdigest()}
        await self._patiently("POST", f"/subtasks/{run_id}/result/", json=told)

    async def has_nothing(self, run_id: str, request: str) -> None:
        """Tell that nothing of a run is here."""
        await self._patiently("POST", f"/subtasks/{run_id}/result/", json={"request": request, "bytes": 0})

    async def _patiently(self, method: str, path: str, **options: Any) -> dict[str, Any]:
        """Ask for a minute: what is sent twice is taken once."""
        return await self._until_heard(lambda: self._ask(method, path, **options))

    async def _until_heard(self, ask: Callable[[], Awaitable[T]]) -> T:
        for _ in range(TRIES):
            try:
                return await ask()
            except AWAY as error:
                logger.warning("the server does not answer: %r", error)
                await asyncio.sleep(AGAIN_S)
        return await ask()

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
        _check_heard(answer)
        if answer.is_error:
            raise Refused(answer.status_code, _sentence(answer))
        found: dict[str, Any] = answer.json() if answer.content else {}
        return found


def _check_heard(answer: httpx.Response) -> None:
    """Raise httpx.HTTPError for an answer that may be another one later."""
    if answer.status_code >= 500 or answer.status_code == 429:
        answer.raise_for_status()


def _sentence(answer: httpx.Response) -> str:
    try:
        error = answer.json()["error"]
        return " ".join([str(error["message"]), *([str(error["fields"])] if "fields" in error else [])])
    except (ValueError, KeyError, TypeError):
        return f"The server answered {answer.status_code}."
