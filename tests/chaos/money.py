"""What the model served against what was billed for it, answer by answer."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from agents.gateway.metering import estimate_tokens

_SERVED = ("input_tokens", "output_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")
_MOST_LOST = 3
Tokens = tuple[int, ...]
"""Read, written, written to the cache, read from it."""


@dataclass(frozen=True)
class Answer:
    """One answer of the model, as the witness saw it leave."""

    tokens: Tokens
    is_whole: bool
    asked_bytes: int
    """Length of the request."""
    sent_bytes: int
    """Length of what left of it."""

    @classmethod
    def read(cls, line: dict[str, Any]) -> "Answer":
        """Return it from a line of the witness."""
        usage = tuple(line["usage"].get(name, 0) for name in _SERVED)
        return cls(usage, is_whole=line["whole"], asked_bytes=line["asked_bytes"], sent_bytes=line["sent_bytes"])

    def may_cost(self, tokens: Tokens) -> bool:
        """Whether somebody who left before its end is billed so.

        Before the first byte the whole of what was asked, by a guess; after it what the answer says of its input, and
        of its output at most what it says or what all its bytes would be guessed at.
        """
        all_asked = (estimate_tokens(self.asked_bytes), 0, 0, 0)
        is_input_right = (tokens[0], *tokens[2:]) == (self.tokens[0], *self.tokens[2:])
        return tokens == all_asked or (is_input_right and 0 <= tokens[1] <= self.most_output)

    def may_cost_again(self, tokens: Tokens) -> bool:
        """Whether somebody is billed so whose gateway asked more than once: as a whole, beside it a guess at the whole
        request for each time that nobody answered, since the model may have read it."""
        more = tokens[0] - self.tokens[0]
        return self.is_whole and tokens[1:] == self.tokens[1:] and more in self._guesses

    @property
    def _guesses(self) -> set[int]:
        return {times * estimate_tokens(self.asked_bytes) for times in range(1, _MOST_LOST + 1)}

    @property
    def most_output(self) -> int:
        """The most tokens of output that somebody who left before its end is billed."""
        return max(self.tokens[1], estimate_tokens(self.sent_bytes))


@dataclass(frozen=True)
class Comparison:
    """Answers and bills that were held against each other."""

    equal: int
    left: int
    """Whole answers whose reader left before the end, and was billed what he may be."""
    again: int
    """Whole answers that the gateway asked for more than once, as nobody answered before."""
    missing: list[Tokens]
    """Whole answers without a bill."""
    surplus: list[Tokens]
    """Bills without an answer."""


def compare(answers: Iterable[Answer], bills: Iterable[Tokens]) -> Comparison:
    """Find a bill for each answer: first those of the same tokens, then what whoever left before the end may cost."""
    billed = Counter(bills)
    rest, equal = [], 0
    served = list(answers)
    alike: dict[Tokens, list[Answer]] = {}
    for answer in served:
        if answer.is_whole:
            alike.setdefault(answer.tokens, []).append(answer)
    for answer in served:
        if answer.is_whole and billed[answer.tokens]:
            billed[answer.tokens] -= 1
            equal += 1
        else:
            rest.append(answer)
    surplus, left, again = [], 0, 0
    # Those that few explain choose first, and take what needs a bill before what needs none.
    rest.sort(key=lambda answer: not answer.is_whole)
    for tokens in sorted(billed.elements(), key=lambda tokens: -tokens[1]):
        match = next((answer for answer in rest if answer.may_cost(tokens)), None)
        # Of answers of the same tokens nobody knows which of them has the bill that equals them.
        repeated = next((one for one in rest if any(a.may_cost_again(tokens) for a in alike.get(one.tokens, []))), None)
        if match is None and repeated:
            rest.remove(repeated)
            again += 1
        elif match is None:
            surplus.append(tokens)
        else:
            rest.remove(match)
            left += match.is_whole
    return Comparison(equal, left, again, [answer.tokens for answer in rest if answer.is_whole], surplus)
