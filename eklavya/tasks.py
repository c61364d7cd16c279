"""Celery tasks that need several apps at once."""

from decimal import Decimal

from axes.models import AccessAttempt
from celery import shared_task
from django.conf import settings
from django.contrib.sessions.models import Session
from django.utils import timezone

from agents.actions import money
from agents.clock import house_now
from agents.models import Run
from agents.states import RunStatus
from billing import actions as billing
from learning import actions as learning
from learning.actions import RunFacts
from projects.actions import approvals
from projects.actors import Actor
from projects.sweeping import take_each

BOOKKEEPER = Actor.system("bookkeeper")


@shared_task(ignore_result=True)
def after_run(*, run_id: str) -> None:
    """Bring up to date what is summed over runs. Idempotent; the sweep does it for runs whose message was lost."""
    run = Run.objects.select_related("project").get(pk=run_id)
    now = house_now()
    billing.record_spending(run.project, by=BOOKKEEPER, now=now)
    if run.prompt_version_id and run.started_at and run.finished_at:
        learning.record_outcome(_facts(run), by=BOOKKEEPER, now=now)
    money.ask_for_more(run, by=BOOKKEEPER, now=now)


@shared_task(ignore_result=True)
def expire() -> None:
    """Settle what nobody settled, record the requests that are closed and escalate what nobody decided."""
    now = house_now()
    take_each(
        lambda: billing.expire_reservations(now),
        lambda: billing.audit_requests(now),
        lambda: approvals.take_defaults(by=BOOKKEEPER, now=now),
        lambda: approvals.escalate_overdue(by=BOOKKEEPER, now=now),
    )


@shared_task(ignore_result=True)
def forget_visitors() -> None:
    """Delete sessions that ended and wrong passwords that lock nobody out any more."""
    now = timezone.now()
    Session.objects.filter(expire_date__lt=now).delete()
    AccessAttempt.objects.filter(attempt_time__lt=now - 2 * settings.AXES_COOLOFF_TIME).delete()


def _facts(run: Run) -> RunFacts:
    assert run.prompt_version_id
    assert run.started_at
    assert run.finished_at
    return RunFacts(
        run_id=run.pk,
        project_id=run.project_id,
        prompt_version_id=run.prompt_version_id,
        succeeded=run.status == RunStatus.SUCCEEDED,
        reason=run.reason,
        cost=run.cost,
        duration_s=Decimal(f"{(run.finished_at - run.started_at).total_seconds():.3f}"),
        turns=run.turns,
    )
