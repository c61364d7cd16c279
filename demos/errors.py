"""What can be wrong with a request to demos, and why a demo cannot be shown."""

from enum import StrEnum

from projects.errors import DomainError


class Reason(StrEnum):
    """Machine-readable causes of a demo's status (`Demo.reason`)."""

    NO_COMMIT = "no_commit"  # the repository does not have the commit
    NO_MANIFEST = "no_manifest"  # eklavya.toml is missing
    INVALID_MANIFEST = "invalid_manifest"
    NO_START_COMMAND = "no_start_command"
    DID_NOT_START = "did_not_start"  # the start command ended
    DID_NOT_ANSWER = "did_not_answer"  # it runs, but its health path did not answer 200 in time
    NOT_DECIDED = "not_decided"  # the time was over
    CLOSED = "closed"  # a person ended it
    PROJECT_ENDED = "project_ended"
    PREVIEW_DOWN = "preview_down"  # was or will be shown; its preview does not run just now


FAILURES = frozenset(
    {
        Reason.NO_COMMIT,
        Reason.NO_MANIFEST,
        Reason.INVALID_MANIFEST,
        Reason.NO_START_COMMAND,
        Reason.DID_NOT_START,
        Reason.DID_NOT_ANSWER,
    }
)
"""The demo's own fault: it has to be built anew."""


class NotADemoTask(DomainError):
    """Only a completed demo task that names its commit can be shown."""


class NotInDemoPhase(DomainError):
    """The project is not at its demos."""


class DemoClosed(DomainError):
    """This demo's address was closed. Give it a new one first."""


class CannotExtend(DomainError):
    """This demo cannot be shown for longer."""


class EmptyFeedback(DomainError):
    """Say what should be different."""


class PreviewFailed(Exception):
    """The commit cannot be shown, through no fault of the platform: another try of the same commit cannot help."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail
        """For people and for the developer who builds it anew: what happened, with the end of the log."""
