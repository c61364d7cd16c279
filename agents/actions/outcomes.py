"""What follows from how an agent ended its run, where no change of code is to be merged or it is merged already."""

from datetime import datetime
from typing import Any
from uuid import UUID

from agents.actions import runs
from agents.actions.runs import Ending
from agents.actions.verbs import actor_of
from agents.models import Run
from agents.states import RunStatus
from projects import audit
from projects.actions import conflicts, plans, tasks
from projects.actions.tasks import Setback
from projects.models import Project, Task
from projects.plans import PlannedTask
from projects.roles import Role
from projects.states import TaskKind, TaskStatus

# Verbs after which the run's change is collected, verified and merged.
DELIVERING = frozenset({"task_complete", "submit_demo", "submit_requirements", "submit_plan"})
_OF_THE_MAIN_JOB = frozenset({"submit_requirements", "submit_plan"})


def settle(run: Run, *, now: datetime) -> None:
    """End a run whose agent asked, gave up or answered. The agent's process must be gone.

    Needs `run.outcome`, with a verb that delivers nothing.
    """
    args = run.outcome["args"]
    match run.outcome["verb"]:
        case "task_failed":
            runs.fail(run, Ending(RunStatus.FAILED, "agent_gave_up", args["reason"]), now=now)
        case "task_blocked":
            _ask_for_help(run, args["reason"], now=now)
        case "ask_mentor":
            _ask_mentor(run, args["question"], args.get("context", ""), now=now)
        case "ask_client":
            _ask_client(run, args["questions"], now=now)
        case "reply_mentor":
            _reply(run, args["reply"], now=now)
        case verb:
            raise AssertionError(verb)


def deliver(run: Run, result: dict[str, Any], *, now: datetime) -> None:
    """Complete a run whose change is merged (or that had none), with what it submitted, in one transaction.

    When its task was cancelled meanwhile the run ends so too: what is in main stays there.
    """
    args, by = run.outcome["args"], actor_of(run)
    with audit.journal(by=by, now=now):
        if run.outcome["verb"] in _OF_THE_MAIN_JOB:
            # Before the task, as whoever cancels the project: its main job goes on from here.
            Project.objects.select_for_update(no_key=True).get(pk=run.project_id)
        if _is_cancelled(run):
            detail = f"The task was cancelled when the change was already in main, as {result['commit'][:12]}."
            runs.fail(run, Ending(RunStatus.CANCELLED, "cancelled", detail, counts=False), now=now)
            return
        match run.outcome["verb"]:
            case "submit_requirements":
                drafts = [plans.RequirementDraft(**draft) for draft in args["requirements"]]
                plans.record_requirements(run.project, args["project_name"], drafts, by=by, now=now)
            case "submit_plan":
                nodes = [PlannedTask.from_json(node) for node in args["tasks"]]
                plans.propose_plan(run.project, args["summary"], nodes, by=by, now=now)
        runs.succeed(run, result=_handed_in(run) | result, now=now)


def conflict(run: Run, ending: Ending, *, now: datetime) -> None:
    """End a run whose change does not go into main, in one transaction with what follows: a task of its own that brings
    both together. `ending.context["conflict"]` says what conflicts.

    What the platform's own line takes with the change (OF_THE_MAIN_JOB) is done anew instead, on what main has, and so
    is a conflict that met another one meanwhile.
    """
    if run.task.kind == TaskKind.CONFLICT or run.outcome["verb"] in _OF_THE_MAIN_JOB:
        runs.fail(run, ending, now=now)
        return

    def open_task(setback: Setback) -> None:
        key, handed_in = f"conflict-{run.pk.hex[-12:]}", _handed_in(run)
        conflicts.open_conflict(run.task, setback, key=key, handed_in=handed_in, by=runs.SUPERVISOR, now=now)

    runs.fail(run, ending, now=now, go_on=open_task)


def _handed_in(run: Run) -> dict[str, Any]:
    args = run.outcome["args"]
    return {"summary": args.get("summary", "")} | ({"returned": args["result"]} if args.get("result") else {})


def _is_cancelled(run: Run) -> bool:
    """Look again, under a lock, so that a project that is cancelled now waits until the run has ended."""
    return tasks.lock_to_complete(run.task) == TaskStatus.CANCELLED


def _ask_for_help(run: Run, reason: str, *, now: datetime) -> None:
    """Mentor first, then a person: who is stuck after the mentor's advice asks the admin."""
    if run.task.kind != TaskKind.MENTOR and not run.task.context.get("mentor"):
        _ask_mentor(run, reason, "", now=now)
        return
    with audit.journal(by=actor_of(run), now=now):
        runs.wait_for_answer(run, reason="blocked", detail=reason, needs_admin=True, now=now)
        blocked = Setback("blocked", reason, _asked_by(run), counts=False)
        tasks.block_task(run.task, blocked, ask_person=True, by=actor_of(run), now=now)


def _ask_mentor(run: Run, question: str, context: str, *, now: datetime) -> None:
    by = actor_of(run)
    with audit.journal(by=by, now=now):
        runs.wait_for_answer(run, reason="awaiting_mentor", detail=question, needs_admin=False, now=now)
        waiting = Setback("awaiting_mentor", question, _asked_by(run), counts=False)
        tasks.block_task(run.task, waiting, ask_person=False, by=by, now=now)
        asked = {"question": question, "context": context, "task": run.task.title}
        tasks.create_task(
            run.project,
            TaskKind.MENTOR,
            key=f"mentor-{run.pk.hex[-12:]}",
            role=Role.MENTOR,
            title=f"Advise on “{run.task.title}”"[:255],
            description=question,
            context={"mentor_question": asked, "asking_task": str(run.task_id)},
            # Somebody waits for it.
            priority=100,
            by=by,
            now=now,
        )


def _ask_client(run: Run, questions: list[dict[str, Any]], *, now: datetime) -> None:
    by = actor_of(run)
    with audit.journal(by=by, now=now):
        detail = " ".join(asked["question"] for asked in questions)
        runs.wait_for_answer(run, reason="awaiting_answer", detail=detail, needs_admin=True, now=now)
        tasks.ask_questions(run.task, questions, context=_asked_by(run), by=by, now=now)


def _reply(run: Run, reply: str, *, now: datetime) -> None:
    by = actor_of(run)
    with audit.journal(by=by, now=now):
        # Looked up first: completing a task clears what it was told.
        asking = _waiting_task(run.task)
        runs.succeed(run, result={"summary": reply}, now=now)
        if asking is not None:
            advice = [*asking.context.get("mentor", []), {"question": asking.detail, "reply": reply}]
            tasks.unblock_task(asking, {"mentor": advice}, by=by, now=now)


def _waiting_task(mentor_task: Task) -> Task | None:
    """Return the task that waits for this advice, locked, unless it moved on meanwhile."""
    asking = Task.objects.select_for_update(of=("self",)).filter(
        pk=UUID(mentor_task.context["asking_task"]), status=TaskStatus.BLOCKED, reason="awaiting_mentor"
    )
    return asking.select_related("project").first()


def _asked_by(run: Run) -> dict[str, Any]:
    """Return the mark by which the same agent gets the task back, and from where it goes on."""
    return {"agent": str(run.agent_id)} | runs.resume_from(run)
