"""manage.py verify_audit"""

import json
from io import StringIO
from threading import Thread
from uuid import UUID

import pgtrigger
import pytest
from django.core.management import CommandError, call_command
from django.db import connection

from projects.chains import check_chains
from projects.ids import new_id
from projects.models import AuditChain, AuditLog, Project
from tests.factories import AuditLogFactory, ProjectFactory

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("published")]


def run(*arguments: str) -> tuple[list[str], str]:
    """The lines of the command, and with what it failed."""
    out = StringIO()
    try:
        call_command("verify_audit", *arguments, stdout=out)
    except CommandError as error:
        return out.getvalue().splitlines(), str(error)
    return out.getvalue().splitlines(), ""


def record(*, rows: int = 3) -> UUID:
    """A project with so many rows on its chain."""
    project = ProjectFactory()
    for _ in range(rows):
        AuditLogFactory(project_id=project.pk)
    return project.pk


def tamper(sql: str) -> None:
    with pgtrigger.ignore(), connection.cursor() as cursor:
        cursor.execute(sql)


def test_whole_chains_are_said_to_be_whole() -> None:
    AuditLogFactory()
    project_id = record()
    lines, problem = run()
    assert [line.split(maxsplit=3) for line in lines] == [
        [str(project_id), "3", "rows", "whole"],
        ["account", "1", "rows", "whole"],
    ]
    assert problem == ""


def test_first_break_is_named_and_fails_the_command() -> None:
    AuditLogFactory()
    record()
    tamper("UPDATE projects_auditlog SET details = '{\"a\": 1}' WHERE seq = 2")
    lines, problem = run()
    assert lines[0].endswith("BROKEN at row 2: was changed after it was written")
    assert lines[1].endswith("whole")
    assert problem == "1 of 2 chains is broken."


def test_break_ends_with_code_one() -> None:
    record()
    tamper("DELETE FROM projects_auditlog")
    with pytest.raises(CommandError) as caught:
        call_command("verify_audit", stdout=StringIO())
    assert caught.value.returncode == 1


def test_one_projects_chain_can_be_checked_alone() -> None:
    whole, broken = record(), record()
    tamper(f"DELETE FROM projects_auditlog WHERE seq = 3 AND chain = '{broken}'")
    assert run("--project", str(whole))[1] == ""
    assert run("--project", str(broken))[1] == "1 of 1 chains is broken."


def test_json_is_one_object_per_line() -> None:
    project_id = record()
    tamper("DELETE FROM projects_auditlog WHERE seq = 1")
    AuditLogFactory()
    lines, _ = run("--json")
    assert [json.loads(line) for line in lines] == [
        {
            "chain": str(project_id),
            "rows": 1,
            "whole": False,
            "break": {"seq": 1, "problem": "row 1 is missing"},
        },
        {"chain": "account", "rows": 1, "whole": True, "break": None},
    ]


def test_nothing_recorded_is_whole() -> None:
    assert run() == ([], "")


@pytest.mark.parametrize("also_rows", [False, True])
def test_removed_chain_of_a_project_is_found(also_rows: bool) -> None:
    record()
    AuditChain.objects.all().delete()
    if also_rows:
        tamper("DELETE FROM projects_auditlog")
    lines, problem = run()
    assert lines[0].endswith("nothing was recorded" if also_rows else "its head is missing")
    assert problem == "1 of 1 chains is broken."


def test_project_that_is_not_there_has_no_record() -> None:
    lines, problem = run("--project", str(new_id()))
    assert lines[0].endswith("nothing was recorded")
    assert problem


def test_chain_of_a_deleted_project_is_still_checked() -> None:
    project_id = record()
    Project.objects.filter(pk=project_id).delete()
    assert [report.chain for report in check_chains()] == [str(project_id)]


def test_rows_written_while_a_chain_is_read_are_no_alarm(monkeypatch: pytest.MonkeyPatch) -> None:
    project_id = record(rows=5)
    original = AuditLog.from_db.__func__  # type: ignore[attr-defined]
    from_elsewhere: list[int] = []

    def slow(cls: type[AuditLog], *args: object) -> AuditLog:
        if not from_elsewhere:
            from_elsewhere.append(1)
            write_from_another_connection(project_id)
        row: AuditLog = original(cls, *args)
        return row

    monkeypatch.setattr(AuditLog, "from_db", classmethod(slow))
    (report,) = check_chains(project_id)
    assert (report.rows, report.is_whole) == (5, True)
    monkeypatch.undo()
    (report,) = check_chains(project_id)
    assert (report.rows, report.is_whole) == (6, True)


def write_from_another_connection(project_id: UUID) -> None:
    def write() -> None:
        AuditLogFactory(project_id=project_id)
        connection.close()

    thread = Thread(target=write)
    thread.start()
    thread.join()


def test_long_chain_is_read_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("projects.chains._CHUNK", 2)
    project_id = record(rows=7)
    (report,) = check_chains(project_id)
    assert (report.rows, report.is_whole) == (7, True)
