"""Bringing the supervisors of a project's runs together: one leads a batch, the others wait for what becomes of theirs.

Each supervisor is a thread that holds its own run, and alone moves it on. So the leader only merges, verifies and moves
main; before that it has each owner write down where its change leads (`confirm`, called in the owner's thread), and who
does not want it any more steps back there. Nothing of the queue is kept: it has what the threads of this process
brought, and with the process all of them are gone. Another one that moves main meanwhile is seen by compare and swap.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from threading import Lock
from typing import Any, Protocol
from uuid import UUID

from agents.merging.batch import Landed, MainBusy, Outcome, Refused, Seen, settle

logger = logging.getLogger(__name__)

# Beyond it a failure takes many halves to find, and the first ones wait long for the last one's merge.
MOST_AT_ONCE = 16
_LOOK_UP_S = 0.5


Confirm = Callable[[str, Seen], None]
"""Writes down the commit that a change leads to, and what was seen of the one that main is to move to."""


class Gone(Exception):
    """The change's owner left: its run was cancelled, or lost."""


class Ground(Protocol):
    """What the queue needs of a project; as in `batch.Project`."""

    def head(self) -> str: ...

    def merge(self, change: Any, onto: str) -> str: ...

    def verify(self, commit: str, changes: Sequence[Any]) -> Seen: ...

    def advance(self, *, expected_old: str, new: str) -> None: ...


@dataclass(eq=False)
class _Entry:
    """A change in the queue, with the mailbox of the thread that brought it."""

    change: Any
    confirm: "Confirm"
    mailbox: "SimpleQueue[_Lead | _Confirm | Outcome]" = field(default_factory=SimpleQueue)
    is_gone: bool = False


class _Lead:
    """Says that the receiver leads the next batch."""


@dataclass(frozen=True)
class _Confirm:
    """Asks the receiver to write down that its change leads to this commit; the answer is an error or None."""

    commit: str
    seen: Seen
    answer: "SimpleQueue[Exception | None]"


class MergeQueue:
    """The changes of one project that are ready to go into main, in this process."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._entries: list[_Entry] = []
        self._is_led = False

    def bring(self, change: Any, ground: Ground, *, confirm: Confirm, check: Callable[[], None]) -> Landed:
        """Have a change go into main, together with others, and return where it is.

        `confirm` is called in this thread, perhaps more than once, with the commit that the change leads to, before
        main moves; what it raises takes the change back. `check` is asked while others lead, and raises when the
        change is not wanted any more. Raises what they raise, and the errors of `batch.Refused`; an error of `ground`
        is raised by whoever led, and the others go on with another leader.
        """
        entry = _Entry(change, confirm)
        with self._lock:
            self._entries.append(entry)
            if not self._is_led:
                self._is_led = True
                entry.mailbox.put(_Lead())
        try:
            outcome = self._wait(entry, ground, check)
        except BaseException:
            self._leave(entry)
            raise
        if isinstance(outcome, Refused):
            raise outcome.error
        return outcome

    def _wait(self, entry: _Entry, ground: Ground, check: Callable[[], None]) -> Outcome:
        # Between the confirmation and main's move nobody leaves: whether it moved must not be missed.
        is_confirmed = False
        while True:
            try:
                letter = entry.mailbox.get(timeout=_LOOK_UP_S)
            except Empty:
                if not is_confirmed:
                    check()
                continue
            match letter:
                case _Lead():
                    self._lead(entry, ground)
                case _Confirm(commit, seen, answer):
                    answer.put(error := _tried(entry.confirm, commit, seen))
                    is_confirmed = error is None
                case outcome:
                    return outcome

    def _lead(self, leader: _Entry, ground: Ground) -> None:
        """Settle one batch, of which the leader's change is one, and let another lead the next."""
        with self._lock:
            batch = [leader, *(entry for entry in self._entries if entry is not leader)][:MOST_AT_ONCE]
            self._entries = [entry for entry in self._entries if entry not in batch]
        left = list(batch)
        try:
            for entry, outcome in settle(batch, _Batch(ground, leader)):
                left.remove(entry)
                entry.mailbox.put(outcome)
        except Exception:
            if leader in left:
                raise
            # Its own change is settled: what failed after that is for the others to meet again.
            logger.exception("a batch broke off; %s changes are put back", len(left))
        finally:
            self._hand_over(leader, left)

    def _hand_over(self, leader: _Entry, left: list[_Entry]) -> None:
        """Put those back in front whose batch broke off, and have the first one lead. The leader's error is its own."""
        with self._lock:
            back = [entry for entry in left if entry is not leader and not entry.is_gone]
            self._entries = [*back, *self._entries]
            self._is_led = bool(self._entries)
            if self._entries:
                self._entries[0].mailbox.put(_Lead())

    def _leave(self, entry: _Entry) -> None:
        """Take an entry out, wherever it is; who was about to lead lets another."""
        with self._lock:
            entry.is_gone = True
            if entry in self._entries:
                self._entries.remove(entry)
        while True:
            try:
                letter = entry.mailbox.get_nowait()
            except Empty:
                return
            match letter:
                case _Lead():
                    self._hand_over(entry, [])
                case _Confirm(answer=answer):
                    answer.put(Gone())
                case _:
                    pass


class _Batch:
    """A project, as `batch.settle` sees it: entries in place of changes."""

    def __init__(self, ground: Ground, leader: _Entry) -> None:
        self._ground = ground
        self._leader = leader
        self.head = ground.head
        self.advance = ground.advance

    def merge(self, entry: _Entry, onto: str) -> str:
        return self._ground.merge(entry.change, onto)

    def verify(self, commit: str, changes: Sequence[_Entry]) -> Seen:
        return self._ground.verify(commit, [entry.change for entry in changes])

    def confirm(self, commits: Sequence[tuple[_Entry, str]], seen: Seen) -> list[tuple[_Entry, Exception]]:
        """Ask all at once, and do the leader's own meanwhile."""
        answers: list[tuple[_Entry, SimpleQueue[Exception | None]]] = []
        for entry, commit in commits:
            answer: SimpleQueue[Exception | None] = SimpleQueue()
            answers.append((entry, answer))
            if entry is not self._leader:
                entry.mailbox.put(_Confirm(commit, seen, answer))
        for entry, commit in commits:
            if entry is self._leader:
                next(answer for one, answer in answers if one is entry).put(_tried(entry.confirm, commit, seen))
        found = [(entry, _answer_of(entry, answer)) for entry, answer in answers]
        return [(entry, error) for entry, error in found if error is not None]


def _answer_of(entry: _Entry, answer: "SimpleQueue[Exception | None]") -> Exception | None:
    while True:
        try:
            return answer.get(timeout=_LOOK_UP_S)
        except Empty:
            if entry.is_gone:  # it left between the question and its last look into the mailbox
                return Gone()


def _tried(confirm: Confirm, commit: str, seen: Seen) -> Exception | None:
    try:
        confirm(commit, seen)
    except Exception as error:
        return error
    return None


_queues: dict[UUID, MergeQueue] = {}
_queues_lock = Lock()


def queue_of(project_id: UUID) -> MergeQueue:
    """Return the project's queue of this process."""
    with _queues_lock:
        return _queues.setdefault(project_id, MergeQueue())


__all__ = ["Gone", "Ground", "Landed", "MainBusy", "MergeQueue", "queue_of"]
