"""Whom the platform left without an answer because it failed itself, so that their agents are not blamed for it."""

import time
from collections.abc import Callable

from agents.tokens import hash_token

AWAY = "The platform's database does not answer at the moment. Ask again in a few seconds."
BROKEN = "That failed inside of the platform. Try once more."
ELSEWHERE = "Another process of this kind serves this run. Run one of them for each machine, not more."
SENTENCES = (AWAY, BROKEN, ELSEWHERE)
"""All that an agent is told when the platform fails to answer it; in its transcript they say that it did."""
# Whoever gives up because of it does so at once, or after a few more tries.
_BLAMED_S = 300.0
_MOST_REMEMBERED = 10_000


class Unserved:
    """Remembers since when. In memory: when it happens there is no database to write it down."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._since: dict[str, float] = {}

    def note(self, token: str) -> None:
        """Note that a request was not served. Nobody knows yet whether the token is good."""
        key = hash_token(token)
        self._since.pop(key, None)
        if len(self._since) >= _MOST_REMEMBERED:
            del self._since[next(iter(self._since))]
        self._since[key] = self._clock()

    def was(self, token: str) -> bool:
        """Whether that happened to this one, not long ago."""
        return self._clock() - self._since.get(hash_token(token), float("-inf")) < _BLAMED_S
