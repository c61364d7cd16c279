"""The real Git, with an API key as the password in the address."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import UUID

import pytest
import uvicorn
from asgiref.sync import sync_to_async
from django.core.asgi import get_asgi_application
from django.db import connections
from django.utils import timezone

from agents.sandboxes import repository
from tests.accounts.making import key_of
from tests.factories import ProjectFactory, UserFactory
from tests.serving import QuickServer

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
async def portal() -> AsyncIterator[str]:
    """The portal's pages on a port of their own; host:port."""
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(get_asgi_application(), lifespan="off", log_level="warning", ws="none")
    server = QuickServer(config)
    serving = asyncio.create_task(server.serve([listener]))
    yield f"127.0.0.1:{listener.getsockname()[1]}"
    server.should_exit = True
    await serving
    await sync_to_async(connections.close_all)()


@sync_to_async
def project_and_key() -> tuple[UUID, str]:
    project = ProjectFactory()
    repository(project.pk).create("# Boat house\n")
    _, text = key_of(UserFactory(), "repository:read", project_id=project.pk, now=timezone.now())
    return project.pk, text


async def clone(address: str, target: Path) -> int:
    environment = os.environ | {"GIT_TERMINAL_PROMPT": "0", "GIT_CONFIG_GLOBAL": os.devnull}
    process = await asyncio.create_subprocess_exec("git", "clone", "--quiet", address, str(target), env=environment)
    return await process.wait()


async def test_git_clones_with_a_key_as_password_and_not_with_another(portal: str, tmp_path: Path) -> None:
    project_id, text = await project_and_key()

    made = await clone(f"http://git:{text}@{portal}/git/{project_id}.git", tmp_path / "good")
    refused = await clone(f"http://git:{text[:-4]}AAAA@{portal}/git/{project_id}.git", tmp_path / "bad")

    assert made == 0
    assert (tmp_path / "good" / "README.md").read_text() == "# Boat house\n"
    assert refused != 0
    assert not (tmp_path / "bad").exists()
