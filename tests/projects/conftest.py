"""What tests of projects share: who hears of committed rows, and real threads with connections of their own."""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest
from django.db import connection

from projects import events
from projects.events import Published

Together = Callable[..., list["Future[Any]"]]


@pytest.fixture
def published(monkeypatch: pytest.MonkeyPatch) -> list[Published]:
    """The rows told to subscribers, in order. Nobody else hears of them."""
    rows: list[Published] = []
    monkeypatch.setattr(events, "_subscribers", [rows.extend])
    return rows


@pytest.fixture
def together() -> Iterator[Together]:
    """Run calls at the same time, each on a database connection of its own; return their futures, all done."""
    with ThreadPoolExecutor(8) as pool:

        def run(*calls: Callable[[], object]) -> list[Future[Any]]:
            futures = [pool.submit(_on_own_connection, call) for call in calls]
            for future in futures:
                future.exception(timeout=90)
            return futures

        yield run


def _on_own_connection(call: Callable[[], object]) -> object:
    try:
        return call()
    finally:
        connection.close()
