"""The machines: how they are, and taking them out of use and back. That is for admins."""

from collections.abc import Callable
from datetime import datetime, timedelta
from uuid import UUID

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.utils import timezone
from django.views.decorators.http import require_GET, require_POST

from agents import pages, upkeep
from agents.actions import workers as actions
from agents.actions.workers import SILENT_AFTER
from agents.models import Worker
from agents.states import Trust, WorkerStatus
from projects.actors import Actor
from projects.models import Task
from projects.permissions import check_can_administer
from projects.web import PageRequest, act, refusal, render_page

BEAT_IS_LATE = timedelta(seconds=SILENT_AFTER.total_seconds() / 2)


@require_GET
def workers(request: PageRequest) -> HttpResponse:
    """The machines, and whether anybody is listening at all."""
    now = timezone.now()
    found = list(pages.workers())
    listening = [worker for worker in found if worker.status in {WorkerStatus.ONLINE, WorkerStatus.BUSY}]
    context = {
        "workers": [pages.shown_worker(worker, is_late=now - worker.heartbeat_at > BEAT_IS_LATE) for worker in found],
        "is_nobody_there": not listening,
        "waiting": Task.objects.filter(status="ready").count(),
        "untrusted": 0 if any(one.trust == Trust.SENSITIVE for one in listening) else pages.sensitive_tasks().count(),
        "running": list(pages.active_runs()),
        "upkeep": pages.shown_upkeep(upkeep.tables()),
        "refusal": refusal(check_can_administer, request.user),
    }
    return render_page(request, "agents/workers.html", context)


@require_POST
@act
def cordon(request: PageRequest, worker_id: UUID) -> HttpResponse:
    """Have a worker take nothing new."""
    return _steer(request, worker_id, lambda worker, by, now: actions.cordon_worker(worker, by=by, now=now))


@require_POST
@act
def drain(request: PageRequest, worker_id: UUID) -> HttpResponse:
    """Have a worker take nothing new and hand over what it has."""

    def verb(worker: Worker, by: Actor, now: datetime) -> None:
        count = actions.drain_worker(worker, by=by, now=now)
        messages.success(request, f"{worker.name} hands over {count} run{'' if count == 1 else 's'}.")

    return _steer(request, worker_id, verb)


@require_POST
@act
def uncordon(request: PageRequest, worker_id: UUID) -> HttpResponse:
    """Let a worker take runs again."""
    return _steer(request, worker_id, lambda worker, by, now: actions.uncordon_worker(worker, by=by, now=now))


@require_POST
@act
def forget(request: PageRequest, worker_id: UUID) -> HttpResponse:
    """Remove a worker that is gone for good."""
    return _steer(request, worker_id, lambda worker, by, now: actions.forget_worker(worker, by=by, now=now))


def _steer(request: PageRequest, worker_id: UUID, verb: Callable[[Worker, Actor, datetime], object]) -> HttpResponse:
    check_can_administer(request.user)
    verb(get_object_or_404(Worker, pk=worker_id), Actor.person(request.user), timezone.now())
    return redirect("workers")
