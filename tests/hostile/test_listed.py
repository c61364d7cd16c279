"""docs/security-model.md names every attack."""

import pytest

from tests.hostile.listed import CLASSES, PAGE, everything, listed

ADVICE = "call tests.hostile.listed.write()"


@pytest.mark.parametrize("heading", CLASSES)
def test_the_page_lists_the_attacks_of_a_class(heading: str) -> None:
    section = PAGE.read_text().partition(f"### {heading}\n")[2].partition("\n#")[0]

    assert listed(heading) in section, ADVICE
    assert listed(heading)


def test_every_attack_has_a_class() -> None:
    known = {family for families in CLASSES.values() for family in families}

    assert {name for name in everything() if name.partition("-")[0] not in known} == set()
    assert len(everything()) >= 60
