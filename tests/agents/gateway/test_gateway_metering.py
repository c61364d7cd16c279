import json
from decimal import Decimal
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.gateway.metering import StreamMeter, WholeMeter
from billing.prices import Usage
from tests.agents.gateway.harness import ANSWER, event, message_delta, message_start, text_delta


def read(*chunks: bytes) -> Usage | None:
    meter = StreamMeter(input_estimate=50)
    for chunk in chunks:
        meter.feed(chunk)
    return meter.usage()


def read_whole(body: bytes) -> Usage | None:
    meter = WholeMeter(input_estimate=50)
    meter.feed(body)
    return meter.usage()


def test_stream_is_counted_as_the_api_says() -> None:
    start = message_start(
        cache_creation_input_tokens=30,
        cache_read_input_tokens=40,
        cache_creation={"ephemeral_5m_input_tokens": 10, "ephemeral_1h_input_tokens": 20},
    )

    assert read(start, text_delta("Hello"), message_delta(200)) == Usage(1_000, 200, 10, 40, 20)


@given(cuts=st.lists(st.integers(min_value=0, max_value=len(b"".join(ANSWER))), max_size=20))
def test_stream_may_be_cut_into_pieces_anywhere(cuts: list[int]) -> None:
    whole = b"".join(ANSWER)
    ends = [0, *sorted(cuts), len(whole)]
    pieces = [whole[begin:end] for begin, end in pairwise(ends)]

    assert read(*pieces) == Usage(1_000, 200)


def test_stream_with_windows_line_ends() -> None:
    assert read(b"".join(ANSWER).replace(b"\n", b"\r\n")) == Usage(1_000, 200)


def test_last_event_may_correct_the_input() -> None:
    final = event(
        "message_delta", delta={}, usage={"input_tokens": 7, "output_tokens": 3, "cache_read_input_tokens": None}
    )

    assert read(message_start(cache_read_input_tokens=5), final) == Usage(7, 3, 0, 5)


def test_broken_off_stream_is_estimated_from_what_came() -> None:
    deltas = [
        text_delta("é" * 30),
        event("content_block_delta", delta={"type": "input_json_delta", "partial_json": "{" * 33}),
    ]

    assert read(message_start(), *deltas) == Usage(1_000, 31)


def test_broken_off_stream_is_never_free_once_a_block_began() -> None:
    assert read(message_start(output_tokens=0), event("content_block_start", content_block={"type": "text"})) == Usage(
        1_000, 1
    )


def test_stream_without_its_beginning_is_estimated() -> None:
    assert read(text_delta("x" * 30)) == Usage(50, 10)


@pytest.mark.parametrize("body", [b"", b": ping\n\n", b"data: {no json}\n\n", b"data: 5\n\n", event("error", error={})])
def test_stream_without_any_use(body: bytes) -> None:
    assert read(body) is None


@pytest.mark.parametrize("value", [-1, "9", True, 1.5, [], 10**30])
def test_odd_numbers_do_not_matter(value: object) -> None:
    used = read(message_start(input_tokens=value), message_delta())

    assert used is not None
    assert 0 <= used.input_tokens <= 10**9


@given(st.binary())
def test_garbage_never_raises(garbage: bytes) -> None:
    read(garbage, b"\n", b"data:", garbage, b"\n")
    read_whole(garbage)


def test_whole_answer() -> None:
    usage = {"input_tokens": 10, "output_tokens": 20, "cache_creation_input_tokens": 5}

    assert read_whole(json.dumps({"usage": usage}).encode()) == Usage(10, 20, 5)


def test_half_of_a_whole_answer_is_estimated() -> None:
    assert read_whole(b'{"content": "xxxxxxxxxxxxxxxxxxx') == Usage(50, 11)


@pytest.mark.parametrize("body", [b"", b"<html>", b"null", b'{"type": "error"}'])
def test_no_answer_at_all_is_free(body: bytes) -> None:
    assert read_whole(body) is None


def test_searches_of_the_api_are_paid_for() -> None:
    final = event("message_delta", delta={}, usage={"output_tokens": 3, "server_tool_use": {"web_search_requests": 2}})
    block = event("content_block_start", index=0, content_block={"type": "server_tool_use", "name": "web_search"})

    assert read(message_start(), final) == Usage(1_000, 3, fees=Decimal("0.02"))
    # Broken off: what was begun is charged.
    assert read(message_start(), block) == Usage(1_000, 1, fees=Decimal("0.01"))


def test_long_stream_that_breaks_off_is_counted_to_its_end() -> None:
    piece = text_delta("x" * 3_000)

    assert read(message_start(), *[piece] * 300) == Usage(1_000, 300_000)
