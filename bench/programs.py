"""Programs that run beside a benchmark."""

import os
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

START_S = 180


@contextmanager
def program(command: list[str], *, url: str, log: Path, env: dict[str, str] | None = None) -> Iterator[None]:
    """Run a program until the `with` ends. It is waited for until it answers a POST to `url`, whatever it says."""
    with open(log, "w") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, env=os.environ | (env or {}))
    try:
        deadline = time.monotonic() + START_S
        while process.poll() is None and time.monotonic() < deadline and not _answers(url):
            time.sleep(0.2)
        if process.poll() is not None or not _answers(url):
            raise SystemExit(f"{command[0]} does not answer: {log.read_text()[-2000:]}")
        yield
    finally:
        process.terminate()
        process.wait(timeout=30)


def _answers(url: str) -> bool:
    try:
        urllib.request.urlopen(urllib.request.Request(url, data=b"{}"), timeout=2).close()
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False
    return True
