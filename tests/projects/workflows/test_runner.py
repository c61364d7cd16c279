"""The engine: real PostgreSQL, runners in threads with connections of their own."""

import json
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from django.db import connection
from django.db.models import F

from projects.actions import nodes, redoing
from projects.actions.workflow_watch import report_unknown
from projects.actions.workflows import (
    Start,
    cancel_execution,
    pause_execution,
    resume_execution,
    save_workflow,
    start_execution,
    start_executions,
)
from projects.actors import Actor
from projects.errors import IllegalTransition
from projects.models import Execution, ExecutionLog, ExecutionNode, Notification, Workflow
from projects.models import Runner as RunnerRow
from projects.workflows import functions, hosting, statements
from projects.workflows import runner as runner_module
from projects.workflows.anew import stands_of
from projects.workflows.definition import Definition
from projects.workflows.documents import Document
from projects.workflows.functions import Call
from projects.workflows.runner import Runner, connect
from projects.workflows.work import MAX_LOSSES, work
from tests.factories import NOW, WorkflowFactory

pytestmark = pytest.mark.django_db(transaction=True)
BY = Actor.system("tests")


@pytest.fixture(autouse=True)
def _own_functions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(functions, "_registered", dict(functions._registered))


def save(nodes: list[dict[str, Any]], edges: list[Any]) -> Workflow:
    ways = [edge if isinstance(edge, dict) else {"from": edge[0], "to": edge[1]} for edge in edges]
    definition = Definition.from_json({"nodes": nodes, "edges": ways})
    return save_workflow(Document("trial", "Trial", "", definition), by=BY, now=NOW)


def step(key: str, **fields: Any) -> dict[str, Any]:
    return {"key": key, "function": "noop", **fields}


@contextmanager
def running(count: int = 1) -> Iterator[list[Runner]]:
    runners = [Runner(f"test-{number}") for number in range(count)]
    threads = [threading.Thread(target=one.run) for one in runners]
    for thread in threads:
        thread.start()
    try:
        yield runners
    finally:
        for one in runners:
            one.stop()
        for thread in threads:
            thread.join(timeout=30)


@contextmanager
def standing() -> Iterator[Runner]:
    """A runner that does only what the test has it do."""
    runner = Runner("standing")
    with connect() as runner._connection:
        runner._sign_on()
        yield runner
        runner._execute(statements.SIGN_OFF)


def ended(execution: Execution, *, within_s: float = 90) -> Execution:
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        execution.refresh_from_db()
        if execution.status not in {"running", "paused"}:
            return execution
        time.sleep(0.01)
    rows = list(execution.nodes.values_list("key", "status", "attempts", "error"))
    raise AssertionError(f"still {execution.status}: {rows}")


def statuses(execution: Execution) -> dict[str, str]:
    return dict(execution.nodes.values_list("key", "status"))


def test_chain_runs_in_order_and_returns_the_last_result() -> None:
    workflow = save([step("a"), step("b"), step("c", params={"n": 3})], [("a", "b"), ("b", "c")])
    execution = start_execution(workflow, Start(), by=BY, now=NOW)
    with running():
        assert ended(execution).status == "completed"
    nodes = list(execution.nodes.order_by("finished_at"))
    assert [node.key for node in nodes] == ["a", "b", "c"]
    assert execution.result == {"c": {"n": 3}}
    assert execution.open_count == 0


def test_a_node_waits_for_all_any_or_some_of_its_edges() -> None:
    seen: list[str] = []
    gate = threading.Event()

    @functions.register("tests.seen")
    def note(call: Call) -> None:
        if call.params.get("waits"):
            assert gate.wait(90)
        seen.append(call.key)
        if call.key == "two":
            gate.set()

    first = [{"key": key, "function": "tests.seen"} for key in ("a", "b")]
    slow = {"key": "slow", "function": "tests.seen", "params": {"waits": True}}
    joins = [
        {"key": key, "function": "tests.seen", "join": join}
        for key, join in (("any", "any"), ("two", 2), ("all", "all"))
    ]
    edges = [(start, end) for start in ("a", "b", "slow") for end in ("any", "two", "all")]
    execution = start_execution(save([*first, slow, *joins], edges), Start(), by=BY, now=NOW)
    with running(2):
        assert ended(execution).status == "completed"
    assert sorted(seen) == ["a", "all", "any", "b", "slow", "two"]
    assert seen.index("two") < seen.index("slow") < seen.index("all")
    assert max(seen.index("a"), seen.index("b")) < seen.index("two")


def test_conditions_choose_the_way_and_skip_the_other() -> None:
    nodes = [
        step("look", params={"verdict": "rejected"}),
        step("ship"),
        step("announce"),
        step("mend"),
        step("end", join="any"),
    ]
    edges = [
        {"from": "look", "to": "ship", "when": "result.verdict == 'approved'"},
        {"from": "look", "to": "mend", "when": "result.verdict != 'approved'"},
        ("ship", "announce"),
        ("announce", "end"),
        ("mend", "end"),
    ]
    execution = start_execution(save(nodes, edges), Start(), by=BY, now=NOW)
    with running():
        assert ended(execution).status == "completed"
    assert statuses(execution) == {
        "look": "completed",
        "ship": "skipped",
        "announce": "skipped",
        "mend": "completed",
        "end": "completed",
    }


def test_everything_behind_an_unmet_condition_is_skipped_and_the_execution_ends() -> None:
    edges = [{"from": "a", "to": "b", "when": "false"}, ("b", "c"), ("c", "d")]
    execution = start_execution(save([step(key) for key in "abcd"], edges), Start(), by=BY, now=NOW)
    with running():
        assert ended(execution).status == "completed"
    assert statuses(execution) == {"a": "completed", "b": "skipped", "c": "skipped", "d": "skipped"}


def test_condition_that_cannot_be_decided_fails_the_execution_and_says_why() -> None:
    edges = [{"from": "a", "to": "b", "when": "result.nothing > 1"}]
    execution = start_execution(save([step("a"), step("b"), step("c")], edges), Start(), by=BY, now=NOW)
    with running():
        assert ended(execution).status == "failed"
    assert "“a” failed: “result.nothing > 1” could not be decided" in execution.detail
    assert statuses(execution)["b"] == "cancelled"


def test_failing_node_is_tried_again_then_ends_the_execution() -> None:
    @functions.register("tests.fails")
    def fail(call: Call) -> None:
        raise RuntimeError(f"no {call.key}\x00")

    nodes = [{"key": "a", "function": "tests.fails", "retries": 2, "retry_after_s": 0.01}, step("b")]
    execution = start_execution(save(nodes, [("a", "b")]), Start(), by=BY, now=NOW)
    with running():
        assert ended(execution).status == "failed"
    node = execution.nodes.get(key="a")
    assert (node.status, node.attempts, execution.open_count) == ("failed", 3, 0)
    assert execution.detail.startswith("Node “a” failed: RuntimeError: no a")
    events = list(
        ExecutionLog.objects.filter(execution_id=execution.pk, position=0)
        .order_by("id")
        .values_list("event", flat=True)
    )
    assert events == ["retried", "retried", "failed"]


def test_edge_on_failure_is_taken_and_the_execution_goes_on() -> None:
    @functions.register("tests.gives_up")
    def fail(call: Call) -> None:
        raise functions.Permanent("never")

    nodes = [{"key": "a", "function": "tests.gives_up", "retries": 5}, step("good"), step("bad"), step("both")]
    edges = [
        ("a", "good"),
        {"from": "a", "to": "bad", "after": "failure"},
        {"from": "a", "to": "both", "after": "always"},
    ]
    execution = start_execution(save(nodes, edges), Start(), by=BY, now=NOW)
    with running():
        assert ended(execution).status == "completed"
    assert statuses(execution) == {"a": "failed", "good": "skipped", "bad": "completed", "both": "completed"}
    assert execution.nodes.get(key="a").attempts == 1


@pytest.mark.parametrize(
    ("value", "said"),
    [("x" * 100_000_000, "at most 262,144 are kept"), ({1, 2}, "no JSON"), (float("nan"), "no JSON")],
    ids=["100 MB", "set", "nan"],
)
def test_result_that_cannot_be_kept_fails_the_node_without_another_try(value: object, said: str) -> None:
    @functions.register("tests.returns")
    def give(call: Call) -> object:
        return value

    nodes = [{"key": "a", "function": "tests.returns", "retries": 3}]
    execution = start_execution(save(nodes, []), Start(), by=BY, now=NOW)
    with running():
        assert ended(execution).status == "failed"
    node = execution.nodes.get()
    assert said in node.error
    assert (node.attempts, node.result) == (1, None)


def test_result_with_what_postgresql_does_not_store_is_kept_without_it() -> None:
    @functions.register("tests.odd")
    def give(call: Call) -> object:
        return {"nul": "a\x00b", "half": "\ud800", "deep": json.loads("[" * 200 + "]" * 200)}

    execution = start_execution(save([{"key": "a", "function": "tests.odd"}], []), Start(), by=BY, now=NOW)
    with running():
        assert ended(execution).status == "completed"
    assert execution.result["a"]["nul"] == "a\N{REPLACEMENT CHARACTER}b"


def test_function_that_a_worker_does_not_know_waits_for_one_that_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """As during an update: the old workers are asked first, again and again, and take nothing away."""
    monkeypatch.setattr(runner_module, "POSTPONED_S", 0.0)
    execution = start_execution(
        save([step("a"), {"key": "b", "function": "tests.new"}], [("a", "b")]), Start(), by=BY, now=NOW
    )
    with running(2):
        wait_for(lambda: execution.nodes.filter(key="b").exclude(error="").exists())
        looked = "No worker that looked so far knows the function “tests.new”."
        assert list(execution.nodes.filter(key="b").values_list("error", flat=True)) == [looked]
        time.sleep(0.3)  # many times as often as a node may be lost
        functions.register("tests.new")(lambda call: "done")
        assert ended(execution).status == "completed"

    assert execution.result == {"b": "done"}
    node = execution.nodes.get(key="b")
    assert (node.attempts, node.error) == (1, "")
    log = ExecutionLog.objects.filter(execution_id=execution.pk, position=1).order_by("id")
    events = list(log.values_list("event", flat=True))
    assert events == ["waiting", "completed"]


def test_function_that_no_worker_knows_is_reported_once(monkeypatch: pytest.MonkeyPatch) -> None:
    execution = start_execution(save([{"key": "a", "function": "nobody.knows"}], []), Start(), by=BY, now=NOW)
    with running():
        wait_for(lambda: execution.nodes.exclude(error="").exists())
    node = execution.nodes.get()
    assert (node.status, node.attempts) == ("ready", 0)
    assert node.started_at

    assert report_unknown(now=node.started_at + timedelta(minutes=4)) == 0
    late = node.started_at + timedelta(minutes=6)
    assert [report_unknown(now=late) for _ in range(2)] == [1, 0]

    notice = Notification.objects.get()
    assert notice.title == "The workflow trial waits at “a”"
    assert "“nobody.knows”. Start workers that have it" in notice.message
    cancel_execution(execution, reason="Nobody has it.", by=BY, now=late)
    assert ended(execution).status == "cancelled"


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


def test_functions_read_what_came_before_and_what_the_execution_was_given() -> None:
    @functions.register("tests.sum")
    def add(call: Call) -> int:
        return sum(row["n"] for row in call.read_results().values()) + call.read_input()["plus"]

    nodes = [step("a", params={"n": 1}), step("b", params={"n": 2}), step("other", params={"n": 50})]
    workflow = save([*nodes, {"key": "sum", "function": "tests.sum"}], [("a", "sum"), ("b", "sum")])
    execution = start_execution(workflow, Start(input={"plus": 4}), by=BY, now=NOW)
    with running():
        assert ended(execution).result["sum"] == 7


def test_several_runners_share_many_graphs_and_run_each_node_once() -> None:
    calls: list[tuple[UUID, str]] = []

    @functions.register("tests.counted")
    def count(call: Call) -> None:
        calls.append((call.execution_id, call.key))

    keys = [f"l{layer}-{number}" for layer in range(6) for number in range(8)]
    edges = [(f"l{layer}-{n}", f"l{layer + 1}-{(n + k) % 8}") for layer in range(5) for n in range(8) for k in (0, 3)]
    workflow = save([{"key": key, "function": "tests.counted"} for key in keys], edges)
    with running(4):
        started = start_executions(workflow, [Start() for _ in range(20)], by=BY, now=NOW)
        for execution in Execution.objects.filter(pk__in=started):
            assert ended(execution).status == "completed"
    assert len(calls) == len(set(calls)) == 20 * 48
    assert not ExecutionNode.objects.exclude(status="completed").exists()
    assert not ExecutionLog.objects.exclude(event="completed").exists()
    assert not RunnerRow.objects.exists()


def test_late_and_double_results_change_nothing() -> None:
    workflow = save([step("a"), step("b")], [("a", "b")])
    execution = start_execution(workflow, Start(), by=BY, now=NOW)
    with standing() as slow, standing() as other:
        (held,) = slow._claim(1)
        done = work(held, read_input=lambda n: None, read_results=lambda n: None)
        # Its time is over: somebody else takes the node back and does it.
        ExecutionNode.objects.filter(key="a").update(lease_until=NOW)
        other._look_after()
        (again,) = other._claim(1)
        assert again.attempts == 2
        assert slow._finish([done]) == []
        assert statuses(execution) == {"a": "running", "b": "pending"}
        (following,) = other._do([again])
        # Twice by its owner, and a made-up report by one who never held it.
        assert other._finish([work(again, read_input=lambda n: None, read_results=lambda n: None)]) == []
        assert slow._finish([work(following, read_input=lambda n: None, read_results=lambda n: None)]) == []
        assert statuses(execution) == {"a": "completed", "b": "running"}
        other._do([following])
    assert ended(execution).open_count == 0
    late = ExecutionLog.objects.filter(execution_id=execution.pk, event="late")
    assert list(late.order_by("id").values_list("position", flat=True)) == [0, 0, 1]


def test_paused_execution_starts_nothing_and_goes_on_when_resumed() -> None:
    workflow = save([step("a"), step("b"), step("c")], [("a", "b")])
    execution = start_execution(workflow, Start(), by=BY, now=NOW)
    with standing() as runner:
        claimed = runner._claim(2)
        pause_execution(execution, by=BY, now=NOW)
        runner._release(claimed[1:])
        assert runner._finish([work(claimed[0], read_input=lambda n: None, read_results=lambda n: None)]) == []
        assert runner._claim(9) == []
        assert statuses(execution) == {"a": "completed", "b": "held", "c": "held"}
        resume_execution(execution, by=BY, now=NOW)
    with running():
        assert ended(execution).status == "completed"


def test_cancelled_execution_takes_no_result_any_more() -> None:
    execution = start_execution(save([step("a"), step("b")], [("a", "b")]), Start(), by=BY, now=NOW)
    with standing() as runner:
        (held,) = runner._claim(1)
        cancel_execution(execution, reason="Not needed.", by=BY, now=NOW)
        assert runner._do([held]) == []
    assert statuses(execution) == {"a": "cancelled", "b": "cancelled"}
    assert (execution.status, execution.detail, execution.open_count) == ("cancelled", "Not needed.", 0)
    with pytest.raises(IllegalTransition):
        cancel_execution(execution, reason="Again.", by=BY, now=NOW)


def test_node_that_ends_its_worker_each_time_is_given_up() -> None:
    execution = start_execution(save([step("a")], []), Start(), by=BY, now=NOW)
    ExecutionNode.objects.update(attempts=1 + MAX_LOSSES)
    with running():
        assert ended(execution).status == "failed"
    assert "whoever ran it was lost" in execution.detail


def test_higher_priority_goes_first_until_the_other_has_waited_longer() -> None:
    def start(key: str, priority: int) -> None:
        start_execution(save([step(key, priority=priority)], []), Start(), by=BY, now=NOW)

    start("low", 0), start("high", 3), start("old", 0)
    ExecutionNode.objects.filter(key="old").update(rank_at=F("rank_at") - timedelta(minutes=10))
    with standing() as runner:
        claimed = [runner._claim(1)[0].plan.nodes[0].key for _ in range(3)]
    assert claimed == ["old", "high", "low"]


def test_runner_goes_on_after_its_connection_was_cut() -> None:
    with running():
        deadline = time.monotonic() + 60
        while not RunnerRow.objects.exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        before = RunnerRow.objects.get().pk
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_locks JOIN pg_database d ON d.oid = database"
                " WHERE d.datname = current_database() AND locktype = 'advisory' AND classid = %s AND objid = %s",
                [statements.LOCK_CLASS, before],
            )
        execution = start_execution(save([step("a")], []), Start(), by=BY, now=NOW)
        assert ended(execution).status == "completed"
        wait_for(lambda: not RunnerRow.objects.filter(pk=before).exists())  # its session may end a moment later
        assert RunnerRow.objects.count() == 1


def test_functions_find_the_database_again_after_their_connection_was_cut() -> None:
    @functions.register("tests.asks")
    def ask(call: Call) -> int:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_backend_pid()")
            (own,) = cursor.fetchone()
        if call.key == "a":
            with connect() as other:
                other.execute("SELECT pg_terminate_backend(%s)", [own])
        return int(own)

    nodes = [{"key": key, "function": "tests.asks", "retries": 1, "retry_after_s": 0} for key in "ab"]
    execution = start_execution(save(nodes, [("a", "b")]), Start(), by=BY, now=NOW)
    with running():
        assert ended(execution).status == "completed", execution.detail


def test_workflow_that_can_no_longer_be_used_fails_its_executions_and_not_the_runner() -> None:
    execution = start_execution(save([step("a")], []), Start(), by=BY, now=NOW)
    spoiled = WorkflowFactory(definition={"nodes": [{"key": "a", "function": "noop", "colour": "red"}]})
    Execution.objects.update(workflow=spoiled)
    with running():
        assert ended(execution).status == "failed"
        assert "unknown field “colour”" in execution.detail
        other = start_execution(save([step("b")], []), Start(), by=BY, now=NOW)
        assert ended(other).status == "completed"


def test_results_before_a_slow_node_are_written_while_it_is_at_work() -> None:
    gate = threading.Event()

    @functions.register("tests.slow")
    def wait(call: Call) -> None:
        if call.key == "slow":
            assert gate.wait(90)

    nodes = [{"key": key, "function": "tests.slow"} for key in ("quick", "slow", "rest")]
    execution = start_execution(save(nodes, []), Start(), by=BY, now=NOW)
    with running(2):
        deadline = time.monotonic() + 60
        wanted = {"quick": "completed", "slow": "running", "rest": "completed"}
        while statuses(execution) != wanted and time.monotonic() < deadline:
            time.sleep(0.01)
        assert statuses(execution) == wanted
        gate.set()
        assert ended(execution).status == "completed"
    assert set(execution.nodes.values_list("attempts", flat=True)) == {1}


def test_idle_runners_write_nothing_about_each_other() -> None:
    with standing() as one, standing():
        one._look_after()
        with connection.cursor() as cursor:
            cursor.execute("SELECT xmax::text FROM projects_runner")
            assert cursor.fetchall() == [("0",), ("0",)]


def test_function_without_an_end_does_not_hold_up_its_process() -> None:
    gate = threading.Event()

    @functions.register("tests.hangs")
    def hang(call: Call) -> None:
        gate.wait(90)

    node = {"key": "a", "function": "tests.hangs", "timeout_s": 1}
    stuck = start_execution(save([node], []), Start(), by=BY, now=NOW)
    hosting.ensure()
    assert hosting._running
    first = hosting._running[2]
    try:
        deadline = time.monotonic() + 60
        while not stuck.nodes.filter(status="running").exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        other = start_execution(save([step("b")], []), Start(), by=BY, now=NOW)
        while other.status != "completed" and time.monotonic() < deadline:
            hosting.ensure()
            time.sleep(0.01)
            other.refresh_from_db()
        assert other.status == "completed"
        assert first.is_alive()
    finally:
        gate.set()
        hosting.stop()
        first.join(30)
    assert not first.is_alive()


def test_a_process_has_one_runner_however_often_it_is_asked_for() -> None:
    for _ in range(3):
        hosting.ensure()
    try:
        execution = start_execution(save([step("a")], []), Start(), by=BY, now=NOW)
        assert ended(execution).status == "completed"
        assert RunnerRow.objects.count() == 1
    finally:
        hosting.stop()
    wait_for(lambda: not RunnerRow.objects.exists())  # who stops waits for it, and not for ever


KILLED = """
import os, sys, time, django
django.setup()
from projects.workflows.anew import stands_of
from projects.workflows import functions, hosting
@functions.register("tests.traced")
def trace(call):
    with open(sys.argv[1], "a") as file:
        file.write(call.key + "\\n")
    time.sleep(60 if call.key == "n40" else 0.01)  # however late it is killed, something is left to do
hosting.ensure()
time.sleep(60)
"""


def test_nodes_of_a_killed_process_are_taken_up_at_once_and_at_most_one_runs_twice(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    keys = [f"n{number}" for number in range(60)]
    workflow = save([{"key": key, "function": "tests.traced"} for key in keys], list(pairwise(keys)))
    execution = start_execution(workflow, Start(), by=BY, now=NOW)
    of = connection.settings_dict
    url = f"postgresql://{of['USER']}@/{of['NAME']}?host={of['HOST']}"
    environment = os.environ | {"DATABASE_URL": url, "DJANGO_SETTINGS_MODULE": "eklavya.settings"}
    command = [sys.executable, "-c", KILLED, str(trace)]
    first = subprocess.Popen(command, env=environment)
    try:
        deadline = time.monotonic() + 60
        while len(lines(trace)) < 20 and time.monotonic() < deadline:
            time.sleep(0.01)
    finally:
        first.kill()
        first.wait()
    before = len(lines(trace))
    assert 20 <= before < 60

    @functions.register("tests.traced")
    def trace_on(call: Call) -> None:
        with trace.open("a") as file:
            file.write(call.key + "\n")

    with running():
        assert ended(execution).status == "completed"
    times = Counter(lines(trace))
    assert sorted(times) == sorted(keys)
    assert sum(times.values()) <= 61


def lines(path: Path) -> list[str]:
    return path.read_text().split() if path.exists() else []


def test_edge_leads_back_until_its_condition_is_no_longer_met() -> None:
    tries: Counter[str] = Counter()

    @functions.register("tests.counted")
    def count(call: Call) -> dict[str, int]:
        tries[call.key] += 1
        return {"n": tries[call.key]}

    nodes = [{"key": key, "function": "tests.counted"} for key in ("write", "test", "ship")]
    again = {"from": "test", "to": "write", "when": "result.n < 3", "repeat": 5}
    execution = start_execution(save(nodes, [("write", "test"), ("test", "ship"), again]), Start(), by=BY, now=NOW)
    with running(2):
        assert ended(execution).status == "completed"
    assert tries == {"write": 3, "test": 3, "ship": 1}
    assert (execution.open_count, execution.result) == (0, {"ship": {"n": 1}})
    lines = ExecutionLog.objects.filter(execution_id=execution.pk, event="again").order_by("id")
    assert [line.detail for line in lines] == [f"“test” leads back here, {n} of 5 times." for n in (1, 2)]


def test_edge_that_leads_back_too_often_fails_its_node() -> None:
    again = {"from": "b", "to": "a", "when": "result.n == 1", "repeat": 2}
    workflow = save([step("a"), step("b", params={"n": 1}), step("c")], [("a", "b"), ("b", "c"), again])
    execution = start_execution(workflow, Start(), by=BY, now=NOW)
    with running():
        assert ended(execution).status == "failed"
    assert execution.detail == "Node “b” failed: It has led back 2 times, and would once more."
    assert execution.nodes.get(key="a").attempts == 3


def test_edge_leads_back_after_a_failure() -> None:
    tries: Counter[str] = Counter()

    @functions.register("tests.thrice")
    def thrice(call: Call) -> None:
        tries[call.key] += 1
        if call.key == "b" and tries["b"] < 3:
            raise functions.Permanent("not yet")

    nodes = [{"key": key, "function": "tests.thrice"} for key in ("a", "b")]
    again = {"from": "b", "to": "a", "after": "failure", "repeat": 5}
    execution = start_execution(save(nodes, [("a", "b"), again]), Start(), by=BY, now=NOW)
    with running():
        assert ended(execution).status == "completed"
    assert tries == {"a": 3, "b": 3}


def test_branch_beside_an_edge_that_leads_back_is_taken_back_and_done_anew() -> None:
    tries: Counter[str] = Counter()
    went_back = threading.Event()

    @functions.register("tests.branch")
    def branch(call: Call) -> dict[str, int]:
        tries[call.key] += 1
        if call.key == "slow" and tries["slow"] == 1:
            assert went_back.wait(90)
        if call.key == "start" and tries["start"] == 2:
            went_back.set()
        return {"n": tries[call.key]}

    nodes = [{"key": key, "function": "tests.branch"} for key in ("start", "slow", "quick", "end")]
    edges = [("start", "slow"), ("start", "quick"), ("slow", "end"), ("quick", "end")]
    again = {"from": "quick", "to": "start", "when": "result.n == 1", "repeat": 1}
    execution = start_execution(save(nodes, [*edges, again]), Start(), by=BY, now=NOW)
    with running(2):
        assert ended(execution).status == "completed"
    assert tries == {"start": 2, "slow": 2, "quick": 2, "end": 1}
    assert execution.open_count == 0
    assert ExecutionLog.objects.filter(execution_id=execution.pk, event="late").count() == 1


def test_stands_have_results_and_not_their_text() -> None:
    execution = start_execution(save([step("a", params={"n": 1})], []), Start(), by=BY, now=NOW)
    with running():
        assert ended(execution).status == "completed"
    assert stands_of(nodes.execute, execution.pk)[0].result == {"n": 1}


def test_node_done_anew_is_followed_by_what_a_kept_result_leads_to() -> None:
    edges = [("a", "b"), {"from": "a", "to": "c", "when": "result.n == 1"}, ("b", "c")]
    workflow = save([step("a", params={"n": 1}), step("b"), step("c")], edges)
    execution = start_execution(workflow, Start(), by=BY, now=NOW)
    with running():
        assert ended(execution).status == "completed"
        assert dict(execution.nodes.values_list("key", "status")) == dict.fromkeys("abc", "completed")
        redoing.retry_from(execution, "b", by=BY, now=NOW)
        assert ended(execution).status == "completed"
    assert dict(execution.nodes.values_list("key", "status")) == dict.fromkeys("abc", "completed")


def test_node_that_was_claimed_very_often_does_not_stop_all_runners() -> None:
    """retries: 20 and two edges of repeat: 1000 make more than 32,767 claims."""
    again = {"from": "b", "to": "a", "when": "result.n == 1", "repeat": 1000}
    workflow = save([step("a"), step("b", params={"n": 1})], [("a", "b"), again])
    looping = start_execution(workflow, Start(), by=BY, now=NOW)
    ExecutionNode.objects.filter(execution=looping, key="a").update(attempts=32_767, attempts_before=32_766)
    other = start_execution(save([step("only")], []), Start(), by=BY, now=NOW)
    with running():
        assert ended(other).status == "completed"
