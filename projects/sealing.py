"""Encryption of secrets at rest: what the database holds is of no use without the keys, which are kept elsewhere.

The first of the settings' EKLAVYA_SECRET_KEYS encrypts, all of them decrypt (docs/adr/0007-secrets.md). A sealed value
names whose it is, inside: copied into another row it does not open.
"""

import json
from base64 import urlsafe_b64encode
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NoReturn

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from django.conf import settings
from django.db import models
from django.views.decorators.debug import sensitive_variables
from pydantic import SecretStr

from projects.errors import SecretUnreadable

if TYPE_CHECKING:
    _TextField = models.TextField["Sealed", "Sealed"]
else:  # not generic at run time
    _TextField = models.TextField

_HIDDEN = "<sealed>"


class Sealed:
    """An encrypted value as it is stored. It shows itself nowhere: not in repr, text, JSON or a pickle."""

    __slots__ = ("token",)

    def __init__(self, token: str) -> None:
        self.token = token

    def __repr__(self) -> str:
        return _HIDDEN

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sealed) and self.token == other.token

    def __hash__(self) -> int:
        return hash(self.token)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a sealed value is not pickled")


@sensitive_variables()
def seal(value: SecretStr, *, whose: str) -> Sealed:
    """Encrypt with the first key. `whose` has to be named again to open it."""
    text = json.dumps([whose, value.get_secret_value()])
    return Sealed(_fernets()[0].encrypt(text.encode()).decode())


@sensitive_variables()
def unseal(sealed: Sealed, *, whose: str) -> SecretStr:
    """Decrypt. Raises SecretUnreadable when no key fits, or when it is somebody else's."""
    try:
        found, value = json.loads(MultiFernet(_fernets()).decrypt(sealed.token.encode()))
    except InvalidToken:
        raise SecretUnreadable from None
    if found != whose:
        raise SecretUnreadable("This secret was copied here from elsewhere. Set it anew.")
    return SecretStr(value)


def is_current(sealed: Sealed) -> bool:
    """Whether the first key encrypted it, so that the others are not needed."""
    try:
        _fernets()[0].decrypt(sealed.token.encode())
    except InvalidToken:
        return False
    return True


def _fernets() -> tuple[Fernet, ...]:
    return _derived(tuple(settings.EKLAVYA_SECRET_KEYS))


@lru_cache(maxsize=4)
def _derived(keys: tuple[str, ...]) -> tuple[Fernet, ...]:
    """Make a key of Fernet's form from each configured text; these are long and random, so no slow hash is needed."""
    return tuple(Fernet(urlsafe_b64encode(_hkdf().derive(key.encode()))) for key in keys)


def _hkdf() -> HKDF:
    return HKDF(algorithm=SHA256(), length=32, salt=None, info=b"eklavya secrets")


class SealedField(_TextField):
    """A column of sealed values. It takes nothing else, gives nothing else, and cannot be searched or compared."""

    def from_db_value(self, value: str | None, *_: Any) -> Sealed | None:
        return None if value is None else Sealed(value)

    def to_python(self, value: Any) -> Any:
        return value

    def get_prep_value(self, value: Any) -> str | None:
        if value is None:
            return None
        if not isinstance(value, Sealed):
            raise TypeError("only sealed values are stored here: use actions.secrets.set_secret")
        return value.token

    def value_to_string(self, obj: models.Model) -> str:
        return _HIDDEN

    def get_lookup(self, lookup_name: str) -> Any:
        # Equal values have different tokens, and nobody is to guess one by asking.
        return super().get_lookup(lookup_name) if lookup_name == "isnull" else None

    def get_transform(self, lookup_name: str) -> None:
        return None
