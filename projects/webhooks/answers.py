"""What comes of an attempt, for those who write it down."""

from dataclasses import dataclass

from projects.errors import DomainError

_GONE = 410


@dataclass(frozen=True)
class Answer:
    """What came of an attempt. `kind` is empty when it was delivered, else a code; `problem` a sentence then."""

    kind: str = ""
    problem: str = ""
    status: int | None = None
    excerpt: str = ""
    retry_after_s: int = 0
    duration_ms: int = 0

    @property
    def is_gone(self) -> bool:
        """Whether the receiver says that it wants no more."""
        return self.status == _GONE


def failed(error: DomainError) -> Answer:
    """Return the answer for what could not even be put together."""
    return Answer("unsigned", str(error))
