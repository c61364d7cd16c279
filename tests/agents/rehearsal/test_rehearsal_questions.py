"""What the product manager asks, and that each answer leads where it says."""

import pytest

from agents.rehearsal.brief import parse
from agents.rehearsal.questions import MOST, questions_of
from eklavya.management.commands.rehearse import MORE_BRIEFS
from projects.briefs import SAMPLE_BRIEF

BIKES = "A bike rental shop wants to manage bikes, customers and rentals"
PORTAL = "A portal where customers log in and see their orders and invoices"
CLEAR = (SAMPLE_BRIEF, *MORE_BRIEFS, "Manage stock of products with supplier and price")


def asked(brief: str) -> list[str]:
    return [question["question"] for question in questions_of(brief)]


def names(brief: str, answer: str = "") -> list[str]:
    return [entity.plural for entity in parse(f"{brief}\n{answer}").entities]


@pytest.mark.parametrize("brief", CLEAR)
def test_a_clear_brief_is_not_asked_about(brief: str) -> None:
    assert questions_of(brief) == []


@pytest.mark.parametrize("brief", ["", "tools", "An app for my shop", "A members area", PORTAL, BIKES, "قائمة"])
def test_at_most_two_questions_each_with_a_recommended_answer(brief: str) -> None:
    questions = questions_of(brief)

    assert 1 <= len(questions) <= MOST
    assert len({question["question"] for question in questions}) == len(questions)
    for question in questions:
        assert question["recommended"] in question["options"]
        assert 2 <= len(set(question["options"])) <= 3


def test_what_can_be_guessed_of_few_words_is_recommended_and_changes_nothing() -> None:
    (what, _) = questions_of("An app for my shop")

    assert what["recommended"] == "Track products and suppliers, with what is usual for them"
    assert names("An app for my shop", what["recommended"]) == names("An app for my shop") == ["Products", "Suppliers"]


def test_who_may_log_in_is_asked_where_the_brief_speaks_of_it() -> None:
    (who,) = questions_of(PORTAL)

    assert who["question"].startswith("Who may log in?")
    for option in who["options"]:
        assert names(PORTAL, option) == names(PORTAL) == ["Customers", "Orders", "Invoices"]
    assert parse(PORTAL).out_of_scope == ["accounts and signing in"]
    assert asked("A members area")[1].startswith("Who may log in?")


def test_what_tells_things_apart_is_asked_where_a_short_brief_says_nothing_of_them() -> None:
    (which,) = questions_of(BIKES)

    assert which["question"] == "By what do you tell one bike from another?"
    by_name, by_number = (parse(f"{BIKES}\n{option}").entities for option in which["options"])
    assert by_name == parse(BIKES).entities
    assert [entity.plural for entity in by_number] == ["Bikes", "Customers", "Rentals"]
    assert "number" in {field.key for field in by_number[0].fields}
    assert {field.key for field in by_name[0].fields} <= {field.key for field in by_number[0].fields}
