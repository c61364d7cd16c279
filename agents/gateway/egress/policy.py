"""What a sandbox asks for, and whether its run may have it: by name and port first, by the address it leads to then."""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network

import psutil

from agents.egress import Address, Rule, is_name

_AUTHORITY = re.compile(r"(?P<host>\[[^\[\]]*\]|[^:\[\]@/?#]+)(?::(?P<port>[0-9]{1,5}))?")
_ABSOLUTE = re.compile(r"http://(?P<authority>[^/?#]*)(?P<rest>.*)", re.IGNORECASE | re.DOTALL)
# Python takes these for public. The last one is a cloud's metadata and host service.
_NOT_PUBLIC = [
    ip_network(text)
    for text in ("192.0.0.0/24", "192.88.99.0/24", "168.63.129.16/32", "2001::/23", "2002::/16", "3fff::/20")
]
_UNICAST_V6 = IPv6Network("2000::/3")


class Reason:
    """Why something was refused: codes of the run's record, of the audit log and of the answer's header."""

    BAD_REQUEST = "bad_request"
    ADDRESS_FORM = "address_form"
    NOT_LISTED = "not_listed"
    PORT_NOT_LISTED = "port_not_listed"
    NOT_PUBLIC = "not_public"
    UNRESOLVED = "unresolved"
    UNREACHABLE = "unreachable"
    BYTE_LIMIT = "byte_limit"
    CONNECTION_LIMIT = "connection_limit"
    RATE_LIMIT = "rate_limit"
    NO_TOKEN = "no_token"
    UNKNOWN_TOKEN = "unknown_token"


class Refused(Exception):
    """What was asked for is not done. `status` is HTTP's, the text a sentence for who asked."""

    def __init__(self, status: int, reason: str, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status
        self.reason = reason


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


def read_authority(text: str, *, default_port: int | None = None) -> Target:
    """Return what `host:port` names. Raises Refused for what is no name and no address in its one normal form."""
    match = _AUTHORITY.fullmatch(text)
    if match is None or not (match["port"] or default_port):
        raise Refused(400, Reason.BAD_REQUEST, "Ask for host:port.")
    host, port = match["host"].lower(), int(match["port"] or default_port or 0)
    if not 1 <= port <= 65_535:
        raise Refused(400, Reason.BAD_REQUEST, "A port is a number from 1 to 65535.")
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
        raise Refused(403, Reason.ADDRESS_FORM, sentence) from None
    if isinstance(address, IPv6Address) and address.scope_id is not None:
        raise Refused(403, Reason.ADDRESS_FORM, "An address names no interface.")
    return Target(str(address), port, address)


def read_url(text: str) -> tuple[Target, str]:
    """Return the target and the path of an absolute http URL. Raises Refused."""
    match = _ABSOLUTE.fullmatch(text)
    if match is None:
        raise Refused(400, Reason.BAD_REQUEST, "This is a proxy: ask for http://host/path, or use CONNECT for https.")
    rest = match["rest"].partition("#")[0]
    return read_authority(match["authority"], default_port=80), rest if rest.startswith("/") else f"/{rest}"


def check_target(rules: Iterable[Rule], target: Target) -> None:
    """Raise Refused unless the allow-list names the host, as a name or as an address, with this port."""
    rules = list(rules)
    if _is_listed(rules, target, lambda rule: target.port):
        return
    if _is_listed(rules, target, lambda rule: min(rule.ports)):
        raise Refused(403, Reason.PORT_NOT_LISTED, f"{target.host} may be reached, but not at port {target.port}.")
    raise Refused(403, Reason.NOT_LISTED, f"{target.host} is not on the allow-list of this run's role.")


def _is_listed(rules: Iterable[Rule], target: Target, port_of: Callable[[Rule], int]) -> bool:
    if target.address is not None:
        return any(rule.allows_address(target.address, port_of(rule)) for rule in rules)
    return any(rule.allows_name(target.host, port_of(rule)) for rule in rules)


def check_addresses(
    rules: Iterable[Rule], target: Target, addresses: Iterable[Address], *, own: frozenset[Address]
) -> None:
    """Raise Refused unless each address is public or listed itself. `own` are those of this machine.

    Each, because a name that leads outside and inside at once is an attack or a mistake.
    """
    rules = list(rules)
    for address in addresses:
        if is_public(address) and address not in own:
            continue
        if not any(rule.allows_address(address, target.port) for rule in rules):
            sentence = f"{target.host} leads to an address that is not public and not listed itself."
            raise Refused(403, Reason.NOT_PUBLIC, sentence)


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
