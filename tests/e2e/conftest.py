"""An installation of its own for a test of the whole: data, ports and processes that nobody else uses."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
LIMIT_S = 600


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on right now."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


@dataclass
class Installation:
    """One data directory with its ports. `rehearse` runs the command of that name in it."""

    var: Path
    environment: dict[str, str]

    def rehearse(self, *arguments: str, watch: Callable[[dict[str, Any]], None] = lambda news: None) -> "Rehearsed":
        """Run `manage.py rehearse --json`, showing each piece of news to `watch`, and return how it ended."""
        command = [sys.executable, "manage.py", "rehearse", "--json", "--timeout", str(LIMIT_S), *arguments]
        with subprocess.Popen(
            command, cwd=ROOT, env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout
            assert process.stderr
            try:
                lines = [json.loads(line) for line in self._watched(process.stdout, watch)]
                said = process.stderr.read()
                code = process.wait(timeout=120)
            finally:
                process.send_signal(signal.SIGTERM)
        return Rehearsed(code, [line for line in lines if line["type"] == "outcome"], said)

    def _watched(self, lines: Any, watch: Callable[[dict[str, Any]], None]) -> Iterator[str]:
        for line in lines:
            watch(json.loads(line))
            yield line

    def pid_of(self, name: str) -> int:
        """The process that the stack started under this name."""
        record = json.loads((self.var / "run" / "eklavya.json").read_text())
        pid: int = record["processes"][name]["pid"]
        return pid


@dataclass
class Rehearsed:
    """How a rehearsal ended."""

    exit_code: int
    outcomes: list[dict[str, Any]]
    said: str

    @property
    def only(self) -> dict[str, Any]:
        """The outcome of the one project."""
        (outcome,) = self.outcomes
        return outcome


@pytest.fixture
def install(tmp_path: Path) -> Callable[[str], Installation]:
    """Make an installation that uses the given runtime."""

    def make(runtime: str) -> Installation:
        web, gateway, rehearsal = free_ports(3)
        own = {
            "EKLAVYA_VAR": str(tmp_path / "var"),
            "EKLAVYA_RUNTIME": runtime,
            "EKLAVYA_WEB_PORT": str(web),
            "EKLAVYA_GATEWAY_PORT": str(gateway),
            "EKLAVYA_REHEARSAL_PORT": str(rehearsal),
            "EKLAVYA_ENV_FILE": "",
            "DJANGO_SETTINGS_MODULE": "eklavya.settings",
        }
        inherited = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("EKLAVYA_", "DATABASE_URL", "REDIS_URL", "ANTHROPIC_"))
        }
        return Installation(tmp_path / "var", inherited | own | {"EKLAVYA_IMAGE": "eklavya-sandbox:latest"})

    return make
