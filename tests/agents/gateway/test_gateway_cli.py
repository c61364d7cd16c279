"""The real Claude Code CLI behind the gateway, with the rehearsal model and with a model that counts."""

import json
import os
import subprocess
from decimal import Decimal
from pathlib import Path
from typing import Any

import claude_agent_sdk
import pytest

from agents import context
from agents.models import Run
from agents.rehearsal.server import create_app
from billing import queries
from billing.models import Budget, LedgerEntry, Reservation
from projects.models import AuditLog
from projects.roles import Role
from tests.agents.gateway.conftest import StartGateway
from tests.agents.gateway.harness import (
    JSON,
    ScriptedModel,
    cuts,
    message_start,
    refuses,
    start_run,
    text_delta,
    wait_until,
)
from tests.factories import TaskFactory

pytestmark = pytest.mark.cli

CLI = Path(claude_agent_sdk.__file__).parent / "_bundled" / "claude"


def claude(gateway: str, token: str, prompt: str, home: Path) -> JSON:
    """Run the CLI as a sandbox would, and return its closing line."""
    config = {
        "mcpServers": {
            "eklavya": {
                "type": "http",
                "url": f"{gateway}/mcp",
                "headers": {"Authorization": f"Bearer {token}"},
            }
        }
    }
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "ANTHROPIC_BASE_URL": f"{gateway}/models/anthropic",
        "ANTHROPIC_API_KEY": token,
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
    }
    options = ["--model", "claude-sonnet-4-5", "--tools", "Read,Glob,Grep", "--allowedTools", "mcp__eklavya"]
    strict = ["--strict-mcp-config", "--mcp-config", json.dumps(config)]
    done = subprocess.run(
        [CLI, "-p", "--output-format", "json", *options, *strict],
        input=prompt, env=environment, cwd=home, capture_output=True, text=True, timeout=90, check=False,
    )  # fmt: skip
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def settled() -> bool:
    return Reservation.objects.exists() and not Reservation.objects.filter(status="open").exists()


def test_agent_works_and_reports_through_the_gateway(start_gateway: StartGateway, tmp_path: Path) -> None:
    gateway = start_gateway(create_app())
    task = TaskFactory(role=Role.PM, kind="requirements", status="in_progress")
    task.project.description = "A web application in which a tool library lends tools to neighbours. [[rehearsal: 429]]"
    run, token = start_run(task=task)

    result = claude(gateway, token, context.first_message(run), tmp_path)

    assert not result["is_error"], result
    run.refresh_from_db()
    assert run.outcome["verb"] in {"ask_client", "submit_requirements"}
    wait_until(settled)
    run.refresh_from_db()
    assert run.turns == LedgerEntry.objects.filter(kind="settle").count() >= 2
    assert LedgerEntry.objects.filter(kind="release").count() == 1
    assert run.cost == queries.project_cost(run.project_id) > 0
    # What the CLI itself made of the same usage, at the same prices.
    assert abs(run.cost - Decimal(str(result["total_cost_usd"]))) < Decimal("0.0001")


def test_cli_gives_up_at_once_when_the_money_is_used_up(gateway: str, model: ScriptedModel, tmp_path: Path) -> None:
    run, token = start_run(limit="0.01")

    result = claude(gateway, token, "Say hello.", tmp_path)

    assert result["is_error"]
    assert "budget of the run" in result["result"]
    assert model.seen == []
    run.refresh_from_db()
    assert run.stop_requested == "run_budget"
    assert AuditLog.objects.filter(action="billing.refused").count() == 1
    assert Budget.objects.get(scope="run", scope_id=run.pk).reserved == 0


def test_cli_asks_again_when_the_model_is_overloaded(gateway: str, model: ScriptedModel, tmp_path: Path) -> None:
    refuse, answer = refuses(529), model.behave

    async def behave(model: ScriptedModel, send: Any) -> None:
        await (refuse if len(model.seen) == 1 else answer)(model, send)

    model.behave = behave
    run, token = start_run()

    result = claude(gateway, token, "Say hello.", tmp_path)

    assert result["result"] == "Hello there ✓"
    wait_until(settled)
    assert Run.objects.get(pk=run.pk).turns == 1


def test_cli_that_gets_half_an_answer_pays_for_it(gateway: str, model: ScriptedModel, tmp_path: Path) -> None:
    cut, answer = cuts(message_start(), text_delta("x" * 300)), model.behave

    async def behave(model: ScriptedModel, send: Any) -> None:
        await (cut if len(model.seen) == 1 else answer)(model, send)

    model.behave = behave
    _, token = start_run()

    claude(gateway, token, "Say hello.", tmp_path)

    wait_until(settled)
    first = LedgerEntry.objects.filter(kind="settle").order_by("id")[0]
    assert (first.input_tokens, first.output_tokens) == (1_000, 100)
