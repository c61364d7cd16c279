"""What the model gateway adds to a request, with its reservation, beside going direct and beside LiteLLM's proxy.

python bench/gateway.py [--rounds 5] [--streams 50] [--seconds 10] [--skip-litellm] [--first]

The ways are taken in turn, round by round, against the same model: one that answers at once and then streams at a pace.
So what a way adds to the time to the first byte is its own doing.

*Arriving* is how agents ask: requests of 48 kB come by themselves, at the same moments for each way (a Poisson process
of a seed that is the round's), to a model that sends a piece every 30 ms, 50 to 150 of them. They come as often as
keeps, on average, so many streams open: one begins for each that ends, 17 a second with 50. The time to the first byte
counts from the moment in which a request was due, also when the way, or the clients, were late; *added* is the
difference of a round's quantile to that of the same round going direct, and the middle of all rounds is what stands for
it. Real answers are longer and come rarer, which is easier: three seconds a stream is a squad in a hurry.

*Flat out* is what it can carry: each of so many clients sends its next request as soon as the answer before it is
through, and the model sends its pieces at once. Everything waits for a processor then, so it says how many requests a
second go through, and nothing about the time of one: a queue without end has whatever length its clients give it.

The clients, the model, the ways and PostgreSQL share the processors of one machine. What else it did is printed beside
each round, as the load average before it; and the processor time of a way per request, which hardly depends on that.
`--first` has the scheduler serve the benchmark's processes before all others (SCHED_RR; needs root), for a machine that
is never quiet. It holds for all ways alike, and within the benchmark everybody waits for everybody as before.

LiteLLM runs in a virtual environment of its own below var/bench, with a master key, a budget and rate limits, as near
as it comes to what is done here without a database of its own.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from bench.gateway_only import gateway_only, make_runs  # noqa: E402
from bench.installation import free_ports  # noqa: E402
from bench.litellm import KEY, litellm  # noqa: E402
from bench.programs import program  # noqa: E402

_STREAMS = [sys.executable, str(ROOT / "bench" / "streams.py")]


@dataclass
class _Way:
    """Where requests are sent, with which keys, and whose processor time it takes: words of command lines."""

    url: str
    keys: list[str]
    programs: tuple[str, ...] = ()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--streams", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=10, help="of each way in a round of arriving")
    parser.add_argument("--requests", type=int, default=500, help="of each way in a round flat out; 0 leaves it out")
    parser.add_argument("--skip-litellm", action="store_true")
    parser.add_argument("--first", action="store_true", help="before all other processes of the machine")
    options = parser.parse_args()
    if options.first:
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))  # what it starts inherits it
    with ExitStack() as stack:
        var = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="eklavya-bench-")))
        [port] = free_ports(1)
        model = f"http://127.0.0.1:{port}"
        stack.enter_context(program([*_STREAMS, "model", "--port", str(port)], url=model, log=var / "model.log"))
        ways = {"direct": _Way(f"{model}/v1/messages", ["none"])}
        address = stack.enter_context(gateway_only(var, model))
        keys = make_runs(options.streams)
        ways["eklavya"] = _Way(f"{address}/models/anthropic/v1/messages", keys, ("gateway_asgi", "postgres"))
        if not options.skip_litellm:
            proxy = stack.enter_context(litellm(var, model))
            ways["litellm"] = _Way(f"{proxy}/v1/messages", [KEY], ("litellm",))
        _measure(ways, options, var)


def _measure(ways: dict[str, _Way], options: argparse.Namespace, var: Path) -> None:
    arriving = ["arrive", "--streams", str(options.streams), "--seconds", str(options.seconds)]
    _rounds("arriving", ways, options, var, lambda number: [*arriving, "--seed", str(number)], _show_arriving)
    if options.requests:
        flat_out = ["flat-out", "--streams", str(options.streams), "--requests", str(options.requests)]
        _rounds("flat out", ways, options, var, lambda number: flat_out, _show_flat_out)


Seen = dict[str, list[dict[str, Any]]]


def _rounds(
    title: str,
    ways: dict[str, _Way],
    options: argparse.Namespace,
    var: Path,
    load: Callable[[int], list[str]],
    show: Callable[[str, list[dict[str, Any]], list[dict[str, Any]]], str],
) -> None:
    rounds: Seen = {way: [] for way in ways}
    for number in range(options.rounds + 1):
        busy = os.getloadavg()[0]
        for name, way in ways.items():
            seen = _round(way, load(number), var)
            if number:  # the first is for warming up
                rounds[name].append(seen)
        if number:
            _say(f"{title}, round {number}, load average {busy:.1f}")
            for name, all_of_it in rounds.items():
                _say(show(name, all_of_it[-1:], rounds["direct"][-1:]))
    _say(f"{title}, the middle of {options.rounds} rounds")
    for name, all_of_it in rounds.items():
        _say(show(name, all_of_it, rounds["direct"]))


def _round(way: _Way, load: list[str], var: Path) -> dict[str, Any]:
    (var / "keys.txt").write_text("\n".join(way.keys))
    before = _processor_s(way.programs)
    command = [*_STREAMS, *load, "--url", way.url, "--keys", str(var / "keys.txt")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{way.url}: {done.stderr[-2000:]}")
    seen: dict[str, Any] = json.loads(done.stdout)
    if not seen["answered"]:
        raise SystemExit(f"{way.url}: every request was refused: {set(seen['refused'])}")
    after = _processor_s(way.programs)
    seen["processor"] = {name: 1000 * (after[name] - before[name]) / seen["answered"] for name in way.programs}
    if firsts := sorted(1000 * first for first in seen.get("firsts", [])):
        seen["p50"], seen["p95"] = firsts[len(firsts) // 2], firsts[int(len(firsts) * 0.95)]
    return seen


def _processor_s(programs: tuple[str, ...]) -> dict[str, float]:
    """Processor time so far of this benchmark's processes whose command line has a word in it, those that ended too."""
    used = dict.fromkeys(programs, 0.0)
    for process in psutil.Process().children(recursive=True):
        try:
            line, times = " ".join(process.cmdline()), process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        for word in programs:
            if word in line:
                used[word] += times.user + times.system + times.children_user + times.children_system
                break
    return used


def _show_arriving(name: str, rounds: list[dict[str, Any]], direct: list[dict[str, Any]]) -> str:
    middle = {key: statistics.median(one[key] for one in rounds) for key in ("p50", "p95")}
    added = {
        key: statistics.median(one[key] - base[key] for one, base in zip(rounds, direct, strict=True)) for key in middle
    }
    open_now = statistics.mean(count for one in rounds for count in one["open"])
    return (
        f"  {name:8} first byte p50 {middle['p50']:5.1f} ms, p95 {middle['p95']:5.1f} ms;"
        f" added p50 {added['p50']:5.1f} ms, p95 {added['p95']:5.1f} ms; {open_now:.0f} streams open"
        + _show_rest(rounds)
    )


def _show_flat_out(name: str, rounds: list[dict[str, Any]], direct: list[dict[str, Any]]) -> str:
    speeds = [one["answered"] / one["took"] for one in rounds]
    shares = [speed / (base["answered"] / base["took"]) for speed, base in zip(speeds, direct, strict=True)]
    return (
        f"  {name:8} {statistics.median(speeds):5.1f} requests/s, {statistics.median(shares):.2f} of direct"
        + _show_rest(rounds)
    )


def _show_rest(rounds: list[dict[str, Any]]) -> str:
    parts = [
        f"{statistics.median(one['processor'][word] for one in rounds):.1f} ms {word}"
        for word in rounds[0]["processor"]
    ]
    refused = sum(len(one["refused"]) for one in rounds)
    return (f"; processor a request: {', '.join(parts)}" if parts else "") + (f"; {refused} refused" if refused else "")


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
