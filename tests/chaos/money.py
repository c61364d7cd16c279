"""What the model served against what was billed for it, answer by answer."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from agents.gateway.metering import estimate_tokens

_SERVED = ("input_tokens", "output_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")
Tokens = tuple[int, ...]
"""Read, written, written to the cache, read from it."""


@dataclass(frozen=True)
class Answer:
    """One answer of the model, as the witness saw it leave."""

    tokens: Tokens
    is_whole: bool
    asked_bytes: int
    """Length of the request."""

    @classmethod
    def read(cls, line: dict[str, Any]) -> "Answer":
        """Return it from a line of the witness."""
        usage = tuple(line["usage"].get(name, 0) for name in _SERVED)
        return cls(usage, is_whole=line["whole"], asked_bytes=line["asked_bytes"])

    def may_cost(self, tokens: Tokens) -> bool:
        """Whether somebody who left before its end is billed so.

        Before the first byte the whole of what was asked, by a guess; after it what the answer says of its input, and a
        guess at its output.
        """
        all_asked = (estimate_tokens(self.asked_bytes), 0, 0, 0)
        return tokens == all_asked or (tokens[0], *tokens[2:]) == (self.tokens[0], *self.tokens[2:])


@dataclass(frozen=True)
class Comparison:
    """Answers and bills that were held against each other."""

    equal: int
    left: int
    """Whole answers whose reader left before the end, and was billed what he may be."""
    missing: list[Tokens]
    """Whole answers without a bill."""
    surplus: list[Tokens]
    """Bills without an answer."""


def compare(answers: Iterable[Answer], bills: Iterable[Tokens]) -> Comparison:
    """Find a bill for each answer: first those of the same tokens, then what whoever left before the end may cost."""
    billed = Counter(bills)
    rest, equal = [], 0
    for answer in answers:
        if answer.is_whole and billed[answer.tokens]:
            billed[answer.tokens] -= 1
            equal += 1
        else:
            rest.append(answer)
    surplus, left = [], 0
    for tokens in billed.elements():
        match = next((answer for answer in rest if answer.may_cost(tokens)), None)
        if match is None:
            surplus.append(tokens)
        else:
            rest.remove(match)
            left += match.is_whole
    return Comparison(equal, left, [answer.tokens for answer in rest if answer.is_whole], surplus)
