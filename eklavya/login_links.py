"""One-time links that sign somebody in: what `make run` prints before anybody has a password, and who is invited gets.

A link is signed and not stored. It holds the user's last login, so that it is used up by the sign-in it leads to,
and the moment it ends. Opening it shows a button; only pressing that signs in, so that a mail scanner or a browser that
fetches ahead does not use it up. It stands for the password: who has a second factor is still asked for that.
"""

from datetime import timedelta

from django.conf import settings
from django.contrib.auth.models import User
from django.core import signing
from django.urls import reverse
from django.utils import timezone

INVITATION = timedelta(days=3)
_SALT = "eklavya.login-link"


def make_link(user: User, *, lives: timedelta | None = None) -> str:
    """Return the address that signs `user` in once; for LOGIN_LINK_MINUTES unless `lives` says otherwise."""
    lives = lives or timedelta(minutes=settings.LOGIN_LINK_MINUTES)
    ends = int((timezone.now() + lives).timestamp())
    token = signing.dumps([user.pk, _state(user), ends], salt=_SALT)
    return f"{settings.EKLAVYA_PUBLIC_URL}{reverse('login_link', args=[token])}"


def find_user(token: str) -> User | None:
    """Return whom the link signs in; None when it is too old, used, or none of ours."""
    try:
        pk, state, ends = signing.loads(token, salt=_SALT)
    except (signing.BadSignature, ValueError, TypeError):
        return None
    if timezone.now().timestamp() >= ends:
        return None
    user = User.objects.filter(pk=pk, is_active=True).first()
    return user if user is not None and _state(user) == state else None


def _state(user: User) -> str:
    """Return what a sign-in or a new password changes."""
    last = user.last_login.isoformat() if user.last_login else ""
    return signing.Signer(salt=_SALT).signature(f"{last} {user.password}")
