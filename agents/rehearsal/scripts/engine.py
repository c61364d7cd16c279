"""How a script plays its part over many requests without any memory.

A script is a generator. It yields steps (a sentence and tool calls), is sent the results, and returns what it says at
the end. Each request replays it from the start with the results that the conversation already holds, and the first
step without results is the answer. So a script must depend on its context and on the results only.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field, replace

from ..context import Context, ToolResult
from ..wire import JSON

SERVER = "mcp__eklavya__"
_SHOWN = 1500
_REMINDER = re.compile(r"^<system-reminder>.*?</system-reminder>\s*$", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True)
class Call:
    """A tool call. `verb` calls go to the MCP server; the failure of an `optional` call does not matter."""

    tool: str
    input: JSON
    verb: bool = False
    optional: bool = False


@dataclass(frozen=True)
class Step:
    """What is said and called in one turn. The calls do not depend on each other, but run in this order."""

    text: str
    calls: list[Call] = field(default_factory=list)


Results = list[ToolResult]
Script = Generator[Step, Results, str]
Part = Generator[Step, Results, Results]


class Trouble(Exception):
    """The task cannot be done; the message is the reason that is reported."""


def verb(name: str, **arguments: object) -> Call:
    """A call of one of the platform's verbs. Failing to report progress never stops the work."""
    return Call(name, arguments, verb=True, optional=name in {"report_progress", "send_message"})


def progress(percent: int, message: str) -> Call:
    """Report how far the work is."""
    return verb("report_progress", percent=percent, message=message)


def bash(command: str, description: str, *, optional: bool = False, timeout_s: int = 150) -> Call:
    """Run a command."""
    arguments = {"command": command, "description": description, "timeout": timeout_s * 1000}
    return Call("Bash", arguments, optional=optional)


def browse(action: str, **arguments: object) -> Call:
    """Do something in the sandbox's browser."""
    return Call(f"mcp__browser__{action}", arguments)


def read(path: str) -> Call:
    """Read a file that may be missing."""
    return Call("Read", {"file_path": path}, optional=True)


def write(path: str, text: str, *, is_new: bool = False) -> list[Call]:
    """Write a file. The tool overwrites only what was read before."""
    return [*([] if is_new else [read(path)]), Call("Write", {"file_path": path, "content": text})]


def write_all(files: dict[str, str], present: set[str] | None = None) -> list[Call]:
    """Write several files; those that are not among the `present` ones are known to be new."""
    return [
        call
        for path, text in sorted(files.items())
        for call in write(path, text, is_new=present is not None and path not in present)
    ]


def attempt(text: str, calls: Sequence[Call]) -> Part:
    """Do the calls, and those that failed once more. Raises Trouble when one fails again."""
    calls = list(calls)
    results = yield Step(text, calls)
    failed = [index for index, result in enumerate(results) if result.is_error and not calls[index].optional]
    if failed:
        again = yield Step("That did not work; once more.", _prepared([calls[index] for index in failed]))
        again = again[-len(failed) :]
        for index, result in zip(failed, again, strict=True):
            results[index] = result
            if result.is_error:
                raise Trouble(f"{calls[index].tool} failed twice: {tail(result.text)}")
    return results


def _prepared(calls: list[Call]) -> list[Call]:
    """The reads that the writes among the calls may have lacked, and the calls."""
    return [read(call.input["file_path"]) for call in calls if call.tool == "Write"] + calls


def finish(name: str, closing: str, **arguments: object) -> Script:
    """End the run with a verb. Raises Trouble when the platform refuses it twice."""
    yield from attempt("", [verb(name, **arguments)])
    return closing


def tail(text: str) -> str:
    """The end of an output, where the reason usually stands. What the CLI put below it is none of it."""
    return _REMINDER.sub("", text).strip()[-_SHOWN:] or "no output"


def with_trouble(script: Script) -> Script:
    """The script, which reports task_failed if it runs into trouble."""
    try:
        return (yield from script)
    except Trouble as trouble:
        yield Step("I cannot get past this.", [verb("task_failed", reason=str(trouble))])
        return "The task failed; the reason is reported."


def run(script: Script, turns: list[Results], offered: set[str]) -> tuple[str, list[Call]]:
    """What the model says next, given what happened so far; no calls means that it is done."""
    history = list(turns)
    try:
        step = next(script)
        while True:
            calls = [_adapted(call, offered) for call in step.calls]
            wanted = [call for call in calls if call is not None]
            text = step.text
            results: Results = []
            while len(results) < len(wanted):
                if not history:
                    return (text if not results else ""), wanted[len(results) :]
                results += history.pop(0)
            step = script.send(_in_place(calls, results[: len(wanted)]))
    except StopIteration as stop:
        return str(stop.value), []


def _in_place(calls: list[Call | None], results: Results) -> Results:
    """The results by call; a call whose tool was not offered counts as skipped."""
    remaining = iter(results)
    return [ToolResult(skipped=True) if call is None else next(remaining) for call in calls]


def _adapted(call: Call, offered: set[str]) -> Call | None:
    """The call with the tool's name as it is offered, done with another tool if need be; None if it cannot be done."""
    name = f"{SERVER}{call.tool}" if call.verb else call.tool
    if call.verb and name not in offered:
        name = next((tool for tool in sorted(offered) if tool.endswith(f"__{call.tool}")), name)
    if name in offered:
        return replace(call, tool=name)
    if call.tool == "Write" and "Bash" in offered:
        path, text = shlex.quote(call.input["file_path"]), shlex.quote(call.input["content"])
        return bash(f'mkdir -p "$(dirname {path})" && printf %s {text} > {path}', "Write a file")
    return None


def commit(message: str) -> Call:
    """Commit everything that changed; nothing changed is fine."""
    command = (
        f"git add -A && (git diff --cached --quiet || git commit -q -m {shlex.quote(message)}) && git log --oneline -1"
    )
    return bash(command, "Commit the change")


TEST_COMMAND = "python3 -m unittest discover -s tests -t ."


def run_tests() -> Call:
    """Run the project's tests."""
    return bash(f"PYTHONDONTWRITEBYTECODE=1 {TEST_COMMAND} 2>&1", "Run all tests")


def check_app() -> Call:
    """Start the application on a free port in a directory of its own and look at its pages."""
    # As an argument: the CLI takes a here-document for more than a test command, and asks.
    return bash(f"PYTHONDONTWRITEBYTECODE=1 python3 -c {shlex.quote(CHECK)}", "Start the application and look at it")


CHECK = """import contextlib, os, re, socket, subprocess, sys, tempfile, time
import urllib.error, urllib.parse, urllib.request

with socket.socket() as probe:
    probe.bind(("127.0.0.1", 0))
    port = probe.getsockname()[1]
base, problems = f"http://127.0.0.1:{port}", 0


def fetch(path, form=None):
    data = urllib.parse.urlencode(form).encode() if form is not None else None
    try:
        with urllib.request.urlopen(base + path, data, timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def check(what, good):
    global problems
    problems += not good
    print("ok     " if good else "PROBLEM", what)


with tempfile.TemporaryDirectory() as data:
    app = subprocess.Popen(
        [sys.executable, "-m", "app"], env={**os.environ, "HOST": "127.0.0.1", "PORT": str(port), "DATA_DIR": data}
    )
    try:
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline and app.poll() is None:
            with contextlib.suppress(OSError):
                if fetch("/")[0] == 200:
                    break
            time.sleep(0.05)
        status, home = fetch("/")
        check("the overview opens", status == 200)
        for path in dict.fromkeys(re.findall('href="(/[a-z0-9-]+)"', home)):
            check(f"{path} opens", fetch(path)[0] == 200)
        lists = [path for path in dict.fromkeys(re.findall('href="(/[a-z0-9-]+)/new"', home))]
        check("there is something to add", bool(lists))
        for path in lists:
            check(f"an empty form at {path}/new is refused", fetch(f"{path}/new", {"nothing": ""})[0] == 400)
        check("an unknown page is 404", fetch("/no-such-page")[0] == 404)
    finally:
        app.terminate()
        app.wait(10)
print(f"{problems} problems")
sys.exit(bool(problems))
"""


def spec_text(context: Context) -> str:
    """The brief with what the client added later: answers, which the requirements carry to the other roles."""
    answers = [answer for _, answer in context.questions]
    added = [requirement.body for requirement in context.requirements if requirement.title == CLARIFICATIONS]
    return "\n".join([context.brief, *answers, *added])


CLARIFICATIONS = "What the client added"
