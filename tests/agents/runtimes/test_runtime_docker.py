"""What holds a container in: the promises that only an isolated runtime can make."""

import os
import re
from pathlib import Path

import pytest

from agents.runtimes.contract import Limits, Mount, Runtime, SandboxSpec
from agents.runtimes.docker import DockerRuntime
from agents.runtimes.errors import InvalidSpec, RuntimeUnavailable
from tests.agents.runtimes.conftest import IMAGE, SUBNETS, MakeSpec, namespace_of

pytestmark = pytest.mark.docker

SERVE = "exec python3 -m http.server $PORT --bind $HOST"


@pytest.fixture(scope="module")
def kind() -> str:
    return "docker"


def connect(host: str, port: int) -> str:
    """A command that prints whether a connection can be made."""
    return f"(timeout 1 bash -c ': < /dev/tcp/{host}/{port}' 2>/dev/null && echo open || echo closed)"


def make_networks(runtime: Runtime, count: int) -> None:
    for number in range(count):
        runtime.host_address(f"p{number}")


def run(runtime: Runtime, spec: SandboxSpec, command: str) -> str:
    return runtime.run(spec, command, timeout_s=20).output


# Privileges


def test_a_process_has_no_privileges(runtime: Runtime, spec: SandboxSpec) -> None:
    status = dict(re.findall(r"(\w+):\s+(\S+)", run(runtime, spec, "cat /proc/self/status")))
    for capabilities in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert int(status[capabilities], 16) == 0
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")


def test_a_process_is_not_root(runtime: Runtime, spec: SandboxSpec) -> None:
    assert run(runtime, spec, "id -u") == f"{os.getuid() or 1000}\n"


def test_files_of_the_sandbox_can_be_changed_inside_and_read_outside(runtime: Runtime, spec: SandboxSpec) -> None:
    (spec.workspace / "deep").mkdir(mode=0o700)
    (spec.workspace / "deep" / "file").write_text("a\n")
    (spec.workspace / "link").symlink_to("/etc/shadow")
    owner = os.lstat("/etc/shadow").st_uid
    assert run(runtime, spec, "echo b >> deep/file; umask 077; echo c > private") == ""
    assert (spec.workspace / "deep" / "file").read_text() == "a\nb\n"
    assert (spec.workspace / "private").read_text() == "c\n"
    assert os.lstat("/etc/shadow").st_uid == owner


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give files away")
def test_a_file_that_has_a_name_elsewhere_is_not_given_away(
    runtime: Runtime, spec: SandboxSpec, tmp_path: Path
) -> None:
    canonical = tmp_path / "object"
    canonical.touch()
    os.link(canonical, spec.workspace / "object")
    with pytest.raises(InvalidSpec, match="--no-hardlinks"):
        runtime.run(spec, "true", timeout_s=10)
    assert canonical.stat().st_uid == 0


# Files


@pytest.mark.parametrize("path", ["/etc/made", "/usr/bin/made", "/home/made", "/opt/eklavya/made", "/made"])
def test_nothing_of_the_image_can_be_changed(runtime: Runtime, spec: SandboxSpec, path: str) -> None:
    result = runtime.run(spec, f"touch {path}", timeout_s=20)
    assert result.exit_code == 1


def test_the_cli_cannot_be_changed(runtime: Runtime, spec: SandboxSpec) -> None:
    result = runtime.run(spec, f"echo >> {runtime.cli_path(spec)}", timeout_s=20)
    assert "Read-only file system" in result.output or "Permission denied" in result.output


def test_a_read_only_workspace_may_have_a_part_to_write_in(runtime: Runtime, make_spec: MakeSpec) -> None:
    spec = make_spec(read_only_workspace=True)
    docs = spec.workspace / "docs"
    docs.mkdir()
    docs.chmod(0o777)
    spec = make_spec(
        workspace=spec.workspace,
        read_only_workspace=True,
        mounts=(Mount(docs, f"{runtime.workspace_path(spec)}/docs", read_only=False),),
    )
    output = run(runtime, spec, "touch refused; touch docs/made && ls")
    # In either order: they come by two streams.
    assert sorted(output.splitlines()) == ["docs", "touch: cannot touch 'refused': Read-only file system"]
    assert (docs / "made").exists()


def test_a_mount_is_read_only_unless_it_says_otherwise(runtime: Runtime, make_spec: MakeSpec, tmp_path: Path) -> None:
    host = tmp_path / "given"
    host.mkdir()
    host.chmod(0o777)
    (host / "file").write_text("seen\n")
    spec = make_spec(mounts=(Mount(host, "/mnt/a"),))
    assert "seen\n" in run(runtime, spec, "cat /mnt/a/file")
    assert "Read-only file system" in run(runtime, spec, "touch /mnt/a/made")


def test_what_is_syntax_to_docker_is_mounted_as_it_is_or_refused(
    runtime: DockerRuntime, make_spec: MakeSpec, tmp_path: Path
) -> None:
    host = tmp_path / 'a,"b"=c'
    host.mkdir()
    (host / "file").write_text("seen\n")
    (host / "file").chmod(0o644)
    spec = make_spec(mounts=(Mount(host, "/mnt/a"),))
    with runtime._daemon.client() as client:
        takes_any_path = runtime._daemon.dialect(client).takes_any_path
    if takes_any_path:
        assert run(runtime, spec, "cat /mnt/a/file") == "seen\n"
    else:
        with pytest.raises(InvalidSpec, match="comma"):
            runtime.run(spec, "true", timeout_s=10)


# Limits


def test_memory_is_limited(runtime: Runtime, make_spec: MakeSpec) -> None:
    spec = make_spec(limits=Limits(memory_mb=64))
    result = runtime.run(spec, "exec python3 -c 'bytearray(200_000_000)'", timeout_s=20)
    assert result.exit_code == 137


def test_processes_are_limited(runtime: Runtime, make_spec: MakeSpec) -> None:
    spec = make_spec(limits=Limits(pids=20))
    result = runtime.run(spec, "for i in $(seq 40); do sleep 5 & done", timeout_s=20)
    assert "fork" in result.output


def test_the_temporary_directory_is_limited(runtime: Runtime, make_spec: MakeSpec) -> None:
    spec = make_spec(limits=Limits(tmp_mb=4))
    assert "No space left" in run(runtime, spec, "head -c 8M /dev/zero > $TMPDIR/file")


def test_a_file_is_limited(runtime: Runtime, make_spec: MakeSpec) -> None:
    spec = make_spec(limits=Limits(file_mb=1))
    run(runtime, spec, "head -c 8M /dev/zero > file")
    assert (spec.workspace / "file").stat().st_size == 2**20


def test_open_files_are_limited(runtime: Runtime, make_spec: MakeSpec) -> None:
    spec = make_spec(limits=Limits(files=64))
    command = "exec python3 -c 'kept = [open(\"/dev/null\") for _ in range(99)]'"
    assert "Too many open files" in run(runtime, spec, command)


def test_shared_memory_is_limited(runtime: Runtime, spec: SandboxSpec) -> None:
    assert "No space left" in run(runtime, spec, "head -c 80M /dev/zero > /dev/shm/file")


# The kernel


def test_there_is_no_socket_and_no_device_of_the_host(runtime: Runtime, spec: SandboxSpec) -> None:
    command = "ls /var/run/docker.sock /run/docker.sock /run/containerd 2>/dev/null; find /dev -type b; ls /dev"
    seen = set(run(runtime, spec, command).split())
    usual = "core fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero console"
    assert seen <= set(usual.split())


def test_what_the_kernel_tells_of_the_host_is_masked(runtime: Runtime, spec: SandboxSpec) -> None:
    # An empty file or directory stands in the place of each; some kernels have none at all.
    paths = "/proc/kcore /proc/keys /proc/timer_list /proc/scsi /sys/firmware /proc/acpi /proc/sched_debug"
    command = f"for p in {paths}; do test -d $p && ls -A $p || head -c 16 $p 2>/dev/null; done"
    assert run(runtime, spec, command) == ""


def test_the_kernel_cannot_be_told_anything(runtime: Runtime, spec: SandboxSpec) -> None:
    paths = "/proc/sys/kernel/core_pattern /proc/sysrq-trigger /proc/sys/vm/drop_caches /sys/kernel/mm/ksm/run"
    command = f"for p in {paths}; do (echo 0 > $p) 2>/dev/null && echo $p; done; "
    command += "mount -t proc none /tmp 2>/dev/null && echo mounted"
    assert run(runtime, spec, command) == ""


# Connections


def test_the_internet_is_out_of_reach(runtime: Runtime, spec: SandboxSpec) -> None:
    assert run(runtime, spec, connect("1.1.1.1", 443)) == "closed\n"


def test_names_of_the_internet_are_unknown(runtime: Runtime, spec: SandboxSpec) -> None:
    assert runtime.run(spec, "getent hosts debian.org", timeout_s=30).exit_code == 2


def test_other_sandboxes_are_out_of_reach(runtime: Runtime, make_spec: MakeSpec) -> None:
    same = runtime.start(make_spec(project="one"), SERVE)
    other = runtime.start(make_spec(project="two"), SERVE)
    commands = [connect(handle.host, handle.port) for handle in (same, other)]
    commands.append(connect(runtime.host_address("two"), 22))
    assert run(runtime, make_spec(project="one"), " & ".join(commands) + "; wait") == "closed\n" * 3


def test_a_project_keeps_its_network(runtime: Runtime, again: Runtime) -> None:
    assert runtime.host_address("one") == again.host_address("one")
    assert runtime.host_address("one") != runtime.host_address("two")


def test_a_range_without_a_free_subnet_is_said(runtime: Runtime, tmp_path: Path) -> None:
    taken = runtime.host_address("one")
    full = DockerRuntime(
        state_dir=tmp_path, image=IMAGE, namespace=namespace_of(tmp_path), subnets=f"{taken.rpartition('.')[0]}.0/24"
    )
    with pytest.raises(RuntimeUnavailable, match="No subnet"):
        # Eight subnets, of which one is taken.
        make_networks(full, 8)
    assert len(full.list_projects()) == 7
    for project in full.list_projects():
        full.remove_project(project)
    assert full.list_projects() == ()
    full.remove_rules()


# What is missing


def test_check_names_an_image_that_is_missing(tmp_path: Path) -> None:
    runtime = DockerRuntime(state_dir=tmp_path, image="eklavya-absent:1", subnets=SUBNETS)
    status = runtime.check()
    assert (status.available, status.detail) == (False, "The image eklavya-absent:1 is missing.")
    assert status.fix == "docker/build_image.sh"


def test_run_says_that_the_image_is_missing(runtime: Runtime, spec: SandboxSpec, tmp_path: Path) -> None:
    absent = DockerRuntime(
        state_dir=tmp_path / "state", image="eklavya-absent:1", namespace=namespace_of(tmp_path), subnets=SUBNETS
    )
    try:
        with pytest.raises(RuntimeUnavailable, match="image eklavya-absent:1 is missing"):
            absent.run(spec, "true", timeout_s=10)
    finally:
        absent.remove_project(spec.project)
        absent.remove_rules()


def test_a_wrong_cli_is_said(tmp_path: Path) -> None:
    status = DockerRuntime(state_dir=tmp_path, image=IMAGE, cli=tmp_path / "claude").check()
    assert not status.available
    assert "cannot be executed" in status.detail
