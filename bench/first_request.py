"""How long from "task ready" to the agent's first model request, beside the same CLI started by hand.

    python bench/first_request.py [--runtime local|docker] [--rounds 10]

Each round measures both, one after the other, so that noise hits both alike. Ours: from the moment the task became
ready to the moment in which the gateway reserved the first request's money. The floor: from starting the launcher of
the same sandbox, with the same tools and prompt, to the arrival of the first request at a bare server.
"""

import argparse
import asyncio
import statistics
import sys
import time
from pathlib import Path
from tempfile import mkdtemp

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.installation import installation


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runtime", choices=["local", "docker"], default="local")
    parser.add_argument("--rounds", type=int, default=10)
    options = parser.parse_args()
    with installation(options.runtime):
        import django

        django.setup()
        rounds = [(_ours(), _floor()) for _ in range(options.rounds)]
    ours, floor = (statistics.median(column) for column in zip(*rounds, strict=True))
    ratios = sorted(one / other for one, other in rounds)
    sys.stdout.write(
        f"{options.runtime}: {len(rounds)} rounds, median {ours * 1000:.0f} ms, floor {floor * 1000:.0f} ms\n"
        f"ratio of medians {ours / floor:.2f}, of rounds: median {statistics.median(ratios):.2f}, "
        f"lowest {ratios[0]:.2f}, highest {ratios[-1]:.2f}\n"
    )


def _ours() -> float:
    """Seconds from ready to the first reservation, of a new project's first task."""
    from django.utils import timezone

    from agents.actions.runs import ask_to_stop
    from billing.models import LedgerEntry
    from projects.actions.projects import NewProject, cancel_project, create_project
    from projects.actors import Actor

    by = Actor.system("bench")
    project = create_project(NewProject("Members borrow tools and bring them back."), by=by, now=timezone.now())
    ready_at = project.tasks.get().ready_at
    while (first := LedgerEntry.objects.filter(project_id=project.pk).order_by("created_at").first()) is None:
        time.sleep(0.02)
    cancel_project(project, reason="measured", by=by, now=timezone.now())
    ask_to_stop(project, reason="cancelled", by=by, now=timezone.now())
    while any(run.is_active for run in project.runs.all()):
        time.sleep(0.05)
    return (first.created_at - ready_at).total_seconds()


def _floor() -> float:
    """Seconds from starting the CLI by hand to its first request."""
    from agents.runtimes.contract import SandboxSpec
    from agents.sandboxes import runtime

    root = Path(mkdtemp(prefix="eklavya-floor-"))
    for name in ("workspace", "home", "control"):
        (root / name).mkdir()
    return asyncio.run(_start_by_hand(runtime(), SandboxSpec, root))


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
