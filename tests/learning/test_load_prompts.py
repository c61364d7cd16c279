"""manage.py load_prompts"""

from io import StringIO

import pytest
from django.core.management import call_command

from projects.roles import Role

pytestmark = pytest.mark.django_db


def run() -> list[str]:
    out = StringIO()
    call_command("load_prompts", stdout=out)
    return out.getvalue().splitlines()


def test_command_says_what_it_did_for_each_role() -> None:
    assert run()[0].split(maxsplit=2) == ["orchestrator", "v1", "new, active"]
    again = run()
    assert len(again) == len(Role)
    assert all(line.endswith("unchanged") for line in again)
