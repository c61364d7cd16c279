"""The score of a worker, its reasons, and what no score outweighs."""

from decimal import Decimal

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from agents.actions.dispatch import dispatch
from agents.allocation import Wanted, choose, score
from agents.models import Run, Worker
from projects.models import AuditLog, Project
from projects.roles import Role
from tests.factories import NOW, ProjectFactory, TaskFactory, WorkerFactory

ALL = frozenset({"claude_code", "browser"})
IDLE = {"cpu_percent": 0, "memory_free_mb": 100, "memory_mb": 100}
HALF = {"cpu_percent": 50, "memory_free_mb": 50, "memory_mb": 100}


def worker(**fields: object) -> Worker:
    return WorkerFactory.build(**({"tools": sorted(ALL), "trust": "sensitive", "load": IDLE} | fields))


def total(one: Worker, *, sensitive: bool = False, free: int = 4) -> Decimal:
    return score(one, Wanted(ALL, sensitive), free=free).total


@pytest.mark.parametrize(
    ("one", "sensitive", "free", "expected"),
    [
        (worker(), True, 4, "10"),
        (worker(tools=["claude_code"]), False, 4, "5"),  # without a tool: half
        (worker(trust="normal"), True, 4, "8"),
        (worker(trust="normal"), False, 4, "10"),
        (worker(load=HALF), False, 4, "8.5"),
        (worker(), False, 2, "8.5"),
        (worker(load={}), False, 4, "10"),  # it has not beaten yet
        (worker(load={"cpu_percent": 250, "memory_free_mb": 0, "memory_mb": 0}), False, 4, "7"),
    ],
)
def test_the_score_is_half_tools_three_tenths_resources_and_two_tenths_privacy(
    one: Worker, sensitive: bool, free: int, expected: str
) -> None:
    assert total(one, sensitive=sensitive, free=free) == Decimal(expected)


def test_the_best_is_chosen_and_the_others_are_named() -> None:
    busy, idle, poor = worker(name="busy", load=HALF), worker(name="idle"), worker(name="poor", tools=[])
    full = worker(name="full")
    free = {busy.pk: 4, idle.pk: 4, poor.pk: 4, full.pk: 0}

    decision = choose([busy, idle, poor, full], free, Wanted(ALL, False))

    assert decision is not None
    assert decision.worker is idle
    assert decision.reasons == {
        "score": "10.00",
        "tools": "10.00",
        "resources": "10.00",
        "privacy": "10.00",
        "wanted": ["browser", "claude_code"],
        "sensitive": False,
        "others": {"busy": "8.50", "poor": "5.00"},
    }


def test_no_score_brings_a_sensitive_project_to_a_worker_that_is_not_trusted() -> None:
    stranger, trusted = worker(name="stranger", trust="normal"), worker(name="trusted", tools=[], load=HALF)
    free = {stranger.pk: 4, trusted.pk: 1}

    decision = choose([stranger, trusted], free, Wanted(ALL, True))

    assert decision is not None
    assert decision.worker is trusted
    assert decision.reasons["others"] == {"stranger": "not trusted with sensitive projects"}
    assert choose([stranger], free, Wanted(ALL, True)) is None


@pytest.mark.django_db
class TestDispatch:
    def test_the_decision_is_kept_with_the_run_and_in_the_audit_log(self) -> None:
        WorkerFactory(name="plain", tools=["claude_code"])
        contained = WorkerFactory(name="contained", tools=["claude_code", "isolation"], capacity=2)
        TaskFactory(project=ProjectFactory(status="building"), role=Role.DEVELOPER)

        dispatch(now=NOW)

        run = Run.objects.get()
        assert (run.worker, run.allocation["score"], run.allocation["others"]) == (
            contained,
            "10.00",
            {"plain": "5.00"},
        )
        assert AuditLog.objects.get(action="run.queued").details["allocation"] == run.allocation

    def test_a_sensitive_project_waits_for_a_trusted_worker(self) -> None:
        WorkerFactory(trust="normal")
        TaskFactory(project=ProjectFactory(status="building", config={"privacy": "sensitive"}))
        other = TaskFactory(project=ProjectFactory(status="building"))

        dispatch(now=NOW)
        assert [run.task for run in Run.objects.all()] == [other]

        trusted = WorkerFactory(trust="sensitive")
        dispatch(now=NOW)
        assert Run.objects.exclude(task=other).get().worker == trusted

    @pytest.mark.parametrize("against", [{"reason": "disk_short"}, {"cordoned_at": NOW}])
    def test_what_is_against_a_worker_keeps_runs_away(self, against: dict[str, object]) -> None:
        WorkerFactory(**against)
        TaskFactory(project=ProjectFactory(status="building"))

        assert dispatch(now=NOW) == []

    def test_more_workers_cost_no_more_statements(self) -> None:
        WorkerFactory()
        counts = []
        for _ in range(2):
            TaskFactory(project=ProjectFactory(status="building"))
            with CaptureQueriesContext(connection) as asked:
                assert len(dispatch(now=NOW)) == 1
            counts.append(len(asked))
            WorkerFactory.create_batch(5)
            Project.objects.update(status="paused", paused_from="building")
        assert counts[0] == counts[1]
