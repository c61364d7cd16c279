"""The table of the nine types is what the code does."""

from pathlib import Path
from typing import Any

import pytest
from django.conf import settings

from agents import bus
from agents.actions import messages, verbs
from agents.models import Message
from agents.states import MessageType
from projects.states import TaskKind
from tests.factories import NOW, ProjectFactory, RequirementFactory, RunFactory, TaskFactory

pytestmark = pytest.mark.django_db
DRAFT = {"key": "more", "title": "More", "role": "qa", "description": "", "depends_on": [], "acceptance_criteria": []}
ENDINGS: dict[str, tuple[TaskKind, dict[str, Any]]] = {
    "task_complete": (TaskKind.BUILD, {"summary": "done"}),
    "submit_requirements": (
        TaskKind.REQUIREMENTS,
        {"project_name": "", "requirements": [{"title": "Lend", "acceptance_criteria": ["It lends."]}]},
    ),
    "submit_plan": (TaskKind.PLAN, {"summary": "", "tasks": [DRAFT]}),
    "submit_demo": (TaskKind.DEMO, {"summary": "done"}),
    "task_failed": (TaskKind.BUILD, {"reason": "no"}),
    "task_blocked": (TaskKind.BUILD, {"reason": "no"}),
    "ask_client": (TaskKind.REQUIREMENTS, {"questions": [{"question": "Which?"}]}),
    "ask_mentor": (TaskKind.BUILD, {"question": "Which?"}),
    "reply_mentor": (TaskKind.MENTOR, {"reply": "That."}),
}
# A checkpoint needs a clone: see `tests/agents/supervisor`.
SENT = [(kind, verb) for kind, of in bus.BUS.items() for verb in of.verbs if verb != "save_checkpoint"]


def call(verb: str) -> str:
    """Have an agent call a verb; return what it is told."""
    kind, args = ENDINGS.get(verb, (TaskKind.BUILD, {}))
    project = ProjectFactory(status="building")
    RequirementFactory(project=project)
    run = RunFactory(task=TaskFactory(project=project, kind=kind, status="in_progress"), status="running")
    match verb:
        case "report_progress":
            return verbs.report_progress(run, 10, "x", now=NOW)
        case "send_message":
            return verbs.send_message(run, "broadcast", "x", now=NOW)
        case "add_tasks":
            return verbs.add_tasks(run, [DRAFT], now=NOW)
        case _:
            return verbs.end_run(run, verb, args, now=NOW)


@pytest.mark.parametrize(("kind", "verb"), SENT)
def test_each_type_is_sent_with_the_verbs_of_the_table(kind: MessageType, verb: str) -> None:
    call(verb)
    assert kind in set(Message.objects.values_list("message_type", flat=True))


def test_all_nine_types_are_in_the_table_and_every_ending_verb_sends_one() -> None:
    assert set(bus.BUS) == set(MessageType)
    assert len(bus.BUS) == 9
    assert {verb for of in bus.BUS.values() for verb in of.verbs} >= verbs.ENDING_VERBS


def test_a_heartbeat_is_never_a_row() -> None:
    with pytest.raises(ValueError, match="no row"):
        messages.post(ProjectFactory().pk, MessageType.HEARTBEAT, {}, sender=None, key="k", now=NOW)


def test_new_tasks_are_told_to_the_roles_that_do_them() -> None:
    call("add_tasks")
    told = Message.objects.get(message_type=MessageType.TASK_ASSIGN)
    assert (told.to_role, told.payload["tasks"]) == ("qa", [{"key": "more", "title": "More"}])


@pytest.mark.parametrize("verb", ["ask_mentor", "ask_client", "task_blocked"])
def test_who_asks_is_told_not_to_wait(verb: str) -> None:
    assert "you are told it when the task goes on" in call(verb)
    assert "you are told" not in call("task_complete")


def test_the_page_shows_the_table() -> None:
    assert bus.table() in (Path(settings.BASE_DIR) / "docs" / "messages.md").read_text(encoding="utf-8")
