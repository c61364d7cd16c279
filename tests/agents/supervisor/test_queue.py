"""The queue: supervisors that bring changes, each in its thread with its own connection; one of them leads. Each waits
for its own outcome and for nothing else, and whoever dies is followed by another."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import timedelta
from threading import Event, Lock, get_ident
from uuid import UUID

import pytest
from django.db import IntegrityError, connections, transaction

from agents.actions import merges
from agents.errors import LeaseLost
from agents.merging.batch import FailedCheck, Landed, Seen
from agents.models import MergeEntry, Run
from agents.supervisor import queue
from agents.supervisor.queue import MOST_AT_ONCE
from agents.supervisor.verdicts import Observed, to_json
from projects.models import AuditLog, Project
from tests.factories import NOW, ProjectFactory, RunFactory, TaskFactory

pytestmark = pytest.mark.django_db(transaction=True)
LONG_AGO = NOW - timedelta(minutes=1)


class Ground:
    """A project whose commits are words; looking at one waits until it may."""

    def __init__(self, names: Mapping[UUID, str]) -> None:
        self.main = "main"
        self.looked_at: list[str] = []
        self.may_look = Event()
        self.fails: Callable[[str], bool] = lambda commit: False
        self._names = names
        self._only_one = Lock()

    def head(self) -> str:
        return self.main

    def merge(self, change: Run, onto: str) -> str:
        return f"{onto} {self._names[change.pk]}"

    def verify(self, commit: str, changes: Sequence[Run]) -> Seen:
        assert self._only_one.acquire(blocking=False), "two lead"
        try:
            self.looked_at.append(commit)
            assert self.may_look.wait(60)
            return Observed({"passed": not self.fails(commit)})
        finally:
            self._only_one.release()

    def advance(self, *, expected_old: str, new: str) -> None:
        assert expected_old == self.main
        self.main = new

    def is_merged(self, commit: str) -> bool:
        return self.main.startswith(commit)


class Line:
    """A project's queue, its ground, and supervisors."""

    def __init__(self, pool: ThreadPoolExecutor, project: Project) -> None:
        self.project = project
        self.names: dict[UUID, str] = {}
        self.runs: dict[str, Run] = {}
        self.ground = Ground(self.names)
        self.confirmed: dict[str, list[str]] = {}
        self.threads: dict[str, set[int]] = {}
        self._pool = pool

    def bring(
        self,
        change: str,
        *,
        confirm: Callable[[], None] = lambda: None,
        check: Callable[[], None] = lambda: None,
        ground: Ground | None = None,
    ) -> "Future[Landed]":
        run = RunFactory(status="evaluating", task=TaskFactory(project=self.project, status="review"))
        self.runs[change], self.names[run.pk] = run, change

        def write_down(commit: str, seen: Seen) -> None:
            self.confirmed.setdefault(change, []).append(commit)
            self.threads.setdefault(change, set()).add(get_ident())
            confirm()

        def work() -> Landed:
            self.threads.setdefault(change, set()).add(get_ident())
            try:
                return queue.bring(run, ground or self.ground, confirm=write_down, check=check, clock=lambda: NOW)
            finally:
                connections.close_all()

        return self._pool.submit(work)

    def lead(self, change: str = "first", **options: object) -> "Future[Landed]":
        """Bring a change whose supervisor leads, and is looking at it."""
        led = self.bring(change, **options)  # type: ignore[arg-type]
        ground = options.get("ground", self.ground)
        assert isinstance(ground, Ground)
        until(lambda: bool(ground.looked_at))
        return led

    def wait_for(self, count: int) -> None:
        """Return when so many wait behind the one that leads."""
        until(lambda: MergeEntry.objects.filter(project=self.project).count() == count + 1)

    def lose(self, change: str) -> None:
        """Let a run's lease run out, as when its machine dies."""
        Run.objects.filter(pk=self.runs[change].pk).update(lease_until=LONG_AGO)


@pytest.fixture
def line(monkeypatch: pytest.MonkeyPatch) -> Iterator[Line]:
    monkeypatch.setattr(queue, "LOOK_S", 0.05)
    with ThreadPoolExecutor(MOST_AT_ONCE + 8) as pool:
        made = Line(pool, ProjectFactory())
        yield made
        made.ground.may_look.set()
        MergeEntry.objects.filter(project=made.project).delete()  # wakes who would wait for ever


@pytest.fixture
def apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody hears anybody, as in processes of their own: there are only the rows."""
    monkeypatch.setattr(queue, "bell_of", lambda project: queue._Bell())


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.002)


def result(future: "Future[Landed]") -> Landed:
    return future.result(timeout=60)


def test_change_alone_is_looked_at_at_once(line: Line) -> None:
    line.ground.may_look.set()
    assert result(line.bring("a")).commit == "main a"
    assert line.confirmed == {"a": ["main a"]}
    assert line.ground.main == "main a"


@pytest.mark.usefixtures("apart")
def test_what_comes_meanwhile_is_looked_at_together(line: Line) -> None:
    first = line.lead()
    others = [line.bring(name) for name in "abcd"]
    line.wait_for(4)
    line.ground.may_look.set()
    assert result(first).others == 0
    assert {result(other).others for other in others} == {3}
    assert len(line.ground.looked_at) == 2
    assert sorted(line.ground.main.split()[2:]) == ["a", "b", "c", "d"]
    assert all(len(threads) == 1 for threads in line.threads.values()), "each is written down by its own supervisor"


def test_bad_one_is_refused_and_its_supervisor_alone_hears_of_it(line: Line) -> None:
    line.ground.fails = lambda commit: "bad" in commit.split()
    first = line.lead()
    names = ["a", "bad", "b", "c"]
    others = {name: line.bring(name) for name in names}
    line.wait_for(4)
    line.ground.may_look.set()
    with pytest.raises(FailedCheck):
        result(others.pop("bad"))
    assert all(result(future) for future in (first, *others.values()))
    assert "bad" not in line.confirmed
    assert sorted(line.ground.main.split()[2:]) == ["a", "b", "c"]


def test_what_is_settled_has_left_when_the_others_are_woken(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the next that leads would look at it once more."""
    bell = queue.bell_of(line.project.pk)
    seen: list[bool] = []
    monkeypatch.setattr(bell, "ring", lambda: seen.append(MergeEntry.objects.filter(is_leading=False).exists()))
    line.ground.may_look.set()
    line.ground.fails = lambda commit: True
    with pytest.raises(FailedCheck):
        result(line.bring("a"))
    assert seen
    assert not any(seen)


def test_who_leads_too_many_leaves_some_for_the_next(line: Line) -> None:
    first = line.lead()
    others = [line.bring(str(number)) for number in range(MOST_AT_ONCE + 3)]
    line.wait_for(MOST_AT_ONCE + 3)
    line.ground.may_look.set()
    assert all(result(future) for future in (first, *others))
    assert len(line.ground.looked_at) == 3


def test_who_is_cancelled_while_waiting_leaves_the_others_alone(line: Line) -> None:
    cancelled = Event()

    def check() -> None:
        if cancelled.is_set():
            raise KeyError("cancelled")

    first, other, left = line.lead(), line.bring("a"), line.bring("b", check=check)
    line.wait_for(2)
    cancelled.set()
    with pytest.raises(KeyError, match="cancelled"):
        result(left)
    line.ground.may_look.set()
    assert result(first)
    assert result(other)
    assert "b" not in line.ground.main


def test_who_is_cancelled_before_main_moves_is_not_in_it(line: Line) -> None:
    def refuse() -> None:
        raise KeyError("cancelled")

    first = line.lead()
    other, left = line.bring("a"), line.bring("b", confirm=refuse)
    line.wait_for(2)
    line.ground.may_look.set()
    with pytest.raises(KeyError, match="cancelled"):
        result(left)
    assert result(first)
    assert result(other)
    assert line.ground.main == "main first a"


def test_leader_whose_platform_fails_hands_the_others_on(line: Line) -> None:
    class Broken(Ground):
        def verify(self, commit: str, changes: Sequence[Run]) -> Seen:
            self.looked_at.append(commit)
            assert self.may_look.wait(60)
            raise OSError("no sandbox")

    broken = Broken(line.names)
    first = line.lead(ground=broken)
    others = [line.bring(name) for name in "ab"]
    line.wait_for(2)
    line.ground.may_look.set()
    broken.may_look.set()
    with pytest.raises(OSError, match="no sandbox"):
        result(first)
    assert all(result(other) for other in others)
    assert "first" not in line.ground.main


def test_leader_whose_change_is_in_lets_others_look_at_the_rest(line: Line) -> None:
    """Its own run ends at once, and does not wait for what others brought."""
    line.ground.fails = lambda commit: "bad" in commit.split()
    first = line.lead()
    own = Ground(line.names)
    own.fails, own.main = line.ground.fails, "main first"
    own.may_look.set()
    second = line.bring("second", ground=own, check=lambda: None)
    line.wait_for(1)
    bad, third = line.bring("bad"), line.bring("third")
    line.wait_for(3)
    line.ground.may_look.set()
    assert result(first)
    assert result(second)
    with pytest.raises(FailedCheck):
        result(bad)
    assert result(third)


def test_no_change_is_lost_among_many_that_come_at_once(line: Line) -> None:
    line.ground.may_look.set()
    line.ground.fails = lambda commit: "7" in commit.split()
    futures = {str(number): line.bring(str(number)) for number in range(MOST_AT_ONCE + 8)}
    with pytest.raises(FailedCheck):
        result(futures.pop("7"))
    assert all(result(future) for future in futures.values())
    assert sorted(line.ground.main.split()[1:]) == sorted(futures)
    assert not MergeEntry.objects.exists()


def test_batch_of_a_leader_that_dies_is_taken_up_by_another(line: Line) -> None:
    """And should the leader be alive after all, it moves main no more."""

    def is_ours() -> None:
        if Run.objects.get(pk=line.runs["dead"].pk).lease_until == LONG_AGO:
            raise LeaseLost

    away = Ground(line.names)
    dead = line.lead("dead", ground=away, check=is_ours)
    others = [line.bring(name) for name in "ab"]
    line.wait_for(2)
    line.ground.may_look.set()
    line.lose("dead")
    assert all(result(other) for other in others)
    assert sorted(line.ground.main.split()[1:]) == ["a", "b"]
    row = AuditLog.objects.get(action="merge.taken_up")
    assert row.details["was_leading"] is True

    away.may_look.set()
    with pytest.raises(LeaseLost):
        result(dead)
    assert away.main == "main"
    assert "dead" not in line.confirmed


def test_what_a_leader_landed_before_it_died_is_found_in_main(line: Line) -> None:
    dead, change = leading(line), line.bring("a")
    confirmed(line, dead)
    line.ground.main = "main a dead"

    Run.objects.filter(pk=dead.pk).update(lease_until=LONG_AGO)

    landed = result(change)
    assert (landed.commit, landed.seen.passed) == ("main a", True)
    assert line.ground.looked_at == [], "it is not looked at again"


def test_who_is_lost_after_it_confirmed_is_not_in_main(line: Line) -> None:
    first = line.lead()
    other = line.bring("a")
    left = line.bring("b", confirm=lambda: line.lose("b"), check=lambda: stop_if(line.confirmed.get("b")))
    line.wait_for(2)
    line.ground.may_look.set()
    assert result(first)
    assert result(other)
    assert line.ground.main == "main first a"
    with pytest.raises(LeaseLost):
        result(left)


def test_who_is_confirmed_and_loses_its_run_with_all_others_comes_out(line: Line) -> None:
    """The leader's machine died, and the database was away for longer than the leases: nobody can lead."""
    dead, lost = leading(line), Event()
    change = line.bring("a", check=lambda: stop_if(lost.is_set()))
    confirmed(line, dead)

    Run.objects.filter(project=line.project).update(lease_until=LONG_AGO)
    lost.set()

    with pytest.raises(LeaseLost):
        result(change)
    assert not MergeEntry.objects.filter(run=line.runs["a"]).exists()


def test_who_leads_and_loses_its_run_before_main_moves_comes_out(line: Line) -> None:
    line.ground.may_look.set()
    change = line.bring("a", confirm=lambda: line.lose("a"), check=lambda: stop_if(line.confirmed.get("a")))
    with pytest.raises(LeaseLost):
        result(change)
    assert line.ground.main == "main"


def test_who_is_cancelled_after_it_confirmed_hears_that_it_landed(line: Line) -> None:
    cancelled, asked = Event(), []

    def check() -> None:
        if cancelled.is_set():
            asked.append("again")
            raise KeyError("cancelled")

    leader = leading(line)
    change = line.bring("a", check=check)
    confirmed(line, leader)
    cancelled.set()
    until(lambda: len(asked) > 1)
    line.ground.main = "main a"
    merges.tell(leader, {line.runs["a"].pk: (True, "main a", to_json(Landed("main a", Observed({}), 0)))})
    assert result(change).commit == "main a"


def leading(line: Line) -> Run:
    """A run that leads, in no thread."""
    run = RunFactory(status="merging", task=TaskFactory(project=line.project, status="review"))
    merges.enter(run, now=NOW)
    assert merges.lead(run, now=NOW)
    return run


def confirmed(line: Line, leader: Run) -> None:
    """Have it ask the one that waits, and return when that has confirmed."""
    line.wait_for(1)
    merges.ask(leader, {line.runs["a"].pk: "main a"}, {"passed": True})
    until(lambda: MergeEntry.objects.get(run=line.runs["a"]).stage == "confirmed")


def stop_if(lost: object) -> None:
    if lost:
        raise LeaseLost


def test_main_is_moved_by_who_leads_with_those_that_are_there(line: Line) -> None:
    one, two = (
        RunFactory(status="evaluating", task=TaskFactory(project=line.project, status="review")) for _ in range(2)
    )
    for run in (one, two):
        merges.enter(run, now=NOW)
    assert merges.lead(one, now=NOW)
    assert not merges.lead(two, now=NOW)
    moved: list[str] = []
    commits = {one.pk: "c1", two.pk: "c2"}

    def move(leader: Run = one) -> None:
        merges.advance(leader, commits, lambda: moved.append("moved"), now=NOW)

    merges.ask(one, commits, {})
    assert merges.confirm(one, "c1")
    assert not merges.confirm(two, "another")
    with pytest.raises(merges.NotTogether):
        move()
    assert merges.confirm(two, "c2")
    with pytest.raises(merges.LeadLost):
        move(two)
    Run.objects.filter(pk=two.pk).update(lease_until=LONG_AGO)
    with pytest.raises(merges.NotTogether):
        move()
    Run.objects.filter(pk=two.pk).update(lease_until=one.lease_until)
    move()
    Run.objects.filter(pk=one.pk).update(lease_until=LONG_AGO)
    with pytest.raises(merges.LeadLost):
        move()
    assert moved == ["moved"]


@pytest.mark.parametrize("nonsense", [{"is_leading": True}, {"stage": "asked"}, {"stage": "landed"}])
def test_the_database_refuses_two_leaders_and_questions_about_nothing(line: Line, nonsense: dict[str, object]) -> None:
    one, two = (RunFactory(status="evaluating", task=TaskFactory(project=line.project)) for _ in range(2))
    merges.enter(one, now=NOW)
    assert merges.lead(one, now=NOW)
    with pytest.raises(IntegrityError), transaction.atomic():
        MergeEntry.objects.create(project=line.project, run=two, created_at=NOW, **nonsense)
