"""An Eklavya of its own for a benchmark: started in a temporary directory on free ports, and Django set up on it."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
START_S = 180


def free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


@contextmanager
def installation(runtime: str) -> Iterator[Path]:
    """Run `manage.py run` for the length of the `with`; inside, Django's models are those of this installation."""
    web, gateway, rehearsal, egress = free_ports(4)
    with tempfile.TemporaryDirectory(prefix="eklavya-bench-") as var:
        os.environ.update(
            EKLAVYA_VAR=var,
            EKLAVYA_RUNTIME=runtime,
            EKLAVYA_WEB_PORT=str(web),
            EKLAVYA_GATEWAY_PORT=str(gateway),
            EKLAVYA_REHEARSAL_PORT=str(rehearsal),
            EKLAVYA_EGRESS_PORT=str(egress),
            DJANGO_SETTINGS_MODULE="eklavya.settings",
        )
        with open(Path(var) / "run.log", "w") as log:
            process = subprocess.Popen([sys.executable, "manage.py", "run"], cwd=ROOT, stdout=log, stderr=log)
            try:
                _await(f"http://127.0.0.1:{web}/healthz", process, Path(log.name))
                yield Path(var)
            finally:
                process.send_signal(signal.SIGTERM)
                process.wait(timeout=60)


def _await(url: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            urllib.request.urlopen(url, timeout=2).close()
        except OSError:
            time.sleep(0.2)
        else:
            return
    raise SystemExit("the installation did not start:\n" + "\n".join(log.read_text().splitlines()[-8:]))
