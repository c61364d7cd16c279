"""How long from "task ready" to the agent's first model request, beside the same CLI started by hand.

    python bench/first_request.py [--runtime local|docker] [--rounds 10] [--lines 1]

Each round measures all, one after the other, so that noise hits all alike. Ours: from the moment the task became
ready to the moment in which the gateway reserved the first request's money; of the first task of a new project, which
finds neither repository nor network nor squad, and of a task of a project that is under way, of which nobody knew that
it would become ready. And of all tasks of whole lines, as they become ready one by one and several at a time: for most
of those a program waits (docs/adr/0014-standbys.md), which boots beside the verification of what they depend on.

Two floors, both from starting the launcher of the same sandbox to the arrival of the first request at a bare server.
"same command": the CLI with the run's own command line, prompt, tools, MCP server and first message; what is above it
is the platform's doing. "bare CLI": one word to say, no MCP server, no stream of JSON to read. No agent can be started
like that: what is above it is also what the CLI needs in order to be one.
"""

import argparse
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from bench.floor import LONGEST_S, Floor  # noqa: E402
from bench.installation import free_ports, installation  # noqa: E402

if TYPE_CHECKING:
    from agents.models import Run
    from projects.models import Task

KINDS = ("first task of a new project", "task of a project under way")
FLOORS = ("same command", "bare CLI")
# Both moments are read from rows afterwards: looking often would only take the processors from what is measured.
_LOOK_FIRST_S = 0.35
_LOOK_AGAIN_S = 0.02


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runtime", choices=["local", "docker"], default="local")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--lines", type=int, default=1)
    options = parser.parse_args()
    with installation(options.runtime):
        import django

        django.setup()
        with Floor(*free_ports(1)) as floor:
            rounds = [_round(floor) for _ in range(options.rounds)]
        in_lines = [one for _ in range(options.lines) for one in _line()]
    sys.stdout.write(f"{options.runtime}: {len(rounds)} rounds, medians\n")
    columns = dict(zip((*KINDS, *FLOORS), zip(*rounds, strict=True), strict=True))
    for name in FLOORS:
        sys.stdout.write(f"  floor, {name}: {statistics.median(columns[name]) * 1000:.0f} ms\n")
    if in_lines:
        _write_lines(in_lines, columns)
    for kind in KINDS:
        sys.stdout.write(f"  {kind}: {statistics.median(columns[kind]) * 1000:.0f} ms\n")
        for name in FLOORS:
            ratios = sorted(ours / floor for ours, floor in zip(columns[kind], columns[name], strict=True))
            of_medians = statistics.median(columns[kind]) / statistics.median(columns[name])
            sys.stdout.write(
                f"    times {name}: {of_medians:.2f} of medians; "
                f"of rounds {statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})\n"
            )


def _round(floor: Floor) -> tuple[float, ...]:
    """Seconds of each kind and each floor, in the order of their names."""
    first, again, run = _ours()
    return first, again, floor.like(run), floor.bare()


def _line() -> list[tuple[float, bool]]:
    """Seconds from ready to the first reservation of each task of a whole line, and whether a program waited for it."""
    from billing.models import LedgerEntry
    from projects.models import AuditLog, Project

    known = set(Project.objects.values_list("pk", flat=True))
    subprocess.run([sys.executable, "manage.py", "rehearse"], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    project = Project.objects.exclude(pk__in=known).get()
    queued = AuditLog.objects.filter(project_id=project.pk, action="run.queued")
    awaited = {row.object_id for row in queued if "standby" in row.details}
    found = []
    for run in project.runs.select_related("task"):
        first = LedgerEntry.objects.filter(run_id=run.pk).order_by("created_at").first()
        if run.attempt == 1 and first is not None and run.task.runs.count() == 1:
            found.append(((first.created_at - run.task.ready_at).total_seconds(), str(run.pk) in map(str, awaited)))
    return found


def _write_lines(in_lines: list[tuple[float, bool]], columns: dict[str, tuple[float, ...]]) -> None:
    for name, found in (
        ("tasks of whole lines", [took for took, _ in in_lines]),
        ("of those, taken by a program that waited", [took for took, was_awaited in in_lines if was_awaited]),
    ):
        if found:
            middle = statistics.median(found)
            ratios = ", ".join(f"{middle / statistics.median(columns[floor]):.2f} times {floor}" for floor in FLOORS)
            sys.stdout.write(f"  {name}: {len(found)}, {middle * 1000:.0f} ms: {ratios}\n")


def _ours() -> "tuple[float, float, Run]":
    """Seconds from ready to the first reservation, of a project's first run and of its second; and the second run."""
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
    return first, again, project.runs.select_related("task__project", "project", "agent__member").latest("created_at")


def _first_reservation(task: "Task", *, runs: int) -> float:
    from billing.models import LedgerEntry

    deadline = time.monotonic() + LONGEST_S
    newest = task.runs.filter(attempt=runs).values("pk")
    entries = LedgerEntry.objects.filter(run_id__in=newest).order_by("created_at").values_list("created_at", flat=True)
    time.sleep(_LOOK_FIRST_S)
    while time.monotonic() < deadline:
        if (at := entries.first()) is not None:
            task.refresh_from_db()
            return float((at - task.ready_at).total_seconds())
        time.sleep(_LOOK_AGAIN_S)
    raise SystemExit(f"run {runs} of the task made no request within {LONGEST_S} s; see run.log")


if __name__ == "__main__":
    main()
