"""Reads that several callers need."""

import hmac

from agents.errors import UnknownToken
from agents.models import Run
from agents.states import ACTIVE_RUN
from agents.tokens import hash_token


def run_by_token(token: str) -> Run:
    """Return the active run that a token belongs to, with its task, project and agent. Raises UnknownToken."""
    shown = hash_token(token)
    run = Run.objects.select_related("task", "project", "agent").filter(token_hash=shown, status__in=ACTIVE_RUN).first()
    # The index finds by a hash, of which nobody knows a token for a beginning; and compared in constant time besides.
    if run is None or not hmac.compare_digest(run.token_hash, shown):
        raise UnknownToken
    return run
