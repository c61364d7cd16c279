"""Writing prompts and outcomes."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from django.db import ProgrammingError, connection, transaction

from learning import actions
from learning.errors import InvalidPrompt
from learning.models import Outcome, PromptVersion
from learning.states import PromptStatus
from projects.actors import Actor
from projects.errors import IllegalTransition
from projects.ids import new_id
from projects.models import AuditLog
from projects.roles import Role

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
LOADER = Actor.system("load_prompts")
pytestmark = pytest.mark.django_db


def load(read: Callable[[Role], str] = lambda role: f"You are {role}.") -> dict[Role, actions.Loaded]:
    return {loaded.role: loaded for loaded in actions.load_prompts(by=LOADER, now=NOW, read=read)}


def changed(role: Role) -> str:
    return f"You are {role}. Do better."


def active(role: Role = Role.QA) -> PromptVersion:
    return PromptVersion.objects.get(agent_type=role, status=PromptStatus.ACTIVE)


def facts(version: PromptVersion, *, succeeded: bool = True) -> actions.RunFacts:
    return actions.RunFacts(
        run_id=new_id(),
        project_id=new_id(),
        prompt_version_id=version.pk,
        succeeded=succeeded,
        reason="" if succeeded else "tests_failed",
        cost=Decimal("0.25"),
        duration_s=Decimal("61.5"),
        turns=7,
    )


def test_load_prompts_makes_an_active_first_version_of_every_role() -> None:
    results = load()
    assert {loaded.result for loaded in results.values()} == {"created"}
    assert set(PromptVersion.objects.values_list("agent_type", "version", "status")) == {
        (role.value, 1, "active") for role in Role
    }


def test_load_prompts_records_what_it_wrote() -> None:
    load()
    assert AuditLog.objects.filter(action="prompt.written", actor_name="load_prompts").count() == len(Role)
    assert AuditLog.objects.filter(action="prompt.activated").count() == len(Role)


def test_load_prompts_twice_changes_nothing() -> None:
    load()
    before = list(PromptVersion.objects.values()), AuditLog.objects.count()
    assert {loaded.result for loaded in load().values()} == {"unchanged"}
    assert (list(PromptVersion.objects.values()), AuditLog.objects.count()) == before


def test_load_prompts_makes_a_changed_file_the_next_version() -> None:
    load()
    assert load(changed)[Role.QA] == actions.Loaded(Role.QA, 2, "created")
    assert active().prompt_text == changed(Role.QA)
    assert PromptVersion.objects.get(agent_type=Role.QA, version=1).status == PromptStatus.RETIRED


def test_load_prompts_keeps_what_a_person_wrote() -> None:
    load()
    mine = actions.write_prompt(Role.QA, "Mine.", by=LOADER, now=NOW)
    actions.activate_prompt(mine, by=LOADER, now=NOW)
    results = load(changed)
    assert results[Role.QA].result == "kept"
    assert results[Role.UAT].result == "created"
    assert active().prompt_text == "Mine."


def test_load_prompts_keeps_an_older_version_that_a_person_went_back_to() -> None:
    load()
    load(changed)
    actions.activate_prompt(PromptVersion.objects.get(agent_type=Role.QA, version=1), by=LOADER, now=NOW)
    assert load(lambda role: "Third.")[Role.QA].result == "kept"
    assert active().version == 1


def test_load_prompts_rolled_back_leaves_nothing() -> None:
    def read(role: Role) -> str:
        if role is Role.MENTOR:
            raise OSError("unreadable")
        return "Text."

    with pytest.raises(OSError, match="unreadable"):
        load(read)
    assert not PromptVersion.objects.exists()
    assert not AuditLog.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_two_loads_at_once_make_one_version() -> None:
    together = threading.Barrier(2, timeout=20)

    def start() -> set[str]:
        try:
            together.wait()
            return {loaded.result for loaded in load().values()}
        finally:
            connection.close()

    with ThreadPoolExecutor(2) as pool:
        results = [future.result(timeout=60) for future in [pool.submit(start), pool.submit(start)]]
    assert sorted(results, key=str) == [{"created"}, {"unchanged"}]
    assert PromptVersion.objects.count() == len(Role)


def test_written_prompt_is_a_draft_of_the_next_number() -> None:
    load()
    version = actions.write_prompt(Role.QA, "  Look twice.\n", by=LOADER, now=NOW)
    assert (version.version, version.status, version.prompt_text) == (2, PromptStatus.DRAFT, "Look twice.")
    assert active().version == 1


@pytest.mark.parametrize("text", ["", " \n", "x" * (actions.MAX_PROMPT_CHARS + 1)])
def test_unusable_prompt_is_refused(text: str) -> None:
    with pytest.raises(InvalidPrompt):
        actions.write_prompt(Role.QA, text, by=LOADER, now=NOW)
    assert not PromptVersion.objects.exists()


def test_activating_the_active_version_is_refused() -> None:
    load()
    with pytest.raises(IllegalTransition):
        actions.activate_prompt(active(), by=LOADER, now=NOW)
    assert active().version == 1


def test_retired_draft_can_come_back() -> None:
    load()
    version = actions.write_prompt(Role.QA, "Look twice.", by=LOADER, now=NOW)
    actions.retire_prompt(version, by=LOADER, now=NOW)
    actions.activate_prompt(version, by=LOADER, now=NOW)
    assert active() == version


def test_active_version_cannot_be_retired() -> None:
    load()
    with pytest.raises(InvalidPrompt, match="is active"):
        actions.retire_prompt(active(), by=LOADER, now=NOW)


def test_text_of_a_version_cannot_change() -> None:
    load()
    with pytest.raises(ProgrammingError, match="Cannot update"), transaction.atomic():
        PromptVersion.objects.filter(agent_type=Role.QA).update(prompt_text="Other.")


def test_outcome_is_recorded_and_rates_its_version() -> None:
    load()
    version = active()
    for succeeded in (True, False, True):
        actions.record_outcome(facts(version, succeeded=succeeded), by=LOADER, now=NOW)
    version.refresh_from_db()
    assert version.success_rate == Decimal("0.6667")
    assert active(Role.UAT).success_rate is None
    assert AuditLog.objects.filter(action="outcome.recorded").count() == 3


def test_outcome_of_a_run_is_recorded_once() -> None:
    load()
    told = facts(active())
    first = actions.record_outcome(told, by=LOADER, now=NOW)
    again = actions.record_outcome(replace(told, succeeded=False), by=LOADER, now=NOW + timedelta(hours=1))
    assert (again, again.succeeded) == (first, True)
    assert Outcome.objects.count() == 1
    assert active().success_rate == 1
    assert AuditLog.objects.filter(action="outcome.recorded").count() == 1


def test_outcome_of_an_unknown_version_is_refused() -> None:
    load()
    with pytest.raises(PromptVersion.DoesNotExist):
        actions.record_outcome(replace(facts(active()), prompt_version_id=new_id()), by=LOADER, now=NOW)
    assert not Outcome.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_outcomes_at_once_are_all_in_the_rate() -> None:
    load()
    version = active()
    told = [facts(version, succeeded=number % 4 > 0) for number in range(8)]

    def report(one: actions.RunFacts) -> None:
        try:
            actions.record_outcome(one, by=LOADER, now=NOW)
        finally:
            connection.close()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(report, told, timeout=20))
    version.refresh_from_db()
    assert version.success_rate == Decimal("0.75")
