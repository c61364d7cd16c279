"""Workflows as files: the same in JSON and YAML, there and back, and nothing harmful read."""

from collections.abc import Callable

import pytest

from projects.workflows.definition import InvalidWorkflow
from projects.workflows.documents import Document, as_json, as_yaml, read

TEXT = """
key: review
name: Review “twice”
description: Two look at it.
nodes:
  - {key: one, role: qa, title: First look, brief: "Read it.\\nAll of it."}
  - {key: two, role: qa, title: Second look, join: any, retries: 2}
edges:
  - {from: one, to: two, when: "result.verdict == 'approved'"}
"""


@pytest.mark.parametrize("write", [as_json, as_yaml])
def test_workflow_goes_out_and_comes_back_as_it_was(write: Callable[[Document], str]) -> None:
    document = read(TEXT)
    assert (document.key, document.definition.nodes[1].retries) == ("review", 2)
    assert read(write(document)) == document


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no object"),
        ("[]", "no object"),
        ("a: [1", "neither JSON nor YAML"),
        ("key: x\nname: y\nnodes: !!python/object/apply:os.system [id]\n", "neither JSON nor YAML"),
        ("a: &a [1]\nnodes: [*a, *a, *a]\n", "Aliases"),
        ('{"key": "x", "nodes": [], "size": NaN}', "NaN"),
        ("[" * 200_000, "nests too deep"),
        ("key: x\nowner: me\nnodes: 7\n", "unknown field “owner”"),
        ("key: [x]\nnodes:\n- {key: a, function: noop}\n", "“key” is no text"),
        ("x" * (8 * 2**20 + 1), "over 8 MB"),
        ("{a: " * 100_000, "nests too deep"),
        ("- " * 100_000, "nests too deep"),
        ("nodes: [" + "[]," * 500_001, "too many parts"),
        ("key: 2026-13-45\n", "cannot be read"),
        ("key: 0001-01-01 00:00:00 +23:00\n", "is no text"),
        ("key: " + "9" * 5_000, "cannot be read"),
        ("key: \ud800\n", "cannot be read"),
        ("key: \x00\n", "neither JSON nor YAML"),
        ("nodes:\n- {key: a, function: noop, params: {on: 2026-11-22}}\n", "no JSON"),
        ("nodes:\n- {key: a, function: noop, params: {of: !!set {a, b}}}\n", "no JSON"),
        ("nodes:\n- {key: a, function: noop, params: {1: .nan}}\n", "no JSON"),
        ('{"nodes": [{"key": "a", "function": "noop", "params": {"a": 1e999}}]}', "no JSON"),
        ("nodes:\n- {key: a, function: noop, params: {n: 0x" + "f" * 4_000 + "}}\n", "cannot be read"),
        ("nodes:\n- {key: a, function: noop, join: 0x" + "f" * 4_000 + "}\n", "cannot be read"),
        ("? 0x" + "f" * 4_000 + "\n: 1\n", "cannot be read"),
        ("key: 1" + ":1" * 1_000_000 + "\n", "cannot be read"),
        ("nodes:\n- {key: a, function: noop, params: {n: 0x" + "f" * 17 + "}}\n", "huge number"),
        ('{"nodes": [{"key": "a", "function": "noop", "params": {"n": -' + "9" * 4_000 + "}}]}", "huge number"),
        ('{"nodes": [{"key": "a", "function": "noop", "params": {"a": ' + "[" * 95 + "]" * 95 + "}}]}", "too deep"),
    ],
)
def test_what_is_no_workflow_is_refused_in_words(text: str, said: str) -> None:
    with pytest.raises(InvalidWorkflow, match=said):
        read(text)
