"""How a run's CLI is started, without starting it."""

import json
import stat
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from pytest_django import Settings

from agents import sandboxes
from agents.egress import EgressClass
from agents.models import Run
from agents.roles import ROLES, tools_of
from agents.sandboxes import repository, run_directory, runtime
from agents.supervisor import teardown, workplace
from agents.supervisor.workplace import Workplace
from learning.actions import load_prompts
from projects.roles import Role
from tests.factories import NOW, TESTER, RunFactory, TaskFactory

pytestmark = pytest.mark.django_db
TOKEN = "ekr_the-token"


@pytest.fixture(autouse=True)
def _local(settings: Settings, tmp_path: Path) -> Iterator[None]:
    settings.EKLAVYA_VAR = tmp_path
    settings.EKLAVYA_RUNTIME = "local"
    sandboxes.choice.cache_clear()
    yield
    sandboxes.choice.cache_clear()


def run_of(role: Role, **task: object) -> Run:
    load_prompts(by=TESTER, now=NOW)
    run: Run = RunFactory(status="starting", task=TaskFactory(role=role, status="in_progress", **task))
    return run


def prepared(run: Run) -> Workplace:
    return workplace.fill(workplace.prepare(run, TOKEN, runtime()))


@pytest.mark.parametrize("role", list(Role))
def test_the_cli_gets_the_roles_tools_and_our_server_alone(role: Role) -> None:
    options = workplace.options_for(prepared(run_of(role)))

    assert options.tools == list(tools_of(ROLES[role]).offered)
    servers = ["mcp__eklavya", "mcp__browser"] if ROLES[role].browser else ["mcp__eklavya"]
    assert options.allowed_tools == [*tools_of(ROLES[role]).allowed, *servers]
    assert (options.permission_mode, options.strict_mcp_config, options.setting_sources) == ("dontAsk", True, [])
    assert options.env == {}


def test_the_token_is_in_files_of_the_owner_alone() -> None:
    place = prepared(run_of(Role.DEVELOPER))

    options = workplace.options_for(place)

    config = Path(str(options.mcp_servers))
    assert json.loads(config.read_text())["mcpServers"]["eklavya"]["headers"]["Authorization"] == f"Bearer {TOKEN}"
    holding = [path for path in run_directory(place.run.pk).rglob("*") if path.is_file() and TOKEN in _text(path)]
    assert config in holding
    assert all(stat.S_IMODE(path.stat().st_mode) & 0o077 == 0 for path in holding)
    assert TOKEN not in str(options.cli_path) + str(options.extra_args) + str(options.mcp_servers)


@pytest.mark.parametrize("role", list(Role))
def test_only_who_may_go_out_is_told_of_the_proxy(role: Role) -> None:
    env = prepared(run_of(role)).spec.env

    names = {name.upper() for name in env if name.lower().endswith("_proxy")}
    if ROLES[role].egress is EgressClass.INTERNAL:
        assert names == set()
        return
    assert names == {"HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"}
    assert env["HTTPS_PROXY"] == env["http_proxy"] == f"http://run:{TOKEN}@127.0.0.1:8003"
    # What talks to the gateway must not go through the proxy, which would refuse it.
    assert urlsplit(env["ANTHROPIC_BASE_URL"]).hostname in env["NO_PROXY"].split(",")


def _text(path: Path) -> str:
    return path.read_bytes().decode(errors="replace")


def test_the_environment_is_made_from_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://secret")
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-real")

    env = prepared(run_of(Role.DEVELOPER)).spec.env

    assert env["ANTHROPIC_API_KEY"] == TOKEN
    assert env["ANTHROPIC_BASE_URL"].endswith("/models/anthropic")
    assert "DATABASE_URL" not in env


def test_a_command_may_not_outlast_the_patience_with_silence(settings: Settings) -> None:
    settings.EKLAVYA_STALL_SECONDS = 300

    env = prepared(run_of(Role.DEVELOPER)).spec.env

    assert int(env["BASH_MAX_TIMEOUT_MS"]) < 300_000


def test_a_run_starts_from_main() -> None:
    run = run_of(Role.DEVELOPER)

    place = prepared(run)

    assert place.base_commit == repository(run.project_id).head()
    assert (place.clone / "README.md").is_file()


def test_a_run_whose_checkpoint_is_gone_starts_from_main() -> None:
    run = run_of(Role.DEVELOPER, context={"checkpoint": "refs/eklavya/checkpoints/gone/1", "resume": "Go on."})

    assert prepared(run).base_commit == repository(run.project_id).head()


def test_remove_leaves_nothing() -> None:
    place = prepared(run_of(Role.DEVELOPER))

    assert teardown.finish(place.run.pk, runtime(), now=NOW)

    assert not run_directory(place.run.pk).exists()
    assert runtime().list_sandboxes() == ()
