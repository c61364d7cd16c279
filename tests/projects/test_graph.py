"""The drawing of a plan."""

from hypothesis import given
from hypothesis import strategies as st

from projects.graph import BOX_H, BOX_W, Node, draw


def node(key: str, *after: str) -> Node:
    return Node(key=key, title=key.title(), role="developer", depends_on=after)


def test_draw_nothing() -> None:
    graph = draw([])

    assert (graph.boxes, graph.edges) == ([], [])


def test_draw_puts_a_task_right_of_what_it_waits_for() -> None:
    boxes = {box.node.key: box for box in draw([node("b", "a"), node("a"), node("c", "b", "a")]).boxes}

    assert boxes["a"].x < boxes["b"].x < boxes["c"].x


def test_draw_marks_edges_whose_task_is_done() -> None:
    done = Node(key="a", title="A", role="qa", depends_on=(), status="completed")

    edges = draw([done, node("b", "a"), node("c", "b")]).edges

    assert sorted(edge.is_done for edge in edges) == [False, True]


def test_draw_leaves_out_edges_to_nothing() -> None:
    assert draw([node("a", "ghost")]).edges == []


def test_draw_survives_a_circle() -> None:
    graph = draw([node("a", "b"), node("b", "a")])

    assert len(graph.boxes) == 2
    assert graph.edges == []


@st.composite
def plans(draw_from: st.DrawFn) -> list[Node]:
    size = draw_from(st.integers(1, 14))
    return [
        node(f"t{n}", *draw_from(st.lists(st.sampled_from([f"t{m}" for m in range(n)]), max_size=3, unique=True)))
        if n
        else node("t0")
        for n in range(size)
    ]


@given(plans())
def test_boxes_stay_inside_and_never_overlap(nodes: list[Node]) -> None:
    graph = draw(nodes)

    for box in graph.boxes:
        assert 0 <= box.x <= graph.width - BOX_W
        assert 0 <= box.y <= graph.height - BOX_H
    for one in graph.boxes:
        for other in graph.boxes:
            apart = abs(one.x - other.x) >= BOX_W or abs(one.y - other.y) >= BOX_H
            assert apart or one is other


@given(plans())
def test_there_is_an_edge_for_each_dependency(nodes: list[Node]) -> None:
    assert len(draw(nodes).edges) == sum(len(one.depends_on) for one in nodes)
