"""What may go wrong in a house, each as a verb that returns what it did, or nothing where there was nobody to harm.

A fault that lasts (a cut wire, a full disk, a wrong clock) is ended by `due`, or by `heal_all` at the end.
"""

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from random import Random

import psutil
import redis

from eklavya.services.sockets import valkey_socket
from tests.chaos.house import House
from tests.chaos.machine import Machine, set_clock

_TAP_S = 4
_SKEWS_S = (420, -420, 3 * 3600, -3 * 3600, 2 * 86_400)
_DOCKER_S = 20
_LARGEST_CHUNK = 2**33
_BLOCK = 2**12


@dataclass
class Faults:
    """The faults of one run. `longest_s` is how long a lasting one may last, and a killed server stays away."""

    house: House
    random: Random
    longest_s: float
    ends: list[tuple[float, Callable[[], None]]] = field(default_factory=list)

    def kinds(self) -> dict[str, Callable[[], str]]:
        """Return those that this machine allows."""
        found: dict[str, Callable[[], str]] = {
            "kill web": partial(self._kill, "web"),
            "kill gateway": partial(self._kill, "gateway"),
            "kill worker": partial(self._kill, "worker"),
            "kill beat": partial(self._kill, "beat"),
            "kill agent": self._kill_agent,
            "kill Valkey, data lost": self._kill_valkey,
            "stop PostgreSQL at once": self._stop_postgres,
            "cut a worker off": self._cut,
            "duplicate a message": partial(self._message, copies=2),
            "drop a message": partial(self._message, copies=0),
        }
        if all(machine.has_own_disk for machine in self.house.machines):
            found["fill a disk"] = self._fill_disk
        if self.house.clock_library:
            found["skew a clock"] = self._skew
        if any(machine.has_containers for machine in self.house.machines):
            found["kill a container"] = self._kill_container
        if any(machine.engine for machine in self.house.machines):
            found["kill the Docker daemon"] = partial(self._kill, "docker")
        return found

    def due(self) -> None:
        """End the lasting faults whose time is over."""
        now = time.monotonic()
        over = [end for at, end in self.ends if at <= now]
        self.ends = [(at, end) for at, end in self.ends if at > now]
        for end in over:
            end()

    def heal_all(self) -> None:
        """End all lasting faults."""
        for _, end in self.ends:
            end()
        self.ends = []

    def _later(self, end: Callable[[], None], *, shortest_s: float = 1) -> float:
        lasts_s = round(self.random.uniform(shortest_s, self.longest_s), 1)
        self.ends.append((time.monotonic() + lasts_s, end))
        return lasts_s

    def _one(self, machines: list[Machine] | None = None) -> Machine:
        return self.random.choice(machines or self.house.machines)

    # -- processes

    def _kill(self, kind: str) -> str:
        names = sorted(name for name in self.house.parts if name.rpartition(".")[2].partition("-")[0] == kind)
        name, down_s = self.random.choice(names), round(self.random.uniform(0.1, 3), 1)
        self.house.kill(name, down_s=down_s, with_signal=signal.SIGKILL)
        return f"{name}, for {down_s} s"

    def _kill_agent(self) -> str:
        """The CLI of a run, wherever one is at work."""
        ours = tuple(str(machine.var) for machine in self.house.machines)
        in_containers = {name.split("-", 2)[2] for _, name in self._containers()}
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                environment = process.environ()
                name = environment.get("EKLAVYA_SANDBOX", "").partition("@")[0]
                # With containers it may also be the client through which we speak with one.
                is_ours = name in in_containers or environment.get("HOME", "").startswith(ours)
                if name.startswith("run-") and is_ours:
                    found.append(process)
        if not found:
            return ""
        process = self.random.choice(sorted(found, key=lambda one: one.pid))
        with suppress(psutil.Error):
            process.kill()
        return f"pid {process.pid} of {len(found)}"

    def _kill_valkey(self) -> str:
        down_s = round(self.random.uniform(0.1, 3), 1)
        self.house.kill("valkey", down_s=down_s, with_signal=signal.SIGKILL)
        self.house.parts["valkey"].child.stop()  # reaped before its files go
        shutil.rmtree(self.house.var / "valkey", ignore_errors=True)
        return f"for {down_s} s"

    def _stop_postgres(self) -> str:
        down_s = round(self.random.uniform(0.1, 3), 1)
        self.house.kill("postgres", down_s=down_s, with_signal=signal.SIGQUIT)
        return f"for {down_s} s"

    # -- machines

    def _cut(self) -> str:
        machine, reset = self._one(), self.random.random() < 0.5
        for way in machine.ways:
            way.cut()

        def heal() -> None:
            for way in machine.ways:
                way.heal(reset=reset)

        lasts_s = self._later(heal, shortest_s=self.longest_s / 2)
        return f"{machine.name}, for {lasts_s} s, then {'reset' if reset else 'as if nothing had been'}"

    def _fill_disk(self) -> str:
        machine = self._one()
        ballast = machine.var / f"ballast-{self.random.randrange(10**6)}"
        taken = 0
        with suppress(OSError), ballast.open("wb") as file:
            taken = _take_all(file.fileno())
        lasts_s = self._later(lambda: ballast.unlink(missing_ok=True))
        return f"{machine.name}, {taken // 2**20} MB for {lasts_s} s"

    def _skew(self) -> str:
        machine, by_s = self._one(), self.random.choice(_SKEWS_S)
        set_clock(machine.clock, by_s)
        lasts_s = self._later(partial(set_clock, machine.clock, 0), shortest_s=3)
        return f"{machine.name} by {by_s:+} s, for {lasts_s} s"

    # -- messages

    def _message(self, *, copies: int) -> str:
        """Take the next message out of the broker before a worker does, and put it back so many times."""
        queues = ["eklavya", *(f"runs.{machine.name}" for machine in self.house.machines)]
        self.random.shuffle(queues)
        broker = redis.Redis(unix_socket_path=str(valkey_socket(self.house.var)), socket_timeout=_TAP_S + 2)
        try:
            if (taken := broker.brpop(queues, timeout=_TAP_S)) is None:
                return ""
            queue, message = taken
            for _ in range(copies):
                broker.rpush(queue, message)
        except redis.RedisError:  # away at the moment
            return ""
        finally:
            broker.close()
        return f"{json.loads(message)['headers']['task']} in {queue.decode()}"

    # -- Docker

    def _containers(self) -> list[tuple[Machine, str]]:
        """Return those of our machines that run, with whose they are; none of a daemon that is away."""
        found = []
        for machine in self.house.machines:
            if machine.has_containers:
                listed = _docker(machine, "ps", "--format", "{{.Names}}").split()
                found += [(machine, name) for name in sorted(listed) if name.startswith(machine.namespace)]
        return found

    def _kill_container(self) -> str:
        if not (running := self._containers()):
            return ""
        machine, name = self.random.choice(running)
        _docker(machine, "kill", name)
        return name


def _docker(machine: Machine, *arguments: str) -> str:
    """Return what a machine's daemon answers; nothing where it is away."""
    env = {**os.environ, **machine.own_environment}
    with suppress(subprocess.TimeoutExpired):
        command = ["docker", *arguments]
        return subprocess.run(command, env=env, capture_output=True, text=True, timeout=_DOCKER_S, check=False).stdout
    return ""


def _take_all(file: int) -> int:
    """Let a file take all blocks that its disk has left, without writing them where the disk can; return how much."""
    size, chunk = 0, _LARGEST_CHUNK
    while chunk >= _BLOCK:
        try:
            os.posix_fallocate(file, size, chunk)
        except OSError:
            chunk //= 2
        else:
            size += chunk
    return os.fstat(file).st_blocks * 512
