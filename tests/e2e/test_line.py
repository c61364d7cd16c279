"""The whole job, from a brief to the delivered repository, with the real CLI."""

import os
import signal
import subprocess
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import psutil
import psycopg
import pytest

from eklavya.env import read_services
from tests.e2e.conftest import Installation, Rehearsed

pytestmark = [pytest.mark.e2e, pytest.mark.cli, pytest.mark.timeout(900)]
Install = Callable[..., Installation]
BRIEF = "Our bakery takes orders for cakes: customer, phone, cake, size, pick-up date, paid or not."


def check_delivered(done: Rehearsed) -> None:
    """The one project is delivered, each task done once, tests passed in a fresh checkout, money right."""
    assert (done.exit_code, done.only["problems"]) == (0, []), done.said
    outcome = done.only
    assert outcome["status"] == "complete"
    assert set(outcome["tasks"]) == {"completed"}
    assert outcome["tests_run"] >= 10
    assert Decimal(outcome["cost"]) > 0
    # what the rehearsal model made says so
    assert outcome["simulated"] is True
    assert git(outcome, "show", "main:REHEARSAL.md").startswith("# REHEARSAL\n")
    assert "\nModel: rehearsal\n" in git(outcome, "log", "--format=%B", "main")


def git(outcome: dict[str, Any], *arguments: str) -> str:
    """What Git says about the delivered repository."""
    return subprocess.check_output(["git", "-C", outcome["repository"], *arguments], text=True)


def check_nothing_left(installation: Installation) -> None:
    """No process of the installation outlives it."""
    mark = str(installation.var)
    left = [
        process.info["cmdline"]
        for process in psutil.process_iter(["cmdline"])
        if mark in " ".join(process.info["cmdline"] or [])
    ]
    assert left == []


def developers_at_once(installation: Installation) -> int:
    """Count the pairs of runs of two developers' build tasks whose programs were at work at the same time."""
    with psycopg.connect(read_services(installation.var)["DATABASE_URL"]) as database:
        counted = database.execute(
            """
            WITH built AS (
                SELECT run.agent_id, run.started_at AS began, run.program_ended_at AS ended
                FROM agents_run run JOIN projects_task task ON task.id = run.task_id
                WHERE task.role = 'developer' AND task.kind = 'build'
            )
            SELECT count(*) FROM built one JOIN built other
            ON one.agent_id < other.agent_id AND one.began < other.ended AND other.began < one.ended
            """
        ).fetchone()
    assert counted
    pairs: int = counted[0]
    return pairs


@pytest.mark.docker
def test_the_whole_line_in_docker(install: Install) -> None:
    awaited: list[str] = []

    def watch(news: dict[str, Any]) -> None:
        if news.get("action") == "run.queued" and news["details"].get("standby"):
            awaited.append(news["details"]["task"])

    check_delivered(install("docker").rehearse(BRIEF, watch=watch))
    assert "demo-1" in awaited, "no program waited for the demo, whose developer needs no mount over the checkout"


def test_the_whole_line_in_the_local_runtime_with_a_killed_worker(install: Install) -> None:
    """The kill costs time and nothing else: in the end all is as without it."""
    installation = install("local", EKLAVYA_LEASE_SECONDS="10")
    killed: list[int] = []
    awaited: list[str] = []
    pairs: list[int] = []

    def watch(news: dict[str, Any]) -> None:
        action, details = news.get("action"), news.get("details", {})
        if not killed and action == "task.started" and details["key"].startswith("demo"):
            killed.append(installation.pid_of("worker"))
            os.kill(killed[0], signal.SIGKILL)
        if action == "run.queued" and details.get("standby"):
            awaited.append(details["task"])
        if action == "task.started" and details["key"] == "acceptance":
            pairs.append(developers_at_once(installation))  # the last task: developers are done, and the database is up

    done = installation.rehearse(BRIEF, watch=watch)

    assert killed
    check_delivered(done)
    assert done.only["runs"].get("lost", 0) >= 1
    assert pairs[0] >= 1, "no two developers were at work at once"
    assert "acceptance" in awaited, "no program waited for the last task, which waits for one other"
    check_nothing_left(installation)
