"""The parts of `supervision.py` that work on the product's tables. Import it with Django set up."""

import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import psutil
from celery import current_app
from django.db import connection, connections
from django.utils import timezone

from agents.actions import agents as agents_of
from agents.actions import leases, runs
from agents.actions.dispatch import SCHEDULER, Dispatched, dispatch
from agents.actions.transcript import Line, record_lines
from agents.clock import house_now
from agents.models import Run, RunEvent
from agents.runtimes.local import LocalRuntime
from agents.sandboxes import repository
from agents.supervisor.keeper import INTERVAL_S, LeaseKeeper
from agents.supervisor.supervise import supervise
from bench.claiming import take
from projects.models import Squad, Task
from projects.states import TaskStatus
from tests.factories import AgentFactory, ProjectFactory, TaskFactory, WorkerFactory

Say = Callable[[str], None]
PER_PROJECT = 25
START_S = 200
CLAIMED_S = 200
CLAIMING_WORKERS = 2


def agents(count: int, *, fake: str, every_s: float, seconds: float, say: Say) -> None:
    """Supervise so many agents at once in this process, which does nothing else while its cost is measured."""
    _worker()
    there = Path(tempfile.mkdtemp(prefix="eks-fake-"))
    program = there / "fake"
    program.write_text(fake.format(python=sys.executable, there=there, seconds=seconds, every=every_s))
    program.chmod(0o755)
    _ready_tasks(count)
    made = dispatch(now=house_now())
    assert len(made) == count, f"{len(made)} runs of {count}"
    beats: list[float] = []
    keeper = LeaseKeeper("bench", clock=house_now, on_beat=lambda now: beats.append(time.monotonic()))
    keeper.start()
    me = psutil.Process()
    before = me.memory_info().rss
    runtime = LocalRuntime(state_dir=there / "sandboxes", cli=program)
    for one in made:
        threading.Thread(target=_supervise, args=(one.run_id, keeper, runtime), daemon=True).start()
    try:
        _await(lambda: len(list(there.glob("ready-*"))) == count, START_S)
        (there / "go").touch()
        time.sleep(3)
        cpu, lines, began = _cpu(me), _stored(), time.monotonic()
        time.sleep(seconds - 6)
        cpu, lines, took = _cpu(me) - cpu, _stored() - lines, time.monotonic() - began
        memory = me.memory_info().rss - before
        wrote = there / "wrote"
        _await(lambda: wrote.exists() and len(wrote.read_text().split()) == count, 60)
        written = sum(map(int, wrote.read_text().split()))
        _settle(written)
        stored = _stored()
        per_50 = 100 * cpu / took * 50 / count
        say(f"{count} agents: {written} lines written, {stored} stored, {written - stored} lost")
        say(f"  {lines / took:.0f} lines/s stored, {1e6 * cpu / max(lines, 1):.0f} µs of CPU a line")
        say(
            f"  {per_50:.1f} % of a core per 50 agents (target 15), {memory / count / 2**20:.2f} MB an agent (target 3)"
        )
        gap = max(later - earlier for earlier, later in pairwise(beats))
        say(f"  leases renewed every {INTERVAL_S:g} s, {gap:.1f} s apart at most")
    finally:
        # Ended like this, not run by run: saving so many clones is not what is measured.
        for name in runtime.list_sandboxes():
            runtime.kill(name)
        subprocess.run(["rm", "-rf", str(there)], check=False)
        sys.stdout.flush()
        os._exit(0 if sys.exc_info()[0] is None else 1)


def _supervise(run_id: UUID, keeper: LeaseKeeper, runtime: LocalRuntime) -> None:
    try:
        supervise(run_id, keeper=keeper, runtime=runtime, clock=house_now)
    finally:
        connections.close_all()


def _cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def _stored() -> int:
    """Count the lines of the fake agents: different ones of each run."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(DISTINCT (run_id, split_part(payload->>'text', 'x', 1))) FROM agents_runevent"
            " WHERE kind = 'text'"
        )
        return int(cursor.fetchone()[0])


def _settle(written: int) -> None:
    give_up = time.monotonic() + 20
    while _stored() < written and time.monotonic() < give_up:
        time.sleep(0.2)


def claims(count: int, *, say: Say) -> None:
    """Let so many tasks become ready in one moment: dispatched here, sent by Celery, taken by workers' processes.

    What is measured ends where a run is claimed: no program is started, which would measure those.
    """
    queues = [f"bench-{number}" for number in range(CLAIMING_WORKERS)]
    for number, queue in enumerate(queues):
        WorkerFactory(name=f"bench-{number}", queue=queue, capacity=1000, runtime="local", heartbeat_at=timezone.now())
    _ready_tasks(count)
    workers = [_claiming_worker(queue) for queue in queues]
    try:
        _await(lambda: len(current_app.control.inspect(timeout=1).ping() or {}) == len(queues), START_S)
        began = time.monotonic()
        claimed: list[float] = []
        watching = threading.Thread(target=_watch_claims, args=(count, began, claimed))
        watching.start()
        made = dispatch(now=house_now(), send=_send_to_claim)
        dispatched_s = time.monotonic() - began
        watching.join()
    finally:
        for worker in workers:
            worker.terminate()
        for worker in workers:
            worker.wait(30)
    if len(made) < count or len(claimed) < count:
        raise SystemExit(f"{len(made)} of {count} tasks were dispatched, {len(claimed)} claimed in {CLAIMED_S} s")
    p95 = claimed[int(0.95 * count) - 1]
    say(f"{count} ready tasks claimed: p50 {statistics.median(claimed):.2f} s, p95 {p95:.2f} s (target 1 s)")
    say(f"  of that {dispatched_s:.2f} s until all were dispatched and sent, to {len(queues)} Celery workers")


def _worker() -> None:
    """A worker with room for all. Named: a database that is measured in turns has those of earlier processes."""
    WorkerFactory(name=f"bench-{uuid4()}", capacity=1000, runtime="local", heartbeat_at=timezone.now())


def _claiming_worker(queue: str) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "celery", "-A", "eklavya", "worker", "-I", "bench.claiming", "-Q", queue]
    options = ["-n", f"{queue}@bench", "-P", "threads", "-c", "25", "--without-gossip", "--without-mingle"]
    # Light: it announces no machine and begins nothing by itself.
    env = os.environ | {"EKLAVYA_WORKER": "light"}
    return subprocess.Popen([*command, *options], env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def _send_to_claim(made: list[Dispatched]) -> None:
    for queue in {one.queue for one in made}:
        take.apply_async(kwargs={"run_ids": [str(one.run_id) for one in made if one.queue == queue]}, queue=queue)


def _watch_claims(count: int, began: float, claimed: list[float]) -> None:
    """Note when each claim shows, looking all the time: fifty times a second."""
    while len(claimed) < count and time.monotonic() - began < CLAIMED_S:
        now_claimed = Run.objects.filter(status="starting").count()
        claimed += [time.monotonic() - began] * (now_claimed - len(claimed))
        time.sleep(0.02)
    connections.close_all()


def _ready_tasks(count: int) -> None:
    """Ready tasks in projects of PER_PROJECT, each with as many free agents, all with a repository."""
    left = count
    while left > 0:
        project = ProjectFactory(status="building")
        here = min(left, PER_PROJECT)
        repository(project.pk).create()
        for number in range(here):
            AgentFactory(project=project)
            TaskFactory(project=project, kind="build", role="developer", status="ready", key=f"task-{number}")
        Squad.objects.filter(project=project).update(max_concurrent_runs=PER_PROJECT)
        # Called in when the project's first task was ready, long before.
        agents_of.spawn_agents([project.pk], by=SCHEDULER, now=timezone.now())
        left -= here


def fill(tasks: int, events: int) -> None:
    """Put so many completed tasks, and lines of ended runs, into the tables."""
    project = ProjectFactory(status="building")
    task = TaskFactory(project=project, kind="build", role="developer", status="completed", key="t0")
    agent = AgentFactory(project=project)
    run = Run.objects.create(
        project=project,
        task=task,
        agent=agent,
        attempt=1,
        status="failed",
        runtime="local",
        model="m",
        reason="x",
        detail="x",
        created_at=timezone.now(),
        started_at=timezone.now(),
        finished_at=timezone.now(),
    )
    runs_wanted = max(1, events // 1000)
    _copy(Task, task.pk, tasks, id="gen_random_uuid()", key="'t' || n")
    _copy(Run, run.pk, runs_wanted, id="uuidv7()", attempt="n + 1")
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO agents_runevent (id, run_id, seq, kind, payload, created_at)"
            " SELECT uuidv7(), r.id, s, 'text', jsonb_build_object('text', repeat('x', 120)), now()"
            " FROM agents_run r, generate_series(1, 1000) s"
        )
        cursor.execute("UPDATE agents_run SET last_seq = 1000")
        cursor.execute("ANALYZE")


def _copy(model: Any, pk: UUID, times: int, **changed: str) -> None:
    """Insert copies of a row, with these columns as expressions of n."""
    columns = [field.column for field in model._meta.concrete_fields]
    values = [changed.get(column, f'"{column}"') for column in columns]
    names = ", ".join(f'"{column}"' for column in columns)
    table = model._meta.db_table
    with connection.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO {table} ({names}) SELECT {', '.join(values)} FROM {table}, generate_series(1, %s) n"
            " WHERE id = %s",
            [times, pk],
        )


def measure(repeats: int) -> dict[str, list[float]]:
    """Dispatch, write for and complete one task after the other, and return the seconds of each step."""
    found: dict[str, list[float]] = {"dispatch": [], "event": [], "completion": []}
    _worker()
    project = ProjectFactory(status="building")
    AgentFactory(project=project)
    for number in range(repeats):
        TaskFactory(project=project, kind="build", role="developer", status=TaskStatus.READY, key=f"m-{number}")
        (made,) = _timed(found["dispatch"], lambda: dispatch(now=house_now()))
        run = Run.objects.select_related("task__project", "project", "agent").get(pk=made.run_id)
        leases.hold_run(run, owner="bench", prompt_version_id=run.prompt_version_id, now=house_now())
        leases.claim_run(run, now=house_now())
        runs.begin_running(run, base_commit="a" * 40, working_dir="", now=house_now())
        line = Line(RunEvent.Kind.TEXT, {"text": "x" * 120}, house_now())
        _timed(found["event"], lambda run=run, line=line: record_lines(run, [line]))
        runs.begin_evaluation(run, commit="b" * 40, now=house_now())
        _timed(found["completion"], lambda run=run: runs.succeed(run, result={}, now=house_now()))
    return found


def _timed(into: list[float], step: Callable[[], Any]) -> Any:
    began = time.perf_counter()
    result = step()
    into.append(time.perf_counter() - began)
    return result


def _await(is_so: Callable[[], bool], limit_s: float) -> None:
    give_up = time.monotonic() + limit_s
    while not is_so():
        if time.monotonic() > give_up:
            raise SystemExit("it took too long to begin")
        time.sleep(0.1)
