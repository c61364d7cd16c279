"""Who is calling: the run that a token belongs to."""

from dataclasses import dataclass
from uuid import UUID

from starlette.datastructures import Headers

from agents import queries
from agents.egress import EgressClass
from agents.errors import UnknownToken
from agents.gateway.api_errors import ApiError
from agents.gateway.database import Database
from agents.gateway.holds import Holds, ServedElsewhere
from agents.gateway.remembering import Remembered
from agents.roles import policy_of
from agents.tokens import hash_token

# For so long a run may be over without its token being refused here.
_REMEMBERED_S = 3.0
# Where the run itself is looked at besides, as the cashier does each time. What its role may do is looked up again
# sooner, without anybody waiting for it.
LOOKED_AT_S = 600.0
_FRESH_S = 20.0
_RESEARCH = frozenset({EgressClass.RESEARCH, EgressClass.FULL})


@dataclass(frozen=True)
class Caller:
    """A run, as far as it does not change while it works."""

    run_id: UUID
    agent_id: UUID
    project_id: UUID
    model: str
    runtime: str = ""
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
    """Finds the run of a token, and remembers it for a few seconds. Tokens themselves are not kept.

    A run that another gateway serves is told to ask again: an ApiError.
    """

    def __init__(self, database: Database, holds: Holds) -> None:
        self._database = database
        self._holds = holds
        self._known: Remembered[str, Caller] = Remembered(self._look)

    async def of(self, headers: Headers, *, max_age_s: float = _REMEMBERED_S) -> Caller:
        """Return who shows a token of a run that was active at most `max_age_s` ago. Raises UnknownToken."""
        return await self._known.of(hash_token(token_of(headers)), fresh_s=_FRESH_S, usable_s=max_age_s)

    async def _look(self, token_hash: str) -> Caller:
        caller = await self._database.call(_caller, token_hash)
        try:
            await self._holds.take(caller.run_id)
        except ServedElsewhere as error:
            raise ApiError("overloaded_error", str(error), retry_after_s=1) from None
        return caller


def _caller(token_hash: str) -> Caller:
    run = queries.run_by_token_hash(token_hash)
    member = run.agent.member
    return Caller(
        run_id=run.pk,
        agent_id=run.agent_id,
        project_id=run.project_id,
        model=run.model,
        runtime=run.runtime,
        fallback_model=member.fallback_model if member else "",
        researches=policy_of(run).egress in _RESEARCH,
    )
