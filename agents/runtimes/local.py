"""Sandboxes as plain processes of this user, for a machine without Docker. Not isolated."""

from __future__ import annotations

import os
import select
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from functools import cache
from pathlib import Path

import psutil

from agents.runtimes import volumes
from agents.runtimes.contract import (
    CommandResult,
    Limits,
    Mount,
    RuntimeName,
    RuntimeStatus,
    SandboxSpec,
    ServiceHandle,
    check_name,
)
from agents.runtimes.environment import SDK_VARIABLES, clean_env, find_cli, require_directories
from agents.runtimes.errors import RuntimeUnavailable, ServiceFailed
from agents.runtimes.processes import About, Launch, ProcessTable, poll, start_detached

__all__ = ["LocalRuntime"]

LOOPBACK = "127.0.0.1"
_PORT_ATTEMPTS = 5
_LOG_BYTES = 256_000
"""How much of a log's end is looked at for its last lines."""
_OPEN_FILES = 65_536
_PIPE_BYTES = 131_072
"""More than a pipe holds, so that one read empties it."""


class LocalRuntime:
    """Runs sandboxes as processes in their own session, with a clean environment, HOME and TMPDIR.

    What it holds: no variable of the platform leaks in, nothing survives `kill` by accident, no core dumps,
    no endless files. What it does not: a process inside can read what this user can read, use the network,
    and spend all memory and processors; read-only mounts and workspaces are a promise of the agent, not of
    the kernel.
    """

    name: RuntimeName = "local"
    isolated = False
    complete_first = False

    def __init__(self, *, state_dir: Path, cli: Path | None = None) -> None:
        """Keep records under `state_dir` (made when needed); `cli` defaults to claude-agent-sdk's own."""
        self._table = ProcessTable(state_dir)
        self._cli = cli

    def check(self) -> RuntimeStatus:
        """Look whether the CLI is there and /proc can be read."""
        try:
            find_cli(self._cli)
        except RuntimeUnavailable as problem:
            return RuntimeStatus(False, str(problem), problem.fix)
        if not Path("/proc/self/environ").exists():
            return RuntimeStatus(False, "This system has no /proc, by which processes are found.", "Use Linux.")
        return RuntimeStatus(True, "Agents run as plain processes of this user, without isolation.")

    def workspace_path(self, spec: SandboxSpec) -> str:
        """The host's own path."""
        return str(spec.workspace)

    def home_path(self, spec: SandboxSpec) -> str:
        """The host's own path."""
        return str(spec.home)

    def mount_path(self, mount: Mount) -> str:
        """The host's own path."""
        return str(mount.host)

    def cli_path(self, spec: SandboxSpec) -> str:
        """The host's own path."""
        return str(find_cli(self._cli))

    def host_address(self, project: str) -> str:
        """The loopback address."""
        check_name(project)
        return LOOPBACK

    def make_directory(self, directory: Path, *, disk_mb: int) -> None:
        """See the contract. Holds as much as the disk."""
        directory.mkdir(parents=True, mode=0o700)

    def remove_directory(self, directory: Path) -> None:
        """See the contract. What an earlier runtime mounted there goes too."""
        volumes.remove(directory)

    def launcher(self, spec: SandboxSpec, program: str | None = None) -> Path:
        """See the contract."""
        launch = self._prepare(spec, [program or self.cli_path(spec)])
        return replace(launch, inherit=list(SDK_VARIABLES)).write_script(spec.control)

    def adopt(self, spec: SandboxSpec) -> None:
        """See the contract. It is this user's already."""

    def run(
        self, spec: SandboxSpec, command: str, *, timeout_s: float, max_output_bytes: int = 64_000
    ) -> CommandResult:
        """See the contract."""
        launch = self._prepare(spec, ["/bin/sh", "-c", command])
        begin = time.monotonic()
        exit_code, output = self._run(launch, spec.name, timeout_s=timeout_s, max_output_bytes=max_output_bytes)
        return CommandResult(
            # A negative code is a signal's number; shells, and containers, say 128 + n.
            exit_code=128 - exit_code if exit_code is not None and exit_code < 0 else exit_code,
            output=output.decode(errors="replace"),
            duration_s=time.monotonic() - begin,
            timed_out=exit_code is None,
        )

    def start(self, spec: SandboxSpec, command: str, *, wait_s: float = 20.0) -> ServiceHandle:
        """See the contract. A port is chosen; if someone else takes it first, another one is."""
        for _ in range(_PORT_ATTEMPTS):
            handle = ServiceHandle(spec.name, LOOPBACK, _free_port())
            self._start(spec, command, handle)
            if self._wait_until_open(handle, wait_s):
                return handle
            log = self.logs(spec.name)
            self.kill(spec.name)
            if not _is_taken(handle.port):
                break
        raise ServiceFailed(f"the service {spec.name} ended at once", exit_code=None, log=log)

    def service(self, name: str) -> ServiceHandle | None:
        """See the contract."""
        about = self._table.about(name)
        if about is None or about["port"] is None or not self._table.is_main_alive(name):
            return None
        return ServiceHandle(name, LOOPBACK, about["port"])

    def is_alive(self, name: str) -> bool:
        """See the contract."""
        check_name(name)
        return self._table.is_alive(name)

    def logs(self, name: str, *, tail: int = 200) -> str:
        """See the contract."""
        check_name(name)
        try:
            with (self._table.directory(name) / "log").open("rb") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - _LOG_BYTES))
                lines = file.read().splitlines(keepends=True)
        except FileNotFoundError:
            return ""
        return b"".join(lines[-tail:]).decode(errors="replace")

    def kill(self, name: str) -> None:
        """See the contract, and ProcessTable.kill for what is found."""
        check_name(name)
        self._table.kill(name)

    def list_sandboxes(self, labels: Mapping[str, str] | None = None) -> tuple[str, ...]:
        """See the contract."""
        wanted = dict(labels or {}).items()
        return tuple(name for name, about in self._abouts() if wanted <= about["labels"].items())

    def list_projects(self) -> tuple[str, ...]:
        """See the contract."""
        return tuple(sorted({about["project"] for _, about in self._abouts()}))

    def remove_project(self, project: str) -> None:
        """See the contract; there is no network."""
        for name, about in self._abouts():
            if about["project"] == project:
                self.kill(name)

    def _abouts(self) -> list[tuple[str, About]]:
        pairs = [(name, self._table.about(name)) for name in self._table.names()]
        return [(name, about) for name, about in pairs if about is not None]

    def _prepare(self, spec: SandboxSpec, argv: list[str]) -> Launch:
        """Claim the name and say how its process is to be started."""
        require_directories(spec)
        about = About(project=spec.project, labels=dict(spec.labels), port=None)
        directory = self._table.open(spec.name, about)
        tmp = directory / "tmp"
        tmp.mkdir(mode=0o700)
        env = clean_env(
            spec,
            path=_search_path(),
            home=str(spec.home),
            tmp=str(tmp),
            workspace=str(spec.workspace),
            marker=self._table.marker(spec.name),
        )
        return Launch(argv=argv, env=env, cwd=str(spec.workspace), record=str(directory), limits=_limits(spec.limits))

    def _run(self, launch: Launch, name: str, *, timeout_s: float, max_output_bytes: int) -> tuple[int | None, bytes]:
        with subprocess.Popen(
            launch.command(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={"EKLAVYA_SANDBOX": self._table.marker(name)},
        ) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            try:
                with suppress(BrokenPipeError), process.stdin as settings:
                    settings.write(launch.to_json())
                output = _read_tail(process, process.stdout.fileno(), timeout_s=timeout_s, limit=max_output_bytes)
                exit_code = process.poll()
            finally:
                # Before Popen's own end, which would wait for a process that still runs.
                self._table.kill(name)
        return exit_code, output

    def _start(self, spec: SandboxSpec, command: str, handle: ServiceHandle) -> None:
        launch = self._prepare(spec, ["/bin/sh", "-c", command])
        self._table.describe(spec.name, About(project=spec.project, labels=dict(spec.labels), port=handle.port))
        start_detached(
            replace(
                launch,
                env={**launch.env, "HOST": handle.host, "PORT": str(handle.port)},
                detach=True,
                log=str(Path(launch.record) / "log"),
            ),
            marker=self._table.marker(spec.name),
        )

    def _wait_until_open(self, handle: ServiceHandle, wait_s: float) -> bool:
        """Wait until the service listens; False when it ended, True also when it only lives on."""
        poll(lambda: self._listens(handle) or not self._table.is_main_alive(handle.name), timeout_s=wait_s)
        return self._table.is_main_alive(handle.name)

    def _listens(self, handle: ServiceHandle) -> bool:
        # Someone else may listen there, so a successful connection would prove nothing.
        return any(_is_listening(process.pid, handle.port) for process in self._table.members(handle.name))


def _is_listening(pid: int, port: int) -> bool:
    try:
        connections = psutil.Process(pid).net_connections(kind="tcp")
    except psutil.Error:
        return False
    return any(c.status == psutil.CONN_LISTEN and c.laddr.port == port for c in connections)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
    return port


def _is_taken(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return True
    return False


@cache
def _search_path() -> str:
    """PATH inside: this interpreter's own directory, so that `python3` is it, and the system's."""
    # The interpreter behind a virtual environment: projects must not find the platform's packages.
    directories = [str(Path(sys.executable).resolve().parent)]
    for tool in ("git", "node"):
        found = shutil.which(tool)
        if found:
            directories.append(str(Path(found).parent))
    directories += ["/usr/local/bin", "/usr/bin", "/bin"]
    return ":".join(dict.fromkeys(directories))


def _limits(limits: Limits) -> dict[str, int]:
    """Resource limits by name, as launch.py takes them.

    No RLIMIT_AS: the CLI's JIT reserves address space by the gigabyte. No RLIMIT_NPROC: it counts all
    processes of the user, the platform's own included.
    """
    return {"RLIMIT_CORE": 0, "RLIMIT_FSIZE": limits.file_mb * 2**20, "RLIMIT_NOFILE": _OPEN_FILES}


def _read_tail(process: subprocess.Popen[bytes], pipe: int, *, timeout_s: float, limit: int) -> bytes:
    """The last `limit` bytes of the pipe, until the process (not its children) or the time ends."""
    deadline = time.monotonic() + timeout_s
    tail = bytearray()
    os.set_blocking(pipe, False)
    ended = os.pidfd_open(process.pid)
    poller = select.poll()
    poller.register(pipe, select.POLLIN)
    poller.register(ended, select.POLLIN)
    try:
        while (left := deadline - time.monotonic()) > 0:
            ready = {fd for fd, _ in poller.poll(left * 1000)}
            if pipe in ready and not _take(pipe, tail, limit):
                poller.unregister(pipe)
            if ended in ready:
                # It may have written between poll's looks at the one and at the other.
                _take(pipe, tail, limit)
                break
    finally:
        os.close(ended)
    return bytes(tail)


def _take(pipe: int, tail: bytearray, limit: int) -> bool:
    """Add what the pipe holds now, dropping from the front what is beyond the limit; False at its end."""
    try:
        chunk = os.read(pipe, _PIPE_BYTES)
    except BlockingIOError:
        return True
    tail += chunk
    del tail[:-limit]
    return bool(chunk)
