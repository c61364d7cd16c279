"""The repositories and clones of the workspace's tests."""

from tests.agents.workspace.conftest import collect, created, repository, start

__all__ = ["collect", "created", "repository", "start"]
