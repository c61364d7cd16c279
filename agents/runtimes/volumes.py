"""Directories that hold no more than they may: each a file system of its own, in a file of the host.

An ext4 image of the size asked for, mounted by a loop device. It is sparse, so that it costs what is written; it has
inodes of its own, so that empty files cannot fill the host either; and it is unlinked as soon as it is mounted, so
that whatever becomes of us the space is the host's again when the mount is gone.

Needs root, and whoever is to see the mounts in the same mount namespace. `why_not` says what is missing; then the
callers watch (agents/runtimes/watching.py).
"""

import os
import shutil
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from agents.runtimes.errors import RuntimeProblem, RuntimeUnavailable

__all__ = ["RESERVE_MB", "check_room", "device_of", "holds", "is_volume", "make", "promised_mb", "remove", "why_not"]

RESERVE_MB = 1024
"""What stays free on the host when every volume is full."""
_TOOLS = ("mkfs.ext4", "mount", "umount")
_PATH = f"/usr/sbin:/sbin:{os.environ.get('PATH', os.defpath)}"
# No journal: nothing of a run outlives the host. Tables are written when they are used.
_MKFS = ("-q", "-F", "-m", "0", "-O", "^has_journal,^resize_inode", "-E", "lazy_itable_init=1,nodiscard")
_TIMEOUT_S = 30
_LOOP_MAJOR = 7  # Documentation/admin-guide/devices.txt


@cache
def why_not() -> str:
    """Return why volumes cannot be made here; empty when they can."""
    if os.getuid() != 0:
        return "only root can mount"
    if missing := [tool for tool in _TOOLS if shutil.which(tool, path=_PATH) is None]:
        return f"{', '.join(missing)} is missing"
    if not Path("/dev/loop-control").exists():
        return "the kernel has no loop devices"
    return ""


def make(directory: Path, *, size_mb: int) -> None:
    """Make the directory, which must not exist, as a volume. Raises RuntimeUnavailable when the disk has no room."""
    directory.parent.mkdir(parents=True, exist_ok=True)
    check_room(directory.parent, size_mb)
    directory.mkdir(mode=0o700)
    image = directory.with_name(f".{directory.name}.image")
    try:
        with image.open("xb") as file:
            os.truncate(file.fileno(), size_mb * 2**20)
        _call("mkfs.ext4", *_MKFS, str(image))
        _call("mount", "-o", "loop,nosuid,nodev,noatime", str(image), str(directory))
    except RuntimeProblem:
        directory.rmdir()
        raise
    finally:
        image.unlink(missing_ok=True)
    directory.chmod(0o700)
    (directory / "lost+found").rmdir()


def remove(directory: Path) -> None:
    """Remove a directory and all in it, volume or not. Idempotent. Raises RuntimeProblem when it stays mounted."""
    while is_volume(directory):
        # Lazily: what still has a file open there, such as a process that is being killed, must not keep it.
        _call("umount", "-l", str(directory))
    shutil.rmtree(directory, ignore_errors=True)


def is_volume(directory: Path) -> bool:
    """Whether a volume is mounted at the directory."""
    return os.path.ismount(directory)


def holds(path: Path) -> bool:
    """Whether the path lies on a volume."""
    return device_of(path) != ""


def device_of(path: Path) -> str:
    """Return the block device of the volume that the path lies on; empty where it lies on none."""
    number = path.stat().st_dev
    if os.major(number) != _LOOP_MAJOR:
        return ""
    return f"/dev/{Path(f'/sys/dev/block/{_LOOP_MAJOR}:{os.minor(number)}').resolve().name}"


def check_room(where: Path, size_mb: int) -> None:
    """Raise RuntimeUnavailable unless the disk can take one more volume beside all that may still grow."""
    host = os.statvfs(where)
    promised = _promised(where.parent, disk=where)  # what else this installation makes: runs, checks, previews
    free = host.f_bavail * host.f_frsize
    needed = promised + (size_mb + RESERVE_MB) * 2**20
    if free < needed:
        raise RuntimeUnavailable(
            f"The disk at {where} has {free // 2**20} MB left, and {needed // 2**20} MB are needed: {size_mb} for the "
            f"sandbox, {promised // 2**20} that others may still use, {RESERVE_MB} in reserve. Free some, or run less "
            "at once."
        )


def promised_mb(root: Path, *, disk: Path | None = None) -> int:
    """Return how much the volumes below a directory may still take of its disk, or of that which `disk` lies on."""
    return _promised(root, disk=disk or root) // 2**20


def _promised(root: Path, *, disk: Path) -> int:
    device = disk.stat().st_dev
    return sum(_free(Path(point), device) for point in _mounted_below(root))


def _mounted_below(root: Path) -> Iterator[str]:
    """Where volumes are mounted below a directory, or where a link in it leads: larger disks are added so."""
    links = (entry for entry in root.iterdir() if entry.is_symlink())
    below = tuple(f"{os.path.realpath(place)}/" for place in (root, *links))
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields = line.split(" ")
        source = fields[fields.index("-") + 2]
        if source.startswith("/dev/loop") and fields[4].startswith(below):
            yield fields[4].encode().decode("unicode_escape")


def _free(point: Path, device: int) -> int:
    try:
        of = os.statvfs(point)
        is_there = point.parent.stat().st_dev == device  # the image lies beside it
    except OSError:  # unmounted since
        return 0
    return of.f_bfree * of.f_frsize if is_there else 0


def _call(program: str, *arguments: str) -> None:
    command = [shutil.which(program, path=_PATH) or program, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
    if done.returncode:
        raise RuntimeProblem(f"{program} failed: {(done.stderr or done.stdout).strip()[-300:]}")
