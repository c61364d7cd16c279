import pytest

from agents.roles import ROLES
from projects.roles import Role

WRITERS = {Role.ARCHITECT, Role.PM, Role.DEVELOPER, Role.TESTER, Role.SRE}


def test_every_role_has_its_rights() -> None:
    assert set(ROLES) == set(Role)


@pytest.mark.parametrize("role", list(Role))
def test_who_may_write_may_change_something_and_nobody_else(role: Role) -> None:
    assert ("Write" in ROLES[role].tools) == bool(ROLES[role].paths) == (role in WRITERS)


@pytest.mark.parametrize(
    ("role", "path", "allowed"),
    [
        (Role.DEVELOPER, "app/store.py", True),
        (Role.SRE, "eklavya.toml", True),
        (Role.TESTER, "tests/test_a.py", True),
        (Role.TESTER, "tests/deep/test_a.py", True),
        (Role.TESTER, "app/tests/test_a.py", False),
        (Role.TESTER, "tests", False),
        (Role.PM, "docs/guide.md", True),
        (Role.PM, "README.md", True),
        (Role.PM, "app/README.md", False),
        (Role.ARCHITECT, "docs/adr/0001.md", True),
        (Role.ARCHITECT, "app/store.py", False),
        (Role.QA, "README.md", False),
        (Role.MENTOR, "docs/a.md", False),
    ],
)
def test_paths(role: Role, path: str, allowed: bool) -> None:
    assert ROLES[role].path_policy.allows(path) is allowed


@pytest.mark.parametrize("role", [Role.ARCHITECT, Role.PM, Role.ORCHESTRATOR, Role.MENTOR])
def test_who_needs_no_commands_has_none(role: Role) -> None:
    assert "Bash" not in ROLES[role].tools


@pytest.mark.parametrize("role", list(Role))
def test_nobody_has_tools_that_reach_outside(role: Role) -> None:
    assert set(ROLES[role].tools) <= {"Read", "Glob", "Grep", "Write", "Edit", "Bash"}
