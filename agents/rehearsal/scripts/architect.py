"""The architect: describes the design and plans the work as a graph of tasks."""

from __future__ import annotations

import re

from ..brief import AppSpec, parse
from ..builder import markdown
from ..context import Context
from ..names import identifier, unique
from ..texts import clean, one_line
from ..wire import JSON
from .engine import Script, attempt, finish, progress, read, spec_text, write

_DROP = re.compile(
    r"\b(?:without|remove|drop|skip|leave out|no need for|do not|don't)\b[^.;\n]{0,40}?"
    r"\b(docs?|documentation|guide|report|calendar|acceptance|uat|qa)\b",
    re.IGNORECASE,
)
_MEANT = {"doc": "docs", "documentation": "docs", "guide": "docs", "uat": "acceptance"}
_ROLES = (
    ("tester", r"\btests?\b|\btesting\b"),
    ("sre", r"\bdeploy|\bbackup|\bsystemd|\bdocker|\boperation"),
    ("pm", r"\bdocument|\bguide|\bmanual"),
)


def plan(context: Context) -> Script:
    """Write docs/architecture.md and submit the plan, with every correction taken in."""
    spec = parse(spec_text(context))
    tasks = tasks_of(spec, context.corrections)
    summary = _summary(spec, tasks, context.corrections)
    text = "I divide the work so that two developers can start at once and never touch the same file."
    page = architecture_page(spec, tasks, context.corrections)
    calls = [progress(30, "Designing"), read("docs/requirements.md"), *write("docs/architecture.md", page)]
    yield from attempt(text, calls)
    return (yield from finish("submit_plan", "The plan is submitted.", summary=summary, tasks=tasks))


def _task(
    key: str, role: str, title: str, description: str, minutes: int, *criteria: str, after: tuple[str, ...] = ()
) -> JSON:
    return {
        "key": key,
        "title": title,
        "description": description,
        "role": role,
        "depends_on": list(after),
        "estimate_minutes": minutes,
        "acceptance_criteria": list(criteria),
    }


def tasks_of(spec: AppSpec, corrections: list[str]) -> list[JSON]:
    """The graph: developers side by side, then tests and guide, then review, then acceptance."""
    built = _developer_tasks(spec)
    dropped = {_MEANT.get(match[1].lower(), match[1].lower()) for text in corrections for match in _DROP.finditer(text)}
    built = [task for task in built if task["key"] not in dropped]
    taken = {"tests", "docs", "qa", "acceptance", *(task["key"] for task in built)}
    for text in corrections:
        if not _DROP.search(text) and clean(text):
            built.append(_corrected(text, taken))
    keys = tuple(task["key"] for task in built if task["role"] in {"developer", "sre"})
    checks = [
        _task(
            "tests", "tester", "End-to-end tests",
            "Test the started application over HTTP: adding, finding, changing, deleting, refusing.", 30,
            "The tests start the application on a free port", "All tests pass", after=keys,
        ),
        _task(
            "docs", "pm", "User guide", "Write docs/user-guide.md: each page, each field.", 20,
            "Each page of the application is explained", after=keys,
        ),
    ]  # fmt: skip
    checks.append(
        _task(
            "qa", "qa", "Review", "Run all tests, start the application and look for defects. Change nothing.", 20,
            "All tests pass in a clean checkout", "Every page opens", after=("tests", "docs"),
        )
    )  # fmt: skip
    checks.append(
        _task(
            "acceptance", "uat", "Acceptance", "Walk through the acceptance criteria with the running application.", 20,
            "Each requirement was tried", after=("qa",),
        )
    )  # fmt: skip
    return _without(built + checks, dropped)


def _developer_tasks(spec: AppSpec) -> list[JSON]:
    names = ", ".join(entity.plural.lower() for entity in spec.entities)
    built = [
        _task(
            "storage", "developer", "Change and delete records",
            f"SQLite storage for {names} with editing, safe deletion and upgrades of older files. "
            "Owns app/store.py and app/features/editing.py.", 45,
            "A record can be edited and deleted", "A record in use cannot be deleted", "Tests cover both",
        ),
        _task(
            "pages", "developer", "Find and show records",
            f"Search, filter and order for {names}, a page for each record, CSV export, finished styling. "
            "Owns app/listing.py, app/search.py, static/style.css, details.py and export.py in app/features.", 60,
            "A search shows matching records only", "Each record has a page", "Each list can be exported",
        ),
    ]  # fmt: skip
    if spec.wants_report:
        built.append(
            _task(
                "report", "developer", "Report", "Count records and sum amounts. Owns app/features/report.py.",
                30, "Amounts are summed and states counted",
            )
        )  # fmt: skip
    if spec.wants_calendar:
        built.append(
            _task("calendar", "developer", "Calendar", "A page that shows a month. Owns app/features/calendar.py.", 30,
                  "Records stand on their dates")
        )  # fmt: skip
    return built


def _corrected(text: str, taken: set[str]) -> JSON:
    wish = one_line(text, 60)
    key = unique(
        identifier(" ".join(re.findall(r"[A-Za-z]{4,}", wish)[:2]), "correction").replace("_", "-"), taken, joint="-"
    )
    role = next((role for role, pattern in _ROLES if re.search(pattern, text, re.IGNORECASE)), "developer")
    return _task(key, role, wish, f"Asked for in the review of the plan: {one_line(text, 500)}", 30, f"Done: {wish}")


def _without(tasks: list[JSON], dropped: set[str]) -> list[JSON]:
    """The tasks without the dropped ones; what waited for one of them waits for what it waited for."""
    kept = [task for task in tasks if task["key"] not in dropped]
    before = {task["key"]: task["depends_on"] for task in tasks}
    for task in kept:
        after = [other for key in task["depends_on"] for other in (before[key] if key in dropped else [key])]
        task["depends_on"] = list(dict.fromkeys(after))
    return kept


def _summary(spec: AppSpec, tasks: list[JSON], corrections: list[str]) -> str:
    parallel = sum(not task["depends_on"] for task in tasks)
    text = (
        f"{spec.name}: a web application on Python's standard library with SQLite. {len(tasks)} tasks; {parallel} of "
        "them can start at once, then tests and guide, then review and acceptance."
    )
    noted = "; ".join(one_line(correction, 120) for correction in corrections)
    return f"{text} Corrected as asked: {noted}." if noted else text


def architecture_page(spec: AppSpec, tasks: list[JSON], corrections: list[str]) -> str:
    """`docs/architecture.md`."""
    entities = "".join(
        f"- **{markdown(entity.singular)}**: {markdown(', '.join(field.label.lower() for field in entity.fields))}\n"
        for entity in spec.entities
    )
    rows = "".join(
        f"| {task['key']} | {task['role']} | {markdown(task['title'])} | {', '.join(task['depends_on']) or '-'} |\n"
        for task in tasks
    )
    noted = "".join(f"- {markdown(one_line(text, 300))}\n" for text in corrections)
    corrected = f"\n## Corrections taken in\n\n{noted}" if noted else ""
    return f"""# Architecture: {markdown(spec.name)}

One process, no dependencies: Python's HTTP server renders the pages, SQLite keeps the records. `app/model.py` describes
the records; everything else is derived from it. A module in `app/features/` adds pages without touching the others, so
that work can go on side by side.

## Records

{entities}
## Tasks

| Task | Role | What | After |
| --- | --- | --- | --- |
{rows}{corrected}"""
