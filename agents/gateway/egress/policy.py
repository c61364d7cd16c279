"""What a sandbox asks for, and whether its run may have it: by name and port first, by the address it leads to then."""

import re
from collections.abc import Iterable
from dataclasses import replace

from projects import addresses as known
from projects.addresses import Address, BadAddressForm, BadTarget, Rule, Target, first_inside, is_listed

_ABSOLUTE = re.compile(r"http://(?P<authority>[^/?#]*)(?P<rest>.*)", re.IGNORECASE | re.DOTALL)


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


def read_url(text: str) -> tuple[Target, str]:
    """Return the target and the path of an absolute http URL. Raises Refused."""
    match = _ABSOLUTE.fullmatch(text)
    if match is None:
        raise Refused(400, Reason.BAD_REQUEST, "This is a proxy: ask for http://host/path, or use CONNECT for https.")
    rest = match["rest"].partition("#")[0]
    return read_authority(match["authority"], default_port=80), rest if rest.startswith("/") else f"/{rest}"


def read_authority(text: str, *, default_port: int | None = None) -> Target:
    """Return what `host:port` names. Raises Refused for what is no name and no address in its one normal form."""
    try:
        return known.read_authority(text, default_port=default_port)
    except BadAddressForm as error:
        raise Refused(403, Reason.ADDRESS_FORM, str(error)) from None
    except BadTarget as error:
        raise Refused(400, Reason.BAD_REQUEST, str(error)) from None


def check_target(rules: Iterable[Rule], target: Target) -> None:
    """Raise Refused unless the allow-list names the host, as a name or as an address, with this port."""
    rules = list(rules)
    if is_listed(rules, target):
        return
    if any(is_listed([rule], replace(target, port=min(rule.ports))) for rule in rules):
        raise Refused(403, Reason.PORT_NOT_LISTED, f"{target.host} may be reached, but not at port {target.port}.")
    raise Refused(403, Reason.NOT_LISTED, f"{target.host} is not on the allow-list of this run's role.")


def check_addresses(
    rules: Iterable[Rule], target: Target, addresses: Iterable[Address], *, own: frozenset[Address]
) -> None:
    """Raise Refused unless each address is public or listed itself. `own` are those of this machine."""
    if first_inside(rules, addresses, target.port, own=own) is not None:
        sentence = f"{target.host} leads to an address that is not public and not listed itself."
        raise Refused(403, Reason.NOT_PUBLIC, sentence)
