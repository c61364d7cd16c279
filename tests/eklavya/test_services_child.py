"""One supervised process, with real ones."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from eklavya.services.child import Child, Spec, last_line, rotate
from eklavya.services.errors import StartFailed

SLEEP = ["/bin/sleep", "60"]
DEAF = ["/bin/sh", "-c", "trap '' TERM; echo deaf; while :; do sleep 0.1; done"]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., Child]]:
    """Children that end with their test."""
    children = []

    def make_child(command: list[str], **options: object) -> Child:
        options = {"ready": lambda: True, **options}
        child = Child(Spec(name="one", title="One", command=command, **options), logs=tmp_path)  # type: ignore[arg-type]
        children.append(child)
        return child

    yield make_child
    for child in children:
        child.kill()


def wait_for(condition: Callable[[], bool], *, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def test_stops_by_its_signal(make: Callable[..., Child]) -> None:
    child = make(SLEEP)
    child.start()
    assert child.pid
    child.stop()
    assert (child.pid, child.exit_code) == (None, -signal.SIGTERM)


def test_is_asked_once(make: Callable[..., Child], tmp_path: Path) -> None:
    count = "trap 'echo asked; sleep 0.3; exit 0' TERM; echo up; while :; do sleep 0.05; done"
    child = make(["/bin/sh", "-c", count])
    log = tmp_path / "one.log"
    for _ in range(2):
        log.unlink(missing_ok=True)
        child.start()
        wait_for(lambda: "up" in log.read_text(encoding="utf-8"))
        child.signal_stop()
        wait_for(lambda: "asked" in log.read_text(encoding="utf-8"))
        child.stop()
        assert log.read_text(encoding="utf-8").split() == ["up", "asked"]
        assert child.exit_code == 0


def test_is_killed_when_it_does_not_stop_in_time(make: Callable[..., Child], tmp_path: Path) -> None:
    child = make(DEAF, stop_timeout_s=0.2)
    child.start()
    wait_for(lambda: "deaf" in (tmp_path / "one.log").read_text(encoding="utf-8"))
    child.stop()
    assert child.exit_code == -signal.SIGKILL


def test_is_killed_at_once_in_a_hurry(make: Callable[..., Child], tmp_path: Path) -> None:
    child = make(DEAF, stop_timeout_s=60)
    child.start()
    wait_for(lambda: "deaf" in (tmp_path / "one.log").read_text(encoding="utf-8"))
    began = time.monotonic()
    child.stop(hurry=lambda: True)
    assert time.monotonic() - began < 50  # of 60


def test_last_line_is_one_that_says_something(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("ERROR:  permission denied for schema public\nLINE 1: CREATE TABLE a\n                     ^\n")
    assert last_line(log) == "ERROR:  permission denied for schema public"
    log.write_text("----\n")
    assert last_line(log) == "it wrote nothing"


def test_end_while_starting_tells_the_last_line_and_the_log(make: Callable[..., Child], tmp_path: Path) -> None:
    child = make(["/bin/sh", "-c", "echo first; echo no room left; exit 7"])
    child.start()
    wait_for(lambda: child.exit_code is not None)
    with pytest.raises(StartFailed, match=r"One ended with exit code 7 .*no room left \(log: .*one.log\)"):
        child.check_ready()


def test_not_ready_in_time_is_a_failure(make: Callable[..., Child]) -> None:
    child = make(SLEEP, ready=lambda: False, deadline_s=0)
    child.start()
    with pytest.raises(StartFailed, match="not ready after 0 s: it wrote nothing"):
        child.check_ready()


def test_missing_program_is_a_failure(make: Callable[..., Child]) -> None:
    child = make(["/no/such/program"])
    child.start()
    wait_for(lambda: child.exit_code is not None)
    with pytest.raises(StartFailed, match="No such file"):
        child.check_ready()


def test_inherits_no_environment(make: Callable[..., Child], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "secret")
    child = make(["/usr/bin/env"], environment={"ONLY": "this"})
    child.start()
    wait_for(lambda: child.exit_code == 0)
    assert "ONLY=this" in child.log.read_text(encoding="utf-8")
    assert "secret" not in child.log.read_text(encoding="utf-8")


def test_dies_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    program = (
        "import time, pathlib; from eklavya.services.child import Child, Spec\n"
        f"spec = Spec(name='one', title='One', command={SLEEP}, ready=bool)\n"
        f"child = Child(spec, logs=pathlib.Path({str(tmp_path)!r}))\n"
        "child.start(); print(child.pid, flush=True); time.sleep(60)"
    )
    parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert parent.stdout
    with parent:
        child = psutil.Process(int(parent.stdout.readline()))
        wait_for(lambda: child.name() == "sleep")
        parent.kill()
    wait_for(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE)


def test_leaves_when_its_parent_is_gone_already(tmp_path: Path) -> None:
    shim = Path(sys.modules[Child.__module__].__file__ or "").with_name("exec_child.py")
    result = subprocess.run(
        [sys.executable, "-I", "-S", shim, "1", "15", "-", "/bin/echo", "ran"],
        check=False,
        capture_output=True,
        text=True,
    )
    assert (result.returncode, result.stdout) == (1, "")
    assert "is gone" in result.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_becomes_another_user_without_our_groups(make: Callable[..., Child]) -> None:
    child = make(["/usr/bin/id"], user="nobody")
    child.start()
    wait_for(lambda: child.exit_code == 0)
    assert "uid=65534(nobody)" in child.log.read_text(encoding="utf-8")
    assert "root" not in child.log.read_text(encoding="utf-8")


def test_large_log_is_put_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("eklavya.services.child._LOG_LIMIT_BYTES", 10)
    log = tmp_path / "one.log"
    log.write_text("more than ten bytes", encoding="utf-8")
    rotate(log)
    assert not log.exists()
    assert (tmp_path / "one.log.1").exists()
