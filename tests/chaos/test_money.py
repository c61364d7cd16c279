"""The comparison of what was served with what was billed finds what is wrong, and excuses nothing else."""

from dataclasses import replace

import pytest

from agents.gateway.metering import estimate_tokens
from tests.chaos.money import Answer, compare

ANSWER = Answer((3, 70, 900, 4000), is_whole=True, asked_bytes=15_000, sent_bytes=900)
CUT = Answer((3, 1, 900, 4000), is_whole=False, asked_bytes=15_000, sent_bytes=900)


def test_an_answer_is_billed_once() -> None:
    found = compare([ANSWER, ANSWER], [ANSWER.tokens, ANSWER.tokens])

    assert (found.equal, found.left, found.missing, found.surplus) == (2, 0, [], [])


@pytest.mark.parametrize("bill", [(5000, 0, 0, 0), (3, 12, 900, 4000)], ids=["before the first byte", "after it"])
@pytest.mark.parametrize("answer", [ANSWER, CUT], ids=["whole", "cut"])
def test_who_left_before_the_end_pays_for_what_was_read(answer: Answer, bill: tuple[int, ...]) -> None:
    found = compare([answer], [bill])

    assert (found.equal, found.left, found.missing, found.surplus) == (0, int(answer.is_whole), [], [])


@pytest.mark.parametrize(("lost", "again"), [(1, 1), (3, 1), (4, 0)])
def test_what_nobody_answered_is_billed_by_a_guess_beside_the_answer(lost: int, again: int) -> None:
    found = compare([ANSWER], [(3 + lost * 5000, 70, 900, 4000)])

    assert (found.equal, found.left, found.again, len(found.missing)) == (0, 0, again, 1 - again)
    assert compare([CUT], [(5003, 1, 900, 4000)]).again == 0


def test_an_answer_without_a_bill_is_missing() -> None:
    assert compare([ANSWER], []).missing == [ANSWER.tokens]


@pytest.mark.parametrize("bill", [(4999, 0, 0, 0), (3, 70, 900, 4001), (4, 70, 900, 4000)])
def test_a_bill_that_no_answer_explains_is_surplus(bill: tuple[int, ...]) -> None:
    found = compare([ANSWER], [bill])

    assert (found.missing, found.surplus) == ([ANSWER.tokens], [bill])


@pytest.mark.parametrize(("answer", "most"), [(ANSWER, 300), (CUT, 300)])
def test_output_is_billed_by_what_left_at_most(answer: Answer, most: int) -> None:
    """Else it is no sign of anything that the same was asked."""
    at_most, more = (3, most, 900, 4000), (3, most + 1, 900, 4000)

    assert compare([answer], [at_most]).surplus == []
    assert compare([answer], [more]).surplus == [more]


def test_of_answers_alike_any_may_be_the_one_that_was_asked_for_again() -> None:
    """Requests of different lengths, answered with the same tokens: the bill that equals them may be of either."""
    shorter = replace(ANSWER, asked_bytes=ANSWER.asked_bytes - 3)
    tokens = (ANSWER.tokens[0] + estimate_tokens(ANSWER.asked_bytes), *ANSWER.tokens[1:])

    for answers in ([shorter, ANSWER], [ANSWER, shorter]):
        found = compare(answers, [ANSWER.tokens, tokens])
        assert (found.equal, found.again, found.missing, found.surplus) == (1, 1, [], [])


def test_one_answer_explains_one_bill() -> None:
    assert compare([ANSWER], [ANSWER.tokens, ANSWER.tokens]).surplus == [ANSWER.tokens]
    assert compare([ANSWER], [(5000, 0, 0, 0), (5000, 0, 0, 0)]).surplus == [(5000, 0, 0, 0)]


def test_a_small_bill_takes_no_answer_that_only_a_large_one_has() -> None:
    short = Answer(CUT.tokens, is_whole=False, asked_bytes=15_000, sent_bytes=30)
    small, large = (3, 5, 900, 4000), (3, 250, 900, 4000)

    for answers in ([CUT, short], [short, CUT], [ANSWER, short], [short, ANSWER]):
        assert compare(answers, [small, large]).surplus == []
    assert compare([CUT, ANSWER], [small]).missing == []
