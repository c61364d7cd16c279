"""A project's canonical repository: the one door to Git for the rest of the system.

Bare, owned by the platform, never mounted into a sandbox. `main` is what is delivered and only ever grows; what
runs bring lies under refs/eklavya (see `names`) until it is merged. Methods are safe to call from several processes
at once; the only order that matters, that of main, is decided by `advance_main`.

All errors are `errors.WorkspaceError`; each method names those it raises beside GitFailed and GitTimedOut.
"""

import shutil
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from tempfile import mkdtemp
from types import MappingProxyType
from typing import IO

from agents.workspace import backups, checkouts, collecting, history, merging, names, paths, secrets, serving
from agents.workspace.errors import RepositoryMissing
from agents.workspace.git import TRANSFER_S, Git
from agents.workspace.paths import PathPolicy
from agents.workspace.secrets import Finding
from agents.workspace.values import (
    PLATFORM,
    Author,
    Checkpoint,
    Collected,
    Diff,
    FileChange,
    FileContent,
    Limits,
    LogEntry,
    MergeCandidate,
    TreeEntry,
    Violation,
)

_CONFIG = """\
[core]
\trepositoryformatversion = 0
\tbare = true
\tlogAllRefUpdates = always
[gc]
\tauto = 0
"""
# Wins over the attributes in the tree: a download must not leave out what was verified.
_ATTRIBUTES = "* -export-ignore -export-subst\n"
_README = "# New project\n\nNothing is here yet.\n"
_LEFTOVERS = "Keep what the run left uncommitted"
_STALE_QUARANTINE_S = 24 * 3600
# Of objects without a name: much longer than any step between writing one and naming it.
_UNNAMED_FOR = "14.days.ago"


class Repository:
    """The canonical repository at `path` (a bare directory, absolute); `create` makes it."""

    def __init__(self, path: Path, limits: Limits | None = None) -> None:
        self.path = path.absolute()
        self._limits = limits or Limits()

    @property
    def _git(self) -> Git:
        if not (self.path / "HEAD").is_file():
            raise RepositoryMissing
        return Git(self.path)

    def create(self, readme: str = _README, *, notes: Mapping[str, str] = MappingProxyType({})) -> str:
        """Make the repository with a first commit of README.md, and of notes beside it; returns what main is at.

        Does nothing when it exists. Of several callers at once one makes it.
        """
        if not self.path.exists():
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            made = Path(mkdtemp(prefix=".new-", dir=self.path.parent))
            try:
                _initialise(made, {"README.md": readme, **notes})
                made.chmod(0o700)
                made.rename(self.path)
            except OSError:
                if not self.path.exists():
                    raise
            finally:
                shutil.rmtree(made, ignore_errors=True)
        return self.head()

    def head(self) -> str:
        """The commit that main is at. Raises RepositoryMissing."""
        return merging.head(self._git)

    # What runs need

    def clone_for_run(self, run_id: str, destination: Path, *, author: Author, with_commit: str = "") -> str:
        """See `checkouts.clone_for_run`."""
        git = self._git
        return checkouts.clone_for_run(git, run_id, destination=destination, author=author, with_commit=with_commit)

    def collect(self, run_id: str, clone: Path, *, author: Author, message: str = _LEFTOVERS) -> Collected:
        """See `collecting.collect`."""
        git, limits = self._git, self._limits
        return collecting.collect(git, run_id, clone=clone, author=author, message=message, limits=limits)

    def checkpoint(self, run_id: str, clone: Path, *, seq: int) -> Checkpoint:
        """See `collecting.checkpoint`."""
        return collecting.checkpoint(self._git, run_id, clone=clone, seq=seq, limits=self._limits)

    def restore_checkpoint(self, ref: str, destination: Path, *, run_id: str, author: Author) -> str:
        """See `checkouts.restore_checkpoint`."""
        return checkouts.restore_checkpoint(self._git, ref, destination=destination, run_id=run_id, author=author)

    # What becomes of their work

    def check_paths(self, base: str, commit: str, *, policy: PathPolicy) -> list[Violation]:
        """See `paths.check_paths`. Raises UnknownCommit."""
        git = self._git
        base, commit = merging.check_commit(git, base), merging.check_commit(git, commit)
        return paths.check_paths(git, base, commit, policy=policy)

    def find_secrets(self, base: str, commit: str, *, known: Collection[str]) -> list[Finding]:
        """See `secrets.find_secrets`. Raises UnknownCommit."""
        git = self._git
        base, commit = merging.check_commit(git, base), merging.check_commit(git, commit)
        return secrets.find_secrets(git, base, commit, known=known)

    def merge(self, run_id: str, message: str, *, author: Author = PLATFORM, onto: str | None = None) -> MergeCandidate:
        """See `merging.merge`. Main does not move."""
        return merging.merge(self._git, run_id, message=message, author=author, onto=onto)

    def advance_main(self, *, expected_old: str, new: str) -> None:
        """See `merging.advance_main`."""
        merging.advance_main(self._git, expected_old=expected_old, new=new)

    def contains(self, commit: str, ancestor: str) -> bool:
        """Whether a commit has another one in its history. Raises UnknownCommit."""
        return merging.contains(self._git, merging.check_commit(self._git, commit), ancestor)

    def marked(
        self, commit: str, paths: Iterable[str], *, conflicting: Collection[str] = (), before: Iterable[str] = ()
    ) -> list[str]:
        """See `merging.marked`."""
        return merging.marked(self._git, commit, paths, conflicting=conflicting, before=before)

    def is_merged(self, commit: str) -> bool:
        """Whether main contains the commit. Raises UnknownCommit."""
        return merging.is_merged(self._git, commit)

    def export(self, commit: str, destination: Path) -> None:
        """See `checkouts.export`."""
        checkouts.export(self._git, commit, destination=destination)

    def clone_fresh(self, commit: str, destination: Path) -> None:
        """See `checkouts.clone_fresh`."""
        checkouts.clone_fresh(self._git, commit, destination=destination)

    # What pages show

    def tree_sha(self, commit: str) -> str:
        """The id of a commit's tree: equal for two commits with equal files. Raises UnknownCommit."""
        git = self._git
        return git.text("rev-parse", "--verify", f"{merging.check_commit(git, commit)}^{{tree}}")

    def log(self, limit: int, *, before: str | None = None, commit: str | None = None) -> list[LogEntry]:
        """See `history.log`."""
        return history.log(self._git, limit, before=before, commit=commit)

    def tree(self, commit: str, path: str = "") -> list[TreeEntry]:
        """See `history.tree`."""
        return history.tree(self._git, commit, path=path)

    def file(self, commit: str, path: str, *, max_bytes: int = 1_000_000) -> FileContent:
        """See `history.file`."""
        return history.file(self._git, commit, path=path, max_bytes=max_bytes)

    def diff(self, base: str, commit: str, *, max_bytes: int = 1_000_000, path: str = "") -> Diff:
        """See `history.diff`."""
        return history.diff(self._git, base, commit, max_bytes=max_bytes, path=path)

    def diff_stat(self, base: str, commit: str) -> list[FileChange]:
        """See `history.diff_stat`."""
        return history.diff_stat(self._git, base, commit)

    # What leaves

    def archive(self, commit: str, form: serving.ArchiveFormat, *, prefix: str = "project") -> Iterator[bytes]:
        """See `serving.archive`."""
        return serving.archive(self._git, commit, form=form, prefix=prefix)

    def bundle(self) -> Iterator[bytes]:
        """See `serving.bundle`."""
        return serving.bundle(self._git)

    def upload_pack_advertise(self, protocol: str = "") -> Iterator[bytes]:
        """See `serving.upload_pack_advertise`."""
        return serving.upload_pack_advertise(self._git, protocol)

    def upload_pack(self, body: Iterable[bytes], *, gzipped: bool = False) -> Iterator[bytes]:
        """See `serving.upload_pack`."""
        return serving.upload_pack(self._git, body, gzipped=gzipped)

    # What is kept elsewhere

    def refs(self) -> dict[str, str]:
        """Every reference of the repository, and the commit that it is at."""
        return backups.refs(self._git)

    def write_backup(self, refs: backups.Refs, to: IO[bytes]) -> None:
        """See `backups.write`."""
        backups.write(self._git, refs, to)

    def restore(self, bundle: Path, refs: backups.Refs) -> None:
        """Make the repository of a backup. Raises GitFailed, with nothing left, and FileExistsError."""
        self.path.mkdir(mode=0o700, parents=True)
        try:
            _make_bare(self.path)
            backups.read(self._git, bundle, refs)
        except BaseException:
            backups.discard(self.path)
            raise

    # What keeps it in order

    def private_refs(self) -> list[str]:
        """Every reference that the platform keeps for a run: its base, its work, its checkpoints."""
        return self._git.text("for-each-ref", "--format=%(refname)", names.PRIVATE).split()

    def drop_refs(self, refs: Iterable[str]) -> None:
        """Forget what was kept for runs. Raises BadName, before any is dropped, for one that is not of that kind."""
        asked = [f"delete {ref}\n" for ref in refs if names.run_id_of(ref)]
        if asked:
            self._git.run("update-ref", "--stdin", stdin="".join(asked).encode())

    def maintain(self, now_s: float | None = None) -> None:
        """Pack what lies loose, clear what a killed process left, and drop what no reference leads to any more.

        For a quiet hour, but safe beside everything else: what is not named yet is kept for _UNNAMED_FOR.
        """
        git = self._git
        self.path.chmod(0o700)
        packing = ("-A", "-d", "-l", "--quiet", f"--unpack-unreachable={_UNNAMED_FOR}")
        git.run("repack", *packing, timeout_s=TRANSFER_S)
        git.run("prune", f"--expire={_UNNAMED_FOR}", timeout_s=TRANSFER_S)
        git.run("pack-refs", "--all")
        oldest = (time.time() if now_s is None else now_s) - _STALE_QUARANTINE_S
        quarantine = self.path / "quarantine"
        for left in quarantine.iterdir() if quarantine.is_dir() else ():
            if left.stat().st_mtime < oldest:
                shutil.rmtree(left, ignore_errors=True)


def _initialise(path: Path, files: Mapping[str, str]) -> None:
    """A bare repository with one commit."""
    _make_bare(path)
    # In one process: a project's first agent waits for it. Source: git-fast-import(1), input format.
    told = [
        f"commit {names.MAIN}\ncommitter {PLATFORM.name} <{PLATFORM.email}> {int(time.time())} +0000\n".encode(),
        _data("Start the project\n"),
    ]
    for name, text in files.items():
        told += [f"M 100644 inline {name}\n".encode(), _data(text)]
    Git(path).run("fast-import", "--quiet", stdin=b"".join(told))


def _data(text: str) -> bytes:
    content = text.encode()
    return b"data %d\n%s\n" % (len(content), content)


def _make_bare(path: Path) -> None:
    """A bare repository without a commit, made without any template."""
    for name in ("objects/info", "objects/pack", "refs/heads", "info"):
        (path / name).mkdir(parents=True)
    (path / "HEAD").write_text(f"ref: {names.MAIN}\n")
    (path / "config").write_text(_CONFIG)
    (path / "info/attributes").write_text(_ATTRIBUTES)
