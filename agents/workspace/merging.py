"""Bringing a run's commit together with main, and moving main: two steps, because evaluation lies between them."""

from collections.abc import Collection, Iterable

from agents.workspace import names
from agents.workspace.collecting import resolve
from agents.workspace.errors import (
    GitFailed,
    HistoryRewritten,
    MainMoved,
    MergeConflict,
    RepositoryMissing,
    UnknownCommit,
    UnknownRun,
)
from agents.workspace.git import Git
from agents.workspace.values import PLATFORM, Author, MergeCandidate

_CONFLICT = 1
_OPTIONS = ("--write-tree", "-z", "--name-only", "--messages")
# The lines around two versions, which are named by whole commit ids, perhaps with a path.
_MARKER = "^(<{7,}|>{7,}) [0-9a-f]{40}(:|\r?$)"
# Another merge names its versions as it likes. A file has to have both lines: `=======` alone underlines a heading.
_PAIR = ("^<{7,} ", "^>{7,} ")
_MAX_DETAIL_CHARACTERS = 4000


def head(git: Git) -> str:
    """The commit that main is at."""
    found = resolve(git, names.MAIN)
    if found is None:
        raise RepositoryMissing
    return found


def has_commit(git: Git, commit: str) -> bool:
    """Whether the repository has this commit."""
    done = git.run("cat-file", "-t", names.check_sha(commit), accept=(0, 1, 128))
    return done.stdout.strip() == b"commit"


def check_commit(git: Git, commit: str) -> str:
    """Give the id back; raise BadName or UnknownCommit."""
    if not has_commit(git, commit):
        raise UnknownCommit(commit)
    return commit


def contains(git: Git, commit: str, ancestor: str) -> bool:
    """Whether `ancestor` is in the history of `commit` (or is it). Both must exist."""
    return git.run("merge-base", "--is-ancestor", ancestor, commit, accept=(0, 1)).returncode == 0


def is_merged(git: Git, commit: str) -> bool:
    """Whether main contains the commit. Raises UnknownCommit."""
    return contains(git, head(git), check_commit(git, commit))


def merge(git: Git, run_id: str, *, message: str, author: Author, onto: str | None = None) -> MergeCandidate:
    """Make the commit that main would move to, so that main and the run's collected work are both in it.

    A fast-forward where main did not move meanwhile (or has the work already). `onto` is a commit to take in place of
    main, which main would have to move to first. Raises MergeConflict, UnknownRun, UnknownCommit.
    """
    main = head(git) if onto is None else check_commit(git, onto)
    tip = resolve(git, names.run_ref(run_id))
    if tip is None:
        raise UnknownRun(run_id, "collected commit")
    if contains(git, main, tip):
        return MergeCandidate(main, main, True)
    if contains(git, tip, main):
        return MergeCandidate(tip, main, True)
    tree = _merge_trees(git, main, tip)
    identified = git.with_identity(author, PLATFORM)
    commit = identified.text(
        "commit-tree", tree, "-p", main, "-p", tip, "-F", "-", stdin=f"{message.strip()}\n".encode()
    )
    return MergeCandidate(commit, main, False)


def merge_marked(git: Git, main: str, commit: str, *, author: Author) -> str:
    """Make the commit that has both, with Git's conflict markers where they touched the same lines.

    For whoever is to resolve them; nothing that may become main. Raises UnknownCommit.
    """
    if contains(git, main, check_commit(git, commit)):
        return main
    done = git.run("merge-tree", *_OPTIONS, main, commit, accept=(0, _CONFLICT))
    tree = done.stdout.split(b"\0", 1)[0].strip().decode()
    message = f"Bring main and {commit[:12]} together\n\nWhere they conflict both are there, with Git's markers.\n"
    identified = git.with_identity(author, PLATFORM)
    return identified.text("commit-tree", tree, "-p", main, "-p", commit, "-F", "-", stdin=message.encode())


def marked(
    git: Git, commit: str, paths: Iterable[str], *, conflicting: Collection[str], before: Iterable[str]
) -> list[str]:
    """Return those of the paths that have a marker of `merge_marked` in a commit.

    In the conflicting ones also markers of any other merge, unless the file had such lines in a commit before: then
    they are its text.
    """
    found = _with_all(git, commit, _MARKER)
    if left := _with_all(git, commit, *_PAIR).intersection(conflicting):
        found |= left.difference(*(_with_all(git, one, *_PAIR) for one in before))
    return sorted(found.intersection(paths))


def _with_all(git: Git, commit: str, *patterns: str) -> set[str]:
    """Return the text files of a commit in which each pattern matches some line."""
    given = [word for pattern in patterns for word in ("-e", pattern)]
    done = git.run("grep", "-l", "-z", "-I", "-E", "--all-match", *given, names.check_sha(commit), accept=(0, 1))
    return {names.printable(line.partition(b":")[2]) for line in done.stdout.split(b"\0") if line}


def _merge_trees(git: Git, ours: str, theirs: str) -> str:
    """Merge without a work tree. Drivers named by attributes find no configuration and do not run."""
    done = git.run("merge-tree", *_OPTIONS, ours, theirs, accept=(0, _CONFLICT))
    if done.returncode != _CONFLICT:
        return done.stdout.split(b"\0", 1)[0].strip().decode()
    conflicted, _, messages = done.stdout.partition(b"\0\0")
    paths = tuple(dict.fromkeys(names.printable(path) for path in conflicted.split(b"\0")[1:] if path))
    raise MergeConflict(paths, _detail(messages))


def _detail(messages: bytes) -> str:
    """git's sentences. Each comes as: number of paths, the paths, a stable kind, the sentence."""
    fields = messages.split(b"\0")
    sentences: list[str] = []
    while fields and fields[0].isdigit():
        count = int(fields[0])
        sentences += [names.printable(field).strip() for field in fields[count + 2 : count + 3]]
        fields = fields[count + 3 :]
    return "\n".join(sentences)[:_MAX_DETAIL_CHARACTERS]


def advance_main(git: Git, *, expected_old: str, new: str) -> None:
    """Move main from one commit to another that contains it, if it is still there.

    Compare and swap: of two callers that expect the same commit, one raises MainMoved. Raises HistoryRewritten
    when `new` does not contain `expected_old`, UnknownCommit.
    """
    check_commit(git, new)
    check_commit(git, expected_old)
    if not contains(git, new, expected_old):
        raise HistoryRewritten(f"{new[:12]} does not contain {expected_old[:12]}, so main cannot move there")
    try:
        git.run("update-ref", "-m", "advance main", names.MAIN, new, expected_old)
    except GitFailed as exc:
        actual = head(git)
        if actual == expected_old:
            raise
        raise MainMoved(expected_old, actual) from exc
