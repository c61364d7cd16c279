"""The signature by which a receiver knows that a delivery is ours, and unchanged: Standard Webhooks, version 1.

https://www.standardwebhooks.com: HMAC-SHA256 over `{id}.{timestamp}.{body}`, in base64; while a secret is being
replaced there is one signature by each, with a blank between them.
"""

import base64
import hashlib
import hmac
import secrets
from collections.abc import Iterable
from datetime import datetime

from django.views.decorators.debug import sensitive_variables
from pydantic import SecretStr

from projects import sealing
from projects.models import WebhookEndpoint

_PREFIX = "whsec_"
_SECRET_BYTES = 32


def new_secret() -> SecretStr:
    """Return a secret as receivers' libraries take it: whsec_ and base64."""
    return SecretStr(_PREFIX + base64.b64encode(secrets.token_bytes(_SECRET_BYTES)).decode())


@sensitive_variables()
def secrets_of(endpoint: WebhookEndpoint, *, now: datetime) -> list[SecretStr]:
    """Return what a delivery is signed with now, the newest first. Raises SecretUnreadable."""
    sealed = [endpoint.secret]
    if endpoint.old_secret is not None and endpoint.old_secret_until and now < endpoint.old_secret_until:
        sealed.append(endpoint.old_secret)
    return [sealing.unseal(one, whose=endpoint.whose) for one in sealed]


@sensitive_variables()
def signature(keys: Iterable[SecretStr], *, message_id: str, timestamp: int, body: bytes) -> str:
    """Return the value of the header webhook-signature. `timestamp` is in seconds since 1970."""
    signed = f"{message_id}.{timestamp}.".encode() + body
    return " ".join(f"v1,{_hmac(key, signed)}" for key in keys)


@sensitive_variables()
def _hmac(key: SecretStr, signed: bytes) -> str:
    raw = base64.b64decode(key.get_secret_value().removeprefix(_PREFIX))
    return base64.b64encode(hmac.new(raw, signed, hashlib.sha256).digest()).decode()
