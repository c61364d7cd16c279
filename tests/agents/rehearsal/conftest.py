"""The rehearsal model served on a free port, and an MCP server with the platform's verbs."""

from collections.abc import Iterator

import pytest

from agents.rehearsal.server import create_app
from tests.agents.rehearsal.rehearsal_support import Gateway, serving


@pytest.fixture(scope="session")
def model_url() -> Iterator[str]:
    with serving(create_app()) as url:
        yield url


@pytest.fixture
def gateway() -> Iterator[Gateway]:
    gateway = Gateway()
    with serving(gateway.app()) as url:
        gateway.url = url
        yield gateway
