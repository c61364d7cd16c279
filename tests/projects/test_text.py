"""What strangers wrote must be safe to show."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from projects.text import MAX_CHARS, TAGS, render_markdown

ATTACKS = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "<svg onload=alert(1)>",
    "[x](javascript:alert(1))",
    "[x](JaVaScRiPt:alert(1))",
    "[x](data:text/html,<script>alert(1)</script>)",
    "![x](https://example.org/pixel.png)",
    '<a href="https://example.org" onclick="alert(1)">x</a>',
    "<style>body{display:none}</style>",
    '<iframe src="https://example.org"></iframe>',
    "<form action=https://example.org><input name=password></form>",
    "```html\n<script>alert(1)</script>\n```",
    "[x]: javascript:alert(1)\n\n[x]",
]


@pytest.mark.parametrize("attack", ATTACKS)
def test_render_markdown_lets_no_attack_through(attack: str) -> None:
    html = render_markdown(attack)

    assert not re.search(r"<(script|img|svg|style|iframe|form|input)\b", html)
    assert not re.search(r"<[^>]*\son\w+=", html)
    assert not re.search(r"href=\"(?!https?:|mailto:)", html)


def test_render_markdown_shows_structure() -> None:
    html = render_markdown("# Title\n\n- one\n- two\n\n`code` and **bold**\n\n| a | b |\n|---|---|\n| 1 | 2 |")

    for piece in ("<h1>Title</h1>", "<li>one</li>", "<code>code</code>", "<strong>bold</strong>", "<td>1</td>"):
        assert piece in html


def test_render_markdown_keeps_single_line_breaks() -> None:
    assert "<br" in render_markdown("one\ntwo")


def test_render_markdown_opens_links_without_telling_where_from() -> None:
    html = render_markdown("[here](https://example.org/)")

    assert 'href="https://example.org/"' in html
    assert 'rel="noopener noreferrer nofollow"' in html


def test_render_markdown_cuts_what_nobody_reads() -> None:
    assert len(render_markdown("a" * (MAX_CHARS + 500))) < MAX_CHARS + 50


@given(st.text(alphabet="<>/&\"'`*[]()!#- \nascriptonhref=:", max_size=80))
def test_render_markdown_gives_only_known_tags(text: str) -> None:
    assert set(re.findall(r"</?([a-zA-Z0-9]+)", render_markdown(text))) <= TAGS
