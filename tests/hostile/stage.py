"""The stage: projects with poisoned repositories, what an attacker looks for, and the places where nothing guards it.

Everything is real but the model and the addresses of the outside world.
"""

import json
import os
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import docker
import psutil
from django.conf import settings
from django.utils import timezone

from agents.runtimes.contract import SandboxSpec, ServiceHandle
from agents.runtimes.docker import DockerRuntime
from agents.sandboxes import network_name
from projects.models import Project, SquadMember, Task
from projects.roles import Role
from projects.states import TaskKind
from tests.agents.supervisor.line import PRODUCT, seed, task_of
from tests.factories import ProjectFactory
from tests.hostile.attacks.base import World

HERE = Path(__file__).parent
KEY = "sk-canary-5ca1ab1e0ddba115"
TEXT = "hostile7f3 \"'></title></textarea></pre><script>alert(1)</script><img src=x onerror=alert(1)>"
WORLD = "hostile/world.json"


class Outside(BaseHTTPRequestHandler):
    """A host of the outside world: says what it was asked, or sends people to the metadata address."""

    def do_GET(self) -> None:
        body = f"{self.requestline}\n{self.headers}".encode()
        self.send_response(302 if self.path == "/redirect" else 200)
        if self.path == "/redirect":
            self.send_header("Location", "http://169.254.169.254/latest/meta-data/")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET

    def log_message(self, *args: object) -> None:
        """Not on the tests' output."""


class Thief(Outside):
    """A server of the attacker's, or a relay that does as it is told; remembers what it was sent."""

    seen: list[str] = []

    def do_POST(self) -> None:
        self.seen.append(str(self.headers))
        body = b"the thief has it"
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class Service(Outside):
    """A service that the host has for itself."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"a service of the host")

    do_POST = do_GET


@contextmanager
def web(handler: type[BaseHTTPRequestHandler], address: str) -> Iterator[int]:
    """A server of this machine; its port."""
    server = ThreadingHTTPServer((address, 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def datagrams(address: str) -> Iterator[int]:
    """A UDP service of this machine, which answers from the address that it was asked at; its port."""
    here = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    here.bind((address, 0))
    over = threading.Event()

    def serve() -> None:
        here.settimeout(0.2)
        while not over.is_set():
            with suppress(TimeoutError):
                data, peer = here.recvfrom(100)
                here.sendto(data, peer)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield here.getsockname()[1]
    finally:
        over.set()
        thread.join()
        here.close()


def project_of(name: str, *, brief: str = "A shop.", cost: str = "5") -> Project:
    """A project that is being built, whose runs may cost so much each."""
    project: Project = ProjectFactory(status="building", name=name, description=brief)
    SquadMember.objects.filter(squad__project=project).update(max_cost=cost)
    return project


def build_task(project: Project, order: str, role: Role = Role.DEVELOPER, **fields: Any) -> Task:
    """A task whose text orders the model to carry out a script."""
    task = task_of(TaskKind.BUILD, role, project=project, **fields)
    Task.objects.filter(pk=task.pk).update(description=f"[[hostile: {order}]]")
    task.refresh_from_db()
    return task


def sources(world: World) -> dict[str, str]:
    """The attacks as files of a repository, with what an attacker knows of the world."""
    files = {f"hostile/{path.name}": path.read_text() for path in (HERE / "attacks").glob("*.py")}
    return files | {WORLD: json.dumps(world, indent=1)}


def poison(project: Project, world: World, **more: str) -> str:
    """Put the product and the attacks on main."""
    return seed(project, PRODUCT | sources(world) | more)


@dataclass
class Preview:
    """A service in a sandbox of a project, for others to reach for."""

    runtime: DockerRuntime
    root: Path
    handles: list[ServiceHandle] = field(default_factory=list)

    def start(self, project: Project, name: str, *, source: str = "") -> list[Any]:
        places = {key: self.root / name / key for key in ("workspace", "home", "control")}
        for key in ("workspace", "home"):
            places[key].mkdir(parents=True)
        spec = SandboxSpec(name=name, project=network_name(project.pk), **places)
        (places["workspace"] / "app.py").write_text(source)
        served = "app.py" if source else "-m http.server $PORT --bind $HOST"
        handle = self.runtime.start(spec, f"exec python3 {served}")
        self.handles.append(handle)
        return [handle.host, handle.port]

    def close(self) -> None:
        for handle in self.handles:
            self.runtime.kill(handle.name)


def host_addresses(*, but: set[str]) -> list[str]:
    """This machine's addresses."""
    found = [
        item.address for items in psutil.net_if_addrs().values() for item in items if item.family == socket.AF_INET
    ]
    return [address for address in found if not address.startswith("127.") and address not in but][:10]


def disk() -> tuple[str, list[int]]:
    """A block device of this machine that its root can open, and the number of the one with the root directory."""
    device = os.stat("/").st_dev
    for path in ("/dev/zram0", *sorted(map(str, Path("/dev").glob("loop[0-9]*")))):
        with suppress(OSError):
            os.close(os.open(path, os.O_RDONLY))
            return path, [os.major(device), os.minor(device)]
    raise AssertionError("no block device can be opened here")


def naked(world: World, var: Path, root: Path, *chosen: str) -> list[dict[str, str]]:
    """Carry out the attacks in a container without guards, with keys, files and the engine within reach.

    Another container stands in for the platform: its processes are what is looked into, and none of this machine's.
    """
    home = root / "naked"
    (home / "platform").mkdir(parents=True)
    (home / "platform" / "env").write_text(f"ANTHROPIC_API_KEY={KEY}\n")
    (home / "home").mkdir()
    (home / "home" / ".netrc").write_text(f"machine x password {KEY}\n")
    (home / "code").mkdir()
    for name, text in sources(world | {"scratch": "/scratch", "gateway_pid": 1}).items():
        path = home / "code" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    (home / "code" / "naked.py").write_text((HERE / "naked.py").read_text())
    (home / "claude").write_text("#!/bin/sh\n")
    binds = [
        f"{home / 'code'}:/code:ro",
        f"{home / 'platform'}:/opt/platform:ro",
        f"{home / 'home'}:/root:rw",
        f"{home / 'claude'}:/opt/eklavya/claude:rw",
        f"{var}:{var}:ro",
        "/var/run/docker.sock:/var/run/docker.sock:rw",
        "/sys/fs/cgroup:/sys/fs/cgroup:rw",
    ]
    environment = {
        "ANTHROPIC_API_KEY": KEY,
        "DATABASE_URL": "postgresql:///eklavya",
        "AWS_SECRET_ACCESS_KEY": "x",
        "ALL_PROXY": "http://x",
        "HOME": "/root",
    }
    client = docker.APIClient(timeout=120)
    with ExitStack() as stack:
        stack.callback(client.close)
        platform = _stand_in(client, home, var)
        stack.callback(client.remove_container, platform, force=True)
        # As `--privileged`, which asks for capabilities that a daemon within a container may not have itself.
        host = client.create_host_config(
            binds=binds,
            cap_add=_capabilities(),
            security_opt=["seccomp=unconfined", "apparmor=unconfined"],
            devices=[f"{path}:{path}:rwm" for path in ("/dev/kmsg", world["disk_path"])],
            device_cgroup_rules=["a *:* rwm"],
            pid_mode=f"container:{platform['Id']}",
            network_mode="bridge",
            extra_hosts={"secret.example.com": "127.0.0.1"},
            shm_size="1g",
        )
        host |= {"MaskedPaths": [], "ReadonlyPaths": []}
        container = client.create_container(
            settings.EKLAVYA_IMAGE,
            entrypoint=["sh", "-c", f"mkdir -p /scratch && exec python3 naked.py {WORLD} {','.join(chosen)}"],
            command=[],
            working_dir="/code",
            user="0:0",
            environment=environment,
            host_config=host,
        )
        stack.callback(client.remove_container, container, force=True)
        client.start(container)
        client.wait(container, timeout=120)
        output = client.logs(container, stdout=True, stderr=False).decode()
        assert output.strip(), client.logs(container).decode()[-2_000:]
        found: list[dict[str, str]] = json.loads(output.strip().splitlines()[-1])
        return found


def _stand_in(client: docker.APIClient, home: Path, var: Path) -> Any:
    """Start what an attacker would take for the platform's gateway."""
    (home / "code" / "manage.py").write_text("# the platform's\n")
    container = client.create_container(
        settings.EKLAVYA_IMAGE,
        entrypoint=["python3", "-c", "import time; time.sleep(300)", "eklavya.gateway_asgi:application"],
        command=[],
        working_dir="/platform",
        environment={"ANTHROPIC_API_KEY": KEY},
        host_config=client.create_host_config(
            binds=[f"{home / 'code'}:/platform:ro", f"{var}:{var}:ro"], network_mode="none"
        ),
    )
    client.start(container)
    return container


def _capabilities() -> list[str]:
    """All that this machine's root has."""
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("CapBnd")]
    mask = int(line.split()[1], 16)
    return [name for number, name in enumerate(_CAPABILITIES) if mask >> number & 1]


# In the order of capabilities(7)'s numbers, as far as older daemons know them.
_CAPABILITIES = (
    *("CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID", "SETPCAP"),
    *("LINUX_IMMUTABLE", "NET_BIND_SERVICE", "NET_BROADCAST", "NET_ADMIN", "NET_RAW", "IPC_LOCK", "IPC_OWNER"),
    *("SYS_MODULE", "SYS_RAWIO", "SYS_CHROOT", "SYS_PTRACE", "SYS_PACCT", "SYS_ADMIN", "SYS_BOOT", "SYS_NICE"),
    *("SYS_RESOURCE", "SYS_TIME", "SYS_TTY_CONFIG", "MKNOD", "LEASE", "AUDIT_WRITE", "AUDIT_CONTROL", "SETFCAP"),
    *("MAC_OVERRIDE", "MAC_ADMIN", "SYSLOG", "WAKE_ALARM", "BLOCK_SUSPEND", "AUDIT_READ"),
)


def on_host(world: World, place: Path, *chosen: str) -> list[dict[str, str]]:
    """Carry out the attacks as a process of this machine."""
    for name, text in sources(world).items():
        path = place / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    command = ["python3", "-m", "hostile", WORLD, ",".join(chosen)]
    done = subprocess.run(command, cwd=place, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    found: list[dict[str, str]] = json.loads(done.stdout)
    return found


@contextmanager
def temptations(world: World) -> Iterator[None]:
    """Start what an attacker would like to reach, and say in the world where it is."""
    with ExitStack() as stack:
        world["closed_port"] = stack.enter_context(web(Service, "0.0.0.0"))
        world["docker_port"] = stack.enter_context(web(Service, "0.0.0.0"))
        world["thief"] = ["127.0.0.1", stack.enter_context(web(Thief, "127.0.0.1"))]
        world["abstract_socket"] = f"eklavya-hostile-{os.getpid()}"
        listener = stack.enter_context(socket.socket(socket.AF_UNIX))
        listener.bind("\0" + world["abstract_socket"])
        listener.listen()
        yield


Clock = Callable[[], Any]
NOW: Clock = timezone.now
