"""A machine that is cut off hears nothing, and is told nothing."""

import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.chaos.network import Network, Wire, why_not

# Says back what it hears, and then how its connection ended.
ECHO = """
import socket, sys
with socket.create_connection((sys.argv[1], int(sys.argv[2]))) as there:
    try:
        while heard := there.recv(99):
            there.sendall(heard)
        print("closed")
    except OSError as error:
        print(type(error).__name__)
"""
SILENT_S = 1.0
HEARD_S = 30.0


@pytest.fixture(scope="module")
def network() -> Iterator[Network]:
    if problem := why_not():
        pytest.skip(f"no network namespaces: {problem}")
    made = Network()
    yield made
    made.remove()


@pytest.fixture(scope="module")
def wire(network: Network) -> Wire:
    return network.add(1)


@pytest.fixture
def server(network: Network) -> Iterator[socket.socket]:
    with socket.create_server((network.address, 0)) as listening:
        listening.settimeout(HEARD_S)
        yield listening


@pytest.fixture
def echo(server: socket.socket, wire: Wire) -> Iterator["subprocess.Popen[str]"]:
    """A program on the machine."""
    address, port = server.getsockname()
    command = wire.inside([sys.executable, "-c", ECHO, address, str(port)])
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        yield process
        process.kill()


def test_what_is_cut_off_falls_silent_and_goes_on(
    server: socket.socket, wire: Wire, echo: "subprocess.Popen[str]"
) -> None:
    with server.accept()[0] as connection:
        assert heard(connection, b"before") == b"before"

        wire.cut()
        assert heard(connection, b"lost?", within_s=SILENT_S) == b""
        assert echo.poll() is None

        wire.heal(reset=False)
        connection.settimeout(HEARD_S)
        assert connection.recv(99) == b"lost?"


def test_what_the_servers_forgot_meanwhile_hears_nothing_of_it(
    server: socket.socket, wire: Wire, echo: "subprocess.Popen[str]"
) -> None:
    """Their farewell is lost, too: whoever only listens waits on."""
    with server.accept()[0] as connection:
        assert heard(connection, b"before") == b"before"
        wire.cut()
        wire.heal(reset=True)
        with pytest.raises(OSError, match="abort"):
            connection.recv(99)

    with pytest.raises(subprocess.TimeoutExpired):
        echo.wait(SILENT_S)


def heard(connection: socket.socket, said: bytes, *, within_s: float = HEARD_S) -> bytes:
    """What comes back of it; nothing when the time is over."""
    connection.sendall(said)
    connection.settimeout(within_s)
    try:
        return connection.recv(99)
    except TimeoutError:
        return b""
