"""Addresses: pure functions over settings."""

import re

import pytest
from pytest_django import Settings

from demos.addresses import is_preview_host, new_token, preview_url, token_of
from demos.headers import to_visitor


def test_tokens_are_long_random_and_fit_a_dns_label() -> None:
    tokens = {new_token() for _ in range(100)}

    assert len(tokens) == 100
    assert all(re.fullmatch(r"[a-z2-7]{32}", token) for token in tokens)
    assert all(len(f"d-{token}") <= 63 for token in tokens)


def test_previews_are_reached_as_the_portal_is(settings: Settings) -> None:
    settings.EKLAVYA_PUBLIC_URL = "https://portal.example.org"
    settings.EKLAVYA_PREVIEW_DOMAIN = "preview.example.org"

    assert preview_url("abc") == "https://d-abc.preview.example.org/"


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("d-x.preview.localhost:8000", True),
        ("d-x.preview.localhost", True),
        ("D-X.PREVIEW.LOCALHOST.:9", True),
        ("preview.localhost:8000", True),
        ("a.b.preview.localhost", True),
        ("localhost:8000", False),
        ("127.0.0.1:8000", False),
        ("[::1]:8000", False),
        ("notpreview.localhost", False),
        ("preview.localhost.example.org", False),
        ("", False),
    ],
)
def test_is_preview_host(host: str, expected: bool) -> None:
    assert is_preview_host(host) is expected


def test_token_of_reads_only_well_formed_hosts() -> None:
    token = new_token()

    assert token_of(f"d-{token}.preview.localhost:8000") == token
    assert token_of(f"d-{token}.preview.localhost") == token
    for host in (f"{token}.preview.localhost", f"d-{token}", f"d-{token}x.preview.localhost", f"x.d-{token}.x", ""):
        assert token_of(host) == ""


@pytest.mark.parametrize(
    ("policy", "kept"),
    [
        ("frame-ancestors 'none'", []),
        ("Frame-Ancestors 'none'; default-src 'self'", ["default-src 'self'"]),
        ("default-src 'self'; frame-ancestors *, img-src *", ["default-src 'self', img-src *"]),
        ("frame-ancestors *, frame-ancestors 'none'", []),
    ],
)
def test_an_applications_word_on_framing_does_not_count(policy: str, kept: list[str]) -> None:
    answered = to_visitor([(b"Content-Security-Policy", policy.encode())])

    policies = [value.decode() for name, value in answered if name == b"content-security-policy"]
    assert policies[:-1] == kept
