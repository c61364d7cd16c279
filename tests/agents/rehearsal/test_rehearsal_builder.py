"""The applications that the rehearsal model hands in: their own tests, their pages, and how their parts merge."""

import contextlib
import os
import re
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from agents.rehearsal import builder
from tests.agents.rehearsal.rehearsal_support import TOOL_LIBRARY, git, repository, run_app_tests, write_files

BRIEFS = {
    "tools": TOOL_LIBRARY,
    "rental": "A bike rental shop wants to manage bikes, customers and rentals in euros. Show a report and a calendar.",
    "shelter": 'Something called "Paws & Co" for an animal shelter to track dogs, volunteers, donations and adoptions',
    "recipes": "Recipes with title, minutes, servings and steps for our cooking club; members order dishes",
    "hostile": "\"; import os # '''\\ <script>alert(1)</script> ../../etc {x} %s 🎉 manage tables, orders, indexes",
    "foreign": "قائمة الكتب في المكتبة مع المؤلف وتاريخ الإعارة 🎉 \u202e",
    "empty": "",
}
PARTS = {
    "storage": builder.storage_files,
    "pages": builder.page_files,
    "report": builder.report_files,
    "calendar": builder.calendar_files,
}


@contextlib.contextmanager
def started(directory: Path, data_dir: Path) -> Iterator[str]:
    """The URL of the application, started as its contract says."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {"PATH": os.environ["PATH"], "HOST": "127.0.0.1", "PORT": str(port), "DATA_DIR": str(data_dir)}
    process = subprocess.Popen([sys.executable, "-m", "app"], cwd=directory, env=environment, stderr=subprocess.PIPE)
    try:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            time.sleep(0.02)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.communicate(timeout=60)


def fetch(url: str, form: dict[str, str] | None = None) -> tuple[int, str]:
    """Status and text of a page."""
    data = urllib.parse.urlencode(form).encode() if form else None
    try:
        with urllib.request.urlopen(url, data, timeout=60) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


@pytest.mark.parametrize("brief", BRIEFS.values(), ids=BRIEFS.keys())
def test_the_demo_passes_its_tests(brief: str, tmp_path: Path) -> None:
    write_files(tmp_path, builder.build_app(brief))

    output = run_app_tests(tmp_path)

    assert int(re.findall(r"Ran (\d+) tests", output)[0]) >= 20


@pytest.mark.parametrize("brief", [BRIEFS["rental"], BRIEFS["hostile"]], ids=["rental", "hostile"])
def test_the_finished_application_passes_its_tests(brief: str, tmp_path: Path) -> None:
    write_files(tmp_path, builder.build_app(brief, ["Rename it to <b>Velo</b>, make it green and add a colour"]))
    for part in PARTS.values():
        write_files(tmp_path, part())
    write_files(tmp_path, builder.template("end_to_end"))
    write_files(tmp_path, builder.topic_files("audit_trail", 'What is "new" <b>', "x" * 500))

    output = run_app_tests(tmp_path)

    assert int(re.findall(r"Ran (\d+) tests", output)[0]) >= 50
    assert "skipped" not in output


@pytest.mark.parametrize("part", PARTS)
def test_each_part_alone_passes_the_tests(part: str, tmp_path: Path) -> None:
    write_files(tmp_path, builder.build_app(TOOL_LIBRARY))
    write_files(tmp_path, PARTS[part]())

    run_app_tests(tmp_path)


def test_parts_made_side_by_side_merge_without_a_conflict(tmp_path: Path) -> None:
    workspace = repository(tmp_path / "work")
    write_files(workspace, builder.build_app(TOOL_LIBRARY))
    git(workspace, "add", "-A")
    git(workspace, "commit", "-q", "-m", "Demo")
    branches = {**PARTS, "guide": lambda: {"docs/user-guide.md": "x\n", "README.md": "y\n"}}
    for name, files in branches.items():
        git(workspace, "checkout", "-q", "-b", name, "main")
        write_files(workspace, files())
        git(workspace, "add", "-A")
        git(workspace, "commit", "-q", "-m", name)
    git(workspace, "checkout", "-q", "main")

    for name in branches:
        git(workspace, "merge", "-q", "--no-ff", "-m", f"Merge {name}", name)

    run_app_tests(workspace)


def test_data_of_the_demo_is_kept_by_the_finished_application(tmp_path: Path) -> None:
    write_files(tmp_path, builder.build_app(TOOL_LIBRARY))
    with started(tmp_path, tmp_path / "data") as url:
        assert fetch(f"{url}/tools/new", {"name": "My own anvil"})[0] == 200
    write_files(tmp_path, builder.build_app(TOOL_LIBRARY, ["Add a colour to each tool"]))
    write_files(tmp_path, {**builder.storage_files(), **builder.page_files()})

    with started(tmp_path, tmp_path / "data") as url:
        assert "My own anvil" in fetch(f"{url}/tools?q=anvil")[1]


def test_nothing_of_a_hostile_brief_becomes_markup(tmp_path: Path) -> None:
    attack = '<script>alert("x")</script>'
    brief = f"A shop called {attack} to track tools{attack} with a {attack} price. {attack}"
    write_files(tmp_path, builder.build_app(brief, [attack, f'rename it to "{attack}"']))

    with started(tmp_path, tmp_path / "data") as url:
        status, home = fetch(url)

    assert status == 200
    assert "<script" not in home
    assert "&lt;script&gt;" in home


def test_every_page_opens_and_a_record_can_be_added(tmp_path: Path) -> None:
    write_files(tmp_path, builder.build_app(BRIEFS["rental"]))

    with started(tmp_path, tmp_path / "data") as url:
        for path in ("/", "/bikes", "/customers", "/rentals", "/bikes/new", "/rentals/new", "/static/style.css"):
            assert fetch(url + path)[0] == 200, path
        status, text = fetch(f"{url}/bikes/new", {"name": "Penny-farthing", "price_per_day": "7,50"})

    assert (status, "Penny-farthing" in text, "€7.50" in text) == (200, True, True)


def test_the_generated_code_is_clean(tmp_path: Path) -> None:
    write_files(tmp_path, builder.build_app(BRIEFS["rental"], ["Add a colour"]))
    for part in PARTS.values():
        write_files(tmp_path, part())
    write_files(tmp_path, {**builder.template("end_to_end"), **builder.topic_files("news", "News", "What is new")})
    rules = ["--isolated", "--line-length", "130", "--select", "E,F,W,I,UP,B,SIM,C4,RUF,T20,A,C90"]
    mypy = ["--strict", "--no-incremental", "--config-file", os.devnull, "--cache-dir", os.devnull]

    ruff = subprocess.run(
        [sys.executable, "-m", "ruff", "check", *rules, "."], cwd=tmp_path, capture_output=True, text=True
    )
    types = subprocess.run([sys.executable, "-m", "mypy", *mypy, "app"], cwd=tmp_path, capture_output=True, text=True)

    assert ruff.returncode == 0, ruff.stdout
    assert types.returncode == 0, types.stdout
