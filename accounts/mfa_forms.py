"""allauth's forms of keys and passkeys, for which a credential that is none of a browser's is wrong input, no error."""

from typing import Any

from allauth.mfa.adapter import get_adapter
from allauth.mfa.models import Authenticator
from allauth.mfa.webauthn import forms

# What reading a made-up credential raises in fido2: missing names, other types, no base64, no CBOR.
_UNREADABLE = (AttributeError, KeyError, IndexError, TypeError, ValueError)


class AddKeyForm(forms.AddWebAuthnForm):
    """A new key or passkey."""

    def clean(self) -> dict[str, Any]:
        try:
            cleaned: dict[str, Any] = super().clean()
        except _UNREADABLE as error:
            raise get_adapter().validation_error("incorrect_code") from error
        return cleaned


class _Readable(forms.AuthenticateWebAuthnForm):
    def clean_credential(self) -> Authenticator:
        try:
            return super().clean_credential()
        except _UNREADABLE as error:
            raise get_adapter().validation_error("incorrect_code") from error


class KeyForm(_Readable):
    """A key as the second factor."""


class LoginKeyForm(_Readable, forms.LoginWebAuthnForm):
    """A passkey instead of a password."""


class ConfirmKeyForm(_Readable, forms.ReauthenticateWebAuthnForm):
    """A key once more, before something delicate."""
