"""Breaks a house at work, again and again, and looks whether everything arrived all the same.

python -m tests.chaos [--projects 20] [--faults 200] [--seed 1] [--containers 1] [--demo-only] [--gap 4] …

Ends with 0 when every project ended as it should and nothing is left over. The plan of faults follows from the seed;
what they hit depends on where the work is at that moment.
"""

import argparse
import json
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import psutil

from eklavya.env import Env
from tests.chaos import engine, network
from tests.chaos.faults import Faults
from tests.chaos.house import House

_POLL_S = 0.1
# So long everything may take to answer again after the last fault.
_CALM_S = 180


@dataclass
class Report:
    """What a run found. `problems` is empty when all is well."""

    seed: int
    projects: int
    network: str = ""
    """How the machines reach the servers."""
    seconds: float = 0.0
    faults: dict[str, int] = field(default_factory=dict)
    faults_at_work: int = 0
    """Of them, before the last project was over; the others hit an idle house."""
    outcomes: list[dict[str, Any]] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    ended_by_itself: dict[str, int] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


def main() -> None:
    options = _options()
    problem = _why_not_apart(options)
    _settle_containers(options, problem)
    # Whoever ends it early gets his machine back as it was, too.
    for end in (signal.SIGTERM, signal.SIGINT):
        signal.signal(end, lambda *_: sys.exit("ended early"))
    base = Path(tempfile.mkdtemp(prefix="ekc-", dir=options.directory))
    base.chmod(0o711)
    house = House(
        base,
        machines_wanted=options.machines,
        containers=options.containers,
        lease_s=options.lease,
        is_lean=options.lean,
        network=None if problem else network.Network(),
    )
    reached = f"links ({problem})" if problem else "network namespaces"
    report = Report(options.seed, options.projects, reached)
    began = time.monotonic()
    try:
        house.start()
        took = f"after {time.monotonic() - began:.0f} s"
        _say(f"{len(house.parts)} processes, {options.machines} machines by {reached}, {took}: {base}")
        _run(house, options, report)
        house.stop()
        report.problems += _left(house, report)
    finally:
        if house.parts:
            house.stop()
        report.seconds = round(time.monotonic() - began, 1)
        house.remove(keep=options.keep)
    _conclude(report, options.json)
    sys.exit(bool(report.problems))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--projects", type=int, default=20)
    parser.add_argument("--faults", type=int, default=200)
    parser.add_argument("--machines", type=int, default=3)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--containers", type=int, help="machines with agents in containers (default: 1 where it works)")
    parser.add_argument("--shared-daemon", action="store_true", help="with the machine's Docker daemon, never killed")
    parser.add_argument("--links", action="store_true", help="machines in no network namespaces, behind links")
    parser.add_argument("--demo-only", action="store_true", help="stop at the first demo of each project")
    parser.add_argument("--lean", action="store_true", help="without egress proxies and a second beat")
    parser.add_argument("--gap", type=float, default=6, help="seconds between two faults, about")
    parser.add_argument("--longest", type=float, default=45, help="seconds that a lasting fault lasts at most")
    parser.add_argument("--lease", type=int, default=20, help="seconds of a run's lease")
    parser.add_argument("--timeout", type=float, default=7200, help="seconds for all projects together")
    parser.add_argument("--only", action="append", default=[], help="only kinds of faults that contain this")
    parser.add_argument("--directory", help="where the data goes (default: the temporary directory)")
    parser.add_argument("--json", type=Path, help="write the report there")
    parser.add_argument("--keep", action="store_true", help="keep the data and the logs")
    return parser.parse_args()


def _why_not_apart(options: argparse.Namespace) -> str:
    """Return why machines are in no network namespaces of their own; empty when they are."""
    if options.links:
        return "as asked"
    if options.shared_daemon:
        return "a Docker daemon serves one network"
    return network.why_not()


def _settle_containers(options: argparse.Namespace, not_apart: str) -> None:
    """Say how many machines have containers where nobody has; end the program where what was asked for is not there."""
    problem = "" if options.shared_daemon else not_apart or engine.why_not(Env().EKLAVYA_IMAGE)
    if options.containers is None:
        options.containers = 0 if problem else 1
        if problem:
            _say(f"no containers: {problem}")
    elif options.containers and problem:
        sys.exit(f"no Docker daemon of its own ({problem}): --shared-daemon takes the machine's, and lets it live")


def _run(house: House, options: argparse.Namespace, report: Report) -> None:
    """Start projects, break things while they are worked on, and look at the end of it."""
    arguments = ["--projects", str(options.projects), "--timeout", str(options.timeout)]
    command = [sys.executable, "-m", "tests.chaos.client", *arguments, *["--demo-only"] * options.demo_only]
    log, began = (house.logs / "client.log").open("w"), time.monotonic()
    with (
        log,
        subprocess.Popen(command, env=house.environment(), stdout=subprocess.PIPE, stderr=log, text=True) as client,
    ):
        reader = _Reader(client)
        try:
            _break(house, options, report, reader)
            _wait(house, lambda: not reader.is_alive())
        finally:
            client.kill()
    _say(f"{time.monotonic() - began:7.1f} s  the projects are over")
    report.outcomes = reader.outcomes
    report.problems += [f"{one['name']}: {problem}" for one in reader.outcomes for problem in one["problems"]]
    if len(reader.outcomes) != options.projects:
        said = (house.logs / "client.log").read_text()[-2000:]
        report.problems.append(f"{len(reader.outcomes)} of {options.projects} projects have an outcome: {said}")
    _calm(house, report)
    _look(house, report)


class _Reader(threading.Thread):
    """Reads what the client says."""

    def __init__(self, client: "subprocess.Popen[str]") -> None:
        super().__init__(daemon=True)
        self._client = client
        self.outcomes: list[dict[str, Any]] = []
        self.news: Counter[str] = Counter()
        self.start()

    def run(self) -> None:
        assert self._client.stdout
        for line in self._client.stdout:
            said = json.loads(line)
            if said["type"] == "outcome":
                self.outcomes.append(said)
            else:
                self.news[said["action"]] += 1


def _break(house: House, options: argparse.Namespace, report: Report, reader: _Reader) -> None:
    """Apply one fault after the other; kinds come in decks, each kind once in a deck, in an order by the seed."""
    _wait(house, lambda: reader.news["project.created"] == options.projects or not reader.is_alive())
    random = Random(options.seed)
    faults = Faults(house, random, options.longest)
    kinds = {name: call for name, call in faults.kinds().items() if any(only in name for only in options.only or [""])}
    began, deck, done = time.monotonic(), [], Counter[str]()
    next_at = began
    while done.total() < options.faults:
        house.poll()
        faults.due()
        if time.monotonic() >= next_at:
            if not deck:
                deck = random.sample(sorted(kinds), len(kinds))
            kind = deck.pop()
            if what := kinds[kind]():
                done[kind] += 1
                report.faults_at_work += reader.is_alive()
                _say(f"{time.monotonic() - began:7.1f} s  {done.total():4} {kind}: {what}")
            next_at = time.monotonic() + random.uniform(0.5, 1.5) * options.gap * bool(what)
        time.sleep(_POLL_S)
    faults.heal_all()
    report.faults = dict(done)


def _wait(house: House, is_over: Any, *, limit_s: float | None = None) -> bool:
    give_up = time.monotonic() + limit_s if limit_s else None
    while not is_over():
        house.poll()
        time.sleep(_POLL_S)
        if give_up and time.monotonic() > give_up:
            return False
    return True


def _calm(house: House, report: Report) -> None:
    """Wait until every process answers again."""
    if not _wait(house, house.is_ready, limit_s=_CALM_S):
        silent = [name for name, part in house.parts.items() if part.child.pid is None or not part.child.spec.ready()]
        report.problems.append(f"still silent {_CALM_S} s after the last fault: {silent}")
    report.ended_by_itself = {name: part.ends for name, part in house.parts.items() if part.ends}


def _look(house: House, report: Report) -> None:
    """Ask rows, repositories and machines."""
    for machine in house.machines:
        left = house.run_json("tidy", machine=machine)
        report.problems += [f"{machine.name}: left over: {name}" for kind in sorted(left) for name in left[kind]]
    found = house.run_json("checks")
    report.facts = found["facts"]
    report.problems += found["problems"]


def _left(house: House, report: Report) -> list[str]:
    """Return the processes that outlive the stop of everything, but for what a killed Docker daemon was making."""
    engines = [machine.engine for machine in house.machines if machine.engine]
    never_begun = {process.pid for one in engines for process in one.never_begun()}
    report.facts["never_begun"] = len(never_begun)
    found = []
    for process in psutil.process_iter(["pid", "cmdline", "environ"]):
        said = " ".join([*(process.info["cmdline"] or []), *(process.info["environ"] or {}).values()])
        if str(house.base) in said and process.pid not in never_begun | {psutil.Process().pid}:
            found.append(f"process {process.pid} is left: {' '.join(process.info['cmdline'] or [])[:200]}")
    return found


def _conclude(report: Report, path: Path | None) -> None:
    if path:
        path.write_text(json.dumps(asdict(report), indent=1, default=str), encoding="utf-8")
    ended = Counter(outcome["status"] for outcome in report.outcomes)
    count = sum(report.faults.values())
    _say(f"\nseed {report.seed}, {report.projects} projects, {count} faults, {report.seconds:.0f} s")
    _say(f"{report.faults_at_work} faults hit projects at work; machines by {report.network}")
    for kind, count in sorted(report.faults.items()):
        _say(f"  {count:4} {kind}")
    _say(f"projects: {dict(ended)}; {json.dumps(report.facts)}; ended by themselves: {report.ended_by_itself}")
    for problem in report.problems:
        _say(f"PROBLEM  {problem}")
    _say("all arrived, nothing is left" if not report.problems else f"{len(report.problems)} problems")


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
