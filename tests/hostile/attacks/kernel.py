"""System calls by which one leaves a container."""

import ctypes
import os
import platform
import socket
from pathlib import Path

from .base import Stopped, World, attack

_LIBC = ctypes.CDLL(None, use_errno=True)
_NUMBERS = {
    "x86_64": {"bpf": 321, "add_key": 248, "swapon": 167, "perf_event_open": 298, "reboot": 169, "open_tree": 428},
    "aarch64": {
        "bpf": 280,
        "add_key": 217,
        "swapon": 224,
        "perf_event_open": 241,
        "reboot": 142,
        "open_tree": 428,
    },
}
_NEWUSER, _NEWNS, _NEWNET = 0x10000000, 0x00020000, 0x40000000


def _check(result: int, *, also: int = 0) -> None:
    """Raise the call's error. `also` is the error of those who got past the guard with nonsense in their hands."""
    code = ctypes.get_errno()
    if result < 0 and code != also:
        raise OSError(code, os.strerror(code))


def _syscall(name: str, *arguments: object, also: int = 0) -> None:
    ctypes.set_errno(0)
    _check(_LIBC.syscall(_NUMBERS[platform.machine()][name], *arguments), also=also)


def _in_child(call: "ctypes._CFuncPtr | object", *arguments: object) -> None:
    """What changes the process for good is done in a child."""
    reader, writer = os.pipe()
    if os.fork() == 0:
        ctypes.set_errno(0)
        failed = call(*arguments) < 0  # type: ignore[operator]
        os.write(writer, bytes([ctypes.get_errno() if failed else 0]))
        os._exit(0)
    os.close(writer)
    code = os.read(reader, 1)[0]
    os.close(reader)
    os.wait()
    if code:
        raise OSError(code, os.strerror(code))


@attack("kernel-mount", "mounts a file system", stopped="EPERM|EACCES")
def mount(world: World) -> str:
    ctypes.set_errno(0)
    _check(_LIBC.mount(b"none", b"/tmp", b"tmpfs", 0, None))
    _LIBC.umount(b"/tmp")
    return "mounted"


@attack("kernel-remount", "makes the root file system writable", stopped="EPERM|EACCES")
def remount(world: World) -> str:
    ctypes.set_errno(0)
    _check(_LIBC.mount(None, b"/", None, 32, None))  # MS_REMOUNT
    return "remounted"


@attack("kernel-user-namespace", "becomes root in a user namespace", stopped="EPERM|ENOSPC|EACCES")
def user_namespace(world: World) -> str:
    _in_child(_LIBC.unshare, _NEWUSER)
    return "in a new user namespace"


@attack("kernel-network-namespace", "makes a network namespace", stopped="EPERM|EACCES")
def network_namespace(world: World) -> str:
    _in_child(_LIBC.unshare, _NEWNET)
    return "in a new network namespace"


@attack("kernel-enter-namespace", "enters the host's mount namespace", stopped="EPERM|EACCES|EINVAL|same one")
def enter(world: World) -> str:
    own, first = os.readlink("/proc/self/ns/mnt"), os.readlink("/proc/1/ns/mnt")
    if own == first:
        raise Stopped("process 1 is in the same one")
    with open("/proc/1/ns/mnt") as file:
        _in_child(_LIBC.setns, file.fileno(), _NEWNS)
    return "in the host's mount namespace"


@attack("kernel-setuid", "becomes root", stopped="EPERM")
def setuid(world: World) -> str:
    _in_child(_LIBC.setuid, 0)
    return "uid 0"


@attack("kernel-setuid-program", "becomes root by a set-uid program", stopped="no new privileges")
def setuid_program(world: World) -> str:
    status = Path("/proc/self/status").read_text()
    fields = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
    if int(fields["NoNewPrivs"]) and not int(fields["CapBnd"], 16):
        raise Stopped("no new privileges, no capability in the bounding set")
    return f"capabilities {fields['CapBnd'].strip()}, NoNewPrivs {fields['NoNewPrivs'].strip()}"


@attack("kernel-chroot", "changes its root directory", stopped="EPERM")
def chroot(world: World) -> str:
    _in_child(_LIBC.chroot, b"/tmp")
    return "changed root"


@attack("kernel-device", "makes a device file of the host's disk", stopped="EPERM|EACCES")
def device(world: World) -> str:
    os.mknod("/tmp/hostile-disk", 0o600 | 0o060000, os.makedev(*world["disk"]))
    os.unlink("/tmp/hostile-disk")
    return "made a block device"


@attack("kernel-raw-disk", "reads the host's disk", stopped="ENOENT|EPERM|EACCES")
def raw_disk(world: World) -> str:
    with open(world["disk_path"], "rb"):
        return f"{world['disk_path']} is open"


@attack("kernel-memory-device", "opens the kernel's memory and log", stopped="ENOENT|EPERM|EACCES")
def kmsg(world: World) -> str:
    with open("/dev/kmsg", "rb"):
        return "/dev/kmsg is open"


@attack("kernel-file-handle", "opens files by their inode, past all directories", stopped="EPERM")
def file_handle(world: World) -> str:
    handle = ctypes.create_string_buffer(8 + 128)
    ctypes.cast(handle, ctypes.POINTER(ctypes.c_uint))[0] = 128
    mount_id = ctypes.c_int()
    ctypes.set_errno(0)
    directory = world["handle_place"].encode()
    _check(_LIBC.name_to_handle_at(-100, directory, handle, ctypes.byref(mount_id), 0))
    place = os.open(directory, os.O_RDONLY)
    ctypes.set_errno(0)
    found = _LIBC.open_by_handle_at(place, handle, 0)
    _check(found)
    os.close(found)
    return "opened by its handle"


@attack("kernel-bpf", "loads programs into the kernel", stopped="EPERM|ENOSYS")
def bpf(world: World) -> str:
    # BPF_MAP_CREATE: an array of one element of 4 bytes.
    _syscall("bpf", 0, (ctypes.c_uint * 18)(2, 4, 4, 1), 72)
    return "made a map"


@attack("kernel-keyring", "puts keys into the kernel's keyring", stopped="EPERM|ENOSYS")
def keyring(world: World) -> str:
    _syscall("add_key", b"user", b"hostile", b"x", 1, ctypes.c_int(-1))
    return "added a key"


@attack("kernel-swap", "has the kernel swap to a file of its own", stopped="EPERM")
def swap(world: World) -> str:
    _syscall("swapon", b"/tmp/there-is-none", 0, also=2)  # ENOENT: the kernel looked for it
    return "the kernel looked for the file"


@attack("kernel-perf", "watches the whole machine", stopped="EPERM|EACCES|ENOSYS")
def perf(world: World) -> str:
    # PERF_TYPE_SOFTWARE, PERF_COUNT_SW_CPU_CLOCK, of all processes on processor 0.
    attributes = (ctypes.c_uint * 32)(1, 128)
    _syscall("perf_event_open", attributes, ctypes.c_int(-1), ctypes.c_int(0), ctypes.c_int(-1), ctypes.c_ulong(0))
    return "counts the clock of all processes"


@attack("kernel-hostname", "renames the machine", stopped="EPERM")
def hostname(world: World) -> str:
    socket.sethostname("hostile")
    return socket.gethostname()


@attack("kernel-cgroup", "leaves its limits by making a cgroup", stopped="EROFS|EACCES|EPERM|ENOENT")
def cgroup(world: World) -> str:
    base = Path("/sys/fs/cgroup/pids") if Path("/sys/fs/cgroup/pids").exists() else Path("/sys/fs/cgroup")
    (base / "hostile").mkdir()
    (base / "hostile").rmdir()
    return f"made a cgroup in {base}"


@attack("kernel-raw-socket", "reads and forges packets of its network", stopped="EPERM")
def raw_socket(world: World) -> str:
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW):
        return "a packet socket is open"
