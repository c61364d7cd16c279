"""How long from "task ready" to the agent's first model request, beside the same CLI started by hand.

    python bench/first_request.py [--runtime local|docker] [--rounds 10]

Each round measures all, one after the other, so that noise hits all alike. Ours: from the moment the task became
ready to the moment in which the gateway reserved the first request's money; of the first task of a new project, which
finds neither repository nor network nor squad, and of a task of a project that is under way, as nearly all are. The
floor: from starting the launcher of the same sandbox, with the same tools and prompt, to the arrival of the first
request at a bare server.
"""

import argparse
import asyncio
import os
import statistics
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.installation import free_ports, installation

if TYPE_CHECKING:
    from projects.models import Task

KINDS = ("first task of a new project", "task of a project under way")
LONGEST_S = 60
PROJECT = "floor"
ARGUMENTS = ("-p", "hello", "--tools", "Read,Write,Edit,Glob,Grep", "--strict-mcp-config", "--setting-sources", "")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runtime", choices=["local", "docker"], default="local")
    parser.add_argument("--rounds", type=int, default=10)
    options = parser.parse_args()
    with installation(options.runtime):
        import django

        django.setup()
        with _Floor() as floor_of:
            rounds = [(*_ours(), floor_of.seconds()) for _ in range(options.rounds)]
    *ours, floor = (statistics.median(column) for column in zip(*rounds, strict=True))
    sys.stdout.write(f"{options.runtime}: {len(rounds)} rounds, median of the floor {floor * 1000:.0f} ms\n")
    for name, median, column in zip(KINDS, ours, zip(*rounds, strict=True), strict=False):
        ratios = sorted(one / row[-1] for one, row in zip(column, rounds, strict=True))
        sys.stdout.write(
            f"{name}: median {median * 1000:.0f} ms, ratio of medians {median / floor:.2f}, "
            f"of rounds: median {statistics.median(ratios):.2f}, lowest {ratios[0]:.2f}, highest {ratios[-1]:.2f}\n"
        )


def _ours() -> tuple[float, float]:
    """Seconds from ready to the first reservation: of a new project's first task, and of the same once more."""
    from django.utils import timezone

    from agents.actions.runs import ask_to_stop
    from projects.actions.projects import NewProject, cancel_project, create_project
    from projects.actors import Actor

    by = Actor.system("bench")
    project = create_project(NewProject("Members borrow tools and bring them back."), by=by, now=timezone.now())
    task = project.tasks.get()
    first = _first_reservation(task, runs=1)
    # Its run ends in good order, and the task is ready again at once.
    ask_to_stop(project, reason="paused", by=by, now=timezone.now())
    again = _first_reservation(task, runs=2)
    cancel_project(project, reason="measured", by=by, now=timezone.now())
    ask_to_stop(project, reason="cancelled", by=by, now=timezone.now())
    while any(run.is_active for run in project.runs.all()):
        time.sleep(0.05)
    return first, again


def _first_reservation(task: "Task", *, runs: int) -> float:
    from billing.models import LedgerEntry

    deadline = time.monotonic() + LONGEST_S
    while time.monotonic() < deadline:
        latest = task.runs.order_by("-created_at").first() if task.runs.count() == runs else None
        first = LedgerEntry.objects.filter(run_id=latest.pk).order_by("created_at").first() if latest else None
        if first is not None:
            task.refresh_from_db()
            return float((first.created_at - task.ready_at).total_seconds())
        time.sleep(0.02)
    raise SystemExit(f"run {runs} of the task made no request within {LONGEST_S} s; see run.log")


class _Floor:
    """The CLI started by hand, in sandboxes of a namespace of its own: of the host they reach the bare server alone."""

    def __enter__(self) -> "_Floor":
        from django.conf import settings

        from agents.runtimes.registry import choose

        (self._port,) = free_ports(1)
        self._directory = TemporaryDirectory(prefix="eklavya-floor-", ignore_cleanup_errors=True)
        self._runtime = choose(
            settings.EKLAVYA_RUNTIME,
            state_dir=Path(self._directory.name) / "sandboxes",
            image=settings.EKLAVYA_IMAGE,
            namespace=f"floor-{os.getpid()}",
            host_ports=(self._port,),
        ).runtime
        return self

    def __exit__(self, *_: object) -> None:
        from agents.runtimes.docker import DockerRuntime

        self._runtime.remove_project(PROJECT)
        if isinstance(self._runtime, DockerRuntime):
            self._runtime.remove_rules()
        self._directory.cleanup()

    def seconds(self) -> float:
        """Seconds from starting the CLI to its first request."""
        return asyncio.run(self._start_by_hand())

    async def _start_by_hand(self) -> float:
        from agents.runtimes.contract import SandboxSpec

        arrived = asyncio.Event()

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            line = await reader.readline()
            if line.startswith(b"POST /v1/messages"):
                arrived.set()
            writer.close()

        host = self._runtime.host_address(PROJECT)
        server = await asyncio.start_server(answer, host, self._port)
        env = {
            "ANTHROPIC_BASE_URL": f"http://{host}:{self._port}",
            "ANTHROPIC_API_KEY": "floor",
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        }
        name = f"floor-{time.monotonic_ns()}"
        directories = {part: Path(self._directory.name) / name / part for part in ("workspace", "home", "control")}
        for directory in directories.values():
            directory.mkdir(parents=True)
        launcher = self._runtime.launcher(SandboxSpec(name=name, project=PROJECT, env=env, **directories))
        began = time.monotonic()
        process = await asyncio.create_subprocess_exec(
            launcher, *ARGUMENTS, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL
        )
        await asyncio.wait_for(arrived.wait(), LONGEST_S)
        took = time.monotonic() - began
        await asyncio.to_thread(self._runtime.kill, name)
        await process.wait()
        server.close()
        return took


if __name__ == "__main__":
    main()
