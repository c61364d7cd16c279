"""The policy that holds one run, and the specialisations there are."""

from dataclasses import dataclass, replace

from agents.errors import UnknownSpecialisation
from agents.models import Agent, Run, Specialisation
from agents.roles.policy import RoleLimits, RolePolicy
from agents.roles.specialisations import BUILT_IN, Narrowing, Specialised
from agents.roles.table import ROLES
from projects.roles import Role

__all__ = ["Known", "known_specialisations", "limits_of_agent", "policy_of", "policy_of_agent", "specialised"]


@dataclass(frozen=True)
class Known:
    """A specialisation under its key, whoever made it."""

    key: str
    of: Specialised
    is_built_in: bool


def policy_of(run: Run) -> RolePolicy:
    """Return what the run's agent may do. Needs the run's agent loaded. Raises UnknownSpecialisation."""
    return policy_of_agent(run.agent)


def policy_of_agent(agent: Agent) -> RolePolicy:
    """Return what an agent may do: its role, or the specialisation of it that it was given.

    One that is not known, or is of another role, allows nothing at all: UnknownSpecialisation.
    """
    role = Role(agent.agent_type)
    if not agent.specialisation:
        return ROLES[role]
    found = specialised(agent.specialisation)
    if found.base is not role:
        raise UnknownSpecialisation(
            f"{found.name} is of the role {found.base.label}, and {agent.name} is {role.label}."
        )
    return found.policy


def limits_of_agent(agent: Agent) -> RoleLimits:
    """Return time, turns and money of each of an agent's runs: its squad's, and no more than its specialisation has.

    Needs the agent's member loaded.
    """
    member = agent.member
    assert member is not None, "an agent outlives its squad only in a deleted project"
    policy = policy_of_agent(agent).limits
    squads = replace(policy, minutes=member.max_minutes, turns=member.max_turns, cost=member.max_cost)
    return squads.meet(policy) if agent.specialisation else squads


def specialised(key: str) -> Specialised:
    """Return the specialisation of that key. Raises UnknownSpecialisation."""
    if key in BUILT_IN:
        return BUILT_IN[key]
    row = Specialisation.objects.filter(key=key).first()
    if row is None:
        raise UnknownSpecialisation
    return _read(row)


def known_specialisations() -> list[Known]:
    """Return all: those that come with Eklavya first."""
    built_in = [Known(key, item, is_built_in=True) for key, item in BUILT_IN.items()]
    made = [Known(row.key, _read(row), is_built_in=False) for row in Specialisation.objects.order_by("name")]
    return built_in + made


def _read(row: Specialisation) -> Specialised:
    return Specialised(row.name, Role(row.base_role), Narrowing.from_json(row.narrowing), row.about)
