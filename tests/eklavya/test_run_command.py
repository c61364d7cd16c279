"""`manage.py run` as a person uses it: the whole of it, started once for all tests of this file."""

import io
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from rich.console import Console

from agents.runtimes.contract import SandboxSpec
from agents.runtimes.local import LocalRuntime
from eklavya.env import BASE_DIR, Env
from eklavya.management.commands._screen import Fact, Screen
from eklavya.management.commands.run import personal
from eklavya.services.components import runtime_choice
from eklavya.services.health import http_answers
from eklavya.services.instance import read_record
from eklavya.services.processes import wait_gone
from eklavya.services.running import running
from eklavya.services.stack import Report
from tests.ports import free_ports

START_SECONDS = 180


@dataclass
class Started:
    """A running `manage.py run`."""

    process: subprocess.Popen[str]
    env: Env
    environment: dict[str, str]
    out: Path

    def wait_for(self, pattern: str) -> re.Match[str]:
        """Wait until the output holds the pattern."""
        deadline = time.monotonic() + START_SECONDS
        while not (found := re.search(pattern, self.out.read_text(encoding="utf-8"), re.MULTILINE)):
            assert time.monotonic() < deadline, self.out.read_text(encoding="utf-8")
            assert self.process.poll() is None, self.out.read_text(encoding="utf-8")
            time.sleep(0.1)
        return found

    def pid_of(self, name: str) -> int:
        """The process of one part."""
        record = read_record(self.env.EKLAVYA_VAR)
        assert record
        return record["processes"][name]["pid"]


def start(var: Path, out: Path, *, ports: list[int], **variables: str) -> Started:
    names = [f"EKLAVYA_{name}_PORT" for name in ("WEB", "GATEWAY", "REHEARSAL", "EGRESS")]
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("EKLAVYA_", "DATABASE_", "DJANGO_"))
    } | {"EKLAVYA_VAR": str(var), "EKLAVYA_ENV_FILE": "", **dict(zip(names, map(str, ports), strict=True)), **variables}
    with out.open("w", encoding="utf-8") as file:
        process = subprocess.Popen(
            [sys.executable, "manage.py", "run"], cwd=BASE_DIR, env=environment, stdout=file, stderr=file, text=True
        )
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("DATABASE_URL", raising=False)
        env = Env(EKLAVYA_VAR=var, **dict(zip(names, ports, strict=True)))
    return Started(process, env, environment, out)


@pytest.fixture(scope="module")
def started() -> Iterator[Started]:
    directory = Path(tempfile.mkdtemp(dir=os.environ["EKLAVYA_TEST_BASE"]))
    one = start(directory / "var", directory / "out", ports=free_ports(4))
    try:
        one.wait_for(r"^  Stop ")
        yield one
    finally:
        one.process.terminate()
        one.process.wait(timeout=90)


@pytest.mark.e2e
class TestRunning:
    """A class, so that one process of a parallel run has all of these, and one start serves them."""

    def test_screen_says_where_and_what(self, started: Started) -> None:
        text = started.out.read_text(encoding="utf-8")
        assert re.search(r"  ✓ Migrations +\d+ applied +[\d.]+ s", text)
        assert f"  Open     http://127.0.0.1:{started.env.EKLAVYA_WEB_PORT}/login/link/" in text
        runtime = runtime_choice(personal(started.env)).runtime
        isolation = "" if runtime.isolated else ", NOT ISOLATED"
        assert re.search(rf"^  Agents   {runtime.name}{isolation}: \w", text, re.MULTILINE)
        assert "  Model    REHEARSAL: " in text
        assert f"  Data     {started.env.EKLAVYA_VAR}\n" in text
        assert "\x1b" not in text
        assert "Traceback" not in text

    def test_every_part_does_its_work(self, started: Started) -> None:
        found = running(started.env)
        assert found
        assert found.state == "running"
        parts = {"postgres", "valkey", "rehearsal", "gateway", "egress", "web", "worker", "beat"}
        assert found.healthy == dict.fromkeys(parts, True)

    def test_data_is_private(self, started: Started) -> None:
        assert started.env.EKLAVYA_VAR.stat().st_mode & 0o066 == 0

    def test_second_start_says_where_the_first_is(self, started: Started) -> None:
        command = [sys.executable, "manage.py", "run"]
        result = subprocess.run(
            command, check=False, cwd=BASE_DIR, env=started.environment, capture_output=True, text=True, timeout=60
        )
        assert result.returncode == 0
        assert f"already running (pid {started.process.pid}, {started.env.public_url})" in result.stdout
        assert "/login/link/" in result.stdout

    def test_killed_part_comes_back(self, started: Started) -> None:
        os.kill(started.pid_of("web"), signal.SIGKILL)
        started.wait_for(r"Web was killed by SIGKILL: .*logs/web\.log\); again in 1 s")
        started.wait_for(r"Web works again")
        assert http_answers(started.env.EKLAVYA_WEB_PORT)

    @pytest.mark.last
    def test_stop_is_orderly_and_keeps_the_data(self, started: Started, tmp_path: Path) -> None:
        var = started.env.EKLAVYA_VAR
        record = read_record(var)
        assert record
        processes = [psutil.Process(child["pid"]) for child in record["processes"].values()]
        started.process.send_signal(signal.SIGINT)
        assert started.process.wait(timeout=90) == 0
        assert wait_gone(processes, seconds=5) == []
        assert started.out.read_text(encoding="utf-8").endswith(f"stopped; the data is kept in {var}\n")
        assert (var / "postgres" / "PG_VERSION").exists()
        assert running(started.env) is None
        # told twice it used to hang, and was killed after its time
        log = (var / "logs" / "worker.log").read_text(encoding="utf-8")
        assert (log.count("Warm shutdown"), log.count("runs handed back")) == (1, 1)
        assert "Worker stopped in 30 s" not in started.out.read_text(encoding="utf-8")
        self.check_that_any_number_of_ctrl_c_leaves_nothing(started, tmp_path)

    def check_that_any_number_of_ctrl_c_leaves_nothing(self, started: Started, tmp_path: Path) -> None:
        """Start a second time, which is quick, as the first is over now."""
        env = started.env
        ports = [env.EKLAVYA_WEB_PORT, env.EKLAVYA_GATEWAY_PORT, env.EKLAVYA_REHEARSAL_PORT, env.EKLAVYA_EGRESS_PORT]
        again = start(env.EKLAVYA_VAR, started.out.with_name("again"), ports=ports)
        runtime = LocalRuntime(state_dir=env.EKLAVYA_VAR / "sandboxes" / "local")
        for name in ("workspace", "home"):
            (tmp_path / name).mkdir()
        places = {name: tmp_path / name for name in ("workspace", "home", "control")}
        try:
            again.wait_for(r"^  Stop ")
            # As a preview, it is made to outlive whoever started it.
            runtime.start(SandboxSpec(name="demo-1", project="one", **places), "exec sleep 60", wait_s=0)
            record = read_record(env.EKLAVYA_VAR)
            assert record
            processes = [psutil.Process(child["pid"]) for child in record["processes"].values()]
            again.process.send_signal(signal.SIGINT)
            again.wait_for(r"^stopping: ")
            again.process.send_signal(signal.SIGINT)
            while again.process.poll() is None:
                again.process.send_signal(signal.SIGINT)
                time.sleep(0.05)
            assert wait_gone(processes, seconds=5) == []
            assert not runtime.is_alive("demo-1")
        finally:
            runtime.kill("demo-1")
            again.process.kill()
            again.process.wait(timeout=30)
        text = again.out.read_text(encoding="utf-8")
        assert text.endswith(f"stopped; the data is kept in {env.EKLAVYA_VAR}\n")
        assert text.count("ending everything at once") == 1
        assert "Traceback" not in text


@pytest.mark.parametrize(
    ("variables", "sentence"),
    [
        ({"DATABASE_URL": "nonsense"}, "DATABASE_URL must look like postgres://"),
        ({"DATABASE_URL": "postgres://127.0.0.1:1/none"}, "DATABASE_URL does not answer"),
        ({"REDIS_URL": "redis://127.0.0.1:1"}, "REDIS_URL does not answer"),
        (
            {"EKLAVYA_RUNTIME": "docker", "DOCKER_HOST": "unix:///no/docker.sock"},
            "EKLAVYA_RUNTIME=docker does not work",
        ),
        ({"EKLAVYA_VAR": "/proc/var"}, "cannot write /proc/var"),
    ],
)
def test_problem_is_one_line(variables: dict[str, str], sentence: str, fresh_var: Path) -> None:
    one = start(fresh_var, fresh_var.with_name("out"), ports=free_ports(4), **variables)
    assert one.process.wait(timeout=60) == 1
    text = one.out.read_text(encoding="utf-8")
    problems = [line for line in text.splitlines() if line.startswith("eklavya: ")]
    assert len(problems) == 1
    assert sentence in problems[0]
    assert "Traceback" not in text


def test_taken_port_is_one_line(fresh_var: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        taken = server.getsockname()[1]
        one = start(fresh_var, fresh_var.with_name("out"), ports=[*free_ports(2), taken, *free_ports(1)])
        assert one.process.wait(timeout=60) == 1
    text = one.out.read_text(encoding="utf-8")
    assert f"eklavya: port {taken} is in use by " in text
    assert "set EKLAVYA_REHEARSAL_PORT to another port" in text


def test_stop_while_starting(fresh_var: Path) -> None:
    one = start(fresh_var, fresh_var.with_name("out"), ports=free_ports(4))
    one.wait_for(r"PostgreSQL 18")
    one.process.send_signal(signal.SIGTERM)
    assert one.process.wait(timeout=60) == 0
    assert "stopped before it was ready; the data is kept" in one.out.read_text(encoding="utf-8")
    assert running(one.env) is None


def test_local_runtime_is_allowed_on_ones_own_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    assert personal(Env()).EKLAVYA_ALLOW_LOCAL_RUNTIME
    monkeypatch.setenv("EKLAVYA_ALLOW_LOCAL_RUNTIME", "false")
    assert not personal(Env()).EKLAVYA_ALLOW_LOCAL_RUNTIME


def screen(**options: bool) -> tuple[Screen, io.StringIO]:
    file = io.StringIO()
    console = Console(file=file, soft_wrap=True, highlight=False, width=40, **options)  # type: ignore[arg-type]
    return Screen(out=console, progress=console), file


def test_screen_without_a_terminal_has_no_control_characters_and_no_breaks() -> None:
    shown, file = screen()
    shown.header("1.0", var=Path("/srv/[data]"))
    shown.report(Report("web", "Web", "starting"))
    shown.report(Report("web", "Web", "ready", seconds=1.24))
    shown.ready([Fact("Open", "http://127.0.0.1:8000/" + "x" * 100)], seconds=2)
    lines = file.getvalue().splitlines()
    assert lines[0] == "Eklavya 1.0  ·  data /srv/[data]"
    assert re.fullmatch(r"  ✓ Web +1\.2 s", lines[1])
    assert "  Open     http://127.0.0.1:8000/" + "x" * 100 in lines
    assert "\x1b" not in file.getvalue()


def test_last_line_says_what_is_not_stopped_and_how_to_end_it() -> None:
    shown, file = screen()
    shown.farewell("stopped", left=[])
    shown.farewell("stopped", left=["demo-1 still runs; run: docker rm --force demo-1", "more"])
    assert file.getvalue().splitlines() == [
        "stopped",
        "NOT everything is stopped:",
        "  - demo-1 still runs; run: docker rm --force demo-1",
        "  - more",
    ]


def test_screen_on_a_terminal_moves_and_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    shown, file = screen(force_terminal=True)
    shown.report(Report("web", "Web", "starting"))
    shown.report(Report("web", "Web", "failed", detail="broken"))
    shown.end_progress()
    assert "starting Web" in file.getvalue()
    assert "\x1b[31m  ✗ " in file.getvalue()


def test_screen_on_a_terminal_breaks_facts_between_words_and_no_address() -> None:
    shown, file = screen(force_terminal=True, no_color=True)
    address = "http://127.0.0.1:8000/" + "x" * 60
    shown.facts([Fact("Open", address), Fact("Agents", "they run as plain processes, without isolation")])
    lines = file.getvalue().replace("\x1b[1m", "").replace("\x1b[0m", "").splitlines()
    assert lines[0] == f"  Open     {address}"
    assert lines[1:3] == ["  Agents   they run as plain processes,", "           without isolation"]


def test_screen_tells_news_with_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    shown, file = screen()
    shown.ready([], seconds=1)
    shown.report(Report("web", "Web", "restarting", detail="was killed by SIGKILL"))
    shown.report(Report("web", "Web", "stopping"))
    shown.report(Report("web", "Web", "stopped", seconds=0.1))
    shown.report(Report("worker", "Worker", "stopped", seconds=12))
    assert re.search(r"^\d\d:\d\d:\d\d Web was killed by SIGKILL$", file.getvalue(), re.MULTILINE)
    assert re.search(r"Worker stopped in 12 s\n$", file.getvalue())
    assert "Web stopp" not in file.getvalue()
