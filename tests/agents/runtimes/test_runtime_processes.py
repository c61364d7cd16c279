"""Records of processes: whom they find, and whom they must never find."""

import json
import os
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

from agents.runtimes.processes import About, ProcessTable, _open_and_retry, poll, write_private

ABOUT = About(project="p", labels={}, port=None)


@pytest.fixture
def table(tmp_path: Path) -> ProcessTable:
    return ProcessTable(tmp_path / "state")


@pytest.fixture
def bystander() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["sleep", "60"]) as process:
        yield process
        process.kill()


def start_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])


def record(table: ProcessTable, name: str, *, pid: int, start: int, boot: str | None = None) -> None:
    boot = boot or Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    content = json.dumps({"pid": pid, "start": start, "boot": boot})
    (table.directory(name) / f"{pid}.process").write_text(content)


def test_kill_ends_a_recorded_process(table: ProcessTable, bystander: subprocess.Popen[bytes]) -> None:
    table.open("a", ABOUT)
    record(table, "a", pid=bystander.pid, start=start_of(bystander.pid))
    assert table.is_alive("a")
    table.kill("a")
    assert bystander.wait(timeout=60) == -9


def test_kill_spares_a_later_process_of_the_same_number(
    table: ProcessTable, bystander: subprocess.Popen[bytes]
) -> None:
    table.open("a", ABOUT)
    record(table, "a", pid=bystander.pid, start=start_of(bystander.pid) - 1)
    assert not table.is_alive("a")
    table.kill("a")
    assert bystander.poll() is None


def test_kill_spares_a_process_of_another_boot(table: ProcessTable, bystander: subprocess.Popen[bytes]) -> None:
    table.open("a", ABOUT)
    record(table, "a", pid=bystander.pid, start=start_of(bystander.pid), boot="another")
    table.kill("a")
    assert bystander.poll() is None


def test_kill_spares_the_same_name_of_another_installation(table: ProcessTable, tmp_path: Path) -> None:
    other = ProcessTable(tmp_path / "other")
    with subprocess.Popen(["sleep", "60"], env={"EKLAVYA_SANDBOX": other.marker("a")}) as process:
        assert poll(lambda: other.is_alive("a"), timeout_s=60)
        table.kill("a")
        assert process.poll() is None
        other.kill("a")
        assert process.wait(timeout=60) == -9


def test_kill_ends_a_tree_that_grows_while_it_is_cut(table: ProcessTable, tmp_path: Path) -> None:
    # Each child opens a session, forgets where it belongs, and lives for some seconds.
    grow = "while :; do env -i setsid sleep 5 & sleep 0.02; done"
    with subprocess.Popen(["bash", "-c", grow], env={"EKLAVYA_SANDBOX": table.marker("a")}, cwd=tmp_path) as process:
        assert poll(lambda: len(table.members("a")) > 5, timeout_s=60)
        table.kill("a")
        assert process.wait(timeout=60) == -9
    assert table.members("a") == set()


def test_kill_ends_what_a_killer_that_died_left(table: ProcessTable, bystander: subprocess.Popen[bytes]) -> None:
    table.open("a", ABOUT)
    record(table, "a", pid=bystander.pid, start=start_of(bystander.pid))
    (table.directory("a") / "killed").touch()
    table.kill("a")
    assert bystander.wait(timeout=60) == -9
    assert table.names() == []


def test_two_kills_at_once_both_succeed(table: ProcessTable) -> None:
    def kill(begin: Barrier) -> None:
        begin.wait()
        table.kill("a")

    for _ in range(3):
        directory = table.open("a", ABOUT)
        for number in range(400):
            (directory / "tmp" / str(number) / "cache").mkdir(parents=True)
        begin = Barrier(2)
        with ThreadPoolExecutor(2) as killers:
            ended = [killers.submit(kill, begin) for _ in range(2)]
        assert [one.exception() for one in ended] == [None, None]
        assert table.names() == []


def test_a_directory_that_goes_while_it_is_being_removed_is_fine(tmp_path: Path) -> None:
    # Between a look and the next step: too short a moment to wait for another kill to hit it.
    for step in (os.open, os.lstat, os.scandir, os.rmdir, os.unlink):
        _open_and_retry(step, str(tmp_path / "gone"), None)


def test_kill_removes_directories_that_a_sandbox_closed(table: ProcessTable) -> None:
    inner = table.open("a", ABOUT) / "tmp" / "closed"
    inner.mkdir(parents=True)
    (inner / "file").touch()
    inner.chmod(0)
    inner.parent.chmod(0o500)
    table.kill("a")
    assert table.names() == []


def test_a_private_file_is_replaced_and_never_shared(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    path.chmod(0o644)
    write_private(path, b"new")
    assert (path.read_text(), path.stat().st_mode & 0o777) == ("new", 0o600)
    assert list(tmp_path.iterdir()) == [path]
