"""What can go wrong with a sandbox, told apart by what the caller does about it."""

__all__ = ["InvalidSpec", "RuntimeProblem", "RuntimeUnavailable", "SandboxBusy", "ServiceFailed"]


class RuntimeProblem(Exception):
    """The sandbox runtime could not do what was asked."""


class InvalidSpec(RuntimeProblem):
    """The description of the sandbox is wrong; a retry with the same one cannot help."""


class RuntimeUnavailable(RuntimeProblem):
    """The runtime itself does not work here: no daemon, no image, no CLI. `check()` tells how to mend it."""

    def __init__(self, message: str, *, fix: str = "") -> None:
        super().__init__(message)
        self.fix = fix
        """The command or step that mends it, without a full stop; empty where the message says it, or nobody knows."""


class SandboxBusy(RuntimeProblem):
    """Something of a sandbox of this name is still alive; `kill` it first."""


class ServiceFailed(RuntimeProblem):
    """The service ended before it accepted a connection."""

    def __init__(self, message: str, *, exit_code: int | None, log: str) -> None:
        super().__init__(message)
        self.exit_code = exit_code
        """The command's exit code; None where the runtime cannot know it."""
        self.log = log
        """The tail of what the command wrote."""
