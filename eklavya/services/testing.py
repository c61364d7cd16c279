"""Embedded servers for a test run: fast, forgetful, and gone with the process that started them."""

import time
from dataclasses import dataclass
from pathlib import Path

from eklavya.services.child import POLL_SECONDS, Child, Spec
from eklavya.services.postgres import postgres_spec, prepare_postgres
from eklavya.services.sockets import remove_socket_directory
from eklavya.services.valkey import prepare_valkey, valkey_spec


@dataclass(frozen=True)
class Services:
    """Addresses of the running servers, and the data directory of this process."""

    var: Path
    database_url: str
    redis_url: str


class TestServers:
    """The servers started so far, stopped in reverse."""

    __test__ = False  # no test class, in spite of its name

    def __init__(self) -> None:
        self._children: list[Child] = []
        self._vars: list[Path] = []

    def start_postgres(self, var: Path) -> None:
        """A PostgreSQL of its own in ``var``, answering when this returns. A power cut would ruin it."""
        prepare_postgres(var, durable=False)
        self._start(postgres_spec(var, durable=False), var=var)

    def start_valkey(self, var: Path) -> None:
        """A Valkey of its own in ``var``, answering when this returns. It keeps nothing on disk."""
        prepare_valkey(var)
        self._start(valkey_spec(var, durable=False), var=var)

    def stop(self) -> None:
        """Stop all."""
        while self._children:
            self._children.pop().stop()
        for var in self._vars:
            remove_socket_directory(var)

    def _start(self, spec: Spec, *, var: Path) -> None:
        self._vars.append(var)
        child = Child(spec, logs=var)
        child.start()
        self._children.append(child)
        while not child.check_ready():
            time.sleep(POLL_SECONDS)
