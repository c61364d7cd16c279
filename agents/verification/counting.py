"""How many tests a test command ran, read from the summaries that the usual runners print."""

import re
from collections.abc import Callable, Iterator

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_UNITTEST = re.compile(r"^Ran (\d+) tests? in [\d.]+s\s*(?:^(?:OK|FAILED|NO TESTS RAN)\b(.*)$)?", re.MULTILINE)
_PYTEST = re.compile(r"^=*\s*(\d+ [a-z]+(?:, \d+ [a-z]+)*) in [\d.]+s", re.MULTILINE)
_NODE = re.compile(r"^(?:# |\u2139 )tests (\d+)$", re.MULTILINE)
_NODE_SKIPPED = re.compile(r"^(?:# |\u2139 )skipped (\d+)$", re.MULTILINE)
_JEST = re.compile(r"^Tests:\s+(.*\d+ total)$", re.MULTILINE)
_MOCHA = re.compile(r"^\s*(\d+) (?:passing|failing)\b", re.MULTILINE)
_COUNT = re.compile(r"(\d+) ([a-z]+)")
_EXECUTED = {"passed", "failed", "error", "errors", "xfailed", "xpassed"}


def count_tests(output: str) -> int:
    """The tests that were executed, over all summaries in the output; 0 when there is none.

    Skipped tests do not count: a run that skips everything has shown nothing. The output comes from code that is
    not trusted, so a number proves no more than that someone printed it; the tests' worth is for a reviewer.
    """
    text = _COLOUR.sub("", output).replace("\r\n", "\n")
    return sum(count for counted in _RUNNERS for count in counted(text))


def _unittest(text: str) -> Iterator[int]:
    for match in _UNITTEST.finditer(text):
        skipped = re.search(r"skipped=(\d+)", match[2] or "")
        yield max(0, int(match[1]) - (int(skipped[1]) if skipped else 0))


def _pytest(text: str) -> Iterator[int]:
    return (_executed(match[1]) for match in _PYTEST.finditer(text))


def _node(text: str) -> Iterator[int]:
    skipped = sum(int(match[1]) for match in _NODE_SKIPPED.finditer(text))
    yield max(0, sum(int(match[1]) for match in _NODE.finditer(text)) - skipped)


def _jest(text: str) -> Iterator[int]:
    return (_executed(match[1]) for match in _JEST.finditer(text))


def _mocha(text: str) -> Iterator[int]:
    return (int(match[1]) for match in _MOCHA.finditer(text))


def _executed(summary: str) -> int:
    return sum(int(number) for number, word in _COUNT.findall(summary) if word in _EXECUTED)


_RUNNERS: tuple[Callable[[str], Iterator[int]], ...] = (_unittest, _pytest, _node, _jest, _mocha)
