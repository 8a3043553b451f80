# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The API's outside address in namespaces: facts, plan and proof of the real modules, and a real keepalived on each machine.

keepalived is the machine's own, else that of the lab's bundle. What its unit does, and the loss of a whole host's power, is
molecule's.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shutil
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from machines import NETWORK, SETTINGS, Lan, Machine, Space, lan

from ansible_collections.multinic.kubernetes.plugins.module_utils import _apiserver_outside as check
from ansible_collections.multinic.kubernetes.plugins.module_utils import _outside as outside
from ansible_collections.multinic.kubernetes.plugins.module_utils import _probe
from ansible_collections.multinic.kubernetes.plugins.module_utils._findings import Finding
from ansible_collections.multinic.kubernetes.plugins.module_utils._plan import Host, Result, plan_cluster

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="namespaces are made by root")

CACHE = Path(os.environ.get("MULTINIC_CACHE") or "/var/cache/multinic-kubernetes")
BUNDLE = CACHE / "bundle/lab.tar.gz"
ADDRESSES = {"IPv4": "10.21.0.250", "IPv6": "fd00:21::250"}
GAP = 4.0  # seconds
# Takes connections of both families, as an API server does.
SERVER = """
import socket
server = socket.create_server(("::", 6443), family=socket.AF_INET6, dualstack_ipv6=True)
print("ready", flush=True)
while True:
    server.accept()[0].close()
"""
# Connects every 30 ms for so many seconds; says how long none came about at most.
CLIENT = """
import socket, sys, time
address, end = sys.argv[1], time.monotonic() + float(sys.argv[2])
last, gap = time.monotonic(), 0.0
print("begun", flush=True)
while time.monotonic() < end:
    try:
        socket.create_connection((address, 6443), timeout=0.25).close()
        gap, last = max(gap, time.monotonic() - last), time.monotonic()
    except OSError:
        pass
    time.sleep(0.03)
print(max(gap, time.monotonic() - last))
"""


def until(condition: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


# --- facts, plan and proof --------------------------------------------------------------------------------------------


def facts_of(machine: Machine, held: tuple[str, ...] = ()) -> dict[str, Any]:
    return {**machine.facts(), "kubernetes": {"outside": list(held)}}


def planned(built: Lan, facts: dict[str, dict[str, Any]], **settings: Any) -> Result:
    """The plan of a cluster whose machines are all control planes."""
    hosts = [
        Host(machine.name, place, True, False, facts[machine.name], "", NETWORK)
        for place, machine in enumerate(built.machines)
    ]
    wanted = {"apiserver_outside_address": ",".join(ADDRESSES.values()), **settings}
    return plan_cluster(hosts, {**SETTINGS, **wanted})


def proved(built: Lan, held: tuple[str, ...] = (), **settings: Any) -> list[str]:
    """What the first machine finds."""
    facts = {machine.name: facts_of(machine, held) for machine in built.machines}
    result = planned(built, facts, **settings)
    assert [item for item in result.findings if item.severity == "error"] == []
    first = built.machines[0]
    claims = _probe.probe_arguments(result.plan, first.name)["outside"]
    probe = first.module("network_probe", outside=claims)["network_probe"]
    found: list[Finding] = _probe.judge(result.plan, facts, {first.name: probe}, {}, only=[first.name])
    return [f"{item.host} {item.variable}: {item.found}" for item in found if "outside" in item.variable]


def six(built: Lan) -> None:
    for machine in built.machines:
        machine.ip(f"address add fd00:21::{machine.number}/64 dev ens33 nodad")


@pytest.fixture
def two() -> Iterator[Lan]:
    with lan(2) as built:
        six(built)
        yield built


@contextlib.contextmanager
def stranger(built: Lan, *addresses: str) -> Iterator[Space]:
    """A machine of nobody's inventory on the outside network."""
    space = Space()
    try:
        built.plug(space, "outer", "eth0", "stranger")
        space.ip("link set eth0 up", *(f"address add {address} dev eth0" for address in addresses))
        yield space
    finally:
        space.close()


def test_a_free_address_passes(two: Lan) -> None:
    assert proved(two) == []


@pytest.mark.parametrize("family", ADDRESSES)
def test_an_address_that_somebody_has_is_told(two: Lan, family: str) -> None:
    address = ADDRESSES[family]
    with stranger(two, f"{address}/{24 if family == 'IPv4' else '64 nodad'}") as space:
        mac = space.run("cat", "/sys/class/net/eth0/address").strip()
        assert proved(two) == [f"host1 apiserver_outside_address: {mac} answers for {address} on ens33"]


@pytest.mark.parametrize("family", ADDRESSES)
def test_an_address_that_another_control_plane_holds_is_the_plans(two: Lan, family: str) -> None:
    address = ADDRESSES[family]
    two.machines[1].ip(f"address add {address}/{32 if family == 'IPv4' else '128 nodad'} dev ens33")
    assert proved(two, held=tuple(ADDRESSES.values())) == []


# A VRRP router with its own multicast, as any other vendor's.
ROUTER = """
import socket, struct, sys, time
router_id, version = int(sys.argv[1]), int(sys.argv[2])
sock = socket.socket(socket.AF_INET, socket.SOCK_RAW, 112)
sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton("10.21.0.99"))
print("ready", flush=True)
for _number in range(60):
    sock.sendto(struct.pack("!BBBBHH4s", version << 4 | 1, router_id, 100, 1, 100, 0, bytes((10, 21, 0, 251))), ("224.0.0.18", 0))
    time.sleep(1)
"""


@pytest.mark.parametrize(
    ("router_id", "version", "wished", "clash"),
    [(250, 3, 0, True), (250, 2, 0, True), (7, 3, 0, False), (7, 3, 7, True), (250, 3, 7, False)],
)
def test_another_router_of_the_same_id_is_told(
    two: Lan, router_id: int, version: int, wished: int, clash: bool
) -> None:
    with stranger(two, "10.21.0.99/24") as space:
        inside = ["nsenter", "--net", "--mount", "--target", str(space.process.pid)]
        command = [*inside, sys.executable, "-c", ROUTER, str(router_id), str(version)]
        router = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        try:
            assert router.stdout is not None
            assert router.stdout.readline() == "ready\n"
            told = proved(two, apiserver_outside_router_id=wished)
        finally:
            router.kill()
            router.communicate()
    expected = (
        "host1 apiserver_outside_router_id: 10.21.0.99 speaks VRRP on ens33 with the virtual router id "
        f"{wished or router_id}"
    )
    assert told == ([expected] if clash else [])


# --- keepalived -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def keepalived(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict[str, str]]:
    """The program, and the environment that it needs."""
    found = shutil.which("keepalived", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if found:
        return found, dict(os.environ)
    assert BUNDLE.exists(), "neither keepalived is installed nor the lab's bundle built: make bundle"
    root = tmp_path_factory.mktemp("keepalived")
    with tarfile.open(BUNDLE) as archive:
        for member in archive:
            name = member.name.rpartition("/")[2]
            if (
                name.endswith(".deb")
                and name.startswith(("keepalived_", "lib"))
                and (stream := archive.extractfile(member))
            ):
                (root / name).write_bytes(stream.read())
                subprocess.run(["dpkg-deb", "-x", str(root / name), str(root)], check=True)
    folders = ":".join(str(root / folder / "x86_64-linux-gnu") for folder in ("usr/lib", "lib"))
    return str(root / "usr/sbin/keepalived"), {**os.environ, "LD_LIBRARY_PATH": folders}


@dataclasses.dataclass
class Seat:
    """A machine with a keepalived, and something that listens like an API server."""

    machine: Machine
    folder: Path
    config: Path
    vrrp: subprocess.Popen[str]

    def holds(self, address: str) -> bool:
        return bool(self.machine.space.run("ip", "-o", "address", "show", "to", address).strip())

    def says(self, value: int) -> None:
        assert check.write(str(self.folder / "priority"), value)


@dataclasses.dataclass
class Cluster:
    lan: Lan
    seats: list[Seat]
    client: Space
    plan: dict[str, Any]
    servers: dict[str, subprocess.Popen[str]]

    def holders(self, address: str) -> list[str]:
        return [seat.machine.name for seat in self.seats if seat.holds(address)]

    def holder(self, address: str) -> Seat:
        assert until(lambda: len(self.holders(address)) == 1, 8), self.holders(address)
        return next(seat for seat in self.seats if seat.machine.name == self.holders(address)[0])

    def gap(self, fault: Callable[[], Any], seconds: float = 7) -> dict[str, float]:
        """How long clients of each family got no connection at most, while a fault happens."""
        clients = {}
        for family, address in ADDRESSES.items():
            inside = ["nsenter", "--net", "--mount", "--target", str(self.client.process.pid)]
            command = [*inside, sys.executable, "-c", CLIENT, address, str(seconds)]
            clients[family] = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        for client in clients.values():
            assert client.stdout is not None
            assert client.stdout.readline() == "begun\n"
        time.sleep(0.5)
        fault()
        found = {family: round(float(client.communicate(timeout=60)[0]), 2) for family, client in clients.items()}
        print(f"longest gaps {found}")
        return found


def start(seat_program: tuple[str, dict[str, str]], seat: Machine, folder: Path, config: Path) -> subprocess.Popen[str]:
    program, environment = seat_program
    inside = ["nsenter", "--net", "--mount", "--target", str(seat.space.process.pid), program]
    words = ["--vrrp", f"--use-file={config}"]
    done = subprocess.run(
        [*inside, "--config-test", *words], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    pids = [f"--pid={folder}/main.pid", f"--vrrp_pid={folder}/vrrp.pid"]
    with (folder / "log").open("a", encoding="utf-8") as log:
        return subprocess.Popen(
            [*inside, "--dont-fork", "--log-console", *words, *pids],
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
            text=True,
        )


@pytest.fixture
def cluster(keepalived: tuple[str, dict[str, str]], tmp_path: Path) -> Iterator[Cluster]:
    """Three control planes, of which one has the addresses, and a client."""
    with contextlib.ExitStack() as stack:
        built = stack.enter_context(lan(3))
        six(built)
        facts = {machine.name: facts_of(machine) for machine in built.machines}
        result = planned(built, facts)
        assert [item for item in result.findings if item.severity == "error"] == []
        client = stack.enter_context(stranger(built, "10.21.0.9/24", "fd00:21::9/64 nodad"))
        seats, servers = [], {}
        for machine in built.machines:
            folder = tmp_path / machine.name
            folder.mkdir()
            config = folder / "conf"
            write_config(result.plan, machine.name, folder)
            vrrp = start(keepalived, machine, folder, config)
            stack.callback(vrrp.wait)
            stack.callback(vrrp.terminate)
            inside = ["nsenter", "--net", "--mount", "--target", str(machine.space.process.pid)]
            server = subprocess.Popen([*inside, sys.executable, "-c", SERVER], stdout=subprocess.PIPE, text=True)
            stack.callback(server.communicate)
            stack.callback(server.kill)
            assert server.stdout is not None
            assert server.stdout.readline() == "ready\n"
            servers[machine.name] = server
            seats.append(Seat(machine, folder, config, vrrp))
        yield Cluster(built, seats, client, result.plan, servers)


def write_config(plan: dict[str, Any], name: str, folder: Path) -> None:
    state = outside.outside_state(plan, name, "", "/readyz")
    text = next(str(item["content"]) for item in state["files"] if item["path"] == outside.OUTSIDE_CONFIG)
    (folder / "conf").write_text(text.replace(outside.FOLDER, str(folder)), encoding="utf-8")


@pytest.fixture
def ready(cluster: Cluster) -> Cluster:
    for seat in cluster.seats:
        assert until((seat.folder / "priority").exists, 5)
        seat.says(check.READY)
    for address in ADDRESSES.values():
        cluster.holder(address)
    return cluster


def test_nobody_has_it_before_an_api_server_was_ready(cluster: Cluster) -> None:
    time.sleep(3)
    assert [cluster.holders(address) for address in ADDRESSES.values()] == [[], []]
    cluster.seats[1].says(check.READY)
    for address in ADDRESSES.values():
        assert cluster.holder(address) is cluster.seats[1]


def test_what_the_host_sends_has_another_source_and_a_second_plan_is_the_same(ready: Cluster) -> None:
    for address in ADDRESSES.values():
        space = ready.holder(address).machine.space
        near = "10.21.0.9" if "." in address else "fd00:21::9"
        assert address not in space.run("ip", "route", "get", near).replace(f"{near} ", "")
    facts = {machine.name: facts_of(machine, tuple(ADDRESSES.values())) for machine in ready.lan.machines}
    assert any("10.21.0.250" in json.dumps(found["links"]) for found in facts.values())
    again = planned(ready.lan, facts)
    assert again.plan == ready.plan
    assert [item for item in again.findings if item.severity == "error"] == []


def moved(cluster: Cluster, before: dict[str, Seat], gone: tuple[Seat, ...] = ()) -> None:
    """Exactly one other control plane has each address."""
    left = [other.machine.name for other in cluster.seats if other not in gone]

    def alone() -> bool:
        return all(len(set(cluster.holders(address)) & set(left)) == 1 for address in before)

    assert until(alone, 5)
    assert not any(seat.holds(address) for address, seat in before.items() if seat not in gone)


def test_an_api_server_that_is_gone_gives_the_address_away(ready: Cluster) -> None:
    before = {address: ready.holder(address) for address in ADDRESSES.values()}

    def fault() -> None:
        for seat in {seat.machine.name: seat for seat in before.values()}.values():
            ready.servers[seat.machine.name].kill()
            seat.says(check.UNREADY)

    gaps = ready.gap(fault)
    moved(ready, before)
    assert max(gaps.values()) <= GAP
    # It stays there when the first one is ready again.
    after = {address: ready.holder(address) for address in ADDRESSES.values()}
    for seat in ready.seats:
        seat.says(check.READY)
    time.sleep(3)
    assert {address: ready.holder(address) for address in ADDRESSES.values()} == after


@pytest.mark.parametrize("how", ["nomaster", "down"])
def test_a_card_that_is_unplugged_gives_the_address_away(ready: Cluster, how: str) -> None:
    """Without and with a word to the host."""
    before = {address: ready.holder(address) for address in ADDRESSES.values()}
    cut = {seat.machine.number: seat for seat in before.values()}
    gaps = ready.gap(lambda: ready.lan.switch.ip(*(f"link set o{number} {how}" for number in cut)))
    moved(ready, before, tuple(cut.values()))
    assert max(gaps.values()) <= GAP
    mend = "up" if how == "down" else "master outer"
    gaps = ready.gap(lambda: ready.lan.switch.ip(*(f"link set o{number} {mend}" for number in cut)))
    for address in ADDRESSES.values():
        ready.holder(address)
    assert max(gaps.values()) <= GAP


def test_a_halted_keepalived_loses_the_address_and_has_it_not_twice(ready: Cluster) -> None:
    """As it is with a frozen host, but for its kernel, which goes on answering for the address."""
    address = ADDRESSES["IPv4"]
    seat = ready.holder(address)
    pid = (seat.folder / "vrrp.pid").read_text(encoding="ascii").strip()
    subprocess.run(["kill", "-STOP", pid], check=True)
    try:
        others = [other for other in ready.seats if other is not seat]
        assert until(lambda: any(other.holds(address) for other in others), GAP)
    finally:
        subprocess.run(["kill", "-CONT", pid], check=True)
    ready.holder(address)


def test_new_peers_are_learnt_without_a_move(ready: Cluster) -> None:
    """One leaves the plan: the others go on with a reload, and the address does not move."""
    before = {address: ready.holder(address) for address in ADDRESSES.values()}
    leaving = next(seat for seat in ready.seats if seat not in before.values())
    leaving.vrrp.terminate()
    leaving.vrrp.wait()
    plan = json.loads(json.dumps(ready.plan))
    for item in plan["apiserver"]["outside"]:
        del item["cards"][leaving.machine.name]

    def reload() -> None:
        for seat in ready.seats:
            if seat is not leaving:
                write_config(plan, seat.machine.name, seat.folder)
                seat.vrrp.send_signal(1)

    gaps = ready.gap(reload, 5)
    assert {address: ready.holder(address) for address in ADDRESSES.values()} == before
    assert max(gaps.values()) < 1
    log = (ready.seats[0].folder / "log").read_text(encoding="utf-8")
    assert "Entering FAULT" not in log


def test_who_ends_in_order_leaves_nothing_on_its_card(ready: Cluster) -> None:
    before = {address: ready.holder(address) for address in ADDRESSES.values()}
    ending = {seat.machine.name: seat for seat in before.values()}

    def fault() -> None:
        for seat in ending.values():
            seat.vrrp.terminate()

    gaps = ready.gap(fault, 4)
    moved(ready, before)
    assert max(gaps.values()) < 2, "it tells the others"


def test_the_modules_own_packet_sockets_hear_unicast_of_peers_as_their_own(ready: Cluster) -> None:
    """The proof of a second run, while the holder speaks to the machine that listens."""
    held = tuple(ADDRESSES.values())
    speaker = ready.holder(ADDRESSES["IPv4"])
    listener = next(seat for seat in ready.seats if seat is not speaker).machine
    facts = {machine.name: facts_of(machine, held) for machine in ready.lan.machines}
    result = planned(ready.lan, facts)
    claims = _probe.probe_arguments(result.plan, listener.name)["outside"]
    probe = listener.module("network_probe", outside=claims)["network_probe"]
    heard = [advert["source"] for claim in probe["outside"] for advert in claim["adverts"]]
    assert f"10.21.0.{speaker.machine.number}" in heard
    found = _probe.judge(result.plan, facts, {listener.name: probe}, {}, only=[listener.name])
    assert [item.found for item in found if "outside" in item.variable] == []
