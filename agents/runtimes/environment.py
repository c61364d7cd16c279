"""What processes inside a sandbox get to see of the world: an environment made from nothing, and the CLI."""

import importlib.util
import os
from pathlib import Path

from agents.runtimes.contract import SandboxSpec
from agents.runtimes.errors import InvalidSpec, RuntimeUnavailable

__all__ = ["SDK_VARIABLES", "bundled_cli", "clean_env", "find_cli", "require_directories"]

SDK_VARIABLES = (
    "CLAUDE_CODE_ENTRYPOINT",
    "CLAUDE_AGENT_SDK_VERSION",
    # The SDK waits for the CLI's "idle" frame before it closes stdin, and asks for it by this variable.
    "CLAUDE_CODE_SDK_READS_SESSION_STATE",
    "CLAUDE_CODE_ENABLE_SDK_FILE_CHECKPOINTING",
)
"""The only variables that a launcher passes on from its caller: claude-agent-sdk sets them."""

_INSTALL = "pip install --requirement requirements.txt"


def bundled_cli() -> Path:
    """Path of the Claude Code CLI in claude-agent-sdk's wheel. Raises RuntimeUnavailable without one."""
    found = importlib.util.find_spec("claude_agent_sdk")
    for location in (found and found.submodule_search_locations) or ():
        cli = Path(location) / "_bundled" / "claude"
        if cli.is_file():
            return cli
    raise RuntimeUnavailable("The Claude Code CLI is missing: install the wheel of claude-agent-sdk.", fix=_INSTALL)


def find_cli(cli: Path | None) -> Path:
    """The CLI to use: the one given, else the bundled one. Raises RuntimeUnavailable when it cannot be executed."""
    found = cli or bundled_cli()
    if not os.access(found, os.X_OK):
        raise RuntimeUnavailable(f"The Claude Code CLI at {found} cannot be executed.", fix=_INSTALL)
    return found


def clean_env(spec: SandboxSpec, *, path: str, home: str, tmp: str, workspace: str, marker: str) -> dict[str, str]:
    """The whole environment of a sandbox's processes: the specification's, and RESERVED_ENV."""
    return {
        **spec.env,
        **_trust_workspace(spec, workspace),
        "PATH": path,
        "HOME": home,
        "LANG": "C.UTF-8",
        "TMPDIR": tmp,
        "EKLAVYA_SANDBOX": marker,
    }


def require_directories(spec: SandboxSpec) -> None:
    """Raise InvalidSpec unless the workspace, the home and what is to be mounted exist."""
    for directory in (spec.workspace, spec.home):
        if not directory.is_dir():
            raise InvalidSpec(f"{directory} is not a directory")
    for mount in spec.mounts:
        if not mount.host.exists():
            raise InvalidSpec(f"{mount.host}, to be mounted at {mount.inside}, does not exist")


def _trust_workspace(spec: SandboxSpec, workspace: str) -> dict[str, str]:
    """Git refuses a repository of another uid ("dubious ownership") unless the environment excepts it.

    The checkout may have been made by the platform's user and be used under another uid inside.
    """
    count = int(spec.env.get("GIT_CONFIG_COUNT", "0"))
    return {
        "GIT_CONFIG_COUNT": str(count + 1),
        f"GIT_CONFIG_KEY_{count}": "safe.directory",
        f"GIT_CONFIG_VALUE_{count}": workspace,
    }
