"""The lines of what is wrong with a workflow's file."""

import pytest

from projects.workflows.definition import InvalidWorkflow
from projects.workflows.documents import read
from projects.workflows.places import with_lines

YAML = """\
key: x
name: X
nodes:
  - key: a
    role: qa
    title: A
  - {key: b, role: qa, title: B}
edges:
  - {from: a, to: b}
"""


def told(text: str) -> tuple[str, ...]:
    with pytest.raises(InvalidWorkflow) as refused:
        read(text)
    return with_lines(refused.value, text).problems


@pytest.mark.parametrize(
    ("old", "new", "line", "said"),
    [
        ("role: qa\n", "role: boss\n", 5, "unknown role “boss”"),
        ("    title: A\n", "", 4, "has no title"),
        ("    title: A\n", "    title: A\n    colour: 1\n", 7, "unknown field “colour”"),
        ("title: B", "title: B, retries: x", 7, "“retries” of node 2"),
        ("key: b", "key: a", 7, "used 2 times"),
        ("to: b", "to: c", 9, "no node"),
        ("to: b", "to: b, when: '1 +'", 9, "The edge “a” → “b”"),
        ("name: X\n", "name: X\ncolour: 1\n", 3, "unknown field “colour”"),
        ("name: X\n", "name: [X\n", 2, "neither JSON nor YAML"),
    ],
)
def test_problem_is_told_with_its_line(old: str, new: str, line: int, said: str) -> None:
    problem = told(YAML.replace(old, new, 1))[0]
    assert problem.startswith(f"Line {line}: ")
    assert said in problem


def test_problem_of_json_is_told_with_its_line() -> None:
    assert (
        told('{"key": "x", "name": "X",\n\t"nodes": [\n\t\t{"key": "a", "role": "boss", "title": "A"}]}')[0][:7]
        == "Line 3:"
    )


def test_problem_of_the_whole_has_no_line() -> None:
    assert told("[]")[0].startswith("It is no object")
    assert told("nodes: []\nkey: x\nname: X")[0] == "It has no nodes; it needs at least one."


def test_number_of_what_is_left_out_stays() -> None:
    rows = "".join(f"  - {{key: n{number}, role: boss, title: T}}\n" for number in range(60))
    assert told(f"key: x\nname: X\nnodes:\n{rows}")[-1] == "And 10 more."


@pytest.mark.parametrize("text", ["[" * 100_000, '{"nodes": ' * 900 + "[]" + "}" * 900, "- " * 100_000])
def test_file_that_nests_without_end_has_no_lines(text: str) -> None:
    assert told(text)
