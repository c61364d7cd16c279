"""What every runtime promises (agents/runtimes/contract.py), one test each, over both implementations."""

import http.server
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from agents.runtimes.contract import Runtime, SandboxSpec, ServiceHandle
from agents.runtimes.errors import InvalidSpec, SandboxBusy, ServiceFailed
from agents.runtimes.processes import poll
from tests.agents.runtimes.conftest import HOLD, HOST_PORT, MakeSpec, is_held

SERVE = "exec python3 -u -m http.server $PORT --bind $HOST"
PRINT_ENV = "python3 -c 'import json, os; print(json.dumps(dict(os.environ)))'"
# A daemon as daemons do it: its parent is gone and the session is its own.
STRAY = "(setsid sh -c 'setsid sleep 60 & exec sleep 60' &); "

SAY_Y = "while :; do echo y; sleep 0.01; done"

OWN_ENV = {"PATH", "HOME", "LANG", "TMPDIR", "EKLAVYA_SANDBOX"}
GIT_ENV = {"GIT_CONFIG_COUNT", "GIT_CONFIG_KEY_0", "GIT_CONFIG_VALUE_0"}
# Shells and containers add these.
HARMLESS_ENV = {"PWD", "OLDPWD", "SHLVL", "_", "HOSTNAME", "LC_CTYPE", "TERM", "container"}


def fetch(url: str) -> int:
    with urllib.request.urlopen(url, timeout=60) as answer:
        return int(answer.status)


def serves(handle: ServiceHandle) -> bool:
    """Whether the service answers; that someone accepts says little where an address is gone, and routed elsewhere."""
    try:
        with urllib.request.urlopen(handle.url, timeout=1) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def accepts(handle: ServiceHandle) -> bool:
    try:
        socket.create_connection((handle.host, handle.port), timeout=1).close()
    except OSError:
        return False
    return True


@contextmanager
def host_server(address: str, port: int = HOST_PORT) -> Iterator[int]:
    """A server of the host at the address; its port."""
    server = http.server.HTTPServer((address, port), http.server.BaseHTTPRequestHandler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def launched(runtime: Runtime, spec: SandboxSpec, script: str) -> Iterator[subprocess.Popen[bytes]]:
    """The launcher's process, running a shell script beside a stray; both hold the workspace's lock."""
    launcher = runtime.launcher(spec, "/bin/sh")
    process = subprocess.Popen([launcher, "-c", f"{HOLD} {STRAY} {script}"], stdin=subprocess.PIPE)
    try:
        assert poll((spec.workspace / "ready").exists, timeout_s=60)
        yield process
    finally:
        process.kill()
        process.communicate()


def test_check_says_that_it_works(runtime: Runtime) -> None:
    assert runtime.check().available
    assert runtime.check().detail.endswith(".")


# run


def test_run_passes_only_the_environment_of_the_specification(
    runtime: Runtime, make_spec: MakeSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "of the platform")
    result = runtime.run(make_spec(env={"TOKEN": "a b'c\"$d"}), PRINT_ENV, timeout_s=60)
    seen = json.loads(result.output)
    assert seen["TOKEN"] == "a b'c\"$d"
    assert seen.keys() - HARMLESS_ENV == OWN_ENV | GIT_ENV | {"TOKEN"}


def test_run_starts_in_the_workspace_with_a_home_and_tmp_of_its_own(runtime: Runtime, spec: SandboxSpec) -> None:
    result = runtime.run(spec, "pwd; echo w > made; echo h > $HOME/made; echo t > $TMPDIR/made", timeout_s=60)
    assert result.output == f"{runtime.workspace_path(spec)}\n"
    assert (spec.workspace / "made").read_text() == "w\n"
    assert (spec.home / "made").read_text() == "h\n"


@pytest.mark.parametrize(("command", "code"), [("true", 0), ("exit 3", 3), ("kill -KILL $$", 137)])
def test_run_returns_the_exit_code(runtime: Runtime, spec: SandboxSpec, command: str, code: int) -> None:
    result = runtime.run(spec, command, timeout_s=60)
    assert (result.exit_code, result.timed_out) == (code, False)


def test_run_gives_no_input(runtime: Runtime, spec: SandboxSpec) -> None:
    assert runtime.run(spec, "cat; echo end", timeout_s=60).output == "end\n"


def test_run_mixes_output_and_errors(runtime: Runtime, spec: SandboxSpec) -> None:
    result = runtime.run(spec, "printf '\\377out\\n'; echo err >&2", timeout_s=60)
    assert sorted(result.output.splitlines()) == ["err", "\N{REPLACEMENT CHARACTER}out"]


def test_run_keeps_the_end_of_long_output(runtime: Runtime, spec: SandboxSpec) -> None:
    result = runtime.run(spec, "seq 200000; echo last", timeout_s=20, max_output_bytes=1000)
    assert len(result.output) == 1000
    assert result.output.endswith("199999\n200000\nlast\n")


def test_run_over_time_kills_all_that_it_started(runtime: Runtime, spec: SandboxSpec) -> None:
    result = runtime.run(spec, HOLD + STRAY + SAY_Y, timeout_s=3, max_output_bytes=8)
    assert (result.exit_code, result.timed_out) == (None, True)
    assert (spec.workspace / "held").exists()
    assert not is_held(spec)
    assert result.output == "y\n" * 4


def test_run_leaves_nothing_in_the_background(runtime: Runtime, spec: SandboxSpec) -> None:
    result = runtime.run(spec, HOLD + STRAY + "echo started", timeout_s=60)
    assert result.output == "started\n"
    assert not is_held(spec)
    assert spec.name not in runtime.list_sandboxes()


def test_run_can_use_git_in_a_checkout_that_the_platform_made(runtime: Runtime, spec: SandboxSpec) -> None:
    subprocess.run(["git", "init", "--quiet", spec.workspace], check=True)
    commit = "git -c user.name=a -c user.email=a@b commit --quiet --allow-empty --message first && git log --format=%s"
    assert runtime.run(spec, commit, timeout_s=60).output == "first\n"


def test_run_refuses_a_workspace_that_is_missing(runtime: Runtime, make_spec: MakeSpec, tmp_path: Path) -> None:
    with pytest.raises(InvalidSpec):
        runtime.run(make_spec(workspace=tmp_path / "absent"), "true", timeout_s=60)


def test_the_host_answers_at_the_host_address(runtime: Runtime, spec: SandboxSpec) -> None:
    address = runtime.host_address(spec.project)
    # At all addresses, as the gateway: Podman makes a bridge with the first container in it.
    with host_server("0.0.0.0") as port:
        # The server knows no method, and says so.
        command = f"python3 -c 'import urllib.request as r; r.urlopen(\"http://{address}:{port}\", timeout=5)'"
        assert "HTTP Error 501" in runtime.run(spec, command, timeout_s=60).output


def test_sandboxes_of_a_new_project_start_side_by_side(runtime: Runtime, make_spec: MakeSpec) -> None:
    specs = [make_spec(project="crowd") for _ in range(4)]
    with ThreadPoolExecutor() as pool:
        results = list(pool.map(lambda spec: runtime.run(spec, "echo done", timeout_s=60), specs))
    assert [result.output for result in results] == ["done\n"] * 4


# directories


def test_a_directory_is_made_for_the_owner_and_removed_with_all_in_it(runtime: Runtime, tmp_path: Path) -> None:
    directory = tmp_path / "below" / "run"
    runtime.make_directory(directory, disk_mb=16)
    assert (directory.stat().st_mode & 0o777, list(directory.iterdir())) == (0o700, [])
    (directory / "deep").mkdir()
    (directory / "deep" / "file").touch()
    runtime.remove_directory(directory)
    runtime.remove_directory(directory)
    assert list(directory.parent.iterdir()) == []


def test_a_directory_is_not_made_twice(runtime: Runtime, tmp_path: Path) -> None:
    runtime.make_directory(tmp_path / "run", disk_mb=16)
    with pytest.raises(FileExistsError):
        runtime.make_directory(tmp_path / "run", disk_mb=16)
    runtime.remove_directory(tmp_path / "run")


# launcher


def test_launcher_runs_the_real_cli(runtime: Runtime, spec: SandboxSpec) -> None:
    launcher = runtime.launcher(spec)
    done = subprocess.run([launcher, "--version"], capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "(Claude Code)" in done.stdout


def test_launcher_passes_arguments_input_and_exit_code(runtime: Runtime, spec: SandboxSpec) -> None:
    launcher = runtime.launcher(spec, "/bin/sh")
    arguments = ["-c", 'printf "<%s>" "$@"; cat; pwd >&2; exit 7', "sh", "a b", "c'd", "", "$e"]
    done = subprocess.run([launcher, *arguments], input="in\n", capture_output=True, text=True, timeout=30, check=False)
    assert done.stdout == "<a b><c'd><><$e>in\n"
    assert (done.returncode, done.stderr) == (7, f"{runtime.workspace_path(spec)}\n")


def test_launcher_passes_only_the_specification_and_the_words_of_the_sdk(runtime: Runtime, make_spec: MakeSpec) -> None:
    launcher = runtime.launcher(make_spec(env={"TOKEN": "x"}), "/usr/bin/env")
    of_platform = {**os.environ, "SECRET": "s", "LD_PRELOAD": "", "CLAUDE_CODE_ENTRYPOINT": "sdk-py"}
    shown = subprocess.check_output([launcher], env=of_platform, text=True, timeout=30)
    seen = dict(line.split("=", 1) for line in shown.splitlines())
    assert seen["CLAUDE_CODE_ENTRYPOINT"] == "sdk-py"
    assert seen.keys() - HARMLESS_ENV == OWN_ENV | GIT_ENV | {"TOKEN", "CLAUDE_CODE_ENTRYPOINT"}


def test_launcher_can_be_read_by_the_owner_only(runtime: Runtime, make_spec: MakeSpec) -> None:
    spec = make_spec(env={"TOKEN": "secret"})
    launcher = runtime.launcher(spec)
    assert launcher.stat().st_mode & 0o777 == 0o700
    assert spec.control.stat().st_mode & 0o777 == 0o700
    assert "secret" not in launcher.read_text()


def test_launcher_passes_a_request_to_end_on(runtime: Runtime, spec: SandboxSpec) -> None:
    with launched(runtime, spec, "trap 'exit 9' TERM; touch ready; while :; do sleep 0.05; done") as process:
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == 9


def test_a_launched_process_is_alive_and_kill_ends_it_with_its_strays(runtime: Runtime, spec: SandboxSpec) -> None:
    with launched(runtime, spec, "touch ready; cat"):
        assert runtime.is_alive(spec.name)
        runtime.kill(spec.name)
        assert not is_held(spec)
    assert not runtime.is_alive(spec.name)


def test_kill_ends_what_a_killed_launcher_left(runtime: Runtime, spec: SandboxSpec) -> None:
    with launched(runtime, spec, "touch ready; sleep 60") as process:
        process.kill()
        process.wait(timeout=60)
    assert is_held(spec)
    runtime.kill(spec.name)
    assert not is_held(spec)


def test_launcher_refuses_to_run_after_kill(runtime: Runtime, spec: SandboxSpec) -> None:
    launcher = runtime.launcher(spec, "/bin/true")
    runtime.kill(spec.name)
    done = subprocess.run([launcher], capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stderr) == (125, f"sandbox: the sandbox {spec.name} was killed\n")
    assert not runtime.is_alive(spec.name)


def test_launcher_may_be_written_again(runtime: Runtime, spec: SandboxSpec) -> None:
    runtime.launcher(spec)
    launcher = runtime.launcher(spec, "/bin/echo")
    assert subprocess.check_output([launcher, "hi"], text=True, timeout=30) == "hi\n"


# start


def test_start_serves_until_kill(runtime: Runtime, spec: SandboxSpec) -> None:
    handle = runtime.start(spec, HOLD + SERVE)
    assert fetch(handle.url) == 200
    assert runtime.is_alive(spec.name)
    runtime.kill(spec.name)
    assert not serves(handle)
    assert not is_held(spec)


def test_start_lists_what_the_service_wrote(runtime: Runtime, spec: SandboxSpec) -> None:
    handle = runtime.start(spec, "echo first; " + SERVE)
    fetch(handle.url)
    assert poll(lambda: "GET / " in runtime.logs(spec.name), timeout_s=60)
    assert "first" in runtime.logs(spec.name)
    assert "first" not in runtime.logs(spec.name, tail=1)


def test_start_says_why_a_service_ended_and_frees_its_name(runtime: Runtime, spec: SandboxSpec) -> None:
    with pytest.raises(ServiceFailed) as failed:
        runtime.start(spec, HOLD + STRAY + "echo no such module; exit 4")
    assert "no such module" in failed.value.log
    assert failed.value.exit_code in (4, None)
    assert not is_held(spec)
    assert spec.name not in runtime.list_sandboxes()


def test_start_returns_a_service_that_never_listens(runtime: Runtime, spec: SandboxSpec) -> None:
    handle = runtime.start(spec, "sleep 60", wait_s=0.2)
    assert not accepts(handle)
    assert runtime.is_alive(spec.name)


def test_a_service_outlives_the_process_that_started_it(
    runtime: Runtime, spec: SandboxSpec, kind: str, state_dir: Path
) -> None:
    program = f"""
import os, signal
from pathlib import Path
from agents.runtimes.contract import SandboxSpec
from tests.agents.runtimes.conftest import make_runtime
spec = SandboxSpec(name={spec.name!r}, project={spec.project!r}, workspace=Path({str(spec.workspace)!r}),
                   home=Path({str(spec.home)!r}), control=Path({str(spec.control)!r}))
make_runtime({kind!r}, Path({str(state_dir)!r})).start(spec, {HOLD + SERVE!r})
os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=Path(__file__).parents[3], timeout=60, check=False)
    assert done.returncode == -signal.SIGKILL
    handle = runtime.service(spec.name)
    assert handle is not None
    assert fetch(handle.url) == 200
    runtime.kill(spec.name)
    assert not is_held(spec)


# Names


def test_another_object_sees_and_ends_the_same_sandboxes(runtime: Runtime, again: Runtime, spec: SandboxSpec) -> None:
    handle = runtime.start(spec, HOLD + SERVE)
    assert again.service(spec.name) == handle
    assert again.is_alive(spec.name)
    assert spec.name in again.list_sandboxes()
    again.kill(spec.name)
    assert not is_held(spec)
    assert runtime.service(spec.name) is None
    assert spec.name not in runtime.list_sandboxes()


def test_a_name_that_is_alive_is_refused(runtime: Runtime, spec: SandboxSpec) -> None:
    handle = runtime.start(spec, SERVE)
    with pytest.raises(SandboxBusy):
        runtime.run(spec, "true", timeout_s=60)
    with pytest.raises(SandboxBusy):
        runtime.launcher(spec)
    with pytest.raises(SandboxBusy):
        runtime.start(spec, SERVE)
    assert fetch(handle.url) == 200


def test_a_name_whose_service_ended_is_listed_and_may_be_used_again(runtime: Runtime, spec: SandboxSpec) -> None:
    runtime.start(spec, "echo before; until [ -e stop ]; do sleep 0.02; done", wait_s=0)
    (spec.workspace / "stop").touch()
    assert poll(lambda: not runtime.is_alive(spec.name), timeout_s=60)
    assert spec.name in runtime.list_sandboxes()
    assert runtime.logs(spec.name) == "before\n"
    assert runtime.service(spec.name) is None
    assert runtime.run(spec, "echo after", timeout_s=60).output == "after\n"


def test_kill_of_a_free_name_does_nothing(runtime: Runtime, spec: SandboxSpec) -> None:
    runtime.kill(spec.name)
    runtime.kill(spec.name)
    assert not runtime.is_alive(spec.name)
    assert runtime.logs(spec.name) == ""


def test_kill_leaves_other_sandboxes_alone(runtime: Runtime, make_spec: MakeSpec) -> None:
    # A name that begins with the other's.
    first, second = make_spec(name="abc"), make_spec(name="abcd")
    runtime.start(second, HOLD + SERVE)
    runtime.kill(first.name)
    assert is_held(second)


def test_kill_leaves_workspace_and_home(runtime: Runtime, spec: SandboxSpec) -> None:
    runtime.run(spec, "touch kept $HOME/kept", timeout_s=60)
    runtime.kill(spec.name)
    assert (spec.workspace / "kept").exists()
    assert (spec.home / "kept").exists()


def test_list_finds_sandboxes_by_label(runtime: Runtime, make_spec: MakeSpec) -> None:
    launched = make_spec(labels={"kind": "cli", "run": "7"})
    runtime.launcher(launched)
    service = make_spec(labels={"kind": "preview"})
    runtime.start(service, SERVE)
    assert runtime.list_sandboxes({"run": "7", "kind": "cli"}) == (launched.name,)
    assert runtime.list_sandboxes({"kind": "preview"}) == (service.name,)
    assert runtime.list_sandboxes({"kind": "preview", "run": "7"}) == ()


def test_remove_project_ends_its_sandboxes_only(runtime: Runtime, make_spec: MakeSpec) -> None:
    gone, stays = make_spec(project="gone"), make_spec(project="stays")
    for spec in (gone, stays):
        runtime.start(spec, HOLD + SERVE)
    runtime.remove_project("gone")
    runtime.remove_project("gone")
    assert not is_held(gone)
    assert is_held(stays)
    assert "gone" not in runtime.list_projects()
    assert "stays" in runtime.list_projects()
