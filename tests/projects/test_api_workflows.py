"""Workflows for programs: out as JSON or YAML, and in as the next version or refused in words."""

import json
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from accounts.roles import AccountRole
from projects.actions.workflows import load_shipped
from projects.models import AuditLog, Workflow
from projects.workflows.documents import as_json, as_yaml, read
from tests.accounts.making import person
from tests.accounts.test_api import V1, Program, said
from tests.factories import NOW, TESTER, ProjectFactory
from tests.projects.workflows.test_documents import TEXT

pytestmark = pytest.mark.django_db
JSON, YAML = "application/json", "application/yaml"


@pytest.fixture
def writer() -> Program:
    return Program(person(AccountRole.OPERATOR, "asha"), "projects:read", "projects:write")


def send(program: Program, body: str | bytes, kind: str = YAML) -> Any:
    return program.client.generic("POST", f"{V1}/workflows/", body, content_type=kind)


def get(program: Program, key: str, accept: str = "*/*", **query: Any) -> Any:
    return program.client.get(f"{V1}/workflows/{key}/", query, headers={"accept": accept})


@pytest.mark.parametrize(("kind", "write"), [(JSON, as_json), (YAML, as_yaml)])
def test_workflow_goes_out_as_it_came_in(writer: Program, kind: str, write: Any) -> None:
    made = send(writer, write(read(TEXT)), kind)
    same = send(writer, write(read(TEXT)), kind)
    newer = send(writer, TEXT.replace("Second look", "Another look"))

    assert [(one.status_code, one.json()["key"], one.json()["version"]) for one in (made, same, newer)] == [
        (201, "review", 1),
        (201, "review", 1),
        (201, "review", 2),
    ]
    old = get(writer, "review", kind, version=1)
    assert (old.status_code, old["Content-Type"], old.content.decode()) == (200, kind, write(read(TEXT)))
    assert read(get(writer, "review", kind).content.decode()).definition.nodes[1].title == "Another look"
    assert {row.actor_name.split()[0] for row in AuditLog.objects.filter(action="workflow.saved")} == {"asha"}


def test_json_is_given_to_whoever_asks_for_nothing(writer: Program) -> None:
    load_shipped(by=TESTER, now=NOW)
    answer = get(writer, "bug_fix")
    assert (answer["Content-Type"], answer.json()["key"]) == (JSON, "bug_fix")
    assert get(writer, "bug_fix", "text/html").status_code == 406


@pytest.mark.parametrize("accept", [JSON, YAML])
@pytest.mark.parametrize(
    ("key", "query", "status"),
    [
        ("none", {}, 404),
        ("testing", {"version": 9}, 404),
        ("testing", {"version": 0}, 400),
        ("testing", {"version": 2**31}, 400),
        ("testing", {"version": "x\x00"}, 400),
    ],
)
def test_version_that_is_not_there_is_refused(
    writer: Program, accept: str, key: str, query: dict[str, Any], status: int
) -> None:
    load_shipped(by=TESTER, now=NOW)
    answer = get(writer, key, accept, **query)
    assert answer.status_code == status
    assert json.loads(answer.content)["error"]["message"]


@pytest.mark.parametrize(
    ("body", "kind", "problem"),
    [
        ("", YAML, "no object"),
        ("{}", JSON, "must be lists"),
        ("a: [1", YAML, "neither JSON nor YAML"),
        ("a: &a [1]\nnodes: [*a, *a, *a]\n", YAML, "Aliases"),
        ("[" * 200_000, JSON, "nests too deep"),
        (b"\xff\xfe", YAML, "UTF-8"),
        (b" " * (8 * 2**20 + 1), JSON, "over 8 MB"),
        ("key: x\nname: X\nnodes:\n- {key: a, role: wizard, title: A}\n", YAML, "unknown role “wizard”"),
        ("key: X Y\nname: X\nnodes:\n- {key: a, function: noop}\n", YAML, "needs a key"),
    ],
)
def test_what_is_no_workflow_is_refused_in_words_and_recorded(
    writer: Program, body: str | bytes, kind: str, problem: str
) -> None:
    answer = send(writer, body, kind)
    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "invalid")
    assert problem in said(answer)
    (refused,) = AuditLog.objects.filter(action="workflow.refused")
    assert refused.actor_name.startswith("asha (key ")
    assert problem in refused.details["problems"][0]
    assert not Workflow.objects.exists()


def test_only_json_and_yaml_are_taken(writer: Program) -> None:
    assert send(writer, TEXT, "text/plain").status_code == 415


def test_key_of_one_project_stores_none_and_a_viewer_neither() -> None:
    load_shipped(by=TESTER, now=NOW)
    of_one = Program(person(AccountRole.ADMIN), "projects:read", "projects:write", project_id=ProjectFactory().pk)
    viewer = Program(person(AccountRole.VIEWER), "projects:read", "projects:write")
    before = Workflow.objects.count()
    for program in (of_one, viewer):
        assert get(program, "bug_fix").status_code == 200
        assert send(program, TEXT).status_code == 403
    assert Workflow.objects.count() == before


def test_larger_workflow_with_more_versions_costs_no_more_queries(writer: Program) -> None:
    assert get(writer, "none").status_code == 404  # that the key was used is written once a minute
    counts = []
    for many in (1, 50):
        nodes = "".join(f"- {{key: n{number}, function: noop}}\n" for number in range(many))
        with CaptureQueriesContext(connection) as queries:
            assert send(writer, f"key: many\nname: Many\nnodes:\n{nodes}").status_code == 201
            assert get(writer, "many").status_code == 200
        counts.append(len(queries))
    assert counts[0] == counts[1]
