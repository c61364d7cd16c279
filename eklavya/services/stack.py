"""All processes of one machine as one thing: start it, watch it, stop it.

The stack of a data directory runs once. It belongs to the thread that starts it; that thread calls `poll`
now and then, which restarts what died, and `stop` in the end. `request_stop` may be called from a signal
handler.
"""

import errno
import os
import shutil
import time
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from dataclasses import dataclass
from threading import Thread
from typing import Literal

import psutil
import psycopg

from eklavya.env import Env
from eklavya.services import components as programs
from eklavya.services import instance
from eklavya.services.child import POLL_SECONDS, Child, Spec, describe_exit
from eklavya.services.errors import DiskFull, ServiceError, StartFailed, StopRequested, way_out
from eklavya.services.health import database_problem, redis_problem
from eklavya.services.migrations import check_rights, unapplied
from eklavya.services.ports import check_free
from eklavya.services.postgres import ensure_database, postgres_spec, prepare_postgres
from eklavya.services.sockets import remove_socket_directory
from eklavya.services.valkey import prepare_valkey, valkey_spec

SERVERS = ("postgres", "valkey")
COMMANDS = ("migrations", "setup")
PROGRAMS = ("rehearsal", "gateway", "egress", "web", "worker", "beat")
ALL = (*SERVERS, *COMMANDS, *PROGRAMS)

# Who needs whom: agents talk to the gateway until the worker has let them go; all write to the servers.
_STOP_ORDER = (("beat", "web"), ("worker",), ("gateway", "egress", "rehearsal"), ("valkey",), ("postgres",))

_NEEDED_BYTES = 300_000_000
# PostgreSQL writes ahead in files of 16 MB. Without room it ends, often without a word, as its log has none either.
_FULL_BYTES = 32_000_000
_MAX_RESTARTS = 6
_LONGEST_PAUSE_S = 30
# A process that ran for so long had not failed to start: its count begins anew.
_STEADY_S = 120

State = Literal["starting", "ready", "warning", "restarting", "failed", "stopping", "stopped"]


@dataclass(frozen=True)
class Report:
    """News of one part, for whoever watches."""

    name: str
    title: str
    state: State
    detail: str = ""
    seconds: float = 0.0
    """Since the part began to start."""


class _Watched:
    """A child with its recent failures."""

    def __init__(self, child: Child) -> None:
        self.child = child
        self.state: State = "starting"
        self.failures = 0
        self.retry_at = 0.0


class Stack:
    """The processes of one data directory.

    ``components`` names the parts to start, in any order; ``report`` is told each piece of news.
    ``on_stop`` is called while an orderly stop goes on, after the worker and before the servers; ``end_rest`` then at
    each stop: it ends what the parts started to outlive them, and returns what it could not, a sentence each.
    ``set_up`` does what `manage.py setup` does where this process can, which saves a Django of its own for it.
    """

    def __init__(
        self,
        env: Env,
        components: Collection[str] = ALL,
        report: Callable[[Report], None] = lambda report: None,
        *,
        on_stop: Callable[[], None] = lambda: None,
        end_rest: Callable[[], list[str]] = lambda: [],
        set_up: Callable[[], None] | None = None,
    ) -> None:
        unknown = set(components) - set(ALL)
        assert not unknown, f"no such components: {unknown}"
        self.env = env
        self.var = env.EKLAVYA_VAR
        self.logs = self.var / "logs"
        self._components = {name for name in components if name != "rehearsal" or env.rehearsal}
        self._report = report
        self._on_stop = on_stop
        self._end_rest = end_rest
        self._set_up = set_up
        self._lock = instance.Lock(self.var)
        self._services_path = self.var / "run" / "services.json"
        self._watched: dict[str, _Watched] = {}
        self._stop_requests = 0
        self._state = "starting"
        self._isolated = False
        self.left: list[str] = []
        """What still runs after `stop`, and how to end it, a sentence each without a full stop."""

    # -- starting

    def start(self) -> None:
        """Start all components; each does its work when this returns.

        Raises ServiceError with nothing left running, and StopRequested when asked to stop meanwhile.
        """
        try:
            self._lock.acquire()
        except OSError as error:
            raise unwritable(error) from error
        try:
            self._start()
        except (ServiceError, psycopg.Error) as problem:
            told = self._told(problem)  # before the stop, which makes room
            self.stop()
            raise told from problem
        except OSError as error:
            self.stop()
            raise unwritable(error) from error
        except BaseException:
            self.stop()
            raise

    def _told(self, problem: ServiceError | psycopg.Error) -> ServiceError:
        """The problem as a sentence: a disk that filled meanwhile, or went, is the reason of whatever failed on it."""
        try:
            free = shutil.disk_usage(self.var).free
        except OSError as gone:
            return unwritable(gone)
        if free < _FULL_BYTES or os.strerror(errno.ENOSPC) in str(problem):
            return DiskFull(self.var, free=free, needed=_NEEDED_BYTES)
        if isinstance(problem, ServiceError):
            return problem
        return StartFailed(f"the database refused: {' '.join(str(problem).split())} (logs: {self.logs})")

    def _start(self) -> None:
        self.logs.mkdir(mode=0o700, exist_ok=True)
        self._check_room()
        if names := instance.reap_leftovers(self.var):
            detail = f"of a killed start, ended: {', '.join(names)}"
            self._say("leftovers", "Leftovers", state="warning", detail=detail)
        self._check_ports()
        self._start_servers()
        self._run_commands()
        specs = programs.program_specs(self.env, isolated=self._isolated)
        self._begin([specs[name] for name in PROGRAMS if name in self._components])
        self._state = "running"
        self._record()

    def _check_room(self) -> None:
        free = shutil.disk_usage(self.var).free
        if free < _NEEDED_BYTES:
            raise DiskFull(self.var, free=free, needed=_NEEDED_BYTES)

    def _check_ports(self) -> None:
        if "gateway" in self._components:
            self._isolated = programs.runtime_choice(self.env).runtime.isolated
        ports = programs.ports(self.env, isolated=self._isolated)
        check_free(*(port for name, port in ports.items() if name in self._components))

    def _start_servers(self) -> None:
        specs = []
        if self.env.DATABASE_URL:
            self._check_own("DATABASE_URL", "PostgreSQL", problem=database_problem(self.env.database_url))
        elif "postgres" in self._components:
            prepare_postgres(self.var)
            specs.append(postgres_spec(self.var))
        if self.env.REDIS_URL:
            self._check_own("REDIS_URL", "Redis", problem=redis_problem(self.env.redis_url))
        elif "valkey" in self._components:
            prepare_valkey(self.var)
            specs.append(valkey_spec(self.var))
        self._begin(specs)
        if "postgres" in self._watched:
            ensure_database(self.var)
        self._record_services()

    def _check_own(self, variable: str, title: str, *, problem: str) -> None:
        if problem:
            fix = "start that server, correct the variable, or unset it for the embedded one"
            raise ServiceError(f"{variable} does not answer ({problem}): {fix}")
        self._say(variable, title, state="ready", detail=f"yours ({variable})")

    def _run_commands(self) -> None:
        specs = programs.command_specs(self.env)
        if "migrations" in self._components:
            self._migrate(specs["migrations"])
        if "setup" in self._components:
            self._run_set_up(specs["setup"])

    def _migrate(self, spec: Spec) -> None:
        if problem := database_problem(self.env.database_url):
            raise ServiceError(f"the database to migrate does not answer: {problem}")
        if count := unapplied(self.env.database_url):
            check_rights(self.env.database_url)
            self._run_command(spec, total=count)
        else:
            self._say(spec.name, spec.title, state="ready", detail="up to date")

    def _run_command(self, spec: Spec, *, total: int = 0) -> None:
        """Run a command to its end, telling how many of ``total`` migrations are applied."""
        child = self._child(spec)
        child.log.unlink(missing_ok=True)
        child.start()
        self._say(spec.name, spec.title, state="starting")
        done = 0
        try:
            while child.exit_code is None:
                self._pause()
                if (applied := _applied(child)) != done:
                    done = applied
                    self._say(spec.name, spec.title, state="starting", detail=f"{done} of {total}")
        finally:
            child.kill()
        if child.exit_code:
            raise StartFailed(f"{spec.title} failed: {child.reason()}")
        detail = f"{_applied(child)} applied" if total else "done"
        self._say(spec.name, spec.title, state="ready", detail=detail, since=child.started_at)

    def _run_set_up(self, spec: Spec) -> None:
        if self._set_up is None:
            self._run_command(spec)
            return
        began = time.monotonic()
        self._say(spec.name, spec.title, state="starting")
        problem = self._run_beside(self._set_up)
        if problem is not None:  # whatever it is, it ends the start with one line
            said = " ".join(str(problem).split())[:300]
            raise StartFailed(f"{spec.title} failed: {type(problem).__name__}: {said} (logs: {self.logs})") from problem
        self._say(spec.name, spec.title, state="ready", detail="done", since=began)

    def _run_beside(self, work: Callable[[], None]) -> BaseException | None:
        """Run something of this process to its end in a thread, and return what it raised.

        Raises StopRequested as soon as somebody asks: the thread, which may wait for what another holds locked, is left
        behind, and ends with its server or with this process.
        """
        problems: list[BaseException] = []

        def run() -> None:
            try:
                work()
            except BaseException as problem:  # in a thread, SystemExit would look like success
                problems.append(problem)

        thread = Thread(target=run, name="set-up", daemon=True)
        thread.start()
        while thread.is_alive():
            self._pause(thread.join)
        return problems[0] if problems else None

    def _begin(self, specs: Iterable[Spec]) -> None:
        """Start some at once, and return when each is ready."""
        waiting = []
        for spec in specs:
            watched = self._watched[spec.name] = _Watched(self._child(spec))
            watched.child.start()
            self._say(spec.name, spec.title, state="starting")
            waiting.append(watched)
        self._record()
        while waiting:
            self._pause()
            waiting = [watched for watched in waiting if not self._became_ready(watched)]

    def _became_ready(self, watched: _Watched) -> bool:
        if not watched.child.check_ready():
            return False
        watched.state = "ready"
        spec = watched.child.spec
        self._say(spec.name, spec.title, state="ready", since=watched.child.started_at)
        return True

    def _child(self, spec: Spec) -> Child:
        return Child(spec, logs=self.logs)

    # -- watching

    def poll(self) -> None:
        """Look at each process once: report and restart what died, unless it dies again and again."""
        for watched in self._watched.values():
            before = watched.state
            self._look_at(watched)
            if watched.state != before:
                self._record()

    def _look_at(self, watched: _Watched) -> None:
        child = watched.child
        try:
            if watched.state == "restarting":
                if time.monotonic() >= watched.retry_at:
                    child.start()
                    watched.state = "starting"
            elif watched.state == "starting":
                self._became_ready(watched)
            elif watched.state == "ready" and child.exit_code is not None:
                self._failed(watched, f"{describe_exit(child.exit_code)}: {child.reason()}")
        except (ServiceError, OSError) as problem:
            child.kill()
            self._failed(watched, str(problem))

    def _failed(self, watched: _Watched, problem: str) -> None:
        now = time.monotonic()
        if now - watched.child.started_at > _STEADY_S:
            watched.failures = 0
        watched.failures += 1
        spec = watched.child.spec
        if watched.failures > _MAX_RESTARTS:
            watched.state = "failed"
            detail = f"{problem}; given up after {_MAX_RESTARTS} restarts"
            self._say(spec.name, spec.title, state="failed", detail=detail)
            return
        pause = min(2 ** (watched.failures - 1), _LONGEST_PAUSE_S)
        watched.state = "restarting"
        watched.retry_at = now + pause
        self._say(spec.name, spec.title, state="restarting", detail=f"{problem}; again in {pause} s")

    @property
    def states(self) -> dict[str, State]:
        """What each process is doing, by its name."""
        return {name: watched.state for name, watched in self._watched.items()}

    # -- stopping

    def request_stop(self) -> None:
        """Ask for a stop: the first time an orderly one, after that at once. Safe in a signal handler."""
        self._stop_requests += 1

    @property
    def stop_requested(self) -> bool:
        """True once somebody asked."""
        return self._stop_requests > 0

    @property
    def is_hurried(self) -> bool:
        """True once somebody asked again: then nothing is waited for."""
        return self._stop_requests > 1

    def stop(self) -> None:
        """Stop all in order, the data kept; `left` says what could not be. Does nothing the second time."""
        if not self._lock.is_mine:
            return
        was_running, self._state = self._state == "running", "stopping"
        for names in _STOP_ORDER:
            self._stop_some([self._watched[name] for name in names if name in self._watched])
            if "worker" in names:
                if was_running and not self.is_hurried:
                    self._call_on_stop()
                self._call_end_rest()
        self._end_leftovers()
        self._watched.clear()
        with suppress(OSError):  # on a full disk or a lost one there is nothing more to tidy
            if not self.left:  # else the next start knows whom to end
                instance.record_path(self.var).unlink(missing_ok=True)
            self._services_path.unlink(missing_ok=True)
            remove_socket_directory(self.var)
        self._lock.release()

    def _end_leftovers(self) -> None:
        """End what the parts started in their own sessions and did not take along."""
        instance.reap_leftovers(self.var, at_once=True)
        if pids := instance.left_running(self.var):
            numbers = " ".join(map(str, pids))
            self.left.append(
                f"the processes {numbers} survive SIGKILL (a disk that does not answer?); try: kill -9 {numbers}"
            )

    def _call_end_rest(self) -> None:
        try:
            self.left += self._end_rest()
        except Exception as problem:  # whatever it is, the servers still have to be stopped
            self.left.append(f"what agents and previews run could not be ended ({type(problem).__name__}: {problem})")

    def _call_on_stop(self) -> None:
        try:
            self._on_stop()
        except Exception as problem:  # whatever it is, the servers still have to be stopped
            self._say("on_stop", "Clean-up", state="warning", detail=f"{type(problem).__name__}: {problem}")

    def _stop_some(self, watched: list[_Watched]) -> None:
        for one in watched:
            one.state = "stopping"
            one.child.signal_stop()
            self._say(one.child.spec.name, one.child.spec.title, state="stopping")
        for one in watched:
            began = time.monotonic()
            one.child.stop(hurry=lambda: self.is_hurried)
            one.state = "stopped"
            self._say(one.child.spec.name, one.child.spec.title, state="stopped", since=began)

    # -- records

    def _record(self) -> None:
        processes: dict[str, instance.ProcessRecord] = {}
        for name, watched in self._watched.items():
            with suppress(psutil.NoSuchProcess):
                if pid := watched.child.pid:
                    processes[name] = {
                        "pid": pid,
                        "created": psutil.Process(pid).create_time(),
                        "state": watched.state,
                        "stop_signal": int(watched.child.spec.stop_signal),
                    }
        record: instance.Record = {
            "pid": psutil.Process().pid,
            "url": self.env.public_url,
            "state": self._state,
            "processes": processes,
        }
        instance.write_json(instance.record_path(self.var), record)

    def _record_services(self) -> None:
        embedded = {
            **({"DATABASE_URL": self.env.database_url} if "postgres" in self._watched else {}),
            **({"REDIS_URL": self.env.redis_url} if "valkey" in self._watched else {}),
        }
        instance.write_json(self._services_path, embedded)

    # -- small things

    def _pause(self, wait: Callable[[float], None] = time.sleep) -> None:
        if self.stop_requested:
            raise StopRequested
        wait(POLL_SECONDS)

    def _say(self, name: str, title: str, *, state: State, detail: str = "", since: float | None = None) -> None:
        seconds = time.monotonic() - since if since is not None else 0.0
        self._report(Report(name, title, state, detail=detail, seconds=seconds))


def _applied(child: Child) -> int:
    """Migrations applied so far, by the command's own words."""
    try:
        return child.log.read_text(encoding="utf-8", errors="replace").count("... OK")
    except OSError:
        return 0


def unwritable(error: OSError) -> ServiceError:
    """A file system's refusal, as a sentence."""
    place = f" {error.filename}" if error.filename else ""
    return ServiceError(f"cannot write{place} ({error.strerror}): {way_out(error)}")
