"""Ports in use."""

import os
import socket

import pytest

from eklavya.services.errors import PortTaken
from eklavya.services.ports import Port, check_free


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


def test_port_of_all_addresses_is_taken_by_one_of_loopback() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, pytest.raises(PortTaken):
        check_free(Port("0.0.0.0", server.getsockname()[1], "EKLAVYA_GATEWAY_PORT"))
