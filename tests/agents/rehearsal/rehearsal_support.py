"""What the tests of the rehearsal model share: servers in threads, task contexts, the real CLI, generated apps."""

import contextlib
import json
import os
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import claude_agent_sdk
import uvicorn
from mcp.server import MCPServer

from tests.serving import QuickServer

CLI = Path(claude_agent_sdk.__file__).parent / "_bundled" / "claude"
TOOL_LIBRARY = (
    "We run a tool library in our neighbourhood. Members borrow tools, and we need to know who has what and when it is "
    "due back. Each tool has a name, a deposit and a shelf number."
)
BUILTIN = {
    "developer": "Bash,Read,Write,Edit,Glob,Grep",
    "sre": "Bash,Read,Write,Edit,Glob,Grep",
    "tester": "Bash,Read,Write,Edit,Glob,Grep",
    "qa": "Bash,Read,Glob,Grep",
    "uat": "Bash,Read,Glob,Grep",
    "monitor": "Bash,Read,Glob,Grep",
    "architect": "Read,Write,Edit,Glob,Grep",
    "pm": "Read,Write,Edit,Glob,Grep",
    "orchestrator": "Read,Glob,Grep",
    "mentor": "Read,Glob,Grep",
}
VERBS = (
    "report_progress", "read_messages", "send_message", "save_checkpoint", "task_complete", "task_failed",
    "task_blocked", "ask_mentor", "ask_client", "submit_requirements", "submit_plan", "submit_demo", "reply_mentor",
)  # fmt: skip


@contextlib.contextmanager
def serving(app: Any) -> Iterator[str]:
    """The base URL of an ASGI application that is served for the time of the block."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        config = uvicorn.Config(app, log_level="critical", ws="none", timeout_graceful_shutdown=1)
        server = QuickServer(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        deadline = time.monotonic() + 60
        while not server.started and time.monotonic() < deadline:
            time.sleep(0.01)
        assert server.started
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(10)


@dataclass
class Gateway:
    """An MCP server with the platform's verbs; it takes every call and keeps it."""

    url: str = ""
    calls: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    def app(self) -> Any:
        server = MCPServer("eklavya")

        def take(name: str) -> None:
            # The argument types are the contract's; a plain dictionary would change what the CLI is told.
            async def report_progress(percent: int, message: str) -> str:
                return self._take(name, percent=percent, message=message)

            async def read_messages() -> str:
                return self._take(name)

            async def send_message(to: str, body: str) -> str:
                return self._take(name, to=to, body=body)

            async def text(
                summary: str = "", reason: str = "", reply: str = "", question: str = "", context: str = "",
                questions: list[dict[str, Any]] | None = None, project_name: str = "",
                requirements: list[dict[str, Any]] | None = None, tasks: list[dict[str, Any]] | None = None,
            ) -> str:  # fmt: skip
                values = {
                    "summary": summary, "reason": reason, "reply": reply, "question": question, "context": context,
                    "questions": questions, "project_name": project_name, "requirements": requirements, "tasks": tasks,
                }  # fmt: skip
                return self._take(name, **{key: value for key, value in values.items() if value})

            special = {"report_progress": report_progress, "read_messages": read_messages, "send_message": send_message}
            server.add_tool(special.get(name, text), name=name, description=name)

        for name in VERBS:
            take(name)
        return server.streamable_http_app(stateless_http=True, json_response=True)

    def _take(self, name: str, **values: Any) -> str:
        self.calls.append((name, values))
        return "Noted."

    def last(self) -> tuple[str, dict[str, Any]]:
        """The last verb: the one that ended the run."""
        return self.calls[-1]


def context(role: str, kind: str = "build", *, brief: str = TOOL_LIBRARY, key: str = "", **more: Any) -> dict[str, Any]:
    """A task's context as the platform makes it."""
    task = {"key": key or kind, "title": more.pop("title", ""), "description": more.pop("description", "")}
    return {
        "run": str(uuid.uuid4()), "role": role, "kind": kind, "attempt": 1,
        "project": {"name": "Project", "client": "Client", "brief": brief},
        "task": {**task, "acceptance_criteria": []},
        "questions": [], "requirements": [], "plan": None, "corrections": [], "feedback": [], "mentor": [],
        "conflict": None, "failure": None, "mentor_question": None, **more,
    }  # fmt: skip


def prompt(task: dict[str, Any]) -> str:
    """The first user message of a run."""
    block = json.dumps(task, ensure_ascii=False).replace("<", "\\u003c")
    return f"Do your task.\n\n<task-context>\n{block}\n</task-context>\n"


def request_body(task: dict[str, Any], *, stream: bool = False, verbs: bool = True) -> dict[str, Any]:
    """A first request such as the CLI sends for a run."""
    names = [*BUILTIN[task["role"]].split(","), *([f"mcp__eklavya__{verb}" for verb in VERBS] if verbs else [])]
    return {
        "model": "claude-sonnet-5-5",
        "max_tokens": 32000,
        "stream": stream,
        "tools": [{"name": name, "description": "", "input_schema": {"type": "object"}} for name in names],
        "messages": [{"role": "user", "content": prompt(task)}],
    }


def git(directory: Path, *arguments: str) -> str:
    """Run git and return its output."""
    command = [
        "git",
        "-c",
        "user.name=A",
        "-c",
        "user.email=a@example.org",
        "-c",
        "init.defaultBranch=main",
        *arguments,
    ]
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip()


def repository(directory: Path) -> Path:
    """An empty repository with a first commit."""
    directory.mkdir(parents=True)
    git(directory, "init", "-q")
    git(directory, "config", "user.name", "Agent")
    git(directory, "config", "user.email", "agent@example.org")
    git(directory, "commit", "-q", "--allow-empty", "-m", "Start")
    return directory


def run_cli(
    task: dict[str, Any], workspace: Path, *, model_url: str, gateway_url: str, timeout_s: float = 60
) -> list[dict[str, Any]]:
    """The messages of one run of the real CLI."""
    home = workspace.parent / f"home-{workspace.name}"
    home.mkdir(exist_ok=True)
    servers = {"mcpServers": {"eklavya": {"type": "http", "url": f"{gateway_url}/mcp"}}}
    tools = BUILTIN[task["role"]]
    command = [
        str(CLI), "-p", "--output-format", "stream-json", "--verbose", "--model", "claude-sonnet-5-5", "--tools", tools,
        "--allowedTools", f"{tools},mcp__eklavya", "--strict-mcp-config", "--mcp-config", json.dumps(servers),
        "--system-prompt", "You work at Eklavya.",
    ]  # fmt: skip
    environment = {
        "PATH": os.environ["PATH"], "HOME": str(home), "ANTHROPIC_BASE_URL": model_url,
        "ANTHROPIC_API_KEY": "rehearsal", "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1", "IS_SANDBOX": "1",
    }  # fmt: skip
    done = subprocess.run(
        command, input=prompt(task), cwd=workspace, env=environment, capture_output=True, text=True, timeout=timeout_s
    )
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert lines, done.stderr
    return lines


def write_files(directory: Path, files: dict[str, str]) -> None:
    """Put generated files into a directory."""
    for path, text in files.items():
        (directory / path).parent.mkdir(parents=True, exist_ok=True)
        (directory / path).write_text(text, encoding="utf-8")


def run_app_tests(directory: Path) -> str:
    """The output of the application's own tests, which have to pass."""
    command = [sys.executable, "-W", "error", "-m", "unittest", "discover", "-s", "tests", "-t", "."]
    environment = {"PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(command, cwd=directory, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stderr
