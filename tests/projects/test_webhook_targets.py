"""Where webhooks may be sent: each form of an address that leads inside is refused."""

import pytest
from pytest_django import Settings

from projects.webhooks.targets import ReceiverRefused, ReceiverUnknown, find
from tests.projects.receivers import Names
from tests.projects.test_addresses import NOT_PUBLIC

PUBLIC = "93.184.215.14"


def names(*addresses: str) -> Names:
    return Names({"hooks.example.org": [list(addresses)]})


@pytest.mark.parametrize("url", ["https://hooks.example.org/a/b?c=d", "HTTPS://Hooks.Example.org.:443/a/b?c=d"])
def test_public_host_is_found_and_pinned(url: str) -> None:
    found = find(url, resolve=names(PUBLIC, "2606:4700::1111"))

    assert (found.scheme, found.target.host, found.target.port, found.path) == (
        "https",
        "hooks.example.org",
        443,
        "/a/b?c=d",
    )
    assert [str(address) for address in found.addresses] == [PUBLIC, "2606:4700::1111"]


@pytest.mark.parametrize("address", NOT_PUBLIC)
def test_name_that_leads_inside_is_refused(address: str) -> None:
    with pytest.raises(ReceiverRefused, match="not public"):
        find("https://hooks.example.org/", resolve=names(address))


@pytest.mark.parametrize("address", NOT_PUBLIC)
def test_one_address_inside_among_public_ones_is_enough(address: str) -> None:
    with pytest.raises(ReceiverRefused, match="not public"):
        find("https://hooks.example.org/", resolve=names(PUBLIC, address))


@pytest.mark.parametrize(
    "host",
    [
        *(f"[{one}]" if ":" in one else one for one in NOT_PUBLIC),
        PUBLIC,
        "2130706433",
        "0x7f000001",
        "0x7f.1",
        "127.1",
        "0177.0.0.1",
        "127.0.0.0x1",
        "[::ffff:7f00:1]",
        "[fe80::1%25eth0]",
        "[::1",
    ],
)
def test_address_in_place_of_a_name_is_refused_in_every_form(host: str) -> None:
    asked = Names()
    with pytest.raises(ReceiverRefused):
        find(f"https://{host}/", resolve=asked)
    assert asked.asked == []


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("http://hooks.example.org/", "Only https"),
        ("https://hooks.example.org:8443/", "Only port 443, not 8443"),
        ("https://hooks.example.org:22/", "Only port 443"),
        ("https://hooks.example.org:99999/", "port"),
        ("https://asha@hooks.example.org/", "No user or password"),
        ("https://asha:pass@hooks.example.org/", "No user or password"),
        ("https://hooks.example.org:443@evil.example/", "No user or password"),
        ("https://hooks.example.org\\@evil.example/", "special characters"),
        ("https://hooks.example.org/#x", "after #"),
        ("https://evil.example#@hooks.example.org/", "after #"),
        ("https://hooks.example.org/a b", "blanks"),
        ("https://hooks.example.org/\r\nX: y", "blanks"),
        ("https://bücher.example/", "xn--"),
        ("https://１２７.0.0.1/", "xn--"),
        ("ftp://hooks.example.org/", "looks like https"),
        ("file:///etc/passwd", "looks like https"),
        ("gopher://hooks.example.org/", "looks like https"),
        ("//hooks.example.org/", "looks like https"),
        ("https:/hooks.example.org/", "looks like https"),
        ("https:///path", "looks like https"),
        ("https://a%2eb.example/", "name"),
        ("https://-a.example/", "name"),
        ("", "blanks"),
        ("https://hooks.example.org/" + "x" * 2_000, "limit is 2,000"),
    ],
)
def test_url_is_refused_with_a_sentence(url: str, why: str) -> None:
    with pytest.raises(ReceiverRefused, match=why):
        find(url, resolve=names(PUBLIC))


def test_name_without_address_is_not_known() -> None:
    with pytest.raises(ReceiverUnknown, match=r"nowhere\.example has no address"):
        find("https://nowhere.example/", resolve=Names())


def test_this_machines_own_name_is_refused() -> None:
    with pytest.raises(ReceiverRefused, match="not public"):
        find("https://localhost/")


# -- what an installation lists


def test_listed_address_may_be_named_with_its_port_alone(settings: Settings) -> None:
    settings.EKLAVYA_WEBHOOK_HOSTS = "10.1.2.3:8443"

    assert find("https://10.1.2.3:8443/").target.port == 8443
    for url in ("https://10.1.2.3/", "https://10.1.2.4:8443/", "http://10.1.2.3:8443/"):
        with pytest.raises(ReceiverRefused):
            find(url)


def test_listed_name_needs_its_address_listed_too(settings: Settings) -> None:
    settings.EKLAVYA_WEBHOOK_HOSTS = "hooks.example.org:8443"
    with pytest.raises(ReceiverRefused, match="not public"):
        find("https://hooks.example.org:8443/", resolve=names("10.1.2.3"))
    settings.EKLAVYA_WEBHOOK_HOSTS += ",10.1.0.0/16:8443"

    assert find("https://hooks.example.org:8443/", resolve=names("10.1.2.3")).addresses


def test_http_is_allowed_by_name_of_the_setting(settings: Settings) -> None:
    settings.EKLAVYA_WEBHOOK_HTTP = True

    assert find("http://hooks.example.org/", resolve=names(PUBLIC)).target.port == 80
    with pytest.raises(ReceiverRefused, match="Only port 80"):
        find("http://hooks.example.org:443/", resolve=names(PUBLIC))
