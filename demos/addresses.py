"""Where previews answer: one host name per demo, whose label holds the secret.

A preview is code that an agent wrote. It gets an origin of its own, so that no cookie and no script of it reaches the
portal. Whoever knows the address may look; the address is long and random, and can be revoked.
"""

import base64
import re
import secrets
from urllib.parse import urlsplit

from django.conf import settings

_TOKEN_BYTES = 20
"""160 random bits, and a whole number of base32 characters."""
_TOKEN = re.compile(r"[a-z2-7]{32}")
_LABEL = "d-"


def new_token() -> str:
    """Return a fresh secret that is a valid part of a DNS label: 32 characters of a-z and 2-7."""
    return base64.b32encode(secrets.token_bytes(_TOKEN_BYTES)).decode().lower()


def preview_host(token: str) -> str:
    """Return the host, with its port where the preview domain has one."""
    return f"{_LABEL}{token}.{settings.EKLAVYA_PREVIEW_DOMAIN}"


def preview_scheme() -> str:
    """Return http or https: previews are reached as the portal is."""
    return "https" if urlsplit(settings.EKLAVYA_PUBLIC_URL).scheme == "https" else "http"


def preview_url(token: str) -> str:
    """Return the address that people open."""
    return f"{preview_scheme()}://{preview_host(token)}/"


def is_preview_host(host: str) -> bool:
    """Return whether a Host header names the preview domain or anything below it, on whichever port.

    True also where no preview is: nothing of the portal may ever answer there.
    """
    name, domain = _hostname(host), _hostname(settings.EKLAVYA_PREVIEW_DOMAIN)
    return name == domain or name.endswith(f".{domain}")


def token_of(host: str) -> str:
    """Return the token in a Host header; empty when it holds none."""
    label, _, rest = _hostname(host).partition(".")
    token = label.removeprefix(_LABEL)
    well_formed = label.startswith(_LABEL) and _TOKEN.fullmatch(token)
    return token if well_formed and rest == _hostname(settings.EKLAVYA_PREVIEW_DOMAIN) else ""


def _hostname(host: str) -> str:
    """The name alone: lower-case, without port and without the dot that makes it absolute."""
    return host.strip().lower().partition(":")[0].rstrip(".")
