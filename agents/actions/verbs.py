"""What an agent may say about its own run, through the gateway. Arguments are already of the right shape.

An ending verb only stores what the agent claims (`Run.outcome`); what follows is decided by the supervisor when the
process is gone and the platform looked for itself (`agents.actions.outcomes`).
"""

from datetime import datetime
from typing import Any

from agents.actions import checkpoints, messages
from agents.actions.specialisations import check_planned
from agents.errors import RunEnded, VerbRefused
from agents.models import Agent, Message, Run
from agents.reminders import without_reminders
from agents.states import MessageType, RunStatus
from projects import audit
from projects.actions import growing, nodes, tasks
from projects.actions.plans import RequirementDraft, check_requirements
from projects.actors import Actor
from projects.ids import new_id
from projects.jsontext import storable_json, storable_text
from projects.plans import PlannedTask, check_plan
from projects.roles import Role
from projects.states import TaskKind
from projects.workflows.conditions import UndecidedCondition

GIVES_UP = "task_failed"
_ANY_KIND = frozenset({GIVES_UP, "task_blocked"})
# How a run at a task of each kind may end.
ENDINGS: dict[TaskKind, frozenset[str]] = {
    TaskKind.REQUIREMENTS: _ANY_KIND | {"submit_requirements", "ask_client", "ask_mentor"},
    TaskKind.PLAN: _ANY_KIND | {"submit_plan", "ask_mentor"},
    TaskKind.DEMO: _ANY_KIND | {"submit_demo", "ask_mentor"},
    TaskKind.BUILD: _ANY_KIND | {"task_complete", "ask_mentor"},
    TaskKind.STEP: _ANY_KIND | {"task_complete", "ask_mentor", "ask_client"},
    TaskKind.CONFLICT: _ANY_KIND | {"task_complete", "ask_mentor"},
    TaskKind.MENTOR: frozenset({"task_failed", "reply_mentor"}),
}
ENDING_VERBS = frozenset[str]().union(*ENDINGS.values())
_MESSAGE_OF_VERB = {
    "task_complete": MessageType.TASK_COMPLETE,
    "submit_requirements": MessageType.TASK_COMPLETE,
    "submit_plan": MessageType.TASK_COMPLETE,
    "submit_demo": MessageType.TASK_COMPLETE,
    "task_failed": MessageType.TASK_FAILED,
    "task_blocked": MessageType.TASK_BLOCKED,
    "ask_client": MessageType.TASK_BLOCKED,
    "ask_mentor": MessageType.MENTOR_REQUEST,
    "reply_mentor": MessageType.MENTOR_REPLY,
}
# No process waits for an answer: the run ends, and the same agent goes on with a new one when it is there.
_ASKING = frozenset({"ask_mentor", "ask_client", "task_blocked"})
# People read these as the agent's own words. A result is data, and requirements and plans are the client's.
_WORDS = frozenset({"question", "context", "reason", "reply", "summary", "options", "recommended"})


def actor_of(run: Run) -> Actor:
    """Return the run's agent as the doer of something."""
    return Actor.agent(run.agent_id, run.agent.name)


def report_progress(run: Run, percent: int, message: str, *, now: datetime) -> str:
    """Show how far the agent says it is."""
    by = actor_of(run)
    with audit.journal(by=by, now=now):
        tasks.report_progress(run.task, percent, message, by=by, now=now)
        _send(
            run, MessageType.TASK_PROGRESS, {"percent": percent, "message": message}, to_role=Role.ORCHESTRATOR, now=now
        )
    return "Noted."


def end_run(run: Run, verb: str, args: dict[str, Any], *, now: datetime) -> str:
    """Store how the agent ends its run. The first such call counts.

    Raises VerbRefused when a task of this kind does not end so, RunEnded on a second call, InvalidPlan or
    InvalidRequirements with what to mend; after those the agent may call again.
    """
    args = _in_own_words(run, args)
    _check_ending(run, verb, args)
    by = actor_of(run)
    with audit.journal(by=by, now=now) as journal:
        stored = Run.objects.filter(pk=run.pk, status=RunStatus.RUNNING, outcome={}).update(
            outcome={"verb": verb, "args": storable_json(args, max_chars=20_000)}
        )
        if not stored:
            raise RunEnded
        journal.add(f"agent.{verb}", project_id=run.project_id, obj=run, details={"args": args})
        _send(run, _MESSAGE_OF_VERB[verb], args, to_role=Role.ORCHESTRATOR, now=now)
    told = "Your task waits for the answer, and you are told it when the task goes on. " if verb in _ASKING else ""
    return f"Recorded. {told}End your turn now."


def _in_own_words(run: Run, args: dict[str, Any]) -> dict[str, Any]:
    """Return what people read of the arguments without what the CLI put before the agent. Raises VerbRefused where
    nothing is left of it."""
    told = " ".join(str(asked.get("answer", "")) for asked in run.task.context.get("questions", []))
    written = f"{run.project.description}\n{told}"

    def cleaned(name: str, value: Any) -> Any:
        if name == "questions":
            return [{key: cleaned(key, item) for key, item in asked.items()} for asked in value]
        if name in _WORDS and isinstance(value, list):
            return [cleaned(name, item) for item in value]
        if name not in _WORDS or not isinstance(value, str):
            return value
        left = without_reminders(value, written=written)
        if value and not left:
            raise VerbRefused(f"“{name}” has nothing but what your program told you. Say it in your own words.")
        return left

    return {name: cleaned(name, value) for name, value in args.items()}


def _check_ending(run: Run, verb: str, args: dict[str, Any]) -> None:
    allowed = ENDINGS[TaskKind(run.task.kind)]
    if verb not in allowed:
        raise VerbRefused(f"A {run.task.kind} task does not end with {verb}. Use one of: {', '.join(sorted(allowed))}.")
    match verb:
        case "submit_plan":
            nodes = [PlannedTask.from_json(node) for node in args["tasks"]]
            check_plan(nodes)
            check_planned(nodes)
        case "submit_requirements":
            check_requirements([RequirementDraft(**draft) for draft in args["requirements"]])
        case "task_complete" if run.task.kind == TaskKind.STEP:
            _check_result(run, args.get("result") or {})
        case "ask_client" if run.task.context.get("questions"):
            raise VerbRefused("The client was asked before and answered: decide the rest yourself and submit.")
        case "ask_client":
            _check_recommended(args["questions"])
        case "ask_mentor" if len(run.task.context.get("mentor", [])) >= 3:
            raise VerbRefused("The mentor answered three times already: use task_blocked to ask a person.")


def _check_recommended(questions: list[dict[str, Any]]) -> None:
    """Raise VerbRefused unless one input is all that is needed: a button, or the answer to one open question."""
    for asked in questions:
        options, recommended = asked.get("options", []), asked.get("recommended", "")
        if options and recommended not in options:
            raise VerbRefused(f"Recommend one of the options of “{asked['question'][:60]}”, word for word.")
        if len(questions) > 1 and not recommended:
            raise VerbRefused("Of several questions each recommends an answer; or ask only the one that matters most.")


def _check_result(run: Run, returned: dict[str, Any]) -> None:
    """Raise VerbRefused while what follows a step could not be decided on what it returns: its agent can mend that."""
    try:
        nodes.check_result(run.task, {"returned": returned})
    except UndecidedCondition as error:
        raise VerbRefused(
            f"What follows this step depends on its result: {error} Call again with “result” as the task asks for."
        ) from error


def read_messages(run: Run, *, now: datetime) -> list[dict[str, Any]]:
    """Return what is new in the agent's inbox, oldest first. See `messages.take`."""
    return [describe(message) for message in messages.take(run, now=now)]


def describe(message: Message) -> dict[str, Any]:
    """Return a message as an agent reads it. What others wrote is data, and marked as such."""
    return {
        "from": message.from_agent.name if message.from_agent else "admin",
        "type": message.message_type,
        "sent_at": message.created_at.isoformat(),
        "data": message.payload,
    }


def send_message(run: Run, to: str, body: str, *, key: str = "", now: datetime) -> str:
    """Send text to a role, to an agent by name, or to everybody in the project ("broadcast"); once per `key`."""
    payload = {"body": storable_text(body, max_chars=20_000)}
    if to == "broadcast":
        _send(run, MessageType.TASK_PROGRESS, payload, key=key, now=now)
    elif to in Role.values:
        _send(run, MessageType.TASK_PROGRESS, payload, to_role=Role(to), key=key, now=now)
    else:
        agent = Agent.objects.filter(project=run.project_id, name=to).first()
        if agent is None:
            raise VerbRefused(
                f"Nobody here is called “{to[:60]}”. Name a role, an agent of this project or “broadcast”."
            )
        _send(run, MessageType.TASK_PROGRESS, payload, to_agent=agent, key=key, now=now)
    return "Sent."


def add_tasks(run: Run, drafts: list[dict[str, Any]], *, now: datetime) -> str:
    """Add tasks below the run's own. Raises InvalidPlan with what to mend; nothing is added then."""
    by = actor_of(run)
    planned = [PlannedTask.from_json(draft) for draft in drafts]
    # What narrows the whole role in the squad holds for whoever does them anyway.
    whole_role = run.agent.member.specialisation if run.agent.member else ""
    narrowed_by = [key for key in run.specialisations if key != whole_role]
    with audit.journal(by=by, now=now):
        made = growing.add_tasks(run.task, planned, narrowed_by=narrowed_by, by=by, now=now)
        keys = [task.key for task in made]
        _send(run, MessageType.TASK_PROGRESS, {"added": keys}, to_role=Role.ORCHESTRATOR, now=now)
        for role in dict.fromkeys(task.role for task in made):
            given = [{"key": task.key, "title": task.title} for task in made if task.role == role]
            payload = {"tasks": given, "below": run.task.key}
            _send(run, MessageType.TASK_ASSIGN, payload, to_role=Role(role), now=now)
    return f"Added: {', '.join(keys)}. Others do them; what waits for your task waits for them too."


def save_checkpoint(run: Run, instructions: str, *, now: datetime) -> str:
    """Keep a snapshot of the workspace and what the next run should know to go on from it.

    Raises VerbRefused on a remote worker: the files here are those of the beginning until the run ends.
    """
    if run.worker is not None and run.worker.is_remote:
        raise VerbRefused(
            "This machine is a remote worker, where files are not saved in the middle of a run. Go on: they are saved "
            "when you end, and when the worker is stopped."
        )
    by = actor_of(run)
    checkpoint = checkpoints.save(run, instructions, by=by, now=now)
    with audit.journal(by=by, now=now):
        _send(run, MessageType.CHECKPOINT, {"seq": checkpoint.seq}, to_role=Role.ORCHESTRATOR, now=now)
    return f"Checkpoint {checkpoint.seq} saved."


def _send(
    run: Run,
    message_type: MessageType,
    payload: dict[str, Any],
    *,
    to_role: Role | None = None,
    to_agent: Agent | None = None,
    key: str = "",
    now: datetime,
) -> Message:
    return messages.post(
        run.project_id,
        message_type,
        payload,
        sender=run.agent,
        to_role=to_role,
        to_agent=to_agent,
        key=f"{run.agent_id}:{key}" if key else str(new_id()),
        now=now,
    )
