"""The host's side of the sandboxes' networks: of the host, containers reach the ports named and no other.

Docker's internal networks keep containers from everything but the host itself, where every server that is bound to all
addresses would answer. One rule at the head of INPUT sends what comes from our bridges (by their names' beginning)
through a chain of its own. Needs root and iptables; `why_not` says what is missing.
"""

import fcntl
import itertools
import os
import shutil
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

from agents.runtimes.errors import RuntimeUnavailable

__all__ = ["Firewall", "why_not"]

_PATH = f"/usr/sbin:/sbin:{os.environ.get('PATH', os.defpath)}"
_FAMILIES = ("iptables", "ip6tables")
# Somebody who reloads the host's rules drops ours: they are looked at again after so long.
_TRUSTED_FOR_S = 20.0
_TIMEOUT_S = 20


def why_not() -> str:
    """Return why the host cannot be closed to sandboxes; empty when it can."""
    if os.getuid() != 0:
        return "only root can write the host's packet filter"
    missing = [tool for tool in _FAMILIES if shutil.which(tool, path=_PATH) is None]
    return f"{', '.join(missing)} is missing" if missing else ""


@dataclass
class Firewall:
    """The rules for bridges whose names begin with `bridges`. `ports` are those of the host that stay open."""

    bridges: str
    ports: tuple[int, ...]
    lock: Path
    _seen_at: float = field(default=0.0, init=False)

    def ensure(self) -> None:
        """Have the rules in place. Cheap when it was done a moment ago. Raises RuntimeUnavailable when it fails.

        Does nothing where `why_not` says so.
        """
        if (self._seen_at and time.monotonic() - self._seen_at < _TRUSTED_FOR_S) or why_not():
            return
        self.lock.parent.mkdir(parents=True, exist_ok=True)
        with self.lock.open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            for family in _families():
                self._fill(family)
                if not self._comes_first(family):
                    _call(family, "-I", *self._jump())
        self._seen_at = time.monotonic()

    def remove(self) -> None:
        """Take the rules away: for tests, and for whoever removes an installation."""
        self._seen_at = 0.0
        for family in _families():
            while self._jump_is_there(family):
                _call(family, "-D", *self._jump())
            if self._chain in _call(family, "-S"):
                _call(family, "-F", self._chain)
                _call(family, "-X", self._chain)

    @property
    def _chain(self) -> str:
        return f"EKLAVYA-{self.bridges.upper()}"

    def _jump(self) -> tuple[str, ...]:
        return ("INPUT", "-i", f"{self.bridges}+", "-j", self._chain)

    def _comes_first(self, family: str) -> bool:
        """Whether nothing stands before our rule but those of other installations, which are about other bridges."""
        rules = [line for line in _call(family, "-S", "INPUT").splitlines() if line.startswith("-A")]
        head = itertools.takewhile(lambda rule: " -j EKLAVYA-" in rule, rules)
        return any(f"-i {self.bridges}+ -j {self._chain}" in rule for rule in head)

    def _jump_is_there(self, family: str) -> bool:
        return f"-i {self.bridges}+ -j {self._chain}" in _call(family, "-S", "INPUT")

    def _fill(self, family: str) -> None:
        """Give the chain its rules, all at once: at no moment is it there and empty."""
        lines = [f"-A {self._chain} {' '.join(rule)}" for rule in self._rules(family)]
        text = "\n".join(["*filter", f":{self._chain} - [0:0]", *lines, "COMMIT", ""])
        _call(f"{family}-restore", "--noflush", given=text)

    def _rules(self, family: str) -> list[tuple[str, ...]]:
        """In order. Nothing of a sandbox's speaks IPv6."""
        if family == "ip6tables":
            return [("-j", "DROP")]
        ports = ",".join(map(str, self.ports))
        # Only at the bridge's own address: the same port at another of the host's may be somebody else's.
        here = ("-m", "addrtype", "--dst-type", "LOCAL", "--limit-iface-in")
        opened = ("-p", "tcp", "-m", "multiport", "--dports", ports, *here, "-j", "ACCEPT")
        return [
            # Answers to what the host asked: previews, checks of health.
            ("-m", "conntrack", "--ctstate", "RELATED,ESTABLISHED", "-j", "ACCEPT"),
            *([opened] if self.ports else []),
            # Told at once: who knocks elsewhere need not wait.
            ("-p", "tcp", "-j", "REJECT", "--reject-with", "tcp-reset"),
            ("-j", "DROP"),
        ]


def _families() -> tuple[str, ...]:
    """Without IPv6 in the kernel there is nothing to close, and no table to close it in."""
    return _FAMILIES if Path("/proc/net/if_inet6").exists() else _FAMILIES[:1]


def _call(program: str, *arguments: str, given: str = "") -> str:
    """Run it and return its output."""
    command = [shutil.which(program, path=_PATH) or program, "--wait", *arguments]
    done = subprocess.run(command, input=given, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
    if done.returncode:
        problem = (done.stderr or done.stdout).strip()[-300:]
        raise RuntimeUnavailable(f"The host's packet filter refused {program} {' '.join(arguments)}: {problem}")
    return done.stdout
