"""A PostgreSQL, a Valkey and an agent gateway as `manage.py run` starts them, and runs that may use it."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

from bench.installation import free_ports

PARTS = ("postgres", "valkey", "migrations", "gateway")


@contextmanager
def gateway_only(var: Path, model_url: str, *, parts: tuple[str, ...] = PARTS) -> Iterator[str]:
    """Run them for the length of the `with`; inside, Django's models are those of this installation."""
    [port] = free_ports(1)
    os.environ.update(
        EKLAVYA_ENV_FILE="",
        EKLAVYA_VAR=str(var),
        EKLAVYA_RUNTIME="local",
        EKLAVYA_GATEWAY_PORT=str(port),
        EKLAVYA_BUDGET_LIMIT="100000",
        ANTHROPIC_API_KEY="sk-ant-bench",
        ANTHROPIC_BASE_URL=model_url,
        DJANGO_SETTINGS_MODULE="eklavya.settings",
    )
    import django

    django.setup()
    from eklavya.env import Env
    from eklavya.services.stack import Stack

    stack = Stack(Env(), parts)
    stack.start()
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        from django.db import connection

        connection.close_pool()
        stack.stop()


def make_runs(
    count: int, *, limit: Decimal = Decimal(90_000), project_limit: Decimal | None = None, per_project: int = 10
) -> list[str]:
    """Make so many runs at work, with money, and return their tokens. Without `project_limit` it is as a run's."""
    from django.utils import timezone

    from agents.tokens import hash_token, new_token
    from billing import actions as billing
    from projects.models import SquadMember
    from tests.factories import ProjectFactory, RunFactory, TaskFactory

    now, tokens = timezone.now(), []
    for number in range(count):
        if number % per_project == 0:
            project = ProjectFactory(status="planning", budget_limit=project_limit or limit, name=f"bench {number}")
        token = new_token()
        run = RunFactory(
            task=TaskFactory(project=project, role="pm", kind="requirements", status="in_progress", key=f"t{number}"),
            status="running",
            token_hash=hash_token(token),
            lease_until=now + timedelta(days=1),
        )
        billing.open_budgets([billing.Opening(project, run_id=run.pk, agent_id=run.agent_id, run_limit=limit)], now=now)
        tokens.append(token)
    SquadMember.objects.update(max_turns=1_000_000)
    return tokens
