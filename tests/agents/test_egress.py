from ipaddress import ip_address

import pytest

from agents.egress import EgressClass, allow_list, is_name, parse_rules
from eklavya.env import EGRESS_LISTS, Env, EnvError


@pytest.mark.parametrize(
    ("text", "name", "port", "is_allowed"),
    [
        ("docs.example.org", "docs.example.org", 443, True),
        ("docs.example.org", "docs.example.org", 80, False),
        ("docs.example.org:80+8443", "docs.example.org", 8443, True),
        ("docs.example.org:80+8443", "docs.example.org", 443, False),
        ("Docs.Example.ORG.", "docs.example.org", 443, True),
        ("example.org", "docs.example.org", 443, False),
        ("example.org", "badexample.org", 443, False),
        ("*.example.org", "docs.example.org", 443, True),
        ("*.example.org", "a.docs.example.org", 443, True),
        ("*.example.org", "example.org", 443, False),
        ("*.example.org", "badexample.org", 443, False),
        ("*.example.org", "example.org.evil.test", 443, False),
        ("*:80", "anything.test", 80, True),
        ("*:80", "anything.test", 443, False),
        ("*:80", "postgres", 80, False),
        ("postgres:80", "postgres", 80, True),
        ("a.test, b.test:80 ,", "b.test", 80, True),
        ("", "a.test", 443, False),
    ],
)
def test_allows_name(text: str, name: str, port: int, is_allowed: bool) -> None:
    assert any(rule.allows_name(name, port) for rule in parse_rules(text)) is is_allowed


@pytest.mark.parametrize(
    ("text", "address", "port", "is_allowed"),
    [
        ("10.1.2.3:8080", "10.1.2.3", 8080, True),
        ("10.1.2.3:8080", "10.1.2.4", 8080, False),
        ("10.1.2.3:8080", "10.1.2.3", 443, False),
        ("10.1.0.0/16", "10.1.255.255", 443, True),
        ("10.1.0.0/16", "10.2.0.0", 443, False),
        ("[fd00::/8]:80", "fd12::1", 80, True),
        ("[fd00::1]", "fd00::1", 443, True),
        ("10.1.0.0/16", "::ffff:10.1.0.1", 443, False),
        ("*", "10.1.2.3", 443, False),
    ],
)
def test_allows_address(text: str, address: str, port: int, is_allowed: bool) -> None:
    assert any(rule.allows_address(ip_address(address), port) for rule in parse_rules(text)) is is_allowed


@pytest.mark.parametrize(
    "text",
    [
        "https://example.org",
        "example.org:0",
        "example.org:65536",
        "example.org:",
        "example.org:80+",
        "example.org:80-90",
        "exa mple.org",
        "*example.org",
        "a.*.org",
        "fd00::1",
        "10.0.0.1/8",
        "300.1.1.1",
        "0x7f.1",
        "127.1",
        "-a.test",
        "a..test",
    ],
)
def test_parse_rules_refuses_with_the_entry(text: str) -> None:
    with pytest.raises(ValueError, match="has '"):
        parse_rules(text)


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("example.org", True),
        ("localhost", True),
        ("xn--bcher-kva.example", True),
        ("_acme.example.org", True),
        ("1password.test", True),
        ("2130706433", False),
        ("0x7f000001", False),
        ("127.0.0.0x1", False),
        ("127.1", False),
        ("0177.0.0.1", False),
        ("bücher.example", False),
        ("１２７.0.0.1", False),
        ("a\r\nb.test", False),
        ("a%2e.test", False),
        (".test", False),
        ("a" * 64 + ".test", False),
        (".".join(["abcdefg"] * 32), False),
        ("", False),
    ],
)
def test_is_name(host: str, expected: bool) -> None:
    assert is_name(host) is expected


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
