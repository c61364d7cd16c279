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
import statistics
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.installation import installation

if TYPE_CHECKING:
    from projects.models import Task

KINDS = ("first task of a new project", "task of a project under way")
LONGEST_S = 60


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runtime", choices=["local", "docker"], default="local")
    parser.add_argument("--rounds", type=int, default=10)
    options = parser.parse_args()
    with installation(options.runtime):
        import django

        django.setup()
        rounds = [(*_ours(), _floor()) for _ in range(options.rounds)]
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


def _floor() -> float:
    """Seconds from starting the CLI by hand to its first request."""
    from agents.runtimes.contract import SandboxSpec
    from agents.sandboxes import runtime

    with TemporaryDirectory(prefix="eklavya-floor-", ignore_cleanup_errors=True) as root:
        for name in ("workspace", "home", "control"):
            (Path(root) / name).mkdir()
        return asyncio.run(_start_by_hand(runtime(), SandboxSpec, Path(root)))


async def _start_by_hand(runtime, spec_of, root: Path) -> float:  # type: ignore[no-untyped-def]
    arrived = asyncio.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line = await reader.readline()
        if line.startswith(b"POST /v1/messages"):
            arrived.set()
        writer.close()

    project = "floor"
    host = runtime.host_address(project)
    server = await asyncio.start_server(answer, host, 0)
    port = server.sockets[0].getsockname()[1]
    env = {
        "ANTHROPIC_BASE_URL": f"http://{host}:{port}",
        "ANTHROPIC_API_KEY": "floor",
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
    }
    directories = {name: root / name for name in ("workspace", "home", "control")}
    spec = spec_of(name=f"floor-{time.monotonic_ns()}", project=project, env=env, **directories)
    launcher = runtime.launcher(spec)
    arguments = ["-p", "hello", "--tools", "Read,Write,Edit,Glob,Grep", "--strict-mcp-config", "--setting-sources", ""]
    began = time.monotonic()
    process = await asyncio.create_subprocess_exec(
        launcher, *arguments, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL
    )
    await asyncio.wait_for(arrived.wait(), 60)
    took = time.monotonic() - began
    await asyncio.to_thread(runtime.kill, spec.name)
    await process.wait()
    server.close()
    return took


if __name__ == "__main__":
    main()
