"""Recovery: every way in which a run ends badly, what follows by itself, and the switches of admins."""

from itertools import groupby
from typing import Any

from django import forms
from django.conf import settings
from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect
from django.utils import timezone
from django.views.decorators.http import require_GET, require_POST

from agents.actions import recoveries
from agents.endings import WAYS
from agents.models import Recovery
from projects.actors import Actor
from projects.permissions import check_can_administer
from projects.refused import is_valid
from projects.web import PageRequest, act, refusal, render_page

_RECENT = 10


class CapsForm(forms.Form):
    """How many second tries there are at most; empty leaves it to the environment, which is the ceiling."""

    per_task = forms.IntegerField(label="Second tries of a task", min_value=0, max_value=1_000, required=False)
    per_hour = forms.IntegerField(label="Of all tasks in an hour", min_value=0, max_value=100_000, required=False)


@require_GET
def recovery(request: PageRequest) -> HttpResponse:
    """The table, with what holds now."""
    return _page(request, None)


@require_POST
@act
def switch(request: PageRequest) -> HttpResponse:
    """Have tasks go on by themselves after one reason, or a person asked."""
    check_can_administer(request.user)
    reason, on = request.POST.get("reason", ""), request.POST.get("to") == "on"
    recoveries.switch(reason, on=on, by=Actor.person(request.user), now=timezone.now())
    messages.success(request, f"After {reason}, {'a task goes on by itself' if on else 'a person is asked'}.")
    return redirect("recovery")


@require_POST
@act
def caps(request: PageRequest) -> HttpResponse:
    """Set the caps of second tries."""
    check_can_administer(request.user)
    form = CapsForm(request.POST)
    if not is_valid(request, form):
        return _page(request, form, status=422)
    recoveries.set_caps(**form.cleaned_data, by=Actor.person(request.user), now=timezone.now())
    messages.success(request, "The caps are set.")
    return redirect("recovery")


def _page(request: PageRequest, form: CapsForm | None, *, status: int = 200) -> HttpResponse:
    now = recoveries.in_force()
    rows: list[dict[str, Any]] = [
        {
            "reason": reason,
            "way": way,
            "then": "a person is asked" if reason in now.switched_off else way.remedy.value,
            "is_off": reason in now.switched_off,
            "is_fixed": reason in now.by_environment,
        }
        for reason, way in WAYS.items()
    ]
    # What is seen alike and treated alike is one row.
    alike = groupby(rows, key=lambda row: (row["way"].seen, row["then"], row["way"].limit))
    groups = [list(found) for _, found in alike]
    recent = Recovery.objects.select_related("task", "project").order_by("-pk")[:_RECENT]
    context = {
        "groups": groups,
        "now": now,
        "most_per_task": settings.EKLAVYA_RECOVERIES_PER_TASK,
        "most_per_hour": settings.EKLAVYA_RECOVERIES_PER_HOUR,
        "form": form or CapsForm(initial={"per_task": now.per_task, "per_hour": now.per_hour}),
        "recent": list(recent),
        "switch_refused": refusal(check_can_administer, request.user),
    }
    return render_page(request, "agents/recovery.html", context, status=status)
