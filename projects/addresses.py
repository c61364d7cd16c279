"""Addresses of the outside world: which of them are public, and allow-lists of hosts. What everything shares that
connects to hosts that others name: the egress proxy of the sandboxes, and webhooks.

An allow-list is written as entries with commas between them, each a host and its ports:

    docs.example.org               that name, port 443
    *.example.org:80+443           every name below example.org, not example.org itself
    *:443                          every name
    10.1.2.3:8080                  an address, also one that is not public: only such an entry opens those
    10.1.0.0/16:8080, [fd00::/8]   a network of addresses

A name that leads to an address that is not public (private, loopback, link-local, the host's own, ...) is let through
only when that address is listed as well. A name is resolved once, every answer is checked, and the connection goes to
an address that was checked: a name server that changes its mind (DNS rebinding) gains nothing.
"""

import re
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import (
    AddressValueError,
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)

import psutil

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

_DEFAULT_PORTS = frozenset({443})
_ENTRY = re.compile(r"(?P<host>\[[^\]]+\]|[^:\[\]]+)(?::(?P<ports>[0-9+]+))?")
_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_NAME = re.compile(rf"(?:{_LABEL}\.)*{_LABEL}")
_LONGEST_NAME = 253
MOST_ADDRESSES = 8
_AUTHORITY = re.compile(r"(?P<host>\[[^\[\]]*\]|[^:\[\]@/?#]+)(?::(?P<port>[0-9]{1,5}))?")
# Python takes these for public. The last one is a cloud's metadata and host service.
_NOT_PUBLIC = [
    ip_network(text)
    for text in ("192.0.0.0/24", "192.88.99.0/24", "168.63.129.16/32", "2001::/23", "2002::/16", "3fff::/20")
]
_UNICAST_V6 = IPv6Network("2000::/3")


class BadTarget(ValueError):
    """This names no host and port. The message is for people."""


class BadAddressForm(BadTarget):
    """This is neither a name nor an address in its one normal form."""


@dataclass(frozen=True)
class Target:
    """A host and a port. `address` is set when the host was given as an address."""

    host: str
    port: int
    address: Address | None = None

    @property
    def authority(self) -> str:
        """As a Host header says it; the port is left out where it is plain HTTP's own."""
        host = f"[{self.host}]" if isinstance(self.address, IPv6Address) else self.host
        return host if self.port == 80 else f"{host}:{self.port}"


@dataclass(frozen=True)
class Rule:
    """One entry of an allow-list: a name, a pattern of names (`*.x`, `*`), or a network of addresses; and its ports."""

    name: str
    network: Network | None
    ports: frozenset[int]

    def allows_name(self, name: str, port: int) -> bool:
        """Whether a name in lower case, without a dot at its end, may be asked for at this port."""
        if self.network is not None or port not in self.ports:
            return False
        if self.name.startswith("*"):
            # A name without a dot is one of this machine or its network: only an entry of its own opens that.
            return "." in name and name.endswith(self.name[1:])
        return name == self.name

    def allows_address(self, address: Address, port: int) -> bool:
        """Whether this address itself is listed. Every name (`*`) lists none."""
        return self.network is not None and port in self.ports and address in self.network


def is_name(host: str) -> bool:
    """Whether this is a host name in lower case that no resolver takes for an address.

    Resolvers read `2130706433`, `0x7f.1` and `0177.0.0.1` as 127.0.0.1: no last label may start with a digit.
    """
    return len(host) <= _LONGEST_NAME and bool(_NAME.fullmatch(host)) and not host.rpartition(".")[2][:1].isdigit()


def parse_rules(text: str) -> tuple[Rule, ...]:
    """Return the rules that an allow-list's text says. Raises ValueError, worded for the person who wrote it."""
    return tuple(_rule(entry.strip()) for entry in text.split(",") if entry.strip())


def _rule(entry: str) -> Rule:
    match = _ENTRY.fullmatch(entry)
    if match is None:
        raise ValueError(
            f"has {entry!r}, which must look like host:443, *.host:80+443, 10.0.0.0/8:443 or [fd00::1]:443"
        )
    host = match["host"].strip("[]").lower().removesuffix(".")
    ports = frozenset(_port(text, entry) for text in match["ports"].split("+")) if match["ports"] else _DEFAULT_PORTS
    if is_name(host.removeprefix("*.")) or host == "*":
        return Rule(host, None, ports)
    try:
        return Rule("", ip_network(host), ports)
    except ValueError:
        raise ValueError(f"has {entry!r}, whose host is neither a name nor an address nor a network") from None


def _port(text: str, entry: str) -> int:
    if not text or not 1 <= int(text) <= 65_535:
        raise ValueError(f"has {entry!r}, whose ports must be numbers from 1 to 65535 with + between them")
    return int(text)


def read_authority(text: str, *, default_port: int | None = None) -> Target:
    """Return what `host:port` names. Raises BadTarget, for what is no name and no address in its one normal form
    BadAddressForm."""
    match = _AUTHORITY.fullmatch(text)
    if match is None or not (match["port"] or default_port):
        raise BadTarget("Ask for host:port.")
    host, port = match["host"].lower(), int(match["port"] or default_port or 0)
    if not 1 <= port <= 65_535:
        raise BadTarget("A port is a number from 1 to 65535.")
    if host.startswith("["):
        return _literal(host[1:-1], port, IPv6Address)
    if is_name(name := host.removesuffix(".")):
        return Target(name, port)
    return _literal(host, port, IPv4Address)


def _literal(text: str, port: int, kind: type[Address]) -> Target:
    try:
        address = kind(text)
    except AddressValueError:
        sentence = "A host is a name, or an address in its normal form such as 192.0.2.1 or [2001:db8::1]."
        raise BadAddressForm(sentence) from None
    if isinstance(address, IPv6Address) and address.scope_id is not None:
        raise BadAddressForm("An address names no interface.")
    return Target(str(address), port, address)


def is_listed(rules: Iterable[Rule], target: Target) -> bool:
    """Whether the allow-list names the host, as a name or as an address, with this port."""
    if target.address is not None:
        return any(rule.allows_address(target.address, target.port) for rule in rules)
    return any(rule.allows_name(target.host, target.port) for rule in rules)


def first_inside(
    rules: Iterable[Rule], addresses: Iterable[Address], port: int, *, own: frozenset[Address]
) -> Address | None:
    """Return the first address that is neither public nor listed itself, or None. `own` are those of this machine.

    One is enough to refuse a name: what leads outside and inside at once is an attack or a mistake.
    """
    rules = list(rules)
    for address in addresses:
        is_outside = is_public(address) and address not in own
        if not is_outside and not any(rule.allows_address(address, port) for rule in rules):
            return address
    return None


def is_public(address: Address) -> bool:
    """Whether an address is an ordinary one of the internet: no private, local, shared, tunnelled or special one."""
    if any(address in network for network in _NOT_PUBLIC):
        return False
    if isinstance(address, IPv6Address) and address not in _UNICAST_V6:
        return False  # also IPv4 in IPv6's clothes: mapped, compatible, NAT64
    return address.is_global and not address.is_multicast and not address.is_reserved


def own_addresses() -> frozenset[Address]:
    """Return the addresses of this machine, now: services that trust it listen there."""
    found = (item.address.partition("%")[0] for items in psutil.net_if_addrs().values() for item in items)
    addresses = set()
    for text in found:
        try:
            addresses.add(ip_address(text))
        except ValueError:  # of the hardware
            continue
    return frozenset(addresses)


def look_up(name: str) -> list[Address]:
    """Ask as this machine does: its hosts file, its name servers. Waits for them. Raises OSError or UnicodeError."""
    answers = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    # An IPv6 address may come with an interface, which only a link-local one has; that is refused later.
    texts = dict.fromkeys(str(answer[4][0]).partition("%")[0] for answer in answers)
    return [ip_address(text) for text in texts][:MOST_ADDRESSES]
