"""Which addresses are public, and what an allow-list lets through."""

from ipaddress import ip_address

import pytest

from projects.addresses import is_name, is_public, parse_rules

NOT_PUBLIC = [
    "0.0.0.0",
    "10.0.0.1",
    "100.64.0.1",
    "100.100.100.200",
    "127.0.0.1",
    "127.8.9.10",
    "168.63.129.16",
    "169.254.169.254",
    "169.254.170.2",
    "172.17.0.1",
    "192.0.0.192",
    "192.0.2.1",
    "192.88.99.1",
    "192.168.1.1",
    "198.18.0.1",
    "203.0.113.1",
    "224.0.0.1",
    "239.255.255.250",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::127.0.0.1",
    "::ffff:127.0.0.1",
    "::ffff:93.184.215.14",
    "64:ff9b::7f00:1",
    "64:ff9b:1::1",
    "100::1",
    "2001::1",
    "2001:db8::1",
    "2002:7f00:1::1",
    "3fff::1",
    "fc00::1",
    "fd00:ec2::254",
    "fe80::1",
    "fec0::1",
    "ff02::1",
]


@pytest.mark.parametrize("text", NOT_PUBLIC)
def test_is_public_is_false(text: str) -> None:
    assert not is_public(ip_address(text))


@pytest.mark.parametrize("text", ["93.184.215.14", "1.1.1.1", "2606:4700::1111", "2a00:1450::1"])
def test_is_public_is_true(text: str) -> None:
    assert is_public(ip_address(text))


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
