"""What becomes of a batch of changes: merged one upon the other, verified once, halved where that fails.

A change is refused only for what was seen of it: a conflict with main, or a main that passed without it and fails with
it. Main only ever moves to a commit that passed.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from agents.workspace.errors import MainMoved

# Each time somebody else moved main meanwhile, such as another machine, the rest is merged and verified anew.
MAX_TRIES = 20

C = TypeVar("C")


class Unmergeable(Exception):
    """A change does not go onto a commit: a conflict, or what the two make together is refused."""


class MainBusy(Exception):
    """Main kept moving while the change was verified."""


class Seen(Protocol):
    """What was observed of a commit."""

    @property
    def passed(self) -> bool:
        """Whether it may be main."""


class FailedCheck(Exception):
    """The commit that a change led to did not pass; carries what was observed."""

    def __init__(self, seen: Seen) -> None:
        super().__init__("the change did not pass")
        self.seen = seen


class Project(Protocol[C]):
    """What a batch needs of a project. Errors that are not named end the batch, and leave main where it is."""

    def head(self) -> str:
        """Return where main is."""

    def merge(self, change: C, onto: str) -> str:
        """Return the commit that has both. Raises Unmergeable."""

    def verify(self, commit: str, changes: Sequence[C]) -> Seen:
        """Look at a commit, which has these changes that main has not."""

    def confirm(self, commits: Sequence[tuple[C, str]], seen: Seen) -> list[tuple[C, Exception]]:
        """Have each change's owner write down to which commit it leads, and what was seen of the last one of these.

        Return those that are not wanted any more.
        """

    def advance(self, *, expected_old: str, new: str) -> None:
        """Move main. Raises MainMoved."""


@dataclass(frozen=True)
class Landed:
    """The change is in main: `commit` is its own, `seen` is of the commit that main moved to, with `others`."""

    commit: str
    seen: Seen
    others: int


@dataclass(frozen=True)
class Refused:
    """The change is not in main: Unmergeable, FailedCheck, MainBusy, or why its owner does not want it any more."""

    error: Exception


Outcome = Landed | Refused


@dataclass(frozen=True)
class _Link(Generic[C]):
    """A change in a chain, and the commit that has it and all before it."""

    change: C
    commit: str


@dataclass(frozen=True)
class _Halves(Generic[C]):
    """The links that pass together, with what was seen of the last; the one that does not, and what is after it."""

    good: list[_Link[C]]
    passed: Seen | None
    bad: _Link[C] | None
    failed: Seen | None
    rest: list[_Link[C]]


def settle(changes: Sequence[C], project: Project[C]) -> Iterator[tuple[C, Outcome]]:
    """Yield what becomes of each change, as soon as it is known, each once. The first ones go first."""
    for known in rounds(changes, project):
        yield from known


def rounds(changes: Sequence[C], project: Project[C]) -> Iterator[list[tuple[C, Outcome]]]:
    """As `settle`, but with those together that become known at the same time: between two of these nothing of what
    was looked at is kept, so whoever stops there and lets another settle the rest loses nothing."""
    place = {id(change): number for number, change in enumerate(changes)}
    waiting, tries = list(changes), 0
    while waiting:
        main = project.head()
        chain, refused, later = _chain(main, waiting, project)
        if refused:
            yield refused
        halves = _halve(chain, project)
        if unwanted := _unwanted(halves, project):
            # Their work is in what was verified: the others go again, without them.
            yield [(change, Refused(error)) for change, error in unwanted]
            gone = {id(change) for change, _ in unwanted}
            waiting = _in_order([link.change for link in chain if id(link.change) not in gone] + later, place)
            continue
        try:
            if halves.good:
                project.advance(expected_old=main, new=halves.good[-1].commit)
        except MainMoved:
            waiting, tries = _in_order([link.change for link in chain] + later, place), tries + 1
            if tries == MAX_TRIES:
                yield [(change, Refused(MainBusy())) for change in waiting]
                return
            continue
        yield list(_told(halves))
        waiting = _in_order([link.change for link in halves.rest] + later, place)


def _in_order(changes: list[C], place: dict[int, int]) -> list[C]:
    return sorted(changes, key=lambda change: place[id(change)])


def _chain(
    main: str, changes: Sequence[C], project: Project[C]
) -> tuple[list[_Link[C]], list[tuple[C, Outcome]], list[C]]:
    """Merge the changes one upon the other. Return the chain, those that main refuses, and those for later.

    Who conflicts with another of the batch waits: that one may be refused yet.
    """
    chain: list[_Link[C]] = []
    refused: list[tuple[C, Outcome]] = []
    later: list[C] = []
    for change in changes:
        try:
            chain.append(_Link(change, project.merge(change, chain[-1].commit if chain else main)))
        except Unmergeable as error:
            against = _against(main, change, project) if chain else error
            if against is None:
                later.append(change)
            else:
                refused.append((change, Refused(against)))
    return chain, refused, later


def _against(main: str, change: C, project: Project[C]) -> Unmergeable | None:
    """Return why main itself refuses a change, if it does."""
    try:
        project.merge(change, main)
    except Unmergeable as error:
        return error
    return None


def _halve(chain: list[_Link[C]], project: Project[C]) -> _Halves[C]:
    """Find how far the chain passes. Between what passes and what fails lies one change: it is to blame."""
    if not chain:
        return _Halves([], None, None, None, [])
    changes = [link.change for link in chain]
    low, high = 0, len(chain)
    passed: Seen | None = None
    failed = seen = project.verify(chain[-1].commit, changes)
    if seen.passed:
        return _Halves(chain, seen, None, None, [])
    while high - low > 1:
        middle = (low + high) // 2
        seen = project.verify(chain[middle - 1].commit, changes[:middle])
        if seen.passed:
            low, passed = middle, seen
        else:
            high, failed = middle, seen
    return _Halves(chain[:low], passed, chain[low], failed, chain[high:])


def _unwanted(halves: _Halves[C], project: Project[C]) -> list[tuple[C, Exception]]:
    if halves.passed is None:
        return []
    return project.confirm([(link.change, link.commit) for link in halves.good], halves.passed)


def _told(halves: _Halves[C]) -> Iterator[tuple[C, Outcome]]:
    for link in halves.good:
        assert halves.passed is not None
        yield link.change, Landed(link.commit, halves.passed, len(halves.good) - 1)
    if halves.bad is not None:
        assert halves.failed is not None
        yield halves.bad.change, Refused(FailedCheck(halves.failed))
