"""Reads that several callers need."""

from datetime import datetime

from django.db.models import Q, QuerySet

from accounts.models import ApiKey
from accounts.scopes import Scope


def live_keys(now: datetime) -> QuerySet[ApiKey]:
    """Return the keys that open something now."""
    is_open = Q(expires_at__isnull=True) | Q(expires_at__gt=now)
    return ApiKey.objects.filter(is_open, revoked_at__isnull=True, owner__is_active=True)


def joining_keys(now: datetime) -> QuerySet[ApiKey]:
    """Return the keys by which a machine may be a remote worker now: of those who are admins, and for all projects."""
    return live_keys(now).filter(
        owner__is_superuser=True, scopes__contains=[Scope.WORKERS_JOIN], project_id__isnull=True
    )
