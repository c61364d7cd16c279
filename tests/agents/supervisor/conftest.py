from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest
from django.db import connection
from django.utils import timezone
from pytest_django import DjangoDbBlocker, Settings

from agents import sandboxes
from agents.supervisor.keeper import LeaseKeeper
from learning.actions import load_prompts
from tests.agents.gateway.harness import fill_prices
from tests.agents.supervisor.line import Servers, start_servers
from tests.factories import TESTER, WorkerFactory


@pytest.fixture(scope="session")
def servers(
    django_db_setup: None, django_db_blocker: DjangoDbBlocker, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Servers]:
    """The gateway and the model, started once: a project or run of one test is nothing to another's."""
    with start_servers(tmp_path_factory.mktemp("var")) as started:
        yield started


@pytest.fixture
def house(servers: Servers, transactional_db: None, settings: Settings) -> Iterator[Path]:
    """A place to work in: settings, a worker, prompts and prices. Gives the data directory."""
    settings.EKLAVYA_VAR = servers.var
    settings.EKLAVYA_GATEWAY_PORT = servers.gateway_port
    settings.EKLAVYA_RUNTIME = "local"
    sandboxes.choice.cache_clear()
    WorkerFactory(capacity=8)
    fill_prices()
    load_prompts(by=TESTER, now=timezone.now())
    yield servers.var
    sandboxes.choice.cache_clear()


class QuickKeeper(LeaseKeeper):
    """Beats twenty times as often as the product's, and for that on one connection, where that one has a pool."""

    def __init__(self, owner: str) -> None:
        super().__init__(owner, clock=timezone.now, on_beat=self._keep_connection, interval_s=0.1)

    def _keep_connection(self, now: datetime) -> None:
        connection.close_at = None

    def _beat(self) -> None:
        try:
            super()._beat()
        finally:
            connection.close()


def new_keeper(owner: str) -> LeaseKeeper:
    return QuickKeeper(owner)


@pytest.fixture
def keeper(house: Path) -> Iterator[LeaseKeeper]:
    """A worker's lease keeper, which beats quickly."""
    made = new_keeper("here")
    made.start()
    yield made
    made.close()
