"""What a preview's address answers when there is no preview to show: plain pages, without anything of the portal."""

from dataclasses import dataclass
from html import escape

from demos.errors import FAILURES, Reason
from demos.headers import Headers, closing_headers
from demos.queries import Door
from demos.states import DemoStatus

REFRESH_S = 3
_STYLE = "body{font:1rem/1.5 system-ui,sans-serif;max-width:34rem;margin:20vh auto;padding:0 1rem}"
_PAGE = """\
<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{title}</title>
<style>{style}</style></head>
<body><h1>{title}</h1><p>{text}</p></body>
</html>
"""


@dataclass(frozen=True)
class Page:
    """A whole answer."""

    status: int
    title: str
    text: str
    refresh: bool = False
    """Whether the browser asks again by itself."""

    def headers(self) -> Headers:
        """Return the answer's headers."""
        extra: Headers = [(b"refresh", str(REFRESH_S).encode())] if self.refresh else []
        return [
            (b"content-type", b"text/html; charset=utf-8"),
            (b"content-length", str(len(self.body())).encode()),
            (b"cache-control", b"no-store"),
            (b"content-security-policy", b"default-src 'none'; style-src 'unsafe-inline'"),
            *extra,
            *closing_headers(),
        ]

    def body(self) -> bytes:
        """Return the page."""
        return _PAGE.format(title=escape(self.title), text=escape(self.text), style=_STYLE).encode()


UNKNOWN = Page(404, "No preview here", "There is no preview at this address. Check that you have the whole of it.")
STARTING = Page(502, "The preview is starting", "This page tries again by itself in a few seconds.", refresh=True)
SILENT = Page(504, "The preview does not answer", "It took too long to answer. Try again in a moment.")
BROKEN = Page(502, "The preview broke off", "The application ended the connection without an answer. Try again.")
TOO_LARGE = Page(413, "Too large", "This is more than a preview takes in one request.")
BUSY = Page(503, "The preview is busy", "It has too many open connections. Try again in a moment.")
_EXPIRED = Page(410, "This preview has expired", "Ask whoever sent you the address for a new one.")
_CLOSED = Page(410, "This preview was closed", "Ask whoever sent you the address for a new one.")
_FAILED = Page(410, "This demo could not be shown", "It is built anew; the next one has an address of its own.")


def closed_page(door: Door) -> Page:
    """Return the page that says, truthfully, why an address that was open once is not any more."""
    if door.status == DemoStatus.EXPIRED and door.reason in FAILURES:
        return _FAILED
    if door.revoked or door.reason in {Reason.CLOSED, Reason.PROJECT_ENDED}:
        return _CLOSED
    return _EXPIRED
