"""Checking a commit by its own manifest, in sandboxes of the platform's making."""

import contextlib
import hashlib
import logging
import os
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from pathlib import Path
from secrets import token_hex
from threading import Event, Lock
from typing import Any

from agents.runtimes.contract import CommandResult, SandboxSpec, ServiceHandle
from agents.runtimes.errors import RuntimeProblem, ServiceFailed
from agents.verification.counting import count_tests
from agents.verification.probing import http_status
from agents.verification.values import Place, Reason, Times, VerificationResult
from agents.workspace import manifest
from agents.workspace.errors import ManifestInvalid, ManifestMissing
from agents.workspace.manifest import Manifest
from agents.workspace.repository import Repository

logger = logging.getLogger(__name__)

_OUTPUT_BYTES = 256_000
_TAIL_CHARACTERS = 8000
_LOG_LINES = 200
_PROBE_S = 3.0
_PAUSE_S = 0.1
_KILL_AGAIN_S = 0.5


class _Failed(Exception):
    """The commit does not hold what it must; ends the verification."""

    def __init__(self, reason: Reason, detail: str) -> None:
        self.reason = reason
        self.detail = detail
        super().__init__(detail)


def verify(
    repository: Repository, commit: str, *, place: Place, require_app: bool, times: Times | None = None
) -> VerificationResult:
    """Check out the commit clean, run its tests, start its application, and tell what was seen.

    Tests and application run beside each other, in a checkout and a sandbox each, so that the tests cannot prepare what
    is started; when both fail, the tests' reason counts. What eklavya.toml names is observed always; `require_app` says
    whether it must be there with both commands, as it must from the first demo on. A commit that fails is a result, not
    an error. Raises UnknownCommit, and RuntimeProblem where the sandboxes themselves do not work, which says nothing
    about the commit.
    """
    observation = _Observation(repository, commit, place=place, times=times or Times())
    try:
        detail = observation.observe(require_app=require_app)
    except _Failed as failed:
        return observation.result(failed.reason, failed.detail)
    return observation.result("ok", detail)


@dataclass
class _Observation:
    """One verification in progress: what it is about, and what it has seen so far."""

    repository: Repository
    commit: str
    place: Place = field(kw_only=True)
    times: Times = field(kw_only=True)
    tree: str = field(init=False)
    seen: dict[str, Any] = field(init=False, default_factory=dict)
    given_up: Event = field(init=False, default_factory=Event)
    """Set once nobody asks any more whether the application starts."""
    killing: Lock = field(init=False, default_factory=Lock)
    """Held while a sandbox is killed: the application's thread does it in the end, and whoever gives it up before."""

    def __post_init__(self) -> None:
        self.tree = self.repository.tree_sha(self.commit)

    def result(self, reason: Reason, detail: str) -> VerificationResult:
        return VerificationResult(
            commit=self.commit,
            tree=self.tree,
            passed=reason == "ok",
            reason=reason,
            detail=detail,
            **self.seen,
        )

    def observe(self, *, require_app: bool) -> str:
        read = self._read_manifest(required=require_app)
        if read is None:
            return "There is no eklavya.toml yet, so there is nothing to run."
        if require_app:
            _check_commands(read)
        return " ".join(self._run(read)) or "eklavya.toml names no command yet, so there is nothing to run."

    def _run(self, read: Manifest) -> list[str]:
        with ThreadPoolExecutor(1, thread_name_prefix=f"{self.place.name}-app") as beside:
            starting = beside.submit(self._start, read.start, read.health_path) if read.start is not None else None
            try:
                done = [self._test(read.test)] if read.test is not None else []
            except BaseException:
                if starting is not None:
                    self._give_up(starting)
                raise
            return [*done, starting.result()] if starting is not None else done

    def _give_up(self, starting: Future[str]) -> None:
        """End the application, wherever its start is, and return when nothing of it is left."""
        self.given_up.set()
        # Again and again: a kill that comes before there is a sandbox ends nothing, and the runtime waits for a port.
        while not starting.done():
            with contextlib.suppress(RuntimeProblem, OSError):
                self._kill(_sandbox_name(self.place, "app"))
            wait([starting], _KILL_AGAIN_S)
        problem = starting.exception()
        if problem is not None and not isinstance(problem, _Failed):
            logger.error(
                "The application of %s could not be started or cleared away", self.place.name, exc_info=problem
            )

    def _check_asked(self) -> None:
        if self.given_up.is_set():
            raise _Failed("start_failed", "Nobody asks any more whether the application starts.")

    def _kill(self, name: str) -> None:
        with self.killing:
            self.place.runtime.kill(name)

    def _read_manifest(self, *, required: bool) -> Manifest | None:
        try:
            return manifest.load(self.repository, self.commit)
        except ManifestMissing as exc:
            if required:
                raise _Failed("manifest_missing", str(exc)) from exc
            return None
        except ManifestInvalid as exc:
            raise _Failed("manifest_invalid", str(exc)) from exc

    def _test(self, command: str) -> str:
        with self._sandbox("test") as spec:
            done = self.place.runtime.run(spec, command, timeout_s=self.times.test_s, max_output_bytes=_OUTPUT_BYTES)
        count = count_tests(done.output)
        self.seen |= {
            "tests_run": count,
            "test_output_tail": _tail(done.output),
            "test_output_sha256": hashlib.sha256(done.output.encode("utf-8", "replace")).hexdigest(),
            "test_duration_s": done.duration_s,
        }
        _check_tests(done, count, self.times.test_s)
        return f"{count} test{'s' if count != 1 else ''} passed in {done.duration_s:.1f} s."

    def _start(self, command: str, path: str) -> str:
        began = time.monotonic()
        with self._sandbox("app") as spec:
            self._check_asked()
            try:
                handle = self.place.runtime.start(spec, command, wait_s=self.times.start_s)
            except ServiceFailed as exc:
                self.seen["start_output_tail"] = _tail(exc.log)
                raise _Failed("start_failed", "The start command ended before it served anything.") from exc
            except (RuntimeProblem, OSError):
                self._check_asked()  # a kill in the middle of the start may look like anything
                raise
            try:
                self._await_health(handle, path, began + self.times.start_s)
            finally:
                self.seen["start_output_tail"] = _tail(self.place.runtime.logs(spec.name, tail=_LOG_LINES))
        self.seen["started"] = True
        return f"The application answered 200 at {path} after {time.monotonic() - began:.1f} s."

    def _await_health(self, handle: ServiceHandle, path: str, deadline: float) -> None:
        status: int | None = None
        # One question at least, however long the start has taken.
        timeout_s = _PROBE_S
        while timeout_s > 0:
            self._check_asked()
            status = http_status(handle.host, handle.port, path=path, timeout_s=timeout_s) or status
            alive = self.place.runtime.is_alive(handle.name)
            if status == 200 and alive:
                return
            if not alive:
                raise _Failed("start_failed", f"The application ended before {path} answered 200.")
            time.sleep(_PAUSE_S)
            timeout_s = min(_PROBE_S, deadline - time.monotonic())
        last = f"its last answer was {status}" if status else "it gave no HTTP answer"
        limit_s = self.times.start_s
        raise _Failed("health_failed", f"{path} did not answer 200 within {limit_s:g} s; {last}.")

    @contextlib.contextmanager
    def _sandbox(self, part: str) -> Iterator[SandboxSpec]:
        """A clean checkout and the sandbox to run it in; both are gone afterwards."""
        place = self.place
        place.scratch.mkdir(parents=True, exist_ok=True)
        root = place.scratch / f"{place.name}-{part}-{token_hex(4)}"
        spec = _spec(place, part, root)
        place.runtime.make_directory(root, disk_mb=place.limits.disk_mb)
        try:
            # A checkout another user may pass through: the sandbox's own user is not the platform's.
            root.chmod(0o755)
            self.repository.export(self.commit, spec.workspace)
            (spec.home / "data").mkdir(parents=True)
            # Whatever a killed process of ours left under this name.
            self._kill(spec.name)
            yield spec
        finally:
            self._kill(spec.name)
            _open(root)
            place.runtime.remove_directory(root)


def _spec(place: Place, part: str, root: Path) -> SandboxSpec:
    spec = SandboxSpec(
        name=_sandbox_name(place, part),
        project=place.project,
        workspace=root / "workspace",
        home=root / "home",
        control=root / "control",
        limits=place.limits,
        labels=place.labels,
    )
    # Unbuffered, so that what an application said is there when it is killed.
    env = {"DATA_DIR": f"{place.runtime.home_path(spec)}/data", "PYTHONUNBUFFERED": "1"}
    return replace(spec, env=env)


def _sandbox_name(place: Place, part: str) -> str:
    return f"{place.name}-{part}"


def _check_commands(read: Manifest) -> None:
    if read.test is None:
        raise _Failed("no_test_command", "eklavya.toml names no test command under [commands].")
    if read.start is None:
        raise _Failed("start_missing", "eklavya.toml names no start command under [commands].")


def _check_tests(done: CommandResult, count: int, timeout_s: float) -> None:
    if done.timed_out:
        raise _Failed("tests_timed_out", f"The tests did not end within {timeout_s:g} s.")
    # Runners that find no test disagree about their exit code.
    if count == 0 and (done.exit_code == 0 or _found_nothing(done.output)):
        raise _Failed("no_tests_ran", "The test command ran no test that could be recognised.")
    if done.exit_code != 0:
        raise _Failed("tests_failed", f"The test command ended with exit code {done.exit_code}.")


def _found_nothing(output: str) -> bool:
    return any(sign in output for sign in ("\nRan 0 tests in ", "no tests ran in ", "NO TESTS RAN"))


def _tail(text: str) -> str:
    return text.replace("\0", "\ufffd")[-_TAIL_CHARACTERS:]


def _open(root: Path) -> None:
    """Open what a sandbox may have closed to its own user, so that it can be removed.

    Nothing of it runs any more, and neither step follows links.
    """
    for directory, names, _ in os.walk(root):
        for name in names:
            path = Path(directory, name)
            if not path.is_symlink() and not os.access(path, os.R_OK | os.W_OK | os.X_OK):
                path.chmod(0o700)
