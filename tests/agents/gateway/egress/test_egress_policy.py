from ipaddress import ip_address

import pytest

from agents.gateway.egress.policy import (
    Reason,
    Refused,
    check_addresses,
    check_target,
    read_authority,
    read_url,
)
from projects.addresses import own_addresses, parse_rules
from tests.projects.test_addresses import NOT_PUBLIC


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("Example.ORG:443", "example.org", 443),
        ("example.org.:443", "example.org", 443),
        ("93.184.215.14:443", "93.184.215.14", 443),
        ("[2606:4700:0::1111]:443", "2606:4700::1111", 443),
    ],
)
def test_read_authority_gives_the_normal_form(text: str, host: str, port: int) -> None:
    target = read_authority(text)

    assert (target.host, target.port) == (host, port)


@pytest.mark.parametrize(
    "text",
    [
        "2130706433:443",
        "0x7f000001:443",
        "0x7f.0.0.1:443",
        "0177.0.0.1:443",
        "127.1:443",
        "127.0.0.01:443",
        "127.0.0.0x1:443",
        "[::ffff:127.0.0.1%eth0]:443",
        "[fe80::1%1]:443",
        "[127.0.0.1]:443",
        "[::1:443]:443:",
        "256.1.1.1:443",
        "%31%32%37.0.0.1:443",
        "a b.test:443",
        "a..test:443",
    ],
)
def test_read_authority_refuses_other_forms_of_addresses(text: str) -> None:
    with pytest.raises(Refused):
        read_authority(text)


@pytest.mark.parametrize(
    "text", ["example.org", "example.org:", "example.org:0", "example.org:65536", ":443", "a@b.test:443"]
)
def test_read_authority_refuses_what_is_no_host_and_port(text: str) -> None:
    with pytest.raises(Refused) as caught:
        read_authority(text)

    assert caught.value.status == 400


@pytest.mark.parametrize(
    ("url", "authority", "path"),
    [
        ("http://Example.org", "example.org", "/"),
        ("HTTP://example.org:8080/a?b=c", "example.org:8080", "/a?b=c"),
        ("http://example.org?x=/y", "example.org", "/?x=/y"),
        ("http://example.org/a#part", "example.org", "/a"),
        ("http://[2606:4700::1]/", "[2606:4700::1]", "/"),
    ],
)
def test_read_url(url: str, authority: str, path: str) -> None:
    target, found = read_url(url)

    assert (target.authority, found) == (authority, path)


@pytest.mark.parametrize(
    "url",
    ["/metrics", "https://example.org/", "ftp://example.org/", "http:/example.org/", "http://user:pw@example.org/"],
)
def test_read_url_refuses(url: str) -> None:
    with pytest.raises(Refused):
        read_url(url)


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        ("docs.test:443", ""),
        ("docs.test:80", Reason.PORT_NOT_LISTED),
        ("docs.test:22", Reason.PORT_NOT_LISTED),
        ("other.test:443", Reason.NOT_LISTED),
        ("10.0.0.5:8080", ""),
        ("10.0.0.5:443", Reason.PORT_NOT_LISTED),
        ("10.0.0.6:8080", Reason.NOT_LISTED),
        ("93.184.215.14:443", Reason.NOT_LISTED),
        ("[::ffff:10.0.0.5]:8080", Reason.NOT_LISTED),
    ],
)
def test_check_target(asked: str, reason: str) -> None:
    rules = parse_rules("docs.test:443,10.0.0.5:8080")

    if not reason:
        check_target(rules, read_authority(asked))
        return
    with pytest.raises(Refused) as caught:
        check_target(rules, read_authority(asked))
    assert caught.value.reason == reason


def test_every_name_lists_no_address() -> None:
    with pytest.raises(Refused) as caught:
        check_target(parse_rules("*:443"), read_authority("93.184.215.14:443"))

    assert caught.value.reason == Reason.NOT_LISTED


@pytest.mark.parametrize("text", NOT_PUBLIC)
def test_a_name_that_leads_to_an_address_that_is_not_public_is_refused(text: str) -> None:
    with pytest.raises(Refused) as caught:
        check_addresses(parse_rules("*"), read_authority("a.test:443"), [ip_address(text)], own=frozenset())

    assert caught.value.reason == Reason.NOT_PUBLIC


def test_one_bad_address_among_good_ones_is_enough() -> None:
    addresses = [ip_address("93.184.215.14"), ip_address("127.0.0.1")]

    with pytest.raises(Refused):
        check_addresses(parse_rules("*"), read_authority("a.test:443"), addresses, own=frozenset())


def test_an_address_that_is_listed_itself_may_be_private() -> None:
    rules = parse_rules("a.test:8080,10.0.0.0/24:8080")

    check_addresses(rules, read_authority("a.test:8080"), [ip_address("10.0.0.7")], own=frozenset())
    with pytest.raises(Refused):
        check_addresses(rules, read_authority("a.test:8080"), [ip_address("10.0.1.7")], own=frozenset())


def test_this_machines_own_addresses_are_refused_even_when_public() -> None:
    own = ip_address("93.184.215.14")

    with pytest.raises(Refused):
        check_addresses(parse_rules("*"), read_authority("a.test:443"), [own], own=frozenset([own]))


def test_own_addresses_are_found() -> None:
    assert ip_address("127.0.0.1") in own_addresses()
