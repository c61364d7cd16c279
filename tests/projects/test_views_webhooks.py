"""Webhooks in the portal and for programs: what an admin does there, and what is shown of secrets."""

import json
import re
from datetime import timedelta
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone
from pytest_django import Settings

from accounts.roles import AccountRole
from projects import forms, sealing
from projects.actions import webhooks as actions
from projects.models import AuditLog, WebhookDelivery, WebhookEndpoint
from tests.accounts.making import bearer, key_of, person
from tests.factories import NOW, TESTER, ProjectFactory, WebhookDeliveryFactory, WebhookEndpointFactory

pytestmark = pytest.mark.django_db
URL = "http://127.0.0.1:9/services/T0/path-is-a-key"
SECRET = re.compile(r"whsec_[A-Za-z0-9+/=]{44}")
API = "/api/v1/webhooks/"


@pytest.fixture(autouse=True)
def inside(settings: Settings) -> None:
    settings.EKLAVYA_WEBHOOK_HTTP = True
    settings.EKLAVYA_WEBHOOK_HOSTS = "127.0.0.1:9"


@pytest.fixture
def root(client: Client) -> Client:
    client.force_login(person(AccountRole.ADMIN, "root"))
    return client


def program(*scopes: str, project_id: Any = None) -> Client:
    """A client with an admin's key."""
    _, text = key_of(person(AccountRole.ADMIN, "owner"), *scopes, project_id=project_id, now=timezone.now())
    return Client(headers=bearer(text))


def post(client: Client, path: str = "", data: Any = None) -> Any:
    return client.post(API + path, data or {}, content_type="application/json")


# -- the portal


def test_webhook_is_added_and_shows_its_secret_once(root: Client) -> None:
    project = ProjectFactory(name="Lendery")
    sent = {"url": URL, "description": "Ours", "events": ["demo:ready", "budget:warning"], "project": project.pk}
    page = root.post(reverse("webhooks"), sent).content.decode()

    endpoint = WebhookEndpoint.objects.get()
    (secret,) = set(SECRET.findall(page))
    assert sealing.unseal(endpoint.secret, whose=endpoint.whose).get_secret_value() == secret
    assert (endpoint.url, endpoint.events, endpoint.project) == (URL, ["budget:warning", "demo:ready"], project)
    assert endpoint.created_by is not None
    listed = root.get(reverse("webhooks")).content.decode()
    assert "Lendery" in listed
    assert "path-is-a-key" not in listed
    addresses = [
        reverse("webhook", args=[endpoint.pk]),
        reverse("audit"),
        reverse("admin:projects_webhookendpoint_changelist"),
        reverse("admin:projects_webhookendpoint_change", args=[endpoint.pk]),
        f"{API}{endpoint.pk}/",
        API,
    ]
    for address in addresses:
        answer = root.get(address)
        assert answer.status_code == 200
        assert secret not in answer.content.decode(), address
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT e::text FROM projects_webhookendpoint e UNION ALL SELECT a::text FROM projects_auditlog a"
        )
        assert not any(secret in row[0] for row in cursor.fetchall())
    row = AuditLog.objects.get(action="webhook.added")
    assert (row.chain, row.details["host"], row.actor_name) == (str(project.pk), "127.0.0.1:9", "root")
    assert "path-is-a-key" not in json.dumps(row.details)


def test_scheme_in_capitals_is_kept_in_small_letters() -> None:
    endpoint, _ = actions.add_webhook(actions.NewWebhook(URL.replace("http", "HTTP")), by=TESTER, now=NOW)
    assert endpoint.url == URL

    actions.change_webhook(endpoint, url=URL.replace("http", "Http") + "/2", by=TESTER, now=NOW)
    endpoint.refresh_from_db()
    assert endpoint.url == URL + "/2"


@pytest.mark.parametrize(
    ("data", "why"),
    [
        ({"url": "https://10.0.0.1/"}, "Give the name of the receiver"),
        ({"url": "https://localhost/"}, "localhost leads to an address that is not public"),
        ({"url": "https://asha:pass@hooks.example.org/"}, "No user or password"),
        ({"url": ""}, "This field is required"),
        ({"url": URL, "events": ["no:such"]}, "not one of the available choices"),
    ],
)
def test_form_says_what_is_wrong_and_keeps_what_was_typed(root: Client, data: dict[str, Any], why: str) -> None:
    answer = root.post(reverse("webhooks"), {"description": "Ours", **data})

    assert answer.status_code == 422
    assert why in answer.content.decode()
    assert 'value="Ours"' in answer.content.decode()
    assert not WebhookEndpoint.objects.exists()


def test_newest_projects_are_offered_and_older_ones_named_by_their_id(
    root: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forms, "MOST_OFFERED", 2)
    projects = [ProjectFactory(name=f"Project {n}", created_at=NOW + timedelta(minutes=n)) for n in range(4)]
    page = root.get(reverse("webhooks")).content.decode()
    assert [f">Project {number}</option>" in page for number in range(4)] == [False, False, True, True]
    assert "Or for an older project" in page

    for sent, why in [
        ({"project_id": "0199f3a2-0000-7000-8000-000000000000"}, "There is no project with this id."),
        ({"project_id": "Project 0"}, "That is no id of a project."),
        ({"project_id": projects[0].pk, "project": projects[3].pk}, "not both"),
    ]:
        refused = root.post(reverse("webhooks"), {"url": URL, **sent})
        assert refused.status_code == 422
        assert why in refused.content.decode()
    for sent, project in [({"project_id": projects[0].pk}, 0), ({"project": projects[1].pk}, 1)]:
        assert root.post(reverse("webhooks"), {"url": URL, **sent}).status_code == 200
        assert WebhookEndpoint.objects.get(project=projects[project])

    monkeypatch.setattr(forms, "MOST_OFFERED", 4)
    assert "Or for an older project" not in root.get(reverse("webhooks")).content.decode()


def test_webhook_is_changed_disabled_enabled_and_removed(root: Client) -> None:
    endpoint = WebhookEndpointFactory(url=URL)
    waiting = WebhookDeliveryFactory(endpoint=endpoint)
    page = reverse("webhook", args=[endpoint.pk])
    sent = {"url": URL + "/2", "description": "New", "events": ["demo:ready"]}
    assert root.post(page, sent).status_code == 302
    root.post(reverse("webhook_disable", args=[endpoint.pk]))
    endpoint.refresh_from_db()
    assert (endpoint.url, endpoint.events, endpoint.status) == (URL + "/2", ["demo:ready"], "disabled")
    assert endpoint.reason == "Disabled by root."
    waiting.refresh_from_db()
    assert waiting.status == "dead"
    assert "enable it first" in root.get(page).content.decode()
    told = root.post(reverse("webhook_redeliver", args=[endpoint.pk, waiting.pk]), follow=True)
    assert "enable it first" in str(next(iter(told.context["messages"])))

    root.post(reverse("webhook_enable", args=[endpoint.pk]))
    root.post(reverse("webhook_redeliver", args=[endpoint.pk, waiting.pk]))
    root.post(reverse("webhook_test", args=[endpoint.pk]))
    assert set(WebhookDelivery.objects.values_list("status", "event_type")) == {("pending", "webhook:test")}
    assert WebhookDelivery.objects.count() == 2
    root.post(reverse("webhook_remove", args=[endpoint.pk]))
    assert not WebhookDelivery.objects.exists()
    actions_recorded = list(
        AuditLog.objects.exclude(action="request.refused").order_by("seq").values_list("action", flat=True)
    )
    assert actions_recorded == [
        f"webhook.{verb}" for verb in ("changed", "disabled", "enabled", "redelivered", "tested", "removed")
    ]
    assert "path-is-a-key" not in str(list(AuditLog.objects.values_list("details", flat=True)))


def test_new_secret_is_shown_once_and_the_old_one_named(root: Client) -> None:
    endpoint = WebhookEndpointFactory(url=URL)
    shown = root.post(reverse("webhook_rotate", args=[endpoint.pk])).content.decode()

    endpoint.refresh_from_db()
    assert SECRET.search(shown)
    assert endpoint.old_secret_until
    page = root.get(reverse("webhook", args=[endpoint.pk])).content.decode()
    assert "The old one signs as well until" in page
    assert not SECRET.search(page)


@pytest.mark.parametrize(
    ("hosts", "http", "hint"),
    [
        ("", False, "Of a public host, by https. It gets"),
        ("", True, "Of a public host, by https, or http, which"),
        ("hooks.internal:8443", False, "Of a public host or one that EKLAVYA_WEBHOOK_HOSTS lists, by https. It gets"),
    ],
)
def test_form_says_where_the_settings_let_it_send(
    root: Client, settings: Settings, hosts: str, http: bool, hint: str
) -> None:
    settings.EKLAVYA_WEBHOOK_HOSTS, settings.EKLAVYA_WEBHOOK_HTTP = hosts, http

    assert hint in root.get(reverse("webhooks")).content.decode()


def test_a_delivery_that_failed_says_when_it_is_tried_next(root: Client) -> None:
    delivery = WebhookDeliveryFactory(endpoint=WebhookEndpointFactory(url=URL), status="failed")

    page = root.get(reverse("webhook", args=[delivery.endpoint_id])).content.decode()

    assert "Retrying" in page
    assert 'next try at <time data-clock datetime="' in page


def test_page_of_deliveries_shows_what_came_back_escaped_at_a_constant_cost(root: Client) -> None:
    endpoint = WebhookEndpointFactory(url=URL)
    address = reverse("webhook", args=[endpoint.pk])
    said = {"response_status": 500, "response_excerpt": "<script>alert(1)</script>", "problem": "<b>no</b>"}
    WebhookDeliveryFactory(endpoint=endpoint, status="failed", **said)
    with CaptureQueriesContext(connection) as few:
        page = root.get(address).content.decode()
    assert "&lt;script&gt;alert(1)" in page
    assert "<script>alert" not in page
    assert "<b>no</b>" not in page
    WebhookDeliveryFactory.create_batch(30, endpoint=endpoint, status="dead", **said)
    with CaptureQueriesContext(connection) as many:
        longer = root.get(address)

    assert len(many) == len(few)
    older = root.get(longer.context["page"].next_url).context["page"]
    assert (len(longer.context["page"].items), len(older.items)) == (25, 6)


def test_address_is_checked_again_when_it_is_enabled(root: Client, settings: Settings) -> None:
    endpoint = WebhookEndpointFactory(url=URL, status="disabled")
    settings.EKLAVYA_WEBHOOK_HOSTS = ""
    told = root.post(reverse("webhook_enable", args=[endpoint.pk]), follow=True)

    assert "Give the name of the receiver" in str(next(iter(told.context["messages"])))
    assert WebhookEndpoint.objects.get().status == "disabled"


def test_there_is_an_end_to_how_many(root: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(actions, "MOST_ENDPOINTS", 1)
    WebhookEndpointFactory()

    assert "There are 1 webhooks already" in root.post(reverse("webhooks"), {"url": URL}).content.decode()


def test_rotated_keys_open_secrets_of_webhooks(settings: Settings) -> None:
    endpoint, secret = actions.add_webhook(actions.NewWebhook(URL), by=TESTER, now=NOW)
    newer = actions.rotate_secret(endpoint, by=TESTER, now=NOW)
    settings.EKLAVYA_SECRET_KEYS = ["another-key-" * 4, *settings.EKLAVYA_SECRET_KEYS]
    call_command("rotate_secrets")
    settings.EKLAVYA_SECRET_KEYS = settings.EKLAVYA_SECRET_KEYS[:1]

    endpoint.refresh_from_db()
    opened = [sealing.unseal(one, whose=endpoint.whose) for one in (endpoint.secret, endpoint.old_secret)]
    assert opened == [newer, secret]


# -- programs


def test_program_adds_changes_tests_and_removes_a_webhook() -> None:
    writer = program("webhooks:read", "webhooks:write")
    made = post(writer, data={"url": URL, "events": ["demo:ready"]})
    assert made.status_code == 201
    assert made["Cache-Control"] == "no-store"
    body = made.json()
    assert SECRET.fullmatch(body.pop("secret"))
    assert body["status"] == "active"
    one = f"{body['id']}/"
    changed = writer.patch(API + one, {"events": [], "description": "Ours"}, content_type="application/json").json()
    assert (changed["events"], changed["description"], changed["url"]) == ([], "Ours", URL)
    assert SECRET.fullmatch(post(writer, f"{one}rotate/").json()["secret"])
    delivery = post(writer, f"{one}test/").json()
    assert (delivery["status"], delivery["event_type"]) == ("pending", "webhook:test")
    assert writer.get(f"{API}{one}deliveries/").json()["results"] == [delivery]
    assert post(writer, f"{one}deliveries/{delivery['id']}/redeliver/").status_code == 409
    assert post(writer, f"{one}disable/").json()["status"] == "disabled"
    assert post(writer, f"{one}disable/").status_code == 409
    again = post(writer, f"{one}deliveries/{delivery['id']}/redeliver/")
    assert again.json()["error"]["message"] == "The webhook is disabled: enable it first."
    assert post(writer, f"{one}enable/").json()["status"] == "active"
    assert post(writer, f"{one}deliveries/{delivery['id']}/redeliver/").json()["status"] == "pending"
    assert writer.delete(API + one).status_code == 204
    assert writer.get(API).json()["results"] == []


@pytest.mark.parametrize(
    ("data", "status", "why"),
    [
        ({"url": "https://169.254.169.254/latest"}, 422, "Give the name of the receiver"),
        ({"url": "https://localhost/"}, 422, "not public"),
        ({"url": URL, "events": ["no:such"]}, 400, "not a valid choice"),
        ({"url": URL, "events": "demo:ready"}, 400, "list"),
        ({"url": URL, "project_id": "0199f3a2-0000-7000-8000-000000000000"}, 400, "no such project"),
        ({}, 400, "required"),
    ],
)
def test_program_is_told_what_is_wrong(data: dict[str, Any], status: int, why: str) -> None:
    answer = post(program("webhooks:write"), data=data)

    assert answer.status_code == status
    assert why in answer.content.decode()
    assert not WebhookEndpoint.objects.exists()


def test_key_of_a_project_sees_and_makes_webhooks_of_it_alone() -> None:
    project, other = ProjectFactory(), WebhookEndpointFactory()
    writer = program("webhooks:read", "webhooks:write", project_id=project.pk)
    own = WebhookEndpointFactory(project=project)

    assert [row["id"] for row in writer.get(API).json()["results"]] == [str(own.pk)]
    assert writer.get(f"{API}{other.pk}/").status_code == 404
    assert writer.get(f"{API}{other.pk}/deliveries/").status_code == 404
    for data in ({"url": URL}, {"url": URL, "project_id": str(ProjectFactory().pk)}):
        assert post(writer, data=data).status_code == 403
    assert post(writer, data={"url": URL, "project_id": str(project.pk)}).status_code == 201


def test_delivery_of_another_webhook_is_not_found_under_this_one() -> None:
    writer = program("webhooks:write")
    delivery, other = WebhookDeliveryFactory(status="dead"), WebhookEndpointFactory()

    assert post(writer, f"{other.pk}/deliveries/{delivery.pk}/redeliver/").status_code == 404


def test_long_list_of_deliveries_goes_on_by_key() -> None:
    reader = program("webhooks:read")
    endpoint = WebhookEndpointFactory()
    WebhookDeliveryFactory.create_batch(5, endpoint=endpoint, created_at=NOW - timedelta(hours=1))
    first = reader.get(f"{API}{endpoint.pk}/deliveries/", {"page_size": 3}).json()
    second = reader.get(first["next"]).json()

    assert len({row["id"] for row in first["results"] + second["results"]}) == 5
    assert second["next"] is None
