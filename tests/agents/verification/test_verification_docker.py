"""The same verification where the kernel holds the boundary, and files belong to another user."""

import pytest

from agents.runtimes.docker import DockerRuntime
from agents.verification import Times, verify

pytestmark = pytest.mark.docker


@pytest.fixture
def runtime(tmp_path):
    made = DockerRuntime(
        state_dir=tmp_path / "sandboxes",
        image="eklavya-sandbox:latest",
        namespace=f"test-{tmp_path.parent.name}-{tmp_path.name}".lower().replace("_", "-")[:60],
        subnets="10.214.0.0/16",
    )
    yield made
    left = made.list_sandboxes()
    for project in made.list_projects():
        made.remove_project(project)
    made.remove_rules()
    assert left == ()


def test_a_working_project_passes_in_a_container(repository, commit, place):
    result = verify(repository, commit(), place=place, require_app=True, times=Times(start_s=30))
    assert (result.reason, result.tests_run, result.started) == ("ok", 2, True)
    assert "serving" in result.start_output_tail


def test_the_tests_have_no_network_and_are_not_root(repository, commit, place):
    check = (
        "import os, socket, unittest\n"
        "class T(unittest.TestCase):\n"
        "    def test_user(self): self.assertNotEqual(os.getuid(), 0)\n"
        "    def test_network(self):\n"
        "        with self.assertRaises(OSError): socket.create_connection(('1.1.1.1', 80), timeout=1)\n"
        "    def test_data(self): open(os.environ['DATA_DIR'] + '/x', 'w').close()\n"
    )
    result = verify(repository, commit({"tests/test_greeting.py": check}), place=place, require_app=True)
    assert (result.reason, result.tests_run) == ("ok", 3), result.test_output_tail


def test_a_failing_start_shows_its_log(repository, commit, place):
    broken = "def greeting(): return 'hello'\nif __name__ == '__main__': raise SystemExit('no luck')\n"
    result = verify(repository, commit({"app/__main__.py": broken}), place=place, require_app=True)
    assert (result.reason, result.start_output_tail.strip()) == ("start_failed", "no luck")
