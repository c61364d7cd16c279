"""The five graph workloads beside other engines: W1 chain, W2 fan, W3 layers, W4 idle start, W5 many short ones.

    EKLAVYA_BENCH=FOLDER EKLAVYA_BENCH_VENVS=FOLDER python bench/graphs.py [--rounds 3] [--engines A,B] [--workloads w1]
    … python bench/graphs.py --crash     kill -9 of the whole engine half way through a chain of slow nodes

EKLAVYA_BENCH is the folder of the harness (run.py, engines/base.py), EKLAVYA_BENCH_VENVS one with a virtual environment
per engine, as the harness's setup_peers.py makes them. The harness's own (`bench`) is made where it is missing, ours is
linked. All engines run one after the other, interleaved, on the same PostgreSQL (fsync on) and Redis. Read the ratios
within a round, not the seconds: other work on the machine changes those.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
US = "eklavya"
# What is compared in each workload, how it is written, and whether more is better.
MEASURES = {
    "w1": ("step_p50_ms", "ms a step", False),
    "w2": ("nodes_per_s", "nodes/s", True),
    "w3": ("nodes_per_s", "nodes/s", True),
    "w4": ("start_p50_ms", "ms to start", False),
    "w5": ("workflows_per_s", "workflows/s", True),
}
PEERS = "floor-pg,celery-prefork,celery-counters,dbos-queue-fast,procrastinate-fast"
Results = dict[str, dict[str, dict[int, list[float]]]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--engines", default=PEERS)
    parser.add_argument("--workloads", default=",".join(MEASURES))
    parser.add_argument("--crash", action="store_true")
    options = parser.parse_args()
    harness = os.environ.get("EKLAVYA_BENCH")
    if not harness:
        sys.stdout.write("skipped: EKLAVYA_BENCH does not name the folder of the harness\n")
        return
    folder = os.environ.get("EKLAVYA_BENCH_VENVS") or tempfile.mkdtemp(prefix="eklavya-bench-venvs-")
    venvs = _venvs(Path(folder), harness)
    engines = [name for name in options.engines.split(",") if name]
    with tempfile.TemporaryDirectory(prefix="eklavya-bench-") as folder:
        out = Path(folder) / "results.jsonl"
        sys.stdout.write(f"load average {os.getloadavg()[0]:.1f}\n")
        sys.stdout.flush()
        script = ["crash.py"] if options.crash else ["run.py", "--no-limits", "--rounds", str(options.rounds)]
        if not options.crash:
            script += ["--workloads", options.workloads]
        command = [str(venvs / "bench/bin/python"), *script, "--venvs", str(venvs), "--out", str(out)]
        adapter = {"BENCH_ADAPTER": f"{ROOT / 'bench/eklavya_adapter.py'}:Eklavya"}
        names = [US] if options.crash else [*engines, US]
        subprocess.run([*command, "--engines", ",".join(names)], cwd=harness, env=os.environ | adapter, check=True)
        rows = [json.loads(line) for line in out.read_text().splitlines()]
    sys.stdout.write(f"load average {os.getloadavg()[0]:.1f}\n")
    if not options.crash:
        _report(_collect(rows))


def _venvs(folder: Path, harness: str) -> Path:
    """Link our own environment, and make the harness's if it is missing."""
    if not (folder / "bench").exists():
        setup = [sys.executable, str(Path(harness) / "setup_peers.py"), str(folder), "bench"]
        subprocess.run(setup, check=True)
    if not (folder / US).exists():
        (folder / US).symlink_to(Path(sys.prefix))
    return folder


def _collect(rows: list[dict[str, Any]]) -> Results:
    """Return workload → engine → round → its figures."""
    found: Results = defaultdict(lambda: defaultdict(lambda: defaultdict(list)))
    for row in rows:
        if row["workload"] in MEASURES and "metrics" in row:
            name = MEASURES[row["workload"]][0]
            found[row["workload"]][row["engine"]][row["round"]].append(row["metrics"][name])
        elif "error" in row:
            sys.stdout.write(f"{row.get('engine')} {row['workload']}: {row['error']}\n")
    return found


def _report(results: Results) -> None:
    """Print each engine's median, and how many times better we are: within each round, then the median of rounds."""
    for workload, engines in sorted(results.items()):
        _, unit, is_more_better = MEASURES[workload]
        ours = {number: statistics.median(values) for number, values in engines[US].items()}
        for engine, rounds in engines.items():
            medians = {number: statistics.median(values) for number, values in rounds.items()}
            both = [(ours[number], theirs) for number, theirs in medians.items() if number in ours]
            ratios = [mine / theirs if is_more_better else theirs / mine for mine, theirs in both]
            times = f"{statistics.median(ratios):8.2f} ({min(ratios):.2f}-{max(ratios):.2f})" if ratios else "       -"
            middle = statistics.median(medians.values())
            sys.stdout.write(f"{workload} {engine:20} {middle:10,.2f} {unit:12} we are times better: {times}\n")


if __name__ == "__main__":
    main()
