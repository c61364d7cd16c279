"""Answers that are remembered and looked up again."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from agents.gateway import remembering
from agents.gateway.remembering import Remembered

SOON, NEVER = -1.0, 600.0


class Source:
    """Counts how often it is asked; `gate` holds an answer back."""

    def __init__(self) -> None:
        self.asked = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self.is_broken = False

    async def look(self, key: str) -> str:
        self.asked += 1
        answer = f"{key}{self.asked}"
        await self.gate.wait()
        if self.is_broken:
            raise LookupError(key)
        return answer


def check(test: Callable[[Source, Remembered[str, str]], Awaitable[None]]) -> None:
    async def run() -> None:
        source = Source()
        await test(source, Remembered(source.look))

    asyncio.run(run())


def test_answer_is_given_again_without_looking() -> None:
    async def test(source: Source, known: Remembered[str, str]) -> None:
        assert [await known.of("a", fresh_s=NEVER, usable_s=NEVER) for _ in range(3)] == ["a1"] * 3
        assert await known.of("b", fresh_s=NEVER, usable_s=NEVER) == "b2"

    check(test)


def test_stale_answer_is_given_at_once_and_looked_up_once_for_the_next() -> None:
    async def test(source: Source, known: Remembered[str, str]) -> None:
        await known.of("a", fresh_s=SOON, usable_s=NEVER)
        source.gate.clear()
        for _ in range(3):  # the one that is under way is not followed by others
            assert await known.of("a", fresh_s=SOON, usable_s=NEVER) == "a1"
            await asyncio.sleep(0)
        assert source.asked == 2
        source.gate.set()
        await asyncio.sleep(0.01)
        assert await known.of("a", fresh_s=NEVER, usable_s=NEVER) == "a2"

    check(test)


def test_answer_that_is_too_old_is_waited_for() -> None:
    async def test(source: Source, known: Remembered[str, str]) -> None:
        assert [await known.of("a", fresh_s=SOON, usable_s=SOON) for _ in range(2)] == ["a1", "a2"]

    check(test)


def test_failure_behind_somebodys_back_is_told_to_the_next_who_asks() -> None:
    async def test(source: Source, known: Remembered[str, str]) -> None:
        await known.of("a", fresh_s=SOON, usable_s=NEVER)
        source.is_broken = True
        assert await known.of("a", fresh_s=SOON, usable_s=NEVER) == "a1"
        await asyncio.sleep(0.01)
        with pytest.raises(LookupError):
            await known.of("a", fresh_s=NEVER, usable_s=NEVER)

    check(test)


def test_answer_that_was_asked_for_before_all_was_forgotten_is_not_kept() -> None:
    async def test(source: Source, known: Remembered[str, str]) -> None:
        source.gate.clear()
        before = asyncio.create_task(known.of("a", fresh_s=NEVER, usable_s=NEVER))
        await asyncio.sleep(0)
        known.forget()
        source.gate.set()
        assert await before == "a1"
        assert await known.of("a", fresh_s=NEVER, usable_s=NEVER) == "a2"

    check(test)


def test_answer_that_is_looked_up_again_while_all_is_forgotten_is_not_kept() -> None:
    async def test(source: Source, known: Remembered[str, str]) -> None:
        await known.of("a", fresh_s=NEVER, usable_s=NEVER)
        source.gate.clear()
        assert await known.of("a", fresh_s=SOON, usable_s=NEVER) == "a1"  # and asks a second time
        await asyncio.sleep(0)
        known.forget()
        source.gate.set()
        assert await known.of("a", fresh_s=NEVER, usable_s=NEVER) == "a3"
        await asyncio.sleep(0.01)
        assert await known.of("a", fresh_s=NEVER, usable_s=NEVER) == "a3"

    check(test)


def test_answer_that_was_overtaken_is_not_kept() -> None:
    async def test(source: Source, known: Remembered[str, str]) -> None:
        source.gate.clear()
        slow = asyncio.create_task(known.of("a", fresh_s=NEVER, usable_s=NEVER))
        await asyncio.sleep(0)
        held, source.gate = source.gate, asyncio.Event()
        source.gate.set()
        assert await known.of("a", fresh_s=NEVER, usable_s=NEVER) == "a2"
        held.set()
        assert await slow == "a1"
        assert await known.of("a", fresh_s=NEVER, usable_s=NEVER) == "a2"

    check(test)


def test_failure_of_what_was_overtaken_forgets_nothing() -> None:
    async def test(source: Source, known: Remembered[str, str]) -> None:
        await known.of("a", fresh_s=NEVER, usable_s=NEVER)
        source.gate.clear()
        await known.of("a", fresh_s=SOON, usable_s=NEVER)
        await asyncio.sleep(0)
        held, source.gate = source.gate, asyncio.Event()
        source.gate.set()
        assert await known.of("a", fresh_s=NEVER, usable_s=SOON) == "a3"
        source.is_broken = True
        held.set()
        await asyncio.sleep(0.01)
        assert await known.of("a", fresh_s=NEVER, usable_s=NEVER) == "a3"

    check(test)


def test_remembers_a_bounded_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remembering, "_MOST", 2)

    async def test(source: Source, known: Remembered[str, str]) -> None:
        for key in "abc":
            await known.of(key, fresh_s=NEVER, usable_s=NEVER)
        assert await known.of("c", fresh_s=NEVER, usable_s=NEVER) == "c3"
        assert await known.of("a", fresh_s=NEVER, usable_s=NEVER) == "a4"

    check(test)
