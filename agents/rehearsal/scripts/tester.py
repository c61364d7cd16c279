"""The tester: end-to-end tests against the started application."""

from __future__ import annotations

from .. import builder
from ..context import Context
from ..misbehaviour import conduct
from ..names import identifier
from .developer import BROKEN_TEST, tested
from .engine import Script, attempt, bash, finish, progress, write_all


def build(context: Context) -> Script:
    """Write tests that start the application and use it as a visitor does."""
    looked = [
        progress(10, "Looking at what was built"),
        bash("git log --oneline -8; ls app app/features tests", "Look around", optional=True),
    ]
    yield from attempt("I look at what there is to test.", looked)
    name = "end_to_end" if context.key in {"", "tests", "test"} else identifier(context.key, "more")
    files = {f"tests/test_{name}.py": builder.template("end_to_end")["tests/test_end_to_end.py"]}
    if "broken" in conduct(context):
        files["tests/test_broken.py"] = BROKEN_TEST
    yield from attempt("I test it from outside, over HTTP.", write_all(files))
    if "broken" not in conduct(context):
        yield from tested(with_app=False)
    # It may not commit: the platform takes what it leaves below tests/.
    yield from attempt("They pass.", [progress(90, "The tests are written")])
    return (
        yield from finish(
            "task_complete", "The tests are in.", summary=f"tests/test_{name}.py starts the application and passes."
        )
    )
