"""The sandbox in which a demo's application runs, and its directories. No rows: values in, values out.

    <root>/<demo id>.lock        held by the one process that starts or stops this preview
    <root>/<demo id>/checkout    the commit's files, exported anew for each start
                    /home        HOME in the sandbox; DATA_DIR is `data` in it and survives a restart
                    /control     the runtime's own
                    /backoff     how often in a row it could not be started, and when it is tried again
    <root>/<worker>.worker       says that the worker keeps its previews here, perhaps beside others

A preview outlives the process that started it. Whoever comes next, after a crash or a reboot, finds it by its name.
"""

import fcntl
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from uuid import UUID

import httpx

from agents.runtimes.contract import Limits, Runtime, SandboxSpec, ServiceHandle
from agents.runtimes.errors import ServiceFailed
from agents.workspace import manifest
from agents.workspace.errors import CommandMissing, ManifestInvalid, ManifestMissing, UnknownCommit
from agents.workspace.manifest import Manifest
from agents.workspace.repository import Repository
from demos.errors import PreviewFailed, Reason

PREFIX = "demo-"
LABELS = {"kind": "preview"}
"""Marks of every preview's sandbox, by which `list_previews` finds them."""
START_S = 20.0
"""From the start to the first 200 at the health path, as promised in `eklavya.toml`'s contract."""
LIMITS = Limits(memory_mb=512, cpus=1.0, pids=128, file_mb=256)
_PROBE_S = 2.0
_POLL_S = 0.1
_LOG_LINES = 60
_LOG_CHARS = 4_000
_BACKOFF_S = 15.0
_BACKOFF_MAX_S = 600.0
_SIGNED = ".worker"


@dataclass(frozen=True)
class Preview:
    """One demo's preview: what is shown, and where its things are."""

    demo_id: UUID
    project: str
    """The project's short name among runtimes (`agents.sandboxes.network_name`)."""
    commit: str
    root: Path
    """Directory of all previews, absolute."""

    @property
    def name(self) -> str:
        """The sandbox's name. The random part of a UUIDv7 is at its end."""
        return f"{PREFIX}{self.demo_id.hex[-16:]}"

    @property
    def directory(self) -> Path:
        """Where its things are."""
        return self.root / str(self.demo_id)


@contextmanager
def claim(preview: Preview) -> Iterator[bool]:
    """Hold the preview alone; yields False when another process or thread of this machine does.

    The kernel lets go when the holder dies. The lock's file stays: removing it would let two hold "the" lock.
    """
    preview.root.mkdir(parents=True, exist_ok=True)
    with preview.directory.with_suffix(".lock").open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


def start(preview: Preview, *, repository: Repository, runtime: Runtime, wait_s: float = START_S) -> ServiceHandle:
    """Have the preview answer, and return where. Finds one that runs already; needs the claim.

    Raises PreviewFailed when the commit cannot be shown, with nothing left running; RuntimeProblem, WorkspaceError or
    OSError when the platform cannot do its part just now.
    """
    deadline = time.monotonic() + wait_s
    described = _read_manifest(repository, preview.commit)
    handle = find(preview, runtime)
    if handle is None:
        runtime.kill(preview.name)
        handle = _launch(preview, described, repository=repository, runtime=runtime, wait_s=wait_s)
        deadline = time.monotonic() + wait_s
    answered = _await_health(handle, described.health_path, deadline, lambda: runtime.is_alive(preview.name))
    if not answered:
        detail = _why_silent(runtime, handle, described, wait_s)
        runtime.kill(preview.name)
        raise PreviewFailed(Reason.DID_NOT_ANSWER, detail)
    return handle


def find(preview: Preview, runtime: Runtime) -> ServiceHandle | None:
    """Return where the preview runs, whoever started it, or None when it does not. Says nothing of its health."""
    return runtime.service(preview.name)


def stop(preview: Preview, runtime: Runtime, *, remove: bool = True) -> None:
    """End the preview; with `remove` its directories and data go too. Idempotent; needs the claim."""
    runtime.kill(preview.name)
    if remove:
        remove_tree(preview.directory)


def list_previews(runtime: Runtime) -> list[str]:
    """Return the names of all previews' sandboxes, running or ended."""
    return [name for name in runtime.list_sandboxes(LABELS) if name.startswith(PREFIX)]


def list_directories(root: Path) -> list[Path]:
    """Return the directories of all previews, whether anything runs in them or not."""
    return sorted(entry for entry in root.iterdir() if entry.is_dir()) if root.is_dir() else []


def sign(root: Path, worker: str) -> None:
    """Note that a worker keeps its previews here. Idempotent."""
    root.mkdir(parents=True, exist_ok=True)
    (root / f"{worker}{_SIGNED}").touch()


def signed(root: Path) -> list[str]:
    """Return the names of the workers that keep their previews here, present or not."""
    return sorted(entry.name.removesuffix(_SIGNED) for entry in root.glob(f"*{_SIGNED}"))


def may_try(preview: Preview, now_s: float) -> bool:
    """Return whether a start that failed before may be tried again at `now_s` (seconds since the epoch)."""
    return now_s >= _read_backoff(preview)[1]


def postpone(preview: Preview, now_s: float) -> None:
    """Note that a start failed: the next one is later each time, up to ten minutes."""
    failures = _read_backoff(preview)[0] + 1
    wait_s = min(_BACKOFF_S * 2 ** (failures - 1), _BACKOFF_MAX_S)
    preview.directory.mkdir(parents=True, exist_ok=True)
    (preview.directory / "backoff").write_text(json.dumps([failures, now_s + wait_s]))


def forget_failures(preview: Preview) -> None:
    """Note that it runs."""
    (preview.directory / "backoff").unlink(missing_ok=True)


def _read_backoff(preview: Preview) -> tuple[int, float]:
    try:
        failures, not_before_s = json.loads((preview.directory / "backoff").read_text())
    except (FileNotFoundError, ValueError):  # never failed, or the machine went down while it was written
        return 0, 0.0
    return int(failures), float(not_before_s)


def _read_manifest(repository: Repository, commit: str) -> Manifest:
    try:
        described = manifest.load(repository, commit)
        described.start_command()
    except UnknownCommit as error:
        raise PreviewFailed(Reason.NO_COMMIT, str(error)) from error
    except ManifestMissing as error:
        raise PreviewFailed(Reason.NO_MANIFEST, str(error)) from error
    except CommandMissing as error:
        raise PreviewFailed(Reason.NO_START_COMMAND, str(error)) from error
    except ManifestInvalid as error:
        raise PreviewFailed(Reason.INVALID_MANIFEST, str(error)) from error
    return described


def _launch(
    preview: Preview, described: Manifest, *, repository: Repository, runtime: Runtime, wait_s: float
) -> ServiceHandle:
    checkout, home = preview.directory / "checkout", preview.directory / "home"
    # What the application changed in its own files goes; what it keeps in DATA_DIR stays.
    remove_tree(checkout)
    repository.export(preview.commit, checkout)
    (home / "data").mkdir(parents=True, exist_ok=True)
    spec = SandboxSpec(
        name=preview.name,
        project=preview.project,
        workspace=checkout,
        home=home,
        control=preview.directory / "control",
        env={"PYTHONUNBUFFERED": "1"},
        limits=LIMITS,
        labels=LABELS | {"demo": str(preview.demo_id)},
    )
    spec = replace(spec, env={**spec.env, "DATA_DIR": f"{runtime.home_path(spec)}/data"})
    try:
        return runtime.start(spec, described.start_command(), wait_s=wait_s)
    except ServiceFailed as error:
        said = f"`{described.start}` ended before it listened at $HOST:$PORT.\n\n{_tail(error.log)}"
        raise PreviewFailed(Reason.DID_NOT_START, said.strip()) from error


def _await_health(handle: ServiceHandle, path: str, deadline: float, is_alive: Callable[[], bool]) -> bool:
    """Whether the application answers 200 before the deadline (monotonic seconds)."""
    with httpx.Client(trust_env=False, timeout=_PROBE_S) as client:
        while True:
            if _probe(client, handle.url + path):
                return True
            if time.monotonic() >= deadline or not is_alive():
                return False
            time.sleep(_POLL_S)


def _probe(client: httpx.Client, url: str) -> bool:
    try:
        # Only the status counts: the body may be endless.
        with client.stream("GET", url) as answer:
            return answer.status_code == httpx.codes.OK
    except httpx.HTTPError:
        return False


def _why_silent(runtime: Runtime, handle: ServiceHandle, described: Manifest, wait_s: float) -> str:
    log = _tail(runtime.logs(handle.name, tail=_LOG_LINES))
    said = f"`{described.start}` did not answer 200 at {described.health_path} within {wait_s:g} s."
    return f"{said}\n\n{log}".strip()


def _tail(log: str) -> str:
    return log[-_LOG_CHARS:]


def remove_tree(path: Path) -> None:
    """Remove a directory that untrusted code could write to, once nothing runs in it. Idempotent."""
    if path.is_symlink() or not path.is_dir():
        return
    path.chmod(0o700)
    for root, directories, _ in os.walk(path):
        # The application may have taken its directories' rights away. Top-down: opened before they are entered.
        for directory in directories:
            entry = Path(root, directory)
            if not entry.is_symlink():
                entry.chmod(0o700)
    shutil.rmtree(path)
