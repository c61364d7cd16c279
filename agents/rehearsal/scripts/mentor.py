"""The mentor: reads the project and answers a question of another agent."""

from __future__ import annotations

import re

from ..context import Context
from ..texts import one_line
from .engine import Call, Script, attempt, finish, read

_ADVICE = {
    r"\btest|\bfail|\bassert": "Run the one failing test alone and read its last lines first: they name the value that "
    "is wrong. Change one thing, run it again, and only then run all tests.",
    r"\bconflict|\bmerge": "Take the present main branch as it is and put your change on top, in a file of your own "
    "under app/features/.",
    r"\bstor|\bdata|\bsql": "Keep to app/store.py for every query, pass values as parameters, and let the model "
    "name the columns.",
    r"\bpage|\bhtml|\bstyle|\bcss": "Build pages from the helpers in app/layout.py; they escape what a visitor typed.",
}


def answer(context: Context) -> Script:
    """Look at the documents and the code, then reply."""
    paths = ("docs/requirements.md", "docs/architecture.md", "README.md", "app/model.py")
    looks = [*map(read, paths), Call("Glob", {"pattern": "tests/*.py"}, optional=True)]
    yield from attempt("I read what the question is about.", looks)
    question = context.mentor_question or context.description or context.title
    advice = next((text for pattern, text in _ADVICE.items() if re.search(pattern, question, re.IGNORECASE)), _GENERAL)
    reply = f"You ask: {one_line(question, 200) or 'how to go on'}\n\n{advice}"
    return (yield from finish("reply_mentor", "I have replied.", reply=reply))


_GENERAL = (
    "Read the acceptance criteria again and do the first that is not met yet, with a test that shows it. "
    "When two ways are open, take the one that touches fewer files."
)
