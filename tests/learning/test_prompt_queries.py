"""Which prompt a run gets."""

from datetime import UTC, datetime

import pytest

from learning import actions
from learning.errors import NoActivePrompt
from learning.queries import active_prompt
from learning.shipped import shipped_prompt
from projects.actors import Actor
from projects.ids import new_id
from projects.roles import Role

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
BY = Actor.system("tests")
pytestmark = pytest.mark.django_db


def test_active_prompt_is_the_shipped_one_at_first() -> None:
    actions.load_prompts(by=BY, now=NOW)
    assert {role: active_prompt(role).text for role in Role} == {role: shipped_prompt(role) for role in Role}


def test_active_prompt_follows_an_activation() -> None:
    actions.load_prompts(by=BY, now=NOW)
    version = actions.write_prompt(Role.PM, "Ask less.", by=BY, now=NOW)
    assert active_prompt(Role.PM).id != version.pk
    actions.activate_prompt(version, by=BY, now=NOW)
    assert active_prompt(Role.PM) == (version.pk, "Ask less.")


def test_pinned_version_goes_before_the_active_one() -> None:
    actions.load_prompts(by=BY, now=NOW)
    version = actions.write_prompt(Role.PM, "Ask less.", by=BY, now=NOW)
    assert active_prompt(Role.PM, pinned=version.pk).text == "Ask less."


def test_pinned_version_of_another_role_or_none_is_passed_over() -> None:
    actions.load_prompts(by=BY, now=NOW)
    version = actions.write_prompt(Role.PM, "Ask less.", by=BY, now=NOW)
    assert active_prompt(Role.QA, pinned=version.pk) == active_prompt(Role.QA)
    assert active_prompt(Role.QA, pinned=new_id()) == active_prompt(Role.QA)


def test_role_without_prompt_is_refused_with_what_to_do() -> None:
    with pytest.raises(NoActivePrompt, match=r"load_prompts"):
        active_prompt(Role.PM)
