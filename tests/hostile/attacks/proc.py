"""What /proc tells, and takes."""

import os
import re
import signal as signals
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from .base import Stopped, World, attack

_PLATFORM = re.compile(rb"gateway_asgi|postgres")


@attack("proc-list", "sees the platform's processes", stopped="none of the platform among [1-9]")
def listing(world: World) -> str:
    seen = 0
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            line = path.read_bytes()
            seen += 1
            if _PLATFORM.search(line):
                return line.replace(b"\0", b" ").decode(errors="replace")
    raise Stopped(f"none of the platform among {seen} processes")


@attack("proc-root", "reads the host's files by /proc/1/root", stopped="ENOENT|EACCES|EPERM")
def root(world: World) -> str:
    return Path(f"/proc/1/root{world['host_file']}").read_text()


@attack("proc-cwd", "reads the host's files by another process's directory", stopped="ENOENT|EACCES|EPERM")
def cwd(world: World) -> str:
    return Path(f"/proc/{world['gateway_pid']}/cwd/manage.py").read_text()[:40]


@attack("proc-signal", "sends a signal to the gateway's process", stopped="ESRCH|EPERM")
def signal(world: World) -> str:
    os.kill(world["gateway_pid"], 0)
    return f"process {world['gateway_pid']} takes signals"


@attack("proc-kernel-log", "reads the kernel's log", stopped="EPERM|EACCES|ENOENT")
def kernel_log(world: World) -> str:
    with open("/proc/kmsg", "rb"):
        return "/proc/kmsg can be read"


@attack("proc-masked", "reads the kernel's timers and keys", stopped="nothing in")
def masked(world: World) -> str:
    for name in ("timer_list", "keys", "sched_debug", "kcore"):
        with suppress(OSError), open(f"/proc/{name}", "rb") as file:
            if text := file.read(16):
                return f"{name}: {text!r}"
    raise Stopped("nothing in timer_list, keys, sched_debug, kcore")


@attack("proc-core-pattern", "has the host's kernel run a program for core dumps", stopped="EROFS|EACCES|EPERM")
def core_pattern(world: World) -> str:
    path = Path("/proc/sys/kernel/core_pattern")
    path.write_text(path.read_text())  # as it is: the control runs where this works
    return "core_pattern can be written"


@attack("proc-sysctl", "changes a setting of the kernel", stopped="EROFS|EACCES|EPERM")
def sysctl(world: World) -> str:
    path = Path("/proc/sys/net/ipv4/ip_forward")
    path.write_text(path.read_text())
    return "ip_forward can be written"


_KILLED = ("/sys/fs/cgroup/memory.events", "/sys/fs/cgroup/memory/memory.oom_control")
# Lower than a sandbox is given, high enough that of this one's processes the kernel takes it and not the CLI.
_EAT = """
import mmap, sys
open("/proc/self/oom_score_adj", "w").write("400")
held = mmap.mmap(-1, int(sys.argv[1]))
for at in range(0, len(held), 4096):
    held[at] = 1
"""


@attack("proc-oom", "has the kernel take others before it when memory runs out", stopped=r"EACCES|EPERM|oom_kill \+1")
def oom(world: World) -> str:
    # Where the daemon lacks CAP_SYS_RESOURCE this works. What it would win is memory at the cost of others.
    Path("/proc/self/oom_score_adj").write_text("0")
    before = _kills()
    done = subprocess.run([sys.executable, "-c", _EAT, str(5 * 2**29)], capture_output=True, timeout=60)
    if done.returncode == -signals.SIGKILL:
        raise Stopped(f"its place is its own, and its own limit killed it: oom_kill +{_kills() - before}")
    assert done.returncode == 0, done.stderr
    return "oom_score_adj is 0, and 2.5 GiB are held"


def _kills() -> int:
    """How many processes the kernel has killed in this very cgroup because of its own limit."""
    for path in _KILLED:
        with suppress(OSError):
            return int(re.search(r"^oom_kill (\d+)$", Path(path).read_text(), re.MULTILINE)[1])
    return 0
