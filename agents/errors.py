"""What can be wrong with a request to agents."""

from projects.errors import DomainError


class LeaseLost(DomainError):
    """This run belongs to somebody else, or has ended."""


class UnknownToken(DomainError):
    """The run token is unknown, or its run has ended."""


class RunEnded(DomainError):
    """This run was already reported as ended. End your turn now."""


class VerbRefused(DomainError):
    """This cannot be done."""


class WorkerConflict(DomainError):
    """Two machines cannot be one worker."""


class WorkerInUse(DomainError):
    """This worker still answers. Stop it first."""


class UnknownSpecialisation(DomainError):
    """There is no such specialisation. Choose one of those on the page of roles."""


class InvalidSpecialisation(DomainError):
    """This specialisation cannot be made."""


class ReportRefused(DomainError):
    """What a remote worker reported does not fit."""


class UnknownSwitch(DomainError):
    """This cannot be switched."""
