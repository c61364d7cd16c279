"""How django-allauth behaves here: nobody signs up by themselves, and secrets are stored encrypted."""

import base64
import time
from typing import Any

import qrcode
from allauth.account.adapter import DefaultAccountAdapter
from allauth.account.authentication import get_authentication_records
from allauth.mfa.adapter import DefaultMFAAdapter
from cryptography.fernet import Fernet, MultiFernet
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from django.conf import settings
from django.contrib.auth.models import AbstractBaseUser
from django.http import HttpRequest
from django.utils.encoding import force_bytes
from qrcode.image.svg import SvgPathFillImage

_SILENT = {"account/messages/logged_in.txt", "account/messages/logged_out.txt"}


class AccountAdapter(DefaultAccountAdapter):
    """Accounts are made by admins."""

    def is_open_for_signup(self, request: HttpRequest) -> bool:
        return False

    def is_reauthentication_required(self, *, app: str, **kwargs: Any) -> bool:
        """Return whether the password is asked for once more: not of who signed in a moment ago."""
        records = get_authentication_records(self.request, self.request.user)
        newest = max((record["at"] for record in records), default=0.0)
        if time.time() - newest < settings.ACCOUNT_REAUTHENTICATION_TIMEOUT:
            return False
        return bool(super().is_reauthentication_required(app=app, **kwargs))

    def add_message(
        self, request: HttpRequest, level: int, message_template: str | None = None, *args: Any, **kwargs: Any
    ) -> None:
        """Tell the person, unless the page that follows says it already."""
        if message_template not in _SILENT:
            super().add_message(request, level, message_template, *args, **kwargs)


class MfaAdapter(DefaultMFAAdapter):
    """Who reads the database, or a backup of it, does not get anybody's second factor."""

    def get_totp_issuer(self) -> str:
        return "Eklavya"

    def get_totp_label(self, user: AbstractBaseUser) -> str:
        return user.get_username()

    def build_totp_svg(self, url: str) -> str:
        """Return the QR code on white: without a background a dark page swallows it."""
        drawing: str = qrcode.make(url, image_factory=SvgPathFillImage).to_string(encoding="unicode")
        return drawing

    def encrypt(self, text: str) -> str:
        return _fernet().encrypt(text.encode()).decode()

    def decrypt(self, encrypted_text: str) -> str:
        return _fernet().decrypt(encrypted_text.encode()).decode()


def _fernet() -> MultiFernet:
    """Encrypts with the secret key, and decrypts with those before it too (SECRET_KEY_FALLBACKS)."""
    return MultiFernet([_derived(force_bytes(key)) for key in (settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS)])


def _derived(secret_key: bytes) -> Fernet:
    derived = HKDF(algorithm=SHA256(), length=32, salt=None, info=b"eklavya.mfa").derive(secret_key)
    return Fernet(base64.urlsafe_b64encode(derived))
