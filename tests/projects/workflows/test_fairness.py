"""Projects share the runners: one with thousands of ready nodes lets those of others come after a few of its own."""

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from importlib import import_module
from itertools import pairwise
from typing import Any
from uuid import UUID

import pytest
from django.db import connection
from django.db.migrations.loader import MigrationLoader
from django.db.models.functions import Now

from projects.actions.workflows import Start, cancel_execution, pause_execution, start_executions
from projects.models import Execution, ExecutionNode, Project
from projects.models.workflow import NO_PROJECT
from projects.workflows import functions, statements
from projects.workflows.functions import Call
from projects.workflows.runner import MAX_BATCH, MAX_LANES, MAX_LOOKS, Runner, connect
from tests.factories import NOW, ProjectFactory
from tests.projects.workflows.test_runner import BY, running, save, standing, step

pytestmark = pytest.mark.django_db(transaction=True)
DEADLINE_S = 60
lanes_filled = import_module("projects.migrations.0019_lanes_filled")


class Calls:
    """A function that takes a moment, and in whose name it was called."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, takes_s: float) -> None:
        self.made: list[str] = []
        self.third_began, self.other_ran = threading.Event(), threading.Event()
        self._takes_s = takes_s
        monkeypatch.setattr(functions, "_registered", {**functions._registered, "trial.work": self})

    def __call__(self, call: Call) -> None:
        self.made.append(call.params["of"])
        if len(self.made) == 3:
            self.third_began.set()
        if call.params["of"] == "other":
            self.other_ran.set()
        time.sleep(self._takes_s)


def start(project: Project | None, count: int = 1, *, of: str = "first", length: int = 1) -> list[UUID]:
    keys = [f"n{number}" for number in range(length)]
    nodes = [step(key, function="trial.work", params={"of": of}) for key in keys]
    workflow = save(nodes, list(pairwise(keys)))
    return start_executions(workflow, [Start() for _ in range(count)], project=project, by=BY, now=NOW)


def projects_of(runner: Runner, *, limit: int) -> list[UUID | None]:
    """Return the projects of the nodes that a claim takes."""
    found = [node.execution_id for node in runner._claim_fairly(limit)]
    of = dict(Execution.objects.filter(pk__in=found).values_list("pk", "project"))
    return [of[pk] for pk in found]


@pytest.mark.parametrize("takes_s", [0.0005, 0.006])
def test_a_project_with_thousands_of_nodes_lets_anothers_come_after_a_few(
    monkeypatch: pytest.MonkeyPatch, takes_s: float
) -> None:
    calls = Calls(monkeypatch, takes_s)
    start(ProjectFactory(), 3_000)
    start(ProjectFactory(), of="other")

    with running():
        assert calls.other_ran.wait(DEADLINE_S)

    assert calls.made.index("other") <= 3 * MAX_BATCH


def test_a_long_chain_of_slow_nodes_lets_anothers_come_in_between(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = Calls(monkeypatch, 0.03)
    start(ProjectFactory(), length=200)

    with running():
        assert calls.third_began.wait(DEADLINE_S)
        start(ProjectFactory(), of="other")
        before = len(calls.made)
        assert calls.other_ran.wait(DEADLINE_S)

    assert calls.made.index("other") - before <= 20


def test_each_of_many_projects_has_its_turn_and_half_go_by_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    Calls(monkeypatch, 0)
    first = ProjectFactory()
    start(first, 200)
    others = ProjectFactory.create_batch(2 * MAX_LANES + 1)
    for project in others:
        start(project, 2)
    start(None)

    with standing() as runner:
        claimed = [projects_of(runner, limit=1) for _ in range(2 * (len(others) + 3))]

    assert {pk for one in claimed for pk in one} == {first.pk, None, *(project.pk for project in others)}
    assert [first.pk] * (len(others) + 3) == [pk for one in claimed[::2] for pk in one]


@pytest.mark.parametrize("limit", [1, 3])
def test_lanes_in_which_nothing_is_due_take_nobodys_turn(monkeypatch: pytest.MonkeyPatch, limit: int) -> None:
    Calls(monkeypatch, 0)
    start(ProjectFactory(), 60)
    waiting = [start(project)[0] for project in ProjectFactory.create_batch(60)]
    _postpone(waiting)
    others = ProjectFactory.create_batch(3)
    for project in others:
        start(project)

    with standing() as runner:
        claimed = [projects_of(runner, limit=limit) for _ in range(16)]

    assert max(map(len, claimed)) == limit
    assert {project.pk for project in others} <= {pk for one in claimed for pk in one}


def test_a_claim_by_lanes_looks_at_a_bounded_number_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    Calls(monkeypatch, 0)
    _postpone([start(project)[0] for project in ProjectFactory.create_batch(MAX_LANES * MAX_LOOKS + 1)])

    with standing() as runner:
        assert runner._claim_by_lane(1) == []
        came_to = runner._lane

    assert ExecutionNode.objects.filter(lane__lte=came_to).count() == MAX_LANES * MAX_LOOKS


def test_projects_share_a_claim_evenly_and_none_takes_more_than_was_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    Calls(monkeypatch, 0)
    projects = ProjectFactory.create_batch(3)
    for project in projects:
        start(project, 30)

    with standing() as runner:
        assert projects_of(runner, limit=20) == [projects[0].pk] * 20
        shared = projects_of(runner, limit=20)

    assert {project.pk: shared.count(project.pk) for project in projects} == {project.pk: 6 for project in projects}


def test_what_is_paused_cancelled_or_not_due_is_in_nobodys_share(monkeypatch: pytest.MonkeyPatch) -> None:
    Calls(monkeypatch, 0)
    start(ProjectFactory(), 9)
    others = ProjectFactory.create_batch(3)
    paused, cancelled, later = (start(project)[0] for project in others)
    pause_execution(Execution.objects.get(pk=paused), by=BY, now=NOW)
    cancel_execution(Execution.objects.get(pk=cancelled), reason="", by=BY, now=NOW)
    _postpone([later])

    with standing() as runner:
        claimed = [pk for _ in range(12) for pk in projects_of(runner, limit=1)]

    assert len(claimed) == 9
    assert not {project.pk for project in others} & set(claimed)


def test_a_claim_by_lanes_reads_as_much_of_many_nodes_as_of_few(monkeypatch: pytest.MonkeyPatch) -> None:
    Calls(monkeypatch, 0)
    (of_few, many) = ProjectFactory.create_batch(2)
    start(of_few, 200)
    few = _rows_read()
    start(many, 2_000)
    assert ExecutionNode.objects.exclude(lane=NO_PROJECT).count() == 2_200

    assert _rows_read() <= 2 * few  # of two lanes instead of one


def test_nodes_from_before_get_their_lanes_batch_by_batch_while_one_execution_is_held(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    project = ProjectFactory()
    of_none = start(None)[0]
    executions = start(project, 3)
    ExecutionNode.objects.update(lane=NO_PROJECT)
    last = ExecutionNode.objects.latest("id").execution_id
    at_once = ExecutionNode.objects.filter(execution__in=executions).exclude(execution=last)
    monkeypatch.setattr(lanes_filled, "BATCH", 1)

    with ThreadPoolExecutor(1) as pool:
        with connect() as other, other.transaction():
            other.execute("SELECT id FROM projects_execution WHERE id = %s FOR NO KEY UPDATE", [last])
            filling = pool.submit(_fill_lanes)
            deadline = time.monotonic() + DEADLINE_S
            while at_once.filter(lane=NO_PROJECT).exists() and time.monotonic() < deadline:
                time.sleep(0.01)
            assert set(at_once.values_list("lane", flat=True)) == {project.pk}
            assert not filling.done()
        filling.result(DEADLINE_S)

    assert set(ExecutionNode.objects.filter(execution__in=executions).values_list("lane", flat=True)) == {project.pk}
    assert ExecutionNode.objects.get(execution=of_none).lane == NO_PROJECT
    with connection.cursor() as cursor:
        cursor.execute("SELECT indisvalid FROM pg_index WHERE indexrelid = 'node_claim_by_lane'::regclass")
        assert cursor.fetchone() == (True,)


def _fill_lanes() -> None:
    """Run the migration once more, as one does that was broken off."""
    try:
        before = MigrationLoader(connection).project_state(("projects", "0018_lanes_of_nodes"))
        with connection.schema_editor(atomic=False) as editor:
            lanes_filled.Migration("0019_lanes_filled", "projects").apply(before, editor)
    finally:
        connection.close()


def _postpone(executions: list[UUID]) -> None:
    """Let their nodes wait, as for their next try."""
    ExecutionNode.objects.filter(execution__in=executions).update(not_before=Now() + timedelta(hours=1))


def _rows_read() -> int:
    """Return how many rows the plan of a claim that is not made reads.

    Where autovacuum looked while the tables had pages and no rows, after another test, a scan of them all seems free.
    """
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE projects_executionnode, projects_execution")
    given = {"limit": 8, "lanes": MAX_LANES, "after": UUID(int=0), "runner": 1}
    with standing() as runner:
        assert runner._connection is not None
        with runner._connection.transaction(force_rollback=True):
            explain = f"EXPLAIN (ANALYZE, FORMAT JSON) {statements.CLAIM_BY_LANE}"
            ((plan,),) = runner._connection.execute(explain, given).fetchall()
    top = (plan if isinstance(plan, list) else json.loads(plan))[0]["Plan"]
    return int(sum(_rows_of(top)))


def _rows_of(plan: dict[str, Any]) -> list[float]:
    read = plan["Actual Rows"] + plan.get("Rows Removed by Filter", 0) if "Scan" in plan["Node Type"] else 0
    return [read * plan["Actual Loops"], *(rows for part in plan.get("Plans", []) for rows in _rows_of(part))]
