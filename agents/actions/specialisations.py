"""Specialisations: made by an admin, given to agents and to roles of a squad, named by tasks of a plan."""

from collections.abc import Sequence
from datetime import datetime

from django.utils.text import slugify

from agents.errors import InvalidSpecialisation
from agents.models import Agent, Specialisation
from agents.roles import BUILT_IN, Narrowing, find_widening
from agents.roles.of_runs import known_specialisations, specialised
from agents.states import AgentStatus
from projects import audit
from projects.actors import Actor
from projects.errors import InvalidPlan
from projects.ids import new_id
from projects.models import SquadMember
from projects.plans import PlannedTask
from projects.roles import Role


def make_specialisation(
    name: str, base: Role, narrowing: Narrowing, *, about: str = "", by: Actor, now: datetime
) -> Specialisation:
    """Make a base role with less. Raises InvalidSpecialisation when it would be wider, or the name is taken or none."""
    key = slugify(name).replace("-", "_")[:40]
    if not key:
        raise InvalidSpecialisation("Give it a name with letters in it.")
    if key in BUILT_IN or Specialisation.objects.filter(key=key).exists():
        raise InvalidSpecialisation(f"There is a specialisation {name} already. Choose another name.")
    if wider := find_widening(base, narrowing):
        raise InvalidSpecialisation(wider)
    with audit.journal(by=by, now=now) as journal:
        made = Specialisation.objects.create(
            id=new_id(),
            key=key,
            name=name,
            about=about,
            base_role=base,
            narrowing=narrowing.to_json(),
            created_at=now,
        )
        details = {"key": key, "base": base.value, "narrowing": made.narrowing}
        journal.add("specialisation.made", obj=made, details=details)
    return made


def specialise_agent(agent: Agent, key: str, *, by: Actor, now: datetime) -> None:
    """Give an agent a specialisation of its role, or none with an empty key; from its next run on.

    Raises UnknownSpecialisation; InvalidSpecialisation for one of another role, or while the agent works.
    """
    _check_base(key, agent.agent_type)
    with audit.journal(by=by, now=now) as journal:
        changed = Agent.objects.filter(pk=agent.pk).exclude(status=AgentStatus.WORKING).update(specialisation=key)
        if not changed:
            raise InvalidSpecialisation(f"{agent.name} works right now. Try again when its run has ended.")
        details = {"before": agent.specialisation, "after": key}
        journal.add("agent.specialised", project_id=agent.project_id, agent_id=agent.pk, obj=agent, details=details)


def specialise_member(member: SquadMember, key: str, *, by: Actor, now: datetime) -> None:
    """Give all agents of a role in a squad a specialisation, or none with an empty key; from their next runs on.

    What an agent has of its own narrows it further. Raises UnknownSpecialisation, InvalidSpecialisation for one of
    another role.
    """
    _check_base(key, member.role)
    with audit.journal(by=by, now=now) as journal:
        SquadMember.objects.filter(pk=member.pk).update(specialisation=key)
        details = {"role": member.role, "before": member.specialisation, "after": key}
        journal.add("squad.specialised", project_id=member.squad.project_id, obj=member, details=details)


def check_planned(nodes: Sequence[PlannedTask]) -> None:
    """Raise InvalidPlan, with a sentence for each, when tasks name a specialisation that is none of their role."""
    if not any(node.specialisation for node in nodes):
        return
    known: dict[str, list[str]] = {}
    for item in known_specialisations():
        known.setdefault(item.of.base, []).append(item.key)
    problems = [
        f"Task “{node.key}” names the specialisation “{node.specialisation}”, which {node.role} does not have; "
        f"use {' or '.join([*known.get(node.role, []), 'none'])}."
        for node in nodes
        if node.specialisation and node.specialisation not in known.get(node.role, [])
    ]
    if problems:
        raise InvalidPlan(problems[:20])


def _check_base(key: str, role: str) -> None:
    if key and specialised(key).base != role:
        raise InvalidSpecialisation(f"{specialised(key).name} is no specialisation of the role {role}.")
