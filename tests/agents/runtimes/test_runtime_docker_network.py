"""What of the host and of other networks a container reaches: one port, and nothing else."""

import os
import socket
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from agents.runtimes.contract import Runtime, SandboxSpec
from agents.runtimes.docker import DockerRuntime
from agents.runtimes.firewall import Firewall, why_not
from agents.runtimes.processes import poll
from tests.agents.runtimes.conftest import HOST_PORT, MakeSpec
from tests.agents.runtimes.test_conformance import host_server
from tests.agents.runtimes.test_runtime_docker import SERVE, connect, run

pytestmark = [pytest.mark.docker, pytest.mark.skipif(os.getuid() != 0, reason="only root can close the host")]


@pytest.fixture(scope="module")
def kind() -> str:
    return "docker"


@pytest.fixture
def open_to_all() -> Iterator[int]:
    """A service of the host that is bound to all its addresses, as databases and development servers often are."""
    with host_server("0.0.0.0", 0) as port:
        yield port


def keep_bridge(runtime: Runtime, spec: SandboxSpec) -> None:
    """Have a sandbox in the project's network: with Podman the bridge goes with the last one."""
    runtime.start(spec, "exec sleep 60", wait_s=0)


def addresses_of_the_host() -> list[str]:
    found = [one.address for each in psutil.net_if_addrs().values() for one in each if one.family == socket.AF_INET]
    return [address for address in found if not address.startswith("127.")]


def test_no_service_of_the_host_answers_on_any_of_its_addresses(
    runtime: Runtime, make_spec: MakeSpec, open_to_all: int
) -> None:
    assert why_not() == ""
    spec, kept = make_spec(), make_spec()
    keep_bridge(runtime, kept)
    own = runtime.host_address(spec.project)
    addresses = {own, runtime.host_address("two"), *addresses_of_the_host()}
    # It answers the host itself: what follows fails for no other reason.
    socket.create_connection((own, open_to_all), timeout=5).close()
    commands = [connect(address, open_to_all) for address in addresses]
    assert run(runtime, spec, " & ".join(commands) + "; wait") == "closed\n" * len(addresses)


def test_the_open_port_is_open_at_the_projects_own_address_only(runtime: Runtime, spec: SandboxSpec) -> None:
    own, other = runtime.host_address(spec.project), runtime.host_address("two")
    with host_server("0.0.0.0", HOST_PORT):
        assert run(runtime, spec, connect(own, HOST_PORT)) == "open\n"
        assert run(runtime, spec, connect(other, HOST_PORT)) == "closed\n"


def test_the_rules_come_back_when_somebody_flushed_them(
    runtime: DockerRuntime, spec: SandboxSpec, open_to_all: int
) -> None:
    own = runtime.host_address(spec.project)
    runtime._firewall.remove()
    assert run(runtime, spec, connect(own, open_to_all)) == "closed\n"


def test_rules_are_written_once(runtime: DockerRuntime) -> None:
    for _ in range(2):
        runtime._firewall._seen_at = 0.0
        runtime._firewall.ensure()
    listed = subprocess.check_output(["/usr/sbin/iptables", "-S", "INPUT"], text=True)
    assert listed.count(runtime._firewall.bridges + "+") == 1


def test_installations_side_by_side_do_not_push_each_other_down(runtime: DockerRuntime, tmp_path: Path) -> None:
    other = Firewall("ekother", (), lock=tmp_path / "lock")
    try:
        for each in (other, runtime._firewall) * 2:
            each._seen_at = 0.0
            each.ensure()
        listed = subprocess.check_output(["/usr/sbin/iptables", "-S", "INPUT"], text=True)
        assert (listed.count("ekother+"), listed.count(runtime._firewall.bridges + "+")) == (1, 1)
    finally:
        other.remove()


def test_sandboxes_of_a_project_are_apart_on_a_host_that_forwards(runtime: DockerRuntime, make_spec: MakeSpec) -> None:
    neighbour = runtime.start(make_spec(), SERVE)
    # Where nothing else refuses, as on hosts without Docker. At the end: what keeps them apart comes first.
    forward = ["FORWARD", "-i", f"{runtime._firewall.bridges}+", "-j", "ACCEPT"]
    subprocess.run(["/usr/sbin/iptables", "-A", *forward], check=True)
    try:
        assert run(runtime, make_spec(), connect(neighbour.host, neighbour.port)) == "closed\n"
    finally:
        subprocess.run(["/usr/sbin/iptables", "-D", *forward], check=True)


def test_rules_that_keep_sandboxes_apart_come_and_go_with_the_others(tmp_path: Path) -> None:
    firewall = Firewall("ekapart", (), lock=tmp_path / "lock")
    others = ["FORWARD", "-i", "ekothers0", "-j", "RETURN"]
    firewall.ensure(apart=True)
    # As Docker does with each network that it makes.
    subprocess.run(["/usr/sbin/iptables", "-I", *others], check=True)
    try:
        firewall._seen_at = 0.0
        firewall.ensure(apart=True)
        listed = subprocess.check_output(["/usr/sbin/iptables", "-S", "FORWARD"], text=True).splitlines()
    finally:
        subprocess.run(["/usr/sbin/iptables", "-D", *others], check=True)
        firewall.remove()
    ours = [number for number, rule in enumerate(listed) if "ekapart+" in rule]
    assert len(ours) == 2
    assert max(ours) < listed.index(f"-A {' '.join(others)}")
    left = subprocess.check_output(["/usr/sbin/iptables", "-S"], text=True)
    assert "EKAPART" not in left


def test_udp_of_the_host_does_not_answer(runtime: Runtime, make_spec: MakeSpec) -> None:
    spec, kept = make_spec(), make_spec()
    keep_bridge(runtime, kept)
    address = runtime.host_address(spec.project)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("0.0.0.0", 0))
        server.settimeout(10)
        port = server.getsockname()[1]
        run(runtime, spec, f"bash -c 'echo sandbox > /dev/udp/{address}/{port}'")
        # The host's own comes after it, and is the first to arrive.
        server.sendto(b"host", (address, port))
        assert server.recv(10) == b"host"


# Networks that nobody needs


def networks_of(runtime: DockerRuntime) -> set[str]:
    """The projects that have one, as the daemon says."""
    mark = f"label={runtime._naming.mark}"
    names = subprocess.check_output(["docker", "network", "ls", "--filter", mark, "--format", "{{.Name}}"], text=True)
    return {name.rpartition("-")[2] for name in names.split()}


def test_network_without_a_sandbox_goes_once_nobody_asked_for_it_in_a_while(
    runtime: DockerRuntime, again: DockerRuntime, make_spec: MakeSpec
) -> None:
    runtime.start(make_spec(project="serves"), "exec sleep 60", wait_s=0)
    runtime.launcher(make_spec(project="begins"), "/bin/true")  # nothing runs yet
    for project in ("busy", "idle"):
        runtime.host_address(project)
    ours = {"serves", "begins", "busy", "idle"}

    assert not ours & set(again.remove_idle_networks(idle_s=60))
    assert ours & set(again.remove_idle_networks(idle_s=0, busy={"busy"})) == {"idle"}
    assert networks_of(runtime) & ours == ours - {"idle"}
    assert runtime.run(make_spec(project="idle"), "true", timeout_s=60).exit_code == 0  # it is made anew


def test_network_goes_with_the_last_sandbox_of_its_project(runtime: DockerRuntime, make_spec: MakeSpec) -> None:
    first, last = make_spec(project="ended"), make_spec(project="ended")
    for spec in (first, last):
        runtime.start(spec, "exec sleep 60", wait_s=0)
    runtime.kill(first.name)
    assert "ended" not in runtime.remove_idle_networks(idle_s=0)
    runtime.kill(last.name)
    assert "ended" in runtime.remove_idle_networks(idle_s=0)
    assert not list(runtime._table.state_dir.glob(".network-ended"))


def test_network_does_not_go_from_under_a_sandbox_that_starts(
    runtime: DockerRuntime, again: DockerRuntime, make_spec: MakeSpec
) -> None:
    ended = threading.Event()

    def sweep() -> int:
        count = 0
        while not ended.is_set():
            count += "contested" in again.remove_idle_networks(idle_s=0)
        return count

    with ThreadPoolExecutor(1) as pool:
        sweeping = pool.submit(sweep)
        try:
            for _ in range(4):
                assert runtime.run(make_spec(project="contested"), "echo here", timeout_s=60).output == "here\n"
                spec = make_spec(project="contested")
                assert subprocess.run([runtime.launcher(spec, "/bin/true")], check=False, timeout=60).returncode == 0
                runtime.kill(spec.name)
                assert poll(lambda: "contested" not in networks_of(runtime), timeout_s=60)
        finally:
            ended.set()
        assert sweeping.result() >= 4


def test_no_route_leads_out(runtime: Runtime, spec: SandboxSpec) -> None:
    # The metadata service of clouds, a router at home, a data centre's neighbour, Docker's other network, the world.
    addresses = ("169.254.169.254", "192.168.0.1", "10.0.0.1", "172.17.0.1", "1.1.1.1")
    commands = [connect(address, port) for address in addresses for port in (80, 443)]
    assert run(runtime, spec, " & ".join(commands) + "; wait") == "closed\n" * len(commands)


def test_there_is_no_ipv6(runtime: Runtime, spec: SandboxSpec) -> None:
    assert run(runtime, spec, "cat /proc/net/if_inet6; cat /proc/sys/net/ipv6/conf/eth0/disable_ipv6") == "1\n"
