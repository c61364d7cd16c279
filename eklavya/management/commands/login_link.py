"""`manage.py login_link`: a fresh one-time sign-in link, for whoever has a shell on this machine."""

from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.contrib.auth.models import User
from django.core.management.base import BaseCommand, CommandError

from eklavya.login_links import make_link


class Command(BaseCommand):
    help = "Print an address that signs a person in once. It stands for the password, not for a second factor."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Whom it signs in."""
        parser.add_argument("user", nargs="?", help="name of the account (default: the first administrator)")

    def handle(self, *args: Any, user: str | None, **options: Any) -> None:
        """The link alone goes to stdout."""
        found = _find(user)
        self.stdout.write(make_link(found))
        self.stderr.write(f"signs {found.username} in, once, within {settings.LOGIN_LINK_MINUTES} minutes")


def _find(name: str | None) -> User:
    if name is None:
        found = first_admin()
        problem = "there is no active administrator: make one with `manage.py createsuperuser`"
    else:
        found = User.objects.filter(username=name, is_active=True).first()
        names = ", ".join(User.objects.filter(is_active=True).order_by("pk").values_list("username", flat=True)[:20])
        problem = f"there is no active account “{name}”; there are: {names or 'none'}"
    if found is None:
        raise CommandError(problem)
    return found


def first_admin() -> User | None:
    """The administrator that a start signs in."""
    return User.objects.filter(is_superuser=True, is_active=True).order_by("pk").first()
