"""What clients say of a demo, in their own words: done as it is meant, or said not to be understood."""

from pathlib import Path

import pytest

from agents.rehearsal.brief import parse
from agents.rehearsal.builder import build_app
from agents.rehearsal.feedback import apply
from tests.agents.rehearsal.rehearsal_support import TOOL_LIBRARY, run_app_tests, write_files

BIKES = "A bike shop keeps repairs, parts and customers. Parts have a number, stock and price."
GALLERY = "A small gallery keeps a catalogue of paintings: artist, title, year, size, price and whether it is sold."
APP = "The application is called "


@pytest.mark.parametrize(
    ("brief", "text", "done"),
    [
        # What is kept
        (BIKES, "rename Parts to Spare parts", ["Parts are called Spare parts."]),
        (BIKES, "Please rename 'parts' to 'Spare parts' everywhere.", ["Parts are called Spare parts."]),
        (BIKES, "Parts should be called Spare parts", ["Parts are called Spare parts."]),
        (BIKES, "call the parts spare parts", ["Parts are called Spare parts."]),
        (BIKES, "We say spare parts, not parts", ["Parts are called Spare parts."]),
        (BIKES, "Use Client instead of Customer please", ["Customers are called Clients."]),
        (BIKES, "The customers are fine, but call them clients", ["Customers are called Clients."]),
        (BIKES, "Replace the word Repairs with Jobs", ["Repairs are called Jobs."]),
        (BIKES, "Parts -> Spare parts!", ["Parts are called Spare parts."]),
        (BIKES, "Rename “repairs” as “workshop jobs” in the menu", ["Repairs are called Workshop jobs."]),
        (GALLERY, "I'd like the paintings named artworks", ["Paintings are called Artworks."]),
        (TOOL_LIBRARY, "rename tools to equipment", ["Tools are called Equipment."]),
        # A field
        (BIKES, "rename the field price to cost", ["Price is called Cost in parts."]),
        (
            BIKES,
            "Rename number to part number and add a weight",
            ["Number is called Part number in parts.", "Parts have a field weight."],
        ),
        # The whole application
        (BIKES, "call the application Wheelhouse", [f"{APP}Wheelhouse."]),
        (BIKES, "rename the app to Wheelhouse", [f"{APP}Wheelhouse."]),
        (BIKES, "Please call it “Wheelhouse”, and make it green", [f"{APP}Wheelhouse.", "The colour is green."]),
        (BIKES, "The name of the app should be Wheelhouse", [f"{APP}Wheelhouse."]),
        (BIKES, "Change the title to Wheelhouse.", [f"{APP}Wheelhouse."]),
        # More than one thing
        (
            TOOL_LIBRARY,
            "Members should be called Borrowers, the phone should be mandatory and we don't need the deposit.",
            ["Members are called Borrowers.", "Phone is required in borrowers.", "Deposit is removed from tools."],
        ),
        (
            GALLERY,
            "Could you add a photo and a frame colour to each painting? Also remove the year.",
            [
                "Paintings have a field photo.",
                "Paintings have a field frame colour.",
                "Year is removed from paintings.",
            ],
        ),
    ],
)
def test_what_is_meant_is_done_and_nothing_else(brief: str, text: str, done: list[str]) -> None:
    spec, before = parse(brief), parse(brief)

    reading = apply(spec, text)

    assert (reading.done, reading.left) == (done, [])
    assert (spec.name != before.name) is any(sentence.startswith(APP) for sentence in done)


@pytest.mark.parametrize(
    ("brief", "text", "left"),
    [
        (BIKES, "rename Wheels to Rims", "Not understood, and not changed: “rename Wheels to Rims”."),
        (BIKES, "Change the status to paid", "Not understood, and not changed: “Change the status to paid”."),
        (
            BIKES,
            "rename Customers to Parts",
            "Not changed: There are parts already, so customers cannot be called so too.",
        ),
        (GALLERY, "Everything is too slow on my phone", "Not understood, and not changed: “Everything is too slow on"),
        (GALLERY, "We need a page for exhibitions with photos", "Not understood, and not changed: “We need a page"),
        (GALLERY, "Add a report with totals", "Not in the plan: a report. It takes a task of its own."),
        (GALLERY, "remove the frame", "Not understood, and not removed: “the frame”."),
        (GALLERY, "Looks great, thank you!", "Nothing to change was found in “Looks great, thank you!”."),
    ],
)
def test_what_is_not_understood_changes_nothing_and_is_said(brief: str, text: str, left: str) -> None:
    spec = parse(brief)

    reading = apply(spec, text)

    assert reading.done == []
    assert reading.left[0].startswith(left)
    assert spec.changes
    spec.changes = []
    assert spec == parse(brief)


def test_a_renamed_entity_has_new_labels_pages_references_and_tests_that_pass(tmp_path: Path) -> None:
    files = build_app(TOOL_LIBRARY, ["rename Tools to Power tools, rename members to regular clients"])
    write_files(tmp_path, files)

    run_app_tests(tmp_path)
    model = files["app/model.py"]
    for wanted in ('path="power-tools"', 'singular="Power tool"', 'target="power_tool"', '"Regular client"'):
        assert wanted in model
    assert 'key="tool"' not in model
    assert "power_tool" in files["app/examples.py"]
    assert "**Power tools**" in files["README.md"]
