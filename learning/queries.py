"""Reads that several callers need."""

from typing import NamedTuple
from uuid import UUID

from learning.errors import NoActivePrompt
from learning.models import PromptVersion
from learning.states import PromptStatus
from projects.roles import Role


class Prompt(NamedTuple):
    """What a run is told, and the version that its outcome counts for."""

    id: UUID
    text: str


_MOST_READ = 100
_read: dict[tuple[Role, UUID], Prompt] = {}


def active_prompt(role: Role, *, pinned: UUID | None = None) -> Prompt:
    """Return the role's active prompt, or the version that its squad member pinned. Raises NoActivePrompt.

    A pinned version that is gone, or another role's, is passed over: a run with the active prompt beats none. What a
    version says never changes, so it is read once.
    """
    if pinned is not None and (role, pinned) in _read:
        return _read[role, pinned]
    versions = PromptVersion.objects.filter(agent_type=role)
    chosen = versions.filter(pk=pinned).first() if pinned else None
    chosen = chosen or versions.filter(status=PromptStatus.ACTIVE).first()
    if chosen is None:
        raise NoActivePrompt(f"The role {role.value} has no active prompt. Run `manage.py load_prompts`.")
    prompt = Prompt(chosen.pk, chosen.prompt_text)
    if len(_read) >= _MOST_READ:
        _read.clear()
    _read[role, chosen.pk] = prompt
    return prompt
