"""From inside a Docker sandbox: the proxy is a way out to what is listed, and there is no other."""

import ensurepip
import io
import shutil
import threading
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from django.db import connection
from pytest_django import Settings

from agents.egress import EgressClass, proxy_environment
from agents.gateway.egress.server import EgressProxy
from agents.models import EgressRecord, Run
from agents.runtimes.contract import Runtime, SandboxSpec
from agents.runtimes.docker import DockerRuntime
from tests.agents.gateway.egress.outside import PUBLIC, Names, Wires, running, wait_for_record, working_run
from tests.agents.gateway.harness import wait_until
from tests.agents.runtimes.conftest import IMAGE, SUBNETS, namespace_of
from tests.factories import NOW

pytestmark = [pytest.mark.docker, pytest.mark.django_db(transaction=True)]
PORT = 23_118
# What programs do with the variables, without their libraries' help or with it.
ASK = """
import sys, urllib.error, urllib.request
for url in sys.argv[1:]:
    try:
        print(urllib.request.urlopen(url, timeout=3).read(200).decode())
    except urllib.error.HTTPError as error:
        print(error.code, error.headers.get("X-Egress-Refused"))
    except OSError as error:
        print("error", error)
"""
TUNNEL = """
import os, sys, urllib.parse, base64, http.client
proxy = urllib.parse.urlsplit(os.environ["HTTPS_PROXY"])
login = base64.b64encode(f"{proxy.username}:{proxy.password}".encode()).decode()
for target in sys.argv[1:]:
    host, port = target.rsplit(":", 1)
    connection = http.client.HTTPConnection(proxy.hostname, proxy.port, timeout=3)
    connection.set_tunnel(host, int(port), {"Proxy-Authorization": f"Basic {login}"})
    try:
        connection.request("GET", "/hello")
        print(connection.getresponse().read().decode())
    except OSError as error:
        print("error", error)
"""


class Registry(BaseHTTPRequestHandler):
    """A package registry with one package, which also sends people away."""

    def do_GET(self) -> None:
        match self.path:
            case "/hello":
                self._answer(200, b"hello from outside")
            case "/simple/tiny/":
                self._answer(200, b'<a href="/tiny-1.0-py3-none-any.whl">tiny-1.0-py3-none-any.whl</a>')
            case "/tiny-1.0-py3-none-any.whl":
                self._answer(200, _wheel())
            case "/away":
                self.send_response(302)
                self.send_header("Location", "http://169.254.169.254/latest/meta-data/")
                self.send_header("Content-Length", "0")
                self.end_headers()
            case _:
                self._answer(404, b"nothing")

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "text/html" if body.startswith(b"<") else "application/octet-stream")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        """Not on the tests' output."""


def _wheel() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as wheel:
        info = "tiny-1.0.dist-info"
        wheel.writestr("tiny.py", "WORD = 'tiny'\n")
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")
    return buffer.getvalue()


@pytest.fixture
def registry() -> Iterator[int]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Registry)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.server_port
    server.shutdown()
    thread.join()
    server.server_close()


@dataclass
class Inside:
    """A run's sandbox in front of the proxy."""

    run: Run
    token: str
    runtime: Runtime
    spec: SandboxSpec
    registry: int
    host: str

    def sh(self, command: str) -> str:
        return self.runtime.run(self.spec, command, timeout_s=60).output

    def ask(self, *urls: str) -> list[str]:
        """What each of these gives, one line each."""
        return self.sh(" ".join(["python3 ask.py", *(f"'{url}'" for url in urls)])).splitlines()


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DockerRuntime]:
    state = tmp_path_factory.mktemp("egress") / "state"
    made = DockerRuntime(
        state_dir=state, image=IMAGE, namespace=namespace_of(state), subnets=SUBNETS, host_ports=(PORT,)
    )
    yield made
    for project in made.list_projects():
        made.remove_project(project)
    made.remove_rules()


@pytest.fixture
def inside(settings: Settings, tmp_path: Path, runtime: DockerRuntime, registry: int) -> Iterator[Inside]:
    settings.EKLAVYA_EGRESS = settings.EKLAVYA_EGRESS | {"packages": "registry.test:80+443,*.files.test:443"}
    names, wires = Names({"registry.test": [[PUBLIC]]}), Wires(registry)
    run, token = working_run()
    host = runtime.host_address("one")
    for name in ("workspace", "home"):
        (tmp_path / name).mkdir()
    (tmp_path / "workspace" / "ask.py").write_text(ASK)
    (tmp_path / "workspace" / "tunnel.py").write_text(TUNNEL)
    spec = SandboxSpec(
        name="egress",
        project="one",
        workspace=tmp_path / "workspace",
        home=tmp_path / "home",
        control=tmp_path / "control",
        env=proxy_environment(EgressClass.PACKAGES, host=host, port=PORT, token=token),
    )
    with ExitStack() as stack:
        stack.enter_context(running(EgressProxy(resolve=names, connect=wires, every_s=0.1), host="0.0.0.0", port=PORT))
        stack.callback(runtime.kill, spec.name)
        yield Inside(run, token, runtime, spec, registry, host)
    connection.close()


def test_what_is_listed_can_be_reached(inside: Inside) -> None:
    assert inside.ask("http://registry.test/hello") == ["hello from outside"]
    assert inside.sh("python3 tunnel.py registry.test:443").strip() == "hello from outside"
    # Git, which is libcurl: it reaches the host, which has no repository.
    assert "not found" in inside.sh("git ls-remote http://registry.test/nothing.git 2>&1")
    wait_for_record(inside.run, ("registry.test", 80, "allowed", ""), ("registry.test", 443, "allowed", ""))


def test_pip_installs_from_a_listed_registry(inside: Inside) -> None:
    (wheel,) = (Path(ensurepip.__file__).parent / "_bundled").glob("pip-*.whl")
    shutil.copy(wheel, inside.spec.workspace)

    options = "--no-cache-dir --disable-pip-version-check --trusted-host registry.test"
    said = inside.sh(
        f"python3 {wheel.name}/pip install {options} --index-url http://registry.test/simple/ --target lib tiny 2>&1"
        " && PYTHONPATH=lib python3 -c 'import tiny; print(tiny.WORD)'"
    )

    assert said.splitlines()[-1] == "tiny", said
    wait_until(lambda: EgressRecord.objects.get(run=inside.run).requests >= 2)


def test_everything_else_cannot(inside: Inside) -> None:
    refused = {
        "http://other.test/": "403 not_listed",
        "http://registry.test:8080/": "403 port_not_listed",
        "http://files.test/": "403 not_listed",
        "http://127.0.0.2/": "403 not_listed",
        "http://2130706433/": "403 address_form",
        "http://0x7f.1/": "403 address_form",
        "http://[::ffff:127.0.0.1]/": "403 not_listed",
        "http://169.254.169.254/latest/meta-data/": "403 not_listed",
        f"http://{PUBLIC}/": "403 not_listed",
        "http://registry.test/away": "403 not_listed",
    }

    assert dict(zip(refused, inside.ask(*refused), strict=True)) == refused
    tunnels = f"registry.test:22 other.test:443 {inside.host}:{PORT} [::1]:443"
    said = inside.sh(f"python3 tunnel.py {tunnels}").splitlines()
    assert [" 403 " in line for line in said] == [True] * 4, said


def test_there_is_no_way_around_the_proxy(inside: Inside) -> None:
    direct = "env -u HTTP_PROXY -u http_proxy -u HTTPS_PROXY -u https_proxy python3 ask.py"

    targets = (f"registry.test:{inside.registry}", f"{inside.host}:{inside.registry}", f"{PUBLIC}:80")
    said = inside.sh(f"{direct} {' '.join(f'http://{target}/hello' for target in targets)}").splitlines()

    assert [line.split(" ")[0] for line in said] == ["error"] * 3, said
    # What of the host does answer is the proxy, and it serves nothing without a token.
    assert inside.sh(f"{direct} http://{inside.host}:{PORT}/hello").startswith("407 ")


def test_a_forged_token_and_that_of_an_ended_run_reach_nothing(inside: Inside) -> None:
    forged = f"http://run:ekr_forged@{inside.host}:{PORT}"
    assert inside.sh(f"http_proxy={forged} python3 ask.py http://registry.test/hello").startswith("407 ")

    Run.objects.filter(pk=inside.run.pk).update(status="failed", reason="x", token_hash="", finished_at=NOW)

    wait_until(lambda: inside.ask("http://registry.test/hello")[0].startswith("407 "))
