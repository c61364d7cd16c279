"""What is particular to processes without a container."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from agents.runtimes import local
from agents.runtimes.contract import Limits, Runtime, SandboxSpec
from agents.runtimes.local import LocalRuntime
from tests.agents.runtimes.conftest import MakeSpec

SERVE = "exec python3 -m http.server $PORT --bind $HOST"


@pytest.fixture(scope="module")
def kind() -> str:
    return "local"


def test_python_is_the_interpreter_without_the_packages_of_the_platform(runtime: Runtime, spec: SandboxSpec) -> None:
    command = "python3 -c 'import sys; print(sys.version_info[:2], sys.prefix)'"
    expected = f"{sys.version_info[:2]} {sys.base_prefix}\n"
    assert runtime.run(spec, command, timeout_s=60).output == expected


def test_a_file_is_limited(runtime: Runtime, make_spec: MakeSpec) -> None:
    spec = make_spec(limits=Limits(file_mb=1))
    runtime.run(spec, "head -c 8000000 /dev/zero > file", timeout_s=60)
    assert (spec.workspace / "file").stat().st_size == 2**20


def test_files_are_private_and_cores_are_not_written(runtime: Runtime, spec: SandboxSpec) -> None:
    assert runtime.run(spec, "umask; ulimit -c", timeout_s=60).output == "0077\n0\n"


def test_a_broken_pipe_ends_its_writer(runtime: Runtime, spec: SandboxSpec) -> None:
    assert runtime.run(spec, "yes | head -n 1", timeout_s=60).output == "y\n"


def test_start_takes_another_port_when_someone_took_the_first(
    runtime: Runtime, spec: SandboxSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    choose = local._free_port
    with socket.create_server((local.LOOPBACK, 0)) as other:
        taken = other.getsockname()[1]
        ports = iter([taken])
        monkeypatch.setattr(local, "_free_port", lambda: next(ports, None) or choose())
        handle = runtime.start(spec, SERVE)
    assert handle.port != taken


def test_a_listener_of_someone_else_is_not_mistaken_for_the_service(
    runtime: Runtime, spec: SandboxSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server((local.LOOPBACK, 0)) as other:
        monkeypatch.setattr(local, "_free_port", lambda: other.getsockname()[1])
        assert not runtime._listens(runtime.start(spec, "sleep 60", wait_s=0.1))  # type: ignore[attr-defined]


def test_a_temporary_directory_that_was_closed_is_removed(runtime: Runtime, spec: SandboxSpec, state_dir: Path) -> None:
    runtime.run(spec, "mkdir -p $TMPDIR/a/b && touch $TMPDIR/a/b/c && chmod 0 $TMPDIR/a/b $TMPDIR/a", timeout_s=60)
    assert not (state_dir / spec.name).exists()


def test_a_job_of_a_shell_keeps_its_terminal_session_out(runtime: Runtime, spec: SandboxSpec) -> None:
    # A process that leads its group, but not its session, cannot open one: kill must not take the session's others.
    launcher = runtime.launcher(spec, "/bin/sleep")
    with subprocess.Popen(["sleep", "60"]) as bystander:
        job = subprocess.Popen([launcher, "60"], preexec_fn=os.setpgrp)
        try:
            assert local.poll(lambda: runtime.is_alive(spec.name), timeout_s=60)
            runtime.kill(spec.name)
            assert job.wait(timeout=60) == -9
            assert bystander.poll() is None
        finally:
            bystander.kill()
            job.kill()
            job.wait()


def test_check_says_that_nothing_isolates(tmp_path: Path) -> None:
    assert "without isolation" in LocalRuntime(state_dir=tmp_path).check().detail


def test_check_names_a_cli_that_cannot_run(tmp_path: Path) -> None:
    status = LocalRuntime(state_dir=tmp_path, cli=tmp_path / "claude").check()
    assert (status.available, status.fix) == (False, "pip install --requirement requirements.txt")


def test_the_platform_keeps_its_own_priority(runtime: Runtime, spec: SandboxSpec) -> None:
    assert runtime.run(spec, "nice; cat /proc/self/oom_score_adj", timeout_s=60).output == f"{os.nice(0) + 5}\n500\n"
