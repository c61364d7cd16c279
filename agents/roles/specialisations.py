"""Specialisations: a name for a base role with less. What somebody wants of one is data; what it gets is a meeting."""

from dataclasses import dataclass, fields, replace
from decimal import Decimal
from typing import Any, Self

from agents.egress import EgressClass
from agents.roles.policy import Git, RoleLimits, RolePolicy, Terminal, check_root, covers
from agents.roles.table import ROLES
from projects.roles import Role

__all__ = ["BUILT_IN", "Narrowing", "Specialised", "compile_policy", "find_widening"]


@dataclass(frozen=True, kw_only=True)
class Narrowing:
    """What a specialisation wants to be. None leaves a thing as the base role has it."""

    writable: frozenset[str] | None = None
    git: Git | None = None
    terminal: Terminal | None = None
    browser: bool | None = None
    spawn: bool | None = None
    egress: EgressClass | None = None
    verbs: frozenset[str] | None = None
    memory_mb: int | None = None
    cpus: float | None = None
    pids: int | None = None
    disk_mb: int | None = None
    tmp_mb: int | None = None
    minutes: int | None = None
    turns: int | None = None
    cost: Decimal | None = None

    def __post_init__(self) -> None:
        for root in self.writable or ():
            check_root(root)
        for item in fields(RoleLimits):
            value = getattr(self, item.name)
            if value is not None and not value > 0:
                raise ValueError(f"{item.name} must be more than 0")

    def wanted(self, base: RolePolicy) -> RolePolicy:
        """Return the base role with what is wanted in its place; it may be wider."""
        given = {item.name: value for item in fields(self) if (value := getattr(self, item.name)) is not None}
        limits = {item.name: given.pop(item.name) for item in fields(RoleLimits) if item.name in given}
        return replace(base, limits=replace(base.limits, **limits), **given)

    def to_json(self) -> dict[str, Any]:
        """Return it as a row keeps it: only what is narrowed."""
        given = {item.name: value for item in fields(self) if (value := getattr(self, item.name)) is not None}
        return {name: _plain(value) for name, value in given.items()}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        """Return what `to_json` gave. Raises ValueError for anything else."""
        try:
            return cls(**{name: _READERS.get(name, int)(value) for name, value in data.items()})
        except (TypeError, ArithmeticError) as error:
            raise ValueError(f"This is no narrowing of a role: {error}") from error


def _plain(value: Any) -> Any:
    match value:
        case frozenset():
            return sorted(value)
        case Decimal():
            return str(value)
        case Git() | Terminal() | EgressClass():
            return value.value
    return value


_READERS: dict[str, Any] = {
    "writable": frozenset,
    "verbs": frozenset,
    "git": Git,
    "terminal": Terminal,
    "browser": bool,
    "spawn": bool,
    "egress": EgressClass,
    "cpus": float,
    "cost": Decimal,
}


def compile_policy(base: Role, narrowing: Narrowing) -> RolePolicy:
    """Return what a specialisation gets: the meeting of its base role and of what it wants, so never more."""
    policy = ROLES[base]
    return policy.meet(narrowing.wanted(policy))


def find_widening(base: Role, narrowing: Narrowing) -> str:
    """Return, in a sentence, what is wanted that the base role does not have; empty when there is nothing."""
    policy, wanted = ROLES[base], narrowing.wanted(ROLES[base])
    outside = sorted(root for root in wanted.writable if not any(covers(wider, root) for wider in policy.writable))
    if outside:
        return f"{base.label} may not write {', '.join(outside)}, so nothing made of it may."
    if more := sorted(wanted.verbs - policy.verbs):
        return f"{base.label} has no {', '.join(more)}, so nothing made of it has."
    for item in fields(RolePolicy):
        allowed, asked = getattr(policy, item.name), getattr(wanted, item.name)
        if asked != getattr(policy.meet(wanted), item.name) and item.name not in {"writable", "verbs"}:
            what = _higher(allowed, asked) if isinstance(asked, RoleLimits) else item.name
            return f"{base.label} has less {what} than that. A specialisation may only narrow its base role."
    return ""


def _higher(allowed: RoleLimits, asked: RoleLimits) -> str:
    names = [item.name for item in fields(RoleLimits) if getattr(asked, item.name) > getattr(allowed, item.name)]
    return ", ".join(names)


@dataclass(frozen=True)
class Specialised:
    """A specialisation that comes with Eklavya."""

    name: str
    base: Role
    narrowing: Narrowing
    about: str

    @property
    def policy(self) -> RolePolicy:
        """What it may do."""
        return compile_policy(self.base, self.narrowing)


BUILT_IN: dict[str, Specialised] = {
    "backend": Specialised(
        "Backend", Role.DEVELOPER, Narrowing(), "Data, rules and interfaces; the whole checkout, as a developer."
    ),
    "frontend": Specialised(
        "Frontend",
        Role.DEVELOPER,
        Narrowing(writable=frozenset({"app/", "static/", "templates/", "tests/", "docs/"})),
        "Pages and their behaviour; not the manifest or the deployment.",
    ),
    "designer": Specialised(
        "Designer",
        Role.DEVELOPER,
        Narrowing(
            writable=frozenset({"static/", "templates/", "docs/"}),
            git=Git.READ,
            terminal=Terminal.NO,
            egress=EgressClass.INTERNAL,
        ),
        "Looks and words; no commands, no network.",
    ),
    "ai_engineer": Specialised(
        "AI engineer", Role.DEVELOPER, Narrowing(), "Prompts, models and their evaluation inside the product."
    ),
    "tech_lead": Specialised(
        "Tech lead",
        Role.ARCHITECT,
        Narrowing(egress=EgressClass.INTERNAL),
        "Plans and decides on the design from what is in the repository.",
    ),
    "devops": Specialised(
        "DevOps",
        Role.SRE,
        Narrowing(writable=frozenset({"deploy/", "docs/", "eklavya.toml"})),
        "How the product is built and run; not the product itself.",
    ),
    "refinement": Specialised(
        "Refinement",
        Role.PM,
        Narrowing(writable=frozenset(), egress=EgressClass.INTERNAL),
        "Turns an idea into requirements and questions; changes no file.",
    ),
    "support": Specialised(
        "Support",
        Role.PM,
        Narrowing(
            writable=frozenset({"docs/"}),
            egress=EgressClass.INTERNAL,
            verbs=ROLES[Role.PM].verbs - {"submit_requirements", "ask_client"},
        ),
        "Answers from the documents and mends them.",
    ),
    "planning": Specialised(
        "Planning",
        Role.ARCHITECT,
        Narrowing(writable=frozenset(), egress=EgressClass.INTERNAL),
        "Makes the plan; changes no file.",
    ),
}
