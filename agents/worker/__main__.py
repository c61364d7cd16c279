"""`python -m agents.worker`: join a server, and execute runs until told to stop."""

import argparse
import asyncio
import logging
import os
import re
import socket
import sys
from pathlib import Path

from agents.worker.program import Program, Settings
from agents.worker.server import Refused

logger = logging.getLogger("agents.worker")


def main() -> int:
    """Return 0 after an orderly stop, 1 when the server does not let this machine in."""
    given = _arguments()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    logging.getLogger("httpx").setLevel(logging.WARNING)  # a line for each heartbeat
    settings = Settings(
        url=given.url,
        key=given.key,
        name=given.name,
        var=given.var.resolve(),
        runtime=given.runtime,
        image=given.image,
        capacity=given.capacity,
        gateway=given.gateway,
        egress=given.egress,
        listen=given.listen,
    )
    try:
        asyncio.run(Program(settings).run())
    except Refused as refused:
        logger.error("not let in: %s", refused)
        return 1
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m agents.worker", description=__doc__)
    parser.add_argument("--url", required=True, help="the server's address, such as https://eklavya.example.com")
    parser.add_argument(
        "--key",
        default=os.environ.pop("EKLAVYA_WORKER_KEY", ""),
        help="an API key with the scope workers:join; better in a file, as arguments can be read by all",
    )
    parser.add_argument(
        "--key-file",
        type=Path,
        metavar="FILE",
        help="the file with the key, or a pipe; better than EKLAVYA_WORKER_KEY, which stays in /proc",
    )
    parser.add_argument("--name", default=re.sub(r"[^A-Za-z0-9._-]", "-", socket.gethostname()), help="its name")
    parser.add_argument("--var", type=Path, default=Path("var/worker"), help="directory for its data")
    parser.add_argument("--runtime", choices=["auto", "docker", "local"], default="auto", help="where agents run")
    parser.add_argument("--image", default="eklavya-sandbox:latest", help="the image of Docker's sandboxes")
    parser.add_argument("--capacity", type=int, default=2, help="runs at once")
    parser.add_argument("--gateway", default="", metavar="HOST:PORT", help="the agent gateway, if not at the server's")
    parser.add_argument("--egress", default="", metavar="HOST:PORT", help="the egress proxy, if not at the server's")
    parser.add_argument(
        "--listen",
        default="",
        metavar="ADDRESS",
        help="where sandboxes find both here; if not given, at the address in each project's network and nowhere else",
    )
    given = parser.parse_args()
    if not given.url.startswith(("http://", "https://")):
        parser.error("--url begins with http:// or https://")
    if given.key_file is not None:
        try:
            given.key = given.key_file.read_text(encoding="utf-8").strip()
        except (OSError, ValueError) as error:
            parser.error(f"--key-file cannot be read: {error}")
    if not given.key:
        parser.error("give a key by --key-file, in EKLAVYA_WORKER_KEY or by --key")
    return given


if __name__ == "__main__":
    sys.exit(main())
