"""Migrates an empty database and fills it with what every house has, as two commands of a start do."""

import os

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.chaos.settings")
django.setup()

from django.core.management import call_command  # noqa: E402

if __name__ == "__main__":
    call_command("migrate", interactive=False, verbosity=0)
    call_command("setup")
