"""What makes a plan usable."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from projects.errors import InvalidPlan
from projects.plans import MAX_MINUTES, MAX_TASKS, PLANNABLE_ROLES, PlannedTask, check_plan, find_cycle, layers
from projects.roles import Role

GRAPHS = st.integers(1, 12).flatmap(
    lambda size: st.lists(st.sets(st.integers(0, size - 1), max_size=4), min_size=size, max_size=size)
)


def node(key: str, *depends_on: str, **fields: object) -> PlannedTask:
    return PlannedTask(key, "Title", "developer", depends_on=depends_on, **fields)  # type: ignore[arg-type]


def problems(*nodes: PlannedTask) -> tuple[str, ...]:
    with pytest.raises(InvalidPlan) as caught:
        check_plan(nodes)
    assert all(problem in str(caught.value) for problem in caught.value.problems)
    return caught.value.problems


@pytest.mark.parametrize(
    "nodes",
    [
        [node("a")],
        [node("a", "b"), node("b")],
        [node("a"), node("b", "a"), node("c", "a"), node("d", "b", "c")],
        [node(f"t{number}") for number in range(MAX_TASKS)],
        [node("0"), node("a-b_c"), node("x" * 48)],
    ],
    ids=["one", "later dependency", "diamond", "as many as allowed", "keys"],
)
def test_usable_plan_is_accepted(nodes: list[PlannedTask]) -> None:
    check_plan(nodes)


def test_plan_without_tasks_is_refused() -> None:
    assert problems() == ("It has no tasks; it needs at least one.",)


def test_plan_with_too_many_tasks_is_refused() -> None:
    assert problems(*[node(f"t{number}") for number in range(MAX_TASKS + 1)]) == (
        "It has 1,001 tasks; at most 1,000 are allowed.",
    )


@pytest.mark.parametrize("key", ["", "A", "-a", "a b", "a/../b", "ü", "x" * 49, "a\n", "'; DROP TABLE", "🦉"])
def test_unusable_key_is_refused(key: str) -> None:
    assert "is not 1 to 48 of" in problems(node(key))[0]


def test_key_used_twice_is_refused() -> None:
    assert problems(node("a"), node("a")) == ("The key “a” is used twice.",)


@pytest.mark.parametrize("title", ["", " \n"])
def test_task_without_title_is_refused(title: str) -> None:
    assert problems(PlannedTask("a", title, "developer")) == ("Task “a” has no title.",)


@pytest.mark.parametrize("role", ["", "wizard", "Developer", "orchestrator", "mentor"])
def test_role_that_cannot_be_planned_is_refused(role: str) -> None:
    (problem,) = problems(PlannedTask("a", "A", role))
    assert f"unknown role “{role}”" in problem
    assert "architect, developer, monitor, pm, qa, sre, tester, uat" in problem


@pytest.mark.parametrize("role", sorted(set(Role) - {"orchestrator", "mentor"}))
def test_every_other_role_can_be_planned(role: str) -> None:
    assert role in PLANNABLE_ROLES
    check_plan([PlannedTask("a", "A", role)])


@pytest.mark.parametrize("minutes", [-1, MAX_MINUTES + 1, 2**40])
def test_impossible_estimate_is_refused(minutes: int) -> None:
    assert "estimate" in problems(node("a", estimate_minutes=minutes))[0]


def test_dependency_that_is_not_there_is_refused() -> None:
    assert problems(node("a", "b")) == ("Task “a” depends on “b”, which is not in the plan.",)


def test_dependency_named_twice_is_refused() -> None:
    assert problems(node("a"), node("b", "a", "a")) == ("Task “b” names a dependency twice.",)


@pytest.mark.parametrize(
    ("nodes", "circle"),
    [
        ([node("a", "a")], "a → a"),
        ([node("a", "b"), node("b", "a")], "a → b → a"),
        ([node("x"), node("c", "a", "x"), node("a", "b"), node("b", "c"), node("y", "c")], "a → c → b → a"),
    ],
)
def test_circle_is_refused_and_shown(nodes: list[PlannedTask], circle: str) -> None:
    assert problems(*nodes) == (f"Its tasks wait for each other in a circle: {circle}.",)


def test_many_faults_are_named_up_to_twenty() -> None:
    assert len(problems(*[PlannedTask(f"t{number}", "", "wizard") for number in range(100)])) == 20


def test_largest_plan_is_checked_quickly() -> None:
    chain = [node(f"t{number}", *([f"t{number + 1}"] if number < MAX_TASKS - 1 else [])) for number in range(MAX_TASKS)]
    begin = time.process_time()
    check_plan(chain)
    assert len(layers({task.key: task.depends_on for task in chain})) == MAX_TASKS
    assert time.process_time() - begin < 2


def test_task_comes_back_from_json_as_it_was() -> None:
    task = node("b", "a", description="Do.", estimate_minutes=20, acceptance_criteria=("Done.",))
    assert PlannedTask.from_json(task.to_json()) == task
    assert PlannedTask.from_json({"key": "a", "title": "A", "role": "qa"}) == PlannedTask("a", "A", "qa")


def test_layers_put_each_below_its_deepest_parent() -> None:
    assert layers({"d": ["b", "c"], "c": ["b"], "a": [], "b": ["a"]}) == [["a"], ["b"], ["c"], ["d"]]
    assert layers({}) == []


@given(GRAPHS)
def test_cycle_is_found_exactly_where_one_is(edges: list[set[int]]) -> None:
    parents = {str(number): sorted(map(str, of)) for number, of in enumerate(edges)}
    cycle = find_cycle(parents)
    assert bool(cycle) == any(reaches(parents, key, key) for key in parents)
    for child, parent in zip(cycle[1:], cycle, strict=False):
        assert parent in parents[child]
    if cycle:
        assert cycle[0] == cycle[-1]
    else:
        depth = {key: number for number, layer in enumerate(layers(parents)) for key in layer}
        assert all(depth[parent] < depth[key] for key in parents for parent in parents[key])


def reaches(parents: dict[str, list[str]], start: str, goal: str) -> bool:
    """Whether a way leads from `start` over at least one edge to `goal`."""
    seen: set[str] = set()
    edge = set(parents[start])
    while edge:
        seen |= edge
        edge = {parent for key in edge for parent in parents[key]} - seen
    return goal in seen
