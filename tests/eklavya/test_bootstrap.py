"""From any Python to the right one, and from the lock to an environment."""

import ast
import json
import subprocess
import sys
import threading
import zipfile
from hashlib import sha256
from pathlib import Path

import pytest

from eklavya import bootstrap
from eklavya.services import venv

SOURCE = Path(bootstrap.__file__)


def test_old_pythons_can_read_it() -> None:
    tree = ast.parse(SOURCE.read_text(encoding="utf-8"), feature_version=(3, 4))
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    assert functions
    assert not any(function.returns or any(arg.annotation for arg in function.args.args) for function in functions)
    assert not any(isinstance(node, ast.JoinedStr) for node in ast.walk(tree))


def test_wrong_python_gets_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bootstrap, "WANTED", (3, 99))
    with pytest.raises(SystemExit) as caught:
        bootstrap.main([])
    assert str(caught.value).startswith("eklavya: needs Python 3.99, and found only 3.11: install it ")
    assert "\n" not in str(caught.value)


def test_program_that_does_not_start_is_no_python(tmp_path: Path) -> None:
    shim = tmp_path / "python3.11"
    shim.write_text("#!/bin/sh\nexit 127\n", encoding="utf-8")
    shim.chmod(0o755)
    assert not bootstrap.is_wanted(str(shim))
    assert bootstrap.is_wanted(sys.executable)


def test_arguments_reach_the_environments_python() -> None:
    # the environment of this test run is complete, so nothing is installed
    command = [sys.executable, str(SOURCE), "--dev", "-c", "import sys; print(sys.prefix, sys.argv[1:])", "a b"]
    result = subprocess.run(command, check=True, capture_output=True, text=True, cwd="/")
    assert result.stdout == f"{sys.prefix} ['a b']\n"


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty checkout whose locks name one package, which lies beside it."""
    for name, path in {
        "ROOT": "",
        "VENV": ".venv",
        "STAMP": ".venv/installed.json",
        "LOG": ".venv/install.log",
    }.items():
        monkeypatch.setattr(venv, name, tmp_path / path)
    wheel = tmp_path / "wheels" / "tiny-1.0-py3-none-any.whl"
    wheel.parent.mkdir()
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("tiny.py", "one = 1\n")
        archive.writestr("tiny-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n")
        archive.writestr("tiny-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr("tiny-1.0.dist-info/RECORD", "")
    lock = f"tiny==1.0 \\\n    --hash=sha256:{sha256(wheel.read_bytes()).hexdigest()}\n"
    for name in ("RUN_LOCK", "DEV_LOCK"):
        monkeypatch.setattr(venv, name, tmp_path / f"{name}.txt")
        (tmp_path / f"{name}.txt").write_text(lock, encoding="utf-8")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheel.parent))
    monkeypatch.setattr(venv, "NEEDED_BYTES", 10_000_000)
    return tmp_path


def test_environment_is_made_once(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    venv.prepare(venv.DEV_LOCK)
    told = capsys.readouterr().err
    assert "installing  1 of 1 packages" in told
    assert "\r" not in told
    python = place / ".venv" / "bin" / "python"
    assert subprocess.run([python, "-c", "import tiny"], check=False).returncode == 0
    # the development environment serves `make run` too
    venv.prepare(venv.RUN_LOCK)
    assert capsys.readouterr().err == ""


def test_changed_lock_is_installed_and_a_failure_is_one_line(place: Path) -> None:
    (place / ".venv").mkdir()
    venv.RUN_LOCK.write_text(
        venv.RUN_LOCK.read_text(encoding="utf-8").replace("tiny==1.0", "tiny==2.0"), encoding="utf-8"
    )
    with pytest.raises(venv.Problem, match=r"eklavya: installing failed: .*tiny.* \(log: .*install\.log\)"):
        venv.prepare(venv.RUN_LOCK)
    assert not venv.STAMP.exists()


def test_stamp_of_another_lock_does_not_count(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (place / ".venv" / "bin").mkdir(parents=True)
    (place / ".venv" / "bin" / "python").touch()
    venv.STAMP.write_text(json.dumps({"RUN_LOCK.txt": "0"}), encoding="utf-8")
    monkeypatch.setattr(venv, "install", lambda lock: (_ for _ in ()).throw(venv.Problem("installs")))
    monkeypatch.setattr(venv, "make_venv", lambda: None)
    with pytest.raises(venv.Problem, match="installs"):
        venv.prepare(venv.RUN_LOCK)


def test_missing_git_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(venv.Problem, match="needs git: install it"):
        venv.check_git()


def test_missing_venv_module_names_debians_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(venv, "find_spec", lambda name: None)
    with pytest.raises(venv.Problem, match=r"apt-get install python3\.11-venv"):
        venv.check_venv_module()


def test_full_disk_is_told_before_installing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(venv, "NEEDED_BYTES", 10**18)
    with pytest.raises(venv.Problem, match=r"GB free, and installing needs .*: make room"):
        venv.check_room()


def test_place_that_cannot_be_written_is_one_line(place: Path) -> None:
    (place / ".venv").touch()
    with pytest.raises(venv.Problem, match=r"cannot write .*\.venv .*: start as the user who owns it"):
        venv.prepare(venv.RUN_LOCK)


def test_environment_of_a_python_that_this_user_may_not_run_is_one_line(fresh_var: Path) -> None:
    place = fresh_var.parent
    place.chmod(0o755)
    (place / ".venv" / "bin").mkdir(parents=True)
    (place / "others").mkdir()
    (place / "others" / "python3.11").touch(mode=0o755)
    (place / ".venv" / "bin" / "python").symlink_to(place / "others" / "python3.11")
    (place / "others").chmod(0o600)
    program = (
        "import os, pathlib; from eklavya.services import venv\n"
        f"venv.ROOT = pathlib.Path({str(place)!r}); venv.VENV = venv.ROOT / '.venv'\n"
        # what is needed is imported by now: this Python may be in a place that only root reaches
        "if os.geteuid() == 0: os.setgid(65534); os.setuid(65534)\n"
        "venv.main(['-c', 'pass'])"
    )
    result = subprocess.run([sys.executable, "-c", program], check=False, capture_output=True, text=True)
    assert result.returncode == 1
    assert result.stderr.startswith(f"eklavya: this user may not run {place}/.venv/bin/python (it was made by ")
    assert result.stderr.count("\n") == 1


def test_unreachable_package_index_is_told_as_such(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # nothing listens there
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.delenv("PIP_FIND_LINKS")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:1/simple")
    monkeypatch.setenv("PIP_RETRIES", "1")
    with pytest.raises(venv.Problem, match=r"the package index could not be reached: .* \(log: .*install\.log\)"):
        venv.prepare(venv.RUN_LOCK)


def test_environment_that_cannot_be_made_names_debians_package(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(venv.sys, "executable", "/bin/false")
    with pytest.raises(venv.Problem, match=r"cannot make virtual environments: .*apt-get install python3\.11-venv"):
        venv.prepare(venv.RUN_LOCK)


def test_unpacking_is_counted(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[str] = []
    told = threading.Event()
    progress = venv.Progress(2)

    def show(what: str) -> None:
        shown.append(what)
        if what.endswith("1 done"):
            told.set()

    monkeypatch.setattr(progress, "show", show)
    with venv.unpacking_counted(progress) as begin:
        (venv.VENV / "lib/python3.11/site-packages/tiny-1.0.dist-info").mkdir(parents=True)
        begin.set()
        assert told.wait(60)
    assert shown[-1] == "unpacking, 1 done"


def test_first_start_speaks_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bootstrap, "ROOT", str(tmp_path))
    monkeypatch.setattr(bootstrap, "WANTED", (3, 99))
    with pytest.raises(SystemExit):
        bootstrap.main([])
    assert capsys.readouterr().err.startswith("Eklavya: looking for Python 3.99 ")
    # afterwards, where nobody watches, it is silent
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv" / "installed.json").touch()
    with pytest.raises(SystemExit):
        bootstrap.main([])
    assert capsys.readouterr().err == ""
