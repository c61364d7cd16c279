"""The real Claude Code CLI against the rehearsal model."""

from pathlib import Path

import pytest

from tests.agents.rehearsal.rehearsal_support import Gateway, context, git, repository, run_app_tests, run_cli

pytestmark = pytest.mark.cli
BRIEF = "A bike rental shop wants to manage bikes, customers and rentals. Show a report."


def test_the_cli_writes_a_file_and_reports(model_url: str, gateway: Gateway, tmp_path: Path) -> None:
    workspace = repository(tmp_path / "work")

    lines = run_cli(context("pm", "requirements"), workspace, model_url=model_url, gateway_url=gateway.url)

    result = lines[-1]
    assert (result["subtype"], result["is_error"], result["stop_reason"]) == ("success", False, "end_turn")
    assert (workspace / "docs/requirements.md").read_text().startswith("# Requirements: Tool Library")
    assert [name for name, _ in gateway.calls] == ["report_progress", "submit_requirements"]
    assert result["total_cost_usd"] > 0
    assert result["usage"]["cache_read_input_tokens"] > 0


def test_the_cli_builds_a_demo_and_two_tasks_that_merge(model_url: str, gateway: Gateway, tmp_path: Path) -> None:
    workspace = repository(tmp_path / "work")

    def work(role: str, kind: str, key: str = "") -> str:
        task = context(role, kind, key=key, brief=BRIEF)
        run_cli(task, workspace, model_url=model_url, gateway_url=gateway.url)
        return gateway.last()[0]

    assert work("developer", "demo") == "submit_demo"
    for key in ("storage", "pages"):
        git(workspace, "checkout", "-q", "-b", key, "main")
        assert work("developer", "build", key) == "task_complete"
    git(workspace, "checkout", "-q", "main")
    for key in ("storage", "pages"):
        git(workspace, "merge", "-q", "--no-ff", "-m", f"Merge {key}", key)
    assert work("tester", "build", "tests") == "task_complete"

    # Testers commit nothing; the platform takes what they leave.
    assert git(workspace, "status", "--porcelain") == "?? tests/test_end_to_end.py"
    run_app_tests(workspace)


@pytest.mark.parametrize(
    "order", ["529 times=1", "429 for=1", "cut", "garbage", "garbage mode=input", "slow delay=0.005"]
)
def test_the_cli_survives(order: str, model_url: str, gateway: Gateway, tmp_path: Path) -> None:
    task = context("mentor", "mentor", brief=f"Track tools [[rehearsal: {order}]]")

    lines = run_cli(task, repository(tmp_path / "work"), model_url=model_url, gateway_url=gateway.url)

    assert lines[-1]["subtype"] == "success"
    assert gateway.last()[0] == "reply_mentor"


def test_hostile_commands_really_run(model_url: str, gateway: Gateway, tmp_path: Path) -> None:
    workspace = repository(tmp_path / "work")
    task = context("qa", description="[[rehearsal: hostile]] [[rehearsal: slow delay=0]]")

    run_cli(task, workspace, model_url=model_url, gateway_url=gateway.url)

    assert (tmp_path / "owned.txt").exists()
