"""Dead rows and statistics, in a real PostgreSQL: what is overdue, what a look does about it, and what people see."""

from collections.abc import Iterator
from io import StringIO

import psycopg
import pytest
from django.core.checks import run_checks
from django.core.management import CommandError, call_command
from django.db import connection
from django.test import Client
from django.urls import reverse

from agents import tasks, upkeep
from agents.upkeep import Done

pytestmark = pytest.mark.django_db(transaction=True)
MANY = 4_000
# Autovacuum would come in between.
ALONE = "WITH (autovacuum_enabled = false)"


def sql(text: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(text)
        cursor.execute("SELECT pg_stat_force_next_flush()")  # else the server counts it within a second


@pytest.fixture
def neglected() -> Iterator[str]:
    """A table most of whose rows died."""
    sql(f"CREATE TABLE upkeep_dead (n integer PRIMARY KEY, said text) {ALONE}")
    sql(f"INSERT INTO upkeep_dead SELECT n, 'x' FROM generate_series(1, {MANY}) n")
    sql("UPDATE upkeep_dead SET said = 'y'")
    yield "upkeep_dead"
    sql("DROP TABLE IF EXISTS upkeep_dead")


@pytest.fixture
def by_parts() -> Iterator[str]:
    """A partitioned table, whose statistics as a whole nobody made."""
    sql("CREATE TABLE upkeep_whole (n integer, half integer) PARTITION BY LIST (half)")
    for half in (0, 1):
        sql(f"CREATE TABLE upkeep_part_{half} PARTITION OF upkeep_whole FOR VALUES IN ({half}) {ALONE}")
    sql(f"INSERT INTO upkeep_whole SELECT n, n % 2 FROM generate_series(1, {MANY}) n")
    yield "upkeep_whole"
    sql("DROP TABLE upkeep_whole")


def named(*names: str) -> list[upkeep.Table]:
    sql("SELECT pg_stat_clear_snapshot()")
    return sorted((table for table in upkeep.tables() if table.name in names), key=lambda table: table.name)


def of(prefix: str, done: list[Done]) -> set[tuple[str, str, str]]:
    return {(one.table, one.verb, one.problem) for one in done if one.table.startswith(prefix)}


def test_dead_rows_are_vacuumed_and_the_planner_is_told(neglected: str) -> None:
    (before,) = named(neglected)
    assert (before.dead, before.needs_vacuum, before.needs_analyze) == (MANY, True, True)
    assert (before.vacuumed_at, before.analyzed_at) == (None, None)

    assert of("upkeep_", upkeep.look_after()) == {(neglected, "vacuum", "")}

    (after,) = named(neglected)
    assert (after.live, after.dead, after.changed, after.is_overdue) == (MANY, 0, 0, False)
    assert after.vacuumed_at
    assert after.analyzed_at
    assert of("upkeep_", upkeep.look_after()) == set(), "a second look finds nothing to do"


def test_a_table_whose_rows_only_changed_their_number_a_little_is_left_alone(neglected: str) -> None:
    upkeep.look_after()
    sql("UPDATE upkeep_dead SET said = 'z' WHERE n <= 1000")
    assert not any(table.is_overdue for table in named(neglected))


def test_the_whole_of_a_partitioned_table_is_analysed_too(by_parts: str) -> None:
    parts = ["upkeep_part_0", "upkeep_part_1"]
    assert [table.needs_analyze for table in named(by_parts, *parts)] == [True, True, True]

    tasks.keep_statistics()

    assert [(table.is_overdue, table.analyzed_at is not None) for table in named(by_parts, *parts)] == [
        (False, True)
    ] * 3
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_stats WHERE tablename = %s AND inherited", [by_parts])
        assert cursor.fetchone() == (2,), "a column each"


def test_a_table_that_is_locked_is_left_for_the_next_look(neglected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upkeep, "LOCK_TIMEOUT_S", 0.05)
    parameters = connection.get_connection_params()
    kept = {name: value for name, value in parameters.items() if name not in upkeep._DJANGOS_OWN}
    with psycopg.connect(**kept) as other:
        other.execute(f"LOCK TABLE {neglected} IN SHARE ROW EXCLUSIVE MODE")
        assert of("upkeep_", upkeep.look_after()) == {(neglected, "vacuum", "it is locked")}
        with pytest.raises(CommandError):
            call_command("upkeep", stdout=StringIO())
    assert of("upkeep_", upkeep.look_after()) == {(neglected, "vacuum", "")}


@pytest.fixture
def broken() -> Iterator[str]:
    """A table that changed most of all, and one of whose indexes cannot be computed any more."""
    function = "CREATE OR REPLACE FUNCTION upkeep_half(n integer) RETURNS integer IMMUTABLE LANGUAGE plpgsql AS"
    sql(f"{function} 'BEGIN RETURN n / 2; END'")
    sql(f"CREATE TABLE upkeep_broken (n integer) {ALONE}")
    sql(f"INSERT INTO upkeep_broken SELECT n FROM generate_series(1, {4 * MANY}) n")
    sql("CREATE INDEX ON upkeep_broken (upkeep_half(n))")
    sql(f"{function} 'BEGIN RETURN n / 0; END'")
    yield "upkeep_broken"
    sql("DROP TABLE upkeep_broken")
    sql("DROP FUNCTION upkeep_half")


def test_a_table_that_is_broken_keeps_no_other_from_being_looked_after(broken: str, neglected: str) -> None:
    assert [table.name for table in upkeep.overdue() if table.name.startswith("upkeep_")] == [broken, neglected]
    assert of("upkeep_", upkeep.look_after()) == {
        (broken, "vacuum", "division by zero"),
        (neglected, "vacuum", ""),
    }


def test_a_look_ends_in_time_whatever_is_left(neglected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upkeep, "LOOK_S", 0)
    assert of("upkeep_", upkeep.look_after()) == {(neglected, "left", "there was no time left")}


def test_one_looks_at_a_time_and_another_goes_home(neglected: str) -> None:
    with upkeep._alone() as session:
        assert session is not None
        assert upkeep.look_after() == []
    assert of("upkeep_", upkeep.look_after()) == {(neglected, "vacuum", "")}


def test_another_users_tables_are_not_touched_and_it_is_said(neglected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    sql("CREATE ROLE upkeep_app LOGIN")
    given = connection.get_connection_params()
    monkeypatch.setattr(connection, "get_connection_params", lambda: given | {"user": "upkeep_app"})
    try:
        ((_, verb, problem),) = of("upkeep_", upkeep.look_after())
        assert verb == "left"
        assert "manage.py upkeep" in problem
    finally:
        monkeypatch.undo()
        sql("DROP ROLE upkeep_app")
    assert named(neglected)[0].is_overdue


def test_the_page_of_workers_and_manage_check_name_what_waits(neglected: str, admin_client: Client) -> None:
    def page() -> str:
        return admin_client.get(reverse("workers")).content.decode()

    def warned() -> str:
        found = run_checks(databases=["default"])
        return " ".join(str(one) for one in found if one.id == "agents.W001")

    assert neglected in page()
    assert neglected in warned()
    said = StringIO()
    call_command("upkeep", stdout=said)
    assert f"vacuum {neglected}\n" in said.getvalue()
    assert neglected not in page()
    assert neglected not in warned()
