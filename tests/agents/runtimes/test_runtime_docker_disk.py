"""What a sandbox writes is held: by a file system of its own, or by a watch that kills."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from agents import allocation, machine
from agents.runtimes import docker as docker_module
from agents.runtimes import volumes
from agents.runtimes.contract import Limits, Runtime, SandboxSpec
from agents.runtimes.docker import DockerRuntime
from agents.runtimes.docker_checks import why_no_volumes
from agents.runtimes.errors import RuntimeUnavailable
from agents.runtimes.processes import poll
from agents.runtimes.watching import DiskWatch, used_mb
from tests.agents.runtimes.conftest import MakeSpec

FILL = "while head -c 1M /dev/zero >> $HOME/$((i / 8)); do i=$((i + 1)); done; df -m . | tail -1"
RATES = "$(ls /sys/fs/cgroup/blkio/blkio.throttle.*_bps_device 2>/dev/null || echo /sys/fs/cgroup/io.max)"
needs_root = pytest.mark.skipif(os.getuid() != 0, reason="only root can mount")


@pytest.fixture(scope="module")
def kind() -> str:
    return "docker"


@pytest.fixture
def place(runtime: Runtime, tmp_path: Path) -> Iterator[Path]:
    """A directory of 24 MB."""
    runtime.make_directory(tmp_path / "run", disk_mb=24)
    yield tmp_path / "run"
    runtime.remove_directory(tmp_path / "run")


def in_place(make_spec: MakeSpec, place: Path, **changes: object) -> SandboxSpec:
    for name in ("workspace", "home"):
        (place / name).mkdir()
    return make_spec(workspace=place / "workspace", home=place / "home", control=place / "control", **changes)


@pytest.mark.docker
@needs_root
def test_a_sandbox_cannot_write_more_than_its_volume_holds(runtime: Runtime, make_spec: MakeSpec, place: Path) -> None:
    assert why_no_volumes() == ""
    result = runtime.run(in_place(make_spec, place), f"i=0; {FILL}", timeout_s=60)
    assert "No space left on device" in result.output
    assert used_mb(place) <= 24


@pytest.mark.docker
@needs_root
def test_what_a_sandbox_moves_in_a_second_is_limited(runtime: Runtime, make_spec: MakeSpec, place: Path) -> None:
    spec = in_place(make_spec, place, limits=Limits(disk_mb_s=3))
    device, rate = os.stat(place).st_dev, 3 * 2**20
    number = f"{os.major(device)}:{os.minor(device)}"

    told = runtime.run(spec, f"cat {RATES}", timeout_s=60).output

    # The cgroup's own words: of version 1 a file for each way, of version 2 one for both.
    assert told in (f"{number} {rate}\n" * 2, f"{number} rbps={rate} wbps={rate} riops=max wiops=max\n")


@pytest.mark.docker
@needs_root
def test_empty_files_cannot_fill_the_host(runtime: Runtime, make_spec: MakeSpec, place: Path) -> None:
    command = "python3 -c 'for n in range(10**6): open(str(n), \"x\").close()'"
    result = runtime.run(in_place(make_spec, place), command, timeout_s=60)
    assert "No space left on device" in result.output


@pytest.mark.docker
@needs_root
def test_a_volume_has_no_devices_and_no_set_uid(runtime: Runtime, place: Path) -> None:
    (line,) = [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if f" {place} " in line]
    assert {"nosuid", "nodev"} <= set(line.split(" ")[5].split(","))


@pytest.mark.docker
@needs_root
def test_a_volume_leaves_nothing_behind(runtime: Runtime, tmp_path: Path) -> None:
    runtime.make_directory(tmp_path / "run", disk_mb=24)
    assert os.path.ismount(tmp_path / "run")
    runtime.remove_directory(tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.docker
def test_who_writes_too_much_outside_of_a_volume_is_killed(runtime: Runtime, make_spec: MakeSpec) -> None:
    spec = make_spec(limits=Limits(disk_mb=16))
    result = runtime.run(
        spec, "while :; do head -c 1M /dev/zero >> $HOME/$((i = i + 1)); sleep 0.01; done", timeout_s=60
    )
    assert not result.timed_out
    assert result.exit_code == 137


def test_no_directory_is_made_where_the_disk_has_no_room(tmp_path: Path) -> None:
    with pytest.raises(RuntimeUnavailable, match="in reserve"):
        volumes.check_room(tmp_path, 10**9)


@needs_root
def test_what_others_were_promised_is_not_promised_again(tmp_path: Path) -> None:
    free_mb = os.statvfs(tmp_path).f_bavail * os.statvfs(tmp_path).f_frsize // 2**20
    half_mb = (free_mb - volumes.RESERVE_MB) // 2
    volumes.check_room(tmp_path, half_mb + 2000)
    # Sparse: it costs nothing yet.
    volumes.make(tmp_path / "first", size_mb=half_mb)
    try:
        with pytest.raises(RuntimeUnavailable, match="that others may still use"):
            volumes.check_room(tmp_path, half_mb + 2000)
        (tmp_path / "elsewhere").mkdir()
        assert volumes.promised_mb(tmp_path) > half_mb * 0.9  # without what the file system needs for itself
        assert volumes.promised_mb(tmp_path / "elsewhere") == 0
    finally:
        volumes.remove(tmp_path / "first")
    assert volumes.promised_mb(tmp_path) == 0


def test_a_disk_that_is_only_watched_has_room_for_a_run_where_its_directory_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(docker_module, "why_no_volumes", lambda: "only root can mount")
    docker = DockerRuntime(state_dir=tmp_path / "state", image="none")
    load = {"disk_free_mb": 4_500, "disk_promised_mb": docker.promised_mb(tmp_path)}
    assert allocation.fits_on_disk(load, busy=0, unmade=0) is None  # as many as it takes


@needs_root
def test_what_is_promised_counts_where_the_runs_are_a_link_to_another_directory(tmp_path: Path) -> None:
    var, runs = tmp_path / "var", tmp_path / "large" / "runs"
    for directory in (var, runs):
        directory.mkdir(parents=True)
    (var / "runs").symlink_to(runs)
    volumes.make(var / "runs" / "one", size_mb=64)
    try:
        assert volumes.promised_mb(var) > 32
        with pytest.raises(RuntimeUnavailable, match=r"[1-9]\d that others may still use"):
            volumes.check_room(var / "runs", 10**9)
    finally:
        volumes.remove(var / "runs" / "one")


@needs_root
def test_what_is_promised_is_of_the_disk_that_it_is_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(docker_module, "why_no_volumes", lambda: "")  # whether a daemon is there or not
    runs = tmp_path / "runs"
    runs.mkdir()
    docker = DockerRuntime(state_dir=tmp_path / "state", image="none")
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2g", "none", str(runs)], check=True, timeout=60)
    try:
        volumes.make(runs / "one", size_mb=64)
        try:
            assert volumes.promised_mb(tmp_path) == 0
            reading = machine.read(tmp_path, of=docker)
        finally:
            volumes.remove(runs / "one")
    finally:
        subprocess.run(["umount", "-l", str(runs)], check=True, timeout=60)
    assert 1900 < reading.disk_free_mb <= 2048
    assert 32 < (reading.disk_promised_mb or 0) <= 64


def test_the_watch_kills_who_is_over_and_nobody_else(tmp_path: Path) -> None:
    for name, size in (("small", 1), ("big", 5)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_bytes(b"x" * size * 2**20)
    killed: list[str] = []
    watch = DiskWatch(killed.append, interval_s=0.01)
    for name in ("small", "big"):
        watch.add(name, (tmp_path / name,), limit_mb=3)
    assert poll(lambda: bool(killed), timeout_s=60)
    watch.drop("small")
    watch.drop("big")
    assert set(killed) == {"big"}


def test_links_are_not_followed_when_it_is_measured(tmp_path: Path) -> None:
    (tmp_path / "up").symlink_to("/usr")
    assert used_mb(tmp_path) == 1
