"""Who does something: a person, an agent, a program or the platform itself. Named in every audit row."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol
from uuid import UUID


class ActorKind(StrEnum):
    """What kind of doer."""

    PERSON = "person"
    AGENT = "agent"
    SYSTEM = "system"


class _User(Protocol):
    pk: int

    def get_username(self) -> str: ...


@dataclass(frozen=True)
class Actor:
    """The doer of an action. `id` is the user's or agent's key, empty for the platform's own parts."""

    kind: ActorKind
    name: str
    id: str = ""

    @classmethod
    def person(cls, user: _User) -> "Actor":
        """Return the actor of a signed-in user."""
        return cls(ActorKind.PERSON, user.get_username(), str(user.pk))

    @classmethod
    def agent(cls, agent_id: UUID, name: str) -> "Actor":
        """Return the actor of an agent in its run."""
        return cls(ActorKind.AGENT, name, str(agent_id))

    @classmethod
    def system(cls, part: str) -> "Actor":
        """Return the actor of a part of the platform, such as "scheduler"."""
        return cls(ActorKind.SYSTEM, part)

    @property
    def user_id(self) -> int | None:
        """The user's key where a person acts."""
        return int(self.id) if self.kind is ActorKind.PERSON else None

    @property
    def agent_id(self) -> UUID | None:
        """The agent's key where an agent acts."""
        return UUID(self.id) if self.kind is ActorKind.AGENT else None
