"""Egress classes: which hosts of the outside world a sandbox may reach, through the egress proxy and no other way.

The role table gives each role a class; the operator says in EKLAVYA_EGRESS_<CLASS> what a class may reach. An
allow-list is written as entries with commas between them, each a host and its ports:

    docs.example.org               that name, port 443
    *.example.org:80+443           every name below example.org, not example.org itself
    *:443                          every name
    10.1.2.3:8080                  an address, also one that is not public: only such an entry opens those
    10.1.0.0/16:8080, [fd00::/8]   a network of addresses

A name that leads to an address that is not public (private, loopback, link-local, the host's own, ...) is let through
only when the class lists that address as well.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network

from django.conf import settings

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

_DEFAULT_PORTS = frozenset({443})
_ENTRY = re.compile(r"(?P<host>\[[^\]]+\]|[^:\[\]]+)(?::(?P<ports>[0-9+]+))?")
_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_NAME = re.compile(rf"(?:{_LABEL}\.)*{_LABEL}")
_LONGEST_NAME = 253


class EgressClass(StrEnum):
    """How far a role's sandbox reaches. Each but `internal` has an allow-list of its own."""

    INTERNAL = "internal"  # the gateway's verbs and model, nothing else: no proxy
    PACKAGES = "packages"  # package registries
    RESEARCH = "research"  # documentation and other reading
    TEST_ONLY = "test_only"  # what tests need, such as a staging server
    METRICS = "metrics"  # where a system's health is read
    FULL = "full"  # every public host on the web's ports, unless the operator narrows it


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


def allow_list(egress_class: EgressClass, lists: Mapping[str, str] | None = None) -> tuple[Rule, ...]:
    """Return what a class may reach: nothing for `internal`, else what `lists` or the settings say."""
    if egress_class is EgressClass.INTERNAL:
        return ()
    texts: Mapping[str, str] = settings.EKLAVYA_EGRESS if lists is None else lists
    return parse_rules(texts[egress_class.value])


def proxy_environment(egress_class: EgressClass, *, host: str, port: int, token: str) -> dict[str, str]:
    """Return what tells programs in a sandbox of their way out: nothing for `internal`.

    `host` is where they find the gateway and the proxy; that and their own machine they reach without it. In both
    cases of letters: curl reads `http_proxy` only small, others read only capitals.
    """
    if egress_class is EgressClass.INTERNAL:
        return {}
    address = f"http://run:{token}@{host}:{port}"
    direct = ",".join(dict.fromkeys([host, "localhost", "127.0.0.1", "::1"]))
    values = {"HTTP_PROXY": address, "HTTPS_PROXY": address, "NO_PROXY": direct}
    return values | {name.lower(): value for name, value in values.items()}
