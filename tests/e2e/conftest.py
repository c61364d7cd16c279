"""An installation of its own for a test of the whole: data, ports and processes that nobody else uses."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Timer
from typing import Any

import pytest

from tests.ports import free_ports

ROOT = Path(__file__).resolve().parents[2]
LINK = re.compile(r"http\S+/login/link/\S+")
LIMIT_S = 600
START_S = 180
STOP_S = 90
COMMAND_S = 180
ORDINARY = 65534
"""Number of a user who owns nothing on this machine: Debian's `nobody`."""


@dataclass
class Installation:
    """One data directory with its ports. `rehearse` runs the command of that name in it."""

    var: Path
    environment: dict[str, str]
    prefix: tuple[str, ...] = ()
    """What commands begin with: what makes them another user's."""

    def rehearse(self, *arguments: str, watch: Callable[[dict[str, Any]], None] = lambda news: None) -> "Rehearsed":
        """Run `manage.py rehearse --json`, showing each piece of news to `watch`, and return how it ended."""
        with self._started("rehearse", "--json", "--timeout", str(LIMIT_S), *arguments) as process:
            assert process.stdout
            assert process.stderr
            try:
                lines = [json.loads(line) for line in self._watched(process.stdout, watch)]
                said = process.stderr.read()
                code = process.wait(timeout=120)
            finally:
                process.send_signal(signal.SIGTERM)
        return Rehearsed(code, [line for line in lines if line["type"] == "outcome"], said)

    @contextmanager
    def running(self) -> Iterator["Portal"]:
        """Have `manage.py run` at work, from the moment when it shows where to sign in until it has stopped."""
        log = self.var.parent / "run.log"
        with log.open("w") as errors, self._started("run", stderr=errors) as process:
            too_late = Timer(START_S, process.kill)
            too_late.start()
            try:
                assert process.stdout
                link = next((found[0] for line in process.stdout if (found := LINK.search(line))), "")
                too_late.cancel()
                assert link, f"no sign-in link was shown:\n{log.read_text()}"
                yield Portal(self, link)
            finally:
                too_late.cancel()
                process.send_signal(signal.SIGTERM)
                process.communicate(timeout=STOP_S)
        assert process.returncode == 0, log.read_text()

    def manage(self, *arguments: str) -> str:
        """Run a command in this installation, and return what it said."""
        with self._started(*arguments, stderr=subprocess.STDOUT) as process:
            said, _ = process.communicate(timeout=COMMAND_S)
        assert process.returncode == 0, said
        return said

    def _started(self, *arguments: str, stderr: Any = subprocess.PIPE) -> subprocess.Popen[str]:
        command = [*self.prefix, sys.executable, "manage.py", *arguments]
        return subprocess.Popen(
            command, cwd=ROOT, env=self.environment, stdout=subprocess.PIPE, stderr=stderr, text=True
        )

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
class Portal:
    """A running installation, and the sign-in link that its screen showed."""

    installation: Installation
    first_link: str

    @property
    def url(self) -> str:
        """Where it answers, without a slash at the end."""
        return self.first_link.partition("/login/")[0]

    def new_link(self) -> str:
        """Return another sign-in link: a second `manage.py run` prints one and ends."""
        found = LINK.search(self.installation.manage("run"))
        assert found
        return found[0]


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


def installation_in(directory: Path, runtime: str, **variables: str) -> Installation:
    """Return an installation below `directory`, on ports that are free now."""
    web, gateway, rehearsal, egress = free_ports(4)
    own = {
        "EKLAVYA_VAR": str(directory / "var"),
        "EKLAVYA_RUNTIME": runtime,
        "EKLAVYA_WEB_PORT": str(web),
        "EKLAVYA_GATEWAY_PORT": str(gateway),
        "EKLAVYA_REHEARSAL_PORT": str(rehearsal),
        "EKLAVYA_EGRESS_PORT": str(egress),
        "EKLAVYA_ENV_FILE": "",
        "DJANGO_SETTINGS_MODULE": "eklavya.settings",
    }
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("EKLAVYA_", "DATABASE_URL", "REDIS_URL", "ANTHROPIC_"))
    }
    own["EKLAVYA_IMAGE"] = "eklavya-sandbox:latest"
    return Installation(directory / "var", inherited | own | variables)


def as_ordinary_user(installation: Installation) -> Installation:
    """Return the installation of a user without rights, where the tests are root's; else the same one."""
    if os.geteuid() != 0:
        return installation
    home = installation.var.parent
    os.chown(home, ORDINARY, ORDINARY)
    # Python or the checkout may lie where only root may look. This is the right to look, and no other one.
    look = "dac_read_search"
    prefix = ("setpriv", f"--reuid={ORDINARY}", f"--regid={ORDINARY}", "--clear-groups")
    prefix += (f"--inh-caps=-all,+{look}", f"--ambient-caps=-all,+{look}", f"--bounding-set=-all,+{look}", "--")
    variables = {"HOME": str(home), "USER": "nobody", "LOGNAME": "nobody"}
    return replace(installation, environment=installation.environment | variables, prefix=prefix)


@pytest.fixture
def install(fresh_var: Path) -> Callable[..., Installation]:
    """Make an installation that uses the given runtime, and the given variables besides."""
    return lambda runtime, **variables: installation_in(fresh_var.parent, runtime, **variables)


@pytest.fixture(scope="module")
def portal() -> Iterator[Portal]:
    """The portal of an installation of the module's own, as `make run` starts it for an ordinary user."""
    with (
        TemporaryDirectory(dir=os.environ["EKLAVYA_TEST_BASE"]) as directory,
        as_ordinary_user(installation_in(Path(directory), "local")).running() as running,
    ):
        yield running
