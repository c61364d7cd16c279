"""The role table: what an agent of each role may use and change (seed 000 §5, permissions matrix).

The table is the one source: the CLI's tool list, the check of changed paths and the limits come from it.
"""

from dataclasses import dataclass

from agents.workspace.paths import PathPolicy
from projects.roles import Role

_LOOK = ("Read", "Glob", "Grep")
_WRITE = (*_LOOK, "Write", "Edit")
_DOCS = ("docs/**", "README.md")
_TESTS = ("tests/**",)
_ALL = ("**",)


@dataclass(frozen=True)
class RolePolicy:
    """What the kernel and the wire allow a role.

    `tools` are the CLI's built-in ones, `paths` the globs of files whose change is merged.
    """

    tools: tuple[str, ...]
    paths: tuple[str, ...] = ()

    @property
    def path_policy(self) -> PathPolicy:
        """The same, in the workspace's terms."""
        return PathPolicy(self.paths)


ROLES: dict[Role, RolePolicy] = {
    Role.ORCHESTRATOR: RolePolicy(_LOOK),
    Role.ARCHITECT: RolePolicy(_WRITE, _DOCS),
    Role.PM: RolePolicy(_WRITE, _DOCS),
    Role.DEVELOPER: RolePolicy((*_WRITE, "Bash"), _ALL),
    Role.TESTER: RolePolicy((*_WRITE, "Bash"), _TESTS),
    Role.QA: RolePolicy((*_LOOK, "Bash")),
    Role.UAT: RolePolicy((*_LOOK, "Bash")),
    Role.SRE: RolePolicy((*_WRITE, "Bash"), _ALL),
    Role.MONITOR: RolePolicy((*_LOOK, "Bash")),
    Role.MENTOR: RolePolicy(_LOOK),
}
