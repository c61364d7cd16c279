"""Everything that is done to people and to keys. Each is recorded (`accounts.records`) in its transaction."""

import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from django.contrib.auth.models import AbstractUser, User
from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.db import transaction
from django.db.models import Q

from accounts import keys
from accounts.errors import InvalidKey, InvalidPerson, KeyRefused, LastAdmin
from accounts.models import ApiKey, Member
from accounts.records import record
from accounts.roles import AccountRole
from accounts.scopes import Scope

MAX_KEY_DAYS = 3_650
_USE_IS_NOTED_EVERY = timedelta(minutes=1)


def add_person(username: str, *, email: str, role: AccountRole, by: AbstractUser | None, now: datetime) -> User:
    """Make an account without a password; a link signs in for the first time. Raises InvalidPerson."""
    username = username.strip()
    try:
        User.username_validator(username)
        if email:
            validate_email(email)
    except ValidationError as error:
        raise InvalidPerson(" ".join(error.messages)) from error
    if not 0 < len(username) <= 150:
        raise InvalidPerson("A name has 1 to 150 characters.")
    with transaction.atomic():
        # Names that differ by case alone are one person to whoever reads them.
        if User.objects.filter(username__iexact=username).exists():
            raise InvalidPerson(f"There is already somebody called “{username}”.")
        user = User.objects.create_user(username, email=email, password=None)
        inviter = by if isinstance(by, User) else None
        Member.objects.create(user=user, role=role, invited_by=inviter, created_at=now)
        _mirror(user, role)
        record("person.added", user, details={"username": username, "role": role.value}, by=by, now=now)
    return user


def set_role(user: User, role: AccountRole, *, by: AbstractUser | None, now: datetime) -> None:
    """Give a person another role. Raises LastAdmin where nobody would be left to undo it."""
    with transaction.atomic():
        admins = _lock_admins()
        user.refresh_from_db()
        if role != AccountRole.ADMIN:
            _check_one_remains(admins, user)
        member, _ = Member.objects.get_or_create(user=user, defaults={"created_at": now})
        before = AccountRole.ADMIN if user.is_superuser else AccountRole(member.role)
        if before == role:
            return
        member.role = role
        member.save(update_fields=["role"])
        _mirror(user, role)
        details = {"username": user.username, "from": before.value, "to": role.value}
        record("person.role_changed", user, details=details, by=by, now=now)


def switch_off(user: User, *, by: AbstractUser | None, now: datetime) -> None:
    """Close an account: its sessions, links and keys end at once. Raises LastAdmin."""
    with transaction.atomic():
        _check_one_remains(_lock_admins(), user)
        if User.objects.filter(pk=user.pk, is_active=True).update(is_active=False):
            record("person.switched_off", user, details={"username": user.username}, by=by, now=now)
    user.is_active = False


def switch_on(user: User, *, by: AbstractUser | None, now: datetime) -> None:
    """Open an account again."""
    with transaction.atomic():
        if User.objects.filter(pk=user.pk, is_active=False).update(is_active=True):
            record("person.switched_on", user, details={"username": user.username}, by=by, now=now)
    user.is_active = True


def _lock_admins() -> set[int]:
    """Return who are the admins, locked until the end: two must not step back at once."""
    admins = User.objects.select_for_update().filter(is_superuser=True, is_active=True).order_by("pk")
    return set(admins.values_list("pk", flat=True))


def _check_one_remains(admins: set[int], user: User) -> None:
    if admins == {user.pk}:
        raise LastAdmin


def _mirror(user: User, role: AccountRole) -> None:
    """Repeat the role in the two flags that Django's own admin asks for."""
    user.is_staff = user.is_superuser = role == AccountRole.ADMIN
    user.save(update_fields=["is_staff", "is_superuser"])


# -- keys


@dataclass(frozen=True)
class NewKey:
    """What a key should be able to do. `days` until it expires; None for never."""

    name: str
    scopes: Sequence[str]
    project_id: UUID | None = None
    days: int | None = 90


def create_key(wanted: NewKey, *, owner: User, by: AbstractUser, now: datetime) -> tuple[ApiKey, str]:
    """Make a key that acts as `owner`. Returns it with its text, which is nowhere afterwards. Raises InvalidKey."""
    name, scopes = wanted.name.strip(), sorted(set(wanted.scopes))
    if not 0 < len(name) <= 100:
        raise InvalidKey("Give the key a name of 1 to 100 characters, such as the program that will use it.")
    if not scopes or not set(scopes) <= set(Scope.values):
        raise InvalidKey("Choose at least one scope; the known ones are " + ", ".join(Scope.values) + ".")
    if wanted.days is not None and not 0 < wanted.days <= MAX_KEY_DAYS:
        raise InvalidKey(f"A key lives 1 to {MAX_KEY_DAYS} days.")
    if not owner.is_active:
        raise InvalidKey(f"The account of {owner.username} is switched off.")
    text = keys.new_key_text()
    with transaction.atomic():
        key = ApiKey.objects.create(
            owner=owner,
            name=name,
            prefix=text.prefix,
            secret_hash=text.digest,
            scopes=scopes,
            project_id=wanted.project_id,
            created_by_id=by.pk,
            created_at=now,
            expires_at=now + timedelta(days=wanted.days) if wanted.days else None,
        )
        record("api_key.created", key, details=_key_details(key), by=by, now=now)
    return key, str(text)


def revoke_key(key: ApiKey, *, by: AbstractUser, now: datetime) -> None:
    """Have the key open nothing any more. A second time nothing happens."""
    with transaction.atomic():
        if ApiKey.objects.filter(pk=key.pk, revoked_at__isnull=True).update(revoked_at=now):
            record("api_key.revoked", key, details=_key_details(key), by=by, now=now)
    key.refresh_from_db(fields=["revoked_at"])


def _key_details(key: ApiKey) -> dict[str, object]:
    return {
        "name": key.name,
        "prefix": key.prefix,
        "owner": key.owner.username,
        "scopes": key.scopes,
        "project": str(key.project_id or ""),
        "expires_at": key.expires_at,
    }


def use_key(text: str, *, now: datetime) -> ApiKey:
    """Return the key that `text` is, with its owner, and note that it was used. Raises KeyRefused.

    An unknown prefix and a wrong secret get the same answer; that a key is over is told only to who has it whole.
    """
    given = keys.parse(text)
    key = ApiKey.objects.select_related("owner__member").filter(prefix=given.prefix).first() if given else None
    if given is None or key is None or not hmac.compare_digest(key.secret_hash, given.digest):
        raise KeyRefused("This API key is unknown.")
    if key.revoked_at is not None:
        raise KeyRefused("This API key was revoked.")
    if not key.is_live(now):
        raise KeyRefused("This API key has expired.")
    if not key.owner.is_active:
        raise KeyRefused("The account of this API key's owner is switched off.")
    due = Q(last_used_at__isnull=True) | Q(last_used_at__lt=now - _USE_IS_NOTED_EVERY)
    if key.last_used_at is None or key.last_used_at < now - _USE_IS_NOTED_EVERY:
        ApiKey.objects.filter(due, pk=key.pk).update(last_used_at=now)
    return key
