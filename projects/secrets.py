"""Using secrets: for code of the platform that talks to others. Nothing here is for pages, answers or logs."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal
from uuid import UUID

from django.conf import settings
from django.db.models import F, Q
from django.views.decorators.debug import sensitive_variables
from pydantic import SecretStr

from projects import sealing
from projects.errors import SecretUnreadable
from projects.models import Secret

MODEL_KEY = "ANTHROPIC_API_KEY"


@dataclass(frozen=True)
class ModelAccess:
    """Where a project's model requests go, and the key that pays for them; `repr` hides it."""

    url: str
    key: SecretStr
    source: Literal["project", "account", "environment", "rehearsal"]

    @property
    def is_kept(self) -> bool:
        """Whether somebody kept the key as a secret."""
        return self.source in {"project", "account"}


@sensitive_variables()
def model_access(project_id: UUID) -> ModelAccess:
    """Return the key of a project's model requests: its own, else the account's, else the environment's.

    With none of them the rehearsal model answers. One statement; whoever asks often may remember it for some seconds.
    Raises SecretUnreadable: another key would have somebody else pay.
    """
    secret = find(MODEL_KEY, project_id)
    if secret is not None:
        source: Literal["project", "account"] = "project" if secret.project_id else "account"
        return ModelAccess(settings.EKLAVYA_KEYED_MODEL_URL, reveal(secret), source)
    is_real = settings.EKLAVYA_MODEL_MODE == "real"
    key = SecretStr(settings.EKLAVYA_MODEL_KEY)
    return ModelAccess(settings.EKLAVYA_MODEL_URL, key, "environment" if is_real else "rehearsal")


def model_mode(project_id: UUID | None) -> Literal["real", "rehearsal"]:
    """Return what answers a project, or with None the house, without looking at any key."""
    is_real = settings.EKLAVYA_MODEL_MODE == "real" or find(MODEL_KEY, project_id) is not None
    return "real" if is_real else "rehearsal"


def rehearsing(project_ids: Collection[UUID]) -> frozenset[UUID]:
    """Return those of the projects that the rehearsal model answers. One statement at most."""
    if not project_ids or settings.EKLAVYA_MODEL_MODE == "real":
        return frozenset()
    with_key = set(Secret.objects.filter(name=MODEL_KEY).values_list("project_id", flat=True))
    return frozenset() if None in with_key else frozenset(project_ids) - with_key


def find(name: str, project_id: UUID | None) -> Secret | None:
    """Return the project's secret of this name, else the account's, else None."""
    found = Secret.objects.filter(Q(project_id=project_id) | Q(project_id=None), name=name)
    return found.order_by(F("project_id").asc(nulls_last=True)).first()


@sensitive_variables()
def reveal(secret: Secret) -> SecretStr:
    """Decrypt a secret. Raises SecretUnreadable, which names it and says what to do."""
    try:
        return sealing.unseal(secret.value, whose=secret.whose)
    except SecretUnreadable as error:
        raise SecretUnreadable(f"{secret}: {error}") from None
