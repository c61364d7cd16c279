"""Reads that several callers need."""

import hmac
from uuid import UUID

from agents.errors import UnknownToken
from agents.models import Run
from agents.states import ACTIVE_RUN
from agents.tokens import hash_token
from projects.secrets import model_mode


def run_by_token(token: str) -> Run:
    """Return the active run that a token belongs to, with its task, project and agent. Raises UnknownToken."""
    return run_by_token_hash(hash_token(token))


def run_by_token_hash(shown: str) -> Run:
    """Return the same for a token's hash, which a gateway may remember. Raises UnknownToken."""
    run = Run.objects.select_related("task", "project", "agent").filter(token_hash=shown, status__in=ACTIVE_RUN).first()
    # The index finds by a hash, of which nobody knows a token for a beginning; and compared in constant time besides.
    if run is None or not hmac.compare_digest(run.token_hash, shown):
        raise UnknownToken
    return run


def is_simulated(project_id: UUID) -> bool:
    """Return whether nobody paid for what a project spent: the rehearsal model answered every run that began.

    Before the first one: whether it would.
    """
    begun = Run.objects.filter(project=project_id, started_at__isnull=False)
    if begun.filter(rehearsal=False).exists():
        return False
    return begun.exists() or model_mode(project_id) == "rehearsal"
