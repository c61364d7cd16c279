"""The programs of Eklavya itself: how each is started, and how it shows that it works."""

import os
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path

from agents.runtimes.errors import RuntimeProblem
from agents.runtimes.registry import Choice, choose
from eklavya.env import BASE_DIR, Env
from eklavya.services.child import Spec
from eklavya.services.errors import ServiceError
from eklavya.services.health import http_answers, worker_answers
from eklavya.services.ports import Port

LOOPBACK = "127.0.0.1"
ANY_ADDRESS = "0.0.0.0"

# A worker lets its agents reach a checkpoint first.
WORKER_STOP_SECONDS = 30


def runtime_choice(env: Env) -> Choice:
    """Where agents run on this machine, and why. Raises ServiceError when what was asked for is not there."""
    try:
        return choose(
            env.EKLAVYA_RUNTIME,
            state_dir=env.EKLAVYA_VAR / "run" / "sandboxes",
            image=env.EKLAVYA_IMAGE,
            allow_local=env.EKLAVYA_ALLOW_LOCAL_RUNTIME,
        )
    except RuntimeProblem as problem:
        raise ServiceError(f"EKLAVYA_RUNTIME={env.EKLAVYA_RUNTIME} does not work: {problem}") from None


def ports(env: Env, *, isolated: bool) -> dict[str, Port]:
    """What the programs listen on, by their name. Isolated sandboxes come from networks of their own."""
    for_sandboxes = ANY_ADDRESS if isolated else LOOPBACK
    return {
        "rehearsal": Port(LOOPBACK, env.EKLAVYA_REHEARSAL_PORT, "EKLAVYA_REHEARSAL_PORT"),
        "gateway": Port(for_sandboxes, env.EKLAVYA_GATEWAY_PORT, "EKLAVYA_GATEWAY_PORT"),
        "egress": Port(for_sandboxes, env.EKLAVYA_EGRESS_PORT, "EKLAVYA_EGRESS_PORT"),
        "web": Port(LOOPBACK, env.EKLAVYA_WEB_PORT, "EKLAVYA_WEB_PORT"),
    }


def program_specs(env: Env, *, isolated: bool) -> dict[str, Spec]:
    """All programs, by their name."""
    listening = ports(env, isolated=isolated)
    return {
        **{name: _server(env, name, port=listening[name]) for name in _SERVERS},
        "egress": _egress(env, port=listening["egress"]),
        "worker": _worker(env),
        "beat": _beat(env),
    }


def command_specs(env: Env) -> dict[str, Spec]:
    """Management commands, by their name. Each is done when it ends with exit code 0."""
    return {
        "migrations": _command(env, "migrations", title="Migrations", arguments=["migrate", "--no-input"]),
        "setup": _command(env, "setup", title="Set-up", arguments=["setup"]),
    }


def _command(env: Env, name: str, *, title: str, arguments: list[str]) -> Spec:
    return Spec(
        name=name,
        title=title,
        command=[sys.executable, "manage.py", *arguments],
        cwd=BASE_DIR,
        environment=_environment(env),
        ready=lambda: False,
    )


def _environment(env: Env) -> dict[str, str]:
    own = {"DJANGO_SETTINGS_MODULE": "eklavya.settings", "PYTHONUNBUFFERED": "1"}
    return {**os.environ, **env.exported(), **own}


def worker_node(env: Env) -> str:
    """Name of this machine's Celery worker, unique among those that share a broker."""
    return f"eklavya-{env.EKLAVYA_WEB_PORT}@{socket.gethostname()}"


_SERVERS = {
    "rehearsal": ("Rehearsal model", "agents.rehearsal.server:app"),
    "gateway": ("Agent gateway", "eklavya.gateway_asgi:application"),
    "web": ("Web", "eklavya.asgi:application"),
}


def _server(env: Env, name: str, *, port: Port) -> Spec:
    title, application = _SERVERS[name]
    options = ["--host", port.host, "--port", str(port.number), "--no-server-header"]
    # live pages hold their connections open for ever: end them after a moment
    options += ["--timeout-graceful-shutdown", "3"]
    if name == "gateway":
        # Sandboxes reach it without a proxy, so whoever sends such headers lies about its address; and a line for each
        # request would be written while an agent waits for its first byte. What matters is in the audit log.
        # The model API's answers have a date of their own.
        options += ["--no-proxy-headers", "--no-access-log", "--no-date-header", "--ws", "none"]
    return Spec(
        name=name,
        title=title,
        command=[sys.executable, "-m", "uvicorn", application, *options],
        cwd=BASE_DIR,
        environment=_environment(env),
        ready=lambda: http_answers(port.number),
    )


def _egress(env: Env, *, port: Port) -> Spec:
    return Spec(
        name="egress",
        title="Egress proxy",
        command=[sys.executable, "manage.py", "egress", "--host", port.host, "--port", str(port.number)],
        cwd=BASE_DIR,
        environment=_environment(env),
        ready=lambda: http_answers(port.number),
    )


def _worker(env: Env) -> Spec:
    node = worker_node(env)
    options = ["--hostname", node, "--loglevel", "INFO", "--without-mingle", "--without-gossip"]
    return Spec(
        name="worker",
        title="Worker",
        command=[sys.executable, "-m", "celery", "-A", "eklavya", "worker", *options],
        cwd=BASE_DIR,
        environment=_environment(env),
        ready=lambda: worker_answers(env.celery_broker_url, node),
        stop_timeout_s=WORKER_STOP_SECONDS,
        # its database goes in the same moment, so there is nothing to save; leases say what was lost
        death_signal=signal.SIGKILL,
    )


def _beat(env: Env) -> Spec:
    # beat writes this file when its service starts, and refuses to start while an old one is there
    pid_file = env.EKLAVYA_VAR / "run" / "beat.pid"
    return Spec(
        name="beat",
        title="Beat",
        command=[
            *(sys.executable, "-m", "celery", "-A", "eklavya", "beat"),
            *("--pidfile", str(pid_file), "--loglevel", "INFO"),
        ],
        cwd=BASE_DIR,
        environment=_environment(env),
        ready=pid_file.exists,
        # as the worker; its orderly end would wait long for a database that is gone
        death_signal=signal.SIGKILL,
        before=_remove(pid_file),
    )


def _remove(path: Path) -> Callable[[], None]:
    return lambda: path.unlink(missing_ok=True)
