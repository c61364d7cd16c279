"""The queue: threads that bring changes, one of whom leads. Each waits for its own outcome and for nothing else."""

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from threading import Event, Lock, get_ident

import pytest

from agents.merging.batch import FailedCheck, Landed, Seen
from agents.merging.queue import MOST_AT_ONCE, MergeQueue


@dataclass(frozen=True)
class Sight:
    passed: bool


class Ground:
    """A project whose commits are words; looking at one waits until it may."""

    def __init__(self) -> None:
        self.main = "main"
        self.looked_at: list[str] = []
        self.may_look = Event()
        self.fails: Callable[[str], bool] = lambda commit: False
        self._only_one = Lock()

    def head(self) -> str:
        return self.main

    def merge(self, change: str, onto: str) -> str:
        return f"{onto} {change}"

    def verify(self, commit: str, changes: Sequence[str]) -> Seen:
        assert self._only_one.acquire(blocking=False), "two lead"
        try:
            self.looked_at.append(commit)
            assert self.may_look.wait(60)
            return Sight(not self.fails(commit))
        finally:
            self._only_one.release()

    def advance(self, *, expected_old: str, new: str) -> None:
        assert expected_old == self.main
        self.main = new


class Line:
    """A queue, its ground, and supervisors."""

    def __init__(self, pool: ThreadPoolExecutor) -> None:
        self.queue = MergeQueue()
        self.ground = Ground()
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
        def write_down(commit: str, seen: Seen) -> None:
            self.confirmed.setdefault(change, []).append(commit)
            self.threads.setdefault(change, set()).add(get_ident())
            confirm()

        def work() -> Landed:
            self.threads.setdefault(change, set()).add(get_ident())
            return self.queue.bring(change, ground or self.ground, confirm=write_down, check=check)

        return self._pool.submit(work)

    def lead(self, change: str = "first", **options: object) -> "Future[Landed]":
        """Bring a change whose supervisor leads, and is looking at it."""
        led = self.bring(change, **options)  # type: ignore[arg-type]
        until(lambda: bool(self.ground.looked_at))
        return led

    def wait_for(self, count: int) -> None:
        until(lambda: len(self.queue._entries) == count)


@pytest.fixture
def line() -> Iterator[Line]:
    with ThreadPoolExecutor(MOST_AT_ONCE + 8) as pool:
        made = Line(pool)
        yield made
        made.ground.may_look.set()


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
        def verify(self, commit: str, changes: Sequence[str]) -> Seen:
            line.ground.looked_at.append(commit)
            assert self.may_look.wait(60)
            raise OSError("no sandbox")

    broken = Broken()
    first = line.lead(ground=broken)
    others = [line.bring(name) for name in "ab"]
    line.wait_for(2)
    line.ground.may_look.set()
    broken.may_look.set()
    with pytest.raises(OSError, match="no sandbox"):
        result(first)
    assert all(result(other) for other in others)
    assert "first" not in line.ground.main


def test_leader_whose_change_is_in_hears_of_it_though_the_rest_broke_off(line: Line) -> None:
    class BreaksLater(Ground):
        def head(self) -> str:
            return line.ground.main

        def advance(self, *, expected_old: str, new: str) -> None:
            line.ground.advance(expected_old=expected_old, new=new)

        def verify(self, commit: str, changes: Sequence[str]) -> Seen:
            if "second" in line.ground.main:
                raise OSError("no sandbox")
            return Sight("bad" not in commit.split())

    line.ground.fails = lambda commit: "bad" in commit.split()
    first = line.lead()
    second = line.bring("second", ground=BreaksLater())
    line.wait_for(1)
    bad, third = line.bring("bad"), line.bring("third")
    line.wait_for(3)
    line.ground.may_look.set()
    assert result(first)
    landed = result(second)
    with pytest.raises(FailedCheck):
        result(bad)
    assert landed.commit in line.ground.main
    assert result(third).commit == line.ground.main


def test_no_change_is_lost_among_many_that_come_at_once(line: Line) -> None:
    line.ground.may_look.set()
    line.ground.fails = lambda commit: "7" in commit.split()
    futures = {str(number): line.bring(str(number)) for number in range(MOST_AT_ONCE + 8)}
    with pytest.raises(FailedCheck):
        result(futures.pop("7"))
    assert all(result(future) for future in futures.values())
    assert sorted(line.ground.main.split()[1:]) == sorted(futures)
    assert not line.queue._entries
    assert not line.queue._is_led
