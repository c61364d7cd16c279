from collections.abc import Iterator
from uuid import UUID

import pytest

from agents import prompts
from agents.prompts import Prompt, prompt_for
from eklavya.wiring import _prompt
from learning.actions import load_prompts
from learning.errors import NoActivePrompt
from projects.ids import new_id
from projects.roles import Role
from tests.factories import NOW, TESTER, PromptVersionFactory


@pytest.fixture
def _own_provider() -> Iterator[None]:
    yield
    prompts.register(_prompt)


@pytest.mark.usefixtures("_own_provider")
def test_the_registered_provider_answers() -> None:
    asked: list[tuple[Role, UUID | None]] = []
    prompt, version = Prompt(new_id(), "You build."), new_id()

    def provide(role: Role, version_id: UUID | None) -> Prompt:
        asked.append((role, version_id))
        return prompt

    prompts.register(provide)

    assert prompt_for(Role.DEVELOPER, version) == prompt
    assert asked == [(Role.DEVELOPER, version)]


@pytest.mark.django_db
@pytest.mark.parametrize("role", list(Role))
def test_every_role_has_a_shipped_prompt(role: Role) -> None:
    load_prompts(by=TESTER, now=NOW)

    assert prompt_for(role).text


@pytest.mark.django_db
def test_a_pinned_version_goes_before_the_active_one() -> None:
    load_prompts(by=TESTER, now=NOW)
    pinned = PromptVersionFactory(agent_type=Role.DEVELOPER, prompt_text="Another one.")

    assert prompt_for(Role.DEVELOPER, pinned.pk) == Prompt(pinned.pk, "Another one.")


@pytest.mark.django_db
def test_a_role_without_a_prompt_is_an_error_that_says_what_to_do() -> None:
    with pytest.raises(NoActivePrompt, match="load_prompts"):
        prompt_for(Role.DEVELOPER)
