"""One-time links that sign somebody in: what `make run` prints before anybody has a password, and who is invited gets.

A link is signed and not stored. Signed with it are the moment it ends and the user's last login, so that it is used up
by the sign-in it leads to. It fits into one line of a terminal of 80 columns, so that a click there takes all of it.
Opening it shows a button; only pressing that signs in, so that a mail scanner or a browser that fetches ahead does not
use it up. It stands for the password: who has a second factor is still asked for that.
"""

from datetime import timedelta

from django.conf import settings
from django.contrib.auth.models import User
from django.core import signing
from django.urls import reverse
from django.utils import timezone
from django.utils.crypto import constant_time_compare
from django.utils.http import base36_to_int, int_to_base36

INVITATION = timedelta(days=3)
_SALT = "eklavya.login-link"
# Of a signature in base64: 132 bits.
_SIGNATURE_CHARACTERS = 22


def make_link(user: User, *, lives: timedelta | None = None) -> str:
    """Return the address that signs `user` in once; for LOGIN_LINK_MINUTES unless `lives` says otherwise."""
    lives = lives or timedelta(minutes=settings.LOGIN_LINK_MINUTES)
    ends = int((timezone.now() + lives).timestamp())
    token = f"{int_to_base36(user.pk)}-{int_to_base36(ends)}-{_signatures(user, ends)[0]}"
    return f"{settings.EKLAVYA_PUBLIC_URL}{reverse('login_link', args=[token])}"


def find_user(token: str) -> User | None:
    """Return whom the link signs in; None when it is too old, used, or none of ours."""
    try:
        pk, ends, signature = token.split("-", 2)
        user = User.objects.filter(pk=base36_to_int(pk), is_active=True).first()
        ends_at = base36_to_int(ends)
    except (ValueError, OverflowError):
        return None
    if user is None or timezone.now().timestamp() >= ends_at:
        return None
    good = [constant_time_compare(signature, one) for one in _signatures(user, ends_at)]
    return user if any(good) else None


def _signatures(user: User, ends: int) -> list[str]:
    """Sign the link, and what a sign-in or a new password changes, with each secret key, the present one first."""
    last = user.last_login.isoformat() if user.last_login else ""
    signer = signing.Signer(salt=_SALT)
    text = f"{user.pk} {ends} {last} {user.password}"
    return [signer.signature(text, key)[:_SIGNATURE_CHARACTERS] for key in (signer.key, *signer.fallback_keys)]
