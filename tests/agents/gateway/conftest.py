from collections.abc import Iterator
from contextlib import ExitStack
from typing import Protocol

import httpx
import pytest
from pytest_django import Settings
from starlette.types import ASGIApp

from agents.gateway.app import build
from agents.models import Run
from tests.agents.gateway.harness import ANSWER, DEADLINE_S, ScriptedModel, answers, serve, start_run

KEY = "sk-ant-the-real-key"


@pytest.fixture
def model() -> ScriptedModel:
    """The model's API; a test sets its `behave`."""
    return ScriptedModel(answers(*ANSWER))


class StartGateway(Protocol):
    """Starts a gateway in front of a model (an application or an address), and returns its address.

    A model that is overloaded is asked again for `patience_s`.
    """

    def __call__(self, model: ASGIApp | str, *, patience_s: float = 0) -> str: ...


@pytest.fixture
def start_gateway(transactional_db: None, settings: Settings) -> Iterator[StartGateway]:
    """Start a gateway in front of a model (an application or an address), and return its address."""
    with ExitStack() as stack:

        def start(model: ASGIApp | str, *, patience_s: float = 0) -> str:
            settings.EKLAVYA_MODEL_URL = model if isinstance(model, str) else stack.enter_context(serve(model))
            settings.EKLAVYA_MODEL_KEY = KEY
            settings.EKLAVYA_MODEL_PATIENCE_SECONDS = patience_s
            return stack.enter_context(serve(build()))

        yield start


@pytest.fixture
def gateway(start_gateway: StartGateway, model: ScriptedModel) -> str:
    """The address of a gateway in front of `model`."""
    return start_gateway(model)


@pytest.fixture
def working(gateway: str) -> tuple[Run, str]:
    """A run at work, and its token."""
    return start_run()


@pytest.fixture
def run(working: tuple[Run, str]) -> Run:
    return working[0]


@pytest.fixture
def client(gateway: str, working: tuple[Run, str]) -> Iterator[httpx.Client]:
    """What the run's CLI would send with."""
    headers = {"x-api-key": working[1], "anthropic-version": "2023-06-01"}
    base = f"{gateway}/models/anthropic/v1"
    with httpx.Client(base_url=base, headers=headers, timeout=DEADLINE_S, trust_env=False) as client:
        yield client
