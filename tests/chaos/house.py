"""A house on several machines, each a directory with processes of its own: what a run breaks, and mends again.

The servers, the rehearsal model, web and two beats are the house's. Each machine has a worker, an agent gateway, an
egress proxy and a data directory, and reaches PostgreSQL and Valkey over links that can be cut. What dies is started
again a moment later, as a service manager would.
"""

import hashlib
import json
import os
import secrets
import shutil
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from agents.runtimes import volumes
from eklavya.env import BASE_DIR, Env
from eklavya.services import components
from eklavya.services.child import POLL_SECONDS, Child, Spec
from eklavya.services.errors import StartFailed
from eklavya.services.postgres import ensure_database, postgres_spec, prepare_postgres
from eklavya.services.sockets import postgres_url, remove_socket_directory, socket_directory, valkey_socket
from eklavya.services.valkey import prepare_valkey, valkey_spec
from tests.chaos.links import Link, Links

_CLOCK_SOURCE = Path(__file__).with_name("clock.c")
# A machine on which much else runs takes long: what is measured here is not time.
_START_S = 400
_COMMAND_S = 600
# What a machine's disk holds, and below what it takes no new run: small, so that it can be filled.
_DISK_MB = 256
_MIN_DISK_MB = 24
# With containers each run is promised 2 GB of it, and 1 GB stays free: a sparse file, of which little is ever written.
_DISK_FOR_CONTAINERS_MB = 12 * 1024
_PAUSE_S = 0.5
_SETTINGS = "tests.chaos.settings"
_CAPACITY = 3


@dataclass
class Machine:
    """One worker's machine."""

    name: str
    var: Path
    env: Env
    database: Link
    broker: Link
    clock: Path
    has_own_disk: bool


@dataclass
class Part:
    """A process that is kept alive, but for the time in which it is held down."""

    child: Child
    start_at: float = 0.0
    ends: int = 0
    """How often it ended without being killed by the run."""
    was_killed: bool = False


@dataclass
class House:
    """All of it below one directory. `lease_s` is how long a run's lease lasts."""

    base: Path
    machines_wanted: int = 3
    runtime: str = "local"
    lease_s: int = 20
    is_lean: bool = False
    machines: list[Machine] = field(default_factory=list)
    parts: dict[str, Part] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.var = self.base / "house"
        self.logs = self.base / "logs"
        self.served = self.base / "served.jsonl"
        self.links = Links()
        self.clock_library: Path | None = None
        self._keys = {"EKLAVYA_SECRET_KEY": secrets.token_hex(32), "EKLAVYA_SECRET_KEYS": secrets.token_hex(32)}
        ports = iter(_free_ports(4 + 3 * self.machines_wanted))
        self._rehearsal_port = next(ports)
        self.env = self._env(self.var, next(ports), next(ports), next(ports))
        self._ports = ports

    # -- starting

    def start(self) -> None:
        """Start everything; all of it works when this returns."""
        for directory in (self.var / "run", self.var / "repositories", self.logs):
            directory.mkdir(parents=True, mode=0o700)
        self.clock_library = _compiled_clock(self.base)
        prepare_postgres(self.var)
        prepare_valkey(self.var)
        self._begin([postgres_spec(self.var), valkey_spec(self.var)])
        ensure_database(self.var)
        self.run([sys.executable, "-m", "tests.chaos.beginning"])
        self.machines = [self._machine(number) for number in range(1, self.machines_wanted + 1)]
        programs = components.program_specs(self.env, isolated=self.runtime == "docker")
        model = programs["rehearsal"]
        witness = [part.replace("agents.rehearsal.server:app", "tests.chaos.witness:app") for part in model.command]
        self._begin(
            [
                self._mine(replace(model, command=witness), "rehearsal"),
                self._mine(programs["web"], "web"),
                self._mine(programs["beat"], "beat-a"),
                *(spec for machine in self.machines for spec in self._programs_of(machine)),
            ]
        )

    def _env(self, var: Path, web: int, gateway: int, egress: int, **own: Any) -> Env:
        return Env(
            EKLAVYA_VAR=var,
            EKLAVYA_RUNTIME=self.runtime,
            EKLAVYA_DB_POOL_SIZE=20,
            EKLAVYA_MAX_CONCURRENT_RUNS=_CAPACITY * self.machines_wanted,
            EKLAVYA_WORKER_CAPACITY=_CAPACITY,
            EKLAVYA_MIN_DISK_MB=_MIN_DISK_MB,
            EKLAVYA_MIN_MEMORY_MB=0,
            EKLAVYA_WEB_PORT=web,
            EKLAVYA_GATEWAY_PORT=gateway,
            EKLAVYA_REHEARSAL_PORT=self._rehearsal_port,
            EKLAVYA_EGRESS_PORT=egress,
            DATABASE_URL=own.pop("DATABASE_URL", postgres_url(self.var)),
            REDIS_URL=own.pop("REDIS_URL", f"unix://{valkey_socket(self.var)}"),
            **self._keys,
            **own,
        )

    def _machine(self, number: int) -> Machine:
        name = f"m{number}"
        var, wires = self.base / name, self.base / f"w{number}"
        wires.mkdir(mode=0o700)
        has_own_disk = _make_volume(var) if self.runtime == "docker" else _mount(var)
        (var / "run").mkdir()
        (var / "repositories").symlink_to(self.var / "repositories")
        clock = self.base / f"{name}.clock"
        clock.write_bytes(bytes(struct.calcsize("l")))
        env = self._env(
            var,
            next(self._ports),
            next(self._ports),
            next(self._ports),
            EKLAVYA_WORKER_NAME=name,
            DATABASE_URL=f"postgres:///eklavya?user=eklavya&host={wires}",
            REDIS_URL=f"unix://{wires / 'valkey.sock'}",
        )
        database = self.links.add(wires / ".s.PGSQL.5432", socket_directory(self.var) / ".s.PGSQL.5432")
        broker = self.links.add(wires / "valkey.sock", valkey_socket(self.var))
        return Machine(name, var, env, database, broker, clock, has_own_disk)

    def _programs_of(self, machine: Machine) -> list[Spec]:
        programs = components.program_specs(machine.env, isolated=self.runtime == "docker")
        names = ["worker", "gateway"]
        if not self.is_lean:
            names += ["egress"] + ["beat"] * (machine is self.machines[0])
        return [self._mine(programs[name], f"{machine.name}.{name}", machine) for name in names]

    def _mine(self, spec: Spec, name: str, machine: Machine | None = None) -> Spec:
        environment = {**spec.environment, **self._own(), **(self._clock_of(machine) if machine else {})}
        return replace(spec, name=name, environment=environment, deadline_s=_START_S)

    def _clock_of(self, machine: Machine) -> dict[str, str]:
        if self.clock_library is None:
            return {}
        return {"LD_PRELOAD": str(self.clock_library), "CHAOS_CLOCK": str(machine.clock)}

    def _own(self) -> dict[str, str]:
        return {
            "DJANGO_SETTINGS_MODULE": _SETTINGS,
            "CHAOS_LEASE_S": str(self.lease_s),
            "CHAOS_SERVED": str(self.served),
        }

    def _begin(self, specs: Iterable[Spec]) -> None:
        begun = [Part(Child(spec, logs=self.logs)) for spec in specs]
        for part in begun:
            part.child.start()
            self.parts[part.child.spec.name] = part
        give_up = time.monotonic() + _START_S
        while begun:
            begun = [part for part in begun if not part.child.check_ready()]
            if time.monotonic() > give_up:
                raise StartFailed(f"not ready: {[part.child.spec.name for part in begun]}")
            time.sleep(POLL_SECONDS)

    # -- running

    def environment(self, machine: Machine | None = None) -> dict[str, str]:
        """Return the environment of a program of the house, or of a machine."""
        env = machine.env if machine else self.env
        return {**os.environ, **env.exported(), **self._own(), "PYTHONUNBUFFERED": "1"}

    def run(self, command: list[str], machine: Machine | None = None) -> str:
        """Run a program to its end, and return what it said. Raises StartFailed when it fails."""
        done = subprocess.run(
            command,
            cwd=BASE_DIR,
            env=self.environment(machine),
            capture_output=True,
            text=True,
            timeout=_COMMAND_S,
            check=False,
        )
        if done.returncode:
            said = (done.stdout + done.stderr)[-3000:]
            raise StartFailed(f"{' '.join(command[1:])} ended with {done.returncode}: {said}")
        return done.stdout

    def run_json(self, module: str, *arguments: str, machine: Machine | None = None) -> dict[str, Any]:
        """Run one of this package's modules, and return the object that it printed."""
        said = self.run([sys.executable, "-m", f"tests.chaos.{module}", *arguments], machine)
        found: dict[str, Any] = json.loads(said.splitlines()[-1])
        return found

    def kill(self, name: str, *, down_s: float, with_signal: int) -> None:
        """Kill one process, not what it started, and keep it down for a while."""
        part = self.parts[name]
        if pid := part.child.pid:
            part.was_killed = True
            os.kill(pid, with_signal)
        part.start_at = time.monotonic() + down_s

    def poll(self) -> None:
        """Start again what has ended and is not held down."""
        now = time.monotonic()
        for part in self.parts.values():
            if part.child.pid is not None or now < part.start_at:
                continue
            if part.was_killed:
                part.was_killed = False
                part.child.start()
            else:
                part.ends += 1
                part.was_killed = True
                part.start_at = now + _PAUSE_S

    def is_ready(self) -> bool:
        """Whether every part answers."""
        return all(part.child.pid is not None and part.child.spec.ready() for part in self.parts.values())

    def namespaces(self) -> tuple[str, ...]:
        """Return how the names of the machines' containers begin (see `agents.sandboxes`)."""
        digests = [hashlib.sha256(str(machine.var.resolve()).encode()).hexdigest() for machine in self.machines]
        return tuple(f"eklavya-{digest[:8]}-" for digest in digests)

    # -- stopping

    def stop(self) -> None:
        """Stop everything in good order."""
        order = (("beat", "web"), ("worker",), ("gateway", "egress", "rehearsal"), ("valkey",), ("postgres",))
        for kinds in order:
            names = [name for name in self.parts if name.rpartition(".")[2].partition("-")[0] in kinds]
            for name in names:
                self.parts[name].child.signal_stop()
            for name in names:
                self.parts.pop(name).child.stop()
            if "worker" in kinds:
                for machine in self.machines:
                    self.run([sys.executable, "-m", "tests.chaos.ending"], machine)
        self.links.close()
        remove_socket_directory(self.var)

    def remove(self, *, keep: bool) -> None:
        """Remove all data; with `keep` the machines' disks alone, which are memory or have no name."""
        for machine in self.machines:
            if machine.has_own_disk:
                subprocess.run(["umount", "--lazy", str(machine.var)], check=False)
        if not keep:
            shutil.rmtree(self.base, ignore_errors=True)


def set_clock(clock: Path, seconds: int) -> None:
    """Put a machine's clock ahead, or behind: its programs see it at once."""
    with clock.open("r+b") as file:
        file.write(struct.pack("l", seconds))


def _compiled_clock(directory: Path) -> Path | None:
    """Return the library by which a machine's clock is wrong; None where there is no C compiler."""
    compiler, library = shutil.which("cc"), directory / "clock.so"
    if compiler is None:
        return None
    command = [compiler, "-shared", "-fPIC", "-O2", "-o", str(library), str(_CLOCK_SOURCE), "-ldl"]
    return None if subprocess.run(command, capture_output=True, check=False).returncode else library


def _mount(directory: Path) -> bool:
    """Make a directory with a small disk of its own, where this user may."""
    directory.mkdir(mode=0o700)
    if os.geteuid() != 0:
        return False
    command = ["mount", "-t", "tmpfs", "-o", f"size={_DISK_MB}m,mode=0700", "chaos", str(directory)]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def _make_volume(directory: Path) -> bool:
    """Make a directory with a disk that holds the disks of containers, where this user may and there is room."""
    if volumes.why_not():
        directory.mkdir(mode=0o700)
        return False
    volumes.make(directory, size_mb=_DISK_FOR_CONTAINERS_MB)
    return True


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
