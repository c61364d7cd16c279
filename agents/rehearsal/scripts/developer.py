"""The developer: the demo, and the tasks that turn it into the finished application."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import replace

from .. import builder
from ..brief import parse
from ..builder import Files
from ..context import Context
from ..feedback import apply
from ..misbehaviour import conduct
from ..names import identifier
from ..texts import one_line
from .engine import (
    Results,
    Script,
    Trouble,
    attempt,
    bash,
    check_app,
    commit,
    finish,
    progress,
    run_tests,
    spec_text,
    tail,
    write_all,
)

_HERE = "git log --oneline -5; echo FILES; git ls-files; git ls-files --others --exclude-standard"
BROKEN_TEST = """import unittest


class BrokenTest(unittest.TestCase):
    def test_nothing_works(self) -> None:
        self.fail("this change was never tested")
"""


def demo(context: Context) -> Script:
    """Build the first version, or change it as the feedback asks."""
    text = spec_text(context)
    looked = yield from _look(context, "I build the smallest version that already does the main job.")
    files = builder.build_app(text, context.feedback)
    if context.feedback and "app/model.py" in _present(looked):
        before = builder.build_app(text, context.feedback[:-1])
        files = {path: source for path, source in files.items() if before.get(path) != source} or files
    said = "Now I change what the feedback asks for." if context.feedback else "Now the application itself."
    yield from _build(context, files, _present(looked), said=said, message=_demo_message(context))
    name = parse(text).name
    summary = f"{name}: overview, lists and forms with stored data."
    if context.feedback:
        summary = one_line(_answer(text, context.feedback), 1500)
    return (yield from finish("submit_demo", "The demo is submitted.", summary=summary))


def _answer(text: str, feedback: Sequence[str]) -> str:
    """What the last feedback led to, and what of it was not understood."""
    spec = parse(text)
    return [apply(spec, one) for one in feedback][-1].answer


def _demo_message(context: Context) -> str:
    if context.feedback:
        return f"Change the demo after feedback\n\n{one_line(context.feedback[-1], 300)}"
    return "Show a first version\n\nOverview, lists and forms over SQLite, with tests."


def build(context: Context) -> Script:
    """One task of the plan. On a conflict or a failure the same work is done again on the present tree."""
    if context.failure and context.attempt >= 3 and not context.mentor:
        question = f"My change keeps failing: {context.failure[:300]}. What should I look at?"
        return (
            yield from finish("ask_mentor", "I asked the mentor.", question=question, context=context.failure[-2000:])
        )
    looked = yield from _look(context, _opening(context))
    files = files_of(context)
    if "app/model.py" not in _present(looked):
        files = {**builder.build_app(spec_text(context), context.feedback), **files}
    message = f"{_subject(context)}\n\n{one_line(context.description, 300)}".strip()
    yield from _build(context, files, _present(looked), said="I write the code with its tests.", message=message)
    summary = f"{_subject(context)}: {len(files)} files written, all tests pass."
    return (yield from finish("task_complete", "The task is complete.", summary=summary))


def resolve(context: Context) -> Script:
    """Bring two changes together that Git marked: the lines of both stay, and the task's own files as it makes them."""
    paths = context.conflict or []
    key, title = context.resolves
    said = f"Two changes of {', '.join(paths[:5]) or 'some files'} are to be brought together."
    looked = yield from _look(context, said)
    yield from attempt(
        "I keep what both of them say.", [bash(_unmark(paths), "Take the markers out"), progress(40, "")]
    )
    made = files_of(replace(context, key=key, title=title))
    files = {path: text for path, text in made.items() if path in paths}
    message = f"Bring both changes together\n\n{one_line(title, 300)}".strip()
    yield from _build(context, files, _present(looked), said="Now the tests.", message=message)
    return (yield from finish("task_complete", "Both are together.", summary=f"{title}: both changes are there."))


def _unmark(paths: Sequence[str]) -> str:
    """Return the command that leaves the lines of both versions between Git's markers."""
    named = " ".join(shlex.quote(path) for path in paths)
    lines = "-e '/^<<<<<<< [0-9a-f]\\{40\\}/d' -e '/^=======$/d' -e '/^>>>>>>> [0-9a-f]\\{40\\}/d'"
    return f'for path in {named}; do test ! -f "$path" || sed -i {lines} "$path"; done' if paths else "true"


def _subject(context: Context) -> str:
    return one_line(context.title or context.key or "Build the task", 60)


def _opening(context: Context) -> str:
    if context.conflict is not None:
        paths = ", ".join(context.conflict[:5]) or "some files"
        return f"Others changed {paths} meanwhile. I do my task again on top of their work."
    if context.failure:
        return "The last attempt failed. I look at what is there before I change anything."
    return f"I start with {_subject(context)}."


def _look(context: Context, text: str) -> Script:
    """The paths in the workspace, one on a line. After a failure the tests run first."""
    calls = [progress(10, "Reading the task"), bash(_HERE, "See what is there", optional=True)]
    if context.failure:
        again = bash(
            "python3 -m unittest discover -s tests -t . 2>&1 | tail -40", "Run the tests as they are", optional=True
        )
        calls.append(again)
    results = yield from attempt(text, calls)
    return results[1].text.partition("FILES")[2]


def _present(looked: str) -> set[str]:
    return {line.strip() for line in looked.splitlines()}


def _build(context: Context, files: Files, present: set[str], *, said: str, message: str) -> Script:
    """Write, test, commit."""
    faults = conduct(context)
    if "conflict" in faults and context.conflict is None:
        files = {**files, "README.md": f"# Changed by {context.key or context.kind}\n"}
    if "broken" in faults:
        files = {**files, "tests/test_broken.py": BROKEN_TEST}
    yield from attempt(said, [*write_all(files, present), progress(50, "Written, now testing")])
    if "broken" not in faults:
        yield from tested(with_app=context.kind == "demo")
    yield from attempt("Everything passes.", [commit(message), progress(90, "Tested and committed")])
    return ""


def tested(*, with_app: bool) -> Script:
    """Run the tests, and look at the started application. Raises Trouble with the output if they fail twice."""
    calls = [run_tests(), *([check_app()] if with_app else [])]
    results: Results = yield from attempt("I run the tests.", calls)
    if not results[0].skipped and re.search(r"Ran 0 tests|NO TESTS RAN", results[0].text):
        raise Trouble(f"no test ran: {tail(results[0].text)}")
    return results[0].text


def files_of(context: Context) -> Files:
    """The files of a task, by the words of its key, else of its title."""
    parts = {
        "storage": builder.storage_files,
        "pages": builder.page_files,
        "report": builder.report_files,
        "calendar": builder.calendar_files,
    }
    if context.key in parts:
        return parts[context.key]()
    for pattern, name in _WORDS.items():
        if re.search(pattern, context.title, re.IGNORECASE):
            return parts[name]()
    return builder.topic_files(
        identifier(context.key or context.title, "extra"), _subject(context), context.description
    )


_WORDS = {
    r"\b(?:storage|persist\w*|edit\w*|delet\w*|database|sqlite)\b": "storage",
    r"\b(?:search|filter\w*|detail\w*|styling|export|csv|front-?end)\b": "pages",
    r"\b(?:report|dashboard|statistics)\b": "report",
    r"\b(?:calendar|schedule|agenda)\b": "calendar",
}
