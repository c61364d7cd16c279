"""Small real projects, committed, and a place to verify them in."""

from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest

from agents.runtimes.contract import Runtime
from agents.runtimes.local import LocalRuntime
from agents.verification import Place
from agents.workspace.repository import Repository
from agents.workspace.values import Author

MANIFEST = """\
[project]
name = "Small"
[commands]
test = "python3 -m unittest discover -s tests -t ."
start = "python3 -m app"
[health]
path = "/health"
"""

APP = '''\
"""Serves its one page, and counts visits in a file."""

import os
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path


def greeting() -> str:
    return "hello"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        visits = Path(os.environ["DATA_DIR"]) / "visits"
        visits.write_text("one more")
        self.send_response(200 if self.path == "/health" else 404)
        self.end_headers()
        self.wfile.write(greeting().encode())


if __name__ == "__main__":
    print("serving")
    HTTPServer((os.environ["HOST"], int(os.environ["PORT"])), Handler).serve_forever()
'''

TESTS = """\
import unittest

from app.__main__ import greeting


class GreetingTest(unittest.TestCase):
    def test_says_hello(self):
        self.assertEqual(greeting(), "hello")

    def test_is_short(self):
        self.assertLess(len(greeting()), 10)
"""

PROJECT = {
    "eklavya.toml": MANIFEST,
    "app/__init__.py": "",
    "app/__main__.py": APP,
    "tests/__init__.py": "",
    "tests/test_greeting.py": TESTS,
}


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    made = Repository(tmp_path / "canonical.git")
    made.create()
    return made


@pytest.fixture
def commit(repository: Repository, tmp_path: Path) -> Callable[..., str]:
    """Commit the small project with some of its files replaced, or left out where None is given."""
    numbers = count()

    def commit(replaced: dict[str, str | None] | None = None) -> str:
        run_id = f"run-{next(numbers)}"
        clone = tmp_path / run_id
        author = Author("Dev", "dev@agents.invalid")
        repository.clone_for_run(run_id, clone, author=author)
        for name, content in (PROJECT | (replaced or {})).items():
            if content is not None:
                (clone / name).parent.mkdir(parents=True, exist_ok=True)
                (clone / name).write_text(content)
        return repository.collect(run_id, clone, author=author).commit

    return commit


@pytest.fixture
def runtime(tmp_path: Path) -> Iterator[Runtime]:
    made = LocalRuntime(state_dir=tmp_path / "sandboxes")
    yield made
    left = made.list_sandboxes()
    for name in left:
        made.kill(name)
    assert left == ()


@pytest.fixture
def place(runtime: Runtime, tmp_path: Path) -> Iterator[Place]:
    scratch = tmp_path / "scratch"
    yield Place(runtime=runtime, name="verify-1", project="small", scratch=scratch)
    assert not scratch.exists() or list(scratch.iterdir()) == []
