"""Setting, replacing, removing and re-encrypting secrets. The record says which and who, never what."""

import re
from datetime import datetime

from django.views.decorators.debug import sensitive_variables
from pydantic import SecretStr

from projects import audit, sealing
from projects.actors import Actor
from projects.errors import InvalidSecret, SecretUnreadable
from projects.ids import new_id
from projects.models import Project, Secret, WebhookEndpoint

MAX_CHARS = 8_000
# Of a shorter one the end would give too much away.
_SHOWS_ITS_END = 16
_NAME = re.compile(r"[A-Z][A-Z0-9_]{0,63}")


@sensitive_variables()
def set_secret(project: Project | None, name: str, value: SecretStr, *, by: Actor, now: datetime) -> Secret:
    """Keep a secret of a project, or with None of the account; one of that name is replaced.

    Raises InvalidSecret for a name or value that cannot be one.
    """
    text = value.get_secret_value().strip()
    _check(name, text)
    with audit.journal(by=by, now=now) as journal:
        secret = Secret(id=new_id(), project=project, name=name, created_at=now)
        secret.value = sealing.seal(SecretStr(text), whose=secret.whose)
        secret.last_four = text[-4:] if len(text) >= _SHOWS_ITS_END else ""
        secret.changed_at, secret.changed_by_id = now, by.user_id
        # One row per name, whoever else sets it at this moment.
        Secret.objects.bulk_create(
            [secret],
            update_conflicts=True,
            unique_fields=["project", "name"],
            update_fields=["value", "last_four", "changed_at", "changed_by"],
        )
        secret = Secret.objects.get(project=project, name=name)
        details = {"name": name, "replaced": secret.created_at != now}
        journal.add("secret.set", project_id=secret.project_id, obj=secret, details=details)
    return secret


def _check(name: str, text: str) -> None:
    if not _NAME.fullmatch(name):
        raise InvalidSecret("A name is up to 64 capital letters, digits and underscores, such as ANTHROPIC_API_KEY.")
    if not text:
        raise InvalidSecret("The value is empty.")
    if len(text) > MAX_CHARS:
        raise InvalidSecret(f"The value has {len(text):,} characters; the limit is {MAX_CHARS:,}.")
    if any(char < " " and char not in "\n\r\t" for char in text):
        raise InvalidSecret("The value has control characters. Paste it as text.")


def remove_secret(secret: Secret, *, by: Actor, now: datetime) -> None:
    """Forget a secret."""
    with audit.journal(by=by, now=now) as journal:
        journal.add("secret.removed", project_id=secret.project_id, obj=secret, details={"name": secret.name})
        secret.delete()


@sensitive_variables()
def rotate_secrets(*, by: Actor, now: datetime) -> int:
    """Encrypt with the first key what another one encrypted, and return how many those were.

    All or nothing: raises SecretUnreadable, which names the secret, when one fits no key.
    """
    rotated = 0
    with audit.journal(by=by, now=now) as journal:
        for secret in Secret.objects.select_for_update().order_by("pk").iterator():
            rotated += _rotate(secret, "value")
        for endpoint in WebhookEndpoint.objects.select_for_update().order_by("pk").iterator():
            rotated += _rotate(endpoint, "secret") + _rotate(endpoint, "old_secret")
        if rotated:
            journal.add("secret.rotated", details={"secrets": rotated})
    return rotated


@sensitive_variables()
def _rotate(row: Secret | WebhookEndpoint, column: str) -> bool:
    """Encrypt a column anew, where there is something that the first key did not encrypt; return whether it was."""
    sealed = getattr(row, column)
    if sealed is None or sealing.is_current(sealed):
        return False
    try:
        value = sealing.unseal(sealed, whose=row.whose)
    except SecretUnreadable as error:
        raise SecretUnreadable(f"{row}: {error}") from None
    type(row)._default_manager.filter(pk=row.pk).update(**{column: sealing.seal(value, whose=row.whose)})
    return True
