"""What people and agents wrote, made safe to show: Markdown to sanitised HTML.

Nothing here trusts its input. Raw HTML in the text is shown as text, links lose every scheme but http(s) and mailto and
tell the target nothing, images are not loaded (a picture's address would tell its server who reads), and no attribute
survives that styles or runs anything.
"""

import nh3
from django.utils.safestring import SafeString, mark_safe
from markdown_it import MarkdownIt

MAX_CHARS = 200_000
"""Longer texts are cut before they are rendered: parsing is linear, but a page is read by a person."""

TAGS = frozenset(
    [
        "a",
        "blockquote",
        "br",
        "code",
        "del",
        "em",
        "h1",
        "h2",
        "h3",
        "h4",
        "h5",
        "h6",
        "hr",
        "li",
        "ol",
        "p",
        "pre",
        "s",
        "strong",
        "table",
        "tbody",
        "td",
        "th",
        "thead",
        "tr",
        "ul",
    ]
)
_markdown = MarkdownIt("commonmark", {"html": False, "linkify": False, "breaks": True}).enable(
    ["table", "strikethrough"]
)


def render_markdown(text: str) -> SafeString:
    """Return the text as HTML that may be put into a page as it is."""
    html = _markdown.render(text[:MAX_CHARS])
    clean = nh3.clean(
        html,
        tags=set(TAGS),
        attributes={"a": {"href", "title"}},
        url_schemes={"http", "https", "mailto"},
        link_rel="noopener noreferrer nofollow",
    )
    return mark_safe(clean)
