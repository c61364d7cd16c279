"""The SRE, the monitor and the orchestrator."""

from __future__ import annotations

from ..brief import parse
from ..builder import markdown
from ..context import Context
from ..names import identifier
from ..texts import one_line
from .developer import tested
from .engine import Script, attempt, bash, check_app, commit, finish, progress, read, spec_text, verb, write_all


def sre(context: Context) -> Script:
    """Write what is needed to run the application as a service, and check that it starts."""
    name = parse(spec_text(context)).name
    slug = identifier(name, "app").replace("_", "-")
    files = {
        "deploy/README.md": _deploy_page(name, slug),
        f"deploy/{slug}.service": _unit(name, slug),
        "deploy/backup.sh": _BACKUP,
    }
    yield from attempt(
        "I prepare the application for running as a service.", [progress(20, "Preparing"), *write_all(files)]
    )
    yield from attempt(
        "I check that the script is valid and the application starts.",
        [bash("sh -n deploy/backup.sh", "Check the script"), check_app()],
    )
    yield from tested(with_app=False)
    yield from attempt(
        "It starts.", [commit("Run the application as a service\n\nA systemd unit, a backup and how to use them.")]
    )
    return (
        yield from finish(
            "task_complete", "Ready to run.", summary="deploy/ holds a systemd unit, a backup script and a guide."
        )
    )


def _unit(name: str, slug: str) -> str:
    # A percent sign starts a specifier in a unit file.
    described = one_line(name, 60).replace("%", "%%").replace("\\", "")
    return f"""[Unit]
Description={described}
After=network.target

[Service]
WorkingDirectory=/opt/{slug}
Environment=HOST=127.0.0.1 PORT=8080 DATA_DIR=/var/lib/{slug} EXAMPLES=no
ExecStart=/usr/bin/python3 -m app
DynamicUser=yes
StateDirectory={slug}
Restart=on-failure
NoNewPrivileges=yes
ProtectSystem=strict
ProtectHome=yes

[Install]
WantedBy=multi-user.target
"""


_BACKUP = """#!/bin/sh
# Copy the data while the application runs: backup.sh DATA_DIR TARGET_FILE
set -eu
python3 - "$1/app.sqlite3" "$2" <<'PYTHON'
import sqlite3
import sys

with sqlite3.connect(sys.argv[1]) as source, sqlite3.connect(sys.argv[2]) as target:
    source.backup(target)
PYTHON
"""


def _deploy_page(name: str, slug: str) -> str:
    return f"""# Running {markdown(name)}

1. Copy the repository to `/opt/{slug}`.
2. Copy `deploy/{slug}.service` to `/etc/systemd/system/` and run `systemctl enable --now {slug}`.
3. Put a web server with TLS in front of 127.0.0.1:8080.
4. Every night: `sh deploy/backup.sh /var/lib/{slug} /path/to/backup.sqlite3`.
"""


def monitor(context: Context) -> Script:
    """Look at the state of the workspace and of the application, and say what is notable."""
    state = "git fsck --no-progress 2>&1 | tail -5; git log --oneline -10; git status --short; du -sh . | cut -f1"
    calls = [progress(20, "Watching"), bash(state, "Look at the repository", optional=True), check_app()]
    results = yield from attempt("I look at the state of the project.", calls)
    size = results[1].text.strip().splitlines()[-1:] or ["unknown size"]
    return (
        yield from finish(
            "task_complete", "Nothing alarming.", summary=f"The application answers; the workspace takes {size[0]}."
        )
    )


def orchestrator(context: Context) -> Script:
    """Read where the project stands, and tell the squad what comes next."""
    waiting = ", ".join(context.plan) or "the plan"
    task = one_line(context.title, 80) or "the next task"
    body = f"Next: {task}. In the plan: {one_line(waiting, 200)}. Report early when you are stuck."
    calls = [
        verb("read_messages"),
        read("docs/requirements.md"),
        read("docs/architecture.md"),
        verb("send_message", to="broadcast", body=body),
    ]
    yield from attempt("I read where we stand.", calls)
    return (yield from finish("task_complete", "The squad knows what is next.", summary=body))
