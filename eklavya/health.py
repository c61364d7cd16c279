"""Whether the web server lives, and whether what it needs answers. For load balancers and for our own start."""

from collections.abc import Callable

import redis
from django.conf import settings
from django.contrib.auth.decorators import login_not_required
from django.db import DatabaseError, connection
from django.http import HttpRequest, JsonResponse
from django.views.decorators.http import require_safe

TIMEOUT_S = 2


@require_safe
@login_not_required
def healthz(request: HttpRequest) -> JsonResponse:
    """Answer, without looking at anything else."""
    return JsonResponse({"status": "ok"})


@require_safe
@login_not_required
def readyz(request: HttpRequest) -> JsonResponse:
    """Answer 200 when database and Redis answer, 503 otherwise. Says which, and nothing of why: the log does."""
    checks = {name: _answers(ask) for name, ask in {"database": _ask_database, "redis": _ask_redis}.items()}
    return JsonResponse({"checks": checks}, status=200 if all(checks.values()) else 503)


def _answers(ask: Callable[[], None]) -> bool:
    try:
        ask()
    except (DatabaseError, redis.RedisError):
        return False
    return True


def _ask_database() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")


def _ask_redis() -> None:
    with redis.Redis.from_url(settings.REDIS_URL, socket_connect_timeout=TIMEOUT_S, socket_timeout=TIMEOUT_S) as client:
        client.ping()
