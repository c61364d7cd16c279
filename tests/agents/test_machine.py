from datetime import timedelta
from pathlib import Path

import pytest
from django.utils import timezone

from agents import clock, machine
from agents.runtimes import docker as docker_module
from agents.runtimes.docker import DockerRuntime
from agents.runtimes.local import LocalRuntime


def test_a_reading_is_of_this_machine(tmp_path: Path) -> None:
    reading = machine.read(tmp_path, of=None)

    assert 0 < reading.memory_free_mb <= reading.memory_mb
    assert reading.disk_free_mb > 0
    assert reading.as_json()["cpu_percent"] == reading.cpu_percent


def test_a_reading_says_what_is_promised_of_the_disk_where_something_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    docker = DockerRuntime(state_dir=tmp_path / "run", image="none")
    local = LocalRuntime(state_dir=tmp_path / "run")

    monkeypatch.setattr(docker_module, "why_no_volumes", lambda: "")
    assert machine.read(tmp_path, of=docker).disk_promised_mb == 0
    monkeypatch.setattr(docker_module, "why_no_volumes", lambda: "only root can mount")
    assert machine.read(tmp_path, of=docker).disk_promised_mb is None
    assert machine.read(tmp_path, of=local).disk_promised_mb is None


def test_the_id_stays_and_tells_installations_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = tmp_path / "machine-id"
    own.write_text("0123456789abcdef\n")
    monkeypatch.setattr(machine, "_IDS", (tmp_path / "none", own))

    one = machine.machine_id(tmp_path, part="a")

    assert one == machine.machine_id(tmp_path, part="a") != machine.machine_id(tmp_path, part="b")
    assert "0123456789abcdef" not in one


def test_a_machine_without_an_id_keeps_one_of_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_IDS", (tmp_path / "none",))

    one = machine.machine_id(tmp_path, part="a")

    assert len(one) == 32
    assert one == machine.machine_id(tmp_path, part="a")
    assert [path.name for path in tmp_path.iterdir()] == ["machine_id"]


def test_tools_say_what_runs_find() -> None:
    assert {"claude_code", "docker", "isolation", "browser"} == set(machine.tools(runtime="docker", isolated=True))
    assert "isolation" not in machine.tools(runtime="local", isolated=False)


@pytest.mark.django_db
@pytest.mark.parametrize("wrong", [timedelta(hours=1), timedelta(hours=-1)])
def test_a_clock_that_is_wrong_is_set_right_by_the_databases(wrong: timedelta, monkeypatch: pytest.MonkeyPatch) -> None:
    real = timezone.now
    house = clock.HouseClock()
    assert abs(house.compare()) < clock.NOISE
    assert house.offset == timedelta(0)

    monkeypatch.setattr(clock.timezone, "now", lambda: real() + wrong)

    assert abs(house.compare() + wrong) < clock.NOISE
    assert abs(house() - real()) < clock.NOISE


def test_a_clock_that_is_moved_between_two_looks_moves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    real = timezone.now
    house = clock.HouseClock()
    for wrong in (timedelta(days=2), timedelta(hours=-3), timedelta(0)):
        monkeypatch.setattr(clock.timezone, "now", lambda wrong=wrong: real() + wrong)
        assert abs(house() - real()) < clock.NOISE
