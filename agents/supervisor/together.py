"""Doing in one transaction what many threads ask for in one moment.

Who comes first does at once what it asked for, alone. Whoever comes meanwhile waits, and the first of these then does
it for all of them: with nobody else there nothing waits, and the more there are the less each of them costs.
"""

import threading
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")


class _Asked(Generic[T, R]):
    """What a thread asked for, and what became of it."""

    def __init__(self, what: T) -> None:
        self.what = what
        self.is_done = False
        self.answer: R
        self.error: BaseException | None = None
        self.woken = threading.Event()


class Together(Generic[T, R]):
    """`meet` gets what was asked for, `most` at once, and returns an answer to each, in order.

    What it raises is raised for all whom it served.
    """

    def __init__(self, meet: Callable[[Sequence[T]], Sequence[R]], *, most: int) -> None:
        self._meet = meet
        self._most = most
        self._lock = threading.Lock()
        self._waiting: list[_Asked[T, R]] = []
        self._is_led = False

    def ask(self, what: T) -> R:
        """Return the answer, got alone or with others."""
        mine: _Asked[T, R] = _Asked(what)
        with self._lock:
            self._waiting.append(mine)
            leads, self._is_led = not self._is_led, True
        if not leads:
            mine.woken.wait()
        if not mine.is_done:
            self._lead()
        if mine.error is not None:
            raise mine.error
        return mine.answer

    def _lead(self) -> None:
        """Serve those who wait, the leader first, and have the next one lead."""
        with self._lock:
            served, self._waiting = self._waiting[: self._most], self._waiting[self._most :]
        try:
            for one, answer in zip(served, self._meet([one.what for one in served]), strict=True):
                one.answer = answer
        except BaseException as error:
            for one in served:
                one.error = error
        finally:
            with self._lock:
                following = self._waiting[0] if self._waiting else None
                self._is_led = following is not None
            for one in served:
                one.is_done = True
                one.woken.set()
            if following is not None:
                following.woken.set()
