"""What /proc tells, and takes."""

import os
import re
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


@attack("proc-oom", "has the kernel take others before it when memory runs out", stopped="EACCES|EPERM")
def oom(world: World) -> str:
    Path("/proc/self/oom_score_adj").write_text("0")
    return "oom_score_adj is 0"
