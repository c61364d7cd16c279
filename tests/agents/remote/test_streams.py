"""Streams over carriers that lose, double and mix up frames."""

import asyncio
import random
from typing import Any

from agents.worker import streams
from agents.worker.streams import Receiver, Sender


async def test_every_byte_arrives_once_and_in_order(monkeypatch: Any) -> None:
    monkeypatch.setattr(streams, "AGAIN_S", 0.01)
    monkeypatch.setattr(streams, "PIECE_BYTES", 100)
    monkeypatch.setattr(streams, "WINDOW_BYTES", 1_000)
    rng, receiver, got = random.Random(7), Receiver(), bytearray()
    waiting: list[dict[str, Any]] = []

    async def carry(kind: str, data: dict[str, Any]) -> None:
        assert kind == "output"
        await asyncio.sleep(0)
        waiting.extend([data] * rng.choice([0, 1, 1, 2]))
        rng.shuffle(waiting)
        while waiting and rng.random() < 0.7:
            got.extend(receiver.take(waiting.pop()))
            if rng.random() < 0.7:
                answer = receiver.acknowledgement()
                sender.acknowledged(answer["offset"], is_end=answer["end"])

    sender = Sender("output", carry)
    said = rng.randbytes(20_000)
    async with asyncio.timeout(20):
        pump = asyncio.create_task(sender.pump())
        for at in range(0, len(said), 700):
            await sender.write(said[at : at + 700])
            if rng.random() < 0.1:
                sender.rewind()
        sender.finish({"code": 3})
        await pump

    assert bytes(got) == said
    assert receiver.end == {"code": 3}


def test_frames_of_nonsense_change_nothing() -> None:
    receiver = Receiver()
    for wrong in ({}, {"offset": "0", "data": ""}, {"offset": 0, "data": 5}, {"offset": 0, "data": "!"}, {"offset": 9}):
        assert receiver.take(wrong) == b""
    assert receiver.take({"offset": 0, "data": "YWI="}) == b"ab"
    assert receiver.take({"offset": -5, "data": "YWI="}) == b""
    assert receiver.acknowledgement() == {"offset": 2, "end": False}
