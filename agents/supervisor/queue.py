"""Bringing the supervisors of a project's runs together, in whatever process and on whatever machine they are.

The queue is rows (`agents.actions.merges`). Each supervisor looks at its own, and alone moves its own run on. Whoever
finds that nobody leads, does: it merges, verifies and moves main for a batch. Before main moves it asks every owner to
write down where its change leads (`confirm`, called in the owner's thread); who does not want it any more leaves. A
leader that dies is followed by any other, which first finds out what main has. Threads of one process wake each other;
those of others look twice a second.
"""

import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime
from threading import Condition, Lock
from typing import Protocol
from uuid import UUID

from agents.actions import merges
from agents.actions.merges import LeadLost, NotTogether
from agents.errors import LeaseLost
from agents.merging.batch import Landed, Outcome, Refused, Seen, rounds
from agents.models import MergeEntry, Run
from agents.supervisor.connections import AWAY, give_back
from agents.supervisor.verdicts import Gone, Observed, facts_of, from_json, to_json
from agents.workspace.errors import MainMoved

logger = logging.getLogger(__name__)
Clock = Callable[[], datetime]

# Beyond it a failure takes many halves to find, and the first ones wait long for the last one's merge.
MOST_AT_ONCE = 16
LOOK_S = 0.5

Confirm = Callable[[str, Seen], None]
"""Writes down the commit that a change leads to, and what was seen of the one that main is to move to."""


class Ground(Protocol):
    """What the queue needs of a project; as in `batch.Project`, with runs as changes."""

    def head(self) -> str: ...

    def merge(self, change: Run, onto: str) -> str: ...

    def verify(self, commit: str, changes: Sequence[Run]) -> Seen: ...

    def advance(self, *, expected_old: str, new: str) -> None: ...

    def is_merged(self, commit: str) -> bool: ...


class _Bell:
    """Wakes the threads of this process that wait in a project's queue. Only a hint: it may be missed."""

    def __init__(self) -> None:
        self._condition, self._count = Condition(), 0

    def ring(self) -> None:
        with self._condition:
            self._count += 1
            self._condition.notify_all()

    def heard(self) -> int:
        return self._count

    def wait(self, heard: int) -> None:
        """Return as soon as it rang more often than that, or after LOOK_S."""
        with self._condition:
            self._condition.wait_for(lambda: self._count != heard, timeout=LOOK_S)


def bring(run: Run, ground: Ground, *, confirm: Confirm, check: Callable[[], None], clock: Clock) -> Landed:
    """Have a run's change go into main, together with others, and return where it is.

    `confirm` is called in this thread, perhaps more than once, with the commit that the change leads to, before main
    moves; what it raises takes the change back. `check` is asked while others lead, and raises LeaseLost, or something
    else when the change is not wanted any more, which counts until it is confirmed. Raises what they raise, and the
    errors of `batch.Refused`; an error of `ground` is raised by whoever led, and the others go on with another leader.
    """
    member = _Member(run, ground, confirm, check, clock)
    try:
        merges.enter(run, now=clock())
        outcome = member.wait()
    except BaseException:
        with suppress(*AWAY):  # then it is taken for lost, as its run is
            merges.leave(run)
        raise
    else:
        merges.leave(run)
    finally:
        member.bell.ring()
    if isinstance(outcome, Refused):
        raise outcome.error
    return outcome


class _Member:
    """A supervisor in the queue of its run's project, and what a batch needs of the project while it leads."""

    def __init__(self, run: Run, ground: Ground, confirm: Confirm, check: Callable[[], None], clock: Clock) -> None:
        self.run, self.bell = run, bell_of(run.project_id)
        self._ground, self._confirm, self._check, self._clock = ground, confirm, check, clock
        self._agreed: dict[UUID, str] = {}

    def wait(self) -> Outcome:
        while True:
            heard = self.bell.heard()
            entry = merges.look(self.run)
            if entry is None or (entry.stage == MergeEntry.Stage.REFUSED and entry.told["is"] == "gone"):
                self._check()  # another took our run for lost; if it was wrong, we are in line again
                merges.enter(self.run, now=self._clock())
                continue
            match entry.stage:
                case MergeEntry.Stage.LANDED | MergeEntry.Stage.REFUSED:
                    return from_json(entry.told)
                case MergeEntry.Stage.ASKED:
                    self._confirm(entry.commit, Observed.from_json(entry.told))
                    merges.confirm(self.run, entry.commit)
                    self.bell.ring()
                    continue
                case MergeEntry.Stage.WAITING:
                    self._check()
                case MergeEntry.Stage.CONFIRMED:
                    self._check_held()
            if merges.lead(self.run, now=self._clock()):
                if (outcome := self._lead()) is not None:
                    return outcome
                continue
            give_back()
            self.bell.wait(heard)

    def _check_held(self) -> None:
        """Raise LeaseLost, and nothing else that `check` raises: whether main moved must not be missed.

        Without its run nobody here leads any more, or is told; the sweep finds out what main has.
        """
        try:
            self._check()
        except LeaseLost:
            raise
        except Exception as error:
            logger.info("run %s is not wanted any more, and confirmed already: %s", self.run.pk, error)

    def _lead(self) -> Outcome | None:
        """Settle a batch until it is known what becomes of the leader's own change, and let another lead the rest."""
        own = None
        try:
            own = self._settled()
        except LeadLost:
            logger.warning("run %s leads its batch no more", self.run.pk)
        finally:
            with suppress(*AWAY):  # the next must not look at what is settled
                merges.stop_leading(self.run, leaves=own is not None)
            self.bell.ring()
        return own

    def _settled(self) -> Outcome | None:
        batch = merges.batch_of(self.run, most=MOST_AT_ONCE, now=self._clock())
        before = [entry for entry in batch if entry.commit and self._ground.is_merged(entry.commit)]
        if own := self._tell([(entry, _landed_before(entry)) for entry in before]):
            return own
        for known in rounds([entry for entry in batch if entry not in before], self):
            if own := self._tell(known):
                return own
        return None

    def _tell(self, known: Sequence[tuple[MergeEntry, Outcome]]) -> Outcome | None:
        """Tell the others what became of their changes, and return what became of the leader's, if that is known."""
        others = {
            entry.run_id: (isinstance(outcome, Landed), getattr(outcome, "commit", ""), to_json(outcome))
            for entry, outcome in known
            if entry.run_id != self.run.pk
        }
        if others:
            merges.tell(self.run, others)
            self.bell.ring()
        return next((outcome for entry, outcome in known if entry.run_id == self.run.pk), None)

    def head(self) -> str:
        return self._ground.head()

    def merge(self, change: MergeEntry, onto: str) -> str:
        return self._ground.merge(change.run, onto)

    def verify(self, commit: str, changes: Sequence[MergeEntry]) -> Seen:
        return self._ground.verify(commit, [entry.run for entry in changes])

    def confirm(self, commits: Sequence[tuple[MergeEntry, str]], seen: Seen) -> list[tuple[MergeEntry, Exception]]:
        """Ask all at once, and do the leader's own meanwhile. Who has left, or is lost, is not wanted any more."""
        self._agreed = {entry.run_id: commit for entry, commit in commits}
        merges.ask(self.run, self._agreed, facts_of(seen))
        self.bell.ring()
        refused: list[tuple[MergeEntry, Exception]] = []
        for entry, commit in commits:
            if entry.run_id == self.run.pk:
                try:
                    self._confirm(commit, seen)
                    merges.confirm(self.run, commit)
                except Exception as error:
                    refused.append((entry, error))
        others = [entry for entry, _ in commits if entry.run_id != self.run.pk]
        there = self._answers([entry.run_id for entry in others])
        return refused + [(entry, Gone()) for entry in others if entry.run_id not in there]

    def _answers(self, runs: Sequence[UUID]) -> dict[UUID, str]:
        while True:
            heard = self.bell.heard()
            there = merges.answers(runs, now=self._clock())
            if MergeEntry.Stage.ASKED not in there.values():
                return there
            give_back()
            self.bell.wait(heard)

    def advance(self, *, expected_old: str, new: str) -> None:
        def move() -> None:
            self._ground.advance(expected_old=expected_old, new=new)

        try:
            merges.advance(self.run, self._agreed, move, now=self._clock())
        except NotTogether as error:  # as if main had moved: they go again, and who is gone is seen then
            raise MainMoved(expected_old, new) from error


def _landed_before(entry: MergeEntry) -> Outcome:
    """Return the outcome of a change that a leader which died then had moved main to."""
    return Landed(entry.commit, Observed.from_json(entry.told), 0)


_bells: dict[UUID, _Bell] = {}
_bells_lock = Lock()


def bell_of(project_id: UUID) -> _Bell:
    """Return what wakes this process's threads that wait in a project's queue."""
    with _bells_lock:
        return _bells.setdefault(project_id, _Bell())
