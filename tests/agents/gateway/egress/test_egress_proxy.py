"""What is let through, and what is not; asked by raw sockets, for a client library would not send most of it."""

import base64
import socket
from collections.abc import Callable

import httpx
import pgtrigger
import pytest

from agents.models import EgressRecord, Run
from tests.agents.gateway.egress.outside import (
    PUBLIC,
    World,
    connect_request,
    get_request,
    http,
    outside,
    read_all,
    read_head,
    recorded,
    wait_for_record,
    working_run,
)
from tests.agents.gateway.harness import DEADLINE_S, wait_until
from tests.factories import NOW

StartProxy = Callable[..., World]


def test_connect_joins_a_run_with_a_listed_host(start_proxy: StartProxy) -> None:
    run, token = working_run()
    with outside() as host:
        world = start_proxy({"packages": "registry.test:443"})
        world.names.answers["registry.test"] = [[PUBLIC]]
        world.wires.port = host.port

        connection, head = world.tunnel("registry.test:443", token)
        with connection:
            connection.sendall(b"hello " * 50_000)
            connection.shutdown(socket.SHUT_WR)
            echoed = read_all(connection)

    assert head == b"HTTP/1.1 200 Connected\r\n\r\n"
    assert echoed == b"hello " * 50_000
    assert world.wires.tried == [(PUBLIC, 443)]
    wait_for_record(run, ("registry.test", 443, "allowed", ""))
    wait_until(lambda: EgressRecord.objects.get(run=run).bytes_down == 300_000)
    assert EgressRecord.objects.get(run=run).bytes_up == 300_000


def test_bytes_behind_the_head_are_passed_on(start_proxy: StartProxy) -> None:
    _, token = working_run()
    with outside() as host:
        world = start_proxy({"packages": f"127.0.0.1:{host.port}"})

        answer = world.send(connect_request(f"127.0.0.1:{host.port}", token) + b"early")

    assert answer == b"HTTP/1.1 200 Connected\r\n\r\nearly"


def test_the_token_is_shown_as_password_or_bearer(start_proxy: StartProxy) -> None:
    _, token = working_run()
    password = base64.b64encode(f"run:{token}".encode()).decode()
    with outside() as host:
        world = start_proxy({"packages": f"127.0.0.1:{host.port}"})
        request = f"CONNECT 127.0.0.1:{host.port} HTTP/1.1\r\nHost: x\r\nProxy-Authorization: "

        for shown in (f"Basic {password}", f"basic {password}", f"bearer {token}"):
            assert world.send(f"{request}{shown}\r\n\r\n".encode()).startswith(b"HTTP/1.1 200 ")


def test_without_the_token_of_a_run_nothing_is_done(start_proxy: StartProxy) -> None:
    run, token = working_run()
    world = start_proxy({"packages": "*"})
    bad = [
        "Accept: */*",
        "Proxy-Authorization: Bearer ekr_forged",
        "Proxy-Authorization: Basic ****",
        "Proxy-Authorization: Basic cnVuOg==",
        "Proxy-Authorization: Digest run",
        f"Authorization: Bearer {token}",
        f"Proxy-Authorization: Bearer {token}\r\nProxy-Authorization: Bearer {token}",
    ]

    for header in bad:
        request = f"CONNECT registry.test:443 HTTP/1.1\r\nHost: x\r\n{header}\r\n\r\n"
        head, _, body = world.send(request.encode()).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 407 "), header
        assert b'Proxy-Authenticate: Basic realm="eklavya egress"' in head
        assert b"token" in body

    assert world.names.asked == []
    assert recorded(run) == set()


def test_a_run_without_a_working_agent_reaches_nothing(start_proxy: StartProxy) -> None:
    runs = [working_run() for _ in range(5)]
    world = start_proxy({"packages": "*"})

    for (run, token), status in zip(runs, ["queued", "evaluating", "merging", "failed", "cancelled"], strict=True):
        fields = {"finished_at": NOW, "token_hash": ""} if status in {"failed", "cancelled"} else {}
        _set_status(run, status, **fields)
        assert world.send(connect_request("registry.test:443", token)).startswith(b"HTTP/1.1 407 "), status


def _set_status(run: Run, status: str, **fields: object) -> None:
    """Set a status past the rules: which path led there does not matter here."""
    with pgtrigger.ignore():
        Run.objects.filter(pk=run.pk).update(status=status, **fields)


def test_connect_elsewhere_is_refused_and_recorded(start_proxy: StartProxy) -> None:
    run, token = working_run()
    world = start_proxy({"packages": "registry.test:443,*.registry.test:443"})
    expected = {
        ("other.test", 443, "not_listed"),
        ("registry.test", 22, "port_not_listed"),
        ("registry.test.evil.test", 443, "not_listed"),
        ("127.0.0.1", 443, "not_listed"),
        ("169.254.169.254", 80, "not_listed"),
        ("[::1]", 443, "not_listed"),
        ("[::ffff:7f00:1]", 443, "not_listed"),
        ("2130706433", 443, "address_form"),
        ("0x7f.1", 443, "address_form"),
        ("0177.0.0.1", 443, "address_form"),
        ("127.1", 443, "address_form"),
        ("user@registry.test", 443, "bad_request"),
    }

    for host, port, reason in expected:
        answer = world.send(connect_request(f"{host}:{port}", token))
        assert answer.split(b" ")[1] in {b"403", b"400"}
        assert f"x-egress-refused: {reason}".encode() in answer.lower(), host

    assert world.wires.tried == []
    assert world.names.asked == []
    wait_until(lambda: len(recorded(run)) == len(expected))
    assert {(host.split(":443")[0], reason) for host, _, _, reason in recorded(run)} == {
        (host.strip("[]"), reason) for host, _, reason in expected
    }


def test_an_internal_run_reaches_nothing(start_proxy: StartProxy) -> None:
    run, token = working_run("orchestrator")
    world = start_proxy(dict.fromkeys(("packages", "research", "test_only", "metrics", "full"), "*:443"))

    assert world.send(connect_request("registry.test:443", token)).startswith(b"HTTP/1.1 403 ")
    wait_for_record(run, ("registry.test", 443, "refused", "not_listed"))


def test_each_class_has_its_own_hosts(start_proxy: StartProxy) -> None:
    names = ("packages", "research", "test_only", "metrics")
    roles = ("developer", "mentor", "tester", "monitor")
    runs = [working_run(role) for role in roles]
    with outside() as host:
        world = start_proxy({name: f"{name.replace('_', '-')}.test:443" for name in names})
        world.wires.port = host.port
        world.names.answers = {f"{name.replace('_', '-')}.test": [[PUBLIC]] for name in names}

        reached = [
            [one for one in world.names.answers if b" 200 " in world.send(connect_request(f"{one}:443", token))]
            for _, token in runs
        ]

    assert reached == [[f"{name.replace('_', '-')}.test"] for name in names]


def test_a_name_is_asked_once_and_its_answer_is_what_is_connected_to(start_proxy: StartProxy) -> None:
    """A name that changes its address between the check and the connection gains nothing."""
    _, token = working_run()
    with outside() as host:
        world = start_proxy({"packages": "rebind.test:443"})
        world.wires.port = host.port
        world.names.answers["rebind.test"] = [[PUBLIC], ["127.0.0.1"]]

        first, head = world.tunnel("rebind.test:443", token)
        first.close()
        second = world.send(connect_request("rebind.test:443", token))

    assert head.startswith(b"HTTP/1.1 200 ")
    assert world.names.asked == ["rebind.test", "rebind.test"]
    assert world.wires.tried == [(PUBLIC, 443)]
    assert b"x-egress-refused: not_public" in second.lower()


def test_a_listed_name_that_leads_inside_is_refused(start_proxy: StartProxy) -> None:
    run, token = working_run()
    world = start_proxy({"packages": "registry.test:443"})
    inside = ["127.0.0.1", "10.0.0.1", "169.254.169.254", "100.64.0.1", "::1", "fd00::1", "::ffff:127.0.0.1"]

    for address in inside:
        world.names.answers["registry.test"] = [[address]]
        assert world.send(connect_request("registry.test:443", token)).startswith(b"HTTP/1.1 403 "), address

    assert world.wires.tried == []
    wait_for_record(run, ("registry.test", 443, "refused", "not_public"))


def test_a_host_that_has_no_address_or_does_not_answer_is_told_apart(start_proxy: StartProxy) -> None:
    run, token = working_run()
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    world = start_proxy({"packages": f"gone.test:443,127.0.0.1:{port}"})

    assert world.send(connect_request("gone.test:443", token)).startswith(b"HTTP/1.1 502 ")
    assert world.send(connect_request(f"127.0.0.1:{port}", token)).startswith(b"HTTP/1.1 502 ")
    wait_for_record(run, ("gone.test", 443, "failed", "unresolved"), ("127.0.0.1", port, "failed", "unreachable"))


# -- plain HTTP


def test_plain_http_is_passed_on_for_the_host_that_was_checked(start_proxy: StartProxy) -> None:
    run, token = working_run()
    said = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-Of-Host: 1\r\nConnection: close\r\n\r\nhello"
    with outside(http(said)) as host:
        world = start_proxy({"packages": "registry.test:80"})
        world.wires.port = host.port
        world.names.answers["registry.test"] = [[PUBLIC]]

        headers = ("Connection: X-Secret", "X-Secret: 1", "TE: trailers", "Upgrade: h2c", "Accept: text/plain")
        answer = world.send(get_request("http://registry.test/simple/?a=b", token, *headers))

    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"X-Of-Host: 1" in head
    assert body == b"hello"
    assert bytes(host.received) == (
        b"GET /simple/?a=b HTTP/1.1\r\nHost: registry.test\r\nAccept: text/plain\r\nConnection: close\r\n\r\n"
    )
    wait_for_record(run, ("registry.test", 80, "allowed", ""))


def test_a_body_is_passed_on(start_proxy: StartProxy) -> None:
    _, token = working_run()
    body = b"b" * 300_000
    chunked = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    with outside(http(b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n")) as host:
        world = start_proxy({"packages": f"127.0.0.1:{host.port}"})

        for length, sent in (("Content-Length: 300000", body), ("Transfer-Encoding: chunked", chunked)):
            host.received.clear()
            url = f"http://127.0.0.1:{host.port}/"
            answer = world.send(get_request(url, token, length, method="PUT", body=sent))
            assert answer.startswith(b"HTTP/1.1 201 ")
            assert host.received.count(b"b") >= 300_000


def test_a_redirect_is_a_new_request(start_proxy: StartProxy) -> None:
    run, token = working_run()
    away = b"HTTP/1.1 302 Found\r\nLocation: http://169.254.169.254/latest/\r\nContent-Length: 0\r\n\r\n"
    with outside(http(away)) as host:
        world = start_proxy({"packages": f"127.0.0.1:{host.port}"})
        proxy = f"http://run:{token}@127.0.0.1:{world.port}"

        with httpx.Client(proxy=proxy, follow_redirects=True, trust_env=False, timeout=DEADLINE_S) as client:
            answer = client.get(f"http://127.0.0.1:{host.port}/")

    assert answer.status_code == 403
    assert "169.254.169.254" in answer.text
    wait_for_record(run, ("169.254.169.254", 80, "refused", "not_listed"))


def test_an_answer_without_end_is_not_passed_on_as_whole(start_proxy: StartProxy) -> None:
    _, token = working_run()
    with outside(http(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")) as host:
        world = start_proxy({"packages": f"127.0.0.1:{host.port}"})
        proxy = f"http://run:{token}@127.0.0.1:{world.port}"

        with httpx.Client(proxy=proxy, trust_env=False, timeout=DEADLINE_S) as client, pytest.raises(httpx.HTTPError):
            client.get(f"http://127.0.0.1:{host.port}/")


def test_an_answer_whose_end_is_the_connections_is_reset_when_it_breaks_off(start_proxy: StartProxy) -> None:
    _, token = working_run()
    with outside(http(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n")) as host:
        world = start_proxy({"packages": f"127.0.0.1:{host.port}"})

        with world.open() as connection:
            request = get_request(f"http://127.0.0.1:{host.port}/", token)
            connection.sendall(request.replace(b" HTTP/1.1\r\n", b" HTTP/1.0\r\n", 1))
            with pytest.raises(ConnectionResetError):
                all(iter(lambda: connection.recv(1_000), b""))


def test_a_host_that_speaks_no_http_is_an_error_of_the_host(start_proxy: StartProxy) -> None:
    _, token = working_run()
    with outside(http(b"SSH-2.0-OpenSSH\r\n\r\n")) as host:
        world = start_proxy({"packages": f"127.0.0.1:{host.port}"})

        answer = world.send(get_request(f"http://127.0.0.1:{host.port}/", token))

    assert answer.startswith(b"HTTP/1.1 502 ")


def test_health_needs_no_token_and_tells_nothing(start_proxy: StartProxy) -> None:
    world = start_proxy({})

    answer = world.send(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")

    assert answer.startswith(b"HTTP/1.1 200 ")
    assert answer.endswith(b"\r\n\r\nok\n")


def test_the_proxy_serves_nothing_itself(start_proxy: StartProxy) -> None:
    _, token = working_run()
    world = start_proxy({"packages": "*:443+80"})

    assert world.send(get_request("/", token)).startswith(b"HTTP/1.1 400 ")
    with world.open() as connection:
        connection.sendall(get_request("https://registry.test/", token))
        assert read_head(connection).startswith(b"HTTP/1.1 400 ")
