"""Docker daemons of the house's own, which may be killed: nobody else's containers are in them.

A daemon writes the packet filter of its network namespace, where a second one would break the first one's rules. So
each is in its machine's namespace, beside the gateway that its containers speak with.
"""

import os
import shutil
import subprocess
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from eklavya.services.child import Spec, bare_environment
from eklavya.services.errors import StartFailed

_STOP_S = 60
_ANSWER_S = 20
_LOAD_S = 900
# Its containerd is given 15 s to begin, and not by us; a busy machine takes longer, and then it begins anew.
_START_S = 120


def why_not(image: str | None = None) -> str:
    """Return why there can be no second daemon, with that image, here; empty when there can. It needs a network."""
    if os.geteuid() != 0:
        return "only root starts a Docker daemon"
    missing = [tool for tool in ("dockerd", "docker") if shutil.which(tool) is None]
    if missing:
        return f"{', '.join(missing)} is missing: install docker.io"
    if image is None:
        return ""
    asked = subprocess.run(["docker", "image", "inspect", image], capture_output=True, timeout=_ANSWER_S, check=False)
    return f"no {image}: docker/start_daemon.sh, make image" if asked.returncode else ""


@dataclass(frozen=True)
class Engine:
    """One machine's daemon. Its data is in `directory`, whose path is short: that of a socket has 108 bytes.

    `inside` returns the command that runs one in the machine's network namespace, as the same process.
    """

    directory: Path
    inside: Callable[[Sequence[str]], list[str]]

    @property
    def address(self) -> str:
        """What DOCKER_HOST is for it."""
        return f"unix://{self.directory / 'docker.sock'}"

    def spec(self, name: str) -> Spec:
        """How it is started. Its directory is made."""
        self.directory.mkdir(mode=0o711, exist_ok=True)
        pid_file = self.directory / "docker.pid"
        command = [
            *(shutil.which("dockerd") or "dockerd", "--host", self.address, "--pidfile", str(pid_file)),
            # No default bridge: each project has a network of its own.
            *("--data-root", str(self.directory / "data"), "--exec-root", str(self.directory / "run")),
            *("--bridge", "none"),
        ]
        return Spec(
            name=name,
            title="Docker daemon",
            command=self.inside(command),
            environment={**bare_environment(), "PATH": f"/usr/sbin:/sbin:{os.environ.get('PATH', os.defpath)}"},
            ready=self._answers,
            deadline_s=_START_S,
            stop_timeout_s=_STOP_S,
            # Its own end takes a while, and its containers with it.
            before=lambda: pid_file.unlink(missing_ok=True),
        )

    def load(self, image: str) -> None:
        """Give it an image that the machine's daemon has. Raises StartFailed."""
        with subprocess.Popen(["docker", "save", image], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as given:
            command = ["docker", "--host", self.address, "load", "--quiet"]
            taken = subprocess.run(command, stdin=given.stdout, capture_output=True, timeout=_LOAD_S, check=False)
            said = given.stderr.read().decode().strip() if given.stderr else ""
        if given.returncode or taken.returncode:
            raise StartFailed(
                f"no {image} ({said or taken.stderr.decode().strip()}): docker/start_daemon.sh, make image"
            )

    def never_begun(self) -> list[psutil.Process]:
        """Return what a daemon that was killed left of containers that it was making: their shims, empty.

        The next daemon does not know them: neither it nor whoever asks it can end them. A shim in which a program runs
        is not among them.
        """
        found = []
        for shim in psutil.process_iter():
            with suppress(psutil.Error):
                if shim.name().startswith("containerd-shim") and f"{self.directory}/" in " ".join(shim.cmdline()):
                    inside = shim.children(recursive=True)
                    if all(one.cmdline()[-2:] == ["runc", "init"] for one in inside):
                        found += [shim, *inside]
        return found

    def remove(self) -> None:
        """Take away what a daemon that was killed left running and mounted, so that its directories can go."""
        for process in self.never_begun():
            with suppress(psutil.Error):
                process.kill()
        mounts = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
        for place in reversed([mount for mount in mounts if mount.startswith(f"{self.directory}/")]):
            subprocess.run(["umount", "--lazy", place], capture_output=True, check=False)

    def _answers(self) -> bool:
        command = ["docker", "--host", self.address, "version"]
        try:
            return subprocess.run(command, capture_output=True, timeout=_ANSWER_S, check=False).returncode == 0
        except subprocess.TimeoutExpired:
            return False
