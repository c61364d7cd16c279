"""What the style guide shows: one example of each thing, made up, never stored."""

from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from django import forms

from agents.models import RunEvent
from agents.transcript import Entry, entry
from projects.briefs import SAMPLE_BRIEF
from projects.forms import BriefForm
from projects.pages import Phase
from projects.roles import Role
from projects.vocabulary import LOOKS

_MARKDOWN = """\
Text with `code`, **bold** and a [link](https://example.org).

- one
- two

    python3 -m unittest

<script>alert("shown as text")</script>
"""
_LINES: tuple[tuple[str, dict[str, Any]], ...] = (
    ("thinking", {"thinking": "The brief asks for a list of loans. I need borrower and due date first."}),
    ("text", {"text": "I'll start with the storage."}),
    ("tool_use", {"name": "Write", "input": {"file_path": "app/storage.py", "content": "import sqlite3\n"}}),
    ("tool_result", {"content": "File created successfully at: app/storage.py"}),
    ("tool_use", {"name": "Bash", "input": {"command": "python3 -m unittest discover -s tests -t ."}}),
    ("tool_result", {"content": "....\nRan 4 tests in 0.120s\n\nOK"}),
    ("tool_result", {"content": "fatal: 'origin' does not appear to be a git repository", "is_error": True}),
    ("tool_use", {"name": "mcp__eklavya__report_progress", "input": {"percent": 60, "message": "storage done"}}),
    ("system", {"text": "Collected 1 commit, 4 files. Checking in a clean sandbox."}),
    ("error", {"text": "The model answered 529 overloaded; trying again in 4 s."}),
)


class SampleForm(forms.Form):
    """A form with each kind of field, one of them wrong."""

    name = forms.CharField(label="Name")
    budget = forms.CharField(label="Budget", required=False, help_text="In US dollars.")
    role = forms.ChoiceField(label="Role", choices=Role.choices)
    note = forms.CharField(label="Note", widget=forms.Textarea)


def context(now: datetime) -> dict[str, Any]:
    """Return the context of the style guide."""
    return {
        "looks": LOOKS,
        "roles": Role.values,
        "composer": BriefForm(),
        "form": SampleForm({"name": "", "budget": "5", "role": "pm", "note": "A note."}),
        "sample": SAMPLE_BRIEF,
        "markdown": _MARKDOWN,
        "phases": [Phase("Plan", "done"), Phase("Demo", "done"), Phase("Build", "now"), Phase("Delivered", "next")],
        "cost": Decimal("1.234567"),
        "start": now - timedelta(minutes=4, seconds=3),
        "entries": _entries(now),
    }


def _entries(now: datetime) -> list[Entry]:
    return [
        entry(RunEvent(seq=seq, kind=kind, payload=payload, created_at=now - timedelta(seconds=90 - 9 * seq)))
        for seq, (kind, payload) in enumerate(_LINES, 1)
    ]
