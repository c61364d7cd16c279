"""Who is calling: the run that a token belongs to."""

import time
from dataclasses import dataclass
from uuid import UUID

from starlette.datastructures import Headers

from agents import queries
from agents.egress import EgressClass
from agents.errors import UnknownToken
from agents.gateway.database import Database
from agents.roles import policy_of
from agents.tokens import hash_token

# For so long a run may be over without its token being refused here.
_REMEMBERED_S = 3.0
# Where the run itself is looked at besides, as the cashier does each time.
LOOKED_AT_S = 60.0
_RESEARCH = frozenset({EgressClass.RESEARCH, EgressClass.FULL})
_MOST_REMEMBERED = 4_096


@dataclass(frozen=True)
class Caller:
    """A run, as far as it does not change while it works."""

    run_id: UUID
    agent_id: UUID
    project_id: UUID
    model: str
    fallback_model: str = ""
    researches: bool = False
    """Whether its role may read the web, be it by the model's hand."""


def token_of(headers: Headers) -> str:
    """Return the token that was shown, as a bearer or as an API key. Raises UnknownToken when there is none."""
    scheme, _, bearer = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and bearer.strip():
        return bearer.strip()
    if key := headers.get("x-api-key", "").strip():
        return key
    raise UnknownToken


class Callers:
    """Finds the run of a token, and remembers it for a few seconds. Tokens themselves are not kept."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._known: dict[str, tuple[float, Caller]] = {}

    async def of(self, headers: Headers, *, max_age_s: float = _REMEMBERED_S) -> Caller:
        """Return who shows a token of a run that was active at most `max_age_s` ago. Raises UnknownToken."""
        token = token_of(headers)
        key = hash_token(token)
        since, caller = self._known.get(key, (0.0, None))
        if caller is None or since + max_age_s < time.monotonic():
            caller = await self._database.call(_caller, token)
            self._remember(key, caller)
        return caller

    def _remember(self, key: str, caller: Caller) -> None:
        now = time.monotonic()
        if len(self._known) >= _MOST_REMEMBERED:
            self._known = {key: kept for key, kept in self._known.items() if kept[0] + LOOKED_AT_S >= now}
        self._known[key] = (now, caller)


def _caller(token: str) -> Caller:
    run = queries.run_by_token(token)
    member = run.agent.member
    return Caller(
        run_id=run.pk,
        agent_id=run.agent_id,
        project_id=run.project_id,
        model=run.model,
        fallback_model=member.fallback_model if member else "",
        researches=policy_of(run).egress in _RESEARCH,
    )
