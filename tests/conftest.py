"""What all tests share: the servers, the database's rules, and what a machine must have for some of them."""

import gc
import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator
from itertools import chain, groupby
from pathlib import Path
from typing import Any

import docker
import httpx
import httpx2
import pytest
import redis
from django.conf import settings
from django.db import connection
from django.test import TransactionTestCase
from docker.errors import DockerException
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings
from pytest_django import DjangoDbBlocker
from servestatic.middleware import ServeStaticMiddleware

from agents.runtimes.docker_waiting import knock
from agents.runtimes.errors import RuntimeProblem
from eklavya.services.testing import Services, TestServers
from tests.copying import migrated_database
from tests.emptying import empty_database

CHROMIUM = "/usr/bin/chromium"
WORKER = "PYTEST_XDIST_WORKER"
# Modules that take longest, roughly in that order: begun last, one of them would keep a single core busy at the end.
LONG = (
    "e2e/test_line.py",
    "chaos/test_chaos.py",
    "agents/supervisor/test_misbehaving_model.py",
    "agents/supervisor/test_interrupted_runs.py",
    "agents/remote/test_live.py",
    "hostile/test_attacks.py",
    "agents/test_role_matrix.py",
    "e2e/test_browser.py",  # not beside the other whole lines: each has a stack of eight processes
    "eklavya/test_run_command.py",
    "agents/supervisor/test_refused_changes.py",
    "agents/supervisor/test_session.py",
    "agents/supervisor/test_standby.py",
    "agents/supervisor/test_kinds_of_tasks.py",
    "agents/remote/test_remote_runs.py",
    "agents/supervisor/test_steps.py",
    "agents/rehearsal/test_rehearsal_cli.py",
    "test_admin_pages.py",
    "accounts/test_walk.py",
    "agents/runtimes/test_conformance.py",
    "eklavya/test_services_stack.py",
    "eklavya/test_backups.py",
    "agents/supervisor/test_evaluate.py",
    "agents/rehearsal/test_rehearsal_builder.py",
    "eklavya/test_bootstrap.py",
    "demos/test_demos_proxy.py",
)
SERVERS = pytest.StashKey[TestServers]()
# On a busy machine, Hypothesis takes an example of 200 ms for a failure, and slow making of examples for another.
hypothesis_settings.register_profile("no clock", deadline=None, suppress_health_check=[HealthCheck.too_slow])
hypothesis_settings.load_profile("no clock")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--no-skips", action="store_true", help="fail when a test is skipped")


def pytest_configure(config: pytest.Config) -> None:
    """Start the servers: PostgreSQL once, by the process that makes the others, and a Valkey in each one."""
    worker = os.environ.get(WORKER)
    servers = TestServers()
    config.stash[SERVERS] = servers
    if config.option.collectonly or settings.SETTINGS_MODULE != "tests.settings":
        return
    if not worker and not os.environ.get("DATABASE_URL_TEST"):
        servers.start_postgres(Path(os.environ["EKLAVYA_TEST_BASE"]) / "postgres")
    if worker or not config.getoption("numprocesses", None):
        servers.start_valkey(Path(os.environ["EKLAVYA_VAR"]))


def pytest_unconfigure(config: pytest.Config) -> None:
    config.stash[SERVERS].stop()


@pytest.fixture(scope="session")
def _migrated_once(django_db_modify_db_settings: None, django_db_blocker: DjangoDbBlocker) -> None:
    """Of several processes one migrates."""
    if WORKER in os.environ and not os.environ.get("DATABASE_URL_TEST"):
        with django_db_blocker.unblock():
            connection.settings_dict["TEST"]["TEMPLATE"] = migrated_database(Path(os.environ["EKLAVYA_TEST_BASE"]))


@pytest.fixture(scope="session")
def django_db_setup(_migrated_once: None, django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[None]:
    """In the end, end the sessions that threads and servers of tests left behind: nobody could drop the database."""
    yield
    with django_db_blocker.unblock(), connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )


@pytest.fixture(scope="session")
def services() -> Services:
    """The running PostgreSQL and Valkey, for tests that talk to them without Django."""
    return Services(
        var=Path(os.environ["EKLAVYA_VAR"]),
        database_url=os.environ["DATABASE_URL"],
        redis_url=settings.REDIS_URL,
    )


@pytest.fixture(autouse=True)
def _no_runner_is_left() -> Iterator[None]:
    """Fail the test that leaves a runner of workflows in this process: it would do the nodes of every test after it."""
    yield
    left = [thread for thread in threading.enumerate() if thread.name == "workflows"]
    for thread in left:
        thread.join(timeout=10)
    assert not any(thread.is_alive() for thread in left), "stop the runner that this test began: hosting.stop()"


@pytest.fixture(scope="session")
def _broker() -> Iterator[redis.Redis]:
    with redis.from_url(settings.REDIS_URL) as client:
        yield client


@pytest.fixture(autouse=True)
def _no_message_is_left(_broker: redis.Redis) -> Iterator[None]:
    """What a test sent to workers is nothing to the worker that a later one begins."""
    yield
    _broker.delete(settings.CELERY_TASK_DEFAULT_QUEUE, settings.EKLAVYA_WORKER_QUEUE)


@pytest.fixture
def fresh_var() -> Iterator[Path]:
    """A data directory for servers of the test's own.

    Not below tmp_path: pytest closes that to others again and again, and as root PostgreSQL is another user.
    """
    path = Path(tempfile.mkdtemp(dir=os.environ["EKLAVYA_TEST_BASE"]))
    yield path / "var"
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="session", autouse=True)
def _empty_quickly() -> Iterator[None]:
    """Tests with real transactions empty the tables at their end."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TransactionTestCase, "_fixture_teardown", lambda self: empty_database())
        yield


@pytest.fixture(scope="session", autouse=True)
def _static_files_are_found_once() -> Iterator[None]:
    """Each test's client makes the middleware anew, which looks at all static files: half of such a test's work."""
    find = ServeStaticMiddleware.add_files_from_finders
    found: dict[tuple[object, ...], tuple[dict[str, Any], list[Any]]] = {}

    def find_once(self: ServeStaticMiddleware) -> None:
        key = (self.static_prefix, self.static_root, self.autorefresh, self.max_age)
        if key not in found:
            find(self)
            found[key] = (self.files, self.directories)
        self.files, self.directories = dict(found[key][0]), list(found[key][1])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ServeStaticMiddleware, "add_files_from_finders", find_once)
        yield


@pytest.fixture(scope="session", autouse=True)
def _certificates_are_loaded_once() -> Iterator[None]:
    """Each client of HTTP loads the machine's certificates: 20 ms of work, for tests that talk to this machine only."""
    with pytest.MonkeyPatch.context() as patch:
        for library in (httpx, httpx2):
            patch.setattr(
                f"{library.__name__}._transports.default.create_ssl_context", _once(library.create_ssl_context)
            )
        yield


def _once(make: Callable[..., Any]) -> Callable[..., Any]:
    made: dict[tuple[object, ...], Any] = {}

    def get(verify: object = True, cert: object = None, trust_env: bool = True) -> Any:
        if verify is not True or cert is not None:
            return make(verify=verify, cert=cert, trust_env=trust_env)
        key = (trust_env, os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR"))
        if key not in made:
            made[key] = make(trust_env=trust_env)
        return made[key]

    return get


@pytest.fixture(scope="session")
def browser_type_launch_args() -> dict[str, object]:
    """Chromium as installed. Without its talk to the outside; and root may not use its sandbox."""
    quiet = ["background-networking", "component-update", "sync", "quic"]
    arguments = ["--no-first-run", *(f"--disable-{name}" for name in quiet)]
    if os.geteuid() == 0:
        arguments.append("--no-sandbox")
    return {"executable_path": CHROMIUM, "args": arguments}


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip, by name and with the reason, what this machine cannot run; of several processes, begin with long modules.

    The others stay in the order that they were shuffled into, but for what is marked `last`.
    """
    for marker, problem in (("docker", docker_problem), ("browser", browser_problem)):
        marked = [item for item in items if item.get_closest_marker(marker)]
        if marked and (reason := problem()):
            for item in marked:
                item.add_marker(pytest.mark.skip(reason=reason))
    ordered = [sorted(group, key=_is_last) for _, group in groupby(items, key=lambda item: item.parent)]
    items[:] = chain.from_iterable(ordered)
    if WORKER in os.environ:
        rank = {Path(__file__).parent / name: at for at, name in enumerate(LONG)}
        assert all(path.exists() for path in rank), "tests/conftest.py: LONG names a module that is gone"
        items.sort(key=lambda item: rank.get(item.path, len(rank)))


@pytest.hookimpl(tryfirst=True)
def pytest_collection() -> None:
    """Nothing that is loaded now goes away: the garbage collector would look in vain."""
    if WORKER in os.environ:
        gc.disable()


def pytest_collection_finish() -> None:
    """What was loaded so far stays: the collector need not look through it again and again."""
    gc.enable()
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 20)


def _is_last(item: pytest.Item) -> bool:
    return item.get_closest_marker("last") is not None


def docker_problem() -> str:
    """Why tests marked `docker` cannot run here; empty when they can."""
    try:
        knock()  # where nobody is, docker's own client leaves a socket open, and some later test is blamed for it
        client = docker.from_env(timeout=10)
    except (DockerException, RuntimeProblem) as error:
        return f"no Docker daemon answers: {error}"
    try:
        client.images.get(settings.EKLAVYA_IMAGE)
    except DockerException as error:
        return f"the sandbox image is missing (make image): {error}"
    finally:
        client.close()
    return ""


def browser_problem() -> str:
    """Why tests marked `browser` cannot run here; empty when they can."""
    return "" if Path(CHROMIUM).exists() else f"{CHROMIUM} is missing: install chromium"


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """With --no-skips, a skipped test fails the run."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if session.config.option.no_skips and reporter and reporter.stats.get("skipped"):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if config.option.no_skips and (skipped := terminalreporter.stats.get("skipped")):
        terminalreporter.write_line(f"{len(skipped)} tests were skipped, and --no-skips allows none", red=True)
