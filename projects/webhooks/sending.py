"""One attempt: the address checked and pinned, one POST, the answer read up to a limit.

All attempts of a process share an event loop of its own thread, so that a receiver that is slow holds up no thread
and no other receiver.
"""

import asyncio
import logging
import ssl
import threading
import time
from asyncio import AbstractEventLoop
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from functools import cache
from ipaddress import IPv6Address
from socket import AF_INET, AF_INET6, AI_NUMERICHOST, AddressFamily

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from projects.addresses import Address, look_up
from projects.jsontext import storable_text
from projects.webhooks.answers import Answer
from projects.webhooks.messages import Message
from projects.webhooks.targets import Receiver, ReceiverRefused, ReceiverUnknown, Resolve, find

logger = logging.getLogger(__name__)

ATTEMPT_S = 15.0
"""From the question to the name server to the head of the answer."""
BODY_S = 2.0
EXCERPT_BYTES = 1_000
_DNS_THREADS = 64
# Some answer 999; a row has room for what HTTP knows.
_STATUSES = range(100, 600)
_RETRY_AFTER = frozenset({429, 503})


class Sender:
    """Makes attempts. `resolve` and `tls` are the system's; tests have their own."""

    def __init__(self, *, resolve: Resolve = look_up, tls: ssl.SSLContext | None = None) -> None:
        self._resolve = resolve
        self._tls = tls or ssl.create_default_context()
        self._dns = ThreadPoolExecutor(_DNS_THREADS, thread_name_prefix="webhook-dns")
        self._loop: AbstractEventLoop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="webhooks", daemon=True)
        self._thread.start()

    def send(self, message: Message) -> "Future[Answer]":
        """Begin an attempt. What goes wrong on the way is an answer, not an error."""
        return asyncio.run_coroutine_threadsafe(self._timed(message), self._loop)

    def close(self) -> None:
        """Let go of the threads."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self._dns.shutdown(wait=False, cancel_futures=True)

    async def _timed(self, message: Message) -> Answer:
        begun = time.monotonic()
        try:
            answer = await self._attempt(message)
        except Exception as error:  # the edge of the loop: one that breaks must not hold up the others
            # The kind of it, not its text, which may quote the address.
            logger.error("an attempt of a webhook broke: %s", type(error).__name__)
            answer = Answer("broken", "The attempt broke on our side. The worker's log has the kind of error.")
        return replace(answer, duration_ms=round((time.monotonic() - begun) * 1000))

    async def _attempt(self, message: Message) -> Answer:
        try:
            async with asyncio.timeout(ATTEMPT_S):
                receiver = await self._find(message.url)
                # Each attempt has a connection of its own: it is pinned, and none is kept beyond the check.
                async with self._session(receiver) as session, self._post(session, receiver, message) as response:
                    return await _read(response)
        except (ReceiverRefused, ReceiverUnknown) as error:
            return Answer(error.kind, str(error))
        except TimeoutError:
            return Answer("timeout", f"No answer within {ATTEMPT_S:.0f} s.")
        except (aiohttp.ClientConnectorCertificateError, aiohttp.ClientSSLError, ssl.SSLError):
            return Answer("tls", "The certificate is not trusted, or not for this name.")
        except aiohttp.ServerDisconnectedError:
            return Answer("cut", "The receiver closed the connection without an answer.")
        except (aiohttp.ClientConnectionError, OSError):
            return Answer("unreachable", "No connection.")
        except aiohttp.ClientError as error:
            return Answer("not_http", f"The answer is not proper HTTP ({type(error).__name__}).")

    async def _find(self, url: str) -> Receiver:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._dns, lambda: find(url, resolve=self._resolve))

    def _session(self, receiver: Receiver) -> aiohttp.ClientSession:
        connector = aiohttp.TCPConnector(
            resolver=_Pinned(receiver.addresses), use_dns_cache=False, force_close=True, ssl=self._tls
        )
        return aiohttp.ClientSession(
            connector=connector, cookie_jar=aiohttp.DummyCookieJar(), auto_decompress=False, trust_env=False
        )

    def _post(
        self, session: aiohttp.ClientSession, receiver: Receiver, message: Message
    ) -> "aiohttp.client._RequestContextManager":
        # Put together from what was checked: nothing reads the typed address a second time, in its own way.
        path, _, query = receiver.path.partition("?")
        url = URL.build(
            scheme=receiver.scheme,
            host=receiver.target.host,
            port=receiver.target.port,
            path=path,
            query_string=query,
            encoded=True,
        )
        headers = {**message.headers, "Accept-Encoding": "identity"}
        return session.post(url, data=message.body, headers=headers, allow_redirects=False, timeout=_NO_OTHER_LIMIT)


_NO_OTHER_LIMIT = aiohttp.ClientTimeout(total=None)


class _Pinned(AbstractResolver):
    """Knows the checked addresses, whatever the name."""

    def __init__(self, addresses: tuple[Address, ...]) -> None:
        self._addresses = addresses

    async def resolve(
        self, host: str, port: int = 0, family: AddressFamily = AddressFamily.AF_INET
    ) -> list[ResolveResult]:
        return [
            ResolveResult(
                hostname=host,
                host=str(address),
                port=port,
                family=AF_INET6 if isinstance(address, IPv6Address) else AF_INET,
                proto=0,
                flags=AI_NUMERICHOST,
            )
            for address in self._addresses
        ]

    async def close(self) -> None:
        """Nothing is held."""


async def _read(response: aiohttp.ClientResponse) -> Answer:
    """Return what the receiver says: the status counts, of the body only the beginning is kept."""
    excerpt = storable_text((await _beginning(response)).decode("utf-8", "replace"))
    status = response.status
    if status not in _STATUSES:
        return Answer("not_http", f"The answer is not proper HTTP (status {status}).", excerpt=excerpt)
    if 200 <= status < 300:
        return Answer(status=status, excerpt=excerpt)
    problem = f"The receiver answered {status}."
    if 300 <= status < 400:
        problem = f"The receiver answered {status}. Redirects are not followed: give the address they lead to."
    return Answer(f"http_{status}", problem, status, excerpt, _retry_after_s(response))


async def _beginning(response: aiohttp.ClientResponse) -> bytes:
    """Return the first bytes of the body, as far as they come in time: the status is known already."""
    begun = b""
    try:
        async with asyncio.timeout(BODY_S):
            while len(begun) < EXCERPT_BYTES and (piece := await response.content.read(EXCERPT_BYTES - len(begun))):
                begun += piece
    except (TimeoutError, aiohttp.ClientError, OSError):
        pass
    return begun


def _retry_after_s(response: aiohttp.ClientResponse) -> int:
    text = response.headers.get("Retry-After", "")
    # A date is not read: the schedule is as good.
    return int(text) if response.status in _RETRY_AFTER and text.isascii() and text.isdigit() and len(text) < 7 else 0


@cache
def sender() -> Sender:
    """Return this process's sender."""
    return Sender()
