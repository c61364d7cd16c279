"""The way to the model's API: one client with kept connections for all runs, and the real key.

Bodies and headers go through as they are, both ways, but for what is named here; docs/security-model.md says why.
"""

from collections.abc import AsyncIterator, Iterable
from ipaddress import ip_address
from urllib.parse import urlsplit
from weakref import WeakSet

import aiohttp
from starlette.datastructures import Headers
from yarl import URL

OK = 200
# Between two pieces of an answer. The API pings every few seconds; an answer in one piece may take ten minutes.
_TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=600)
_MOST_CONNECTIONS = 2_000
_KEPT_S = 60
_HOP_BY_HOP = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
# Besides: what shows who asks, has somebody else pay, or would make the API answer in a form that cannot be read on the
# way.
_NOT_FORWARDED = _HOP_BY_HOP | {
    "accept-encoding",
    "anthropic-user-profile-id",
    "anthropic-workspace-id",
    "authorization",
    "content-encoding",
    "content-length",
    "cookie",
    "expect",
    "forwarded",
    "host",
    "x-api-key",
}
# Cookies would tie the runs of a house together, and an organisation's id says whose account pays.
_NOT_RETURNED = _HOP_BY_HOP | {"anthropic-organization-id", "set-cookie"}
# A prompt of a million tokens has prices of its own, which the table does not know.
_REFUSED_BETAS = ("context-1m",)
# The client would add these by itself.
_NOT_ADDED = ("Accept", "Accept-Encoding", "Content-Type", "User-Agent")


class Unreachable(Exception):
    """The API gave no answer. `was_sent` says that it may have read the request all the same."""

    def __init__(self, cause: Exception, *, was_sent: bool) -> None:
        # The kind of the cause, not its text: what a client says of a failure may quote what was sent.
        super().__init__(type(cause).__name__)
        self.was_sent = was_sent


class Cut(Exception):
    """An answer ended before its end."""


class Answer:
    """The head of an answer, and the way to its body; whoever gets it closes it."""

    def __init__(self, response: aiohttp.ClientResponse, key: str) -> None:
        self._response = response
        self._key = key.encode()
        self.status = response.status

    @property
    def is_packed(self) -> bool:
        """Whether its body cannot be read on the way, although that was asked for."""
        return self._response.headers.get("content-encoding", "identity") != "identity"

    @property
    def returned_headers(self) -> list[tuple[bytes, bytes]]:
        """All that the sandbox may see, byte for byte; a header that repeats the key is none of them."""
        headers = [(name.lower(), value) for name, value in self._response.raw_headers]
        dropped = _NOT_RETURNED | _named_by_connection(headers)
        return [
            (name, value)
            for name, value in headers
            if name.decode("latin-1") not in dropped and not (self._key and self._key in value)
        ]

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield the body as it comes in. Raises Cut."""
        content = self._response.content
        try:
            while chunk := await content.readany():
                yield chunk
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise Cut(type(error).__name__) from error

    def close(self) -> None:
        """Let go of it. Of an answer that was not read to its end, the connection goes too: the API stops working."""
        self._response.close()


class Upstream:
    """Sends requests on. `url` is the API's base address; the key is never logged and never sent back."""

    def __init__(self, url: str, key: str) -> None:
        self._url = url.rstrip("/")
        self._key = key
        self._session: aiohttp.ClientSession | None = None
        self._waiting = 0
        self._answers: WeakSet[aiohttp.ClientResponse] = WeakSet()

    @property
    def is_idle(self) -> bool:
        """Whether no request waits for its answer, and none is being read."""
        return not self._waiting and all(answer.closed for answer in self._answers)

    @property
    def provider(self) -> str:
        """Whose API it is: the host's name."""
        return urlsplit(self._url).hostname or ""

    async def send(self, path: str, body: bytes, *, query: str, headers: Headers) -> Answer:
        """Send a request once and return the answer as soon as its head is there. Raises Unreachable."""
        url = URL(f"{self._url}{path}" + (f"?{query}" if query else ""), encoded=True)
        self._waiting += 1
        try:
            response = await self._opened().post(
                url, data=body, headers=self._headers(headers), allow_redirects=False, skip_auto_headers=_NOT_ADDED
            )
        except aiohttp.ClientConnectorError as error:
            raise Unreachable(error, was_sent=False) from None
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            raise Unreachable(error, was_sent=not isinstance(error, aiohttp.ConnectionTimeoutError)) from None
        finally:
            self._waiting -= 1
        self._answers.add(response)
        return Answer(response, self._key)

    async def close(self) -> None:
        """Close all connections. A request that comes all the same opens new ones."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    def _opened(self) -> aiohttp.ClientSession:
        # Within the loop that uses it.
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=_MOST_CONNECTIONS, keepalive_timeout=_KEPT_S),
                timeout=_TIMEOUT,
                # The API's cookies must not tie one run's requests to another's.
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                # A proxy of this machine is meant for the way out.
                trust_env=not _is_local(self._url),
            )
        return self._session

    def _headers(self, headers: Headers) -> list[tuple[str, str]]:
        dropped = _NOT_FORWARDED | _named_by_connection(headers.raw)
        kept = [
            (name, _without_refused(value) if name == "anthropic-beta" else value)
            for name, value in ((raw[0].decode("latin-1"), _text(raw[1])) for raw in headers.raw)
            if name not in dropped and not name.startswith("x-forwarded-")
        ]
        kept = [(name, value) for name, value in kept if value or name != "anthropic-beta"]
        return [*kept, ("x-api-key", self._key), ("accept-encoding", "identity")]


def _named_by_connection(headers: Iterable[tuple[bytes, bytes]]) -> set[str]:
    """Return the headers that are said to be for this connection alone (RFC 9110, 7.6.1)."""
    said = b",".join(value for name, value in headers if name == b"connection").decode("latin-1")
    return {name.strip().lower() for name in said.split(",")}


def _text(value: bytes) -> str:
    """Return a header's value so that the client, which writes UTF-8, sends the same bytes wherever they are that."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")


def _without_refused(betas: str) -> str:
    """Return them as they came, unless one may not pass."""
    found = betas.split(",")
    kept = [beta for beta in found if not beta.strip().lower().startswith(_REFUSED_BETAS)]
    return betas if len(kept) == len(found) else ",".join(kept).strip()


def _is_local(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
