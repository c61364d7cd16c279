"""Real small projects, observed: what passes, and each way in which a commit fails."""

import hashlib
import shutil
import threading
from dataclasses import replace

import psutil
import pytest

from agents.runtimes.contract import SandboxSpec
from agents.runtimes.errors import RuntimeProblem, ServiceFailed
from agents.verification import Times, verify
from agents.workspace.errors import UnknownCommit

QUICK = Times(test_s=120, start_s=120)
# What does not end is ended after so long; on a busy machine it may not even have begun by then.
PATIENCE_S = (2, 20)


def manifest(*, test: str = "echo 'Ran 1 test in 0.0s'", start: str = "python3 -m app") -> str:
    return f"[commands]\ntest = '''{test}'''\nstart = '''{start}'''\n[health]\npath = '/health'\n"


@pytest.fixture
def observe(repository, commit, place):
    def observe(replaced=None, *, require_app=True, times=QUICK):
        return verify(repository, commit(replaced), place=place, require_app=require_app, times=times)

    return observe


def test_a_working_project_passes(repository, commit, place):
    made = commit()
    result = verify(repository, made, place=place, require_app=True, times=QUICK)
    assert (result.passed, result.reason, result.commit) == (True, "ok", made)
    assert result.tree == repository.tree_sha(made)
    assert result.tests_run == 2
    assert result.started
    assert "Ran 2 tests" in result.test_output_tail
    assert "serving" in result.start_output_tail
    assert result.detail.startswith("2 tests passed in ")
    assert 0 < result.test_duration_s < QUICK.test_s


def test_the_digest_is_of_the_output(observe):
    result = observe({"eklavya.toml": manifest()})
    assert result.test_output_sha256 == hashlib.sha256(b"Ran 1 test in 0.0s\n").hexdigest()


def test_a_failing_test_fails(observe):
    result = observe(
        {"tests/test_greeting.py": "import unittest\nclass T(unittest.TestCase):\n  def test(self): 1/0\n"}
    )
    assert (result.passed, result.reason, result.tests_run) == (False, "tests_failed", 1)
    assert "ZeroDivisionError" in result.test_output_tail


def test_tests_and_application_run_beside_each_other(observe, tmp_path):
    """Each waits for the other: one after the other, neither would end."""
    meet = "touch {0}/{1}; until [ -e {0}/{2} ]; do sleep 0.05; done"
    test = meet.format(tmp_path, "tests", "app") + "; echo 'Ran 1 test in 0.0s'"
    start = meet.format(tmp_path, "app", "tests") + "; exec python3 -m app"
    assert observe({"eklavya.toml": manifest(test=test, start=start)}).passed


def test_when_the_tests_fail_nobody_waits_for_the_application(observe, tmp_path):
    test = f"until [ -e {tmp_path}/app ]; do sleep 0.05; done; echo 'Ran 1 test in 0.0s'; exit 1"
    start = f"touch {tmp_path}/app; sleep 600"
    result = observe({"eklavya.toml": manifest(test=test, start=start)}, times=Times(test_s=60, start_s=600))
    assert (result.reason, result.started) == ("tests_failed", False)


@pytest.fixture
def given_up(runtime, monkeypatch):
    """Set once the thread that ran the tests has killed the application's sandbox, be it there or not."""
    real, given_up = runtime.kill, threading.Event()

    def kill(name):
        real(name)
        if name == "verify-1-app" and threading.current_thread() is threading.main_thread():
            given_up.set()

    monkeypatch.setattr(type(runtime), "kill", lambda self, name: kill(name))
    return given_up


FAILING = {"eklavya.toml": manifest(test="echo 'Ran 1 test in 0.0s'; exit 1", start="sleep 600")}


def test_an_application_that_begins_after_it_was_given_up_is_not_waited_for(observe, runtime, given_up, monkeypatch):
    """As with a container that takes a moment to be made."""
    real, ended = runtime.start, []

    def start(spec, command, *, wait_s):
        assert given_up.wait(60)
        try:
            return real(spec, command, wait_s=wait_s)
        except ServiceFailed:
            ended.append(spec.name)
            raise

    monkeypatch.setattr(type(runtime), "start", lambda self, *args, **named: start(*args, **named))
    assert observe(FAILING, times=Times(test_s=60, start_s=8)).reason == "tests_failed"
    assert ended == ["verify-1-app"]


def test_an_application_that_was_given_up_is_not_started(observe, runtime, given_up, monkeypatch):
    real_make, real_start, started = runtime.make_directory, runtime.start, []

    def make_directory(root, *, disk_mb):
        assert "-app-" not in root.name or given_up.wait(60)
        real_make(root, disk_mb=disk_mb)

    def start(spec, command, *, wait_s):
        started.append(spec.name)
        return real_start(spec, command, wait_s=wait_s)

    monkeypatch.setattr(type(runtime), "make_directory", lambda self, *args, **named: make_directory(*args, **named))
    monkeypatch.setattr(type(runtime), "start", lambda self, *args, **named: start(*args, **named))
    assert observe(FAILING, times=Times(test_s=60, start_s=8)).reason == "tests_failed"
    assert started == []


def test_an_application_that_cannot_be_killed_is_not_asked_for_its_health(observe, runtime, tmp_path, monkeypatch):
    """Whoever gives it up cannot end it; its own thread hears of that, and ends it."""
    real = runtime.kill

    def kill(name):
        if name == "verify-1-app" and threading.current_thread() is threading.main_thread():
            raise RuntimeProblem("the daemon does not answer")
        real(name)

    monkeypatch.setattr(type(runtime), "kill", lambda self, name: kill(name))
    test = f"until [ -e {tmp_path}/app ]; do sleep 0.05; done; echo 'Ran 1 test in 0.0s'; exit 1"
    health = manifest(test=test, start=f"touch {tmp_path}/app; python3 -m app").replace("/health", "/missing")
    result = observe({"eklavya.toml": health}, times=Times(test_s=60, start_s=600))
    assert (result.reason, result.started) == ("tests_failed", False)


def test_a_directory_that_stays_is_told_also_when_the_tests_failed(observe, runtime, monkeypatch, caplog):
    real = runtime.remove_directory

    def remove_directory(root):
        real(root)
        if "-app-" in root.name:
            raise RuntimeProblem("something holds the volume")

    monkeypatch.setattr(type(runtime), "remove_directory", lambda self, root: remove_directory(root))
    assert observe(FAILING).reason == "tests_failed"
    assert "The application of verify-1 could not be started or cleared away" in caplog.text
    assert "something holds the volume" in caplog.text


def test_a_suite_without_tests_fails(observe):
    result = observe({"tests/test_greeting.py": ""})
    assert (result.reason, result.tests_run) == ("no_tests_ran", 0)
    assert "Ran 0 tests" in result.test_output_tail


def test_a_suite_that_skips_everything_fails(observe):
    skipped = "import unittest\n@unittest.skip('later')\nclass T(unittest.TestCase):\n  def test(self): pass\n"
    assert observe({"tests/test_greeting.py": skipped}).reason == "no_tests_ran"


def test_a_command_that_tests_nothing_fails(observe):
    assert observe({"eklavya.toml": manifest(test="true")}).reason == "no_tests_ran"


def test_tests_that_never_end_are_stopped(observe):
    for test_s in PATIENCE_S:
        result = observe({"eklavya.toml": manifest(test="echo begun; sleep 60")}, times=replace(QUICK, test_s=test_s))
        assert result.reason == "tests_timed_out"
        if result.test_output_tail:
            break
    assert result.test_output_tail == "begun\n"
    assert result.detail == f"The tests did not end within {test_s} s."


def test_a_long_output_is_kept_at_its_end(observe):
    test = "seq 100000; echo 'Ran 1 test in 0.0s'; printf 'a\\000b'"
    result = observe({"eklavya.toml": manifest(test=test)})
    assert len(result.test_output_tail) == 8000
    assert result.test_output_tail.endswith("Ran 1 test in 0.0s\na\ufffdb")


def test_an_app_that_ends_at_once_fails(observe):
    result = observe({"eklavya.toml": manifest(start="echo no luck; exit 3")})
    assert (result.reason, result.started) == ("start_failed", False)
    assert result.start_output_tail == "no luck\n"
    assert result.tests_run == 1


def test_an_app_that_ends_after_its_first_connection_fails(observe):
    server = (
        "import os, socket\n"
        "s = socket.create_server((os.environ['HOST'], int(os.environ['PORT'])))\n"
        "s.accept()[0].close()\n"
    )
    result = observe({"eklavya.toml": manifest(), "app/__main__.py": server})
    assert result.reason == "start_failed"


def test_an_app_that_answers_something_else_fails(observe):
    health = manifest().replace("/health", "/missing")
    for start_s in PATIENCE_S:
        result = observe({"eklavya.toml": health}, times=replace(QUICK, start_s=start_s))
        assert result.reason == "health_failed"
        if "no HTTP answer" not in result.detail:
            break
    assert result.detail == f"/missing did not answer 200 within {start_s} s; its last answer was 404."


def test_an_app_that_never_listens_fails(observe):
    for start_s in PATIENCE_S:
        times = replace(QUICK, start_s=start_s)
        result = observe({"eklavya.toml": manifest(start="echo waiting; sleep 60")}, times=times)
        assert result.reason == "health_failed"
        assert result.detail.endswith("it gave no HTTP answer.")
        if result.start_output_tail:
            break
    assert result.start_output_tail == "waiting\n"


def test_tests_cannot_prepare_what_is_started(observe):
    test = "echo 'raise SystemExit' > app/__main__.py; touch ../home/data/x; echo 'Ran 1 test in 0.0s'"
    assert observe({"eklavya.toml": manifest(test=test)}).passed


def test_the_checkout_is_what_was_committed(observe):
    test = "find . -name __pycache__ -o -name .git | grep . && exit 1; ls; echo 'Ran 1 test in 0.0s'"
    result = observe({"eklavya.toml": manifest(test=test)})
    assert result.test_output_tail == "README.md\napp\neklavya.toml\ntests\nRan 1 test in 0.0s\n"


def test_a_checkout_that_closes_itself_is_removed(observe):
    test = "mkdir -p a/b; touch a/b/c; ln -s / a/root; chmod 000 a/b a; echo 'Ran 1 test in 0.0s'"
    assert observe({"eklavya.toml": manifest(test=test)}).passed


def test_what_tests_leave_running_is_ended(observe, tmp_path):
    test = f"sleep 60 & echo $! > {tmp_path}/pid; echo 'Ran 1 test in 0.0s'"
    assert observe({"eklavya.toml": manifest(test=test)}).passed
    pid = int((tmp_path / "pid").read_text())
    assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (None, "manifest_missing"),
        ("[commands", "manifest_invalid"),
        ("[commands]\nstart = 'x'\n", "no_test_command"),
        ("[commands]\ntest = 'x'\n", "start_missing"),
    ],
)
def test_what_is_due_and_not_there_is_named(observe, text, reason):
    result = observe({"eklavya.toml": text})
    assert (result.passed, result.reason) == (False, reason)
    assert "eklavya.toml" in result.detail


@pytest.mark.parametrize("text", [None, "[project]\nname = 'Early'\n"])
def test_nothing_is_due_before_the_first_demo(observe, text):
    result = observe({"eklavya.toml": text}, require_app=False)
    assert (result.passed, result.tests_run, result.started) == (True, 0, False)


def test_a_broken_manifest_is_never_fine(observe):
    assert observe({"eklavya.toml": "[commands"}, require_app=False).reason == "manifest_invalid"


def test_tests_that_are_there_count_before_the_first_demo(observe):
    assert observe({"eklavya.toml": "[commands]\ntest = 'exit 4'\n"}, require_app=False).reason == "tests_failed"


def test_a_sandbox_left_by_a_killed_verification_is_cleared(observe, runtime, tmp_path):
    for name in ("workspace", "home"):
        (tmp_path / "left" / name).mkdir(parents=True)
    left = SandboxSpec(
        name="verify-1-app",
        project="small",
        workspace=tmp_path / "left/workspace",
        home=tmp_path / "left/home",
        control=tmp_path / "left/control",
    )
    runtime.start(left, "sleep 60", wait_s=0)
    assert observe().passed


def test_an_unknown_commit_is_refused(repository, place):
    with pytest.raises(UnknownCommit):
        verify(repository, "1" * 40, place=place, require_app=False)


@pytest.mark.skipif(shutil.which("node") is None, reason="needs node")
def test_a_node_project_passes(observe):
    files = {
        "eklavya.toml": manifest(test="node --test", start="python3 -m app"),
        "greeting.test.js": "require('node:test')('is polite', () => {})\n",
        "tests/test_greeting.py": None,
    }
    assert observe(files).tests_run == 1
