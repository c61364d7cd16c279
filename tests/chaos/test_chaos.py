"""A short run of the chaos driver: `make chaos` is the long one."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from eklavya.env import BASE_DIR
from tests.settings import BASE

pytestmark = [pytest.mark.e2e, pytest.mark.cli, pytest.mark.timeout(1200)]

FAULTS = 20
LIMIT_S = 1100
# One project to its demo on two machines, and what lasts lasts less; all else is as in the long run.
SHORT = ["--projects", "1", "--demo-only", "--machines", "2", "--lean", "--gap", "2", "--longest", "6", "--links"]
SHORT += ["--containers", "0"]


def test_a_project_arrives_though_its_house_is_broken_twenty_times(tmp_path: Path) -> None:
    """What each fault hits differs from run to run, and so do the lost runs; what must be true at the end does not."""
    report = tmp_path / "report.json"
    command = [sys.executable, "-m", "tests.chaos", "--faults", str(FAULTS), "--seed", "7", *SHORT]
    where = ["--timeout", "700", "--directory", str(BASE), "--json", str(report)]
    with subprocess.Popen(
        [*command, *where], cwd=BASE_DIR, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as run:
        try:
            said, _ = run.communicate(timeout=LIMIT_S)
        finally:
            run.terminate()  # it takes down what it put up

    assert run.returncode == 0, said
    found = json.loads(report.read_text())
    assert sum(found["faults"].values()) == FAULTS, said
    assert {"kill worker", "kill gateway", "kill beat", "stop PostgreSQL at once", "cut a worker off"} <= set(
        found["faults"]
    )
    assert [outcome["status"] for outcome in found["outcomes"]] == ["demo"]
    assert found["facts"]["ledger"]["served"] > 0
    assert found["problems"] == []
