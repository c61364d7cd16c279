"""The way to the model's API: one client with kept connections for all runs, the real key, and clean headers."""

from collections.abc import Iterable
from http.cookiejar import CookieJar, DefaultCookiePolicy
from ipaddress import ip_address
from urllib.parse import urlsplit

import httpx
from starlette.datastructures import Headers

# Between two pieces of an answer. The API pings every few seconds; an answer in one piece may take ten minutes.
_TIMEOUT = httpx.Timeout(600, connect=10, pool=10)
_LIMITS = httpx.Limits(max_connections=2_000, max_keepalive_connections=200, keepalive_expiry=60)
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
# Besides: what shows who asks, or would make the API answer in a form that cannot be read on the way.
_NOT_FORWARDED = _HOP_BY_HOP | {
    "accept-encoding",
    "authorization",
    "content-encoding",
    "content-length",
    "cookie",
    "expect",
    "forwarded",
    "host",
    "x-api-key",
}
_RETURNED = frozenset(
    {"cache-control", "content-type", "request-id", "retry-after", "retry-after-ms", "x-should-retry"}
)
# A prompt of a million tokens has prices of its own, which the table does not know.
_REFUSED_BETAS = ("context-1m",)


class Upstream:
    """Sends requests on. `url` is the API's base address; the key is never logged and never sent back."""

    def __init__(self, url: str, key: str) -> None:
        self._url = url.rstrip("/")
        self._key = key
        self._client = httpx.AsyncClient(
            timeout=_TIMEOUT,
            limits=_LIMITS,
            # The API's cookies must not tie one run's requests to another's.
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
            # A proxy of this machine is meant for the way out.
            trust_env=not _is_local(self._url),
        )

    async def send(self, path: str, body: bytes, *, query: str, headers: Headers) -> httpx.Response:
        """Send a request and return the answer as soon as its head is there; the caller closes it.

        Raises httpx.RequestError.
        """
        url = f"{self._url}{path}" + (f"?{query}" if query else "")
        request = self._client.build_request("POST", url, content=body, headers=self._headers(headers))
        return await self._client.send(request, stream=True)

    async def close(self) -> None:
        """Close all connections."""
        await self._client.aclose()

    def _headers(self, headers: Headers) -> list[tuple[str, str]]:
        kept = [
            (name, _without_refused(value) if name == "anthropic-beta" else value)
            for name, value in headers.items()
            if name not in _NOT_FORWARDED and not name.startswith("x-forwarded-")
        ]
        kept = [(name, value) for name, value in kept if value or name != "anthropic-beta"]
        return [*kept, ("x-api-key", self._key), ("accept-encoding", "identity")]


def returned_headers(headers: httpx.Headers) -> list[tuple[bytes, bytes]]:
    """Return those of an answer's headers that the sandbox may see."""
    return [(name.encode(), value.encode("latin-1")) for name, value in _returned(headers.items())]


def _returned(items: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    return [
        (name, value)
        for name, value in ((name.lower(), value) for name, value in items)
        if name in _RETURNED or name.startswith("anthropic-ratelimit-")
    ]


def _without_refused(betas: str) -> str:
    kept = (beta.strip() for beta in betas.split(","))
    return ",".join(beta for beta in kept if beta and not beta.startswith(_REFUSED_BETAS))


def _is_local(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
