"""The role table itself: what it says, and that nothing made of a role is wider than the role."""

from dataclasses import replace
from decimal import Decimal
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.core.management import CommandError, call_command
from django.test import Client
from django.urls import reverse
from hypothesis import given
from hypothesis import strategies as st

from agents.egress import EgressClass
from agents.gateway.verbs import VERBS
from agents.roles import (
    BUILT_IN,
    ROLES,
    Git,
    Narrowing,
    RolePolicy,
    Terminal,
    compile_policy,
    find_widening,
    limits_of,
    mounts_of,
    tools_of,
)
from agents.roles.policy import check_root, meet_roots
from agents.roles.shown import COLUMNS, markdown
from agents.runtimes.errors import InvalidSpec
from projects.models import SquadMember
from projects.roles import Role
from tests.factories import UserFactory

NO, READ, FULL = Git.NO, Git.READ, Git.FULL
DOCS, TESTS, ALL = frozenset({"docs/"}), frozenset({"tests/"}), frozenset({""})
NOTHING: frozenset[str] = frozenset()

# Seed 000 §5, permissions matrix, cell by cell.
MATRIX: dict[Role, tuple[frozenset[str], Git, Terminal, bool, bool, EgressClass]] = {
    Role.ORCHESTRATOR: (NOTHING, READ, Terminal.NO, False, True, EgressClass.INTERNAL),
    Role.ARCHITECT: (DOCS, READ, Terminal.NO, False, False, EgressClass.RESEARCH),
    Role.DEVELOPER: (ALL, FULL, Terminal.FULL, False, False, EgressClass.PACKAGES),
    Role.TESTER: (TESTS, READ, Terminal.TEST, False, False, EgressClass.TEST_ONLY),
    Role.QA: (NOTHING, READ, Terminal.TEST, True, False, EgressClass.TEST_ONLY),
    Role.PM: (DOCS, READ, Terminal.NO, False, False, EgressClass.RESEARCH),
    Role.UAT: (NOTHING, NO, Terminal.NO, True, False, EgressClass.TEST_ONLY),
    Role.SRE: (ALL, FULL, Terminal.FULL, False, False, EgressClass.FULL),
    Role.MONITOR: (NOTHING, READ, Terminal.DIAGNOSTIC, False, False, EgressClass.METRICS),
    Role.MENTOR: (NOTHING, READ, Terminal.NO, True, False, EgressClass.RESEARCH),
}


def test_every_role_has_its_rights() -> None:
    assert set(ROLES) == set(Role) == set(MATRIX)


@pytest.mark.parametrize("role", list(Role))
def test_the_table_says_what_the_matrix_says(role: Role) -> None:
    of = ROLES[role]
    assert (of.writable, of.git, of.terminal, of.browser, of.spawn, of.egress) == MATRIX[role]


def test_every_verb_is_somebodys_and_every_name_is_a_verb() -> None:
    assert frozenset[str]().union(*(policy.verbs for policy in ROLES.values())) == VERBS.keys()


def test_a_squad_is_made_with_the_tables_limits() -> None:
    made = SquadMember()
    for policy in ROLES.values():
        limits = policy.limits
        assert (limits.minutes, limits.turns, limits.cost) == (made.max_minutes, made.max_turns, made.max_cost)


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
        (Role.PM, "README.md", False),
        (Role.PM, "app/README.md", False),
        (Role.ARCHITECT, "docs/adr/0001.md", True),
        (Role.ARCHITECT, "app/store.py", False),
        (Role.QA, "README.md", False),
        (Role.MENTOR, "docs/a.md", False),
    ],
)
def test_paths(role: Role, path: str, allowed: bool) -> None:
    assert ROLES[role].path_policy.allows(path) is allowed


# What a policy compiles to


@pytest.mark.parametrize("role", list(Role))
def test_tools_follow_from_the_policy(role: Role) -> None:
    policy, tools = ROLES[role], tools_of(ROLES[role])
    assert {"Read", "Glob", "Grep"} <= set(tools.offered)
    assert ("Write" in tools.offered) == ("Edit" in tools.offered) == bool(policy.writable)
    assert ("Bash" in tools.offered) == bool(policy.terminal)
    assert ("Bash" in tools.allowed) == (policy.terminal is Terminal.FULL)
    assert ("Agent" in tools.offered) == policy.spawn
    reaches_out = policy.egress in {EgressClass.RESEARCH, EgressClass.FULL}
    assert ("WebFetch" in tools.offered) == ("WebSearch" in tools.offered) == reaches_out
    known = {"Read", "Glob", "Grep", "Write", "Edit", "Bash", "Agent", "WebFetch", "WebSearch"}
    assert set(tools.offered) <= known


@pytest.mark.parametrize("role", list(Role))
def test_limits_reach_the_sandbox(role: Role) -> None:
    of, limits = ROLES[role].limits, limits_of(ROLES[role])
    assert (limits.memory_mb, limits.cpus, limits.pids) == (of.memory_mb, of.cpus, of.pids)
    assert (limits.disk_mb, limits.tmp_mb) == (of.disk_mb, of.tmp_mb)


def mounted(policy: RolePolicy, clone: Path) -> tuple[bool, dict[str, tuple[str, bool]]]:
    read_only, mounts = mounts_of(policy, clone, inside="/w", empty=clone.parent / "empty")
    return read_only, {mount.inside: (mount.host.name, mount.read_only) for mount in mounts}


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    (tmp_path / "clone" / ".git").mkdir(parents=True)
    (tmp_path / "clone" / "README.md").touch()
    return tmp_path / "clone"


def test_writers_of_documents_get_their_places_over_a_read_only_checkout(clone: Path) -> None:
    read_only, mounts = mounted(ROLES[Role.PM], clone)
    assert read_only
    assert mounts == {"/w/docs": ("docs", False)}
    assert (clone / "docs").is_dir()


def test_a_file_that_is_missing_is_not_mounted(clone: Path) -> None:
    policy = replace(ROLES[Role.PM], writable=frozenset({"docs/", "README.md"}))
    assert mounted(policy, clone)[1] == {"/w/docs": ("docs", False), "/w/README.md": ("README.md", False)}
    (clone / "README.md").unlink()
    assert mounted(policy, clone)[1] == {"/w/docs": ("docs", False)}


def test_who_may_not_read_git_sees_an_empty_place(clone: Path) -> None:
    assert mounted(ROLES[Role.UAT], clone) == (True, {"/w/.git": ("empty", True)})


def test_who_may_do_all_gets_the_checkout_as_it_is(clone: Path) -> None:
    assert mounted(ROLES[Role.DEVELOPER], clone) == (False, {})


def test_git_is_held_apart_from_the_files(clone: Path) -> None:
    reads = compile_policy(Role.DEVELOPER, Narrowing(git=Git.READ))
    assert mounted(reads, clone) == (False, {"/w/.git": (".git", True)})
    commits = compile_policy(Role.DEVELOPER, Narrowing(writable=frozenset({"docs/"})))
    assert mounted(commits, clone) == (True, {"/w/docs": ("docs", False), "/w/.git": (".git", False)})


@pytest.mark.parametrize("target", ["app", "/etc", "../outside"])
def test_a_place_to_write_in_that_is_a_link_is_refused(clone: Path, target: str) -> None:
    (clone / "docs").symlink_to(target)
    with pytest.raises(InvalidSpec, match="docs is a link"):
        mounted(ROLES[Role.PM], clone)


def test_a_place_to_write_in_that_is_a_file_is_refused(clone: Path) -> None:
    (clone / "docs").touch()
    with pytest.raises(InvalidSpec, match="no directory"):
        mounted(ROLES[Role.PM], clone)


# Specialisations

ROOTS = st.sampled_from(["", "docs/", "docs/adr/", "tests/", "app/", "README.md", "eklavya.toml", "docs/a.md"])
VERB_NAMES = st.sampled_from([*VERBS, "invented"])
ANY_NARROWING = st.builds(
    Narrowing,
    writable=st.none() | st.frozensets(ROOTS, max_size=4),
    git=st.none() | st.sampled_from([NO, READ, FULL]),
    terminal=st.none() | st.sampled_from([*(Terminal(value) for value in range(8))]),
    browser=st.none() | st.booleans(),
    spawn=st.none() | st.booleans(),
    egress=st.none() | st.sampled_from(list(EgressClass)),
    verbs=st.none() | st.frozensets(VERB_NAMES),
    memory_mb=st.none() | st.integers(1, 10**6),
    cpus=st.none() | st.floats(0.1, 64),
    pids=st.none() | st.integers(1, 10**5),
    disk_mb=st.none() | st.integers(1, 10**6),
    tmp_mb=st.none() | st.integers(1, 10**5),
    minutes=st.none() | st.integers(1, 10**4),
    turns=st.none() | st.integers(1, 10**4),
    cost=st.none() | st.decimals(Decimal("0.01"), 1000, places=2),
)
ANY_ROLE = st.sampled_from(list(Role))
PATHS = [
    "app/a.py",
    "docs/a.md",
    "docs/adr/1.md",
    "tests/t.py",
    "README.md",
    "eklavya.toml",
    "x",
    "docs",
    ".git/config",
]
OF_LIMITS = ("memory_mb", "cpus", "pids", "disk_mb", "file_mb", "tmp_mb")


@given(base=ANY_ROLE, narrowing=ANY_NARROWING)
def test_nothing_made_of_a_role_is_wider_than_the_role(base: Role, narrowing: Narrowing) -> None:
    made, policy = compile_policy(base, narrowing), ROLES[base]

    assert made.is_within(policy)
    assert set(tools_of(made).offered) <= set(tools_of(policy).offered)
    allowed = set(tools_of(policy).allowed)
    assert "Bash" in allowed or set(tools_of(made).allowed) <= allowed
    assert [path for path in PATHS if made.path_policy.allows(path) and not policy.path_policy.allows(path)] == []
    assert made.verbs <= policy.verbs
    assert made.egress in {policy.egress, EgressClass.INTERNAL} or policy.egress is EgressClass.FULL
    for name in OF_LIMITS:
        assert getattr(limits_of(made), name) <= getattr(limits_of(policy), name)
    assert (made.limits.minutes, made.limits.turns) <= (policy.limits.minutes, policy.limits.turns)


@given(base=ANY_ROLE, narrowing=ANY_NARROWING)
def test_what_would_widen_is_said_and_nothing_else(base: Role, narrowing: Narrowing) -> None:
    is_wider = compile_policy(base, narrowing) != narrowing.wanted(ROLES[base])
    # Roots that cover each other are the same wish in more words.
    repeats = narrowing.writable is not None and meet_roots(narrowing.writable, [""]) != narrowing.writable
    assert bool(find_widening(base, narrowing)) == is_wider or repeats


@given(narrowing=ANY_NARROWING)
def test_a_narrowing_is_kept_whole_in_a_row(narrowing: Narrowing) -> None:
    assert Narrowing.from_json(narrowing.to_json()) == narrowing


@pytest.mark.parametrize(
    "data", [{"root": True}, {"git": "all"}, {"memory_mb": 0}, {"writable": ["../up/"]}, {"cost": "x"}]
)
def test_a_row_that_holds_something_else_is_refused(data: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"."):
        Narrowing.from_json(data)


@pytest.mark.parametrize("root", ["/etc/", "../", "docs/../app/", ".git/", "docs//a", "a/.git/hooks/", "*", "a b"])
def test_roots_are_plain_paths(root: str) -> None:
    with pytest.raises(ValueError, match="no place"):
        check_root(root)


@pytest.mark.parametrize("name", BUILT_IN)
def test_what_comes_with_eklavya_asks_for_nothing_it_cannot_have(name: str) -> None:
    item = BUILT_IN[name]
    assert find_widening(item.base, item.narrowing) == ""


def test_the_issues_specialisations_are_there() -> None:
    named = "backend frontend designer ai_engineer tech_lead devops refinement support planning"
    assert set(named.split()) == set(BUILT_IN)


# The documents


def test_the_page_of_roles_in_the_docs_is_current() -> None:
    path = Path(settings.BASE_DIR) / "docs" / "roles.md"
    assert path.read_text(encoding="utf-8") == markdown(), "run manage.py roles_table"


def test_the_command_says_when_the_docs_are_stale(tmp_path: Path, settings: Any) -> None:
    settings.BASE_DIR = tmp_path
    (tmp_path / "docs").mkdir()
    with pytest.raises(CommandError, match="roles_table"):
        call_command("roles_table", "--check")
    call_command("roles_table", stdout=StringIO())
    call_command("roles_table", "--check", stdout=StringIO())


@pytest.mark.django_db
def test_each_cell_of_the_page_names_its_column_for_screens_without_a_head(client: Client) -> None:
    client.force_login(UserFactory())

    page = client.get(reverse("roles")).content.decode()

    assert all(page.count(f'<td data-label="{column}">') == len(ROLES) + len(BUILT_IN) for column in COLUMNS)
