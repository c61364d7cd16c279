"""The whole line: how long it takes, and how much of that an agent's process or a test is at work.

python bench/line.py [--runtime local|docker] [--rounds 3] [--projects 1]
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from decimal import Decimal
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from bench.installation import free_ports  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runtime", choices=["local", "docker"], default="local")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--projects", type=int, default=1)
    options = parser.parse_args()
    for number in range(1, options.rounds + 1):
        outcomes = _rehearse(options.runtime, options.projects)
        sys.stdout.write(f"{options.runtime} round {number}: {_described(outcomes)}\n")
        sys.stdout.flush()


def _rehearse(runtime: str, projects: int) -> list[dict[str, Any]]:
    web, gateway, rehearsal, egress = free_ports(4)
    with tempfile.TemporaryDirectory(prefix="eklavya-bench-") as var:
        own = {
            "EKLAVYA_VAR": var,
            "EKLAVYA_RUNTIME": runtime,
            "EKLAVYA_WEB_PORT": str(web),
            "EKLAVYA_GATEWAY_PORT": str(gateway),
            "EKLAVYA_REHEARSAL_PORT": str(rehearsal),
            "EKLAVYA_EGRESS_PORT": str(egress),
        }
        command = [sys.executable, "manage.py", "rehearse", "--json", "--projects", str(projects)]
        done = subprocess.run(command, cwd=ROOT, env=os.environ | own, capture_output=True, text=True, check=False)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    outcomes = [line for line in lines if line["type"] == "outcome"]
    if done.returncode or not outcomes:
        raise SystemExit(f"the rehearsal ended with exit code {done.returncode}\n{done.stderr[-2000:]}\n{outcomes}")
    return outcomes


def _described(outcomes: list[dict[str, Any]]) -> str:
    walls = [outcome["wall_s"] for outcome in outcomes]
    shares = [outcome["busy_s"] / outcome["wall_s"] for outcome in outcomes]
    lost = sum(outcome["runs"].get("lost", 0) for outcome in outcomes)
    cost = sum(Decimal(outcome["cost"]) for outcome in outcomes)
    return (
        f"{len(outcomes)} delivered in {max(walls):.1f} s, agents or tests at work {statistics.mean(shares):.0%} of it,"
        f" {lost} runs lost, cost {cost}"
    )


if __name__ == "__main__":
    main()
