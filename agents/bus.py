"""The nine types of messages between agents: who sends each, who reads it, and when. docs/messages.md is this table."""

from dataclasses import dataclass

from agents.states import MessageType


@dataclass(frozen=True)
class Traffic:
    """One type. `verbs` are those of the MCP server that send it; `stored` whether it is a row of the bus."""

    sender: str
    reader: str
    when: str
    verbs: tuple[str, ...] = ()
    stored: bool = True


BUS: dict[MessageType, Traffic] = {
    MessageType.TASK_ASSIGN: Traffic(
        "whoever divides its task",
        "the role that is to do the new tasks",
        "the tasks are added; what a run itself is to do is its first message, made of the task's row",
        ("add_tasks",),
    ),
    MessageType.TASK_COMPLETE: Traffic(
        "the agent",
        "orchestrator",
        "it hands in its work; that is a claim, and the platform looks for itself",
        ("task_complete", "submit_requirements", "submit_plan", "submit_demo"),
    ),
    MessageType.TASK_FAILED: Traffic("the agent", "orchestrator", "it gives up", ("task_failed",)),
    MessageType.TASK_BLOCKED: Traffic(
        "the agent",
        "orchestrator; the mentor or a person by the question that is made of it",
        "it cannot go on without help, or without the client's answer",
        ("task_blocked", "ask_client"),
    ),
    MessageType.TASK_PROGRESS: Traffic(
        "the agent",
        "orchestrator; of `send_message` whom it names: a role, an agent, or everybody",
        "it says how far it is, saves nothing and ends nothing; also text to others",
        ("report_progress", "send_message", "add_tasks"),
    ),
    MessageType.MENTOR_REQUEST: Traffic(
        "the agent", "orchestrator; the mentor by the task that is made of it", "it is stuck", ("ask_mentor",)
    ),
    MessageType.MENTOR_REPLY: Traffic(
        "mentor",
        "orchestrator; who asked, in the first message of the run that goes on",
        "it advises",
        ("reply_mentor",),
    ),
    MessageType.CHECKPOINT: Traffic("the agent", "orchestrator", "it saved its work", ("save_checkpoint",)),
    MessageType.HEARTBEAT: Traffic(
        "the supervisor, for the agents of all runs that it holds",
        "the sweep, the pages of agents",
        "every 2 s, by the renewal of their leases in one statement: `Agent.last_heartbeat`, and no row of the bus",
        stored=False,
    ),
}


def table() -> str:
    """Return the table as Markdown."""
    lines = ["| type | sent by | with | read by | when |", "|---|---|---|---|---|"]
    for kind, of in BUS.items():
        verbs = ", ".join(f"`{verb}`" for verb in of.verbs) or "–"
        lines.append(f"| {kind.value} | {of.sender} | {verbs} | {of.reader} | {of.when} |")
    return "\n".join(lines) + "\n"
