"""The portal's small words: icon, badge, money, times, roles, Markdown. Components with more to them are `_*.html`."""

import json
from collections.abc import Collection
from datetime import datetime
from decimal import ROUND_HALF_UP, Decimal
from typing import Any
from uuid import UUID

from django import template
from django.templatetags.static import static
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString

from projects.roles import Role
from projects.text import render_markdown
from projects.vocabulary import APPROVAL_ICONS, ROLE_ICONS, Look, look

register = template.Library()

_SIGNS = {"USD": "$", "EUR": "€", "GBP": "£", "INR": "₹"}
_MINUTE, _HOUR, _DAY = 60, 3600, 86400


@register.simple_tag
def icon(name: str, size: str = "") -> SafeString:
    """Draw a symbol of the sprite (frontend/icons.txt). Decoration: the word beside it carries the meaning."""
    css = f"icon icon--{size}" if size else "icon"
    return format_html(
        '<svg class="{}" aria-hidden="true"><use href="{}#{}"></use></svg>',
        css,
        static("dist/icons.svg"),
        name,
    )


@register.inclusion_tag("_badge.html")
def badge(machine: str, state: str, reason: str = "") -> dict[str, str]:
    """Show a state as icon, word and colour; `reason` is a sentence for the tooltip."""
    shown: Look = look(machine, state)
    return {"word": shown.word, "icon_name": shown.icon, "tone": shown.tone, "reason": reason, "state": state}


@register.simple_tag
def tone(machine: str, state: str) -> str:
    """Return the tone of a state, for an element's data-tone."""
    return look(machine, state).tone


@register.simple_tag
def word(machine: str, state: str) -> str:
    """Return the word of a state."""
    return look(machine, state).word


@register.inclusion_tag("_role.html")
def role(value: str, name: str = "") -> dict[str, str]:
    """Show a role with its icon; `name` is the agent's own name where there is one."""
    return {"icon_name": ROLE_ICONS.get(value, "bot"), "label": name or role_label(value)}


@register.filter
def as_json(value: Any) -> str:
    """Return a JSON value as text that people read."""
    return json.dumps(value, indent=2, ensure_ascii=False)


@register.filter
def role_label(value: str) -> str:
    """Return a role's name for people."""
    return Role(value).label if value in Role.values else value


@register.filter
def role_label_or(value: str, otherwise: str) -> str:
    """Return a role's name for people; `otherwise` for a part of the platform that is none."""
    return Role(value).label if value in Role.values else otherwise


@register.filter
def approval_icon(kind: str) -> str:
    """Return the icon of a kind of approval."""
    return APPROVAL_ICONS.get(kind, "inbox")


@register.filter
def money_text(amount: Decimal | None, currency: str = "USD") -> str:
    """Return an amount to the cent, as people write it: $1.23; less than half a cent but not nothing: <$0.01."""
    amount = amount or Decimal(0)
    sign = _SIGNS.get(currency, f"{currency} ")
    cents = amount.quantize(Decimal("0.01"), rounding=ROUND_HALF_UP)
    if cents == 0 and amount > 0:
        return f"<{sign}0.01"
    return f"{'-' if cents < 0 else ''}{sign}{abs(cents):,}"


@register.simple_tag
def money(amount: Decimal | None, currency: str = "USD") -> SafeString:
    """Show an amount to the cent, exact to the last digit on hover."""
    exact = f"{amount or Decimal(0):f} {currency}"
    return format_html('<span class="num" title="{}">{}</span>', exact, money_text(amount, currency))


@register.inclusion_tag("_simulated.html")
def simulated(found: bool | Collection[UUID], key: UUID | None = None) -> dict[str, bool]:
    """Say beside a sum that nobody pays it. `found` is whether; or the ids of which it is true, one being `key`."""
    return {"simulated": found if isinstance(found, bool) else key in found}


@register.inclusion_tag("_model.html")
def model(name: str, rehearsed: bool) -> dict[str, str | bool]:
    """Show the model of a request or run; where the rehearsal model answered in its place, that one first."""
    return {"name": name, "rehearsed": rehearsed}


@register.simple_tag
def ago(moment: datetime | None) -> SafeString:
    """Show how long ago something was; the page keeps it true. Empty for None."""
    if moment is None:
        return SafeString("")
    text = _ago_text((timezone.now() - moment).total_seconds()) or moment.strftime("%-d %b %Y")
    return format_html(
        '<time data-ago datetime="{}" title="{}">{}</time>',
        moment.isoformat(timespec="seconds"),
        moment.strftime("%Y-%m-%d %H:%M:%S %Z"),
        text,
    )


@register.simple_tag
def clock(moment: datetime) -> SafeString:
    """Show the time of day, in the reader's zone once the page's script ran."""
    return format_html(
        '<time data-clock datetime="{}">{}</time>',
        moment.isoformat(timespec="milliseconds"),
        moment.strftime("%H:%M:%S"),
    )


@register.simple_tag
def elapsed(start: datetime | None, end: datetime | None = None) -> SafeString:
    """Show how long something took; with no `end` it ticks. Empty while it has no start."""
    if start is None:
        return SafeString("")
    text = elapsed_text(((end or timezone.now()) - start).total_seconds())
    if end is not None:
        return format_html('<span class="num">{}</span>', text)
    return format_html('<time data-elapsed datetime="{}">{}</time>', start.isoformat(timespec="seconds"), text)


def elapsed_text(seconds: float) -> str:
    """Return a duration in at most two units. frontend/src/time.js says the same."""
    s = max(0, int(seconds))
    if s < _MINUTE:
        return f"{s}s"
    if s < _HOUR:
        return f"{s // _MINUTE}m {s % _MINUTE:02}s"
    if s < _DAY:
        return f"{s // _HOUR}h {s % _HOUR // _MINUTE:02}m"
    return f"{s // _DAY}d {s % _DAY // _HOUR}h"


def _ago_text(seconds: float) -> str:
    if seconds < 45:
        return "just now"
    if seconds < _HOUR:
        return f"{max(1, round(seconds / _MINUTE))} min ago"
    if seconds < _DAY:
        return f"{round(seconds / _HOUR)} h ago"
    if seconds < 2 * _DAY:
        return "yesterday"
    return f"{int(seconds // _DAY)} days ago" if seconds < 14 * _DAY else ""


@register.filter
def markdown(text: str) -> SafeString:
    """Render what a person or an agent wrote, sanitised."""
    return render_markdown(text or "")


@register.filter
def short(value: object, length: int = 8) -> str:
    """Return the first characters of an id or commit."""
    return str(value)[:length]


@register.filter
def percent_of(part: Decimal | int, whole: Decimal | int) -> int:
    """Return part of whole in percent, 0 to 100; 0 where the whole is nothing."""
    return max(0, min(100, int(100 * part / whole))) if whole else 0


@register.filter
def line_count(text: str) -> int:
    """Return how many lines a text has."""
    return text.count("\n") + 1


@register.filter
def words(code: str) -> str:
    """Return a machine-readable reason as words: tests_failed becomes Tests failed."""
    text = code.replace("_", " ")
    return text[:1].upper() + text[1:]
