"""The control: the attacks' functions in a container without a guard, with all they look for within reach.

Runs inside of it, as root. Addresses of the outside world are on its own loopback.
"""

import fcntl
import socket
import struct
import sys
import threading
from pathlib import Path

V4 = ("169.254.169.254", "169.254.170.2", "100.100.100.200", "1.1.1.1", "8.8.8.8")
V6 = ("fd00:ec2::254", "2606:4700:4700::1111")
PORTS = (53, 80, 443)
_SIOCSIFADDR, _SIOCSIFNETMASK, _LO = 0x8916, 0x891C, 1


def take_addresses() -> None:
    with socket.socket() as control:
        for number, address in enumerate(V4):
            for request, value in ((_SIOCSIFADDR, address), (_SIOCSIFNETMASK, "255.255.255.255")):
                name = f"lo:{number}".encode()
                data = struct.pack("16sH2s4s8s", name, socket.AF_INET, b"", socket.inet_aton(value), b"")
                fcntl.ioctl(control, request, data)
    for name in ("all", "lo"):
        Path(f"/proc/sys/net/ipv6/conf/{name}/disable_ipv6").write_text("0")
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as control:
        for address in V6:
            data = struct.pack("16sIi", socket.inet_pton(socket.AF_INET6, address), 128, _LO)
            fcntl.ioctl(control, _SIOCSIFADDR, data)
    Path("/proc/sys/net/ipv4/ping_group_range").write_text("0 2147483647")


def serve() -> None:
    for port in PORTS:
        listener = socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True)
        threading.Thread(target=_answer_all, args=[listener], daemon=True).start()
    names = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    names.bind(("0.0.0.0", 53))
    threading.Thread(target=_echo, args=[names], daemon=True).start()


def _answer_all(listener: socket.socket) -> None:
    while True:
        connection, _ = listener.accept()
        with connection:
            connection.recv(1_000)
            connection.sendall(b"HTTP/1.0 200 OK\r\n\r\nan address of the outside\n")


def _echo(here: socket.socket) -> None:
    while True:
        data, peer = here.recvfrom(1_000)
        here.sendto(data, peer)


if __name__ == "__main__":
    from hostile.base import main

    take_addresses()
    serve()
    main(sys.argv[1:])
