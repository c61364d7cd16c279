"""The part of `supervision.py` with real Claude Code CLIs: how many live at one moment, and what memory they take."""

import socket
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from uuid import UUID, uuid4

import psutil
from django.conf import settings
from django.db import connections
from django.utils import timezone

from agents.actions.dispatch import dispatch
from agents.clock import house_now
from agents.models import Run
from agents.sandboxes import repository, runtime
from agents.supervisor.keeper import LeaseKeeper
from agents.supervisor.supervise import supervise
from learning.actions import load_prompts
from projects.actors import Actor
from projects.roles import Role
from projects.states import TaskKind
from tests.agents.supervisor.line import environment, serve, task_of
from tests.factories import WorkerFactory

Say = Callable[[str], None]
MB = 2**20
# So many boot at a time: more only wait for each other on a machine of two cores.
BOOTING = 6
# With less left nobody else on the machine could work.
LEAST_FREE = 2048 * MB
ENDS_S = 600


def real(count: int, *, up_s: float, say: Say) -> None:
    """Start so many runs of real CLIs in this process's supervision; hold all at their first request; let them end."""
    var = Path(settings.EKLAVYA_VAR)
    go, logs = var / "go", var
    settings.EKLAVYA_STALL_SECONDS = 3600
    with socket.create_server(("127.0.0.1", 0)) as model, socket.create_server(("127.0.0.1", 0)) as gateway:
        settings.EKLAVYA_GATEWAY_PORT = gateway.getsockname()[1]
        port = model.getsockname()[1]
        env = environment(var, port, gateway.getsockname()[1]) | {"BENCH_GO": str(go)}
        with (
            serve("bench.held:app", model, env=env, log=logs / "model.log"),
            serve("eklavya.gateway_asgi:application", gateway, env=env, log=logs / "gateway.log"),
        ):
            _measure(_ready(count), go, port, up_s=up_s, say=say)


def _ready(count: int) -> list[UUID]:
    """Make so many runs, each of a project of its own, that end with what their agents say and need no verification."""
    load_prompts(by=Actor.system("bench"), now=house_now())
    WorkerFactory(name=f"bench-{uuid4()}", capacity=1000, runtime="local", heartbeat_at=timezone.now())
    answered = {"questions": [{"question": "Who?", "answer": "We."}]}
    for _ in range(count):
        task = task_of(TaskKind.REQUIREMENTS, Role.PM, context=answered, next_attempt_at=house_now())
        repository(task.project_id).create()
    made = dispatch(now=house_now())
    assert len(made) == count, f"{len(made)} runs of {count}"
    return [one.run_id for one in made]


def _measure(run_ids: list[UUID], go: Path, port: int, *, up_s: float, say: Say) -> None:
    keeper = LeaseKeeper("bench", clock=house_now, on_beat=lambda now: None)
    keeper.start()
    me = psutil.Process()
    free, own, began = psutil.virtual_memory().available, me.memory_info().rss, time.monotonic()
    threads: list[threading.Thread] = []
    try:
        while (held := _held(port)) < len(run_ids) and time.monotonic() < began + up_s:
            if psutil.virtual_memory().available < LEAST_FREE:
                say(f"  stopped at {held}: less than {LEAST_FREE // MB} MB are left")
                break
            if len(threads) < len(run_ids) and len(threads) - held < BOOTING:
                threads.append(threading.Thread(target=_supervise, args=(run_ids[len(threads)], keeper), daemon=True))
                threads[-1].start()
            else:
                time.sleep(0.1)
        took = time.monotonic() - began
        clis = [_pss(child) for child in me.children(recursive=True) if _is_cli(child)]
        say(f"{held} agents wait for the model at one moment (target 150): {len(clis)} real CLIs, after {took:.0f} s")
        if clis:
            say(f"  {sum(clis) / MB:.0f} MB of PSS together, {sum(clis) / MB / len(clis):.0f} MB a CLI")
        left = psutil.virtual_memory().available
        say(f"  available: {free // MB} MB before, {left // MB} MB then, of {psutil.virtual_memory().total // MB} MB")
        mine = (me.memory_info().rss - own) / MB / max(held, 1)
        say(f"  {mine:.1f} MB of the supervisor's memory an agent (target 3)")
    finally:
        go.touch()
        for thread in threads:
            thread.join(max(0.0, began + up_s + ENDS_S - time.monotonic()))
    begun = Run.objects.filter(pk__in=run_ids[: len(threads)])
    good = begun.filter(status="succeeded").count()
    say(f"  {good} of {len(threads)} runs succeeded, after {time.monotonic() - began:.0f} s")
    for (status, reason, detail), times in Counter(
        begun.exclude(status="succeeded").values_list("status", "reason", "detail")
    ).most_common(5):
        say(f"    {times} {status}: {reason} {detail[:200]!r}")
    keeper.close()


def _supervise(run_id: UUID, keeper: LeaseKeeper) -> None:
    try:
        supervise(run_id, keeper=keeper, runtime=runtime(), clock=house_now)
    finally:
        connections.close_all()


def _held(port: int) -> int:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/held", timeout=60) as answer:
        return int(answer.read())


def _is_cli(process: psutil.Process) -> bool:
    try:
        return process.name().startswith("claude")
    except psutil.Error:
        return False


def _pss(process: psutil.Process) -> int:
    try:
        return int(process.memory_full_info().pss)
    except psutil.Error:
        return 0
