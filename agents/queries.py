"""Reads that several callers need."""

from agents.errors import UnknownToken
from agents.models import Run
from agents.states import ACTIVE_RUN
from agents.tokens import hash_token


def run_by_token(token: str) -> Run:
    """Return the active run that a token belongs to, with its task, project and agent. Raises UnknownToken."""
    run = (
        Run.objects.select_related("task", "project", "agent")
        .filter(token_hash=hash_token(token), status__in=ACTIVE_RUN)
        .first()
    )
    if run is None:
        raise UnknownToken
    return run
