"""What can be wrong with a request to projects. Each class is a case that some caller treats differently.

The class's docstring is the default sentence for people; endpoints and pages show `str(error)`.
"""

import inspect
from collections.abc import Sequence


class DomainError(Exception):
    """This cannot be done."""

    def __init__(self, message: str = "") -> None:
        super().__init__(message or inspect.getdoc(type(self)))


class IllegalTransition(DomainError):
    """This step is not possible from the present state."""


class StaleState(DomainError):
    """Somebody else changed this a moment ago. Look again and decide anew."""


class NotAllowed(DomainError):
    """You may not do this."""


class InvalidBrief(DomainError):
    """The brief cannot be used."""


class InvalidPlan(DomainError):
    """The plan cannot be used. `problems` has a sentence for each fault."""

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("The plan cannot be used: " + " ".join(problems))


class InvalidRequirements(DomainError):
    """The requirements cannot be used."""


class InvalidDecision(DomainError):
    """This decision is not one of those that can be taken here."""

    def __init__(self, message: str = "", *, field: str = "") -> None:
        """`field` is the part of the decision that is wrong, where it is one."""
        super().__init__(message)
        self.field = field


class InvalidSecret(DomainError):
    """This cannot be kept as a secret."""


class InvalidWebhook(DomainError):
    """This webhook cannot be used."""


class SecretUnreadable(DomainError):
    """No key of EKLAVYA_SECRET_KEYS opens this secret. Add the key it was written with, or set it anew."""


class ProjectNotActive(DomainError):
    """The project is not active."""
