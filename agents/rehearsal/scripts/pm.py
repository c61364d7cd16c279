"""The product manager: clarifies the brief, writes the requirements, later the guide for users."""

from __future__ import annotations

from ..brief import AppSpec, parse
from ..builder import markdown
from ..context import Context
from ..feedback import apply
from ..fields import EntitySpec
from ..questions import questions_of
from ..texts import clean
from ..wire import JSON
from .engine import CLARIFICATIONS, Script, Step, attempt, finish, progress, read, spec_text, write, write_all


def requirements(context: Context) -> Script:
    """Ask what is unclear, once; then write down what will be built and how it will be judged."""
    if not context.questions and (questions := questions_of(context.brief)):
        text = "The brief leaves something open. I ask the client before I guess."
        yield Step(text, [progress(20, "Asking the client what is unclear")])
        return (yield from finish("ask_client", "The client has the questions.", questions=questions))
    spec = parse(spec_text(context))
    found = requirements_of(spec, context)
    text = f"The brief describes {spec.name}. I write down what it has to do and how we will know that it does."
    page = requirements_page(spec, found)
    yield from attempt(text, [progress(30, "Writing the requirements"), *write("docs/requirements.md", page)])
    closing = f"{len(found)} requirements are submitted."
    return (yield from finish("submit_requirements", closing, project_name=spec.name, requirements=found))


def requirements_of(spec: AppSpec, context: Context) -> list[JSON]:
    """The requirements for an application, each with criteria that can be checked by using it."""
    found = [_records(entity) for entity in spec.entities]
    found.append(
        _requirement(
            "Change and delete records",
            "Every record can be corrected and deleted; nothing is lost by accident.",
            "A record can be edited, and the list shows the change",
            "Deleting asks first, and is refused while other records refer to the record",
            "The data is still there after a restart",
        )
    )
    found.append(
        _requirement(
            "Find records",
            "Lists can be searched, filtered, ordered and exported.",
            "A search shows the matching records only",
            "Each record has a page with all its fields and the records that refer to it",
            "Each list can be downloaded as CSV",
        )
    )
    found += _wishes(spec)
    found.append(
        _requirement(
            "Safe and pleasant to use",
            "The pages work on a telephone, with a keyboard, in light and dark, and accept any text without harm.",
            "Markup typed into a form is shown as text",
            "An invalid form is shown again with a message at each field",
            "An unknown address answers 404 with a way back",
        )
    )
    if context.questions:
        answers = "\n".join(clean(answer, limit=2000) for _, answer in context.questions)
        found.append(_requirement(CLARIFICATIONS, answers, "The application reflects these answers"))
    return found


def _requirement(title: str, body: str, *criteria: str) -> JSON:
    return {"title": title, "body": body, "acceptance_criteria": list(criteria)}


def _records(entity: EntitySpec) -> JSON:
    several, one = entity.plural.lower(), entity.singular.lower()
    article = "An" if one[0] in "aeiou" else "A"
    needed = [field.label.lower() for field in entity.fields if field.required]
    links = [
        f"{article} {one} belongs to a {field.label.lower()} chosen from a list"
        for field in entity.fields
        if field.kind == "ref"
    ]
    return _requirement(
        f"Keep {several}",
        f"The application keeps {several} with {', '.join(field.label.lower() for field in entity.fields)}.",
        f"{article} {one} can be added, and appears in the list of {several}",
        f"{article} {one} without {' or '.join(needed)} is refused with a message",
        *links,
    )


def _wishes(spec: AppSpec) -> list[JSON]:
    found = []
    if spec.wants_report:
        criteria = ("The report shows the number of records of each kind", "Amounts are summed and states counted")
        found.append(_requirement("Report", "A page sums up the figures.", *criteria))
    if spec.wants_calendar:
        criteria = ("Records stand on their dates", "One can go to the month before and after")
        found.append(_requirement("Calendar", "A page shows what is due in a month.", *criteria))
    return found


def requirements_page(spec: AppSpec, found: list[JSON]) -> str:
    """`docs/requirements.md`."""
    parts = [f"# Requirements: {markdown(spec.name)}\n\n{markdown(spec.tagline)}\n"]
    for number, item in enumerate(found, start=1):
        criteria = "".join(f"- {markdown(criterion)}\n" for criterion in item["acceptance_criteria"])
        parts.append(
            f"\n## R{number} {markdown(item['title'])}\n\n{markdown(item['body'])}\n\nDone when:\n\n{criteria}"
        )
    if spec.out_of_scope:
        left_out = "".join(f"- {item}\n" for item in spec.out_of_scope)
        parts.append(f"\n## Not part of this project\n\n{left_out}")
    return "".join(parts)


def document(context: Context) -> Script:
    """Write the guide for users."""
    spec = parse(spec_text(context))
    for text in context.feedback:
        apply(spec, text)
    yield from attempt("I look at what was built.", [progress(20, "Reading"), read("README.md"), read("app/model.py")])
    name = "user-guide" if "doc" in context.key or "guide" in context.key or not context.key else _slug(context.key)
    yield from attempt(
        "Now the guide.", [*write_all({f"docs/{name}.md": guide(spec)}), progress(90, "The guide is written")]
    )
    closing = f"docs/{name}.md is written."
    return (yield from finish("task_complete", closing, summary=closing))


def _slug(key: str) -> str:
    return "".join(character if character.isascii() and character.isalnum() else "-" for character in key.lower())[:40]


def guide(spec: AppSpec) -> str:
    """`docs/user-guide.md`."""
    lists = "".join(_guide_part(entity) for entity in spec.entities)
    extra = (
        "## Report\n\n*Report* in the navigation counts the records and sums their amounts.\n\n"
        if spec.wants_report
        else ""
    )
    if spec.wants_calendar:
        extra += "## Calendar\n\n*Calendar* shows a month; *Before* and *After* lead to its neighbours.\n\n"
    return f"""# User guide: {markdown(spec.name)}

{markdown(spec.tagline)}

## The overview

The first page shows how many records there are and the latest of each kind. The navigation leads to the lists.

{lists}{extra}## Finding things

Type words into *Search* on a list: every word has to occur somewhere in the record. Where a list has a fixed choice,
the field beside it narrows the list down. A click on a column's head orders by it, a second one turns the order round.
*Export CSV* downloads the list for a spreadsheet.

## Changing and deleting

*Edit* opens the form with the present values. *Delete* asks first. A record to which others refer stays until they are
gone.

## Your data

Everything lies in one database, `app.sqlite3`, in the data directory. Stop the application and copy the directory to
keep a backup.
"""


def _guide_part(entity: EntitySpec) -> str:
    rows = "".join(
        f"| {markdown(field.label)} | {_KINDS.get(field.kind, 'text')}{', needed' if field.required else ''} |\n"
        for field in entity.fields
    )
    return f"## {markdown(entity.plural)}\n\n| Field | What goes in |\n| --- | --- |\n{rows}\n"


_KINDS = {
    "long": "longer text", "date": "a date", "time": "a time such as 14:30", "money": "an amount such as 12.50",
    "number": "a number", "choice": "one of the choices", "flag": "yes or no", "email": "an e-mail address",
    "phone": "a telephone number", "ref": "a record from the list",
}  # fmt: skip
