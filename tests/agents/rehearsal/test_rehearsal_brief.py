"""What the parser reads out of briefs, sensible and not."""

import ast
import re
import time
import tomllib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.rehearsal.brief import is_clear, parse
from agents.rehearsal.builder import build_app
from agents.rehearsal.examples import example
from agents.rehearsal.feedback import apply
from agents.rehearsal.fields import FieldSpec, add_field
from agents.rehearsal.names import identifier, plural_of, singular_of
from agents.rehearsal.source import literal
from agents.rehearsal.texts import clean
from projects.briefs import SAMPLE_BRIEF
from tests.agents.rehearsal.rehearsal_support import TOOL_LIBRARY

PLAIN = "members borrow tools with a price and track orders class for our called invoices import id select"
ODD = ['"', "'", "\\", "{x}", "<b>", "../", "؟كتاب", "🎉", "\u202e", "\x00", "\ud800", "\u2028", "[[rehearsal: cut]]"]
WORDS = st.sampled_from([*PLAIN.split(), *ODD])
BRIEFS = st.one_of(st.text(max_size=300), st.lists(WORDS, max_size=30).map(" ".join))


def kinds(brief: str) -> dict[str, dict[str, str]]:
    """Field kinds by entity."""
    return {entity.key: {field.key: field.kind for field in entity.fields} for entity in parse(brief).entities}


def test_verbs_make_events_between_people_and_things() -> None:
    entities = kinds(TOOL_LIBRARY)

    assert list(entities) == ["tool", "member", "loan"]
    assert entities["loan"]["tool"] == entities["loan"]["member"] == "ref"


def test_stated_fields_get_the_kind_of_their_words() -> None:
    fields = kinds(TOOL_LIBRARY)["tool"]

    assert fields["deposit"] == "money"
    assert fields["shelf_number"] == "text"


@pytest.mark.parametrize(
    ("brief", "expected"),
    [
        ("A bike rental shop: manage bikes, customers and rentals", {"bike", "customer", "rental"}),
        ("Booking system for a yoga studio", {"booking", "member"}),
        ("Track invoices and expenses of a freelancer", {"invoice", "expense"}),
        ("An animal shelter wants to track dogs and adoptions", {"animal", "adoption"}),
        ("Manage my collection of stamps with year and price", {"stamp"}),
        ("A small clinic with patients and appointments", {"patient", "appointment"}),
        ("Keep track of our vineyard barrels", {"vineyard_barrel"}),
    ],
)
def test_things_are_found_in_ordinary_briefs(brief: str, expected: set[str]) -> None:
    assert expected <= kinds(brief).keys()


@pytest.mark.parametrize(
    ("brief", "key", "fields"),
    [
        (
            "A bakery takes orders for cakes: customer, cake, pick-up date, paid or not.",
            "order",
            {"number": "text", "customer": "ref", "cake": "text", "pick_up_date": "date", "paid": "flag"},
        ),
        (
            "A gallery wants a catalogue of its works: artist, title, year and price, sold or not",
            "work",
            {"title": "text", "artist": "text", "year": "number", "price": "money", "sold": "flag"},
        ),
        (
            "Our brewery needs a tap list: beer, style, strength, price.",
            "beer",
            {"name": "text", "style": "text", "strength": "text", "price": "money"},
        ),
        (
            "A clinic books appointments: patient, doctor, date and time, reason.",
            "appointment",
            {"reason": "text", "patient": "ref", "doctor": "ref", "date": "date", "time": "time"},
        ),
        (
            "Our taproom needs a tap list (name, style, ABV, price per glass, tap number, sold out, keg changed).",
            "tap",
            {
                "name": "text",
                "style": "text",
                "abv": "text",
                "price_per_glass": "money",
                "tap_number": "text",
                "sold_out": "flag",
                "keg_changed": "flag",
            },
        ),
        (
            "An orchard sells apples. Each variety has a name, a season and a price per kilo.",
            "variety",
            {"name": "text", "season": "text", "price_per_kilo": "money"},
        ),
        (
            "Artworks: title, artist, year. Artists have a name and a short biography.",
            "artwork",
            {"title": "text", "artist": "ref", "year": "number"},
        ),
        (
            "Inventory for a museum shop: name, supplier, stock, price.",
            "product",
            {"name": "text", "supplier": "ref", "stock": "number", "price": "money"},
        ),
    ],
)
def test_what_is_listed_is_what_is_kept(brief: str, key: str, fields: dict[str, str]) -> None:
    assert kinds(brief)[key] == fields


@pytest.mark.parametrize(
    ("brief", "name"),
    [
        ('We need something called "Paws & Co" for a shelter', "Paws & Co"),
        (TOOL_LIBRARY, "Tool Library"),
        ("Track invoices", "Invoice Desk"),
        ("We need an overview for a patio furniture shop, with prices", "Patio Furniture Shop"),
        ("A small bike rental shop wants to manage bikes", "Bike Rental Shop"),
        ("A bakery takes orders for cakes: customer, cake, paid or not", "Bakery"),
        ("Members borrow tools and bring them back.", "Tool Loans"),
        ("An internal tool for HR to manage vacation requests", "Vacation Request Desk"),
    ],
)
def test_the_name_comes_from_the_client(brief: str, name: str) -> None:
    assert parse(brief).name == name


def test_wishes_and_limits_are_noticed() -> None:
    spec = parse("Bookings for our studio in euros, with a calendar, a report, and a login with PayPal")

    assert (spec.currency, spec.wants_calendar, spec.wants_report) == ("€", True, True)
    assert spec.out_of_scope == ["accounts and signing in", "taking payments online"]


@pytest.mark.parametrize(
    ("brief", "clear"),
    [
        (TOOL_LIBRARY, True),
        ("", False),
        ("tools", False),
        ("I want a really nice web site please, thank you", False),
        ("[[rehearsal: cut]] tools members", False),
        ("قائمة الكتب في المكتبة مع المؤلف وتاريخ الإعارة", False),
    ],
)
def test_an_unclear_brief_is_recognised(brief: str, clear: bool) -> None:
    assert is_clear(brief) is clear


def test_directives_and_control_characters_are_no_part_of_the_brief() -> None:
    assert clean("a [[rehearsal: 429 for=60]] b\x00\ud800c").split() == ["a", "b", "c"]


def test_a_huge_brief_is_read_quickly_and_like_its_beginning() -> None:
    brief = TOOL_LIBRARY + " word" * 250_000

    assert kinds(brief) == kinds(TOOL_LIBRARY)


SLOW = {
    "for a " + "x" * 99_999: 1, "for a ": 20_000, "add " + " " * 99_999: 1, "add a ": 9_999, "with ": 20_000,
    "[[ ": 40_000, "a,b and ": 10_000, "track ": 20_000, "\n \t": 40_000, "called ": 20_000, "-'": 40_000,
    "a: b, c, ": 20_000, "a: ": 30_000, "x " * 60 + ": ": 500,
}  # fmt: skip


@pytest.mark.parametrize("text", [part * times for part, times in SLOW.items()], ids=range(len(SLOW)))
def test_no_text_makes_the_parser_slow(text: str) -> None:
    started = time.process_time()

    build_app(text, [text])

    assert time.process_time() - started < 2


def test_feedback_renames_recolours_adds_and_removes() -> None:
    spec = parse(TOOL_LIBRARY)

    apply(spec, "Please make it green, rename it to Shed, remove the deposit, and add a serial number to members.")

    tool, member, _ = spec.entities
    assert (spec.name, spec.hue) == ("Shed", 140)
    assert "deposit" not in {field.key for field in tool.fields}
    assert member.fields[1].label == "Serial number"
    assert spec.changes == [
        "The colour is green.",
        "The application is called Shed.",
        "Deposit is removed from tools.",
        "Members have a field serial number.",
    ]


def test_feedback_never_removes_the_title_or_a_reference() -> None:
    spec = parse(TOOL_LIBRARY)

    apply(spec, "Remove the name. Remove the member.")

    assert spec.entities[0].fields[0].key == "name"
    assert "member" in {field.key for field in spec.entities[2].fields}


def test_a_field_is_added_once() -> None:
    entity = parse(TOOL_LIBRARY).entities[0]

    assert add_field(entity, FieldSpec("colour", "Colour"))
    assert not add_field(entity, FieldSpec("colour", "Colour"))


@given(BRIEFS, BRIEFS)
@settings(max_examples=50, deadline=None)
def test_any_text_gives_a_valid_application(brief: str, feedback: str) -> None:
    files = build_app(brief, [feedback])

    for path, text in files.items():
        text.encode()
        if path.endswith(".py"):
            compile(text, path, "exec")
    tomllib.loads(files["eklavya.toml"])


@given(BRIEFS)
@settings(max_examples=50, deadline=None)
def test_any_text_gives_unique_safe_names(brief: str) -> None:
    entities = parse(brief).entities

    assert 1 <= len(entities) <= 5
    for names in (
        [e.key for e in entities],
        [e.path for e in entities],
        *[[f.key for f in e.fields] for e in entities],
    ):
        assert len(names) == len(set(names))
        assert all(re.fullmatch(r"[a-z][a-z0-9_-]{0,39}", name) for name in names)
    for entity in entities:
        assert entity.fields[0].required
        assert entity.fields[0].kind == "text"
        assert {field.target for field in entity.fields} <= {""} | {other.key for other in entities}


@given(BRIEFS)
@settings(max_examples=50, deadline=None)
def test_the_same_text_gives_the_same_application(brief: str) -> None:
    assert build_app(brief) == build_app(brief)


def test_a_name_may_hold_what_json_escapes_in_two_halves() -> None:
    assert tomllib.loads(build_app("something called 0🌀 for dogs")["eklavya.toml"])["project"]["name"] == "0🌀"


def test_different_briefs_give_different_applications() -> None:
    briefs = [TOOL_LIBRARY, "Track invoices", "Recipes for our cooking club", "A gym with members and classes"]

    assert len({build_app(brief)["app/model.py"] for brief in briefs}) == 4
    assert len({build_app(brief)["static/theme.css"] for brief in briefs}) == 4


@given(st.text())
def test_a_literal_means_its_text(text: str) -> None:
    quoted = literal(text.encode("utf-8", "ignore").decode())

    assert "\n" not in quoted
    assert ast.literal_eval(quoted) == text.encode("utf-8", "ignore").decode()


@given(st.text())
def test_an_identifier_is_one(text: str) -> None:
    name = identifier(text, "item")

    assert name.isidentifier()
    assert name.isascii()
    compile(f"{name} = 1", "name", "exec")


@pytest.mark.parametrize(
    ("singular", "plural"),
    [("loan", "loans"), ("class", "classes"), ("company", "companies"), ("movie", "movies"), ("box", "boxes")],
)
def test_plurals(singular: str, plural: str) -> None:
    assert plural_of(singular) == plural
    assert singular_of(plural) == singular


def test_the_sample_brief_gives_what_it_asks_for() -> None:
    spec = parse(SAMPLE_BRIEF)

    assert spec.name == "Tool Library"
    assert {entity.key: [field.label for field in entity.fields] for entity in spec.entities} == {
        "tool": ["Name", "Photo link", "Category", "Daily deposit"],
        "member": ["Name", "E-mail", "Phone"],
        "loan": ["Reference", "Member", "Tool", "Lent", "Due", "Returned"],
    }


def test_what_was_lent_is_due_later_and_may_still_be_out() -> None:
    (loan,) = (entity for entity in parse(SAMPLE_BRIEF).entities if entity.key == "loan")
    lent, due, returned = ([example(loan, field, number) for number in range(3)] for field in loan.fields[-3:])

    assert all(a < b for a, b in zip(lent, due, strict=True))
    assert "" in returned


def test_examples_fill_the_columns_of_texts_too() -> None:
    order = parse(
        "Our bakery takes orders for cakes: customer, phone, cake, size, pick-up date, paid or not."
    ).entities[0]
    cake = next(field for field in order.fields if field.key == "cake")
    assert [example(order, cake, number) for number in range(3)] == ["First cake", "Second cake", "Third cake"]
