"""The members of a squad: called in, set to work, set free."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from agents.models import Agent, Run
from agents.states import AGENT_TRANSITIONS, AgentStatus, RunStatus
from projects import audit
from projects.actors import Actor
from projects.events import AGENT_BLOCKED, AGENT_COMPLETED, AGENT_SPAWNED, AGENT_WORKING, Event
from projects.ids import new_id
from projects.models import Project, SquadMember, Task
from projects.transitions import step, step_all

# An agent whose question is being answered may take other work meanwhile.
FREE = frozenset({AgentStatus.READY, AgentStatus.BLOCKED})
# Runs that ended without anybody's fault.
_STOPPED = frozenset({RunStatus.CANCELLED, RunStatus.OVER_BUDGET})


def spawn_agents(projects: Iterable[UUID], *, by: Actor, now: datetime) -> None:
    """Call in the squads of projects that have none yet, all at once."""
    members = list(
        SquadMember.objects.filter(squad__project__in=list(projects), agents__isnull=True)
        .select_related("squad__project")
        .order_by("role")
    )
    if not members:
        return
    named = [(member, _name(member, number)) for member in members for number in range(1, member.count + 1)]
    with audit.journal(by=by, now=now) as journal:
        made = Agent.objects.bulk_create(
            Agent(
                id=new_id(),
                project=member.squad.project,
                member=member,
                agent_type=member.role,
                name=name,
                created_at=now,
            )
            for member, name in named
        )
        # All at once, by the same steps as one agent: a squad is called in while its first task waits.
        for old, new in ((AgentStatus.SPAWN, AgentStatus.INIT), (AgentStatus.INIT, AgentStatus.READY)):
            assert new in AGENT_TRANSITIONS[old]
            Agent.objects.filter(pk__in=[agent.pk for agent in made], status=old).update(status=new)
        for agent in made:
            _record_spawn(journal, agent)


def _name(member: SquadMember, number: int) -> str:
    return f"{member.role}-{number}" if member.count > 1 else member.role


def _record_spawn(journal: audit.Journal, agent: Agent) -> None:
    assert agent.member is not None
    payload = {"projectId": agent.project_id, "agentId": agent.pk, "agentType": agent.agent_type}
    journal.add(
        "agent.spawned",
        project_id=agent.project_id,
        agent_id=agent.pk,
        obj=agent,
        details={"name": agent.name, "model": agent.member.model},
        event=Event(AGENT_SPAWNED, payload),
    )


def begin_work(given: Sequence[tuple[Agent, Task]], *, by: Actor, now: datetime) -> None:
    """Set free agents to work, each on a task. All or none: StaleState when one of them is not free any more."""
    with audit.journal(by=by, now=now) as journal:
        step_all([agent for agent, _ in given], AgentStatus.WORKING, table=AGENT_TRANSITIONS)
        for agent, task in given:
            payload = {"agentId": agent.pk, "taskId": task.pk, "description": task.title}
            _record(journal, "agent.working", agent, task, Event(AGENT_WORKING, payload))


def end_work(run: Run, result: str, *, by: Actor, now: datetime) -> None:
    """Set an agent free after its run. `result` is a word for what came of it."""
    agent = run.agent
    with audit.journal(by=by, now=now) as journal:
        step(agent, AgentStatus.COMPLETE, table=AGENT_TRANSITIONS, pid=None, working_dir="")
        payload = {"agentId": agent.pk, "taskId": run.task_id, "result": result}
        _record(journal, "agent.completed", agent, run.task, Event(AGENT_COMPLETED, payload))
        step(agent, AgentStatus.READY, table=AGENT_TRANSITIONS)


def end_badly(run: Run, reason: str, *, by: Actor, now: datetime) -> None:
    """Set an agent free after a run that led to nothing. Whose run was only stopped did not fail."""
    agent, is_stopped = run.agent, run.status in _STOPPED
    with audit.journal(by=by, now=now) as journal:
        step(
            agent,
            AgentStatus.PAUSED if is_stopped else AgentStatus.FAILED,
            table=AGENT_TRANSITIONS,
            pid=None,
            working_dir="",
        )
        action = "agent.stopped" if is_stopped else "agent.failed"
        _record(journal, action, agent, run.task, None, {"reason": reason})
        step(agent, AgentStatus.READY, table=AGENT_TRANSITIONS)


def block(run: Run, reason: str, *, needs_admin: bool, by: Actor, now: datetime) -> None:
    """Note that an agent waits for an answer."""
    agent = run.agent
    with audit.journal(by=by, now=now) as journal:
        step(agent, AgentStatus.BLOCKED, table=AGENT_TRANSITIONS, pid=None, working_dir="")
        payload = {"agentId": agent.pk, "reason": reason, "needsAdmin": needs_admin}
        _record(journal, "agent.blocked", agent, run.task, Event(AGENT_BLOCKED, payload))


def dismiss_agents(project: Project, *, by: Actor, now: datetime) -> None:
    """End a finished project's agents. None of them may be working."""
    with audit.journal(by=by, now=now) as journal:
        for agent in project.agents.exclude(status__in=[AgentStatus.TERMINATED, AgentStatus.WORKING]):
            step(agent, AgentStatus.TERMINATED, table=AGENT_TRANSITIONS)
            journal.add("agent.terminated", project_id=project.pk, agent_id=agent.pk, obj=agent)


def _record(
    journal: audit.Journal,
    action: str,
    agent: Agent,
    task: Task,
    event: Event | None,
    details: dict[str, Any] | None = None,
) -> None:
    journal.add(
        action,
        project_id=agent.project_id,
        agent_id=agent.pk,
        obj=agent,
        details={"task": task.pk, "key": task.key} | (details or {}),
        event=event,
    )
