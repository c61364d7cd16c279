"""Supervision: what listening to many agents costs, how soon ready work is claimed, and what full tables change.

python bench/supervision.py [agents|claims|dead|tables|real] …       (default: all, one after the other)

agents   50, then 150 fake agents write a line every 100 ms, through the product's own supervisor; all must be stored.
claims   500 ready tasks at once: from ready to claimed.
dead     a worker is killed with runs in it: until they run on another machine.
tables   one dispatch, one completion and one event, on empty tables and on full ones.
real     150 real Claude Code CLIs at one moment, held at their first request: their memory. Not among the default ones.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from eklavya.services.testing import TestServers  # noqa: E402
from tests.chaos.measuring import until_elsewhere  # noqa: E402

PARTS = ("agents", "claims", "dead", "tables")
LINE_EVERY_S = 0.1
WRITES_S = 30
READY_TASKS = 500
DEAD_LIMIT_S = 120
REAL_UP_S = 180
TASKS, EVENTS = 100_000, 1_000_000
REPEATS = 60
ROUNDS = 3

# Speaks the SDK's side of the protocol and no more: the line is what the real CLI writes for a piece of text.
FAKE = """#!{python} -IS
import json, os, sys, time
out = sys.stdout
def say(value):
    out.write(json.dumps(value) + "\\n")
    out.flush()
for text in sys.stdin:
    said = json.loads(text)
    if said["type"] == "control_request":
        answer = {{"subtype": "success", "request_id": said.get("request_id"), "response": {{}}}}
        say({{"type": "control_response", "response": answer}})
    elif said["type"] == "user":
        break
open("{there}/ready-%d" % os.getpid(), "w").close()
while not os.path.exists("{there}/go"):
    time.sleep(0.05)
begin, number = time.monotonic(), 0
while time.monotonic() - begin < {seconds}:
    number += 1
    say({{"type": "assistant", "parent_tool_use_id": None, "session_id": "s", "message": {{"id": "m", "model": "fake",
         "role": "assistant", "content": [{{"type": "text", "text": "line %d " % number + "x" * 120}}]}}}})
    time.sleep(max(0, begin + number * {every} - time.monotonic()))
with open("{there}/wrote", "a") as file:
    file.write("%d\\n" % number)
time.sleep(600)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", choices=[[], *PARTS, "real"], default=[])
    parser.add_argument("--agents", type=int, default=0, help="so many instead of 50 and 150")
    parser.add_argument("--tasks", type=int, default=TASKS)
    parser.add_argument("--events", type=int, default=EVENTS)
    parser.add_argument("--lease", type=int, default=20, help="seconds of a lease, for `dead`")
    parser.add_argument("--outage", type=int, default=0, help="seconds without PostgreSQL before, for `dead`")
    parser.add_argument("--inside", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.inside:
        _inside(options)
        return
    for part in options.parts or PARTS:
        _say(f"-- {part}")
        if part == "agents":
            for count in [options.agents] if options.agents else [50, 150]:
                with _database() as env:
                    _run(["--inside", "agents", "--agents", str(count)], env)
        elif part == "claims":
            with _database() as env:
                _run(["--inside", "claims"], env)
        elif part == "real":
            with _database() as env:
                _run(["--inside", "real", "--agents", str(options.agents or 150)], env | {"EKLAVYA_STANDBYS": "0"})
        elif part == "dead":
            _dead(options.lease, options.outage)
        else:
            _tables(options)


# -- the ground


@contextmanager
def _database() -> Iterator[dict[str, str]]:
    """A PostgreSQL and a Valkey of their own, migrated; yields the environment of programs on them."""
    with tempfile.TemporaryDirectory(prefix="eks-") as directory:
        base = Path(directory)
        base.chmod(0o711)
        servers = TestServers()
        try:
            servers.start_postgres(base / "pg")
            servers.start_valkey(base / "var")
            env = _environment(base, "eklavya")
            _admin(env, "CREATE DATABASE eklavya")
            for command in (["migrate", "--no-input"], ["setup"]):
                subprocess.run(
                    [sys.executable, "manage.py", *command], cwd=ROOT, env=env, check=True, stdout=subprocess.DEVNULL
                )
            yield env
        finally:
            servers.stop()


def _environment(base: Path, name: str) -> dict[str, str]:
    sockets = base / "pg" / "run" / "started-by-make-run"
    return {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "eklavya.settings",
        "EKLAVYA_ENV_FILE": "",
        "EKLAVYA_VAR": str(base / "var"),
        "EKLAVYA_RUNTIME": "local",
        "EKLAVYA_MAX_CONCURRENT_RUNS": "1000",
        "EKLAVYA_MIN_MEMORY_MB": "0",
        "EKLAVYA_CHECKPOINT_MINUTES": "0",
        "DATABASE_URL": f"postgres:///{name}?user=eklavya&host={sockets}",
    }


def _admin(env: dict[str, str], statement: str) -> None:
    import psycopg

    url = env["DATABASE_URL"].replace("/eklavya?", "/postgres?")
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(statement)


def _run(arguments: list[str], env: dict[str, str]) -> str:
    command = [sys.executable, str(Path(__file__).resolve()), *arguments]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    for line in done.stdout.splitlines():
        if not line.startswith("{"):
            _say(line)
    if done.returncode:
        raise SystemExit(f"{' '.join(arguments)} ended with {done.returncode}:\n{done.stderr[-3000:]}")
    return done.stdout


def _inside(options: argparse.Namespace) -> None:
    """A part that needs Django, in a process of its own."""
    import django

    django.setup()
    if options.inside == "real":
        from bench.supervision_real import real

        real(options.agents, up_s=REAL_UP_S, say=_say)
        return
    from bench import supervision_parts as parts

    match options.inside:
        case "agents":
            parts.agents(options.agents, fake=FAKE, every_s=LINE_EVERY_S, seconds=WRITES_S, say=_say)
        case "claims":
            parts.claims(READY_TASKS, say=_say)
        case "fill":
            parts.fill(options.tasks, options.events)
        case "measure":
            _say(json.dumps(parts.measure(REPEATS)))


# -- the parts without Django


def _dead(lease_s: int, outage_s: int) -> None:
    try:
        seconds, lost, has_gap = until_elsewhere(DEAD_LIMIT_S, lease_s=lease_s, outage_s=outage_s)
    except TimeoutError:
        _say(f"dead worker: nothing ran elsewhere in {DEAD_LIMIT_S} s")
    else:
        if outage_s:
            _say(f"PostgreSQL away for {outage_s} s: {lost} runs lost (target 0)")
        if has_gap:
            _say("the machine was too busy: nobody reached the database for 8 s, so leases ran for longer")
        each = ", ".join(f"{one:.1f}" for one in seconds)
        _say(f"dead worker: its {len(seconds)} runs run elsewhere after {each} s (leases of {lease_s} s)")
        _say(f"  the slowest after {max(seconds, default=0):.1f} s (target 30 s)")


def _tables(options: argparse.Namespace) -> None:
    with _database() as env:
        full = {**env, "DATABASE_URL": env["DATABASE_URL"].replace("/eklavya?", "/filled?")}
        _admin(env, "CREATE DATABASE filled TEMPLATE eklavya")
        began = time.monotonic()
        _run(["--inside", "fill", "--tasks", str(options.tasks), "--events", str(options.events)], full)
        _say(f"filled with {options.tasks:,} tasks and {options.events:,} events in {time.monotonic() - began:.0f} s")
        found: dict[str, dict[str, list[float]]] = {"empty": {}, "full": {}}
        for _ in range(ROUNDS):
            for name, where in (("empty", env), ("full", full)):
                said = json.loads(_run(["--inside", "measure"], where).splitlines()[-1])
                for what, times in said.items():
                    found[name].setdefault(what, []).extend(times)
        for what in found["empty"]:
            one, other = (statistics.median(found[name][what]) * 1000 for name in ("empty", "full"))
            _say(f"{what:10} empty {one:7.2f} ms   full {other:7.2f} ms   ratio {other / one:.2f} (target 1.3)")


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
