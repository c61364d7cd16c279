"""Machines in network namespaces of their own, at one switch whose other end is the house's.

A machine is cut off by taking down its port of the switch: packets vanish, either way, and nobody is told. Needs Linux,
root and iproute2; `why_not` says what is missing.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from random import SystemRandom

_PATH = f"/usr/sbin:/sbin:{os.environ.get('PATH', os.defpath)}"
_TOOLS = ("ip", "ss", "nsenter")
_NAMED = Path("/run/netns")
# Kept for measurements of networks (RFC 2544): hardly anybody's own.
_RANGE = "198.18"
_SUBNETS = 250
_TRIES = 20
_TIMEOUT_S = 20
_FIRST_MACHINE = 11


class NetworkFailed(Exception):
    """The kernel, or iproute2, refused."""


@cache
def why_not() -> str:
    """Return why machines cannot have namespaces of their own here; empty when they can. It is tried."""
    if not sys.platform.startswith("linux"):
        return "only Linux has network namespaces"
    if os.geteuid() != 0:
        return "only root makes network namespaces"
    if missing := [tool for tool in _TOOLS if shutil.which(tool, path=_PATH) is None]:
        return f"{', '.join(missing)} is missing: install iproute2 and util-linux"
    try:
        network = Network()
    except NetworkFailed as problem:
        return str(problem)
    try:
        _call(*network.add(1).inside(["true"]))
    except NetworkFailed as problem:
        return str(problem)
    finally:
        network.remove()
    return ""


class Network:
    """A switch, the house's address at it, and the machines that are plugged in."""

    def __init__(self) -> None:
        random = SystemRandom()
        self._tag = f"chs{random.randrange(16**6):06x}"
        """Begins the name of all that is made: that of an interface has room for 15 characters."""
        self.switch = f"{self._tag}s"
        self._mac = _mac(self._tag, 1)
        self._wires: list[Wire] = []
        for _ in range(_TRIES):
            self._subnet = f"{_RANGE}.{random.randrange(_SUBNETS)}"
            if not _ip("-4", "route", "show", f"{self._subnet}.0/24").strip():
                break
        self.address = f"{self._subnet}.1"
        self.subnet = f"{self._subnet}.0/24"
        _ip("link", "add", "name", self.switch, "address", self._mac, "type", "bridge")
        try:
            _ip("address", "add", f"{self.address}/24", "dev", self.switch)
            _ip("link", "set", self.switch, "up")
        except NetworkFailed:
            self.remove()
            raise

    def add(self, number: int) -> "Wire":
        """Plug in a machine: a namespace with a loopback, and an address that the house reaches."""
        address = f"{self._subnet}.{_FIRST_MACHINE + number}"
        wire = Wire(namespace=f"{self._tag}m{number}", port=f"{self._tag}p{number}", address=address)
        self._wires.append(wire)
        mac, name = _mac(self._tag, _FIRST_MACHINE + number), wire.namespace
        _ip("netns", "add", name)
        _ip(*f"link add name {wire.port} type veth peer name wire address {mac} netns {name}".split())
        _ip("link", "set", wire.port, "master", self.switch, "up")
        _ip("-n", name, "link", "set", "lo", "up")
        _ip("-n", name, "address", "add", f"{wire.address}/24", "dev", "wire")
        _ip("-n", name, "link", "set", "wire", "up")
        # Else a neighbour that does not answer is told as an error after some seconds: who is far away gets none.
        _ip("-n", name, *f"neigh replace {self.address} lladdr {self._mac} dev wire nud permanent".split())
        _ip(*f"neigh replace {wire.address} lladdr {mac} dev {self.switch} nud permanent".split())
        return wire

    def remove(self) -> None:
        """Take all of it away, as far as it is there. Nothing may run in it any more."""
        for wire in self._wires:
            _try(*_command("ip", "link", "delete", wire.port))
            _try(*_command("ip", "netns", "delete", wire.namespace))
        _try(*_command("ip", "link", "delete", self.switch))


class Wire:
    """One machine's way to the house."""

    def __init__(self, *, namespace: str, port: str, address: str) -> None:
        self.namespace = namespace
        self.port = port
        self.address = address
        """Of the machine, as the house sees it."""

    def inside(self, command: Sequence[str]) -> list[str]:
        """Return the command that runs one on the machine, as the same process: nothing stands in between."""
        return [*_command("nsenter", f"--net={_NAMED / self.namespace}", "--"), *command]

    def cut(self) -> None:
        """Let nothing pass, either way, and tell nobody."""
        _ip("link", "set", self.port, "down")

    def heal(self, *, reset: bool) -> None:
        """Let all pass again. With `reset` the servers have forgotten the machine's connections meanwhile, unheard."""
        if reset:
            _try(*_command("ss", "--kill", "--no-header", "--tcp", "dst", self.address))
        _ip("link", "set", self.port, "up")


def _mac(tag: str, number: int) -> str:
    """An address of our own making (02), from the tag's digits."""
    digits = tag.removeprefix("chs")
    return ":".join(["02", "ec", digits[:2], digits[2:4], digits[4:6], f"{number:02x}"])


def _command(tool: str, *arguments: str) -> list[str]:
    return [shutil.which(tool, path=_PATH) or tool, *arguments]


def _ip(*arguments: str) -> str:
    return _call(*_command("ip", *arguments))


def _call(*command: str) -> str:
    """Run it, and return what it said. Raises NetworkFailed."""
    done = _try(*command)
    if done.returncode:
        raise NetworkFailed(f"{' '.join(command)}: {(done.stderr or done.stdout).strip()[-300:]}")
    return done.stdout


def _try(*command: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
