from typing import Any

import pytest

from agents.actions import messages, outcomes, verbs
from agents.errors import RunEnded, VerbRefused
from agents.models import Message, Run
from agents.states import MessageType
from projects.actions import workflows
from projects.actions.workflows import Start
from projects.errors import InvalidPlan, InvalidRequirements
from projects.models import AuditLog, Task
from projects.states import TaskKind
from projects.workflows.definition import Definition
from projects.workflows.documents import Document
from tests.factories import NOW, TESTER, AgentFactory, MessageFactory, ProjectFactory, RunFactory, TaskFactory
from tests.projects.lives import begin

pytestmark = pytest.mark.django_db
NODE = {"key": "a", "title": "A", "role": "developer", "depends_on": [], "estimate_minutes": 5}


def run_of(kind: TaskKind, **task: Any) -> Run:
    return RunFactory(status="running", task=TaskFactory(kind=kind, status="in_progress", **task))


def test_end_run_stores_the_claim_and_changes_no_status() -> None:
    run = run_of(TaskKind.BUILD)

    verbs.end_run(run, "task_complete", {"summary": "done"}, now=NOW)

    run.refresh_from_db()
    assert run.outcome == {"verb": "task_complete", "args": {"summary": "done"}}
    assert (run.status, run.task.status) == ("running", "in_progress")
    assert AuditLog.objects.filter(action="agent.task_complete", agent_id=run.agent_id).exists()


def test_end_run_is_refused_the_second_time() -> None:
    run = run_of(TaskKind.BUILD)
    verbs.end_run(run, "task_complete", {"summary": "done"}, now=NOW)

    with pytest.raises(RunEnded):
        verbs.end_run(run, "task_failed", {"reason": "no"}, now=NOW)

    run.refresh_from_db()
    assert run.outcome["verb"] == "task_complete"


def test_step_whose_result_decides_what_follows_must_return_it() -> None:
    ways = [{"from": "look", "to": "mend", "when": "result.found > 0"}]
    nodes = [{"key": key, "role": "developer", "title": key} for key in ("look", "mend")]
    definition = Definition.from_json({"nodes": nodes, "edges": ways})
    workflow = workflows.save_workflow(Document("w", "W", "", definition), by=TESTER, now=NOW)
    project = ProjectFactory(status="building")
    execution = workflows.start_execution(workflow, Start(), project=project, by=TESTER, now=NOW)
    step = execution.nodes.get(key="look").task
    run = RunFactory(status="running", task=begin(step))

    for wrong in ({}, {"found": "two"}):
        with pytest.raises(VerbRefused, match="What follows this step depends on its result"):
            verbs.end_run(run, "task_complete", {"summary": "", "result": wrong}, now=NOW)
    verbs.end_run(run, "task_complete", {"summary": "", "result": {"found": 2}}, now=NOW)

    run.refresh_from_db()
    outcomes.deliver(run, {"commit": "c0ffee", "changed": []}, now=NOW)
    assert execution.nodes.get(key="look").result == {"found": 2, "summary": "", "commit": "c0ffee", "changed": []}
    assert execution.nodes.get(key="mend").status == "running"


@pytest.mark.parametrize(
    ("kind", "verb"),
    [
        (TaskKind.REQUIREMENTS, "task_complete"),
        (TaskKind.PLAN, "submit_demo"),
        (TaskKind.BUILD, "submit_demo"),
        (TaskKind.DEMO, "task_complete"),
        (TaskKind.MENTOR, "ask_mentor"),
    ],
)
def test_end_run_refuses_a_verb_that_does_not_end_such_a_task(kind: TaskKind, verb: str) -> None:
    run = run_of(kind)

    with pytest.raises(VerbRefused, match=verb):
        verbs.end_run(run, verb, {}, now=NOW)

    run.refresh_from_db()
    assert run.outcome == {}


def test_submit_plan_with_a_cycle_is_refused_and_may_be_mended() -> None:
    run = run_of(TaskKind.PLAN)
    circle = [NODE | {"depends_on": ["b"]}, NODE | {"key": "b", "depends_on": ["a"]}]

    with pytest.raises(InvalidPlan, match="circle"):
        verbs.end_run(run, "submit_plan", {"summary": "", "tasks": circle}, now=NOW)

    verbs.end_run(run, "submit_plan", {"summary": "", "tasks": [NODE]}, now=NOW)
    run.refresh_from_db()
    assert run.outcome["verb"] == "submit_plan"


def test_submit_requirements_without_criteria_is_refused() -> None:
    run = run_of(TaskKind.REQUIREMENTS)
    draft = {"title": "Lend", "body": "", "acceptance_criteria": []}

    with pytest.raises(InvalidRequirements, match="criterion"):
        verbs.end_run(run, "submit_requirements", {"project_name": "x", "requirements": [draft]}, now=NOW)


def test_the_client_is_asked_only_once() -> None:
    run = run_of(TaskKind.REQUIREMENTS, context={"questions": [{"question": "Who?", "answer": "We."}]})

    with pytest.raises(VerbRefused, match="asked before"):
        verbs.end_run(run, "ask_client", {"questions": []}, now=NOW)


def test_the_mentor_answers_three_times_at_most() -> None:
    run = run_of(TaskKind.BUILD, context={"mentor": [{"question": "?", "reply": "!"}] * 3})

    with pytest.raises(VerbRefused, match="task_blocked"):
        verbs.end_run(run, "ask_mentor", {"question": "?"}, now=NOW)


def test_report_progress_moves_the_bar_alone() -> None:
    run = run_of(TaskKind.BUILD)

    verbs.report_progress(run, 40, "half of the pages", now=NOW)

    task = Task.objects.get(pk=run.task_id)
    assert (task.progress, task.detail, task.status) == (40, "half of the pages", "in_progress")


def test_read_messages_gives_each_once_in_order() -> None:
    run = run_of(TaskKind.BUILD)
    first = MessageFactory(project=run.project, to_agent=run.agent, payload={"body": "1"})
    second = MessageFactory(project=run.project, to_role="developer", payload={"body": "2"})
    MessageFactory(project=run.project, to_role="tester")
    MessageFactory()

    read = verbs.read_messages(run, now=NOW)

    assert [message["data"] for message in read] == [first.payload, second.payload]
    assert verbs.read_messages(run, now=NOW) == []


def test_send_message_reaches_an_agent_by_name() -> None:
    run = run_of(TaskKind.BUILD)
    other = AgentFactory(project=run.project, name="ada")

    verbs.send_message(run, other.name, "please look", now=NOW)

    message = Message.objects.get()
    assert (message.from_agent, message.to_agent) == (run.agent, other)
    assert message.payload == {"body": "please look"}


def test_send_message_to_a_stranger_is_refused() -> None:
    run = run_of(TaskKind.BUILD)
    AgentFactory(name="of-another-project")

    with pytest.raises(VerbRefused, match="Nobody"):
        verbs.send_message(run, "of-another-project", "hello", now=NOW)


NUDGE = "<system-reminder>\nThe TodoWrite tool hasn't been used recently.\n</system-reminder>"


def test_what_the_cli_told_an_agent_does_not_become_its_question() -> None:
    run = run_of(TaskKind.REQUIREMENTS)
    option = f"Red\n{NUDGE}"
    asked = {"question": f"Which?\n\n{NUDGE}\n", "options": [option], "recommended": option}
    verbs.end_run(run, "ask_client", {"questions": [asked]}, now=NOW)
    run.refresh_from_db()
    own = {"question": "Which?", "options": ["Red"], "recommended": "Red"}
    assert run.outcome["args"] == {"questions": [own]}
    assert "TodoWrite" not in str(AuditLog.objects.get(action="agent.ask_client").details)


def test_what_the_client_wrote_stays_in_a_question() -> None:
    run = run_of(TaskKind.BUILD)
    run.project.description = f"Our mails end with:\n{NUDGE}"
    verbs.end_run(run, "task_blocked", {"reason": f"What of this?\n{NUDGE}"}, now=NOW)
    run.refresh_from_db()
    assert run.outcome["args"]["reason"].endswith(NUDGE)


def test_question_of_nothing_but_the_clis_words_is_refused() -> None:
    with pytest.raises(VerbRefused, match="your own words"):
        verbs.end_run(run_of(TaskKind.BUILD), "ask_mentor", {"question": NUDGE}, now=NOW)


@pytest.mark.parametrize(
    ("questions", "problem"),
    [
        ([{"question": "Which?"}, {"question": "When?"}], "recommends"),
        ([{"question": "Which?", "options": ["a", "b"], "recommended": "c"}], "word for word"),
        ([{"question": "Which?", "options": ["a", "b"]}], "word for word"),
    ],
)
def test_one_input_answers_what_the_client_is_asked(questions: list[dict[str, Any]], problem: str) -> None:
    run = run_of(TaskKind.REQUIREMENTS)
    with pytest.raises(VerbRefused, match=problem):
        verbs.end_run(run, "ask_client", {"questions": questions}, now=NOW)
    verbs.end_run(run, "ask_client", {"questions": [{"question": "Which?"}]}, now=NOW)


def test_a_message_is_sent_once_per_key() -> None:
    run = run_of(TaskKind.BUILD)
    first = messages.post(run.project_id, MessageType.CHECKPOINT, {}, sender=None, key="k", now=NOW)
    again = messages.post(run.project_id, MessageType.CHECKPOINT, {"other": 1}, sender=None, key="k", now=NOW)

    assert first == again
    assert Message.objects.count() == 1
