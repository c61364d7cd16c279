"""The installation's keys in a backup: only when asked for, and encrypted by a passphrase that is kept elsewhere."""

import json
import os
from base64 import b64decode, b64encode, urlsafe_b64encode
from pathlib import Path

from cryptography.fernet import Fernet, InvalidToken
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from eklavya.backups.manifest import BackupProblem
from eklavya.env import Env

LEAST_CHARS = 12
# 128 MB and about half a second a guess.
_COST = {"n": 2**17, "r": 8, "p": 1}
_FILES = {"secret_key": "EKLAVYA_SECRET_KEY", "secret_keys": "EKLAVYA_SECRET_KEYS"}


def seal(env: Env, passphrase: str) -> bytes:
    """Return the keys of Django and of the stored secrets, encrypted. Raises BackupProblem for a short passphrase."""
    if len(passphrase) < LEAST_CHARS:
        raise BackupProblem(f"The passphrase has {LEAST_CHARS} characters or more: it guards every stored secret.")
    salt = os.urandom(16)
    plain = json.dumps({"secret_key": env.secret_key, "secret_keys": "\n".join(env.secret_keys)})
    token = Fernet(_key(passphrase, salt)).encrypt(plain.encode()).decode()
    return json.dumps({"kdf": "scrypt", **_COST, "salt": b64encode(salt).decode(), "fernet": token}).encode()


def unseal(sealed: bytes, passphrase: str) -> dict[str, str]:
    """Return the content of each key file. Raises BackupProblem for another passphrase."""
    content = json.loads(sealed)
    try:
        plain = Fernet(_key(passphrase, b64decode(content["salt"]))).decrypt(content["fernet"].encode())
    except InvalidToken:
        raise BackupProblem("That is not the passphrase of this backup's keys.") from None
    found: dict[str, str] = json.loads(plain)
    return found


def write(var: Path, found: dict[str, str]) -> None:
    """Put the keys where an installation without EKLAVYA_SECRET_KEY and EKLAVYA_SECRET_KEYS looks for them.

    What is there (the first command of an installation makes keys) is kept as `….before-restore`.
    """
    for name in _FILES:
        if (var / name).exists():
            (var / name).replace(var / f"{name}.before-restore")
        draft = var / f".{name}.restored"
        draft.touch(mode=0o600)
        draft.chmod(0o600)
        draft.write_text(found[name], encoding="utf-8")
        draft.replace(var / name)


def overruled(env: Env) -> list[str]:
    """Return the variables that would be taken instead of restored keys."""
    return [variable for variable in _FILES.values() if getattr(env, variable)]


def _key(passphrase: str, salt: bytes) -> bytes:
    return urlsafe_b64encode(Scrypt(salt=salt, length=32, **_COST).derive(passphrase.encode()))
