"""The host's side of the sandboxes' networks: of the host, containers reach the ports named and no other.

Docker's internal networks keep containers from everything but the host itself, where every server that is bound to all
addresses would answer. One rule at the head of INPUT sends what comes from our bridges (by their names' beginning)
through a chain of its own. Needs root and iptables; `why_not` says what is missing.

Where the daemon cannot keep sandboxes of one network from each other, two rules at the head of FORWARD do: nothing is
passed on that comes from our bridges or goes to them. Packets that stay on a bridge come there by br_netfilter only.
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

__all__ = ["Firewall", "why_not", "why_not_apart"]

_PATH = f"/usr/sbin:/sbin:{os.environ.get('PATH', os.defpath)}"
_FAMILIES = ("iptables", "ip6tables")
# Somebody who reloads the host's rules drops ours: they are looked at again after so long.
_TRUSTED_FOR_S = 20.0
_TIMEOUT_S = 20
_BRIDGED = Path("/proc/sys/net/bridge")
"""What the host filters of packets that stay on a bridge; there when br_netfilter is loaded."""


def why_not() -> str:
    """Return why the host cannot be closed to sandboxes; empty when it can."""
    if os.getuid() != 0:
        return "only root can write the host's packet filter"
    missing = [tool for tool in _FAMILIES if shutil.which(tool, path=_PATH) is None]
    return f"{', '.join(missing)} is missing" if missing else ""


def why_not_apart() -> str:
    """Return why sandboxes of one network cannot be kept apart by the host; empty when they can. Changes nothing."""
    if problem := why_not():
        return problem
    if _BRIDGED.is_dir() or _load_bridge_filter("--dry-run"):
        return ""
    return "the kernel's module br_netfilter is missing"


@dataclass
class Firewall:
    """The rules for bridges whose names begin with `bridges`. `ports` are those of the host that stay open."""

    bridges: str
    ports: tuple[int, ...]
    lock: Path
    _seen_at: float = field(default=0.0, init=False)

    def ensure(self, *, apart: bool = False) -> None:
        """Have the rules in place. Cheap when it was done a moment ago. Raises RuntimeUnavailable when it fails.

        With `apart` the host keeps the bridges' sandboxes from each other, too. Does nothing where `why_not` says so.
        """
        if (self._seen_at and time.monotonic() - self._seen_at < _TRUSTED_FOR_S) or why_not():
            return
        self.lock.parent.mkdir(parents=True, exist_ok=True)
        with self.lock.open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            if apart and not why_not_apart():
                _filter_bridged()
            for family in _families():
                self._fill(family, apart=apart)
                for jump in self._jumps() if apart else self._jumps()[:1]:
                    if not self._comes_first(family, jump):
                        _put_first(family, jump)
        self._seen_at = time.monotonic()

    def remove(self) -> None:
        """Take the rules away: for tests, and for whoever removes an installation."""
        self._seen_at = 0.0
        for family in _families():
            listed = _call(family, "-S")
            for jump in self._jumps():
                for _ in range(listed.count(_rule(jump))):
                    _call(family, "-D", *jump)
            for chain in (self._chain, self._apart_chain):
                if f"-N {chain}\n" in listed:
                    _call(family, "-F", chain)
                    _call(family, "-X", chain)

    @property
    def _chain(self) -> str:
        return f"EKLAVYA-{self.bridges.upper()}"

    @property
    def _apart_chain(self) -> str:
        return f"{self._chain}-APART"

    def _jumps(self) -> tuple[tuple[str, ...], ...]:
        """The rules of the tables that lead to our chains."""
        return (
            ("INPUT", "-i", f"{self.bridges}+", "-j", self._chain),
            ("FORWARD", "-i", f"{self.bridges}+", "-j", self._apart_chain),
            ("FORWARD", "-o", f"{self.bridges}+", "-j", self._apart_chain),
        )

    def _comes_first(self, family: str, jump: tuple[str, ...]) -> bool:
        """Whether nothing stands before our rule but those of other installations, which are about other bridges."""
        rules = [line for line in _call(family, "-S", jump[0]).splitlines() if line.startswith("-A")]
        return _rule(jump) in itertools.takewhile(lambda rule: " -j EKLAVYA-" in rule, rules)

    def _fill(self, family: str, *, apart: bool) -> None:
        """Give the chains their rules, all at once: at no moment are they there and empty."""
        lines = [f"-A {self._chain} {' '.join(rule)}" for rule in self._rules(family)]
        chains = [self._chain]
        if apart:
            lines.append(f"-A {self._apart_chain} -j DROP")
            chains.append(self._apart_chain)
        text = "\n".join(["*filter", *(f":{chain} - [0:0]" for chain in chains), *lines, "COMMIT", ""])
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


def _rule(jump: tuple[str, ...]) -> str:
    """The rule as iptables lists it."""
    return f"-A {' '.join(jump)}"


def _put_first(family: str, jump: tuple[str, ...]) -> None:
    """Move the rule to the head, all at once. Docker puts its own there with each network that it makes."""
    text = " ".join(jump)
    there = _call(family, "-S", jump[0]).splitlines().count(_rule(jump))
    lines = [*[f"-D {text}"] * there, f"-I {text}"]
    _call(f"{family}-restore", "--noflush", given="\n".join(["*filter", *lines, "COMMIT", ""]))


def _filter_bridged() -> None:
    """Have packets that stay on a bridge filtered as well, as Docker does; a host may have it off."""
    if not _BRIDGED.is_dir():
        _load_bridge_filter()
    try:
        for family in _families():
            switch = _BRIDGED / f"bridge-nf-call-{family}"
            if switch.read_text().strip() != "1":
                switch.write_text("1")
    except OSError as error:
        raise RuntimeUnavailable(f"The host cannot be told to filter within bridges ({_BRIDGED}): {error}") from error


def _load_bridge_filter(*options: str) -> bool:
    """Load the kernel's module; whether that worked."""
    modprobe = shutil.which("modprobe", path=_PATH)
    if modprobe is None:
        return False
    done = subprocess.run([modprobe, *options, "br_netfilter"], capture_output=True, timeout=_TIMEOUT_S, check=False)
    return done.returncode == 0


def _call(program: str, *arguments: str, given: str = "") -> str:
    """Run it and return its output."""
    command = [shutil.which(program, path=_PATH) or program, "--wait", *arguments]
    done = subprocess.run(command, input=given, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
    if done.returncode:
        problem = (done.stderr or done.stdout).strip()[-300:]
        raise RuntimeUnavailable(f"The host's packet filter refused {program} {' '.join(arguments)}: {problem}")
    return done.stdout
