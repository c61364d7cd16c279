import threading
from collections.abc import Sequence

import pytest

from agents.supervisor.together import Together

LIMIT_S = 30


class Desk:
    """Serves numbers by doubling them, each time only when it is let to."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.is_serving = threading.Semaphore(0)
        self.may_serve = threading.Semaphore(0)

    def meet(self, asked: Sequence[int]) -> list[int]:
        self.batches.append(list(asked))
        self.is_serving.release()
        assert self.may_serve.acquire(timeout=LIMIT_S)
        if 13 in asked:
            raise ValueError("unlucky")
        return [2 * one for one in asked]


def _ask(together: Together[int, int], number: int, answers: dict[int, object]) -> threading.Thread:
    def work() -> None:
        try:
            answers[number] = together.ask(number)
        except ValueError as error:
            answers[number] = str(error)

    thread = threading.Thread(target=work)
    thread.start()
    return thread


def _wait_for(together: Together[int, int], count: int) -> None:
    give_up = threading.Event()
    for _ in range(LIMIT_S * 100):
        if len(together._waiting) == count:
            return
        give_up.wait(0.01)
    pytest.fail(f"{len(together._waiting)} wait, not {count}")


def test_who_comes_alone_is_served_at_once_and_the_others_together() -> None:
    desk, answers = Desk(), dict[int, object]()
    together = Together(desk.meet, most=3)
    threads = [_ask(together, 1, answers)]
    assert desk.is_serving.acquire(timeout=LIMIT_S)
    for number in range(2, 7):
        threads.append(_ask(together, number, answers))
        _wait_for(together, number - 1)

    for _ in range(3):
        desk.may_serve.release()
    for thread in threads:
        thread.join(LIMIT_S)

    assert desk.batches == [[1], [2, 3, 4], [5, 6]]
    assert answers == {number: 2 * number for number in range(1, 7)}


def test_an_error_is_everybodys_who_was_served_and_nobody_elses() -> None:
    desk, answers = Desk(), dict[int, object]()
    together = Together(desk.meet, most=2)
    threads = [_ask(together, 1, answers)]
    assert desk.is_serving.acquire(timeout=LIMIT_S)
    for place, number in enumerate((12, 13, 14), start=1):
        threads.append(_ask(together, number, answers))
        _wait_for(together, place)

    for _ in range(3):
        desk.may_serve.release()
    for thread in threads:
        thread.join(LIMIT_S)

    assert answers == {1: 2, 12: "unlucky", 13: "unlucky", 14: 28}
    desk.may_serve.release()
    assert together.ask(5) == 10, "nobody leads any more, so the next does"
