"""What the model gateway adds to a request, with its reservation, beside going direct and beside LiteLLM's proxy.

python bench/gateway.py [--rounds 5] [--streams 50] [--skip-litellm]

The ways are taken in turn, round by round, against the same model: one that answers at once and then streams at a
pace. So what a way adds to the time to the first byte is its own doing. Two loads: `paced`, as agents make it (the
streams last seconds), and `flat out`, where the next request follows at once. LiteLLM runs in a virtual environment of
its own below var/bench, with a master key, a budget and rate limits, as near as it comes to what is done here without
a database of its own.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from bench.gateway_only import gateway_only, make_runs  # noqa: E402
from bench.installation import free_ports  # noqa: E402
from bench.litellm import KEY, litellm  # noqa: E402
from bench.programs import program  # noqa: E402

PACED = {"events": 100, "pace": 0.03}
FLAT_OUT = {"events": 100, "pace": 0.0}
_STREAMS = [sys.executable, str(ROOT / "bench" / "streams.py")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--streams", type=int, default=50)
    parser.add_argument("--requests", type=int, default=200, help="of each way and load in a round")
    parser.add_argument("--skip-litellm", action="store_true")
    options = parser.parse_args()
    with ExitStack() as stack:
        var = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="eklavya-bench-")))
        [port] = free_ports(1)
        model = f"http://127.0.0.1:{port}"
        stack.enter_context(program([*_STREAMS, "model", "--port", str(port)], url=model, log=var / "model.log"))
        ways = {"direct": (f"{model}/v1/messages", ["none"])}
        address = stack.enter_context(gateway_only(var, model))
        ways["eklavya"] = (f"{address}/models/anthropic/v1/messages", make_runs(options.streams))
        if not options.skip_litellm:
            ways["litellm"] = (f"{stack.enter_context(litellm(var, model))}/v1/messages", [KEY])
        _measure(ways, options, var)


def _measure(ways: dict[str, tuple[str, list[str]]], options: argparse.Namespace, var: Path) -> None:
    for name, load in (("paced", PACED), ("flat out", FLAT_OUT)):
        rounds: dict[str, list[dict[str, float]]] = {way: [] for way in ways}
        for number in range(options.rounds + 1):
            for way, (url, keys) in ways.items():
                seen = _round(url, keys, load, options, var)
                if number:  # the first is for warming up
                    rounds[way].append(seen)
        _report(name, rounds)


def _round(
    url: str, keys: list[str], load: dict[str, float], options: argparse.Namespace, var: Path
) -> dict[str, float]:
    (var / "keys.txt").write_text("\n".join(keys))
    counts = ["--streams", str(options.streams), "--requests", str(options.requests)]
    shape = ["--events", str(load["events"]), "--pace", str(load["pace"])]
    command = [*_STREAMS, "load", "--url", url, "--keys", str(var / "keys.txt"), *counts, *shape]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{url}: {done.stderr[-2000:]}")
    seen = json.loads(done.stdout)
    firsts = sorted(1000 * first for first in seen["firsts"])
    if not firsts:
        raise SystemExit(f"{url}: every request was refused: {set(seen['refused'])}")
    return {
        "p50": firsts[len(firsts) // 2],
        "p95": firsts[int(len(firsts) * 0.95)],
        "requests": len(firsts) / seen["took"],
        "refused": len(seen["refused"]),
    }


def _report(name: str, rounds: dict[str, list[dict[str, float]]]) -> None:
    lines = [f"{name}: {len(rounds['direct'])} rounds"]
    for way, seen in rounds.items():
        middle = {key: statistics.median(one[key] for one in seen) for key in seen[0]}
        added = {
            key: statistics.median(one[key] - base[key] for one, base in zip(seen, rounds["direct"], strict=True))
            for key in ("p50", "p95")
        }
        share = [one["requests"] / base["requests"] for one, base in zip(seen, rounds["direct"], strict=True)]
        lines.append(
            f"  {way:8} first byte p50 {middle['p50']:.1f} ms, p95 {middle['p95']:.1f} ms;"
            f" added p50 {added['p50']:.1f} ms, p95 {added['p95']:.1f} ms;"
            f" {middle['requests']:.1f} requests/s, {statistics.median(share):.2f} of direct"
            + (f"; {middle['refused']:.0f} refused" if middle["refused"] else "")
        )
    sys.stdout.write("\n".join(lines) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
