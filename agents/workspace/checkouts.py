"""Everything that puts a project's files into a directory: a run's clone, a clean export, a restored checkpoint.

The directories are new or empty when these functions get them, so running git in them is safe; afterwards an
agent may get them, and then it never is again.
"""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from agents.workspace import names
from agents.workspace.collecting import resolve
from agents.workspace.errors import DestinationNotEmpty, UnknownCheckpoint, UnknownRun
from agents.workspace.git import TRANSFER_S, Git, clean
from agents.workspace.merging import check_commit, head, merge_marked
from agents.workspace.values import LITTER, Author

_CONFIG = """\
[core]
\trepositoryformatversion = 0
\tfilemode = true
\tbare = false
\tlogallrefupdates = true
"""


def clone_for_run(git: Git, run_id: str, *, destination: Path, author: Author, with_commit: str = "") -> str:
    """Give a run its own full clone of main, on branch run/<run id>; returns the commit it starts from.

    The clone shares nothing with the canonical repository and does not know where that is; only main's history is
    in it, and with `with_commit` that one's, merged (`merging.merge_marked`). No file has a second name elsewhere.
    Raises DestinationNotEmpty, UnknownCommit.
    """
    git = git.patient()  # the agent's program boots meanwhile, and takes longer
    base = head(git)
    start = merge_marked(git, base, with_commit, author=author) if with_commit else base
    _make_clone(git, destination, commits={names.MAIN: base, _branch_ref(run_id): start}, author=author)
    git.run("update-ref", names.base_ref(run_id), base)
    return base


def restore_checkpoint(git: Git, ref: str, *, destination: Path, run_id: str, author: Author) -> str:
    """Give a run a clone in the state of another run's checkpoint; returns the commit that one started from.

    What was committed is committed on branch run/<run id>; what was not lies in the files, uncommitted again.
    Raises UnknownCheckpoint, UnknownRun, DestinationNotEmpty.
    """
    base, snapshot = _checkpoint(git, ref)
    tip = git.text("rev-parse", "--verify", f"{snapshot}^1")
    commits = {names.MAIN: base, _branch_ref(run_id): snapshot}
    clone = _make_clone(git, destination, commits=commits, author=author)
    # The branch goes back to what was committed, the files stay.
    clone.run("reset", "--quiet", "--mixed", tip)
    git.run("update-ref", names.base_ref(run_id), base)
    return base


def clone_fresh(git: Git, commit: str, *, destination: Path) -> None:
    """A normal clone with main at `commit`, as the client would make it. Raises UnknownCommit."""
    _make_clone(git, destination, commits={names.MAIN: check_commit(git, commit)})


def export(git: Git, commit: str, *, destination: Path) -> None:
    """The files of a commit, all of them, without a Git directory. Raises UnknownCommit, DestinationNotEmpty.

    Not `git archive`: the attribute export-ignore would let a change hide files from its own verification.
    """
    check_commit(git, commit)
    _check_empty(destination)
    destination.mkdir(parents=True, exist_ok=True)
    index = destination.with_name(f".{destination.name}.index")
    checkout = Git(git.git_dir, destination).with_environment({"GIT_INDEX_FILE": str(index)})
    try:
        checkout.run("read-tree", commit)
        checkout.run("checkout-index", "--all", "--force", timeout_s=TRANSFER_S)
    finally:
        index.unlink(missing_ok=True)


def _branch_ref(run_id: str) -> str:
    return f"refs/heads/{names.branch(run_id)}"


def _checkpoint(git: Git, ref: str) -> tuple[str, str]:
    """The starting commit and the snapshot of a checkpoint."""
    run_id = names.checkpoint_run_id(ref)
    base, snapshot = resolve(git, names.base_ref(run_id)), resolve(git, ref)
    if snapshot is None:
        raise UnknownCheckpoint(ref)
    if base is None:
        raise UnknownRun(run_id, "starting commit")
    return base, snapshot


def _check_empty(destination: Path, *, but_for_directories: bool = False) -> None:
    """Raise DestinationNotEmpty. Empty directories do not count where something may be mounted on them already."""
    found = destination.rglob("*") if destination.exists() else ()
    if any(not but_for_directories or path.is_symlink() or not path.is_dir() for path in found):
        raise DestinationNotEmpty(destination)


def _make_clone(git: Git, destination: Path, *, commits: dict[str, str], author: Author | None = None) -> Git:
    """A repository with these branches, the last one checked out, and only the history they need; returns it.

    No remote is configured, and no template is used. Not `git clone`: between two directories it copies or links
    the whole object store, other runs' work included.
    """
    _check_empty(destination, but_for_directories=True)
    clone = replace(git, git_dir=destination / ".git", work_tree=destination)
    *_, (branch_ref, commit) = commits.items()
    _initialise(clone.git_dir, branch_ref, author)
    _pack(git, commits.values(), clone.git_dir / "objects" / "pack")
    for ref, tip in commits.items():
        path = clone.git_dir / ref
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{tip}\n")
    clone.run("reset", "--quiet", "--hard", commit, timeout_s=TRANSFER_S)
    return clone


def _pack(git: Git, commits: Iterable[str], destination: Path) -> None:
    """Write one pack of these commits and their history into an object store.

    `git fetch` between two directories would be nine processes, and an agent waits for them.
    """
    tips = "".join(f"{commit}\n" for commit in dict.fromkeys(commits))
    # It writes beside its own objects and renames: into a run's volume, which is another file system, nothing can be.
    there = {
        "GIT_OBJECT_DIRECTORY": str(destination.parent),
        "GIT_ALTERNATE_OBJECT_DIRECTORIES": str(git.git_dir / "objects"),
    }
    git.with_environment(there).run(
        *("pack-objects", "--quiet", "--revs", "--delta-base-offset", destination / "pack"),
        stdin=tips.encode(),
        timeout_s=TRANSFER_S,
    )


def _initialise(git_dir: Path, head: str, author: Author | None) -> None:
    """The least that git takes for a repository with a work tree; who commits here, and what is never committed."""
    for name in ("objects/info", "objects/pack", "refs/heads", "info"):
        (git_dir / name).mkdir(parents=True)
    (git_dir / "HEAD").write_text(f"ref: {head}\n")
    identity = f"[user]\n\tname = {_quoted(author.name)}\n\temail = {_quoted(author.email)}\n" if author else ""
    (git_dir / "config").write_text(_CONFIG + identity)
    (git_dir / "info/exclude").write_text("".join(f"{pattern}\n" for pattern in LITTER))


def _quoted(identity: str) -> str:
    """A name or address as a value of git's configuration."""
    escaped = clean(identity).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
