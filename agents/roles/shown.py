"""The role table in words: the page of roles and docs/roles.md are both made from this."""

from collections.abc import Iterable
from dataclasses import dataclass

from agents.egress import EgressClass
from agents.roles.compiling import tools_of
from agents.roles.policy import EVERYTHING, Git, RoleLimits, RolePolicy, Terminal
from agents.roles.specialisations import BUILT_IN
from agents.roles.table import ROLES

__all__ = ["COLUMNS", "Row", "built_in_rows", "markdown", "role_rows", "row_of"]

COLUMNS = ("File system", "Git", "Terminal", "Browser", "Spawn", "Network", "Limits", "Verbs of its own")
_GIT = {Git.NO: "No", Git.READ: "Read", Git.FULL: "Full"}
_TERMINAL = {
    Terminal.NO: "No",
    Terminal.TEST: "Test commands",
    Terminal.DIAGNOSTIC: "Diagnostic",
    Terminal.FULL: "Full",
}
_EGRESS = {
    EgressClass.INTERNAL: "Internal",
    EgressClass.PACKAGES: "Package registries",
    EgressClass.RESEARCH: "Research",
    EgressClass.TEST_ONLY: "Test only",
    EgressClass.METRICS: "Metrics",
    EgressClass.FULL: "Full",
}
_COMMON = frozenset.intersection(*(policy.verbs for policy in ROLES.values()))


@dataclass(frozen=True)
class Row:
    """A line of the table. `cells` follow COLUMNS."""

    name: str
    cells: tuple[str, ...]
    base: str = ""
    about: str = ""
    tools: tuple[str, ...] = ()

    @property
    def labelled(self) -> list[tuple[str, str]]:
        """The cells with their columns, for a screen that has no room for a head above them."""
        return list(zip(COLUMNS, self.cells, strict=True))


def role_rows() -> list[Row]:
    """Return the ten roles."""
    return [row_of(role.label, policy) for role, policy in ROLES.items()]


def built_in_rows() -> list[Row]:
    """Return the specialisations that come with Eklavya."""
    return [row_of(item.name, item.policy, base=item.base.label, about=item.about) for item in BUILT_IN.values()]


def row_of(name: str, policy: RolePolicy, *, base: str = "", about: str = "") -> Row:
    """Return a policy as a line of the table."""
    cells = (
        _files(policy),
        _GIT[policy.git],
        _TERMINAL[policy.terminal],
        "Full" if policy.browser else "No",
        "Yes" if policy.spawn else "No",
        _EGRESS[policy.egress],
        _limits(policy.limits),
        ", ".join(sorted(policy.verbs - _COMMON)) or "none",
    )
    return Row(name, cells, base, about, tools_of(policy).offered)


def _files(policy: RolePolicy) -> str:
    if EVERYTHING in policy.writable:
        return "Full"
    return f"Read/Write ({', '.join(sorted(policy.writable))})" if policy.writable else "Read"


def _limits(of: RoleLimits) -> str:
    return (
        f"{of.memory_mb} MB memory, {of.cpus:g} CPU, {of.pids} processes, {of.disk_mb} MB disk, "
        f"{of.tmp_mb} MB /tmp, {of.minutes} min, {of.turns} turns, cost {of.cost} per run"
    )


def markdown() -> str:
    """Return docs/roles.md."""
    return "\n".join(
        [
            "# What each role may do",
            "",
            "Made from `agents/roles/table.py` by `python manage.py roles_table`; do not edit it here. How each cell",
            "is held, and what is not, is said in [security-model.md](security-model.md).",
            "",
            "## Roles",
            "",
            *_table(role_rows(), ("Role", *COLUMNS)),
            "",
            f"Every role has besides: {', '.join(f'`{verb}`' for verb in sorted(_COMMON))}.",
            "Reading files is never refused within the checkout; what is written anywhere else is not merged.",
            "",
            "## Specialisations",
            "",
            "A specialisation is its base role with less. An admin may make more of them under Roles in the portal.",
            "",
            *_table(built_in_rows(), ("Specialisation", "Base", *COLUMNS)),
            "",
            "## Tools of the CLI",
            "",
            *(f"* {row.name}: {', '.join(row.tools)}" for row in role_rows()),
            "",
        ]
    )


def _table(rows: Iterable[Row], head: tuple[str, ...]) -> Iterable[str]:
    yield f"| {' | '.join(head)} |"
    yield f"|{'---|' * len(head)}"
    for row in rows:
        yield f"| {' | '.join([row.name, *([row.base] if row.base else []), *row.cells])} |"
