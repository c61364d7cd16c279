"""What each role does next, given what happened before."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from agents.rehearsal.context import ToolResult, find_context
from agents.rehearsal.scripts import play
from agents.rehearsal.scripts.engine import Call, tail
from tests.agents.rehearsal.rehearsal_support import BUILTIN, TOOL_LIBRARY, VERBS, context, prompt

Reply = Callable[[Call], ToolResult]
ENDING = set(VERBS) - {"report_progress", "read_messages", "send_message", "save_checkpoint"}


def good(call: Call) -> ToolResult:
    """What a tool says when all is well."""
    files = "app/model.py\napp/store.py\nREADME.md" if "git ls-files" in call.input.get("command", "") else ""
    return ToolResult(f"start\nFILES\n{files}\nRan 30 tests in 1s\n\nOK")


def conversation(task: dict[str, Any], reply: Reply = good, *, offered: set[str] | None = None) -> list[list[Call]]:
    """The calls of each turn until the script is done."""
    found = find_context({"messages": [{"role": "user", "content": prompt(task)}]})
    assert found is not None
    tools = {*BUILTIN[task["role"]].split(","), *(f"mcp__eklavya__{verb}" for verb in VERBS)}
    turns: list[list[ToolResult]] = []
    asked: list[list[Call]] = []
    for _ in range(30):
        _, calls = play(found, turns, tools if offered is None else offered)
        if not calls:
            return asked
        asked.append(calls)
        turns.append([reply(call) for call in calls])
    raise AssertionError("the script does not end")


def names(turns: list[list[Call]]) -> list[str]:
    return [call.tool.removeprefix("mcp__eklavya__") for turn in turns for call in turn]


def ending(turns: list[list[Call]]) -> tuple[str, dict[str, Any]]:
    """The last verb; no other ending verb may stand before it."""
    assert [name for name in names(turns) if name in ENDING] == names(turns)[-1:]
    return names(turns)[-1], turns[-1][-1].input


def failing(pattern: str, times: int = 99) -> Reply:
    """A reply with an error for the first calls whose input has the pattern."""
    left = [times]

    def reply(call: Call) -> ToolResult:
        if pattern in json.dumps(call.input) + call.tool and left[0] > 0:
            left[0] -= 1
            return ToolResult(f"Error: no {pattern}", is_error=True)
        return good(call)

    return reply


PLAN = [
    ("pm", "requirements", "submit_requirements"),
    ("pm", "build", "task_complete"),
    ("architect", "plan", "submit_plan"),
    ("architect", "build", "task_complete"),
    ("developer", "demo", "submit_demo"),
    ("developer", "build", "task_complete"),
    ("tester", "build", "task_complete"),
    ("qa", "build", "task_complete"),
    ("uat", "build", "task_complete"),
    ("sre", "build", "task_complete"),
    ("monitor", "build", "task_complete"),
    ("orchestrator", "build", "task_complete"),
    ("mentor", "mentor", "reply_mentor"),
]


@pytest.mark.parametrize(("role", "kind", "verb"), PLAN)
def test_every_role_ends_with_its_verb_within_few_rounds(role: str, kind: str, verb: str) -> None:
    turns = conversation(context(role, kind))

    assert ending(turns)[0] == verb
    assert len(turns) <= 6


@pytest.mark.parametrize(("role", "kind", "verb"), PLAN)
def test_every_role_calls_only_its_tools(role: str, kind: str, verb: str) -> None:
    tools = {*BUILTIN[role].split(","), *VERBS}

    assert set(names(conversation(context(role, kind)))) <= tools


@pytest.mark.parametrize(("role", "kind", "verb"), PLAN)
def test_a_refused_ending_is_tried_again_and_then_reported(role: str, kind: str, verb: str) -> None:
    once = conversation(context(role, kind), failing(f"mcp__eklavya__{verb}", 1))
    always = conversation(context(role, kind), failing(f"mcp__eklavya__{verb}"))

    assert names(once)[-2:] == [verb, verb]
    assert names(always)[-3:] == [verb, verb, "task_failed"]
    assert verb in always[-1][0].input["reason"]


@pytest.mark.parametrize(("role", "kind", "verb"), PLAN)
def test_a_role_without_any_tool_just_ends(role: str, kind: str, verb: str) -> None:
    assert conversation(context(role, kind), offered={"DeferredToolPlaceholder"}) == []


@pytest.mark.parametrize("role", ["developer", "tester", "qa"])
def test_failing_tests_fail_the_task_with_their_output(role: str) -> None:
    verb, arguments = ending(conversation(context(role, key="storage"), failing("unittest discover")))

    assert verb == "task_failed"
    assert "no unittest discover" in arguments["reason"]


def test_tests_that_fail_once_are_run_again() -> None:
    assert ending(conversation(context("tester"), failing("unittest discover", 1)))[0] == "task_complete"


def test_a_write_that_failed_is_tried_again_after_reading() -> None:
    turns = conversation(context("developer", key="report"), failing("report.py", 1))

    assert ending(turns)[0] == "task_complete"
    again = next(turn for turn in turns if turn[0].tool == "Read" and len(turn) == 2)
    assert [call.input["file_path"] for call in again] == ["app/features/report.py"] * 2
    assert again[1].tool == "Write"


def test_without_write_files_are_written_by_a_command() -> None:
    turns = conversation(context("developer", key="report"), offered={"Bash", "mcp__eklavya__task_complete"})

    assert any("> app/features/report.py" in call.input.get("command", "") for turn in turns for call in turn)
    assert ending(turns)[0] == "task_complete"


def test_the_verbs_may_come_from_a_server_of_another_name() -> None:
    turns = conversation(context("mentor", "mentor"), offered={"Read", "mcp__other__reply_mentor"})

    assert turns[-1][-1].tool == "mcp__other__reply_mentor"


def test_an_unclear_brief_is_asked_about_once() -> None:
    verb, arguments = ending(conversation(context("pm", "requirements", brief="a website")))

    assert verb == "ask_client"
    assert 1 <= len(arguments["questions"]) <= 2
    for question in arguments["questions"]:
        assert question["recommended"] in question["options"]
    answered = context(
        "pm", "requirements", brief="a website", questions=[{"question": "?", "answer": "Books and members"}]
    )
    assert ending(conversation(answered))[0] == "submit_requirements"


def test_answers_reach_the_developer_through_the_requirements() -> None:
    answered = context(
        "pm", "requirements", brief="a website", questions=[{"question": "?", "answer": "Track our canoes"}]
    )
    found = ending(conversation(answered))[1]["requirements"]
    requirements = [{"key": f"R{number}", **requirement} for number, requirement in enumerate(found)]

    turns = conversation(
        context("developer", "demo", brief="a website", requirements=requirements), lambda _: ToolResult("")
    )

    model = next(
        call.input["content"] for turn in turns for call in turn if call.input.get("file_path") == "app/model.py"
    )
    assert 'key="canoe"' in model


def test_requirements_have_criteria_that_name_the_things() -> None:
    arguments = ending(conversation(context("pm", "requirements")))[1]

    criteria = [
        criterion for requirement in arguments["requirements"] for criterion in requirement["acceptance_criteria"]
    ]
    assert arguments["project_name"] == "Tool Library"
    assert all(requirement["acceptance_criteria"] for requirement in arguments["requirements"])
    assert "A loan belongs to a member chosen from a list" in criteria


def plan(**more: Any) -> dict[str, Any]:
    return ending(conversation(context("architect", "plan", **more)))[1]


def waits_for(tasks: list[dict[str, Any]], key: str) -> set[str]:
    """All tasks before a task; a cycle would never end."""
    direct = {task["key"]: task["depends_on"] for task in tasks}[key]
    return set(direct).union(*(waits_for(tasks, other) for other in direct))


def test_the_plan_is_a_graph_with_two_developers_at_once() -> None:
    tasks = plan()["tasks"]

    assert [task["role"] for task in tasks if not task["depends_on"]] == ["developer", "developer"]
    assert waits_for(tasks, "acceptance") == {task["key"] for task in tasks} - {"acceptance"}
    assert {"key", "title", "description", "role", "depends_on", "estimate_minutes", "acceptance_criteria"} == tasks[
        0
    ].keys()


def test_wishes_of_the_brief_become_tasks() -> None:
    keys = {task["key"] for task in plan(brief=TOOL_LIBRARY + " With a report and a calendar.")["tasks"]}

    assert {"report", "calendar"} <= keys


def test_a_correction_adds_a_task_and_shows_in_the_summary() -> None:
    corrected = plan(corrections=["Please also print labels for tools", "Backups every night on the server"])

    added = {task["key"]: task["role"] for task in corrected["tasks"]}
    assert (added["please-also"], added["backups-every"]) == ("developer", "sre")
    assert "print labels" in corrected["summary"]
    assert {"please-also", "backups-every"} <= waits_for(corrected["tasks"], "qa")


def test_a_correction_can_drop_a_task() -> None:
    tasks = plan(corrections=["Skip the acceptance and the docs please", "leave out qa"])["tasks"]

    keys = {task["key"] for task in tasks}
    assert "qa" not in keys
    assert "acceptance" not in keys
    assert all(set(task["depends_on"]) <= keys for task in tasks)


def written(turns: list[list[Call]]) -> dict[str, str]:
    return {call.input["file_path"]: call.input["content"] for turn in turns for call in turn if call.tool == "Write"}


def test_a_second_demo_changes_only_what_the_feedback_touches() -> None:
    feedback = [{"demo": 1, "text": "Make it blue and add a weight"}]

    files = written(conversation(context("developer", "demo", feedback=feedback)))

    assert "weight" in files["app/model.py"]
    assert "hsl(216" in files["static/theme.css"]
    assert "app/server.py" not in files


def test_a_demo_says_what_it_understood_of_the_last_feedback_and_what_not() -> None:
    texts = ("Make it blue.", "rename Tools to Things. Sing me a song, not too long.")
    said = [{"demo": number, "text": text} for number, text in enumerate(texts, start=1)]

    assert ending(conversation(context("developer", "demo", feedback=said)))[1]["summary"] == (
        "Changed after your feedback: Tools are called Things. "
        "Not understood, and not changed: “Sing me a song, not too long”."
    )


def test_parallel_tasks_write_different_files() -> None:
    keys = ("storage", "pages", "report", "calendar", "audit-log", "labels")
    sets = [set(written(conversation(context("developer", key=key, title=key)))) for key in keys]

    assert all(sets)
    assert len(set().union(*sets)) == sum(map(len, sets))


def test_a_build_task_on_an_empty_checkout_brings_the_application() -> None:
    files = written(conversation(context("developer", key="storage"), lambda _: ToolResult("FILES\n")))

    assert {"app/model.py", "app/server.py", "app/features/editing.py"} <= files.keys()


@pytest.mark.parametrize(
    ("title", "path"),
    [
        ("Editing and deletion in the database", "app/features/editing.py"),
        ("Search and export", "app/search.py"),
        ("Statistics", "app/features/report.py"),
        ("Something else entirely", "app/features/topic_t7.py"),
    ],
)
def test_a_task_is_recognised_by_its_title(title: str, path: str) -> None:
    assert path in written(conversation(context("developer", key="t7", title=title)))


def test_a_failure_is_looked_at_before_anything_changes() -> None:
    failure = {"reason": "tests_failed", "detail": "boom"}

    first = conversation(context("developer", key="storage", failure=failure, attempt=2))[0]

    assert any("unittest" in call.input.get("command", "") for call in first)


def test_the_third_failure_goes_to_the_mentor_once() -> None:
    failing_again = {"failure": {"reason": "tests_failed", "detail": "boom"}, "attempt": 3, "key": "storage"}
    told = {"mentor": [{"question": "?", "reply": "Look again."}]}

    assert ending(conversation(context("developer", **failing_again)))[0] == "ask_mentor"
    assert ending(conversation(context("developer", **failing_again, **told)))[0] == "task_complete"


def test_a_conflict_is_done_again_on_the_present_tree() -> None:
    turns = conversation(context("developer", key="storage", conflict={"paths": ["app/store.py"], "detail": ""}))

    assert "app/store.py" in written(turns)
    assert ending(turns)[0] == "task_complete"


@pytest.mark.parametrize(("role", "key", "path"), [("developer", "storage", "app/store.py"), ("pm", "guide", "docs/")])
def test_what_is_marked_is_resolved_by_the_key_of_the_task_whose_change_it_is(role: str, key: str, path: str) -> None:
    told = {"paths": ["README.md", "app/store.py"], "task": {"key": key, "title": "Keep it"}}
    turns = conversation(context(role, "conflict", key="conflict-1", conflict=told))

    commands = " ".join(call.input.get("command", "") for turn in turns for call in turn)
    assert ("README.md" in commands and "sed -i" in commands) is (role == "developer")
    assert [one for one in written(turns) if one.startswith(path)]
    assert ending(turns)[0] == "task_complete"


def test_reviewers_change_nothing() -> None:
    for role in ("qa", "uat", "monitor", "mentor", "orchestrator"):
        turns = conversation(context(role, "mentor" if role == "mentor" else "build"))
        commands = " ".join(call.input.get("command", "") for turn in turns for call in turn)
        assert not written(turns)
        assert "git add" not in commands
        assert "git commit" not in commands


def test_a_tester_writes_only_tests_and_a_pm_only_documents() -> None:
    assert all(path.startswith("tests/") for path in written(conversation(context("tester"))))
    for kind in ("requirements", "build"):
        paths = written(conversation(context("pm", kind)))
        assert paths
        assert all(path.startswith("docs/") for path in paths)


def test_the_mentor_answers_the_question() -> None:
    question = {"question": "My merge has a conflict, what now?", "context": ""}

    reply = ending(conversation(context("mentor", "mentor", mentor_question=question)))[1]["reply"]

    assert "conflict" in reply
    assert "app/features/" in reply


def test_a_custom_role_gets_the_script_of_its_kind() -> None:
    task = {**context("developer", key="report"), "role": "backend"}
    found = find_context({"messages": [{"role": "user", "content": prompt(task)}]})
    assert found is not None

    _, calls = play(found, [], {"Bash", "mcp__eklavya__report_progress"})

    assert [call.tool for call in calls] == ["mcp__eklavya__report_progress", "Bash"]


def test_what_a_step_asks_for_is_returned_and_nothing_else() -> None:
    brief = 'Read it. Return {"verdict": "approved" or "rejected", "passed": true or false, "findings": […], "why": …}.'

    step = ending(conversation(context("qa", "step", description=brief)))
    plain = ending(conversation(context("qa", "step", description="Read it.")))

    assert step[0] == plain[0] == "task_complete"
    assert step[1]["result"] == {"verdict": "approved", "passed": True, "findings": [], "why": "…"}
    assert "result" not in plain[1]


@pytest.mark.parametrize(
    ("conditions", "result"),
    [
        (["result.verdict == 'approved'"], {"verdict": "approved"}),
        (["result.verdict == 'rejected'", "result.verdict == 'approved'"], {"verdict": "approved"}),
        (["result.passed == false", "result.passed == true && result.count == 0"], {"passed": True, "count": 0}),
        (["result.changed"], {"changed": True}),
        (["status == 'completed'"], None),
    ],
)
def test_what_follows_decides_what_a_step_returns(conditions: list[str], result: dict[str, Any] | None) -> None:
    told = context("qa", "step", description="Read the change.", workflow={"decides": conditions})
    verb, arguments = ending(conversation(told))
    assert (verb, arguments.get("result")) == ("task_complete", result)


def test_end_of_an_output_has_nothing_of_the_cli() -> None:
    told = "<system-reminder>\n" + "Consider this. " * 200 + "\n</system-reminder>\n"
    assert tail(f"FAILED (errors=1)\n\n{told}") == "FAILED (errors=1)"
    assert tail("grep <system-reminder> app") == "grep <system-reminder> app"
