"""The policy that holds one run, and the specialisations there are."""

from dataclasses import dataclass, replace
from functools import reduce

from agents.errors import UnknownSpecialisation
from agents.models import Agent, Run, Specialisation
from agents.roles.policy import RoleLimits, RolePolicy
from agents.roles.specialisations import BUILT_IN, Narrowing, Specialised
from agents.roles.table import ROLES
from projects.models import Task
from projects.roles import Role

__all__ = ["Known", "known_specialisations", "limits_of_run", "policy_of", "specialisations_of", "specialised"]


@dataclass(frozen=True)
class Known:
    """A specialisation under its key, whoever made it."""

    key: str
    of: Specialised
    is_built_in: bool


def specialisations_of(agent: Agent, task: Task) -> list[str]:
    """Return the keys of all that narrow an agent's work on a task: its squad's row, its own, and the task's.

    A run is made with them, and held by them to its end whatever is given to agents and squads meanwhile. Needs the
    agent's member loaded.
    """
    given = (agent.member.specialisation if agent.member else "", agent.specialisation, task.specialisation)
    return list(dict.fromkeys(filter(None, given)))


def policy_of(run: Run) -> RolePolicy:
    """Return what the run may do: the meeting of its role and of every specialisation that it was made with.

    Needs the run's agent loaded. One that is not known, or is of another role, allows nothing: UnknownSpecialisation.
    """
    role = Role(run.agent.agent_type)
    return reduce(RolePolicy.meet, (_of_role(key, role).policy for key in run.specialisations), ROLES[role])


def limits_of_run(run: Run) -> RoleLimits:
    """Return time, turns and money of a run: its squad's, and no more than its specialisations have.

    With one that is not known they are the squad's: such a run is made like others, so that nothing else waits for it,
    and ends before its agent begins, by `policy_of`. Needs the run's agent and its member loaded.
    """
    member = run.agent.member
    assert member is not None, "an agent outlives its squad only in a deleted project"
    role = ROLES[Role(run.agent.agent_type)].limits
    squads = replace(role, minutes=member.max_minutes, turns=member.max_turns, cost=member.max_cost)
    if not run.specialisations:
        return squads
    try:
        return squads.meet(policy_of(run).limits)
    except UnknownSpecialisation:
        return squads


def _of_role(key: str, role: Role) -> Specialised:
    found = specialised(key)
    if found.base is not role:
        raise UnknownSpecialisation(f"{found.name} is of the role {found.base.label}, not {role.label}.")
    return found


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
