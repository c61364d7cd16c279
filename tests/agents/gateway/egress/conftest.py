from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from pytest_django import Settings

from agents.gateway.egress.server import EgressProxy
from tests.agents.gateway.egress.outside import Names, Wires, World, running


@pytest.fixture
def start_proxy(transactional_db: None, settings: Settings) -> Iterator[Callable[..., World]]:
    """Start a proxy with these settings, without their prefix."""
    with ExitStack() as stack:

        def start(egress: dict[str, str], **values: Any) -> World:
            settings.EKLAVYA_EGRESS = settings.EKLAVYA_EGRESS | egress
            for name, value in values.items():
                setattr(settings, f"EKLAVYA_EGRESS_{name}", value)
            names, wires = Names(), Wires()
            proxy = EgressProxy(resolve=names, connect=wires, every_s=0.1)
            life = stack.enter_context(ExitStack())
            return World(proxy, life.enter_context(running(proxy)), names, wires, life.close)

        yield start
