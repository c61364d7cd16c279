"""One status, from servers that do not behave."""

import socket
import threading
import time

import pytest

from agents.verification.probing import http_status


@pytest.fixture
def serve():
    """A server that sends these parts to its one client, with a pause between them."""
    opened = []

    def serve(*parts: bytes, pause_s: float = 0.0) -> int:
        server = socket.create_server(("127.0.0.1", 0))

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(4096)
                for part in parts:
                    try:
                        connection.sendall(part)
                    except OSError:
                        return
                    time.sleep(pause_s)

        thread = threading.Thread(target=answer)
        thread.start()
        opened.append((server, thread))
        return server.getsockname()[1]

    yield serve
    for server, thread in opened:
        thread.join()
        server.close()


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\n", 200),
        (b"HTTP/1.0 302 Found\r\nLocation: /\r\n\r\n", 302),
        (b"HTTP/1.1 500\r\n\r\n", 500),
        (b"HTTP/1.1 2000 OK\r\n\r\n", None),
        (b"SSH-2.0-OpenSSH\r\n", None),
        (b"HTTP/1.1 200 OK", None),
        (b"HTTP/1.1 200 " + b"x" * 5000, None),
        (b"", None),
    ],
)
def test_the_status_line_decides(serve, answer, expected):
    assert http_status("127.0.0.1", serve(answer), path="/", timeout_s=5) == expected


def test_a_status_line_in_pieces_is_put_together(serve):
    port = serve(b"HTTP/1.1 ", b"200 OK\r", b"\n", pause_s=0.02)
    assert http_status("127.0.0.1", port, path="/", timeout_s=5) == 200


def test_a_dripping_answer_ends_with_the_time(serve):
    began = time.monotonic()
    assert http_status("127.0.0.1", serve(*[b"H"] * 1200, pause_s=0.05), path="/", timeout_s=0.3) is None
    assert time.monotonic() - began < 50  # it drips for a minute


def test_nobody_listening_is_no_status():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        assert http_status("127.0.0.1", unused.getsockname()[1], path="/", timeout_s=1) is None
