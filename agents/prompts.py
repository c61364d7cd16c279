"""The system prompts of roles, from whoever keeps them. Prompts belong to a higher app, so it registers itself here."""

from collections.abc import Callable
from typing import NamedTuple
from uuid import UUID

from projects.errors import DomainError
from projects.roles import Role


class Prompt(NamedTuple):
    """A role's system prompt, and the version it is."""

    version_id: UUID
    text: str


Provider = Callable[[Role, UUID | None], Prompt]
_providers: list[Provider] = []


def register(provider: Provider) -> None:
    """Have `provider(role, version_id)` answer `prompt_for`. For `eklavya.wiring` alone."""
    _providers[:] = [provider]


def prompt_version_for(role: str, *, pinned: UUID | None) -> UUID | None:
    """Return which version a run of the role will be told by. Where there is none the run finds out, and says so."""
    try:
        return prompt_for(Role(role), pinned).version_id
    except DomainError:
        return None


def prompt_for(role: Role, version_id: UUID | None = None) -> Prompt:
    """Return the version asked for, or the role's active one."""
    (provider,) = _providers
    return provider(role, version_id)
