"""Asking an application that is not trusted for one HTTP status."""

import re
import socket
import time

_STATUS = re.compile(rb"HTTP/1\.[01] ([1-5]\d\d)(?: [^\r\n]*)?\r?\n")
_MAX_STATUS_LINE_BYTES = 2000


def http_status(host: str, port: int, *, path: str, timeout_s: float) -> int | None:
    """The status of GET `path`; None when no status line came in time.

    Reads the first line only and follows no redirect, so that neither an endless nor a dripping answer matters:
    the time is for the whole exchange.
    """
    deadline = time.monotonic() + timeout_s
    request = f"GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\nAccept: */*\r\nConnection: close\r\n\r\n"
    try:
        with socket.create_connection((host, port), timeout=timeout_s) as connection:
            connection.sendall(request.encode())
            line = _first_line(connection, deadline)
    except OSError:
        return None
    match = _STATUS.match(line)
    return int(match[1]) if match else None


def _first_line(connection: socket.socket, deadline: float) -> bytes:
    line = b""
    while b"\n" not in line and len(line) < _MAX_STATUS_LINE_BYTES:
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        connection.settimeout(left)
        part = connection.recv(_MAX_STATUS_LINE_BYTES)
        if not part:
            break
        line += part
    return line
