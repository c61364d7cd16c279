"""Reads that several callers need."""

from datetime import datetime

from django.db.models import Q, QuerySet

from accounts.models import ApiKey


def live_keys(now: datetime) -> QuerySet[ApiKey]:
    """Return the keys that open something now."""
    is_open = Q(expires_at__isnull=True) | Q(expires_at__gt=now)
    return ApiKey.objects.filter(is_open, revoked_at__isnull=True, owner__is_active=True)
