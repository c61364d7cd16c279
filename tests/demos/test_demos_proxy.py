"""Previews through the proxy: real web servers on both sides, real rows."""

import asyncio
import hashlib
import json
from collections.abc import Callable, Iterator
from datetime import timedelta

import httpx
import pytest
from channels.db import database_sync_to_async
from django.utils import timezone
from pytest_django import Settings
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from agents.runtimes.processes import poll
from demos import actions, doors, forwarding
from demos.addresses import new_token
from demos.errors import Reason
from demos.models import Demo
from demos.proxy import close_connections, preview_app
from tests.demos.making import ADMIN, again, make_project, open_demo, ready_demo
from tests.demos.serving import Application, served
from tests.ports import free_ports

pytestmark = pytest.mark.django_db(transaction=True)
PORTAL = "http://127.0.0.1:8000"


@pytest.fixture(scope="module")
def running() -> Iterator[tuple[Application, str]]:
    """The application and its host:port."""
    made = Application()
    with served(made.asgi) as at:
        yield made, at


@pytest.fixture
def application(running: tuple[Application, str]) -> Application:
    running[0].forget()
    return running[0]


@pytest.fixture
def address(running: tuple[Application, str]) -> str:
    return running[1]


@pytest.fixture
def demo(address: str) -> Demo:
    return ready_demo(make_project(now=timezone.now()), address=address, now=timezone.now())


@pytest.fixture(scope="module")
def portal() -> Iterator[str]:
    with served(preview_app, at_end=close_connections) as at:
        yield at


@pytest.fixture
def proxy(portal: str) -> str:
    """host:port of the portal's web server, as far as previews are concerned. It has forgotten the last test."""
    doors._remembered.clear()
    return portal


def host_of(demo: Demo) -> str:
    return demo.preview_url.removeprefix("http://").rstrip("/")


@pytest.fixture
def visit(proxy: str, demo: Demo) -> Iterator[httpx.Client]:
    """A browser that opened the demo's address."""
    headers = {"host": host_of(demo)}
    with httpx.Client(base_url=f"http://{proxy}", headers=headers, timeout=60, trust_env=False) as client:
        yield client


def header(answer: dict[str, list[list[str]]], name: str) -> list[str]:
    return [value for key, value in answer["headers"] if key == name]


# HTTP, to the application


def test_a_request_arrives_as_it_was_made(visit: httpx.Client, demo: Demo) -> None:
    answer = visit.post("/a%20b/%2e%2e/c?x=1&y=%2F", content=b"hello", headers={"x-own": "kept"})

    said = answer.json()
    assert answer.status_code == 201
    assert (said["method"], said["target"]) == ("POST", "/a%20b/%2e%2e/c?x=1&y=%2F")
    assert (said["size"], said["sha256"]) == (5, hashlib.sha256(b"hello").hexdigest())
    assert header(said, "x-own") == ["kept"]
    assert header(said, "host") == [host_of(demo)]


def test_forwarding_headers_say_the_truth_whatever_the_visitor_says(visit: httpx.Client, demo: Demo) -> None:
    lies = {"x-forwarded-for": "9.9.9.9", "x-forwarded-proto": "gopher", "forwarded": "for=9.9.9.9", "x-real-ip": "9"}

    said = visit.get("/", headers=lies).json()

    assert header(said, "x-forwarded-for") == ["127.0.0.1"]
    assert header(said, "x-forwarded-proto") == ["http"]
    assert header(said, "x-forwarded-host") == [host_of(demo)]
    assert header(said, "forwarded") == header(said, "x-real-ip") == []


def test_hop_by_hop_headers_end_here(visit: httpx.Client) -> None:
    hops = {"connection": "close, x-private", "x-private": "1", "te": "trailers", "proxy-authorization": "Basic x"}

    said = visit.get("/", headers=hops).json()

    assert [header(said, name) for name in ("x-private", "te", "proxy-authorization")] == [[], [], []]


def test_the_portals_cookies_do_not_reach_the_application(visit: httpx.Client) -> None:
    said = visit.get("/", headers={"cookie": "basket=7; eklavya_session=secret; csrftoken=secret; b=2"}).json()

    assert header(said, "cookie") == ["basket=7; b=2"]


def test_a_request_with_the_portals_cookies_alone_has_none(visit: httpx.Client) -> None:
    assert header(visit.get("/", headers={"cookie": "eklavya_session=secret"}).json(), "cookie") == []


def test_a_large_body_is_streamed_through(visit: httpx.Client) -> None:
    content = b"0123456789abcdef" * 500_000

    said = visit.put("/", content=content).json()

    assert (said["size"], said["sha256"]) == (len(content), hashlib.sha256(content).hexdigest())


def test_a_body_of_unknown_length_is_streamed_through(visit: httpx.Client) -> None:
    said = visit.post("/", content=iter([b"one", b"two"])).json()

    assert (said["size"], header(said, "content-length")) == (6, [])


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_over_the_limit_is_refused(visit: httpx.Client, monkeypatch: pytest.MonkeyPatch, chunked: bool) -> None:
    monkeypatch.setattr(forwarding, "MAX_BODY_BYTES", 10)

    answer = visit.post("/", content=iter([b"x" * 11]) if chunked else b"x" * 11)

    assert answer.status_code == 413


# HTTP, back to the visitor


def test_answers_carry_the_previews_own_rules(visit: httpx.Client) -> None:
    answer = visit.get("/headers")

    policies = answer.headers.get_list("content-security-policy")
    assert policies == ["default-src 'self'", f"frame-ancestors {PORTAL}"]
    assert answer.headers.get_list("referrer-policy") == ["no-referrer"]
    assert answer.headers["x-robots-tag"] == "noindex, nofollow"
    assert answer.headers["x-own"] == "kept"
    gone = ("x-frame-options", "clear-site-data", "alt-svc", "strict-transport-security", "x-private")
    assert not [name for name in gone if name in answer.headers]


def test_cookies_stay_with_the_previews_host(visit: httpx.Client) -> None:
    cookies = visit.get("/cookies").headers.get_list("set-cookie")

    assert cookies == ["basket=7; Path=/; HttpOnly", "plain=1; SameSite=Lax"]


def test_one_visitors_cookies_never_meet_another(visit: httpx.Client) -> None:
    visit.get("/cookies")
    visit.cookies.clear()

    assert header(visit.get("/").json(), "cookie") == []


def test_a_redirect_is_the_visitors_to_follow(visit: httpx.Client) -> None:
    answer = visit.get("/gone")

    assert (answer.status_code, answer.headers["location"]) == (307, "http://127.0.0.1:1/elsewhere")


def test_head_has_no_body(visit: httpx.Client) -> None:
    answer = visit.head("/plain")

    assert (answer.status_code, answer.content, answer.headers["content-length"]) == (200, b"", "5")


def test_an_answer_is_streamed_and_its_end_noticed(visit: httpx.Client, application: Application) -> None:
    with visit.stream("GET", "/stream") as answer:
        lines = answer.iter_lines()
        assert [next(lines) for _ in range(3)] == ["0", "1", "2"]
        assert not application.left.is_set()

    assert application.left.wait(60)


def test_a_visitor_who_leaves_before_the_answer_is_noticed(visit: httpx.Client, application: Application) -> None:
    for patience_s in (0.3, 3, 30):  # on a busy machine a visitor may be gone before the application is asked
        with pytest.raises(httpx.TimeoutException):
            visit.get("/wait", timeout=patience_s)
        if application.left.wait(patience_s):
            return
    pytest.fail("the application was not told")


def test_an_answer_that_breaks_off_is_not_passed_off_as_whole(visit: httpx.Client) -> None:
    with pytest.raises(httpx.RemoteProtocolError):
        visit.get("/cut")


def test_an_application_that_hangs_is_given_up(visit: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(forwarding._TIMEOUTS, "read", 0.2)

    answer = visit.get("/wait")

    assert answer.status_code == 504
    assert "does not answer" in answer.text


def test_a_whole_exchange_has_an_end(visit: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forwarding, "TOTAL_S", 0.5)

    with pytest.raises(httpx.RemoteProtocolError):
        visit.get("/stream")


def test_too_many_connections_to_one_preview_are_refused(visit: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doors, "MAX_OPEN", 0)

    assert visit.get("/").status_code == 503


# Doors that are not open


def check_own_page(answer: httpx.Response, status: int, words: str) -> None:
    assert answer.status_code == status
    assert words in answer.text
    assert answer.headers["cache-control"] == "no-store"
    assert f"frame-ancestors {PORTAL}" in answer.headers.get_list("content-security-policy")
    assert "set-cookie" not in answer.headers


@pytest.mark.parametrize(
    "host",
    [
        f"d-{new_token()}.preview.localhost:8000",
        "preview.localhost:8000",
        "d-.preview.localhost",
        "d-short.preview.localhost:8000",
        f"d-{new_token()}.other.preview.localhost:8000",
        "admin.preview.localhost",
    ],
    # fixed names: the tokens are new each time, and parallel test processes must agree
    ids=["unknown", "bare", "empty", "short", "deeper", "admin"],
)
def test_an_unknown_address_says_so(proxy: str, host: str) -> None:
    answer = httpx.get(f"http://{proxy}/", headers={"host": host}, timeout=60, trust_env=False)

    check_own_page(answer, 404, "There is no preview at this address")


def test_the_port_and_case_of_the_host_do_not_matter(visit: httpx.Client, demo: Demo) -> None:
    host = f"{host_of(demo).upper().removesuffix(':8000')}.:443"

    assert visit.get("/plain", headers={"host": host}).text == "plain"


def test_an_expired_demo_says_so(visit: httpx.Client, demo: Demo) -> None:
    Demo.objects.filter(pk=demo.pk).update(expires_at=timezone.now() - timedelta(seconds=1))

    check_own_page(visit.get("/"), 410, "This preview has expired")


def test_a_demo_that_was_ended_says_so(visit: httpx.Client, demo: Demo) -> None:
    actions.expire_demo(demo, reason=Reason.CLOSED, now=timezone.now(), by=ADMIN)

    check_own_page(visit.get("/"), 410, "This preview was closed")


def test_a_revoked_address_says_so(visit: httpx.Client, demo: Demo) -> None:
    actions.revoke_demo(demo, now=timezone.now(), by=ADMIN)

    check_own_page(visit.get("/"), 410, "This preview was closed")


def test_a_failed_demo_says_so(proxy: str) -> None:
    failed = open_demo(make_project(now=timezone.now()), now=timezone.now())
    actions.mark_failed(failed, Reason.NO_MANIFEST, "secret log", now=timezone.now(), by=ADMIN)

    answer = httpx.get(f"http://{proxy}/", headers={"host": host_of(failed)}, timeout=60, trust_env=False)

    check_own_page(answer, 410, "This demo could not be shown")
    assert "secret" not in answer.text


def test_a_revocation_is_felt_within_seconds(visit: httpx.Client, demo: Demo) -> None:
    assert visit.get("/plain").status_code == 200

    actions.revoke_demo(demo, now=timezone.now(), by=ADMIN)

    assert poll(lambda: visit.get("/plain").status_code == 410, timeout_s=60)


def test_a_new_address_replaces_the_old(visit: httpx.Client, demo: Demo) -> None:
    actions.revoke_demo(demo, new_token=new_token(), now=timezone.now(), by=ADMIN)

    assert visit.get("/plain").status_code == 404
    assert visit.get("/plain", headers={"host": host_of(again(demo))}).status_code == 200


def test_a_demo_that_is_being_started_says_so_and_asks_again(proxy: str) -> None:
    building = open_demo(make_project(now=timezone.now()), now=timezone.now())

    answer = httpx.get(f"http://{proxy}/", headers={"host": host_of(building)}, timeout=60, trust_env=False)

    check_own_page(answer, 502, "The preview is starting")
    assert answer.headers["refresh"] == "3"


def test_a_dead_sandbox_says_so_until_it_runs_again(visit: httpx.Client, demo: Demo, address: str) -> None:
    Demo.objects.filter(pk=demo.pk).update(address=f"127.0.0.1:{free_ports(1)[0]}")
    check_own_page(visit.get("/plain"), 502, "The preview is starting")

    Demo.objects.filter(pk=demo.pk).update(address=address)

    assert visit.get("/plain").text == "plain"


def test_a_stream_ends_when_its_door_closes(visit: httpx.Client, demo: Demo) -> None:
    with visit.stream("GET", "/stream") as answer:
        lines = answer.iter_lines()
        next(lines)
        actions.revoke_demo(demo, now=timezone.now(), by=ADMIN)

        with pytest.raises(httpx.RemoteProtocolError):
            for _ in lines:
                pass


# WebSockets


@pytest.fixture
def open_socket(proxy: str, demo: Demo) -> Callable[..., connect]:
    host, _, port = proxy.partition(":")

    def open_(path: str, **options: object) -> connect:
        uri = f"ws://{host_of(demo)}{path}"
        return connect(uri, host=host, port=int(port), proxy=None, compression=None, **options)

    return open_


def use(connection: connect, act: Callable[[ClientConnection], object]) -> object:
    async def go() -> object:
        async with connection as open_connection:
            return await act(open_connection)  # type: ignore[misc]

    return asyncio.run(go())


def test_a_websocket_carries_text_and_bytes_both_ways(open_socket: Callable[..., connect]) -> None:
    async def talk(connection: ClientConnection) -> list[str | bytes]:
        said: list[str | bytes] = []
        for message in ("hello", b"\x00\x01", "x" * 100_000):
            await connection.send(message)
            said.append(await connection.recv())
        return said

    assert use(open_socket("/echo"), talk) == ["hello", b"\x00\x01", "x" * 100_000]


def test_a_websockets_handshake_follows_the_same_rules(
    open_socket: Callable[..., connect], application: Application, demo: Demo
) -> None:
    async def look(connection: ClientConnection) -> tuple[str | None, str | None]:
        assert connection.response
        return connection.subprotocol, connection.response.headers.get("x-own")

    cookies = {"Cookie": "eklavya_session=secret; basket=7", "X-Forwarded-For": "9.9.9.9", "Origin": "http://o"}
    asked = open_socket("/echo?room=1", subprotocols=["one", "two"], additional_headers=cookies)

    assert use(asked, look) == ("two", "kept")
    seen = application.seen_handshakes[0]
    assert (seen["host"], seen["origin"]) == (host_of(demo), "http://o")
    assert (seen["cookie"], seen["x-forwarded-for"]) == ("basket=7", "127.0.0.1")


def test_the_applications_close_reaches_the_visitor(open_socket: Callable[..., connect]) -> None:
    async def listen(connection: ClientConnection) -> tuple[object, int | None, str | None]:
        heard = await connection.recv()
        with pytest.raises(ConnectionClosed):
            await connection.recv()
        return heard, connection.close_code, connection.close_reason

    assert use(open_socket("/bye"), listen) == ("bye", 4001, "had enough")


def test_the_visitors_close_reaches_the_application(
    open_socket: Callable[..., connect], application: Application
) -> None:
    async def leave(connection: ClientConnection) -> None:
        await connection.close(4002)

    use(open_socket("/echo"), leave)

    assert application.left.wait(60)
    assert application.seen_handshakes[-1] == {"code": json.dumps(4002)}


def test_a_websocket_ends_when_its_door_closes(open_socket: Callable[..., connect], demo: Demo) -> None:
    async def listen(connection: ClientConnection) -> int | None:
        await database_sync_to_async(actions.revoke_demo)(demo, now=timezone.now(), by=ADMIN)
        with pytest.raises(ConnectionClosed):
            await asyncio.wait_for(connection.recv(), timeout=60)
        return connection.close_code

    assert use(open_socket("/echo"), listen) == 1001


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"expires_at": timezone.now() - timedelta(days=1)}, 410),
        ({"revoked_at": timezone.now()}, 410),
        ({"address": ""}, 502),
        ({"address": "127.0.0.1:9"}, 502),
    ],
)
def test_a_websocket_is_refused_as_a_page_is(
    open_socket: Callable[..., connect], demo: Demo, change: dict[str, object], status: int
) -> None:
    Demo.objects.filter(pk=demo.pk).update(**change)

    with pytest.raises(InvalidStatus) as refusal:
        use(open_socket("/echo"), ClientConnection.recv)
    assert refusal.value.response.status_code == status


def test_a_websocket_that_the_application_does_not_take_is_refused(open_socket: Callable[..., connect]) -> None:
    with pytest.raises(InvalidStatus) as refusal:
        use(open_socket("/plain"), ClientConnection.recv)
    assert refusal.value.response.status_code == 502


# Where the portal stands


def test_the_portals_address_is_the_only_one_that_may_frame(visit: httpx.Client, settings: Settings) -> None:
    settings.EKLAVYA_PUBLIC_URL = "https://portal.example.org"

    answer = visit.get("/headers")

    assert answer.headers.get_list("content-security-policy")[-1] == "frame-ancestors https://portal.example.org"
    assert header(visit.get("/").json(), "x-forwarded-proto") == ["https"]
