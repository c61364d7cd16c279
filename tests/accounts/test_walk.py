"""Every address of the portal, every WebSocket and every admin page, asked by everybody who could ask.

`ROWS` says who gets in where. An address that is not in it fails the first test: whoever adds one decides who gets in.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

import pytest
from asgiref.sync import sync_to_async
from asgiref.testing import ApplicationCommunicator
from channels.routing import URLRouter
from django.conf import settings
from django.contrib import admin
from django.db import connections, transaction
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver, reverse
from django.utils import timezone

from accounts.models import ApiKey
from accounts.roles import AccountRole
from accounts.scopes import Scope
from agents.remote.consumers import NO_SUCH_WORKER
from agents.sandboxes import repository
from agents.views.files import clone_url
from eklavya import consumers
from eklavya.routing import websocket_urlpatterns
from eklavya.sockets import SessionOrKey
from projects.actions.workflows import Start, save_workflow, start_execution
from projects.models import AuditLog, Project
from projects.workflows.definition import Definition
from projects.workflows.documents import Document
from tests.accounts.making import bearer, key_of, person
from tests.factories import (
    TESTER,
    ApprovalFactory,
    BudgetFactory,
    DemoFactory,
    RunFactory,
    UserFactory,
    WebhookDeliveryFactory,
    WorkerFactory,
)

pytestmark = pytest.mark.django_db

ANYBODY = ["anonymous", "expired", "revoked"]
PEOPLE = [role.value for role in AccountRole]
SCOPES = [scope.value for scope in Scope]
VISITORS = [*ANYBODY, *PEOPLE, *SCOPES]
IN, LOGIN, NO_KEY, REFUSED = "in", "to sign-in", "401", "403"


@dataclass(frozen=True)
class Row:
    """Who gets in: whoever is not named gets `otherwise`. `ok` are the answers that count as being in."""

    insiders: tuple[str, ...]
    otherwise: str
    method: str = "get"
    ok: tuple[int, ...] = (200,)
    data: dict[str, Any] = field(default_factory=dict)
    exceptions: dict[str, str] = field(default_factory=dict)
    as_json: bool = False

    def expected(self, visitor: str) -> str:
        return self.exceptions.get(visitor) or (IN if visitor in self.insiders else self.otherwise)


DONE = (200, 201, 202, 204, 302, 400, 409, 422)
V, O, A = PEOPLE  # noqa: E741  # viewer, operator, admin


def page(**about: Any) -> Row:
    """For everybody with an account. Keys open no pages."""
    return Row((V, O, A), LOGIN, **about)


def act(by: str = O, **about: Any) -> Row:
    """A form: for operators and admins, or for admins alone."""
    insiders = (O, A) if by == O else (A,)
    return Row(insiders, LOGIN, "post", DONE, exceptions=dict.fromkeys({V, O} - set(insiders), REFUSED), **about)


def admin_page(**about: Any) -> Row:
    """For admins alone."""
    return Row((A,), LOGIN, exceptions={V: REFUSED, O: REFUSED}, **about)


def own(**about: Any) -> Row:
    """Of one's own account: there, or elsewhere first (the password once more)."""
    return page(ok=(200, 302, 404), **about)


def everybody(*ok: int, **about: Any) -> Row:
    return Row(tuple(VISITORS), "", ok=ok or (200,), **about)


def api(scope: str, method: str = "get", by: str = V, **about: Any) -> Row:
    """A program's address: for a scope, and for people from a role on."""
    people = PEOPLE[PEOPLE.index(by) :]
    refused = dict.fromkeys([*PEOPLE, *SCOPES], REFUSED)
    exceptions = {who: what for who, what in refused.items() if who not in {*people, scope}}
    ok = (200,) if method == "get" else DONE
    return Row((*people, scope), NO_KEY, method, ok, exceptions=exceptions, as_json=method != "get", **about)


def own_worker(method: str = "post") -> Row:
    """A remote worker's address: there for the key that joined as this very worker alone."""
    others = {who: REFUSED for who in SCOPES if who != "workers:join"}
    return Row((*PEOPLE, "workers:join"), NO_KEY, method, (404,), exceptions=others, as_json=method != "get")


ROWS: dict[str, Row] = {
    # signing in
    "account_login": Row(tuple(VISITORS), "", ok=(200, 302)),
    "account_logout": page(),
    "account_inactive": everybody(),
    "login_link": everybody(410),
    "mfa_login_webauthn": Row((V, O, A), LOGIN, ok=(302,)),
    "mfa_authenticate": Row((V, O, A), LOGIN, ok=(302,)),
    # one's own account
    "settings": page(ok=(302,)),
    "account_reauthenticate": own(),
    "account_change_password": own(),
    "account_set_password": own(),
    "mfa_index": own(),
    "mfa_reauthenticate": own(),
    "mfa_activate_totp": own(),
    "mfa_deactivate_totp": own(),
    "mfa_view_recovery_codes": own(),
    "mfa_generate_recovery_codes": own(),
    "mfa_download_recovery_codes": own(),
    "mfa_list_webauthn": own(),
    "mfa_add_webauthn": own(),
    "mfa_reauthenticate_webauthn": own(),
    "mfa_remove_webauthn": own(),
    "mfa_edit_webauthn": own(),
    # for machines
    "healthz": everybody(),
    "readyz": everybody(),
    "styleguide": page(ok=(200, 404)),
    # the house
    "home": page(),
    "news_read": act(),
    "projects": page(),
    "project_new": act(data={"brief": "We lend tools to neighbours."}),
    "project_new again": page(),
    "approvals": page(),
    "audit": page(),
    "agents": page(),
    "workers": page(),
    "worker_cordon": act(A),
    "worker_drain": act(A),
    "worker_uncordon": act(A),
    "worker_forget": act(A),
    "roles": page(),
    "recovery": page(),
    "recovery_switch": act(A, data={"reason": "looping", "to": "off"}),
    "recovery_caps": act(A, data={"per_task": "1"}),
    "specialisation_new": act(A),
    "squad_specialise": act(A),
    "agent_specialise": act(A),
    "run": page(),
    "task": page(),
    "budget": page(),
    "budget_limit": act(A, data={"limit": "30"}),
    # a project
    "project": page(),
    "project_board": page(),
    "project_plan": page(),
    "project_audit": page(),
    "without_answer": act(A, data={"plan": "approve"}),
    "without_answer again": page(),
    # workflows, and what is done to tasks and nodes
    "workflows": page(),
    "workflows post": act(),
    "workflow": page(),
    "project_executions": page(),
    "project_executions post": act(),
    "workflow_yaml": page(),
    "workflow_json": page(),
    "execution": page(),
    "execution_start": act(data={"workflow": "w"}),
    "execution_pause": act(),
    "execution_resume": act(),
    "execution_cancel": act(),
    "node_retry": act(),
    "node_skip": act(),
    "task_retry": act(),
    "task_skip": act(),
    "task_reassign": act(data={"role": "sre"}),
    "project_runs": page(),
    "project_files": page(),
    "project_changes": page(),
    "project_demos": page(),
    "project_money": page(),
    "project_say": act(data={"body": "Make it blue."}),
    "project_pause": act(),
    "project_resume": act(),
    "project_cancel": act(),
    "project_archive": act(),
    "project_limit": act(A, data={"limit": "30"}),
    "approval": act(data={"option": "approve"}),
    # of this demo nothing is asked
    "demo_decide": Row((O, A), LOGIN, "post", (404,), {"option": "amend"}, exceptions={V: REFUSED}),
    "demo_extend": act(data={"days": 1}),
    "demo_close": act(),
    "demo_readdress": act(),
    "demo_remark": act(data={"remark": "Larger."}),
    # secrets go in and never come out; that there is one is no secret
    "secrets": page(),
    "project_secrets": page(),
    "secret_set": act(A, data={"name": "anthropic_api_key", "value": "x" * 40}),
    "project_secret_set": act(A, data={"name": "anthropic_api_key", "value": "x" * 40}),
    "secret_remove": Row((A,), LOGIN, "post", (404,), exceptions={V: REFUSED, O: REFUSED}),
    # settings
    "people": admin_page(),
    "person_role": act(A, data={"role": "operator"}),
    "person_off": act(A),
    "person_on": act(A),
    "person_unlock": act(A),
    "api_keys": admin_page(),
    "api_key_revoke": act(A),
    "webhooks": admin_page(),
    "webhooks post": act(A, data={"url": "https://127.0.0.1/"}),
    "webhook": admin_page(),
    "webhook post": act(A, data={"url": "https://127.0.0.1/"}),
    "webhook_enable": act(A),
    "webhook_disable": act(A),
    "webhook_rotate": act(A),
    "webhook_test": act(A),
    "webhook_redeliver": act(A),
    "webhook_remove": act(A),
    # repositories: who has a clone address may read that repository
    "git_refs": everybody(),
    "git_pack": everybody(415, method="post"),
    "git_refs_by_key": Row(("repository:read",), REFUSED, exceptions=dict.fromkeys([*ANYBODY, *PEOPLE], NO_KEY)),
    "git_pack_by_key": Row(
        ("repository:read",), REFUSED, "post", (415,), exceptions=dict.fromkeys([*ANYBODY, *PEOPLE], NO_KEY)
    ),
    "project_download": Row(
        (V, O, A, "repository:read"),
        REFUSED,
        exceptions={"anonymous": LOGIN, "expired": NO_KEY, "revoked": NO_KEY},
    ),
    # programs
    "api_schema": api("projects:read"),
    "api_projects": api("projects:read"),
    "api_projects post": api("projects:write", "post", O, data={"brief": "We lend tools."}),
    "api_project": api("projects:read"),
    "api_tasks": api("projects:read"),
    "api_runs": api("projects:read"),
    "api_messages": api("projects:write", "post", O, data={"body": "Make it blue."}),
    "api_pause": api("projects:write", "post", O),
    "api_resume": api("projects:write", "post", O),
    "api_cancel": api("projects:write", "post", O),
    "api_workflows": api("projects:read"),
    "api_workflows post": api("projects:write", "post", O),
    "api_workflow": api("projects:read"),
    "api_executions": api("projects:read"),
    "api_executions post": api("projects:write", "post", O, data={"workflow": "w"}),
    "api_execution": api("projects:read"),
    "api_execution_nodes": api("projects:read"),
    "api_execution_log": api("projects:read"),
    "api_execution_pause": api("projects:write", "post", O),
    "api_execution_resume": api("projects:write", "post", O),
    "api_execution_cancel": api("projects:write", "post", O),
    "api_node_retry": api("projects:write", "post", O),
    "api_node_skip": api("projects:write", "post", O),
    "api_task_retry": api("projects:write", "post", O),
    "api_task_skip": api("projects:write", "post", O),
    "api_task_reassign": api("projects:write", "post", O, data={"role": "sre"}),
    "api_approvals": api("projects:read"),
    "api_approval": api("projects:read"),
    "api_decide": api("approvals:decide", "post", O, data={"option": "approve"}),
    "api_project_ledger": api("money:read"),
    "api_ledger": api("money:read"),
    "api_audit": api("audit:read"),
    "api_workers": api("workers:read"),
    "api_worker": api("workers:read"),
    "api_worker_cordon": api("workers:write", "post", A),
    "api_worker_drain": api("workers:write", "post", A),
    "api_worker_uncordon": api("workers:write", "post", A),
    "api_worker delete": api("workers:write", "delete", A),
    # the worker itself is whoever holds its key: for everybody else there is none
    "api_workers post": Row(
        ("workers:join",), REFUSED, "post", DONE, exceptions=dict.fromkeys(ANYBODY, NO_KEY), as_json=True
    ),
    "api_worker_heartbeat": own_worker(),
    "api_run_files": own_worker("get"),
    "api_run_result": own_worker(),
    "api_webhooks": api("webhooks:read", by=A),
    "api_webhooks post": api("webhooks:write", "post", A, data={"url": "https://127.0.0.1/"}),
    "api_webhook": api("webhooks:read", by=A),
    "api_webhook patch": api("webhooks:write", "patch", A, data={"description": "Ours."}),
    "api_webhook_enable": api("webhooks:write", "post", A),
    "api_webhook_disable": api("webhooks:write", "post", A),
    "api_webhook_rotate": api("webhooks:write", "post", A),
    "api_webhook_test": api("webhooks:write", "post", A),
    "api_webhook_deliveries": api("webhooks:read", by=A),
    "api_webhook_redeliver": api("webhooks:write", "post", A),
    "api_webhook delete": api("webhooks:write", "delete", A),
    "api_not_found": everybody(404),
    # Django's admin
    "admin:index": admin_page(),
    "admin:login": admin_page(ok=(302,)),
    "admin:password_change": admin_page(ok=(302,)),
    "admin:password_change_done": admin_page(),
    "admin:autocomplete": Row((), REFUSED, exceptions=dict.fromkeys([*ANYBODY, *SCOPES], LOGIN)),
    "admin:jsi18n": admin_page(),
    "admin:view_on_site": admin_page(ok=(404,)),
    "admin:app_list": admin_page(),
    "admin:(?P<url>.*)$": admin_page(ok=(404,)),
    # the last one: it sends everybody to sign in again
    "admin:logout": Row((), LOGIN, "post", exceptions={V: REFUSED, O: REFUSED}),
}
METHODS = ("post", "delete")
# How each of the admin's pages is asked for: what is posted there must not get further than what is asked.
ADMIN_METHODS = {"changelist": "get", "add": "get", "history": "get", "delete": "post", "change": "post"}

# Tables in Django's admin, and what an admin may do there besides looking.
SHOWN: frozenset[str] = frozenset()
ADDED, CHANGED = frozenset({"add"}), frozenset({"change"})
ADMIN: dict[str, frozenset[str]] = dict.fromkeys(
    [
        "accounts.apikey",
        "accounts.member",
        "agents.agent",
        "agents.checkpoint",
        "agents.egressrecord",
        "agents.mergeentry",
        "agents.message",
        "agents.messagecounter",
        "agents.pulse",
        "agents.recovery",
        "agents.recoverysettings",
        "agents.run",
        "agents.runevent",
        "agents.verification",
        "agents.worker",
        "auth.user",
        "billing.ledgerentry",
        "billing.reservation",
        "demos.demo",
        "demos.demofeedback",
        "django_celery_beat.intervalschedule",
        "django_celery_beat.periodictask",
        "learning.outcome",
        "mfa.authenticator",
        "projects.approval",
        "projects.auditchain",
        "projects.auditlog",
        "projects.chatmessage",
        "projects.client",
        "projects.correction",
        "projects.execution",
        "projects.executionlog",
        "projects.executionnode",
        "projects.notification",
        "projects.plan",
        "projects.requirement",
        "projects.runner",
        "projects.task",
        "projects.taskdependency",
        "projects.webhookcursor",
        "projects.webhookdelivery",
        "projects.webhookendpoint",
        "projects.workflow",
    ],
    SHOWN,
) | {
    "agents.specialisation": SHOWN,
    "billing.budget": CHANGED,
    "billing.price": ADDED,
    "learning.promptversion": ADDED,
    "projects.project": CHANGED,
    "projects.secret": ADDED,
    "projects.squad": CHANGED,
    "projects.squadmember": CHANGED,
}


def patterns(found: list[Any], prefix: str = "") -> Iterator[str]:
    for one in found:
        if isinstance(one, URLResolver):
            yield from patterns(one.url_patterns, f"{prefix}{one.namespace}:" if one.namespace else prefix)
        elif isinstance(one, URLPattern):
            yield prefix + (one.name or str(one.pattern))


def model_pages() -> dict[str, tuple[str, str]]:
    """The names of the admin's pages for tables, each with its table and what it is for."""
    return {
        f"admin:{model._meta.app_label}_{model._meta.model_name}_{verb}": (model._meta.label_lower, verb)
        for model in admin.site._registry
        for verb in ADMIN_METHODS
    }


# -- who comes


@pytest.fixture
def house() -> dict[str, Any]:
    """A project in the middle of everything."""
    run = RunFactory(status="running")
    project = run.project
    repository(project.pk).create("# Boat house\n")
    demo = DemoFactory(project=project)
    delivery = WebhookDeliveryFactory(endpoint__url="https://127.0.0.1/hook", status="delivered")
    others: dict[str, Any] = {
        "approval": ApprovalFactory(),
        "budget": BudgetFactory(),
        "delivery": delivery,
        "worker": WorkerFactory(status="offline"),
    }
    definition = Definition.from_json({"nodes": [{"key": "a", "role": "qa", "title": "Look"}], "edges": []})
    workflow = save_workflow(Document("w", "Look", "", definition), by=TESTER, now=timezone.now())
    execution = start_execution(workflow, Start(), project=project, by=TESTER, now=timezone.now())
    others["execution"] = execution
    return {"run": run, "project": project, "demo": demo, **others}


def visitors() -> dict[str, Client]:
    """Everybody, each with a browser or a key of their own. Keys are an admin's: only the scope can refuse them."""
    clients = {name: Client() for name in ["anonymous", *PEOPLE]}
    for role in AccountRole:
        clients[role.value].force_login(person(role))
    owner = UserFactory(is_superuser=True)
    now = timezone.now()
    for scope in SCOPES:
        clients[scope] = Client(headers=bearer(key_of(owner, scope, now=now)[1]))
    for end in ("expired", "revoked"):
        key, text = key_of(owner, *SCOPES, now=now)
        over = {"revoked_at": now} if end == "revoked" else {"expires_at": now, "created_at": now - timedelta(days=1)}
        ApiKey.objects.filter(pk=key.pk).update(**over)
        clients[end] = Client(headers=bearer(text))
    return clients


def address_of(name: str, house: dict[str, Any]) -> str:
    """The address of a row, with real things in it."""
    name = name.split()[0]
    project = house["project"]
    if name == "login_link":
        return reverse(name, args=["x"])
    if name in {"git_refs", "git_pack"}:
        path = urlsplit(clone_url(project)).path
        return f"{path}/info/refs?service=git-upload-pack" if name == "git_refs" else f"{path}/git-upload-pack"
    if name == "git_refs_by_key":
        return f"/git/{project.pk}.git/info/refs?service=git-upload-pack"
    if name == "admin:(?P<url>.*)$":
        return "/admin/nothing/here"
    arguments: dict[str, Any] = {
        "project_id": project.pk,
        "run_id": house["run"].pk,
        "execution_id": house["execution"].pk,
        "workflow_id": house["execution"].workflow_id,
        "node": "a",
        "workflow": "w",
        "key": house["execution"].workflow.key,
        "task_id": house["run"].task_id,
        "approval_id": house["approval"].pk,
        "secret_id": house["run"].pk,
        "number": house["demo"].demo_number,
        "user_id": house["user_id"],
        "key_id": house["key_id"],
        "budget_id": house["budget"].pk,
        "worker_id": house["worker"].pk,
        "webhook_id": house["delivery"].endpoint_id,
        "delivery_id": house["delivery"].pk,
        "pk": 0,
        "rest": "nothing",
        "app_label": "projects",
        "content_type_id": 0,
        "object_id": 0,
    }
    return reverse(name, kwargs={wanted: arguments[wanted] for wanted in wanted_by(name)})


def wanted_by(name: str) -> list[str]:
    """The names in an address."""
    space, _, bare = name.rpartition(":")
    resolver: Any = get_resolver()
    resolver = resolver.namespace_dict[space][1] if space else resolver
    found = resolver.reverse_dict.getlist(bare)
    assert found, name
    (possibility, *_), *_ = found
    return list(possibility[0][1])


def verdict(answer: Any, row: Row) -> str:
    """What happened: in, sent to sign in, refused; or the status, where it is none of these."""
    if answer.status_code == 302 and urlsplit(answer["Location"]).path in {"/login/", "/admin/login/"}:
        return LOGIN
    if answer.status_code in {401, 403}:
        return str(answer.status_code)
    return IN if answer.status_code in row.ok else f"unexpected {answer.status_code}"


def ask(client: Client, row: Row, address: str) -> Any:
    """Ask, and take back what it did."""
    with transaction.atomic():
        kind = {"content_type": "application/json"} if row.as_json else {}
        answer = getattr(client, row.method)(address, row.data, **kind)
        transaction.set_rollback(True)
    return answer


# -- the walk


def test_every_address_has_a_row() -> None:
    real = set(patterns(get_resolver().url_patterns)) - model_pages().keys() - {"<path:object_id>/"}
    real.discard("admin:<path:object_id>/")  # an old form of a row's page, which redirects to it

    assert real - {name.split()[0] for name in ROWS} == set(), "say in ROWS who gets in"
    assert {name.split()[0] for name in ROWS} - real == set(), "ROWS has what is gone"


def test_every_table_in_the_admin_has_a_row() -> None:
    assert {model._meta.label_lower for model in admin.site._registry} == ADMIN.keys()


@pytest.mark.parametrize("visitor", VISITORS)
def test_everybody_gets_in_where_the_table_says(visitor: str, house: dict[str, Any]) -> None:
    client = visitors()[visitor]
    house |= {"user_id": UserFactory().pk, "key_id": ApiKey.objects.latest("pk").pk}
    wrong = []
    for name, row in ROWS.items():
        found = verdict(ask(client, row, address_of(name, house)), row)
        if found != row.expected(visitor):
            wrong.append(f"{name}: {found}, not {row.expected(visitor)}")

    assert wrong == []


@pytest.mark.parametrize("visitor", ["anonymous", *PEOPLE, "projects:write"])
def test_pages_of_the_admin_are_for_admins(visitor: str) -> None:
    client = visitors()[visitor]
    others = LOGIN if visitor not in PEOPLE else REFUSED
    wrong = []
    for name, (table, verb) in model_pages().items():
        address = reverse(name, args=[0] if verb in {"history", "delete", "change"} else [])
        looks = verb in {"changelist", "history"} or verb in ADMIN[table]
        expected = others if visitor != A else (IN if looks else REFUSED)
        row = Row((), "", ADMIN_METHODS[verb], ok=(200, 302))
        found = verdict(ask(client, row, address), row)
        if found != expected:
            wrong.append(f"{name}: {found}, not {expected}")

    assert wrong == []


@pytest.mark.parametrize("visitor", ["anonymous", "viewer", "projects:read"])
def test_who_may_only_look_changes_nothing_anywhere(visitor: str, house: dict[str, Any]) -> None:
    client = visitors()[visitor]
    house |= {"user_id": UserFactory().pk, "key_id": ApiKey.objects.latest("pk").pk}
    before = AuditLog.objects.count(), list(Project.objects.values())
    leaving = {"account_logout", "admin:logout"}
    for name in ROWS.keys() - leaving:
        for method in (*METHODS, *(("put", "patch") if name.startswith("api_") else ())):
            data = {**ROWS[name].data, "option": "approve"}
            answer = getattr(client, method)(address_of(name, house), data, content_type="application/json")
            assert answer.status_code < 500, (method, name)

    rows = AuditLog.objects.exclude(action__startswith="account.").exclude(action="request.refused")
    assert (rows.count(), list(Project.objects.values())) == before


# -- sockets

OF_WORKERS = "api/v1/ws/worker/<uuid:worker_id>"
SOCKETS = {"ws/events/", "ws/projects/<uuid:project_id>/", OF_WORKERS}


def test_every_socket_is_walked() -> None:
    assert {str(pattern.pattern) for pattern in websocket_urlpatterns} == SOCKETS


@sync_to_async
def doors() -> tuple[str, dict[str, list[tuple[bytes, bytes]]]]:
    """A project's id, and the headers with which each visitor opens a socket."""
    origin = (b"origin", b"http://localhost")
    headers = {}
    for name, client in visitors().items():
        if authorization := client.defaults.get("HTTP_AUTHORIZATION"):
            headers[name] = [(b"authorization", authorization.encode())]
        elif cookie := client.cookies.get(settings.SESSION_COOKIE_NAME):
            headers[name] = [origin, (b"cookie", f"{settings.SESSION_COOKIE_NAME}={cookie.value}".encode())]
        else:
            headers[name] = [origin]
    return str(RunFactory().project_id), headers


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("route", sorted(SOCKETS))
async def test_sockets_are_for_people_and_for_keys_that_may_look(route: str) -> None:
    project_id, headers = await doors()
    path = "/" + route.replace("<uuid:project_id>", project_id).replace("<uuid:worker_id>", project_id)
    found = {}
    for visitor in VISITORS:
        scope = {"type": "websocket", "path": path, "headers": headers[visitor], "subprotocols": []}
        socket = ApplicationCommunicator(SessionOrKey(URLRouter(websocket_urlpatterns)), scope)
        await socket.send_input({"type": "websocket.connect"})
        await socket.receive_output(60)
        found[visitor] = (await socket.receive_output(60)).get("code", IN)
        await socket.send_input({"type": "websocket.disconnect", "code": 1000})
        await socket.wait(60)
    await sync_to_async(connections.close_all)()

    inside = {"workers:join": NO_SUCH_WORKER} if route == OF_WORKERS else dict.fromkeys([*PEOPLE, "projects:read"], IN)
    assert found == {who: inside.get(who, consumers.NOT_SIGNED_IN) for who in VISITORS}
