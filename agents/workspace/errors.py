"""What can go wrong with a repository or a clone: a class per case that a caller treats differently."""

import inspect
from pathlib import Path


class WorkspaceError(Exception):
    """Something about the repository or the clone is not as it must be."""

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or inspect.getdoc(type(self)))


class GitFailed(WorkspaceError):
    """A git command ended with an error that its caller did not expect."""

    def __init__(self, command: str, returncode: int, detail: str) -> None:
        self.command = command
        self.returncode = returncode
        self.detail = detail
        super().__init__(f"git {command} ended with {returncode}: {detail or 'no message'}")

    @property
    def is_of_platform(self) -> bool:
        """Whether the platform's own disk or repository was in the way, whatever git was to look at."""
        return any(sign in self.detail for sign in _OF_PLATFORM)


# What git says when it cannot write where it must, and of memory; never of what it was given to read.
_OF_PLATFORM = (
    "cannot lock ref",
    "Unable to create",
    "unable to create",
    "unable to write",
    "write error",
    "No space left on device",
    "Disk quota exceeded",
    "Read-only file system",
    "Input/output error",
    "Permission denied",
    "Too many open files",
    "unable to fork",
    "Cannot allocate memory",
)


class GitTimedOut(WorkspaceError):
    """A git command took longer than it may; it was killed."""

    def __init__(self, command: str, timeout_s: float) -> None:
        self.command = command
        self.timeout_s = timeout_s
        super().__init__(f"git {command} took longer than {timeout_s:g} s and was stopped")


class OutputTooLarge(WorkspaceError):
    """A git command printed more than its caller is ready to hold."""

    def __init__(self, command: str, max_bytes: int) -> None:
        self.command = command
        self.max_bytes = max_bytes
        super().__init__(f"git {command} printed more than {max_bytes} bytes and was stopped")


class BadName(WorkspaceError):
    """A run id, a commit id, a path or a reference is not written the way this system writes it."""


class BadRequest(WorkspaceError):
    """A Git client's request cannot be answered."""


class RepositoryMissing(WorkspaceError):
    """The project has no repository yet."""


class UnknownCommit(WorkspaceError):
    """The repository has no commit of this id."""

    def __init__(self, commit: str) -> None:
        self.commit = commit
        super().__init__(f"the repository has no commit {commit}")


class UnknownRun(WorkspaceError):
    """The repository knows nothing of this run: it was never given a clone, or nothing was collected yet."""

    def __init__(self, run_id: str, missing: str) -> None:
        self.run_id = run_id
        super().__init__(f"the repository has no {missing} of run {run_id}")


class UnknownCheckpoint(WorkspaceError):
    """The repository has no checkpoint under this reference."""

    def __init__(self, ref: str) -> None:
        self.ref = ref
        super().__init__(f"the repository has no checkpoint {ref}")


class PathNotFound(WorkspaceError):
    """The commit has nothing, or something of another kind, at this path."""

    def __init__(self, commit: str, path: str) -> None:
        self.commit = commit
        self.path = path
        super().__init__(f"commit {commit[:12]} has no such file or directory: {path or '/'}")


class DestinationNotEmpty(WorkspaceError):
    """A checkout goes into a directory that does not exist yet, or is empty."""

    def __init__(self, destination: Path) -> None:
        self.destination = destination
        super().__init__(f"{destination} exists and is not empty")


class CloneError(WorkspaceError):
    """The run's clone cannot be taken over; another attempt with a fresh clone can succeed."""

    code = "clone"
    """Short and stable, for programs, like `values.Violation.rule`."""


class CloneUnsafe(CloneError):
    """The clone was built to lead the host elsewhere: its Git directory is not the plain one it was given."""

    code = "clone-unsafe"


class CloneDamaged(CloneError):
    """The clone's history cannot be read, or Git's own checks refuse an object in it."""

    code = "clone-damaged"


class WrongBranch(CloneError):
    """The run's branch holds commits that the checked-out commit does not contain."""

    code = "wrong-branch"

    def __init__(self, branch: str, head: str) -> None:
        self.branch = branch
        self.head = head
        super().__init__(
            f"the clone stands at {head[:12]}, which does not contain the commits of its branch {branch}; "
            "commit all work on that branch and leave it checked out"
        )


class CloneTooLarge(CloneError):
    """The clone, or the change in it, is over a limit; `limit` names it."""

    code = "too-large"

    def __init__(self, limit: str, allowed: int, *, detail: str = "") -> None:
        self.limit = limit
        self.allowed = allowed
        super().__init__(f"over the limit {limit} = {allowed}" + (f": {detail}" if detail else ""))


class SecretsUnscanned(CloneError):
    """The change cannot be looked through for keys; it is refused rather than trusted."""

    code = "unscanned"

    def __init__(self, why: str) -> None:
        super().__init__(f"the change cannot be checked for secrets: {why}; bring less generated data")


class MergeConflict(WorkspaceError):
    """The run's change and main changed the same places."""

    def __init__(self, paths: tuple[str, ...], detail: str) -> None:
        self.paths = paths
        self.detail = detail
        super().__init__(f"conflict with main in {', '.join(paths) or 'unknown paths'}")


class MainMoved(WorkspaceError):
    """Another change reached main first: merge again on top of it."""

    def __init__(self, expected: str, actual: str) -> None:
        self.expected = expected
        self.actual = actual
        super().__init__(f"main is at {actual[:12]}, no longer at {expected[:12]}")


class HistoryRewritten(WorkspaceError):
    """The new commit does not contain the old one; main only ever grows."""


class ManifestError(WorkspaceError):
    """The repository's eklavya.toml does not say what the platform needs."""


class ManifestMissing(ManifestError):
    """There is no file eklavya.toml at the root of the repository."""


class ManifestInvalid(ManifestError):
    """eklavya.toml is there, but cannot be used as it is."""


class CommandMissing(ManifestError):
    """eklavya.toml names no such command."""

    def __init__(self, command: str) -> None:
        self.command = command
        super().__init__(f'eklavya.toml has no {command} command: add `{command} = "..."` under [commands]')
