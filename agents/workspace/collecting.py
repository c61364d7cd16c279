"""Taking a run's work over into the canonical repository."""

import time
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from agents.workspace import names
from agents.workspace.clone import RunClone, open_clone
from agents.workspace.errors import CloneDamaged, GitFailed, UnknownRun, WrongBranch
from agents.workspace.git import TRANSFER_S, Git
from agents.workspace.quarantine import Quarantine, open_quarantine
from agents.workspace.values import PLATFORM, Author, Checkpoint, Collected, Limits

# The lock of a reference that is as old belongs to nobody; no fetch takes longer than TRANSFER_S.
STALE_S = 3600.0
_REPLACED = "Its own commits did not build on the commit it started from."


class _Work(NamedTuple):
    tip: str
    tree: str
    replaced: bool


def collect(git: Git, run_id: str, *, clone: Path, author: Author, message: str, limits: Limits) -> Collected:
    """Fetch the run's commits, and one more with what it left uncommitted, into refs/eklavya/runs/<run id>.

    That one is committed with `message`, a subject and perhaps trailers.

    The clone is only read. Calling it again on the same state of the clone gives the same commit.
    Raises UnknownRun, and CloneUnsafe, CloneDamaged, CloneTooLarge or WrongBranch (all CloneError); GitFailed and
    GitTimedOut when the repository cannot take anything at the moment.
    """
    base = _base(git, run_id)
    with open_clone(clone, limits) as source, open_quarantine(git.git_dir, limits) as quarantine:
        work = _take(git, quarantine, clone=source, run_id=run_id, base=base)
        commit = _earlier(git, names.run_ref(run_id), work) or _commit(quarantine, work, author, message)
        _fetch(git, quarantine, commit=commit, ref=names.run_ref(run_id))
    changed = changed_paths(git, base, commit)
    return Collected(commit, base, changed, not changed, commit != work.tip, work.replaced)


def checkpoint(git: Git, run_id: str, *, clone: Path, seq: int, limits: Limits) -> Checkpoint:
    """Keep the clone's commits and the present state of its files under refs/eklavya/checkpoints/<run id>/<seq>.

    The run may be at work meanwhile; then the files are each from some moment of the call. Raises as `collect`.
    """
    base = _base(git, run_id)
    ref = names.checkpoint_ref(run_id, seq)
    with open_clone(clone, limits) as source, open_quarantine(git.git_dir, limits) as quarantine:
        work = _take(git, quarantine, clone=source, run_id=run_id, base=base)
        message = f"Checkpoint {seq} of run {run_id}\n"
        commit = quarantine.commit(work.tree, parent=work.tip, message=message, author=PLATFORM)
        _fetch(git, quarantine, commit=commit, ref=ref)
    return Checkpoint(ref, commit, work.tip)


def changed_paths(git: Git, base: str, commit: str) -> tuple[str, ...]:
    """The paths that differ between two commits, renames as two paths, in Git's order."""
    listed = git.run("diff-tree", "-r", "-z", "--no-renames", "--name-only", base, commit).stdout
    return tuple(names.printable(path) for path in listed.split(b"\0") if path)


def _base(git: Git, run_id: str) -> str:
    found = resolve(git, names.base_ref(run_id))
    if found is None:
        raise UnknownRun(run_id, "starting commit")
    return found


def resolve(git: Git, ref: str) -> str | None:
    """The commit that a reference of the platform's own names, None when there is none."""
    done = git.run("rev-parse", "--verify", "--quiet", f"{ref}^{{commit}}", accept=(0, 1, 128))
    return done.stdout.decode().strip() or None


def _take(git: Git, quarantine: Quarantine, *, clone: RunClone, run_id: str, base: str) -> _Work:
    quarantine.take_objects(clone)
    tip = _tip(quarantine, clone, run_id=run_id, base=base)
    if tip is not None:
        quarantine.check_size(tip, base)
    quarantine.see_objects_of(git.git_dir)
    tree = quarantine.write_files(clone, tip or base)
    # Of what was not committed nothing was counted yet.
    quarantine.check_files(tree)
    return _Work(tip or base, tree, replaced=tip is None)


def _tip(quarantine: Quarantine, clone: RunClone, *, run_id: str, base: str) -> str | None:
    """The commit that the clone's files belong to; None when its history cannot be continued from the base.

    That happens when an agent amends the commit it started from or starts a repository anew: what counts is the
    files, so they are kept. Commits that are on the run's branch only are work too, hence the error.
    """
    head = clone.head()
    if head is None or not quarantine.has_commit(head) or not quarantine.has_commit(base):
        return None
    if not quarantine.contains(head, base):
        return None
    branch = names.branch(run_id)
    own = clone.branch(branch)
    if own not in (None, head) and quarantine.has_commit(str(own)) and not quarantine.contains(head, str(own)):
        raise WrongBranch(branch, head)
    return head


def _commit(quarantine: Quarantine, work: _Work, author: Author, message: str) -> str:
    if work.tree == quarantine.tree_of(work.tip):
        return work.tip
    if work.replaced:
        subject, _, rest = message.partition("\n")
        message = f"{subject}\n\n{_REPLACED}\n{rest}"
    return quarantine.commit(work.tree, parent=work.tip, message=f"{message.strip()}\n", author=author)


def _earlier(git: Git, ref: str, work: _Work) -> str | None:
    """The leftovers' commit of an earlier call for the same files, so that its date does not make a new one."""
    commit = resolve(git, ref)
    if commit is None:
        return None
    tree, committer, *parents = git.text("show", "--no-patch", "--format=%T%n%ce%n%P", commit).split("\n")
    if (tree, committer, parents) == (work.tree, PLATFORM.email, [work.tip]):
        return commit
    return None


def _fetch(git: Git, quarantine: Quarantine, *, commit: str, ref: str) -> None:
    source = quarantine.offer(commit)
    options = ("--quiet", "--no-tags", "--no-write-fetch-head", "--no-recurse-submodules", "--no-auto-maintenance")
    _unlock(git.git_dir / f"{ref}.lock")
    try:
        git.run("fetch", *options, quarantine.git_dir, f"+{source}:{ref}", timeout_s=TRANSFER_S)
    except GitFailed as exc:
        if exc.is_of_platform:
            raise
        raise CloneDamaged(f"Git's checks refused the clone's objects: {exc.detail}") from exc


def _unlock(lock: Path) -> None:
    """Remove what a machine that died in the middle of a fetch left: git holds such a lock for milliseconds."""
    with suppress(FileNotFoundError):
        if lock.stat().st_mtime < time.time() - STALE_S:
            lock.unlink()
