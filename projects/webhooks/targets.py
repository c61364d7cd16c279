"""Where a webhook may be sent. The server makes requests to addresses that people type: without this check they could
have it speak to what only it can reach (SSRF).

Public hosts by https at port 443 may; others only where EKLAVYA_WEBHOOK_HOSTS lists them (`projects.addresses`), and
http only where EKLAVYA_WEBHOOK_HTTP says so. Asked when a webhook is saved, and again before each attempt.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

from django.conf import settings

from projects.addresses import (
    Address,
    BadTarget,
    Rule,
    Target,
    first_inside,
    is_listed,
    look_up,
    own_addresses,
    parse_rules,
    read_authority,
)
from projects.errors import InvalidWebhook

Resolve = Callable[[str], list[Address]]

MAX_URL_CHARS = 2_000
_DEFAULT_PORTS = {"https": 443, "http": 80}
# Stricter than any URL parser: what two of them could read differently is refused.
_URL = re.compile(r"(?P<scheme>https?)://(?P<authority>[^/?#]+)(?P<rest>(?:[/?][^#]*)?)", re.IGNORECASE)
_VISIBLE = re.compile(r"[!-~]+")
_AMBIGUOUS = re.compile(r'[\\"<>^`{|}]')
_LISTING = "Receivers of your own network are listed in EKLAVYA_WEBHOOK_HOSTS."


class ReceiverRefused(InvalidWebhook):
    """Nothing is sent there."""

    kind = "refused"


class ReceiverUnknown(InvalidWebhook):
    """The name has no address."""

    kind = "unresolved"


def describe_receivers() -> str:
    """Say to people where the settings let a webhook be sent."""
    hosts = " or one that EKLAVYA_WEBHOOK_HOSTS lists" if settings.EKLAVYA_WEBHOOK_HOSTS else ""
    scheme = "https, or http, which everybody on the way can read" if settings.EKLAVYA_WEBHOOK_HTTP else "https"
    return f"Of a public host{hosts}, by {scheme}."


@dataclass(frozen=True)
class Receiver:
    """Where an URL leads. `addresses` were all checked; nothing else is connected to."""

    scheme: str
    target: Target
    path: str
    addresses: tuple[Address, ...]


def find(url: str, *, resolve: Resolve = look_up) -> Receiver:
    """Return where an URL leads now. Waits for name servers, which are asked once.

    Raises ReceiverRefused or ReceiverUnknown with a sentence for who typed it.
    """
    rules = parse_rules(settings.EKLAVYA_WEBHOOK_HOSTS)
    scheme, target, path = _read(url)
    _check_target(rules, scheme, target)
    addresses = [target.address] if target.address is not None else _resolved(target.host, resolve)
    if first_inside(rules, addresses, target.port, own=own_addresses()) is not None:
        raise ReceiverRefused(f"{target.host} leads to an address that is not public. {_LISTING}")
    return Receiver(scheme, target, path, tuple(addresses))


def _read(url: str) -> tuple[str, Target, str]:
    """Return scheme, host and port, and path. Raises ReceiverRefused."""
    if len(url) > MAX_URL_CHARS:
        raise ReceiverRefused(f"The address has {len(url):,} characters; the limit is {MAX_URL_CHARS:,}.")
    if not _VISIBLE.fullmatch(url) or _AMBIGUOUS.search(url):
        raise ReceiverRefused("An address has no blanks and no special characters: write them as %20, names as xn--….")
    if "#" in url:
        raise ReceiverRefused("A part after # is never sent: leave it out.")
    match = _URL.fullmatch(url)
    if match is None:
        raise ReceiverRefused("An address looks like https://hooks.example.org/path.")
    if "@" in match["authority"]:
        raise ReceiverRefused("No user or password in the address: receivers know us by the signature.")
    scheme = match["scheme"].lower()
    try:
        target = read_authority(match["authority"], default_port=_DEFAULT_PORTS[scheme])
    except BadTarget as error:
        raise ReceiverRefused(str(error)) from None
    path = match["rest"] if match["rest"].startswith("/") else f"/{match['rest']}"
    return scheme, target, path


def _check_target(rules: tuple[Rule, ...], scheme: str, target: Target) -> None:
    if scheme == "http" and not settings.EKLAVYA_WEBHOOK_HTTP:
        raise ReceiverRefused("Only https: others could read what is sent. EKLAVYA_WEBHOOK_HTTP allows http.")
    if is_listed(rules, target):
        return
    if target.address is not None:
        raise ReceiverRefused(f"Give the name of the receiver, not an address. {_LISTING}")
    if target.port != _DEFAULT_PORTS[scheme]:
        raise ReceiverRefused(f"Only port {_DEFAULT_PORTS[scheme]}, not {target.port}. {_LISTING}")


def _resolved(name: str, resolve: Resolve) -> list[Address]:
    try:
        found = resolve(name)
    except (OSError, UnicodeError):
        found = []
    if not found:
        raise ReceiverUnknown(f"The name {name} has no address.")
    return found
