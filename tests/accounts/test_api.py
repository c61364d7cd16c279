"""The API: what programs see and do, who is refused, and how every error looks."""

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone

from accounts import actions
from accounts.roles import AccountRole
from accounts.scopes import Scope
from projects.ids import new_id
from projects.models import Approval, AuditLog, ChatMessage, Project
from projects.states import ApprovalKind
from tests.accounts.making import bearer, key_of, person
from tests.factories import (
    ApprovalFactory,
    AuditLogFactory,
    LedgerEntryFactory,
    ProjectFactory,
    RunFactory,
    TaskFactory,
)

pytestmark = pytest.mark.django_db
VIEWER, OPERATOR, ADMIN = AccountRole
V1 = "/api/v1"
BRIEF = "We lend tools to our neighbours and want to know who has which one."


class Program:
    """A client with a key."""

    def __init__(self, owner: User, *scopes: str, **about: Any) -> None:
        self.key, text = key_of(owner, *scopes, now=timezone.now(), **about)
        self.client = Client(headers=bearer(text))

    def get(self, path: str, **query: Any) -> Any:
        return self.client.get(V1 + path, query)

    def post(self, path: str, data: Any = None) -> Any:
        return self.client.post(V1 + path, data or {}, content_type="application/json")


@pytest.fixture
def admin() -> User:
    return person(ADMIN, "root")


@pytest.fixture
def reader(admin: User) -> Program:
    return Program(admin, "projects:read", "money:read", "audit:read")


@pytest.fixture
def writer(admin: User) -> Program:
    return Program(person(OPERATOR, "asha"), "projects:read", "projects:write", "approvals:decide")


def said(answer: Any) -> str:
    error = answer.json()["error"]
    assert error.keys() <= {"code", "message", "fields"}
    return str(error["message"])


# -- reading


def test_projects_come_newest_first_in_pages_that_new_rows_do_not_shift(reader: Program) -> None:
    made = [ProjectFactory() for _ in range(5)]

    first = reader.get("/projects/", page_size=2).json()
    ProjectFactory()
    second = reader.client.get(first["next"]).json()

    assert [row["id"] for row in first["results"]] == [str(made[4].pk), str(made[3].pk)]
    assert [row["id"] for row in second["results"]] == [str(made[2].pk), str(made[1].pk)]


def test_project_tasks_and_runs_are_shown(reader: Program) -> None:
    run = RunFactory(status="running")
    path = f"/projects/{run.project_id}/"

    assert reader.get(path).json()["description"] == run.project.description
    assert [row["id"] for row in reader.get(f"{path}tasks/").json()["results"]] == [str(run.task_id)]
    (row,) = reader.get(f"{path}runs/").json()["results"]
    assert (row["id"], row["status"]) == (str(run.pk), "running")
    assert run.token_hash not in str(row)


def test_approvals_are_shown_and_filtered(reader: Program) -> None:
    waits, _ = ApprovalFactory(), ApprovalFactory(status="rejected")

    assert len(reader.get("/approvals/").json()["results"]) == 2
    assert [row["id"] for row in reader.get("/approvals/", open="true").json()["results"]] == [str(waits.pk)]
    assert reader.get(f"/approvals/{waits.pk}/").json()["recommended"] == "approve"


def test_totals_count_what_was_settled_and_adjusted(reader: Program) -> None:
    project = ProjectFactory()
    for kind, amount in (("reserve", "9"), ("settle", "1.5"), ("adjust", "-0.25"), ("release", "7.5")):
        LedgerEntryFactory(kind=kind, amount=Decimal(amount), project_id=project.pk)
    LedgerEntryFactory(amount=Decimal(2))

    one, all_ = reader.get(f"/projects/{project.pk}/ledger/").json(), reader.get("/ledger/").json()

    assert (one["spent"], all_["spent"]) == ("1.250000", "3.250000")
    assert one["by_kind"]["reserve"] == "9.000000"
    assert one["input_tokens"] == 2_000


def test_audit_log_is_read_in_pages_and_by_chain(reader: Program) -> None:
    project = ProjectFactory()
    rows = [AuditLogFactory(project_id=project.pk) for _ in range(3)]

    page = reader.get("/audit/", chain=str(project.pk), page_size=2).json()

    assert [row["hash"] for row in page["results"]] == [rows[2].hash, rows[1].hash]
    assert len(reader.client.get(page["next"]).json()["results"]) == 1
    assert reader.get("/audit/", action="api_key.created").json()["results"][0]["details"]["owner"] == "root"


@pytest.mark.parametrize("query", [{"cursor": "x"}, {"cursor": "bz1h"}, {"page_size": "x"}, {"chain": "\x00"}])
def test_odd_questions_are_no_server_error(reader: Program, query: dict[str, str]) -> None:
    assert reader.get("/audit/", **query).status_code in {200, 404}


# -- writing


def test_program_starts_a_project_in_its_owners_name(writer: Program) -> None:
    answer = writer.post("/projects/", {"brief": BRIEF, "name": "Lendery", "budget_limit": "20"})

    project = Project.objects.get()
    assert (answer.status_code, answer.json()["id"]) == (201, str(project.pk))
    assert (project.name, project.budget_limit, project.created_by.username) == ("Lendery", 20, "asha")
    row = AuditLog.objects.get(action="project.created")
    assert row.actor_name == f"asha (key {writer.key.prefix})"


def test_program_writes_to_the_squad(writer: Program) -> None:
    project = ProjectFactory()

    answer = writer.post(f"/projects/{project.pk}/messages/", {"body": "Make it blue."})

    assert answer.status_code == 201
    assert ChatMessage.objects.get(project=project).body == "Make it blue."


def test_program_steers_a_project(writer: Program) -> None:
    project = ProjectFactory(status="building")
    path = f"/projects/{project.pk}"

    assert writer.post(f"{path}/pause/", {"reason": "Holiday"}).json()["status_reason"] == "Holiday"
    assert said(writer.post(f"{path}/pause/")) == f"Nothing to pause: {project.name} is paused."
    assert writer.post(f"{path}/resume/").json()["status"] == "building"
    assert writer.post(f"{path}/cancel/").json()["status"] == "cancelled"


def test_program_decides(writer: Program) -> None:
    asked = ApprovalFactory()
    path = f"/approvals/{asked.pk}/decide/"

    without = writer.post(path, {"option": "amend"})
    answer = writer.post(path, {"option": "amend", "comment": "Smaller steps."})
    again = writer.post(path, {"option": "approve"})

    assert (without.status_code, without.json()["error"]["code"]) == (422, "invalid")
    assert (answer.json()["status"], answer.json()["decided_by"]) == ("amended", "asha")
    assert (again.status_code, said(again)) == (409, "asha already decided: amended.")


@pytest.mark.parametrize(
    ("path", "data", "field"),
    [
        ("/projects/", {}, "brief"),
        ("/projects/", {"brief": BRIEF, "budget_limit": "-1"}, "budget_limit"),
        ("/projects/", {"brief": BRIEF, "budget_limit": "NaN"}, "budget_limit"),
        ("/projects/", {"brief": BRIEF, "name": "x" * 256}, "name"),
        ("/projects/", {"brief": {"a": 1}}, "brief"),
    ],
)
def test_wrong_fields_are_named(writer: Program, path: str, data: Any, field: str) -> None:
    answer = writer.post(path, data)

    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid")
    assert field in answer.json()["error"]["fields"]
    assert not Project.objects.exists()


@pytest.mark.parametrize(
    ("body", "kind", "status", "code"),
    [
        ("{", "application/json", 400, "invalid"),
        ("[1]", "application/json", 400, "invalid"),
        ("brief=x", "application/x-www-form-urlencoded", 415, "wrong_content_type"),
        ('{"brief": ""}', "application/json", 400, "invalid"),
        ('{"brief": "--"}', "application/json", 422, "invalid"),
    ],
)
def test_every_error_has_one_shape(writer: Program, body: str, kind: str, status: int, code: str) -> None:
    answer = writer.client.post(f"{V1}/projects/", body, content_type=kind)

    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
    assert said(answer)


def test_missing_things_and_methods_have_that_shape_too(writer: Program) -> None:
    for answer, status in (
        (writer.get(f"/projects/{new_id()}/"), 404),
        (writer.get("/nothing/"), 404),
        (writer.client.get("/api/nothing"), 404),
        (writer.client.put(f"{V1}/projects/"), 403),
    ):
        assert answer.status_code == status
        assert said(answer)


# -- who may


@pytest.mark.parametrize(
    "header", ["Bearer x", "Bearer ", "Bearer ek_live_abcdefgh_" + "A" * 43, "Basic eDp5", "Digest x"]
)
def test_key_that_is_none_is_refused(header: str) -> None:
    answer = Client(headers={"authorization": header}).get(f"{V1}/projects/")

    assert (answer.status_code, said(answer)) == (401, "This API key is unknown.")
    assert answer["WWW-Authenticate"].startswith("Bearer")


def test_nobody_is_refused() -> None:
    assert Client().get(f"{V1}/projects/").status_code == 401
    assert Client().get("/api/schema/").status_code == 401


@pytest.mark.parametrize("end", ["revoked", "expired", "switched off"])
def test_key_that_is_over_is_refused(admin: User, end: str) -> None:
    owner = person(OPERATOR)
    program = Program(owner, "projects:read")
    match end:
        case "revoked":
            actions.revoke_key(program.key, by=admin, now=timezone.now())
        case "expired":
            type(program.key).objects.update(
                created_at=timezone.now() - timedelta(days=2), expires_at=timezone.now() - timedelta(seconds=1)
            )
        case _:
            actions.switch_off(owner, by=admin, now=timezone.now())

    answer = program.get("/projects/")

    assert answer.status_code == 401
    assert end in said(answer)


@pytest.mark.parametrize("scope", Scope)
def test_scope_opens_its_addresses_and_no_other(admin: User, scope: Scope) -> None:
    asked = ApprovalFactory()
    path = f"/projects/{asked.project_id}/"
    needs = {
        Scope.PROJECTS_READ: [("get", "/projects/"), ("get", path), ("get", f"{path}tasks/"), ("get", f"{path}runs/")],
        Scope.PROJECTS_WRITE: [("post", "/projects/"), ("post", f"{path}messages/"), ("post", f"{path}cancel/")],
        Scope.APPROVALS_DECIDE: [("post", f"/approvals/{asked.pk}/decide/")],
        Scope.MONEY_READ: [("get", "/ledger/"), ("get", f"{path}ledger/")],
        Scope.AUDIT_READ: [("get", "/audit/")],
    }
    program = Program(admin, scope)

    for needed, addresses in needs.items():
        for method, address in addresses:
            answer = getattr(program, method)(address)
            assert (answer.status_code == 403) == (needed != scope), address
            if needed != scope:
                assert said(answer) == f"This API key lacks the scope {needed.value}."


def test_key_of_a_viewer_changes_nothing() -> None:
    project = ProjectFactory(status="building")
    program = Program(person(VIEWER), *Scope.values)

    answer = program.post(f"/projects/{project.pk}/pause/")

    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "not_allowed")
    assert "this needs the role operator" in said(answer)
    assert Project.objects.get(pk=project.pk).status == "building"


def test_key_of_one_project_knows_no_other(admin: User) -> None:
    mine, other = ProjectFactory(), ProjectFactory()
    asked = [ApprovalFactory(project=project) for project in (mine, other)]
    for project in (mine, other):
        LedgerEntryFactory(project_id=project.pk, amount=Decimal(1))
        AuditLogFactory(project_id=project.pk)
        TaskFactory(project=project, kind="requirements", status="pending")
    program = Program(admin, *Scope.values, project_id=mine.pk)

    assert [row["id"] for row in program.get("/projects/").json()["results"]] == [str(mine.pk)]
    assert [row["id"] for row in program.get("/approvals/").json()["results"]] == [str(asked[0].pk)]
    assert {row["project_id"] for row in program.get("/audit/").json()["results"]} == {str(mine.pk)}
    assert program.get("/ledger/").json()["spent"] == "1.000000"
    assert program.get(f"/projects/{mine.pk}/tasks/").status_code == 200
    for part in ("", "tasks/", "runs/", "ledger/"):
        assert program.get(f"/projects/{other.pk}/{part}").status_code == 403
    assert program.post(f"/projects/{other.pk}/cancel/").status_code == 403
    assert program.post("/projects/", {"brief": BRIEF}).status_code == 403
    assert program.get(f"/approvals/{asked[1].pk}/").status_code == 404
    assert program.post(f"/approvals/{asked[1].pk}/decide/", {"option": "approve"}).status_code == 404


def test_money_needs_its_scope_besides_the_role(admin: User) -> None:
    project = ProjectFactory()
    asked = ApprovalFactory(project=project, kind=ApprovalKind.BUDGET, subject_id=project.pk)
    program = Program(admin, "projects:write", "approvals:decide")

    decided = program.post(f"/approvals/{asked.pk}/decide/", {"option": "raise", "comment": "900"})
    started = program.post("/projects/", {"brief": BRIEF, "budget_limit": "900"})

    for answer in (decided, started):
        assert (answer.status_code, said(answer)) == (403, "This API key lacks the scope money:write.")
    assert Approval.objects.get(pk=asked.pk).status == "pending"
    rich = Program(admin, "projects:write", "money:write")
    assert rich.post("/projects/", {"brief": BRIEF, "budget_limit": "900"}).status_code == 201


def test_browser_reads_by_session_and_writes_with_its_token_alone() -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(person(OPERATOR))

    assert client.get(f"{V1}/projects/").status_code == 200
    answer = client.post(f"{V1}/projects/", {"brief": BRIEF}, content_type="application/json")
    assert (answer.status_code, Project.objects.count()) == (403, 0)
    assert "CSRF" in said(answer)


def test_schema_lists_every_address(reader: Program) -> None:
    schema = reader.client.get("/api/schema/?format=json", headers={"accept": "application/vnd.oai.openapi+json"})

    assert schema.status_code == 200
    for path in ("/api/v1/projects/", "/api/v1/approvals/{approval_id}/decide/", "/api/v1/audit/"):
        assert path in schema.content.decode()
