"""A specification that contradicts itself is refused before anything is started."""

from pathlib import Path
from typing import Any

import pytest

from agents.runtimes.contract import Limits, Mount, SandboxSpec, ServiceHandle
from agents.runtimes.errors import InvalidSpec

PLACES = {"workspace": Path("/w"), "home": Path("/h"), "control": Path("/c")}


def make(**changes: Any) -> SandboxSpec:
    return SandboxSpec(**{"name": "run-1", "project": "p1", **PLACES, **changes})


def test_a_specification_keeps_what_it_was_given() -> None:
    env = {"A": "1"}
    spec = make(env=env)
    env["B"] = "2"
    assert dict(spec.env) == {"A": "1"}


@pytest.mark.parametrize("name", ["", "A", "a_b", "-a", "a/b", "..", "a" * 63, "a\n"])
def test_a_name_that_could_mean_something_else_is_refused(name: str) -> None:
    for field in ("name", "project"):
        with pytest.raises(InvalidSpec):
            make(**{field: name})


@pytest.mark.parametrize("env", [{"PATH": "/"}, {"A B": "1"}, {"1A": ""}, {"A": "1\n2"}, {"A": "\0"}, {"A=B": "1"}])
def test_an_environment_that_cannot_be_passed_is_refused(env: dict[str, str]) -> None:
    with pytest.raises(InvalidSpec):
        make(env=env)


@pytest.mark.parametrize("control", [Path("/w"), Path("/w/c"), Path("/h/../w/c"), Path("c")])
def test_a_control_directory_that_the_sandbox_could_write_is_refused(control: Path) -> None:
    with pytest.raises(InvalidSpec):
        make(control=control)


def test_a_mount_needs_absolute_paths() -> None:
    with pytest.raises(InvalidSpec):
        Mount(Path("relative"), "/inside")
    with pytest.raises(InvalidSpec):
        Mount(Path("/host"), "inside")


def test_limits_must_be_positive() -> None:
    with pytest.raises(InvalidSpec):
        Limits(memory_mb=0)


def test_a_service_has_an_address() -> None:
    assert ServiceHandle("a", "127.0.0.1", 80).url == "http://127.0.0.1:80"
