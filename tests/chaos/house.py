"""A house on several machines, each a directory with processes of its own: what a run breaks, and mends again.

The servers, the rehearsal model, web and two beats are the house's. Each machine has a worker, an agent gateway, an
egress proxy and a data directory, the last ones a Docker daemon for their agents, too, and reaches the servers over a
network that can be cut: a port of a switch, where it has a network namespace of its own, or else links (`links.py`).
What dies is started again a moment later, as a service manager would.
"""

import json
import os
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from eklavya.env import BASE_DIR, Env
from eklavya.services import components
from eklavya.services.child import POLL_SECONDS, Child, Spec
from eklavya.services.errors import StartFailed
from eklavya.services.health import http_answers
from eklavya.services.postgres import ensure_database, postgres_spec, prepare_postgres
from eklavya.services.sockets import postgres_url, remove_socket_directory, socket_directory, valkey_socket
from eklavya.services.valkey import prepare_valkey, valkey_spec
from tests.chaos.engine import Engine
from tests.chaos.links import Links
from tests.chaos.machine import Machine, Way, compiled_clock, make_clock, make_disk
from tests.chaos.network import Network, Wire
from tests.ports import free_ports

# A machine on which much else runs takes long: what is measured here is not time.
_START_S = 400
_COMMAND_S = 600
# Below what a machine takes no new run: small, as its disk is.
_MIN_DISK_MB = 24
_PAUSE_S = 0.5
_SETTINGS = "tests.chaos.settings"
_CAPACITY = 3


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
    """All of it below one directory. `lease_s` is how long a run's lease lasts.

    With a `network` each machine is in a namespace of its own. The last `containers` machines have their agents in
    containers, of a Docker daemon of their own where there is a network, else of the one that is there already.
    """

    base: Path
    machines_wanted: int = 3
    containers: int = 0
    lease_s: int = 20
    is_lean: bool = False
    network: Network | None = None
    capacity: int = _CAPACITY
    machines: list[Machine] = field(default_factory=list)
    parts: dict[str, Part] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.var = self.base / "house"
        self.logs = self.base / "logs"
        self.served = self.base / "served.jsonl"
        self.links = Links()
        self.clock_library: Path | None = None
        self._keys = {"EKLAVYA_SECRET_KEY": secrets.token_hex(32), "EKLAVYA_SECRET_KEYS": secrets.token_hex(32)}
        ports = iter(free_ports(5 + 3 * self.machines_wanted))
        self._rehearsal_port, self._broker_port = next(ports), next(ports)
        self.env = self._env(self.var, next(ports), next(ports), next(ports))
        self._ports = ports

    # -- starting

    def start(self) -> None:
        """Start everything; all of it works when this returns."""
        for directory in (self.var / "run", self.var / "repositories", self.logs):
            directory.mkdir(parents=True, mode=0o700)
        self.clock_library = compiled_clock(self.base)
        self._begin(self._servers())
        ensure_database(self.var)
        self.run([sys.executable, "-m", "tests.chaos.beginning"])
        self.machines = [self._machine(number) for number in range(1, self.machines_wanted + 1)]
        engines = {f"{machine.name}.docker": machine.engine for machine in self.machines if machine.engine}
        self._begin(one.spec(name) for name, one in engines.items())
        for one in engines.values():
            one.load(self.env.EKLAVYA_IMAGE)
        programs = components.program_specs(self.env, isolated=False)
        self._begin(
            [
                self._mine(self._model(programs["rehearsal"]), "rehearsal"),
                self._mine(programs["web"], "web"),
                self._mine(programs["beat"], "beat-a"),
                *(spec for machine in self.machines for spec in self._programs_of(machine)),
            ]
        )

    def _servers(self) -> list[Spec]:
        """PostgreSQL and Valkey; on the network, too, where there is one."""
        prepare_postgres(self.var)
        prepare_valkey(self.var)
        database, broker = postgres_spec(self.var), valkey_spec(self.var)
        if self.network:
            at = self.network.address
            with (self.var / "postgres" / "pg_hba.conf").open("a") as file:
                file.write(f"host all all {self.network.subnet} trust\n")
            database = replace(database, command=[*database.command, "-c", f"listen_addresses={at}"])
            listening = ["--bind", at, "--port", str(self._broker_port), "--protected-mode", "no"]
            broker = replace(broker, command=[*broker.command, *listening])
        return [database, broker]

    def _model(self, spec: Spec) -> Spec:
        """The rehearsal model with its witness, where the machines reach it."""
        command = [part.replace("agents.rehearsal.server:app", "tests.chaos.witness:app") for part in spec.command]
        if not self.network:
            return replace(spec, command=command)
        command[command.index("--host") + 1] = self.network.address
        return replace(
            spec, command=command, ready=partial(http_answers, self._rehearsal_port, host=self.network.address)
        )

    def _env(self, var: Path, web: int, gateway: int, egress: int, **own: Any) -> Env:
        return Env(
            EKLAVYA_VAR=var,
            EKLAVYA_RUNTIME=own.pop("EKLAVYA_RUNTIME", "local"),
            EKLAVYA_DB_POOL_SIZE=20,
            EKLAVYA_MAX_CONCURRENT_RUNS=self.capacity * self.machines_wanted,
            EKLAVYA_WORKER_CAPACITY=self.capacity,
            EKLAVYA_MIN_DISK_MB=_MIN_DISK_MB,
            EKLAVYA_MIN_MEMORY_MB=0,
            EKLAVYA_WEB_PORT=web,
            EKLAVYA_GATEWAY_PORT=gateway,
            EKLAVYA_REHEARSAL_PORT=self._rehearsal_port,
            EKLAVYA_EGRESS_PORT=egress,
            ANTHROPIC_BASE_URL=f"http://{self.network.address}:{self._rehearsal_port}" if self.network else None,
            DATABASE_URL=own.pop("DATABASE_URL", postgres_url(self.var)),
            REDIS_URL=own.pop("REDIS_URL", f"unix://{valkey_socket(self.var)}"),
            **self._keys,
            **own,
        )

    def _machine(self, number: int) -> Machine:
        name, var = f"m{number}", self.base / f"m{number}"
        has_containers = number > self.machines_wanted - self.containers
        has_own_disk = make_disk(var, for_containers=has_containers)
        (var / "run").mkdir()
        (var / "repositories").symlink_to(self.var / "repositories")
        wire = self.network.add(number) if self.network else None
        ways, addresses = self._wired(wire) if wire else self._linked(number)
        ports = [next(self._ports) for _ in range(3)]
        runtime = "docker" if has_containers else "local"
        env = self._env(var, *ports, EKLAVYA_WORKER_NAME=name, EKLAVYA_RUNTIME=runtime, **addresses)
        engine = Engine(self.base / f"d{number}", wire.inside) if has_containers and wire else None
        return Machine(name, var, env, ways, make_clock(self.base / f"{name}.clock"), has_own_disk, wire, engine)

    def _wired(self, wire: Wire) -> tuple[list[Way], dict[str, str]]:
        assert self.network
        at = self.network.address
        addresses = {
            "DATABASE_URL": f"postgresql://eklavya@{at}/eklavya",
            "REDIS_URL": f"redis://{at}:{self._broker_port}/0",
        }
        return [wire], addresses

    def _linked(self, number: int) -> tuple[list[Way], dict[str, str]]:
        wires = self.base / f"w{number}"
        wires.mkdir(mode=0o700)
        addresses = {
            "DATABASE_URL": f"postgres:///eklavya?user=eklavya&host={wires}",
            "REDIS_URL": f"unix://{wires / 'valkey.sock'}",
        }
        database = self.links.add(wires / ".s.PGSQL.5432", socket_directory(self.var) / ".s.PGSQL.5432")
        return [database, self.links.add(wires / "valkey.sock", valkey_socket(self.var))], addresses

    def _programs_of(self, machine: Machine) -> list[Spec]:
        # At all addresses where the run asks whether they answer over the network.
        programs = components.program_specs(machine.env, isolated=machine.has_containers or machine.wire is not None)
        names = ["worker", "gateway"]
        if not self.is_lean:
            names += ["egress"] + ["beat"] * (machine is self.machines[0])
        return [self._mine(self._inside(machine, programs[name]), f"{machine.name}.{name}", machine) for name in names]

    def _inside(self, machine: Machine, spec: Spec) -> Spec:
        """The program in the machine's namespace, where it has one."""
        if machine.wire is None:
            return spec
        ports = {"gateway": machine.env.EKLAVYA_GATEWAY_PORT, "egress": machine.env.EKLAVYA_EGRESS_PORT}
        asked = partial(http_answers, ports[spec.name], host=machine.wire.address) if spec.name in ports else spec.ready
        return replace(spec, command=machine.wire.inside(spec.command), ready=asked)

    def _mine(self, spec: Spec, name: str, machine: Machine | None = None) -> Spec:
        environment = {**spec.environment, **self._own()}
        if machine:
            environment |= self._clock_of(machine) | machine.own_environment
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
        env, own = (machine.env, machine.own_environment) if machine else (self.env, {})
        return {**os.environ, **env.exported(), **self._own(), **own, "PYTHONUNBUFFERED": "1"}

    def run(self, command: list[str], machine: Machine | None = None) -> str:
        """Run a program to its end, and return what it said. Raises StartFailed when it fails."""
        done = subprocess.run(
            machine.wire.inside(command) if machine and machine.wire else command,
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

    # -- stopping

    def stop(self) -> None:
        """Stop everything in good order."""
        servers = (("valkey",), ("postgres",), ("docker",))
        for kinds in (("beat", "web"), ("worker",), ("gateway", "egress", "rehearsal"), *servers):
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
            if machine.engine:
                machine.engine.remove()
        if self.network:
            self.network.remove()
        if not keep:
            shutil.rmtree(self.base, ignore_errors=True)
