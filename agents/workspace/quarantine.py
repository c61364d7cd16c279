"""Where a run's objects are looked at before the canonical repository gets any of them.

A throw-away repository of the platform's own. A clone's objects are copied in and must be complete by themselves,
so that naming the id of something the run was never given leads nowhere. Only then is the canonical repository's
object store looked into as well (an alternates file here points there, never the other way round), the clone's files
are added, and the canonical repository fetches the result with all of Git's checks. Every command runs with a
configuration that says nothing.
"""

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from tempfile import mkdtemp

from agents.workspace.clone import RunClone
from agents.workspace.errors import CloneDamaged, CloneTooLarge, GitFailed, OutputTooLarge
from agents.workspace.git import TRANSFER_S, Git
from agents.workspace.values import LITTER, PLATFORM, Author, Limits

_CONFIG = "[core]\n\trepositoryformatversion = 0\n\tbare = true\n"
_TIP = "refs/heads/tip"
_SHA_LINE_BYTES = 41


@contextlib.contextmanager
def open_quarantine(canonical: Path, limits: Limits) -> Iterator["Quarantine"]:
    """A fresh quarantine inside the canonical repository's directory; it is gone afterwards."""
    parent = canonical / "quarantine"
    parent.mkdir(exist_ok=True)
    root = Path(mkdtemp(dir=parent))
    try:
        yield Quarantine(_initialise(root / "git"), root / "files", limits)
    finally:
        shutil.rmtree(root)


def _initialise(git_dir: Path) -> Git:
    """The least that git takes for a repository, written by hand so that no template has a say."""
    for name in ("objects/info", "objects/pack", "refs/heads", "info"):
        (git_dir / name).mkdir(parents=True)
    (git_dir / "HEAD").write_text(f"ref: {_TIP}\n")
    (git_dir / "config").write_text(_CONFIG)
    (git_dir / "info/exclude").write_text("".join(f"{pattern}\n" for pattern in LITTER))
    return Git(git_dir)


@contextlib.contextmanager
def _damage(what: str) -> Iterator[None]:
    """Whatever git refuses in here is the clone's fault, unless it had no time or no place to work."""
    try:
        yield
    except GitFailed as exc:
        if exc.is_of_platform:
            raise
        raise CloneDamaged(f"{what}: {exc}") from exc


class Quarantine:
    """A throw-away repository holding what one clone brought."""

    def __init__(self, git: Git, stage: Path, limits: Limits) -> None:
        self._git = git
        self._stage = stage
        self._limits = limits

    @property
    def git_dir(self) -> Path:
        """Where the canonical repository fetches from."""
        return self._git.git_dir

    def take_objects(self, clone: RunClone) -> None:
        """Copy the clone's objects in. Raises CloneDamaged for a pack that is none, CloneTooLarge."""
        taken = clone.copy_loose_objects(self._git.git_dir / "objects")
        for pack in clone.packs():
            left = max(1, self._limits.max_store_bytes - taken)
            # The index is made anew: one written by somebody else could say anything.
            with _damage("a pack of the clone was refused"):
                self._git.run("index-pack", "--stdin", f"--max-input-size={left}", stdin=pack, timeout_s=TRANSFER_S)
            taken += pack.tell()

    def has_commit(self, commit: str) -> bool:
        """Whether this is the id of a commit that came along."""
        done = self._git.run("cat-file", "-t", commit, accept=(0, 1, 128))
        return done.stdout.strip() == b"commit"

    def contains(self, commit: str, ancestor: str) -> bool:
        """Whether `ancestor` is in the history of `commit`. Raises CloneDamaged when history is missing."""
        with _damage("the clone's history cannot be followed"):
            done = self._git.run("merge-base", "--is-ancestor", ancestor, commit, accept=(0, 1))
        return done.returncode == 0

    def check_size(self, commit: str, base: str) -> None:
        """Raise CloneTooLarge when the commit, or what it adds to the base, is over a limit.

        Comes before anything that walks the tree: a few small trees that hold each other many times would expand
        to billions of paths.
        """
        limits = self._limits
        objects = self._listed(
            ("rev-list", "--objects", "--no-object-names", commit, f"^{base}"),
            max_bytes=limits.max_objects * _SHA_LINE_BYTES,
            limit=("max_objects", limits.max_objects),
        )
        self._check_objects(objects)
        self.check_files(commit)

    def _check_objects(self, objects: bytes) -> None:
        with _damage("the clone's objects cannot be read"):
            described = self._git.run("cat-file", "--batch-check=%(objecttype) %(objectsize)", stdin=objects)
        sizes = [_size(line) for line in described.stdout.splitlines()]
        if max((size for _, size in sizes), default=0) > self._limits.max_file_bytes:
            raise CloneTooLarge("max_file_bytes", self._limits.max_file_bytes)
        if max((size for kind, size in sizes if kind == b"commit"), default=0) > self._limits.max_commit_bytes:
            raise CloneTooLarge("max_commit_bytes", self._limits.max_commit_bytes)
        if sum(size for _, size in sizes) > self._limits.max_change_bytes:
            raise CloneTooLarge("max_change_bytes", self._limits.max_change_bytes)

    def check_files(self, tree: str) -> None:
        """Raise CloneTooLarge when a commit or a tree has too many files."""
        limit = ("max_files", self._limits.max_files)
        listing = ("ls-tree", "-r", "--object-only", tree)
        self._listed(listing, max_bytes=self._limits.max_files * _SHA_LINE_BYTES, limit=limit)

    def _listed(self, args: tuple[str, ...], *, max_bytes: int, limit: tuple[str, int]) -> bytes:
        with _damage("the clone's history cannot be read"):
            try:
                return self._git.run(*args, timeout_s=TRANSFER_S, max_bytes=max_bytes).stdout
            except OutputTooLarge as exc:
                raise CloneTooLarge(*limit) from exc

    def see_objects_of(self, canonical: Path) -> None:
        """From now on, find the canonical repository's objects too. What came along has been checked before."""
        (self._git.git_dir / "objects/info/alternates").write_text(f"{canonical / 'objects'}\n")

    def write_files(self, clone: RunClone, tip: str) -> str:
        """The clone's files as a tree; returns its id. What .gitignore names is left out unless `tip` has it.

        The files are a copy in which nothing named `.git` exists, and the attributes in them find no filter
        configured, so git reads and hashes here and starts nothing.
        """
        self._stage.mkdir()
        clone.copy_names(self._stage)
        git = Git(self._git.git_dir, self._stage)
        with _damage("the clone's files cannot be added"):
            git.run("read-tree", tip)
            listed = git.run("ls-files", "-z", "--cached", "--others", "--exclude-standard").stdout
        clone.copy_contents(self._stage, [path for path in listed.split(b"\0") if path])
        with _damage("the clone's files cannot be added"):
            git.run("add", "--all", ".", timeout_s=TRANSFER_S)
            return git.text("write-tree")

    def tree_of(self, commit: str) -> str:
        """The id of a commit's tree."""
        return self._git.text("rev-parse", "--verify", f"{commit}^{{tree}}")

    def commit(self, tree: str, *, parent: str, message: str, author: Author) -> str:
        """Make a commit by the author, committed by the platform; returns its id."""
        git = self._git.with_identity(author, PLATFORM)
        return git.text("commit-tree", tree, "-p", parent, "-F", "-", stdin=message.encode())

    def offer(self, commit: str) -> str:
        """Name the commit, so that it can be fetched; returns the reference."""
        (self._git.git_dir / _TIP).write_text(f"{commit}\n")
        return _TIP


def _size(line: bytes) -> tuple[bytes, int]:
    """Kind and size of an object, from a line of `cat-file --batch-check`."""
    first, second = line.split(b" ", 1)
    if not second.isdigit():
        raise CloneDamaged(f"the object {first.decode('ascii', 'replace')} of the clone's history is missing")
    return first, int(second)
