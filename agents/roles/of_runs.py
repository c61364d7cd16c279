"""The policy that holds one run."""

from agents.models import Run
from agents.roles.policy import RolePolicy
from agents.roles.table import ROLES
from projects.roles import Role


def policy_of(run: Run) -> RolePolicy:
    """Return what the run's agent may do. Needs the run's agent loaded."""
    return ROLES[Role(run.agent.agent_type)]
