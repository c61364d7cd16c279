"""Where a run works: its directories, its clone, its sandbox and what its CLI is started with."""

import json
import logging
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

from django.conf import settings

from agents.egress import proxy_environment
from agents.models import Run
from agents.prompts import prompt_for
from agents.roles import BROWSER_SERVER, limits_of, mounts_need_no_files, mounts_of, policy_of, tools_of
from agents.runtimes.contract import Mount, Runtime, SandboxSpec
from agents.runtimes.errors import InvalidSpec
from agents.sandboxes import make_private, network_name, repository, run_directory
from agents.workspace.errors import BadName, UnknownCheckpoint, UnknownRun
from agents.workspace.values import Author
from projects.roles import Role
from projects.states import TaskKind

if TYPE_CHECKING:  # slow to load: agents/tasks.py says who does
    from claude_agent_sdk import ClaudeAgentOptions

logger = logging.getLogger(__name__)

MCP_SERVER = "eklavya"
_MCP_FILE = "mcp.json"
_BROWSER = Mount(Path(settings.BASE_DIR) / "agents" / "browser" / "server.py", "/opt/eklavya/browser.py")
# In the first commit of a project that the rehearsal model begins, so that all that is delivered says it.
_REHEARSAL = """\
# REHEARSAL

This project was begun by Eklavya's rehearsal model: a script that plays every role by rules, at no cost. The platform's
work is real: it merged, tested and started each commit. The thinking is not: read the code before you rely on it.

The platform's commits of runs that the rehearsal model answered carry the line `Model: rehearsal`. Remove this file
once somebody vouches for the work.
"""
# The model rarely needs more in one answer, and each request reserves this much money at the output price.
MAX_OUTPUT_TOKENS = 16_000
# One line of the CLI holds a whole tool result, such as a picture that was read. The SDK's own limit is 1 MiB.
MAX_LINE_BYTES = 32 * 1024 * 1024


@dataclass(frozen=True)
class Workplace:
    """A run's prepared place. `base_commit` is the commit of main that its clone started from, once it is filled."""

    run: Run
    runtime: Runtime
    spec: SandboxSpec
    base_commit: str = ""
    # What its CLI is told of later.
    servers: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def clone(self) -> Path:
        """The run's checkout on the host."""
        return self.spec.workspace


def sandbox_name(run: Run) -> str:
    """Return the name of a run's sandbox."""
    return sandbox_of(run.pk)


def sandbox_of(run_id: UUID) -> str:
    """The same, for whoever has no more than the id."""
    return f"run-{run_id.hex}"


def author_of(run: Run) -> Author:
    """Return as whom the run's agent commits."""
    return Author(run.agent.name, f"{run.agent.name}@agents.eklavya.invalid")


def may_wait(run: Run, runtime: Runtime) -> bool:
    """Return whether the CLI of such a run may be up before it is known which commit its clone is of."""
    return not runtime.complete_first and (not runtime.isolated or mounts_need_no_files(policy_of(run)))


def prepare(run: Run, token: str, runtime: Runtime, *, waits: bool = False) -> Workplace:
    """Make the run's directories. The directory must not exist: a run is prepared once.

    Where mounts are made of what is in the clone, it is filled already; else `fill` does that while the CLI starts.
    One that `waits` has its CLI told of our server (`Workplace.servers`) when the run is there.
    """
    root = run_directory(run.pk)
    make_private(root.parent)
    clone = root / "workspace"
    # A new file system, and a new network with its rules, take about as long.
    with ThreadPoolExecutor(1) as beside:
        address = beside.submit(runtime.host_address, network_name(run.project_id))
        runtime.make_directory(root, disk_mb=policy_of(run).limits.disk_mb)
        for name in ("home", "control"):
            (root / name).mkdir(mode=0o700)
        clone.mkdir(mode=0o755)
        base = "" if may_wait(run, runtime) else _check_out(run, clone)
        host = address.result()
    gateway = f"http://{host}:{settings.EKLAVYA_GATEWAY_PORT}"
    way_out = proxy_environment(policy_of(run).egress, host=host, port=settings.EKLAVYA_EGRESS_PORT, token=token)
    spec = SandboxSpec(
        name=sandbox_name(run),
        project=network_name(run.project_id),
        workspace=clone,
        home=root / "home",
        control=root / "control",
        env=_environment(gateway, token) | way_out,
        limits=limits_of(policy_of(run)),
        labels={"run": str(run.pk)},
    )
    spec = _confine(spec, run, runtime)
    servers = _mcp_servers(gateway, token, browser=_browser(spec, run, runtime))
    # In a file: arguments of a process can be read by every user of the machine.
    if not waits:
        path = root / "home" / _MCP_FILE
        path.touch(mode=0o600)
        path.write_text(json.dumps({"mcpServers": servers}), encoding="utf-8")
    return Workplace(run, runtime, spec, base, servers if waits else {})


def _browser(spec: SandboxSpec, run: Run, runtime: Runtime) -> str:
    """Return where processes inside find the browser's program; empty for a role without one."""
    return runtime.mount_path(_BROWSER) if policy_of(run).browser else ""


def _confine(spec: SandboxSpec, run: Run, runtime: Runtime) -> SandboxSpec:
    """Let the sandbox write only where the role may; where nothing is mounted, the merge alone refuses the rest."""
    if not runtime.isolated:
        return spec
    empty = spec.workspace.with_name("empty")
    empty.mkdir(mode=0o755)
    inside = runtime.workspace_path(spec)
    read_only, mounts = mounts_of(policy_of(run), spec.workspace, inside=inside, empty=empty)
    if policy_of(run).browser:
        mounts = (*mounts, _BROWSER)
    return replace(spec, read_only_workspace=read_only, mounts=mounts)


def fill(place: Workplace) -> Workplace:
    """Make the clone unless it is made. The agent must not have been told anything yet: until then nothing of it runs.

    With a checkpoint that names this run's task the clone starts from its snapshot instead of main.
    """
    if place.base_commit:
        return place
    mounted = _identities(place.spec)
    filled = replace(place, base_commit=_check_out(place.run, place.clone))
    if _identities(place.spec) != mounted:
        raise InvalidSpec("a directory that the role may write is something else in the commit: it was replaced")
    place.runtime.adopt(place.spec)
    return filled


def _identities(spec: SandboxSpec) -> list[tuple[int, int] | None]:
    """Return what the sandbox has at its mounts: what has the same name later may be something else."""
    found = [mount.host.lstat() if mount.host.exists() else None for mount in spec.mounts]
    return [status and (status.st_dev, status.st_ino) for status in found]


def _check_out(run: Run, clone: Path) -> str:
    repo = repository(run.project_id)
    if not repo.path.exists():
        repo.create(notes={"REHEARSAL.md": _REHEARSAL} if run.rehearsal else {})
    author = author_of(run)
    if ref := run.task.context.get("checkpoint"):
        try:
            return repo.restore_checkpoint(ref, clone, run_id=str(run.pk), author=author)
        except (BadName, UnknownCheckpoint, UnknownRun) as error:  # then from the beginning
            logger.warning("run %s cannot go on from %s: %s", run.pk, ref, error)
    told = (run.task.context.get("conflict") or {}) if run.task.kind == TaskKind.CONFLICT else {}
    return repo.clone_for_run(str(run.pk), clone, author=author, with_commit=told.get("commit", ""))


def options_for(place: Workplace) -> "ClaudeAgentOptions":
    """Return how the CLI is started: only the role's tools, only our MCP server, no settings from the checkout."""
    from claude_agent_sdk import ClaudeAgentOptions  # noqa: PLC0415  # as above

    run = place.run
    policy = policy_of(run)
    tools = tools_of(policy)
    servers = [MCP_SERVER, BROWSER_SERVER] if policy.browser else [MCP_SERVER]
    return ClaudeAgentOptions(
        cli_path=place.runtime.launcher(place.spec),
        cwd=place.clone,
        model=run.model,
        system_prompt=prompt_for(Role(run.task.role), run.prompt_version_id).text,
        tools=list(tools.offered),
        allowed_tools=[*tools.allowed, *(f"mcp__{name}" for name in servers)],
        # The CLI asks for what leads out of the checkout; /tmp is the sandbox's own.
        add_dirs=["/tmp"] if place.runtime.isolated else [],
        permission_mode="dontAsk",
        mcp_servers={} if place.servers else f"{place.runtime.home_path(place.spec)}/{_MCP_FILE}",
        strict_mcp_config=True,
        max_buffer_size=MAX_LINE_BYTES,
        setting_sources=[],
        # WebFetch would ask the vendor about every host first; the egress proxy decides here.
        settings='{"skipWebFetchPreflight": true}',
    )


def _environment(gateway: str, token: str) -> dict[str, str]:
    return {
        "ANTHROPIC_BASE_URL": f"{gateway}/models/anthropic",
        "ANTHROPIC_API_KEY": token,
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "CLAUDE_CODE_MAX_OUTPUT_TOKENS": str(MAX_OUTPUT_TOKENS),
        # While a command runs the CLI is silent, and whoever is silent for too long is taken for dead.
        "BASH_MAX_TIMEOUT_MS": str(int(settings.EKLAVYA_STALL_SECONDS * 800)),
        "DISABLE_AUTOUPDATER": "1",
        "DISABLE_TELEMETRY": "1",
        "DISABLE_ERROR_REPORTING": "1",
        # The checkout may belong to another uid than the one inside.
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": "safe.directory",
        "GIT_CONFIG_VALUE_0": "*",
        "PYTHONDONTWRITEBYTECODE": "1",
    }


def _mcp_servers(gateway: str, token: str, *, browser: str) -> dict[str, object]:
    headers = {"Authorization": f"Bearer {token}"}
    servers: dict[str, object] = {MCP_SERVER: {"type": "http", "url": f"{gateway}/mcp", "headers": headers}}
    if browser:
        servers[BROWSER_SERVER] = {"type": "stdio", "command": "python3", "args": ["-I", browser]}
    return servers
