"""Ports in use."""

import errno
import os
import socket

import pytest

from eklavya.services.errors import PortTaken
from eklavya.services.ports import Port, check_free
from eklavya.services.stack import unwritable


def test_free_port_passes(unused_tcp_port: int) -> None:
    check_free(Port("127.0.0.1", unused_tcp_port, "EKLAVYA_WEB_PORT"))


def test_taken_port_names_itself_its_owner_and_the_variable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        number = server.getsockname()[1]
        with pytest.raises(PortTaken) as caught:
            check_free(Port("127.0.0.1", number, "EKLAVYA_WEB_PORT"))
    message = str(caught.value)
    assert f"port {number} is in use by " in message
    assert f"(pid {os.getpid()})" in message
    assert "set EKLAVYA_WEB_PORT" in message


def test_all_taken_ports_are_named_in_one_line(unused_tcp_port: int) -> None:
    with socket.create_server(("127.0.0.1", 0)) as web, socket.create_server(("127.0.0.1", 0)) as gateway:
        numbers = [one.getsockname()[1] for one in (web, gateway)]
        with pytest.raises(PortTaken) as caught:
            check_free(
                Port("127.0.0.1", numbers[0], "EKLAVYA_WEB_PORT"),
                Port("127.0.0.1", unused_tcp_port, "EKLAVYA_EGRESS_PORT"),
                Port("127.0.0.1", numbers[1], "EKLAVYA_GATEWAY_PORT"),
            )
    message = str(caught.value)
    assert all(f"{number} (" in message for number in numbers)
    assert "set EKLAVYA_WEB_PORT and EKLAVYA_GATEWAY_PORT to other ports" in message
    assert "EGRESS" not in message


@pytest.mark.parametrize(
    ("number", "advice"),
    [(errno.EACCES, "start as the user who owns it"), (errno.ENOSPC, "make room"), (errno.EROFS, "set EKLAVYA_VAR")],
)
def test_advice_fits_why_a_file_cannot_be_written(number: int, advice: str) -> None:
    said = str(unwritable(OSError(number, os.strerror(number), "/srv/var")))
    assert said.startswith(f"cannot write /srv/var ({os.strerror(number)}): ")
    assert advice in said
    assert ("make room" in said) is (number == errno.ENOSPC)


def test_port_of_all_addresses_is_taken_by_one_of_loopback() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, pytest.raises(PortTaken):
        check_free(Port("0.0.0.0", server.getsockname()[1], "EKLAVYA_GATEWAY_PORT"))
