"""The life of a task."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from projects.actions import tasks
from projects.actions.tasks import BACKOFF_BASE, BACKOFF_MAX, Setback
from projects.errors import IllegalTransition, ProjectNotActive, StaleState
from projects.ids import new_id
from projects.models import Approval, AuditLog, Task
from projects.plans import PlannedTask
from projects.roles import Role
from projects.states import RUNNING_TASK, TASK_TRANSITIONS, TaskKind, TaskStatus
from tests.factories import NOW, TESTER, AgentFactory, ProjectFactory, TaskFactory
from tests.projects import lives

pytestmark = pytest.mark.django_db
OOPS = Setback("tests_failed", "1 of 3 failed.", {"failure": {"reason": "tests_failed"}})

# What a verb is for, where the table has more ways to the state that it leads to.
ONLY_FROM = {
    "set_back": RUNNING_TASK,
    "unblock": {TaskStatus.BLOCKED, TaskStatus.FAILED},
    "complete": RUNNING_TASK,
}
# Each verb that changes a status, with the state that it leads to.
VERBS: dict[str, tuple[TaskStatus, Callable[[Task], object]]] = {
    "allocate": (TaskStatus.ALLOCATED, lambda t: tasks.allocate_tasks([(t, agent(t))], by=TESTER, now=NOW)),
    "start": (TaskStatus.IN_PROGRESS, lambda t: tasks.start_tasks([t], by=TESTER, now=NOW)),
    "review": (TaskStatus.REVIEW, lambda t: tasks.review_task(t, by=TESTER, now=NOW)),
    "complete": (TaskStatus.COMPLETED, lambda t: tasks.complete_task(t, {}, by=TESTER, now=NOW)),
    "set_back": (TaskStatus.READY, lambda t: tasks.set_back(t, OOPS, by=TESTER, now=NOW)),
    "block": (TaskStatus.BLOCKED, lambda t: tasks.block_task(t, OOPS, ask_person=True, by=TESTER, now=NOW)),
    "ask": (TaskStatus.BLOCKED, lambda t: tasks.ask_questions(t, [{"question": "Why?"}], by=TESTER, now=NOW)),
    "unblock": (TaskStatus.READY, lambda t: tasks.unblock_task(t, {}, by=TESTER, now=NOW)),
    "fail": (TaskStatus.FAILED, lambda t: tasks.fail_task(t, reason="given_up", detail="", by=TESTER, now=NOW)),
}


def agent(task: Task) -> Any:
    return AgentFactory(project=task.project).pk


def make(status: str, **fields: Any) -> Task:
    """A task of that state; a pending one waits for another."""
    if status == TaskStatus.PENDING:
        other = TaskFactory()
        return TaskFactory(project=other.project, status=status, depends_on=[other], **fields)
    return TaskFactory(status=status, **fields)


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("status", TaskStatus)
def test_verb_does_what_the_table_says_or_is_refused(verb: str, status: TaskStatus) -> None:
    to, act = VERBS[verb]
    task = make(status)
    count = AuditLog.objects.count()
    if to in TASK_TRANSITIONS[status] and status in ONLY_FROM.get(verb, TaskStatus):
        act(task)
        assert Task.objects.get(pk=task.pk).status == task.status == to
        assert AuditLog.objects.count() > count
    else:
        with pytest.raises(IllegalTransition):
            act(task)
        assert Task.objects.get(pk=task.pk).status == status
        assert AuditLog.objects.count() == count


@pytest.mark.parametrize("verb", VERBS)
def test_verb_on_what_somebody_else_moved_is_stale(verb: str) -> None:
    to, act = VERBS[verb]
    allowed = ONLY_FROM.get(verb, set(TaskStatus) - {TaskStatus.PENDING})
    status = next(old for old, news in TASK_TRANSITIONS.items() if to in news and old in allowed)
    task = make(status)
    meanwhile = next(new for new in TASK_TRANSITIONS[status] if new != TaskStatus.COMPLETED)
    Task.objects.filter(pk=task.pk).update(status=meanwhile)
    with pytest.raises(StaleState):
        act(task)
    assert Task.objects.get(pk=task.pk).status == meanwhile


def test_created_task_is_ready_and_safe_to_store() -> None:
    task = tasks.create_task(
        ProjectFactory(),
        TaskKind.MENTOR,
        key="mentor-1",
        role=Role.MENTOR,
        title="x" * 300,
        description="\x00\ud800",
        context={"a": "\x00"},
        priority=100,
        by=TESTER,
        now=NOW,
    )
    task.refresh_from_db()
    assert (task.status, task.ready_at, task.priority, len(task.title)) == ("ready", NOW, 100, 255)
    assert task.context == {"a": "\N{REPLACEMENT CHARACTER}"}


@pytest.mark.parametrize("status", ["cancelled", "archived"])
def test_no_task_is_made_in_a_project_that_was_given_up(status: str) -> None:
    project = ProjectFactory(status=status)
    with pytest.raises(ProjectNotActive, match="takes no more work"):
        tasks.create_task(project, TaskKind.DEMO, key="d", role=Role.QA, title="D", by=TESTER, now=NOW)
    assert not Task.objects.exists()


def test_allocated_task_belongs_to_its_agent_and_begins_anew() -> None:
    task = make("ready", reason="tests_failed", detail="1 of 3 failed.", progress=40)
    chosen = agent(task)
    tasks.allocate_tasks([(task, chosen)], by=TESTER, now=NOW)
    task.refresh_from_db()
    assert (task.agent_id, task.reason, task.detail, task.progress) == (chosen, "", "", 0)


def test_task_remembers_when_it_was_first_started() -> None:
    task = make("allocated")
    tasks.start_tasks([task], by=TESTER, now=NOW)
    tasks.set_back(task, OOPS, by=TESTER, now=NOW)
    tasks.allocate_tasks([(task, agent(task))], by=TESTER, now=NOW)
    tasks.start_tasks([task], by=TESTER, now=NOW + timedelta(hours=1))
    task.refresh_from_db()
    assert task.started_at == NOW


def test_progress_moves_the_bar_and_is_told() -> None:
    task = make("in_progress")
    tasks.report_progress(task, 60, "Half the pages.", by=TESTER, now=NOW)
    task.refresh_from_db()
    assert (task.progress, task.detail, task.status) == (60, "Half the pages.", TaskStatus.IN_PROGRESS)
    event = AuditLog.objects.get(event_type="task:status").event_payload
    assert event == {
        "projectId": str(task.project_id),
        "taskId": str(task.pk),
        "status": "in_progress",
        "progress": 60,
    }


@pytest.mark.parametrize(("said", "shown"), [(-5, 0), (0, 0), (100, 100), (2**40, 100)])
def test_progress_stays_a_percentage(said: int, shown: int) -> None:
    task = make("in_progress")
    tasks.report_progress(task, said, "\x00" + "x" * 600, by=TESTER, now=NOW)
    task.refresh_from_db()
    assert (task.progress, len(task.detail)) == (shown, 500)


@pytest.mark.parametrize("status", sorted(set(TaskStatus) - {"in_progress"}))
def test_progress_of_what_nobody_works_on_is_refused(status: str) -> None:
    task = make(status)
    with pytest.raises(StaleState, match="not being worked on"):
        tasks.report_progress(task, 60, "", by=TESTER, now=NOW)
    assert not AuditLog.objects.filter(action="task.progress").exists()


def test_completed_task_keeps_its_result_and_forgets_its_troubles() -> None:
    task = make("in_progress", context={"failure": {}}, reason="tests_failed", detail="…")
    tasks.complete_task(task, {"commit": "abc", "note": "\x00"}, by=TESTER, now=NOW)
    task.refresh_from_db()
    assert (task.completed_at, task.progress, task.context, task.reason) == (NOW, 100, {}, "")
    assert task.result == {"commit": "abc", "note": "\N{REPLACEMENT CHARACTER}"}


def test_completing_frees_what_waited_only_for_it() -> None:
    made = lives.building()
    assert lives.complete(made["storage"]) == [made["pages"].pk, made["report"].pk]
    assert lives.complete(made["pages"]) == []
    assert lives.complete(made["report"]) == [made["review"].pk]
    lives.check_invariants(made["review"].project)


def test_freed_task_may_go_at_once() -> None:
    made = lives.building()
    lives.complete(made["storage"])
    freed = Task.objects.get(pk=made["pages"].pk)
    assert (freed.status, freed.unmet_count, freed.ready_at, freed.next_attempt_at) == ("ready", 0, NOW, NOW)
    assert AuditLog.objects.filter(action="task.ready", object_id=str(freed.pk)).count() == 1


def test_cancelled_dependent_is_not_woken() -> None:
    made = lives.building()
    running = lives.begin(made["storage"])
    Task.objects.filter(pk=made["pages"].pk).update(status="cancelled")
    assert tasks.complete_task(running, {}, by=TESTER, now=NOW) == [made["report"].pk]
    assert Task.objects.get(pk=made["pages"].pk).unmet_count == 0


def test_task_set_back_waits_longer_each_time() -> None:
    task = make("in_progress", max_attempts=20)
    waits = []
    for _ in range(12):
        tasks.set_back(task, OOPS, by=TESTER, now=NOW)
        waits.append(task.next_attempt_at - NOW)
        lives.begin(task)
        task.refresh_from_db()
    assert BACKOFF_BASE / 2 <= waits[0] <= BACKOFF_BASE
    assert BACKOFF_BASE * 4 <= waits[3] <= BACKOFF_BASE * 8
    assert all(BACKOFF_MAX / 2 <= wait <= BACKOFF_MAX for wait in waits[8:])


def test_task_set_back_tells_the_next_run_why() -> None:
    task = make("review", context={"mentor": ["advice"]})
    tasks.set_back(task, Setback("tests_failed", "x" * 9_000, {"failure": "\x00"}), by=TESTER, now=NOW)
    task.refresh_from_db()
    assert (task.reason, len(task.detail), task.agent_id) == ("tests_failed", 8_000, None)
    assert task.context == {"mentor": ["advice"], "failure": "\N{REPLACEMENT CHARACTER}"}


def test_setback_that_does_not_count_uses_no_attempt() -> None:
    task = make("in_progress", attempts=2)
    tasks.set_back(task, Setback("lost", "", counts=False, delay=timedelta(0)), by=TESTER, now=NOW)
    task.refresh_from_db()
    assert (task.attempts, task.next_attempt_at, task.status) == (2, NOW, TaskStatus.READY)


def test_last_setback_blocks_and_asks_a_person() -> None:
    task = make("in_progress", attempts=2)
    tasks.set_back(task, OOPS, by=TESTER, now=NOW)
    task.refresh_from_db()
    assert (task.status, task.attempts) == (TaskStatus.BLOCKED, 3)
    assert Approval.objects.get().subject_id == task.pk


def test_last_setback_refused_uses_no_attempt() -> None:
    task = make("completed", attempts=2)
    with pytest.raises(IllegalTransition):
        tasks.set_back(task, OOPS, by=TESTER, now=NOW)
    assert Task.objects.get(pk=task.pk).attempts == task.attempts == 2


def test_blocked_task_asks_a_person_or_not() -> None:
    tasks.block_task(make("in_progress", title="Lend"), OOPS, ask_person=True, by=TESTER, now=NOW)
    tasks.block_task(make("in_progress"), OOPS, ask_person=False, by=TESTER, now=NOW)
    assert Approval.objects.get().title == "“Lend” is stuck"


def test_unblocked_task_has_fresh_attempts_and_the_advice() -> None:
    task = make("failed", attempts=3, reason="given_up", context={"failure": 1})
    tasks.unblock_task(task, {"mentor": [{"reply": "Look again."}]}, by=TESTER, now=NOW)
    task.refresh_from_db()
    assert (task.attempts, task.reason, task.next_attempt_at) == (0, "", NOW)
    assert task.context == {"failure": 1, "mentor": [{"reply": "Look again."}]}


def test_given_up_task_says_why() -> None:
    task = make("blocked")
    tasks.fail_task(task, reason="given_up", detail="\x00" + "x" * 9_000, by=TESTER, now=NOW)
    task.refresh_from_db()
    assert (task.reason, len(task.detail)) == ("given_up", 8_000)


@pytest.mark.parametrize("status", sorted(RUNNING_TASK))
def test_cancelled_task_has_no_agent(status: str) -> None:
    task = make(status)
    Task.objects.filter(pk=task.pk).update(agent_id=agent(task))
    assert tasks.cancel_open_tasks(task.project, reason="project_cancelled", by=TESTER, now=NOW) == 1
    task.refresh_from_db()
    assert (task.status, task.agent_id, task.reason) == (TaskStatus.CANCELLED, None, "project_cancelled")


def test_cancelling_leaves_other_projects_alone() -> None:
    task, other = make("ready"), make("ready")
    tasks.cancel_open_tasks(task.project, reason="", by=TESTER, now=NOW)
    assert Task.objects.get(pk=other.pk).status == TaskStatus.READY


def test_questions_block_their_task_and_ask_the_client() -> None:
    task = make("in_progress", kind="requirements")
    asked = [{"question": "How long?", "options": ["1 week", "2 weeks"], "recommended": "2 weeks"}]
    approval = tasks.ask_questions(task, asked, by=TESTER, now=NOW)
    assert (approval.title, approval.questions) == ("How long?", asked)
    assert Task.objects.get(pk=task.pk).reason == "awaiting_answer"


def test_two_questions_have_one_title() -> None:
    two = [{"question": "How long?"}, {"question": "How many?"}]
    approval = tasks.ask_questions(make("in_progress", kind="requirements"), two, by=TESTER, now=NOW)
    assert approval.title == "2 questions about the brief"


def test_answers_reach_the_task_that_asked() -> None:
    task = make("in_progress", kind="requirements")
    two = [{"question": "How long?"}, {"question": "How many?"}]
    approval = tasks.ask_questions(task, two, by=TESTER, now=NOW)
    lives.decide(approval, "answer", answers=["Two weeks.", "Five."])
    task.refresh_from_db()
    told = [{"question": "How long?", "answer": "Two weeks."}, {"question": "How many?", "answer": "Five."}]
    assert (task.status, task.context) == (TaskStatus.READY, {"questions": told})


def test_stuck_task_is_tried_again_with_the_persons_advice() -> None:
    task = make("in_progress", context={"mentor": [{"question": "?", "reply": "First."}]})
    tasks.block_task(task, OOPS, ask_person=True, by=TESTER, now=NOW)
    lives.decide(Approval.objects.get(), "retry", "Second.")
    task.refresh_from_db()
    assert [advice["reply"] for advice in task.context["mentor"]] == ["First.", "Second."]
    assert task.status == TaskStatus.READY


def test_stuck_task_is_given_up_whatever_the_comment_holds() -> None:
    task = make("in_progress")
    tasks.block_task(task, OOPS, ask_person=True, by=TESTER, now=NOW)
    lives.decide(Approval.objects.get(), "give_up", "Not \x00 needed.")
    task.refresh_from_db()
    assert (task.status, task.detail) == (TaskStatus.FAILED, "Not \N{REPLACEMENT CHARACTER} needed.")


def test_audit_of_a_task_names_its_agent() -> None:
    task = make("ready")
    chosen = agent(task)
    tasks.allocate_tasks([(task, chosen)], by=TESTER, now=NOW)
    assert AuditLog.objects.get(action="task.allocated").agent_id == chosen


def test_agent_of_a_task_must_exist() -> None:
    task = make("ready")
    tasks.allocate_tasks([(task, new_id())], by=TESTER, now=NOW)
    with pytest.raises(Exception, match="projects_task_agent_fk"):
        Task.objects.raw("SET CONSTRAINTS ALL IMMEDIATE")[:]  # type: ignore[call-overload]


def test_graph_of_any_shape_is_freed_to_its_end() -> None:
    made = lives.building(
        [
            PlannedTask(f"t{number}", "T", "developer", depends_on=tuple(f"t{n}" for n in range(number)))
            for number in range(6)
        ]
    )
    for number in range(6):
        freed = lives.complete(made[f"t{number}"])
        assert freed == ([made[f"t{number + 1}"].pk] if number < 5 else [])
    lives.check_invariants(made["t0"].project)
