"""Events on their way out, to real receivers on this machine."""

import ssl
import threading
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from django.db import connection
from django.utils import timezone
from pytest_django import Settings

from eklavya.env import BASE_DIR
from projects.actions import webhook_deliveries as deliveries
from projects.actions import webhooks
from projects.actions.chat import notify, post_message
from projects.errors import DomainError, InvalidWebhook
from projects.events import EVENT_TYPES, RUN_EVENTS
from projects.models import AuditLog, Notification, WebhookCursor, WebhookDelivery, WebhookEndpoint
from projects.tasks import forget_deliveries
from projects.webhooks import sending as attempts
from projects.webhooks.messages import SENT_TYPES, TEST_TYPE
from projects.webhooks.pump import pump
from projects.webhooks.schedule import next_attempt
from projects.webhooks.sending import Sender
from tests.factories import NOW, TESTER, WEBHOOK_SECRET, ProjectFactory, WebhookDeliveryFactory, WebhookEndpointFactory
from tests.projects.receivers import Names, Receiver, receiving, sending

pytestmark = pytest.mark.django_db
HOUR = timedelta(hours=1)
Send = Callable[[datetime], None]


@pytest.fixture(autouse=True)
def inside(settings: Settings) -> None:
    """This machine's receivers are listed, and need no TLS."""
    settings.EKLAVYA_WEBHOOK_HTTP = True
    settings.EKLAVYA_WEBHOOK_HOSTS = f"127.0.0.1:{'+'.join(map(str, range(1024, 65536)))}"


@pytest.fixture(scope="module")
def receiver_of_module() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


@pytest.fixture
def receiver(receiver_of_module: Receiver) -> Receiver:
    receiver_of_module.received.clear()
    receiver_of_module.arrived.clear()
    receiver_of_module.answer(200)
    return receiver_of_module


@pytest.fixture
def names() -> Names:
    return Names()


@pytest.fixture
def send(names: Names) -> Iterator[Send]:
    with sending(names) as send:
        yield send


def said(project: Any = None, now: datetime = NOW) -> AuditLog:
    """Something happens that people are told of; return its row."""
    notify(project, level=Notification.Level.INFO, title="Delivered", message="é🦉", by=TESTER, now=now)
    return AuditLog.objects.order_by("-id")[0]


def only() -> WebhookDelivery:
    return WebhookDelivery.objects.select_related("endpoint").get()


# -- what arrives


def test_event_arrives_signed_and_says_what_happened(receiver: Receiver, send: Send) -> None:
    WebhookEndpointFactory(url=receiver.url("/hook?key=1"))
    project = ProjectFactory()
    row = said(project)

    send(NOW)

    (got,) = receiver.received
    assert (got.path, got.headers["host"]) == ("/hook?key=1", f"127.0.0.1:{receiver.port}")
    assert got.headers["content-type"] == "application/json"
    assert got.headers["webhook-id"] == str(row.pk) == got.content["id"]
    assert got.headers["webhook-timestamp"] == str(int(NOW.timestamp()))
    assert got.is_signed()
    assert not got.is_signed("whsec_b3RoZXI=")
    assert got.content == {
        "id": str(row.pk),
        "type": "notification",
        "timestamp": "2026-03-01T12:00:00.000Z",
        "projectId": str(project.pk),
        "seq": row.seq,
        "data": {"level": "info", "title": "Delivered", "message": "é🦉", "actions": []},
    }
    delivery = only()
    assert (delivery.status, delivery.response_status, delivery.response_excerpt) == ("delivered", 200, "said")
    assert (delivery.attempts, delivery.delivered_at, delivery.problem) == (1, NOW, "")
    assert delivery.duration_ms is not None


def test_the_documented_example_verifies_it(receiver: Receiver, send: Send) -> None:
    WebhookEndpointFactory(url=receiver.url())
    now = timezone.now()
    said(None, now)
    send(now)
    names: dict[str, Any] = {}
    exec((BASE_DIR / "docs" / "webhooks.md").read_text().split("```python\n")[1].split("```")[0], names)
    (got,) = receiver.received

    assert names["is_genuine"](WEBHOOK_SECRET, got.headers, got.body)
    assert not names["is_genuine"](WEBHOOK_SECRET, got.headers, got.body + b" ")
    late = got.headers | {"webhook-timestamp": str(int(now.timestamp()) - 301)}
    assert not names["is_genuine"](WEBHOOK_SECRET, late, got.body)


def test_endpoint_hears_of_its_project_and_its_types_from_its_beginning_on(receiver: Receiver, send: Send) -> None:
    project = ProjectFactory()
    early = said(project, NOW - HOUR)
    of_project = WebhookEndpointFactory(url=receiver.url("/project"), project=project)
    of_type = WebhookEndpointFactory(url=receiver.url("/chat"), events=["chat:message"])
    WebhookEndpointFactory(url=receiver.url("/off"), status="disabled")
    said(ProjectFactory())
    said(None)
    said(project)
    post_message(project, "Hello.", by=TESTER, now=NOW)

    send(NOW)

    got = sorted((one.path, one.content["type"]) for one in receiver.received)
    assert got == [("/chat", "chat:message"), ("/project", "chat:message"), ("/project", "notification")]
    assert not WebhookDelivery.objects.filter(event_id=early.pk).exists()
    assert {delivery.endpoint_id for delivery in WebhookDelivery.objects.all()} == {of_project.pk, of_type.pk}


def test_every_event_of_the_log_can_be_chosen_and_is_documented() -> None:
    assert set(SENT_TYPES) == EVENT_TYPES - {RUN_EVENTS}
    page = (BASE_DIR / "docs" / "webhooks.md").read_text()
    for event_type in [*SENT_TYPES, TEST_TYPE]:
        assert f"| `{event_type}` |" in page


def test_events_are_queued_once_however_often_it_is_asked(receiver: Receiver) -> None:
    WebhookEndpointFactory(url=receiver.url())
    rows = [said(ProjectFactory()) for _ in range(2)] + [said(None)]

    made = [deliveries.queue_events(now=NOW) for _ in range(3)]
    WebhookCursor.objects.update(seq=0)  # even when the place is lost
    deliveries.queue_events(now=NOW)

    assert made == [3, 0, 0]
    assert set(WebhookDelivery.objects.values_list("event_id", flat=True)) == {row.pk for row in rows}


def test_many_events_are_queued_in_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deliveries, "_EVENTS_AT_ONCE", 2)
    WebhookEndpointFactory()
    for _ in range(5):
        said(None)

    assert [deliveries.queue_events(now=NOW) for _ in range(4)] == [2, 2, 1, 0]


def test_what_happened_before_anybody_listened_delays_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deliveries, "_EVENTS_AT_ONCE", 2)
    for _ in range(5):
        said(None, NOW - HOUR)
    WebhookEndpointFactory(active_since=NOW)
    said(None)

    assert [deliveries.queue_events(now=NOW) for _ in range(2)] == [1, 0]


def test_house_without_webhooks_reads_no_log(django_assert_num_queries: Any) -> None:
    said(None)
    with django_assert_num_queries(1):
        assert deliveries.queue_events(now=NOW) == 0


def test_both_secrets_sign_while_one_is_replaced(receiver: Receiver, send: Send) -> None:
    endpoint = WebhookEndpointFactory(url=receiver.url())
    new = webhooks.rotate_secret(endpoint, by=TESTER, now=NOW).get_secret_value()
    said(None)
    send(NOW)
    said(None, NOW + 25 * HOUR)
    send(NOW + 25 * HOUR)

    during, after = receiver.received
    assert during.is_signed()
    assert during.is_signed(new)
    assert after.is_signed(new)
    assert not after.is_signed()


# -- trying again


def test_failure_is_tried_again_later_and_later_with_the_same_id(receiver: Receiver, send: Send) -> None:
    WebhookEndpointFactory(url=receiver.url())
    said(None)
    receiver.answer(500)
    waits, now = [], NOW
    for _ in range(5):
        send(now)
        send(now)  # nothing more is due
        delivery = only()
        assert delivery.next_attempt_at
        waits.append((delivery.next_attempt_at - now).total_seconds())
        now = delivery.next_attempt_at
    assert (delivery.status, delivery.attempts, delivery.response_status) == ("failed", 5, 500)
    assert delivery.problem == "The receiver answered 500."
    receiver.answer(204)
    send(now)

    assert only().status == "delivered"
    for wait, base in zip(waits, [10, 30, 90, 270, 810], strict=True):
        assert 0.8 * base <= wait <= 1.2 * base
    assert len(receiver.received) == 6
    assert len({one.headers["webhook-id"] for one in receiver.received}) == 1
    assert len({one.body for one in receiver.received}) == 1
    assert receiver.received[0].headers["webhook-timestamp"] != receiver.received[5].headers["webhook-timestamp"]
    assert all(one.is_signed() for one in receiver.received)


def test_receiver_may_ask_for_more_time(receiver: Receiver, send: Send) -> None:
    WebhookEndpointFactory(url=receiver.url())
    said(None)
    receiver.answer(503, Retry_After="600")

    send(NOW)

    assert only().next_attempt_at == NOW + timedelta(seconds=600)


@pytest.mark.parametrize("attempts", [1, 8, 400])
def test_wait_has_an_upper_limit(attempts: int) -> None:
    wait = next_attempt(attempts, retry_after_s=10**6 if attempts == 1 else 0, now=NOW) - NOW
    assert wait <= 1.2 * 6 * HOUR


def test_what_never_gets_through_is_given_up_and_the_endpoint_disabled(receiver: Receiver, send: Send) -> None:
    endpoint = WebhookEndpointFactory(url=receiver.url("/secret-path"))
    said(None)
    receiver.answer(500)
    now, last = NOW, NOW
    for _ in range(30):
        send(now)
        last, now = now, only().next_attempt_at or now
        if only().status == "dead":
            break

    # The last attempt was within a day; so the endpoint is disabled with the next delivery that is given up.
    assert only().status == "dead"
    assert NOW + 16 * HOUR < last <= NOW + 24 * HOUR
    assert WebhookEndpoint.objects.get().status == "active"
    assert AuditLog.objects.get(action="webhook.dead").details["why"] == "The receiver answered 500."
    late = {"next_attempt_at": NOW + 25 * HOUR, "give_up_at": NOW + 25 * HOUR}
    waiting = [WebhookDeliveryFactory(endpoint=endpoint, **late) for _ in range(3)]
    send(NOW + 25 * HOUR)

    endpoint.refresh_from_db()
    assert (endpoint.status, endpoint.active_since) == ("disabled", None)
    assert "Nothing got through since 2026-03-01 12:00 UTC." in endpoint.reason
    assert {WebhookDelivery.objects.get(pk=one.pk).status for one in waiting} == {"dead"}
    notice = Notification.objects.latest("id")
    assert (notice.level, notice.actions[0]["url"]) == ("error", f"/settings/webhooks/{endpoint.pk}/")
    rows = AuditLog.objects.filter(action__startswith="webhook.")
    assert rows.get(action="webhook.disabled").details["given_up"] == 2
    assert "secret-path" not in str([row.details for row in rows] + [notice.title, notice.message])


@pytest.mark.parametrize("earlier", [1, 12])
def test_first_failure_long_after_another_does_not_disable(receiver: Receiver, send: Send, earlier: int) -> None:
    endpoint = WebhookEndpointFactory(url=receiver.url(), failing_since=NOW - 240 * HOUR, problem="http_500")
    old = {"status": "dead", "attempts": earlier, "last_attempt_at": NOW - 220 * HOUR, "next_attempt_at": None}
    WebhookDeliveryFactory(endpoint=endpoint, **old)
    WebhookDeliveryFactory(endpoint=endpoint)
    receiver.answer(500, 200)

    send(NOW)
    endpoint.refresh_from_db()
    assert (endpoint.status, endpoint.failing_since) == ("active", NOW - 240 * HOUR)
    send(NOW + HOUR)

    endpoint.refresh_from_db()
    assert (endpoint.status, endpoint.failing_since) == ("active", None)


def test_few_failures_do_not_disable_however_long_ago_the_first_was(receiver: Receiver, send: Send) -> None:
    """As when the house itself was off for days: its deliveries are late, which says nothing of the receiver."""
    endpoint = WebhookEndpointFactory(url=receiver.url())
    said(None)
    receiver.answer(500)
    send(NOW)
    send(NOW + 50 * HOUR)

    assert (only().status, only().attempts) == ("dead", 2)
    endpoint.refresh_from_db()
    assert endpoint.status == "active"


def test_one_success_ends_a_row_of_failures(receiver: Receiver, send: Send) -> None:
    endpoint = WebhookEndpointFactory(url=receiver.url(), failing_since=NOW - 30 * HOUR, problem="http_500")
    WebhookDeliveryFactory(endpoint=endpoint)

    send(NOW)

    endpoint.refresh_from_db()
    assert (endpoint.status, endpoint.failing_since, endpoint.problem) == ("active", None, "")


def test_receiver_that_is_gone_is_disabled_at_once(receiver: Receiver, send: Send) -> None:
    WebhookEndpointFactory(url=receiver.url())
    said(None)
    receiver.answer(410)

    send(NOW)

    assert only().status == "dead"
    assert only().problem == "The receiver answered 410."
    assert only().endpoint.reason == "The receiver answered 410: it wants no more."


@pytest.mark.parametrize("old", ["delivered", "failed", "dead"])
def test_delivery_is_sent_again_when_a_person_asks(receiver: Receiver, send: Send, old: str) -> None:
    delivery = WebhookDeliveryFactory(endpoint=WebhookEndpointFactory(url=receiver.url()), status=old, attempts=9)

    deliveries.redeliver(delivery, by=TESTER, now=NOW)
    send(NOW)

    assert (only().status, only().attempts) == ("delivered", 1)
    assert AuditLog.objects.get(action="webhook.redelivered").object_id == str(delivery.pk)


def test_delivery_is_not_sent_again_twice_at_once_nor_to_who_does_not_listen() -> None:
    with pytest.raises(DomainError, match="about to be sent"):
        deliveries.redeliver(WebhookDeliveryFactory(), by=TESTER, now=NOW)
    off = WebhookEndpointFactory(status="disabled")
    with pytest.raises(DomainError, match="enable it first"):
        deliveries.redeliver(WebhookDeliveryFactory(endpoint=off, status="dead"), by=TESTER, now=NOW)
    with pytest.raises(DomainError, match="enable it first"):
        webhooks.send_test(off, by=TESTER, now=NOW)


def test_what_a_killed_process_had_taken_is_due_again(receiver: Receiver, send: Send) -> None:
    WebhookEndpointFactory(url=receiver.url())
    said(None)
    deliveries.queue_events(now=NOW)
    (taken,) = deliveries.claim_due(room=8, busy={}, now=NOW)
    send(NOW + timedelta(seconds=89))
    assert receiver.received == []
    late = NOW + deliveries.LEASE

    send(late)
    deliveries.record([(taken, attempts.Answer("timeout", "No answer."))], now=late)  # it was only slow

    assert (only().status, only().attempts) == ("delivered", 2)


# -- where it is not sent


def test_redirect_is_not_followed(receiver: Receiver, send: Send) -> None:
    WebhookEndpointFactory(url=receiver.url())
    said(None)
    receiver.answer(302, Location=receiver.url("/inside"))

    send(NOW)

    assert [one.path for one in receiver.received] == ["/hook"]
    assert "Redirects are not followed" in only().problem


def test_name_that_leads_inside_is_refused_with_an_audit_row(receiver: Receiver, names: Names, send: Send) -> None:
    names.answers["hooks.example.org"] = [["127.0.0.1"]]
    url = "https://hooks.example.org/hook"
    with pytest.raises(DomainError, match="not public"):
        webhooks.add_webhook(webhooks.NewWebhook(url), by=TESTER, now=NOW, resolve=names)
    endpoint = WebhookEndpointFactory(url=url)
    WebhookDeliveryFactory.create_batch(2, endpoint=endpoint)

    send(NOW)
    send(NOW + HOUR)

    assert receiver.received == []
    assert all("not public" in one.problem for one in WebhookDelivery.objects.all())
    row = AuditLog.objects.get(action="webhook.refused")  # once, not for each attempt
    assert row.details["host"] == "hooks.example.org"


def test_name_that_changes_its_mind_after_it_was_saved_is_refused(
    receiver: Receiver, names: Names, send: Send, settings: Settings
) -> None:
    settings.EKLAVYA_WEBHOOK_HOSTS = f"hooks.example.org:{receiver.port}"
    names.answers["hooks.example.org"] = [["93.184.215.14"], ["127.0.0.1"]]
    url = receiver.url(host="hooks.example.org")
    endpoint, _ = webhooks.add_webhook(webhooks.NewWebhook(url), by=TESTER, now=NOW, resolve=names)
    webhooks.send_test(endpoint, by=TESTER, now=NOW)

    send(NOW)

    assert receiver.received == []
    assert "not public" in only().problem


def test_connection_goes_to_the_address_that_was_checked(receiver: Receiver, names: Names, send: Send) -> None:
    # Whoever asked a second time would get an address at which nobody listens.
    names.answers["hooks.test"] = [["127.0.0.1"], ["192.0.2.1"]]
    inside = f",hooks.test:{receiver.port}"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("django.conf.settings.EKLAVYA_WEBHOOK_HOSTS", f"127.0.0.1:{receiver.port}{inside}")
        WebhookDeliveryFactory(endpoint=WebhookEndpointFactory(url=receiver.url(host="hooks.test")))
        send(NOW)

    assert only().status == "delivered"
    assert names.asked == ["hooks.test"]
    assert receiver.received[0].headers["host"] == f"hooks.test:{receiver.port}"


def test_environment_names_no_proxy_for_it(receiver: Receiver, send: Send, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    WebhookDeliveryFactory(endpoint=WebhookEndpointFactory(url=receiver.url()))

    send(NOW)

    assert only().status == "delivered"


# -- receivers that misbehave


def test_long_answer_is_cut_and_odd_bytes_are_kept_out(receiver: Receiver, send: Send) -> None:
    receiver.answers = [(200, {"Set-Cookie": "a=b", "Content-Encoding": "gzip"}, b"\x00\xff" + b"x" * 3_000_000)]
    WebhookDeliveryFactory(endpoint=WebhookEndpointFactory(url=receiver.url()))

    send(NOW)

    assert only().status == "delivered"
    assert only().response_excerpt == "\ufffd\ufffd" + "x" * 998


@pytest.mark.parametrize("status", [600, 999])
def test_status_that_http_does_not_know_is_a_failure_and_holds_up_no_other(
    status: int, receiver: Receiver, send: Send
) -> None:
    with receiving() as odd:
        odd.answer(status)
        refused = WebhookDeliveryFactory(endpoint=WebhookEndpointFactory(url=odd.url()))
        WebhookDeliveryFactory(endpoint=WebhookEndpointFactory(url=receiver.url()))

        send(NOW)

    refused.refresh_from_db()
    assert (refused.status, refused.response_status, refused.response_excerpt) == ("failed", None, "said")
    assert refused.problem == f"The answer is not proper HTTP (status {status})."
    assert WebhookDelivery.objects.get(status="delivered").response_status == 200


def test_nobody_listens(send: Send) -> None:
    with receiving() as gone:
        url = gone.url()
    WebhookDeliveryFactory(endpoint=WebhookEndpointFactory(url=url))

    send(NOW)

    assert (only().status, only().problem, only().response_status) == ("failed", "No connection.", None)


def test_slow_receiver_holds_up_no_other(receiver: Receiver, names: Names, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = WebhookEndpointFactory(url=receiver.url("/slow"))
    WebhookDeliveryFactory.create_batch(10, endpoint=slow)
    quick = WebhookDeliveryFactory.create_batch(10, endpoint=WebhookEndpointFactory(url=receiver.url("/quick")))
    receiver.gate.clear()
    counts: list[int] = []
    original = deliveries.record

    def record(results: Any, *, now: datetime) -> None:
        original(results, now=now)
        if WebhookDelivery.objects.filter(pk__in=[one.pk for one in quick], status="delivered").count() == 10:
            counts.append(sum(one.path == "/slow" for one in receiver.received))
            receiver.gate.set()

    monkeypatch.setattr(deliveries, "record", record)
    with sending(names) as send:
        send(NOW)

    # No more than that were at the slow one while ten quick ones went out; the last of them may still be on its way.
    assert 0 < counts[0] <= deliveries.AT_ONCE
    assert not WebhookDelivery.objects.exclude(status="delivered").exists()


def test_room_that_becomes_free_is_anybodys() -> None:
    endpoints = WebhookEndpointFactory.create_batch(2)
    for endpoint in endpoints:
        WebhookDeliveryFactory.create_batch(30, endpoint=endpoint)

    taken = [deliveries.claim_due(room=1, busy={}, now=NOW) for _ in range(30)]

    assert {delivery.endpoint_id for (delivery,) in taken} == {endpoint.pk for endpoint in endpoints}


def test_receiver_that_never_answers_is_left(receiver: Receiver, names: Names, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempts, "ATTEMPT_S", 0.2)
    receiver.gate.clear()
    WebhookDeliveryFactory(endpoint=WebhookEndpointFactory(url=receiver.url("/slow")))
    with sending(names) as send:
        send(NOW)
    receiver.gate.set()

    assert (only().status, only().problem[:16]) == ("failed", "No answer within")


def test_secret_that_no_key_opens_fails_the_delivery_with_a_sentence(
    receiver: Receiver, send: Send, settings: Settings
) -> None:
    WebhookDeliveryFactory(endpoint=WebhookEndpointFactory(url=receiver.url()))
    settings.EKLAVYA_SECRET_KEYS = ["another-key-" * 4]

    send(NOW)

    assert receiver.received == []
    assert "EKLAVYA_SECRET_KEYS" in only().problem


def test_attempt_that_breaks_holds_up_no_other_and_logs_no_address(receiver: Receiver, caplog: Any) -> None:
    def resolve(name: str) -> Any:
        raise RuntimeError(name)

    broken = WebhookDeliveryFactory(endpoint__url="https://hooks.example.org/path-is-a-key")
    fine = WebhookDeliveryFactory(endpoint=WebhookEndpointFactory(url=receiver.url()))
    sender = Sender(resolve=resolve)
    pump(sender, lambda: NOW)
    sender.close()

    assert {one.status for one in WebhookDelivery.objects.filter(pk=fine.pk)} == {"delivered"}
    assert WebhookDelivery.objects.get(pk=broken.pk).problem.startswith("The attempt broke on our side.")
    assert "RuntimeError" in caplog.text
    assert "hooks.example.org" not in caplog.text


def test_result_that_cannot_be_recorded_takes_no_other_along(receiver: Receiver, send: Send, caplog: Any) -> None:
    with connection.cursor() as cursor:  # any error of the database that nobody thought of
        table = WebhookDelivery._meta.db_table
        cursor.execute(f"ALTER TABLE {table} ADD CONSTRAINT surprise CHECK (response_status IS DISTINCT FROM 418)")
    endpoints = [WebhookEndpointFactory(url=receiver.url("/slow")) for _ in range(3)]
    for endpoint in endpoints:
        WebhookDeliveryFactory(endpoint=endpoint)
    receiver.answers = [(200, {}, b"said"), (418, {}, b"quoted"), (200, {}, b"said")]
    # All answer at the same moment, so that they are recorded together.
    opening = threading.Thread(target=lambda: (wait_for(receiver, 3), receiver.gate.set()))
    opening.start()

    send(NOW)

    opening.join()
    receiver.gate.clear()
    found = sorted(WebhookDelivery.objects.values_list("status", "problem"))
    assert [status for status, _ in found] == ["delivered", "delivered", "failed"]
    assert found[-1][1].startswith("What came of it could not be recorded.")
    assert "IntegrityError" in caplog.text
    assert "quoted" not in caplog.text


def wait_for(receiver: Receiver, count: int) -> None:
    deadline = time.monotonic() + 60
    while len(receiver.received) < count and time.monotonic() < deadline:
        time.sleep(0.01)


# -- TLS


def test_certificate_must_be_trusted_and_for_the_name(tmp_path: Path, names: Names, settings: Settings) -> None:
    names.answers |= {"hooks.test": [["127.0.0.1"]], "other.test": [["127.0.0.1"]]}
    server, trusting = certified("hooks.test", tmp_path)
    with receiving(server) as receiver:
        settings.EKLAVYA_WEBHOOK_HOSTS = ",".join(
            f"{host}:{receiver.port}" for host in ("127.0.0.1", "hooks.test", "other.test")
        )
        found = {}
        for name, host, tls in (
            ("right", "hooks.test", trusting),
            ("other name", "other.test", trusting),
            ("not trusted", "hooks.test", None),
        ):
            endpoint = WebhookEndpointFactory(url=receiver.url(host=host, scheme="https"))
            delivery = WebhookDeliveryFactory(endpoint=endpoint)
            with sending(names, tls) as send:
                send(NOW)
            delivery.refresh_from_db()
            found[name] = delivery.problem
            endpoint.delete()

    assert found == {
        "right": "",
        "other name": "The certificate is not trusted, or not for this name.",
        "not trusted": "The certificate is not trusted, or not for this name.",
    }
    assert len(receiver.received) == 1


def certified(name: str, directory: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """A server's context with a certificate for a name, and a client's that trusts it."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    today = datetime.now(tz=NOW.tzinfo)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(today - HOUR)
        .not_valid_after(today + HOUR)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    chain, private = directory / "chain.pem", directory / "key.pem"
    chain.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(chain, private)
    return server, ssl.create_default_context(cafile=str(chain))


# -- one pump per process


def test_who_asks_while_a_pump_runs_has_it_look_once_more(receiver: Receiver, names: Names) -> None:
    WebhookEndpointFactory(url=receiver.url())
    sender = Sender(resolve=names)
    rows: list[AuditLog] = []
    asked = 0

    def clock() -> datetime:
        nonlocal asked
        asked += 1
        if asked == 2:  # it looked for events already, and is about to end
            rows.append(said(None))
            other = threading.Thread(target=pump, args=[sender, clock])
            other.start()
            other.join(10)
            assert not other.is_alive()  # it left the work to this one
        return NOW

    pump(sender, clock)
    sender.close()

    assert [one.headers["webhook-id"] for one in receiver.received] == [str(rows[0].pk)]


def test_due_deliveries_are_found_by_the_index(receiver: Receiver) -> None:
    endpoint = WebhookEndpointFactory()
    WebhookDelivery.objects.bulk_create(
        WebhookDeliveryFactory.build(endpoint=endpoint, status="delivered", delivered_at=NOW, next_attempt_at=None)
        for _ in range(2_000)
    )
    WebhookDeliveryFactory(endpoint=endpoint)
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE projects_webhookdelivery")
    due = WebhookDelivery.objects.filter(endpoint=endpoint, status__in=["pending", "failed"], next_attempt_at__lte=NOW)

    assert "webhook_delivery_due" in due.order_by("next_attempt_at", "id").explain()


def test_old_deliveries_are_forgotten_and_open_ones_kept() -> None:
    old = NOW - timedelta(days=31)
    WebhookDeliveryFactory(status="delivered", created_at=old)
    kept = [WebhookDeliveryFactory(created_at=old), WebhookDeliveryFactory(status="dead")]

    assert deliveries.forget_old(now=NOW) == 1
    assert set(WebhookDelivery.objects.all()) == set(kept)


def test_all_that_is_old_is_forgotten_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deliveries, "_FORGOTTEN_AT_ONCE", 1)
    for _ in range(3):
        WebhookDeliveryFactory(status="delivered", created_at=timezone.now() - timedelta(days=31))

    forget_deliveries()

    assert not WebhookDelivery.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_processes_at_once_make_and_take_each_delivery_once(together: Any) -> None:
    WebhookEndpointFactory.create_batch(3)
    project = ProjectFactory()
    for number in range(20):
        said(project if number % 2 else None)

    together(*[lambda: deliveries.queue_events(now=NOW)] * 4)
    deliveries.queue_events(now=NOW)  # what one left to another that was not done yet
    taken = together(*[lambda: deliveries.claim_due(room=40, busy={}, now=NOW)] * 4)

    assert WebhookDelivery.objects.count() == 60
    claimed = [delivery.pk for future in taken for delivery in future.result()]
    assert len(claimed) == len(set(claimed)) > deliveries.AT_ONCE
    assert set(WebhookDelivery.objects.filter(attempts=1).values_list("pk", flat=True)) == set(claimed)


@pytest.mark.django_db(transaction=True)
def test_endpoints_that_are_added_at_once_are_not_one_too_many(
    together: Any, names: Names, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhooks, "MOST_ENDPOINTS", 2)
    names.answers["hooks.test"] = [["93.184.215.14"]]
    wanted = webhooks.NewWebhook("https://hooks.test/")

    added = together(*[lambda: webhooks.add_webhook(wanted, by=TESTER, now=NOW, resolve=names)] * 8)

    assert WebhookEndpoint.objects.count() == 2
    assert sum(isinstance(future.exception(), InvalidWebhook) for future in added) == 6
