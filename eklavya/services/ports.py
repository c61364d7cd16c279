"""TCP ports: whether they are free, and who holds them."""

import errno
import socket
from contextlib import suppress
from typing import NamedTuple

import psutil

from eklavya.services.errors import PortTaken, ServiceError


class Port(NamedTuple):
    """An address to listen on, and the variable that changes its port."""

    host: str
    number: int
    variable: str


def check_free(*ports: Port) -> None:
    """Raises PortTaken, with all of them, when somebody listens; ServiceError when this user may not."""
    taken = [port for port in ports if not _is_free(port)]
    if taken:
        raise PortTaken([(port.number, _owner(port.number), port.variable) for port in taken])


def _is_free(port: Port) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # as the server will: a connection that lingers from last time is no obstacle
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((port.host, port.number))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return False
            problem = f"port {port.number} cannot be opened ({error.strerror})"
            raise ServiceError(f"{problem}: set {port.variable} to another port") from None
    return True


def _owner(number: int) -> str:
    """Program and process that listens on a port, as far as this user may know."""
    # AccessDenied: some systems show connections to root only
    with suppress(psutil.Error):
        for connection in psutil.net_connections("tcp"):
            listens = connection.status == psutil.CONN_LISTEN and connection.laddr.port == number
            if listens and connection.pid:
                return f"{psutil.Process(connection.pid).name()} (pid {connection.pid})"
    return "another program"
