"""Saving workflows in versions, and starting them: once by a key, within limits, and in the audit log."""

from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from django.db import DatabaseError, transaction

from projects.actions.redoing import retry_from
from projects.actions.workflows import (
    InvalidExecution,
    Start,
    audit_executions,
    cancel_execution,
    forget_old,
    pause_execution,
    resume_execution,
    save_workflow,
    start_execution,
    start_executions,
)
from projects.errors import IllegalTransition
from projects.models import AuditLog, Execution, ExecutionLog, ExecutionNode, Project, Workflow
from projects.workflows.definition import Definition, InvalidWorkflow
from projects.workflows.documents import Document
from tests.factories import NOW, TESTER, ExecutionFactory, ProjectFactory

pytestmark = pytest.mark.django_db


def document(**fields: Any) -> Document:
    definition = Definition.from_json({"nodes": [{"key": "only", "function": "noop", "priority": fields.pop("p", 0)}]})
    return Document(**{"key": "trial", "name": "Trial", "description": "", "definition": definition} | fields)


def save(**fields: Any) -> Workflow:
    return save_workflow(document(**fields), by=TESTER, now=NOW)


def recorded() -> list[str]:
    return list(AuditLog.objects.order_by("chain", "seq").values_list("action", flat=True))


def test_a_change_makes_the_next_version_and_no_change_makes_none() -> None:
    first, same, second, other = save(), save(), save(p=1), save(key="other")
    assert (first.pk, first.version, second.version, other.version) == (same.pk, 1, 2, 1)
    assert recorded() == ["workflow.saved"] * 3


def test_a_version_never_changes() -> None:
    saved = save()
    for change in ({"definition": {}}, {"name": "Another"}, {"version": 9}):
        with pytest.raises(DatabaseError, match="Cannot update"), transaction.atomic():
            Workflow.objects.filter(pk=saved.pk).update(**change)


@pytest.mark.parametrize("fields", [{"key": "Not a key"}, {"key": ""}, {"name": " "}, {"description": "x" * 20_001}])
def test_workflow_without_a_proper_key_or_name_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(InvalidWorkflow):
        save(**fields)


def test_execution_is_started_once_by_its_key() -> None:
    workflow = save()
    first = start_execution(workflow, Start("nightly", {"n": 1}), by=TESTER, now=NOW)
    again = start_executions(workflow, [Start("nightly", {"n": 2}), Start("weekly"), Start()], by=TESTER, now=NOW)
    assert again[0] == first.pk
    assert Execution.objects.count() == ExecutionNode.objects.count() == 3
    assert Execution.objects.get(key="nightly").input == {"n": 1}


def test_key_of_another_workflow_or_project_is_refused() -> None:
    start_execution(save(), Start("nightly"), by=TESTER, now=NOW)
    for workflow, project in ((save(key="other"), None), (save(), ProjectFactory())):
        with pytest.raises(InvalidExecution, match="belongs to an execution of another workflow or project"):
            start_execution(workflow, Start("nightly"), project=project, by=TESTER, now=NOW)


@pytest.mark.parametrize(
    "starts",
    [[Start("a"), Start("a")], [Start("")], [Start("k" * 201)], [Start(input={"x": "y" * 300_000})]],
    ids=["twice", "empty", "long", "large"],
)
def test_what_cannot_be_started_is_refused_before_anything_is_written(starts: list[Start]) -> None:
    with pytest.raises(InvalidExecution):
        start_executions(save(), starts, by=TESTER, now=NOW)
    assert not Execution.objects.exists()


def test_workflow_with_nodes_of_a_role_is_not_started_without_a_project() -> None:
    mixed = Definition.from_json(
        {"nodes": [{"key": "a", "function": "noop"}, {"key": "b", "role": "qa", "title": "B"}]}
    )
    with pytest.raises(InvalidExecution, match="say in which project"):
        start_execution(save(definition=mixed), Start(), by=TESTER, now=NOW)
    assert not Execution.objects.exists()


def test_started_execution_goes_with_its_transaction() -> None:
    workflow = save()
    with transaction.atomic():
        start_execution(workflow, Start(), by=TESTER, now=NOW)
        transaction.set_rollback(True)
    assert not Execution.objects.exists()
    assert not ExecutionNode.objects.exists()


def test_audit_log_says_once_what_was_started_and_how_it_ended() -> None:
    project = ProjectFactory()
    execution = start_execution(save(), Start(), project=project, by=TESTER, now=NOW)
    assert audit_executions(now=NOW) == 1
    assert audit_executions(now=NOW) == 0
    pause_execution(execution, by=TESTER, now=NOW)
    resume_execution(execution, by=TESTER, now=NOW)
    cancel_execution(execution, reason="Enough.", by=TESTER, now=NOW)
    ExecutionFactory(status="failed", workflow=execution.workflow, detail="Node “x” failed: why")
    assert audit_executions(now=NOW) == 1
    of_project = AuditLog.objects.filter(chain=str(project.pk)).order_by("seq")
    said = ["execution.started", "execution.paused", "execution.running", "execution.cancelled"]
    assert list(of_project.values_list("action", flat=True)) == said
    account = AuditLog.objects.filter(chain="account", action__startswith="execution").order_by("seq")
    assert [row.action for row in account] == ["execution.started", "execution.failed"]
    assert account[1].details["detail"] == "Node “x” failed: why"


@pytest.mark.parametrize(
    ("verb", "said"), [(pause_execution, "paused"), (partial(cancel_execution, reason="Enough."), "cancelled")]
)
def test_start_is_recorded_also_when_a_person_is_quicker_than_the_sweep(verb: Any, said: str) -> None:
    execution = start_execution(save(), Start(), by=TESTER, now=NOW)
    verb(execution, by=TESTER, now=NOW)
    assert audit_executions(now=NOW) == 0
    assert recorded()[1:] == ["execution.started", f"execution.{said}"]


@pytest.mark.parametrize("verb", [pause_execution, resume_execution])
def test_ended_execution_is_neither_paused_nor_resumed(verb: Any) -> None:
    with pytest.raises(IllegalTransition):
        verb(ExecutionFactory(status="completed"), by=TESTER, now=NOW)


def test_executions_are_forgotten_ninety_days_after_their_end_and_no_others() -> None:
    old, young, unaudited, at_work = (start_execution(save(), Start(), by=TESTER, now=NOW) for _ in range(4))
    for one in (old, young, unaudited):
        cancel_execution(one, reason="", by=TESTER, now=NOW)
        ExecutionLog.objects.create(execution_id=one.pk, event="late", at=NOW)
    ended = {old: 91, young: 89, unaudited: 91}
    for one, days in ended.items():
        Execution.objects.filter(pk=one.pk).update(finished_at=NOW - timedelta(days=days))
    Execution.objects.filter(pk=unaudited.pk).update(audited_status="")

    assert forget_old(now=NOW) == 1
    assert forget_old(now=NOW) == 0

    assert set(Execution.objects.values_list("pk", flat=True)) == {young.pk, unaudited.pk, at_work.pk}
    assert set(ExecutionLog.objects.values_list("execution_id", flat=True)) == {young.pk, unaudited.pk}
    assert not ExecutionNode.objects.filter(execution=old.pk).exists()
    assert AuditLog.objects.get(action="execution.forgotten").details["count"] == 1


def test_log_of_an_execution_that_is_there_is_never_deleted() -> None:
    execution = start_execution(save(), Start(), by=TESTER, now=NOW)
    line = ExecutionLog.objects.create(execution_id=execution.pk, event="late", at=NOW)
    for change in (line.delete, lambda: ExecutionLog.objects.update(event="x")):
        with pytest.raises(DatabaseError, match="never changed or deleted"), transaction.atomic():
            change()


def test_nothing_is_started_or_done_anew_in_a_project_that_was_given_up() -> None:
    """Functions neither."""
    project = ProjectFactory()
    workflow = save()
    execution = start_execution(workflow, Start(), project=project, by=TESTER, now=NOW)
    cancel_execution(execution, reason="", by=TESTER, now=NOW)
    Project.objects.filter(pk=project.pk).update(status="cancelled")
    project.refresh_from_db()

    for verb in (
        lambda: start_execution(workflow, Start(), project=project, by=TESTER, now=NOW),
        lambda: retry_from(execution, "only", by=TESTER, now=NOW),
    ):
        with pytest.raises(InvalidExecution, match=f"{project.name} is cancelled: nothing is carried out in it"):
            verb()
    assert Execution.objects.count() == 1
