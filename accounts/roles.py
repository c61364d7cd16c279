"""What a person may do: one of three account roles, each with all rights of the one below it."""

from typing import TYPE_CHECKING

from django.core.exceptions import ObjectDoesNotExist
from django.db import models

if TYPE_CHECKING:
    from django.contrib.auth.models import AbstractUser, AnonymousUser


class AccountRole(models.TextChoices):
    """The account roles, from the fewest rights to all. Not an agent's role (`projects.roles`)."""

    # sees everything, changes nothing but their own password and second factor
    VIEWER = "viewer", "Viewer"
    # works with projects: briefs, conversation, decisions, pause and resume, feedback
    OPERATOR = "operator", "Operator"
    # also money limits, settings, people, prompts, workers, API keys, and Django's admin
    ADMIN = "admin", "Admin"


RIGHTS: dict[AccountRole, str] = {
    AccountRole.VIEWER: "sees everything and changes nothing",
    AccountRole.OPERATOR: "works with projects: briefs, conversation, decisions, pause and resume, feedback",
    AccountRole.ADMIN: "also money limits, settings, people, prompts, workers and API keys",
}
_RANKS = {role: rank for rank, role in enumerate(AccountRole)}


def role_of(user: "AbstractUser | AnonymousUser") -> AccountRole | None:
    """Return the role; None for who is not signed in or switched off. Superusers are admins, row or not.

    Whoever has no row, because nobody gave them a role, is a viewer.
    """
    if not (user.is_authenticated and user.is_active):
        return None
    if getattr(user, "is_superuser", False):
        return AccountRole.ADMIN
    try:
        return AccountRole(user.member.role)  # type: ignore[attr-defined]  # mypy sees no reverse relation
    except ObjectDoesNotExist:
        return AccountRole.VIEWER


def refusal(user: "AbstractUser | AnonymousUser", needed: AccountRole) -> str:
    """Return why `user` may not do what needs this role, as a sentence for them; empty when they may."""
    role = role_of(user)
    if role is None:
        return "Your account is switched off." if user.is_authenticated else "Sign in first."
    if _RANKS[role] >= _RANKS[needed]:
        return ""
    return f"Your role is {role.label.lower()}; this needs the role {needed.label.lower()}. An admin can change it."
