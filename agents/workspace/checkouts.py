"""Everything that puts a project's files into a directory: a run's clone, a clean export, a restored checkpoint.

The directories are new or empty when these functions get them, so running git in them is safe; afterwards an
agent may get them, and then it never is again.
"""

from pathlib import Path

from agents.workspace import names
from agents.workspace.collecting import resolve
from agents.workspace.errors import DestinationNotEmpty, UnknownCheckpoint, UnknownRun
from agents.workspace.git import TRANSFER_S, Git, clean
from agents.workspace.merging import check_commit, head
from agents.workspace.values import LITTER, Author


def clone_for_run(git: Git, run_id: str, *, destination: Path, author: Author) -> str:
    """Give a run its own full clone of main, on branch run/<run id>; returns the commit it starts from.

    The clone shares nothing with the canonical repository and does not know where that is; only main's history is
    in it. No file has a second name elsewhere. Raises DestinationNotEmpty.
    """
    base = head(git)
    _make_clone(git, destination, commits={"refs/heads/main": base, _branch_ref(run_id): base})
    clone = Git(destination / ".git", destination)
    clone.run("symbolic-ref", "HEAD", _branch_ref(run_id))
    clone.run("reset", "--quiet", "--hard", base, timeout_s=TRANSFER_S)
    _finish(clone, author)
    git.run("update-ref", names.base_ref(run_id), base)
    return base


def restore_checkpoint(git: Git, ref: str, *, destination: Path, run_id: str, author: Author) -> str:
    """Give a run a clone in the state of another run's checkpoint; returns the commit that one started from.

    What was committed is committed on branch run/<run id>; what was not lies in the files, uncommitted again.
    Raises UnknownCheckpoint, UnknownRun, DestinationNotEmpty.
    """
    base, snapshot = _checkpoint(git, ref)
    tip = git.text("rev-parse", "--verify", f"{snapshot}^1")
    _make_clone(git, destination, commits={"refs/heads/main": base, _branch_ref(run_id): snapshot})
    clone = Git(destination / ".git", destination)
    clone.run("symbolic-ref", "HEAD", _branch_ref(run_id))
    clone.run("reset", "--quiet", "--hard", snapshot, timeout_s=TRANSFER_S)
    clone.run("reset", "--quiet", "--mixed", tip)
    _finish(clone, author)
    git.run("update-ref", names.base_ref(run_id), base)
    return base


def clone_fresh(git: Git, commit: str, *, destination: Path) -> None:
    """A normal clone with main at `commit`, as the client would make it. Raises UnknownCommit."""
    check_commit(git, commit)
    _make_clone(git, destination, commits={"refs/heads/main": commit})
    clone = Git(destination / ".git", destination)
    clone.run("reset", "--quiet", "--hard", commit, timeout_s=TRANSFER_S)


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


def _check_empty(destination: Path) -> None:
    if destination.exists() and any(destination.iterdir()):
        raise DestinationNotEmpty(destination)


def _make_clone(git: Git, destination: Path, *, commits: dict[str, str]) -> None:
    """A repository with these references and the history they need, copied through a pack; nothing checked out.

    No remote is configured, and no template is used. Not `git clone`: between two directories it copies or links
    the whole object store, other runs' work included.
    """
    _check_empty(destination)
    destination.mkdir(parents=True, exist_ok=True)
    clone = Git(destination / ".git", destination)
    clone.run("init", "--quiet", "--template=", "--initial-branch=main")
    wanted = [f"{commit}:{ref}" for ref, commit in commits.items()]
    options = ("--quiet", "--no-tags", "--no-write-fetch-head", "--update-head-ok", "--no-auto-maintenance")
    clone.run("fetch", *options, git.git_dir, *wanted, timeout_s=TRANSFER_S)


def _finish(clone: Git, author: Author) -> None:
    """Who commits here, and what is never committed."""
    clone.run("config", "user.name", clean(author.name))
    clone.run("config", "user.email", clean(author.email))
    info = clone.git_dir / "info"
    info.mkdir(exist_ok=True)
    (info / "exclude").write_text("".join(f"{pattern}\n" for pattern in LITTER))
