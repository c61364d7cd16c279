"""Specialisations: made by an admin, and given to agents."""

from datetime import datetime

from django.utils.text import slugify

from agents.errors import InvalidSpecialisation
from agents.models import Agent, Specialisation
from agents.roles import BUILT_IN, Narrowing, find_widening
from agents.roles.of_runs import specialised
from agents.states import AgentStatus
from projects import audit
from projects.actors import Actor
from projects.ids import new_id
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
    if key and specialised(key).base != agent.agent_type:
        raise InvalidSpecialisation(f"{specialised(key).name} is no specialisation of the role {agent.agent_type}.")
    with audit.journal(by=by, now=now) as journal:
        changed = Agent.objects.filter(pk=agent.pk).exclude(status=AgentStatus.WORKING).update(specialisation=key)
        if not changed:
            raise InvalidSpecialisation(f"{agent.name} works right now. Try again when its run has ended.")
        details = {"before": agent.specialisation, "after": key}
        journal.add("agent.specialised", project_id=agent.project_id, agent_id=agent.pk, obj=agent, details=details)
