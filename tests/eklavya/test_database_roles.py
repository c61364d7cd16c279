"""manage.py database_roles, and what a role that it made can and cannot do in a real PostgreSQL."""

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from datetime import timedelta
from decimal import Decimal
from io import StringIO

import pgtrigger
import psycopg
import pytest
from django.core.management import CommandError, call_command
from django.db import ProgrammingError, connection, transaction
from django.utils import timezone
from psycopg import sql

from agents import partitions
from agents.actions.transcript import Line, record_lines
from agents.models import RunEvent
from billing import actions as billing
from billing.models import LedgerEntry
from billing.prices import Usage
from eklavya import database_roles
from projects.actions import approvals, chat, projects
from projects.actions.secrets import remove_secret
from projects.actors import Actor
from projects.models import AuditLog, ChatMessage, Project
from tests.factories import (
    NOW,
    TESTER,
    ApprovalFactory,
    AuditLogFactory,
    LedgerEntryFactory,
    PriceFactory,
    RunEventFactory,
    RunFactory,
    SecretFactory,
    UserFactory,
)

pytestmark = pytest.mark.django_db(transaction=True)
GROWING = ["agents_runevent", "billing_ledgerentry", "projects_auditlog"]


@pytest.fixture
def role() -> Iterator[str]:
    """A role that the command made the application's."""
    name = f"app_of_{connection.settings_dict['NAME']}"
    with connection.cursor() as cursor:
        cursor.execute(sql.SQL("CREATE ROLE {} LOGIN").format(sql.Identifier(name)))
    call_command("database_roles", name, "--apply", stdout=StringIO())
    yield name
    with connection.cursor() as cursor:
        cursor.execute(sql.SQL("DROP OWNED BY {0}; DROP ROLE {0}").format(sql.Identifier(name)))


@pytest.fixture
def as_role(role: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], None]]:
    """Sign in as that role, from the call on."""

    def sign_in() -> None:
        connection.close()
        monkeypatch.setitem(connection.settings_dict, "USER", role)
        with connection.cursor() as cursor:
            cursor.execute("SELECT session_user, current_user")
            assert cursor.fetchone() == (role, role)

    yield sign_in
    connection.close()
    monkeypatch.undo()


def test_tables_that_only_grow_are_found_by_their_triggers() -> None:
    assert database_roles.append_only_tables() == GROWING


def test_application_works_as_the_role(as_role: Callable[[], None]) -> None:
    user = UserFactory()
    run, price = RunFactory(status="running"), PriceFactory()
    billing.open_budgets(
        [billing.Opening(run.project, run_id=run.pk, run_limit=Decimal(4), agent_id=run.agent_id)], now=NOW
    )
    secret, approval = SecretFactory(), ApprovalFactory(project=run.project)
    as_role()
    made = projects.create_project(projects.NewProject("We lend tools to neighbours."), by=TESTER, now=NOW)
    chat.post_message(made, "Make it blue.", by=Actor.person(user), now=NOW)
    projects.cancel_project(made, reason="tests", by=TESTER, now=NOW)
    approvals.withdraw([approval], reason="tests", by=TESTER, now=NOW)
    remove_secret(secret, by=TESTER, now=NOW)
    held = billing.reserve(
        run_id=run.pk,
        agent_id=run.agent_id,
        project_id=run.project_id,
        model=price.model,
        amount=Decimal(1),
        price=price,
        now=NOW,
    )
    billing.settle(held.pk, Usage(input_tokens=10, output_tokens=10), now=NOW)
    billing.expire_reservations(NOW + timedelta(days=1))
    record_lines(run, [Line(RunEvent.Kind.TOOL_USE, {"name": "Bash", "input": {"command": "ls"}}, NOW)])
    assert ChatMessage.objects.filter(project=made).exists()
    assert Project.objects.get(pk=made.pk).status == "cancelled"
    assert LedgerEntry.objects.filter(request_id=held.pk).count() == 2
    assert AuditLog.objects.filter(action="tool.called").count() == 1


@pytest.mark.parametrize("bypassed", [False, True])
def test_history_cannot_be_rewritten_by_the_role(as_role: Callable[[], None], *, bypassed: bool) -> None:
    """Also past the triggers, which a setting of their library switches off: the server itself refuses."""
    AuditLogFactory()
    LedgerEntryFactory()
    RunEventFactory()
    as_role()
    for table in GROWING:
        for statement in (
            f"UPDATE {table} SET id = id",
            f"DELETE FROM {table}",
            f"TRUNCATE {table} CASCADE",
            f"ALTER TABLE {table} DISABLE TRIGGER ALL",
            f"DROP TRIGGER {trigger_of(table)} ON {table}",
            f"DROP TABLE {table} CASCADE",
            f"CREATE TRIGGER mine BEFORE INSERT ON {table} EXECUTE FUNCTION suppress_redundant_updates_trigger()",
            f"CREATE RULE mine AS ON INSERT TO {table} DO INSTEAD NOTHING",
            f"ALTER TABLE {table} OWNER TO current_user",
        ):
            assert refused(statement, bypassed=bypassed), statement
    for statement in (
        "SET session_replication_role = replica",
        "DELETE FROM projects_auditchain",
        "TRUNCATE projects_auditchain",
        "DELETE FROM django_migrations",
        "CREATE TABLE mine (id int)",
        "CREATE FUNCTION mine() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "SET ROLE eklavya",
        "SET SESSION AUTHORIZATION eklavya",
        "ALTER ROLE current_user SUPERUSER",
        "COPY (SELECT 1) TO PROGRAM 'true'",
    ):
        assert refused(statement, bypassed=bypassed), statement
    assert [model.objects.count() for model in (AuditLog, LedgerEntry, RunEvent)] == [1, 1, 1]


def test_role_has_weeks_of_transcripts_made_and_touches_none_itself(as_role: Callable[[], None]) -> None:
    as_role()
    with transaction.atomic():
        assert partitions.make_ahead(timezone.now() + timedelta(weeks=3))
        transaction.set_rollback(True)
    assert not partitions.may_drop()
    newest = partitions.partitions()[-1].name
    for statement in (
        f"DROP TABLE {newest}",
        f"DELETE FROM {newest}",
        f"SELECT FROM {newest}",
        f"ALTER TABLE agents_runevent DETACH PARTITION {newest}",
        f"SELECT run_events_guard('{newest}')",
    ):
        assert refused(statement, bypassed=True), statement


def trigger_of(table: str) -> str:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT tgname FROM pg_trigger WHERE tgrelid = %s::regclass AND tgname LIKE '%%no_change%%'", [table]
        )
        (found,) = cursor.fetchall()
    return str(found[0])


def refused(statement: str, *, bypassed: bool) -> bool:
    """Whether the server refuses it for want of a right, and not only a trigger."""
    with pgtrigger.ignore() if bypassed else nullcontext():
        try:
            with transaction.atomic(), connection.cursor() as cursor:
                cursor.execute(statement)
                transaction.set_rollback(True)
        except ProgrammingError as error:
            return isinstance(error.__cause__, psycopg.errors.InsufficientPrivilege)
    return False


def test_owner_could_do_it_past_the_triggers() -> None:
    """So it is the role that holds."""
    AuditLogFactory()
    assert not refused("DELETE FROM projects_auditlog", bypassed=True)


def test_printed_statements_can_be_given_to_psql() -> None:
    out = StringIO()
    call_command("database_roles", 'odd "name', stdout=out)
    lines = out.getvalue().splitlines()
    assert (lines[0], lines[-1]) == ("BEGIN;", "COMMIT;")
    assert all(line.endswith(";") for line in lines)
    assert 'REVOKE UPDATE, DELETE ON "public"."agents_runevent", "public"."billing_ledgerentry"' in out.getvalue()
    assert 'FROM "odd ""name"' in out.getvalue()


def test_roles_that_nothing_holds_are_refused() -> None:
    with pytest.raises(CommandError, match="There is no role “nobody_at_all”"):
        call_command("database_roles", "nobody_at_all", "--apply")
    with pytest.raises(CommandError, match="is a superuser"):
        call_command("database_roles", "eklavya", "--apply")
