"""A Docker daemon of the house's own, which may be killed: nobody else's containers are in it.

It writes the packet filter of its network namespace, where a second daemon would break the first one's rules. So the
whole run moves into a new namespace first (`move`), with a loopback and nothing else.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from eklavya.env import BASE_DIR
from eklavya.services.child import Spec, bare_environment
from eklavya.services.errors import StartFailed

_MOVED = "CHAOS_MOVED"
_STOP_S = 60
_ANSWER_S = 10
_LOAD_S = 900


def why_not() -> str:
    """Return why there can be no second daemon here; empty when there can."""
    if os.geteuid() != 0:
        return "only root starts a Docker daemon"
    missing = [tool for tool in ("dockerd", "docker", "unshare", "ip") if shutil.which(tool) is None]
    if missing:
        return f"{', '.join(missing)} is missing: install docker.io, util-linux and iproute2"
    done = subprocess.run(["unshare", "--net", "true"], capture_output=True, text=True, check=False)
    return done.stderr.strip() if done.returncode else ""


def move() -> None:
    """Begin this program anew in a network namespace of its own, unless it is there already."""
    if os.environ.get(_MOVED):
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        return
    os.environ[_MOVED] = "yes"
    os.chdir(BASE_DIR)
    unshare = shutil.which("unshare") or "unshare"
    os.execv(unshare, [unshare, "--net", "--", sys.executable, "-m", "tests.chaos", *sys.argv[1:]])


def spec(base: Path) -> Spec:
    """The daemon below a directory."""
    pid_file = base / "docker.pid"
    address = f"unix://{base / 'docker.sock'}"
    return Spec(
        name="docker",
        title="Docker daemon",
        command=[
            *(shutil.which("dockerd") or "dockerd", "--host", address, "--pidfile", str(pid_file)),
            # No default bridge: each project has a network of its own.
            *("--data-root", str(base / "docker"), "--exec-root", str(base / "docker-run"), "--bridge", "none"),
        ],
        environment={**bare_environment(), "PATH": f"/usr/sbin:/sbin:{os.environ.get('PATH', os.defpath)}"},
        ready=lambda: _answers(address),
        deadline_s=120,
        stop_timeout_s=_STOP_S,
        # Its own end takes a while, and its containers with it.
        before=lambda: pid_file.unlink(missing_ok=True),
    )


def address_of(base: Path) -> str:
    """What DOCKER_HOST is for it."""
    return f"unix://{base / 'docker.sock'}"


def load(image: str, base: Path) -> None:
    """Give it an image that the machine's daemon has. Raises StartFailed."""
    with subprocess.Popen(["docker", "save", image], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as given:
        command = ["docker", "--host", address_of(base), "load", "--quiet"]
        taken = subprocess.run(command, stdin=given.stdout, capture_output=True, timeout=_LOAD_S, check=False)
        said = given.stderr.read().decode().strip() if given.stderr else ""
    if given.returncode or taken.returncode:
        raise StartFailed(f"no {image} ({said or taken.stderr.decode().strip()}): docker/start_daemon.sh, make image")


def remove(base: Path) -> None:
    """Take away what a daemon that was killed left mounted, so that its directories can go."""
    mounts = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
    for place in reversed([mount for mount in mounts if mount.startswith(f"{base}/docker")]):
        subprocess.run(["umount", "--lazy", place], capture_output=True, check=False)


def _answers(address: str) -> bool:
    command = ["docker", "--host", address, "version"]
    try:
        return subprocess.run(command, capture_output=True, timeout=_ANSWER_S, check=False).returncode == 0
    except subprocess.TimeoutExpired:
        return False
