"""The stack: started, watched, stopped, killed. With the servers only; test_run_command.py starts everything."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import psycopg
import pytest
from pydantic import SecretStr

from eklavya.env import Env
from eklavya.services import stack as stack_module
from eklavya.services.errors import AlreadyRunning, PortTaken, ServiceError, StopRequested
from eklavya.services.health import database_problem, redis_problem
from eklavya.services.migrations import check_rights
from eklavya.services.processes import wait_gone
from eklavya.services.running import running
from eklavya.services.sockets import postgres_url, valkey_url
from eklavya.services.stack import Report, Stack
from eklavya.services.testing import Services

Make = Callable[..., Stack]


@pytest.fixture
def make(fresh_var: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Make]:
    """Stacks on one fresh data directory, stopped with their test."""
    monkeypatch.delenv("DATABASE_URL")
    stacks = []

    def make_stack(*components: str, reports: list[Report] | None = None, **variables: object) -> Stack:
        news = reports if reports is not None else []
        env = Env(EKLAVYA_VAR=fresh_var, **variables)
        stacks.append(Stack(env, components, news.append))
        return stacks[-1]

    yield make_stack
    for stack in stacks:
        stack.stop()


def poll_until(stack: Stack, condition: Callable[[], bool], *, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"it did not happen in time: {stack.states}"
        stack.poll()
        time.sleep(0.02)


def pids(stack: Stack) -> dict[str, int]:
    record = json.loads((stack.var / "run" / "eklavya.json").read_text(encoding="utf-8"))
    return {name: process["pid"] for name, process in record["processes"].items()}


def test_servers_answer_and_keep_their_data(make: Make) -> None:
    first = make("postgres", "valkey")
    first.start()
    url = postgres_url(first.var)
    with psycopg.connect(url) as database:
        database.execute("CREATE TABLE kept AS SELECT 1 AS one")
    assert redis_problem(valkey_url(first.var)) == ""
    first.stop()
    assert database_problem(url)

    second = make("postgres")
    second.start()
    with psycopg.connect(url) as database:
        assert database.execute("SELECT one FROM kept").fetchone() == (1,)


def test_running_stack_is_found_and_excludes_another(make: Make) -> None:
    first = make("valkey")
    first.start()
    found = running(first.env)
    assert found is not None
    assert (found.pid, found.state, found.healthy) == (os.getpid(), "running", {"valkey": True})
    with pytest.raises(AlreadyRunning, match=rf"already running \(pid {os.getpid()}, http://127.0.0.1:8000\)"):
        make("valkey").start()
    # the refused one took nothing away
    assert running(first.env) == found
    first.stop()
    assert running(first.env) is None
    assert not (first.var / "run" / "services.json").exists()


def test_settings_of_other_processes_find_the_servers(make: Make) -> None:
    stack = make("valkey")
    stack.start()
    assert Env(EKLAVYA_VAR=stack.var).services == {"REDIS_URL": valkey_url(stack.var)}


def test_dead_process_is_reported_and_started_again(make: Make) -> None:
    reports: list[Report] = []
    stack = make("valkey", reports=reports)
    stack.start()
    before = pids(stack)["valkey"]
    os.kill(before, signal.SIGKILL)
    poll_until(stack, lambda: stack.states["valkey"] == "restarting")
    poll_until(stack, lambda: stack.states["valkey"] == "ready")
    assert pids(stack)["valkey"] != before
    detail = next(report.detail for report in reports if report.state == "restarting")
    assert detail.startswith("was killed by SIGKILL: ")
    assert f"(log: {stack.logs}/valkey.log); again in 1 s" in detail


def test_process_that_keeps_dying_is_given_up(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stack_module, "_LONGEST_PAUSE_S", 0)
    reports: list[Report] = []
    stack = make("valkey", reports=reports)
    stack.start()
    (stack.var / "valkey").rename(stack.var / "moved")
    (stack.var / "valkey").touch()
    os.kill(pids(stack)["valkey"], signal.SIGKILL)
    poll_until(stack, lambda: stack.states["valkey"] == "failed")
    assert [report.state for report in reports].count("restarting") == 6
    assert "given up after 6 restarts" in reports[-1].detail
    found = running(stack.env)
    assert found is not None
    assert found.healthy == {}


def test_servers_end_with_a_killed_supervisor(fresh_var: Path, make: Make) -> None:
    program = (
        "import sys, time; from eklavya.env import Env; from eklavya.services.stack import Stack\n"
        "stack = Stack(Env(), ('postgres', 'valkey')); stack.start(); print('up', flush=True); time.sleep(60)"
    )
    environment = {**os.environ, "EKLAVYA_VAR": str(fresh_var)}
    supervisor = subprocess.Popen([sys.executable, "-c", program], env=environment, stdout=subprocess.PIPE, text=True)
    assert supervisor.stdout
    with supervisor:
        assert supervisor.stdout.readline() == "up\n"
        stack = make("postgres", "valkey")
        children = [psutil.Process(pid) for pid in pids(stack).values()]
        supervisor.kill()
    assert len(children) == 2
    assert wait_gone(children, seconds=60) == []

    stack.start()
    assert database_problem(postgres_url(stack.var)) == ""


def test_orphan_of_a_killed_stack_is_ended_with_what_it_started(make: Make) -> None:
    stack = make("valkey")
    orphan = subprocess.Popen(["sh", "-c", "sleep 120 & wait"], start_new_session=True)
    processes = [psutil.Process(orphan.pid)]
    try:
        leave_record(stack.var, pid=orphan.pid, created=processes[0].create_time())
        stack.start()
        processes += [one for one in psutil.process_iter() if is_in_session(one, orphan.pid)]
        assert wait_gone(processes, seconds=60) == []  # of 120
    finally:
        orphan.kill()
        orphan.wait()


def is_in_session(process: psutil.Process, session: int) -> bool:
    with suppress(OSError):
        return os.getsid(process.pid) == session
    return False


def test_process_that_took_over_a_recorded_number_is_left_alone(make: Make) -> None:
    stack = make("valkey")
    stranger = subprocess.Popen(["sleep", "60"], start_new_session=True)
    try:
        leave_record(stack.var, pid=stranger.pid, created=psutil.Process(stranger.pid).create_time() - 100)
        stack.start()
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def leave_record(var: Path, *, pid: int, created: float) -> None:
    (var / "run").mkdir(parents=True, exist_ok=True)
    child = {"pid": pid, "created": created, "state": "ready", "stop_signal": int(signal.SIGTERM)}
    record = {"pid": 1, "url": "", "state": "running", "processes": {"web": child}}
    (var / "run" / "eklavya.json").write_text(json.dumps(record), encoding="utf-8")


def test_pid_file_of_a_power_cut_does_not_stop_postgres(make: Make) -> None:
    first = make("postgres")
    first.start()
    first.stop()
    # the number belongs to a living process by now, which PostgreSQL would take for a server
    content = f"{os.getpid()}\n{first.var / 'postgres'}\n1\n5432\n\n\n\n"
    (first.var / "postgres" / "postmaster.pid").write_text(content, encoding="ascii")
    second = make("postgres")
    second.start()
    assert database_problem(postgres_url(second.var)) == ""


def test_taken_port_is_told_before_anything_starts(make: Make) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        stack = make("postgres", "web", EKLAVYA_WEB_PORT=server.getsockname()[1])
        with pytest.raises(PortTaken, match="EKLAVYA_WEB_PORT"):
            stack.start()
    assert not (stack.var / "postgres").exists()
    assert running(stack.env) is None


@pytest.mark.parametrize(
    ("variable", "url"),
    [
        ("DATABASE_URL", "postgres://u:hunter2@127.0.0.1:1/x"),
        ("REDIS_URL", "redis://:hunter2@127.0.0.1:1/0"),
    ],
)
def test_unreachable_server_of_ones_own_is_one_sentence(make: Make, variable: str, url: str) -> None:
    with pytest.raises(ServiceError) as caught:
        make(**{variable: SecretStr(url)}).start()
    assert str(caught.value).startswith(f"{variable} does not answer (")
    assert "correct the variable" in str(caught.value)
    assert "hunter2" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_full_disk_is_told_before_anything_starts(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stack_module, "_NEEDED_BYTES", 10**18)
    with pytest.raises(ServiceError, match="MB free: make room"):
        make("valkey").start()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small disk")
def test_disk_that_fills_while_services_start_is_told_as_such(fresh_var: Path, make: Make) -> None:
    fresh_var.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400m,mode=700", "tmpfs", str(fresh_var)], check=True)
    try:
        stack = make("postgres", "migrations")
        stack._report = lambda news: fill(fresh_var / "filler") if news.name == "migrations" else None
        with pytest.raises(ServiceError) as caught:
            stack.start()
    finally:
        subprocess.run(["umount", "--lazy", str(fresh_var)], check=True)
    assert re.fullmatch(rf"{fresh_var} has only \d+ MB free: make room \(300 MB or more\), .*", str(caught.value))


def test_data_directory_that_goes_while_services_start_leaves_nothing_running(fresh_var: Path, make: Make) -> None:
    stack = make("valkey", "setup")
    started: list[int] = []

    def take_away() -> None:
        started.append(pids(stack)["valkey"])
        fresh_var.rename(fresh_var.with_name("elsewhere"))
        raise ValueError("no prompts")

    stack._set_up = take_away
    with pytest.raises(ServiceError, match=rf"^cannot write {fresh_var} \(No such .*set EKLAVYA_VAR"):
        stack.start()
    assert len(started) == 1
    assert not psutil.pid_exists(started[0])


def fill(path: Path) -> None:
    """Take all the room there is."""
    free = shutil.disk_usage(path.parent).free
    if free:
        with path.open("ab") as file:
            os.posix_fallocate(file.fileno(), file.tell(), free)


@pytest.fixture
def lowly(services: Services) -> Iterator[str]:
    """The address of a database in which its role may do nothing but connect."""
    with psycopg.connect(services.database_url, dbname="postgres", autocommit=True) as database:
        database.execute("CREATE ROLE lowly LOGIN")
        database.execute("CREATE DATABASE lowly")
        host = database.info.host
        yield f"postgres://lowly@/lowly?host={host}"
        database.execute("DROP DATABASE lowly WITH (FORCE)")
        database.execute("DROP ROLE lowly")


def test_role_that_may_make_no_tables_is_told_what_it_lacks(make: Make, lowly: str, services: Services) -> None:
    with pytest.raises(ServiceError) as caught:
        make("migrations", DATABASE_URL=SecretStr(lowly)).start()
    said = str(caught.value)
    assert said.startswith("the role “lowly” of DATABASE_URL may not make tables: let a superuser run `ALTER DATABASE")
    assert "\n" not in said
    advice = said.split("`")[1]
    with psycopg.connect(services.database_url, dbname="postgres", autocommit=True) as database:
        database.execute(advice)
    check_rights(lowly)


def test_role_that_may_not_read_is_told_what_it_lacks(make: Make, lowly: str, services: Services) -> None:
    url = psycopg.conninfo.make_conninfo(services.database_url, dbname="lowly")
    with psycopg.connect(url) as database:
        database.execute("CREATE TABLE django_migrations (app text, name text)")
    with pytest.raises(ServiceError, match=r"^the role “lowly” of DATABASE_URL may not read .*database_roles"):
        make("migrations", DATABASE_URL=SecretStr(lowly)).start()


def test_data_directory_that_cannot_be_written_is_one_sentence(fresh_var: Path, make: Make) -> None:
    fresh_var.touch()
    with pytest.raises(ServiceError, match=r"cannot write .*set EKLAVYA_VAR"):
        make("valkey").start()


def test_stop_while_starting_leaves_nothing(make: Make) -> None:
    stack = make("valkey")
    stack.request_stop()
    with pytest.raises(StopRequested):
        stack.start()
    assert running(stack.env) is None
    assert redis_problem(valkey_url(stack.var))


def test_migrations_are_counted_and_then_up_to_date(make: Make) -> None:
    reports: list[Report] = []
    first = make("postgres", "migrations", reports=reports)
    first.start()
    done = next(report for report in reports if report.name == "migrations" and report.state == "ready")
    assert int(done.detail.removesuffix(" applied")) > 20
    first.stop()
    make("postgres", "migrations", reports=reports).start()
    assert reports[-1].detail == "up to date"


def test_migrations_without_a_database_say_which_is_missing(make: Make) -> None:
    with pytest.raises(ServiceError, match=r"does not answer: .*started-by-make-run"):
        make("migrations").start()


def test_failing_command_shows_its_last_line(make: Make) -> None:
    # no database runs on this data directory
    with pytest.raises(ServiceError, match=r"Set-up failed: .*\(log: .*setup\.log\)"):
        make("setup").start()


def test_set_up_that_breaks_is_one_sentence_and_leaves_nothing(make: Make) -> None:
    def broken() -> None:
        raise ValueError("no prompt\nfor the tester")

    stack = make("valkey", "setup")
    stack._set_up = broken
    with pytest.raises(ServiceError, match=r"^Set-up failed: ValueError: no prompt for the tester \(logs: .*/logs\)$"):
        stack.start()
    assert redis_problem(valkey_url(stack.var))


def test_stop_is_heard_while_the_set_up_waits(make: Make) -> None:
    stack = make("postgres", "setup")
    ended = threading.Event()

    def wait_for_a_lock() -> None:
        url = postgres_url(stack.var)
        try:
            with psycopg.connect(url) as holder, psycopg.connect(url) as waiting:
                holder.execute("SELECT pg_advisory_lock(1)")
                stack.request_stop()
                waiting.execute("SET lock_timeout = '20s'")
                waiting.execute("SELECT pg_advisory_lock(1)")
        finally:
            ended.set()

    stack._set_up = wait_for_a_lock
    with pytest.raises(StopRequested):
        stack.start()
    assert ended.wait(20)  # with its server
    assert running(stack.env) is None
    assert database_problem(postgres_url(stack.var))


def test_set_up_that_exits_is_not_taken_for_done(make: Make) -> None:
    stack = make("valkey", "setup")
    stack._set_up = lambda: sys.exit(3)
    with pytest.raises(ServiceError, match=r"^Set-up failed: SystemExit: 3 "):
        stack.start()


def test_hook_runs_while_the_servers_still_answer(make: Make) -> None:
    stack = make("valkey")
    seen: list[str] = []
    stack._on_stop = lambda: seen.append(redis_problem(valkey_url(stack.var)))
    stack.start()
    stack.stop()
    assert seen == [""]


def test_what_outlives_the_parts_is_ended_at_each_stop_and_what_is_left_is_kept_in_mind(make: Make) -> None:
    stack = make("valkey")
    stack._end_rest = lambda: ["the sandboxes demo-1 still run; run: docker rm --force demo-1"]
    stack.start()
    stack.request_stop()
    stack.request_stop()  # at once
    stack.stop()

    assert stack.left == ["the sandboxes demo-1 still run; run: docker rm --force demo-1"]
    assert redis_problem(valkey_url(stack.var))
    assert (stack.var / "run" / "eklavya.json").exists()


def test_clean_up_that_breaks_is_told_and_the_servers_stop_nevertheless(make: Make) -> None:
    def broken() -> list[str]:
        raise RuntimeError("no disk")

    stack = make("valkey")
    stack._end_rest = broken
    stack.start()
    stack.stop()

    assert stack.left == ["what agents and previews run could not be ended (RuntimeError: no disk)"]
    assert redis_problem(valkey_url(stack.var))


def test_what_a_part_left_in_its_session_is_ended_with_it(make: Make) -> None:
    stack = make("valkey")
    stack.start()
    orphan = subprocess.Popen(["sh", "-c", "sleep 60 & sleep 60"], start_new_session=True)
    leave_record(stack.var, pid=orphan.pid, created=psutil.Process(orphan.pid).create_time())
    found = [one for one in psutil.process_iter() if is_in_session(one, orphan.pid)]

    stack.stop()

    assert wait_gone(found, seconds=5) == []
    assert stack.left == []
    orphan.wait()


def test_stack_that_was_refused_ends_nothing_of_the_one_that_runs(make: Make) -> None:
    first, second = make("valkey"), make("valkey")
    first.start()
    with pytest.raises(AlreadyRunning):
        second.start()
    second.stop()
    assert redis_problem(valkey_url(first.var)) == ""
    assert running(first.env) is not None


def test_unknown_component_is_a_mistake(make: Make) -> None:
    with pytest.raises(AssertionError, match="no such components"):
        make("webb")
