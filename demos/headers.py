"""Which headers pass between a visitor and a preview, and how they change. Pure functions over ASGI's pairs of bytes.

Nothing of the portal reaches the preview, and nothing that the preview says reaches beyond its own host.
"""

from collections.abc import Iterable, Iterator

from django.conf import settings

from demos.addresses import preview_scheme

Headers = list[tuple[bytes, bytes]]

_HOP_BY_HOP = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)
# Said by us, whatever the visitor says; `expect` was answered by the server.
_REPLACED_IN_REQUEST = frozenset({b"forwarded", b"x-real-ip", b"expect"})
_REPLACED_IN_RESPONSE = frozenset(
    {
        b"x-frame-options",  # the portal frames previews; frame-ancestors says who may
        b"referrer-policy",
        b"x-robots-tag",
        b"clear-site-data",  # empties the cookie jar of the parent domain too
        b"alt-svc",  # would lead later visits past us
        b"strict-transport-security",
        b"server",
        b"date",
    }
)


def to_application(headers: Iterable[tuple[bytes, bytes]], *, client: str, host: str) -> Headers:
    """Return the visitor's headers as the application gets them."""
    headers = list(headers)
    dropped = _HOP_BY_HOP | _REPLACED_IN_REQUEST | _named_by_connection(headers)
    kept = [(name, value) for name, value in headers if name not in dropped and not name.startswith(b"x-forwarded-")]
    if _has_body_of_unknown_length(headers):
        # Both at once is how requests are smuggled: the framing that we read by is the one that counts.
        kept = [(name, value) for name, value in kept if name != b"content-length"]
    return [
        *_without_portal_cookies(kept),
        (b"x-forwarded-for", client.encode()),
        (b"x-forwarded-host", host.encode()),
        (b"x-forwarded-proto", preview_scheme().encode()),
    ]


def to_visitor(headers: Iterable[tuple[bytes, bytes]]) -> Headers:
    """Return the application's headers as the visitor gets them."""
    headers = [(name.lower(), value) for name, value in headers]
    dropped = _HOP_BY_HOP | _REPLACED_IN_RESPONSE | _named_by_connection(headers)
    kept: Headers = []
    for name, value in headers:
        match name:
            case b"set-cookie":
                kept += [(name, cookie) for cookie in [_host_only(value)] if cookie]
            case b"content-security-policy":
                kept += [(name, policy) for policy in [_without_frame_ancestors(value)] if policy]
            case _ if name not in dropped:
                kept.append((name, value))
    return [*kept, *closing_headers()]


def closing_headers() -> Headers:
    """Return what every answer at a preview's address carries: framed by the portal alone, not indexed, no referrer.

    The referrer would hand the address, which is the key, to whatever the page links to.
    """
    return [
        (b"content-security-policy", f"frame-ancestors {settings.EKLAVYA_PUBLIC_URL}".encode()),
        (b"referrer-policy", b"no-referrer"),
        (b"x-robots-tag", b"noindex, nofollow"),
    ]


def _named_by_connection(headers: Headers) -> frozenset[bytes]:
    """The further headers that a Connection header declares to be hop-by-hop."""
    lists = [value for name, value in headers if name == b"connection"]
    return frozenset(option.strip().lower() for value in lists for option in value.split(b","))


def _has_body_of_unknown_length(headers: Headers) -> bool:
    return any(name == b"transfer-encoding" for name, _ in headers)


def _without_portal_cookies(headers: Headers) -> Iterator[tuple[bytes, bytes]]:
    for name, value in headers:
        if name != b"cookie":
            yield name, value
        elif cookies := [pair for pair in value.split(b";") if _cookie_name(pair) not in _portal_cookies()]:
            yield name, b";".join(cookies).strip()


def _host_only(cookie: bytes) -> bytes:
    """A Set-Cookie without its Domain, so that it stays with this host; nothing for one named as the portal's are."""
    pair, *attributes = cookie.split(b";")
    if _cookie_name(pair) in _portal_cookies():
        return b""
    return b";".join([pair, *(part for part in attributes if _cookie_name(part).lower() != b"domain")])


def _cookie_name(pair: bytes) -> bytes:
    return pair.partition(b"=")[0].strip()


def _portal_cookies() -> frozenset[bytes]:
    return frozenset(name.encode() for name in (settings.SESSION_COOKIE_NAME, settings.CSRF_COOKIE_NAME))


def _without_frame_ancestors(policies: bytes) -> bytes:
    """The application's own policies, but for who may frame it. One header may hold several, with commas between."""
    kept = [
        b";".join(part for part in policy.split(b";") if _directive(part) not in {b"", b"frame-ancestors"})
        for policy in policies.split(b",")
    ]
    return b",".join(policy for policy in kept if policy).strip()


def _directive(part: bytes) -> bytes:
    """The name of one directive, lower-case; nothing where there is none."""
    return b"".join(part.split(None, 1)[:1]).lower()
