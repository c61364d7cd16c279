"""What a workflow may look like: all that is wrong is said at once, and quickly."""

from collections.abc import Sequence
from typing import Any

import pytest

from projects.workflows.definition import MAX_NODES, Definition, InvalidWorkflow


def step(key: str, **fields: Any) -> dict[str, Any]:
    return {"key": key, "function": "noop", **fields}


def graph(*nodes: dict[str, Any], edges: Sequence[Any] = ()) -> dict[str, Any]:
    ways = [edge if isinstance(edge, dict) else {"from": edge[0], "to": edge[1]} for edge in edges]
    return {"nodes": list(nodes), "edges": ways}


def problems(data: object) -> str:
    with pytest.raises(InvalidWorkflow) as caught:
        Definition.from_json(data)
    return "\n".join(caught.value.problems)


def test_definition_is_read_and_written_as_it_was() -> None:
    review = {"key": "b", "role": "qa", "title": "Review", "join": "any", "retries": 2, "priority": 5}
    data = graph(
        step("a", params={"n": 1}),
        review,
        step("c", join=1),
        edges=[("a", "b"), {"from": "b", "to": "c", "after": "always", "when": "status == 'failed'"}],
    )
    assert Definition.from_json(data).to_json() == data


def test_definition_lists_everything_that_is_wrong() -> None:
    data = graph(
        step("a", role="developer"),
        {"key": "B!", "role": "wizard", "title": "x"},
        step("a", join="most", retries=99, timeout_s=0),
        {"key": "d", "role": "qa"},
        step("e", join=3),
        edges=[("a", "nowhere"), ("d", "e"), ("d", "e"), {"from": "a", "to": "e", "after": "noon", "when": "oops("}],
    )
    said = problems(data)
    for expected in (
        "The key “a” is used 2 times.",
        "The edge “d” → “e” is there 2 times.",
        "names “nowhere”, which is no node",
        "is taken after “noon”",
        "“oops(” is no expression",
        "Node “a” must name either a role or a function, or in the main job a stage.",
        "The key “B!” is not 1 to 64",
        "names the unknown role “wizard”",
        "The join of node “a” is not",
        "The retries of node “a”",
        "The times of node “a”",
        "Node “d” has no title.",
    ):
        assert expected in said


def test_join_of_more_than_its_edges_is_refused() -> None:
    assert "waits for 3 of its 1 edges" in problems(graph(step("a"), step("b", join=3), edges=[("a", "b")]))


def test_cycle_and_what_lies_behind_it_are_named() -> None:
    edges = [("a", "b"), ("b", "c"), ("c", "b"), ("c", "d")]
    said = problems(graph(step("a"), step("b"), step("c"), step("d"), edges=edges))
    assert "in a circle: b → c → b" in said or "in a circle: c → b → c" in said


def test_unreachable_nodes_are_named() -> None:
    said = problems(graph(step("a"), step("x"), step("y"), step("z"), edges=[("x", "y"), ("y", "x"), ("y", "z")]))
    assert "3 nodes can never be reached: “x”, “y”, “z”." in said


def test_node_that_waits_for_itself_is_a_cycle() -> None:
    assert "in a circle: a → a" in problems(graph(step("a"), edges=[("a", "a")]))


@pytest.mark.parametrize(
    "data",
    [
        None,
        [],
        "nodes",
        {"nodes": "a", "edges": []},
        {"nodes": []},
        {"nodes": [], "edges": [], "owner": 1},
        {"nodes": ["a"]},
        {"nodes": [{"title": "no key"}]},
        {"nodes": [{"key": 1, "function": "noop"}]},
        {"nodes": [{"key": "a", "function": "noop", "retries": True}]},
        {"nodes": [{"key": "a", "function": "noop", "params": [1]}]},
        {"nodes": [{"key": "a", "function": "no op"}]},
        {"nodes": [{"key": "a", "function": "noop", "colour": "red"}]},
        {"nodes": [{"key": "a", "function": "noop", "retry_after_s": float("nan")}]},
        {"nodes": [{"key": "a", "function": "noop"}], "edges": [{"from": "a"}]},
        {"nodes": [{"key": "a", "function": "noop"}], "edges": [7]},
    ],
)
def test_what_is_no_workflow_is_refused_in_words(data: object) -> None:
    assert problems(data)


def test_ten_thousand_nodes_are_checked_and_one_more_refused() -> None:
    nodes = [step(f"n{number}") for number in range(MAX_NODES)]
    edges = [(f"n{number // 2}", f"n{number}") for number in range(1, MAX_NODES)]
    assert len(Definition.from_json(graph(*nodes, edges=edges)).nodes) == MAX_NODES
    assert "10,001 nodes" in problems(graph(*nodes, step("more")))


def test_a_thousand_faults_are_counted_and_not_listed() -> None:
    said = problems(graph(*[step(f"N{number}") for number in range(1_000)]))
    assert said.count("\n") == 50
    assert "And 950 more." in said


def test_a_cycle_through_all_of_ten_thousand_nodes_is_found() -> None:
    nodes = [step(f"n{number}") for number in range(MAX_NODES)]
    edges = [(f"n{number}", f"n{(number + 1) % MAX_NODES}") for number in range(MAX_NODES)]
    assert "10,000 nodes can never be reached" in problems(graph(*nodes, edges=edges))


def test_edge_may_lead_back_to_what_comes_before() -> None:
    again = {"from": "b", "to": "a", "when": "result.passed == false", "repeat": 3}
    data = graph(step("a"), step("b"), step("c"), edges=[("a", "b"), ("b", "c"), again])
    assert Definition.from_json(data).to_json() == data


@pytest.mark.parametrize(
    ("edge", "said"),
    [
        ({"from": "a", "to": "b", "when": "result.x", "repeat": 3}, "leads to no node that comes before it"),
        ({"from": "b", "to": "a", "repeat": 3}, "would always lead back"),
        ({"from": "b", "to": "a", "when": "result.x", "repeat": -1}, "is not between 1 and 1,000"),
        ({"from": "b", "to": "a", "when": "result.x", "repeat": 1001}, "is not between 1 and 1,000"),
        ({"from": "b", "to": "a", "when": "result.x", "repeat": True}, "“repeat” of edge 2 is no int"),
    ],
)
def test_edge_that_cannot_lead_back_is_refused(edge: dict[str, Any], said: str) -> None:
    way = ("a", "b") if (edge["from"], edge["to"]) != ("a", "b") else ("c", "b")
    assert said in problems(graph(step("a"), step("b"), step("c"), edges=[way, edge]))


def test_too_many_edges_that_lead_back_are_refused() -> None:
    chain = [step(f"n{number}") for number in range(103)]
    edges: list[Any] = [(f"n{number}", f"n{number + 1}") for number in range(102)]
    edges += [{"from": f"n{n + 1}", "to": f"n{n}", "when": "result.x", "repeat": 1} for n in range(101)]
    assert "101 of its edges repeat; 100 may" in problems(graph(*chain, edges=edges))
