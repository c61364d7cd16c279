"""Starting git: bounds, ends, and what its environment holds."""

import os
import time

import pytest

from agents.workspace.errors import GitFailed, GitTimedOut, OutputTooLarge
from agents.workspace.git import Git, clean


@pytest.fixture
def git(repository):
    return Git(repository.path)


@pytest.fixture
def slow(git, tmp_path):
    """A command that waits for ever, with a child that writes down its process id."""
    script = tmp_path / "wait"
    script.write_text(f"#!/bin/sh\necho $$ > {tmp_path}/new\nmv {tmp_path}/new {tmp_path}/pid\nsleep 60\n")
    script.chmod(0o755)
    return ("-c", f"alias.wait=!{script}", "wait")


def test_a_failure_says_why(git):
    with pytest.raises(GitFailed, match="cat-file ended with 128: fatal: Not a valid object name none"):
        git.run("cat-file", "-t", "none")


def test_an_accepted_code_is_a_result(git):
    assert git.run("cat-file", "-t", "none", accept=(0, 128)).returncode == 128


def test_too_much_output_is_stopped(git):
    with pytest.raises(OutputTooLarge):
        git.run("cat-file", "commit", "HEAD", max_bytes=10)


def test_a_command_is_killed_with_its_children_when_its_time_is_up(git, slow, tmp_path):
    for timeout_s in (1, 10):  # on a busy machine it may not have begun by then
        began = time.monotonic()
        with pytest.raises(GitTimedOut):
            git.run(*slow, timeout_s=timeout_s)
        assert time.monotonic() - began < 50  # of 60
        if (tmp_path / "pid").exists():
            break
    pid = int((tmp_path / "pid").read_text())
    deadline = time.monotonic() + 60
    while _is_running(pid):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def _is_running(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_large_input_and_output_do_not_wait_for_each_other(git):
    data = os.urandom(3_000_000)
    sha = git.text("hash-object", "-w", "--stdin", stdin=data)
    assert git.run("cat-file", "blob", sha).stdout == data


def test_the_beginning_of_an_output(git):
    sha = git.text("hash-object", "-w", "--stdin", stdin=b"x" * 1_000_000)
    assert git.head("cat-file", "blob", sha, max_bytes=3) == (b"xxx", True)
    assert git.head("cat-file", "blob", sha, max_bytes=1_000_000) == (b"x" * 1_000_000, False)


def test_a_stream_ends_with_the_commands_failure(git):
    with pytest.raises(GitFailed):
        list(git.stream("archive", "--format=zip", "1" * 40))


def test_nothing_of_the_callers_environment_is_passed_on(git, monkeypatch):
    monkeypatch.setenv("SECRET_KEY", "hunter2")
    shown = git.run("-c", "alias.env=!env", "env").stdout
    assert b"hunter2" not in shown
    assert b"HOME=/nonexistent" in shown


@pytest.mark.parametrize(
    ("given", "expected"),
    [("Dev One", "Dev One"), ("A <b>\nc", "A bc"), ("", "unknown"), ("...", "unknown"), ("x" * 300, "x" * 200)],
)
def test_an_identity_is_made_fit_for_a_commit(given, expected):
    assert clean(given) == expected
