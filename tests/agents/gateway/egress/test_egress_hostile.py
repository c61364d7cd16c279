"""Requests that two programs could understand in two ways, and ones that never end: bounded, and seen once."""

from collections.abc import Callable

from tests.agents.gateway.egress.outside import World, get_request, http, outside, read_all, recorded, working_run

StartProxy = Callable[..., World]
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
HIDDEN = b"GET http://evil.test/ HTTP/1.1\r\nHost: evil.test\r\n\r\n"


def test_a_request_that_could_be_read_in_two_ways_is_refused(start_proxy: StartProxy) -> None:
    _, token = working_run()
    bodies = {
        "both lengths": ("Content-Length: 4", "Transfer-Encoding: chunked"),
        "two lengths": ("Content-Length: 4", "Content-Length: 5"),
        "negative length": ("Content-Length: -1",),
        "signed length": ("Content-Length: +4",),
        "hidden length": ("Content-Length : 4",),
        "another coding": ("Transfer-Encoding: gzip",),
        "misspelt coding": ("Transfer-Encoding: xchunked",),
        "two codings": ("Transfer-Encoding: chunked", "Transfer-Encoding: chunked"),
        "coding and more": ("Transfer-Encoding: chunked, identity",),
        "bare CR": ("X: a\rTransfer-Encoding: chunked",),
        "NUL": ("X: a\0b",),
        "no name": (": x",),
        "no colon": ("GET http://evil.test/ HTTP/1.1",),
        "two hosts": ("Host: evil.test",),
    }
    with outside(http(OK)) as host:
        world = start_proxy({"packages": f"127.0.0.1:{host.port}"})
        url = f"http://127.0.0.1:{host.port}/"

        for name, headers in bodies.items():
            body = b"0\r\n\r\n" + HIDDEN
            answer = world.send(get_request(url, token, *headers, method="POST", body=body))
            assert answer.split(b" ")[1][:2] in {b"40", b"50"}, name

    assert bytes(host.received) == b""


def test_what_follows_a_request_is_never_seen(start_proxy: StartProxy) -> None:
    run, token = working_run()
    heads = [b"Content-Length: 5\r\n\r\nhello", b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", b"\r\n"]
    with outside(http(OK)) as host:
        world = start_proxy({"packages": f"127.0.0.1:{host.port}"})

        for head in heads:
            request = get_request(f"http://127.0.0.1:{host.port}/", token, method="POST")
            answer = world.send(request.removesuffix(b"\r\n") + head + HIDDEN)
            assert answer.count(b"HTTP/1.1 ") == 1, head

    assert b"evil" not in host.received
    assert len(host.connections) == len(heads)
    assert all("evil" not in row[0] for row in recorded(run))


def test_a_folded_header_reaches_the_host_as_one(start_proxy: StartProxy) -> None:
    _, token = working_run()
    with outside(http(OK)) as host:
        world = start_proxy({"packages": f"127.0.0.1:{host.port}"})

        world.send(get_request(f"http://127.0.0.1:{host.port}/", token, "X: a\r\n Content-Length: 50"))

    assert b"X: a Content-Length: 50\r\n" in host.received


NO_REQUESTS = [
    b"CONNECT " + b"a" * 1_000_000,
    b"CONNECT a.test:443 HTTP/1.1\r\n" + b"X: y\r\n" * 100_000,
    b"CONNECT a.test:443 HTTP/1.1\r\nX: " + b"y" * 1_000_000,
    b"CONNECT a.test:443 HTTP/9.9\r\nHost: x\r\n\r\n",
    b"CONNECT a.test:443\r\n\r\n",
    b"CONNECT a\x00.test:443 HTTP/1.1\r\nHost: x\r\n\r\n",
    b"CONNECT a.test:443 HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nbody",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    bytes.fromhex("16030100c8010000c40303") + b"\x00" * 200,
    b"\x05\x01\x00",
    b"\r\n" * 100_000,
    b"\xff" * 100_000,
]
NO_ANSWERS = [
    b"HTTP/1.1 200 OK\r\nX: " + b"y" * 1_000_000,
    b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 100_000,
    b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\nhello",
    b"HTTP/1.1 200 OK\r\nX: a\rSet-Cookie: b\r\n\r\n",
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n",
    b"hello",
    b"",
]


def test_what_is_no_request_gets_one_answer_at_most(start_proxy: StartProxy) -> None:
    world = start_proxy({"packages": "*"})

    for data in NO_REQUESTS:
        answer = world.send(data)
        assert answer.count(b"HTTP/1.1 ") <= 1, data[:40]
        assert answer == b"" or answer.split(b" ")[1] in {b"400", b"431", b"505"}, data[:40]

    assert world.names.asked == []


def test_what_is_no_answer_is_the_hosts_error(start_proxy: StartProxy) -> None:
    _, token = working_run()
    said = list(NO_ANSWERS)
    with outside(lambda host, connection: http(said.pop(0))(host, connection)) as host:
        world = start_proxy({"packages": f"127.0.0.1:{host.port}"})

        for data in NO_ANSWERS:
            with world.open() as connection:
                connection.sendall(get_request(f"http://127.0.0.1:{host.port}/", token))
                assert read_all(connection).startswith(b"HTTP/1.1 502 "), data[:40]
