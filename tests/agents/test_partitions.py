"""Transcripts by week, in a real PostgreSQL: what the migration keeps, what beat makes, and what policy drops."""

from datetime import UTC, datetime, timedelta
from importlib import import_module
from io import StringIO
from uuid import UUID

import pytest
from django.core.management import call_command
from django.db import IntegrityError, ProgrammingError, connection, transaction
from django.db.migrations.loader import MigrationLoader
from django.utils import timezone
from pytest_django import Settings

from agents import partitions, tasks
from agents.actions.retention import prune_transcripts
from agents.actions.transcript import Line, record_lines
from agents.models import Run, RunEvent
from agents.partitions import AHEAD, TABLE
from projects import audit
from projects.ids import new_id
from projects.models import AuditChain, AuditLog
from tests.factories import RunEventFactory, RunFactory

pytestmark = pytest.mark.django_db
WEEK = timedelta(days=7)


def id_at(moment: datetime) -> UUID:
    """A UUIDv7 as one made then."""
    low = new_id().int & ((1 << 80) - 1)
    return UUID(int=(int(moment.timestamp() * 1000) << 80) | low)


def run_at(moment: datetime, *, status: str = "succeeded", lines: int = 2) -> Run:
    run = RunFactory(id=id_at(moment), status=status)
    for _ in range(lines):
        RunEventFactory(run=run)
    return run


def partition_of(run: Run) -> str:
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT DISTINCT tableoid::regclass::text FROM {TABLE} WHERE run_id = %s", [run.pk])
        ((name,),) = cursor.fetchall()
    return str(name)


def name_at(moment: datetime) -> str:
    monday = moment.astimezone(UTC) - timedelta(days=moment.astimezone(UTC).weekday())
    return f"{TABLE}_{monday:%Y%m%d}"


def test_migration_made_this_week_and_the_next_ones() -> None:
    names = [week.name for week in partitions.partitions()]
    assert len(names) == 1 + AHEAD
    assert name_at(timezone.now()) in names[:2]  # a suite may run over midnight of a Sunday
    assert partition_of(run_at(timezone.now() + 3 * WEEK)) == name_at(timezone.now() + 3 * WEEK)


def test_old_runs_are_in_the_first_partition_and_far_ones_in_the_default_one() -> None:
    first = partitions.partitions()[0].name
    assert partition_of(run_at(datetime(2020, 1, 1, tzinfo=UTC))) == first
    assert partition_of(run_at(timezone.now() + 30 * WEEK)) == f"{TABLE}_default"


def test_weeks_are_made_once_and_take_their_lines_from_the_default_partition() -> None:
    later = timezone.now() + 20 * WEEK
    run, beyond = run_at(later), run_at(later + 20 * WEEK)
    settle()

    assert len(partitions.make_ahead(later)) == 1 + AHEAD
    assert partitions.make_ahead(later) == []
    assert partition_of(run) == name_at(later)
    assert partition_of(beyond) == f"{TABLE}_default"
    assert RunEvent.objects.filter(run=run).count() == 2
    with pytest.raises(ProgrammingError, match="append-only"), transaction.atomic():
        RunEvent.objects.filter(run=beyond).update(kind="text")  # the triggers came back with the partition


def settle() -> None:
    """Check foreign keys now, as a commit would: a table with a check to come cannot be altered."""
    with connection.cursor() as cursor:
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
        cursor.execute("SET CONSTRAINTS ALL DEFERRED")


def test_nobody_makes_partitions_of_far_years() -> None:
    assert partitions.make_ahead(timezone.now() + 100 * WEEK) == []


def test_run_and_number_are_unique_in_every_partition() -> None:
    event = RunEventFactory()
    with pytest.raises(IntegrityError, match="seq"), transaction.atomic():
        RunEventFactory(run=event.run, seq=event.seq)


@pytest.mark.parametrize("statement", ["UPDATE {} SET seq = 9", "DELETE FROM {}", "TRUNCATE {}"])
def test_partitions_refuse_what_the_table_refuses(statement: str) -> None:
    run = run_at(timezone.now())
    settle()
    for table in (TABLE, partition_of(run)):
        with pytest.raises(ProgrammingError, match="append-only"), transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(statement.format(table))


def test_lines_of_a_run_are_looked_for_in_its_week_alone_and_by_index() -> None:
    run = run_at(timezone.now() + 2 * WEEK)
    found = RunEvent.objects.filter(run=run, seq__gt=0).order_by("seq")
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off")
        cursor.execute("SET LOCAL enable_bitmapscan = off")
        plan = found.explain()
    assert plan.count("Scan") == 1
    assert "run_id_seq_key" in plan
    assert "Sort" not in plan


def test_weeks_past_their_time_are_dropped_with_a_record(settings: Settings) -> None:
    settings.EKLAVYA_TRANSCRIPT_DAYS = 30
    first = partitions.partitions()[0]  # by now it may be the last one: a suite may run over midnight of a Sunday
    old, young = run_at(first.ends_at - WEEK / 2, lines=3), run_at(first.ends_at + WEEK / 2)
    settle()

    assert prune_transcripts(now=first.ends_at + timedelta(days=30) - timedelta(seconds=1)) == []
    assert prune_transcripts(now=first.ends_at + timedelta(days=30)) == [first.name]

    assert not RunEvent.objects.filter(run=old).exists()
    assert Run.objects.filter(pk=old.pk).exists()
    assert RunEvent.objects.filter(run=young).count() == 2
    row = AuditLog.objects.get(action="transcripts.pruned")
    assert (row.details["partition"], row.details["lines"]) == (first.name, 3)


def test_week_of_a_run_at_work_is_kept(settings: Settings) -> None:
    settings.EKLAVYA_TRANSCRIPT_DAYS = 30
    weeks = partitions.partitions()
    run_at(weeks[1].ends_at - WEEK / 2, status="running")
    settle()
    names = [week.name for week in weeks]
    assert prune_transcripts(now=timezone.now() + 40 * WEEK) == names[:1]


def test_nothing_is_dropped_where_transcripts_are_kept_for_ever(settings: Settings) -> None:
    settings.EKLAVYA_TRANSCRIPT_DAYS = 0
    assert prune_transcripts(now=timezone.now() + 5000 * WEEK) == []


def test_beat_makes_and_drops_and_so_does_the_command(settings: Settings) -> None:
    settings.EKLAVYA_TRANSCRIPT_DAYS = 1
    tasks.keep_transcripts()
    weeks = partitions.partitions()
    with connection.cursor() as cursor:
        cursor.execute(f"DROP TABLE {weeks[-1].name}")
    tasks.keep_transcripts()
    assert partitions.partitions() == weeks
    out = StringIO()
    call_command("prune_transcripts", stdout=out)
    assert out.getvalue() == "nothing is past its time\n"


def test_migration_keeps_every_row_of_the_table_that_was() -> None:
    """The table as migration 0008 left it, with rows, and what 0009 makes of it."""
    migration = import_module("agents.migrations.0009_run_events_by_week")
    loader = MigrationLoader(connection, replace_migrations=False)
    before = loader.project_state(("agents", "0008_leases_of_held_runs")).apps
    old_model = before.get_model("agents", "RunEvent")
    with connection.cursor() as cursor:
        cursor.execute(f"DROP TABLE {TABLE}")
        with connection.schema_editor(atomic=False) as editor:
            editor.create_model(old_model)
        for trigger in RunEvent._meta.triggers:
            cursor.execute(str(trigger.compile(RunEvent).install_sql))
        runs = [RunFactory(id=id_at(timezone.now() + days * timedelta(days=1)), status="running") for days in (-400, 0)]
        ahead = RunFactory(id=id_at(timezone.now() + 3 * WEEK), status="running")  # by a clock that went wrong
        for run in (*runs, ahead):
            record_lines(run, [Line(RunEvent.Kind.TEXT, {"text": str(at)}, timezone.now()) for at in range(50)])
        known = set(RunEvent.objects.values_list("id", "run_id", "seq", "kind", "created_at"))
        settle()

        cursor.execute(migration.SPLIT)

    assert len(known) == 150
    assert set(RunEvent.objects.values_list("id", "run_id", "seq", "kind", "created_at")) == known
    assert {partition_of(run) for run in (*runs, ahead)} == {name_at(timezone.now() + 3 * WEEK)}
    record_lines(runs[0], [Line(RunEvent.Kind.TEXT, {"text": "more"}, timezone.now())])
    later = run_at(timezone.now() + 5 * WEEK)
    assert partition_of(later) == name_at(timezone.now() + 5 * WEEK)
    settle()
    assert partitions.make_ahead(timezone.now() + WEEK)
    for table in (TABLE, partition_of(ahead), partition_of(later)):
        with pytest.raises(ProgrammingError, match="append-only"), transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(f"TRUNCATE {table}")


def test_triggers_are_those_of_the_model() -> None:
    """The library compares by the comment on each; a partitioned table made by hand must not look outdated."""
    for trigger in RunEvent._meta.triggers:
        status = trigger.get_installation_status(RunEvent)
        assert status == ("INSTALLED", True)


def test_audit_chain_is_whole_after_a_drop(settings: Settings) -> None:
    settings.EKLAVYA_TRANSCRIPT_DAYS = 1
    prune_transcripts(now=timezone.now() + 60 * WEEK)
    rows = AuditLog.objects.filter(chain="account").order_by("seq")
    assert audit.verify(rows, AuditChain.objects.get(key="account")) is None
