import pytest

from agents.egress import EgressClass, allow_list
from eklavya.env import EGRESS_LISTS, Env, EnvError


def test_internal_reaches_nothing_whatever_is_listed() -> None:
    assert allow_list(EgressClass.INTERNAL, {"internal": "*"}) == ()


def test_every_other_class_has_a_list_of_its_own() -> None:
    lists = {one.value: f"{one.value}.test" for one in EgressClass}

    for one in set(EgressClass) - {EgressClass.INTERNAL}:
        assert [rule.name for rule in allow_list(one, lists)] == [f"{one.value}.test"]


def test_only_full_reaches_anything_by_default() -> None:
    lists = Env(_env_file=None).egress

    assert {name for name, text in lists.items() if text} == {"full"}
    assert set(lists) | {"internal"} == set(EgressClass)


@pytest.mark.parametrize("variable", EGRESS_LISTS.values())
def test_a_list_that_cannot_be_read_ends_the_program_with_its_name(variable: str) -> None:
    with pytest.raises(EnvError, match=rf"{variable} has 'https://a\.test'"):
        Env(_env_file=None, **{variable: "https://a.test"})
