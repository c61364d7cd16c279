"""What the shell of every page shows: who waits, what was spent, how real it is."""

from decimal import Decimal
from typing import TypedDict
from uuid import UUID

from django.conf import settings
from django.db.models import Sum
from django.http import HttpRequest
from django.utils import timezone

from agents.models import Worker
from agents.queries import is_house_simulated
from billing.models import LedgerEntry
from projects.queries import open_approvals
from projects.secrets import model_mode

THEMES = ("auto", "light", "dark")
_SECTIONS = {
    "home": "home",
    "project_new": "home",
    "approvals": "approvals",
    "approval": "approvals",
    "run": "projects",
    "task": "projects",
    "execution": "projects",
    "agents": "agents",
    "roles": "agents",
    "workflows": "workflows",
    "workflow": "workflows",
    "budget": "budget",
    "audit": "audit",
    "workers": "workers",
    "mfa_index": "settings",
    "people": "settings",
    "api_keys": "settings",
    "webhooks": "settings",
    "webhook": "settings",
    "recovery": "settings",
    "secrets": "settings",
    "account_change_password": "settings",
    "account_set_password": "settings",
}


class Shell(TypedDict, total=False):
    """The context variable `shell`. A visitor who is not signed in gets the theme alone."""

    theme: str
    section: str
    live_url: str
    needs_you: int
    spend_today: Decimal
    currency: str
    model_mode: str
    simulated: bool
    runtime: str
    isolated: bool


def shell(request: HttpRequest) -> dict[str, Shell]:
    """Return the shell's numbers: five cheap statements, each answered by an index."""
    theme = request.COOKIES.get("theme", "auto")
    theme = theme if theme in THEMES else "auto"
    if not (hasattr(request, "user") and request.user.is_authenticated):
        return {"shell": {"theme": theme}}
    runtime = _runtime()
    return {
        "shell": {
            "theme": theme,
            "section": _section(request),
            "live_url": "/ws/events/",
            "needs_you": open_approvals().count(),
            "spend_today": _spend_today(),
            "currency": settings.EKLAVYA_CURRENCY,
            "model_mode": model_mode(_project_id(request)),
            "simulated": is_house_simulated(model_mode(None)),
            "runtime": runtime,
            "isolated": runtime != "local",
        }
    }


def _project_id(request: HttpRequest) -> UUID | None:
    """Return the project whose page it is: one with a key of its own works with a real model."""
    found = request.resolver_match.kwargs.get("project_id") if request.resolver_match else None
    return found if isinstance(found, UUID) else None


def _section(request: HttpRequest) -> str:
    name = request.resolver_match.url_name if request.resolver_match else None
    return _SECTIONS.get(name or "", "projects" if request.path.startswith("/projects/") else "")


def _spend_today() -> Decimal:
    start = timezone.now().replace(hour=0, minute=0, second=0, microsecond=0)
    real = LedgerEntry.objects.filter(created_at__gte=start, kind__in=["settle", "adjust"])
    return real.aggregate(sum=Sum("amount"))["sum"] or Decimal(0)


def _runtime() -> str:
    """Return the least isolated runtime that a known worker uses; what is asked for while none is known."""
    used = set(Worker.objects.exclude(status="offline").values_list("runtime", flat=True))
    if "local" in used:
        return "local"
    return min(used, default=settings.EKLAVYA_RUNTIME)
