"""Using up what others need too. Each goes well beyond the limit, and cleans up."""

import mmap
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from .base import Stopped, World, attack

_GIB = 2**30


def _fill(directory: str, sizes: "list[int]") -> str:
    made = []
    try:
        for number, size in enumerate(sizes):
            path = Path(directory, f"hostile-{number}")
            made.append(path)
            with path.open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, size)
    finally:
        for path in made:
            path.unlink(missing_ok=True)
    return f"{sum(sizes) >> 20} MiB in {directory}"


@attack("bomb-fork", "starts processes without end", stopped="EAGAIN")
def fork(world: World) -> str:
    children = []
    try:
        for _ in range(1_500):
            child = os.fork()
            if child == 0:
                signal.pause()
                os._exit(0)
            children.append(child)
    finally:
        for child in children:
            os.kill(child, signal.SIGKILL)
        for child in children:
            os.waitpid(child, 0)
    return f"{len(children)} processes"


_EAT = """
import mmap, sys
open("/proc/self/oom_score_adj", "w").write("1000")
size = int(sys.argv[1])
held = mmap.mmap(-1, size)
for at in range(0, size, 4096):
    held[at] = 1
"""


@attack("bomb-memory", "uses up the host's memory", stopped="killed by signal 9")
def memory(world: World) -> str:
    done = subprocess.run([sys.executable, "-c", _EAT, str(int(2.5 * _GIB))], capture_output=True, timeout=60)
    if done.returncode < 0:
        raise Stopped(f"killed by signal {-done.returncode}")
    assert done.returncode == 0, done.stderr
    return "2.5 GiB touched"


@attack("bomb-disk", "fills the host's disk", stopped="ENOSPC|EDQUOT")
def disk(world: World) -> str:
    return _fill(world["scratch"], [_GIB] * 4)


@attack("bomb-home", "fills it by its home", stopped="ENOSPC|EDQUOT")
def home(world: World) -> str:
    return _fill(os.environ["HOME"], [_GIB] * 4)


@attack("bomb-tmp", "fills memory by files", stopped="ENOSPC|ENOMEM")
def tmp(world: World) -> str:
    return _fill("/tmp", [_GIB])


@attack("bomb-shm", "fills memory by shared memory", stopped="ENOSPC|ENOMEM")
def shm(world: World) -> str:
    return _fill("/dev/shm", [128 << 20])


@attack("bomb-sparse", "makes a file of a size that breaks whoever copies it", stopped="EFBIG")
def sparse(world: World) -> str:
    path = Path(world["scratch"], "hostile-sparse")
    try:
        with path.open("wb") as file:
            os.truncate(file.fileno(), 100 * _GIB)
    finally:
        path.unlink()
    return "100 GiB, sparse"


@attack("bomb-descriptors", "uses up the kernel's table of files", stopped="EMFILE|ENFILE")
def descriptors(world: World) -> str:
    held = []
    try:
        for _ in range(10_000):
            held.append(os.open("/dev/null", os.O_RDONLY))
    finally:
        for one in held:
            os.close(one)
    return f"{len(held)} open files"


@attack("bomb-priority", "takes the processor from everybody", stopped="EPERM|EACCES")
def priority(world: World) -> str:
    os.setpriority(os.PRIO_PROCESS, 0, -20)
    return "priority -20"


@attack("bomb-lock", "locks memory that cannot be reclaimed", stopped="EPERM|ENOMEM|EAGAIN")
def lock(world: World) -> str:
    import ctypes  # noqa: PLC0415  # only here

    held = mmap.mmap(-1, 512 << 20)
    address = ctypes.addressof(ctypes.c_char.from_buffer(held))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mlock(ctypes.c_void_p(address), ctypes.c_size_t(512 << 20)) < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return "512 MiB locked"


@attack("bomb-outlive", "leaves a process that lives on after its run", stopped="still here", control="outside")
def outlive(world: World) -> str:
    """Detached twice over. Whether it lives on is looked at from outside, when the run has ended."""
    code = f"import time  # {world['survivor']}\ntime.sleep(600)"
    subprocess.Popen(
        [sys.executable, "-c", code],
        start_new_session=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    time.sleep(0)
    raise Stopped("started; still here")
