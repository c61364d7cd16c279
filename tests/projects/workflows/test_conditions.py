"""Conditions on edges: what they can say, and that each ends, with a yes, a no or a clear failure."""

import pytest

from projects.workflows.conditions import InvalidCondition, UndecidedCondition, check_condition, is_met

REVIEW = {"verdict": "approved", "tests": {"failed": 0, "passed": 12}, "files": ["a.py", "b.py"], "note": None}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("true", True),
        ("result.verdict == 'approved' && result.tests.failed == 0", True),
        ("result.tests.failed > 0 || result.tests.passed < 12", False),
        ("has(result.nothing) && result.nothing", False),
        ("'a.py' in result.files && size(result.files) == 2", True),
        ("result.files[0].endsWith('.py')", True),
        ("status == 'completed' ? result.tests.passed - 2 == 10 : false", True),
        ("result.note == null", True),
        ("!(result.verdict.contains('reject'))", True),
        ("'all(' == result.verdict", False),
    ],
)
def test_condition_says_yes_or_no(text: str, expected: bool) -> None:
    assert is_met(text, REVIEW, status="completed") is expected


@pytest.mark.parametrize(
    "text",
    ["result.nothing == 1", "result.verdict < 1", "result.files[9] == 'x'", "result.verdict", "1 - 2"],
)
def test_condition_without_an_answer_raises(text: str) -> None:
    with pytest.raises(UndecidedCondition):
        is_met(text, REVIEW, status="completed")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1 ==",
        "secret == 1",
        "result.files.all(f, f != '')",
        "result.files.exists(result, result != '')",
        "result.files.exists_one(result, result != '')",
        "result.files.filter(result, result != '') == []",
        "result.files.map(result, result) == []",
        "result.verdict.matches('(a+)+$')",
        "result.verdict + result.verdict == ''",
        "[1].all(status, true)",
        "x" * 501,
        "(" * 200 + "true" + ")" * 200,
        "!" * 400 + "true",
        "-" * 400 + "1 == 1",
        "[" * 200 + "]" * 200 + " == []",
        "true ? " * 60 + "true" + " : false" * 60,
        "import os",
    ],
)
def test_condition_that_could_loop_or_is_none_is_refused(text: str) -> None:
    with pytest.raises(InvalidCondition):
        check_condition(text)


def test_condition_on_a_large_result_ends() -> None:
    large = {"rows": [{"n": n} for n in range(5_000)], "verdict": "x" * 50_000}
    assert is_met(" && ".join(["!(7 in result.rows)"] * 20), large, status="completed")
