# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Clusters on an IPv6 network, alone and beside IPv4, from new hosts to pods that talk; on the topologies' hosts."""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from guard_trial import judged, told, trial
from harness import REPOSITORY, Lab, wait_until
from outage import Asking, outage

pytestmark = pytest.mark.slow

# What a host sees of one VIP: from where it asks, what the API server answers, and to whom IPVS sent it.
ASK = """
import socket, ssl, sys
context = ssl.create_default_context(cafile="/etc/kubernetes/pki/ca.crt")
with socket.create_connection((sys.argv[1], 6443), timeout=3) as plain:
    with context.wrap_socket(plain, server_hostname="apiserver.cluster.local") as stream:
        stream.sendall(b"GET /readyz HTTP/1.0\\r\\nHost: apiserver.cluster.local\\r\\n\\r\\n")
        print(stream.getsockname()[0], stream.recv(100).split()[1].decode())
"""


NAME = "apiserver.cluster.local"
MEMORY = "lab_memory=2G"
# How many faults, and what the longest may take to be healed, in seconds.
ROUNDS = 50
HEALED = 3.0
NUMBERS = {"master1": 129, "node01": 131}


@dataclass(frozen=True)
class Family:
    vip: str
    prefix: str  # of the cluster addresses
    pods: str  # what the pods' networks begin with
    other: str  # an address of node01's external card
    loopback: str

    def address(self, host: str) -> str:
        return f"{self.prefix}{NUMBERS[host]}"


IPV4 = Family("10.103.97.2", "192.168.253.", "100.64.", "192.168.160.246", "127.0.0.1")
IPV6 = Family("fd00:10:103:97::2", "fd00:253::", "fd00:100:64:", "fd00:160::246", "::1")
CLUSTERS = {"dual-stack": (IPV4, IPV6), "ipv6": (IPV6,)}


@pytest.fixture(params=list(CLUSTERS))
def cluster(request: pytest.FixtureRequest) -> Iterator[tuple[Lab, tuple[Family, ...]]]:
    lab = Lab(str(REPOSITORY / "tests" / "topologies" / f"{request.param}.yml"), "ipv6")
    try:
        # The topologies' own hosts are only looked at, and have too little for a cluster.
        lab.play("lab", "-e", "lab_state=fresh", "-e", MEMORY)
        yield lab, CLUSTERS[request.param]
    finally:
        lab.remove()


def ask(lab: Lab, host: str, vip: str) -> list[str]:
    """The source and the status of a request through the VIP; nothing while there is no answer."""
    result = lab.ssh(host, f"python3 -c {shlex.quote(ASK)} {vip}", 20)
    return result.stdout.split() if result.returncode == 0 else []


def test_a_cluster_with_ipv6(cluster: tuple[Lab, tuple[Family, ...]], tmp_path: Path) -> None:
    lab, families = cluster
    run = lab.play("cluster")
    # One ping from each of the two nodes' pods to the other's, in each family, at the pods' full MTU.
    assert f"all {2 * len(families)} pings between pods on different nodes came back" in run.output

    for node in json.loads(lab.kubectl("get nodes -o json"))["items"]:
        name = node["metadata"]["name"]
        found = [entry["address"] for entry in node["status"]["addresses"] if entry["type"] == "InternalIP"]
        assert found == [family.address(name) for family in families]
        cidrs = node["spec"]["podCIDRs"]
        assert [cidr.startswith(family.pods) for cidr, family in zip(cidrs, families, strict=True)] == [True] * len(
            cidrs
        )

    for host in ("master1", "node01"):
        for family in families:
            assert ask(lab, host, family.vip) == [family.address(host), "200"]
            table = lab.run(host, "ipvsadm -Ln")
            literal = f"[{family.vip}]" if ":" in family.vip else family.vip
            assert f"TCP  {literal}:6443 rr" in table

    assert not lab.play("cluster").changed()
    report = tmp_path / "doctor.json"
    assert "ERRORS" not in lab.play("doctor", "-e", f"doctor_report_path={report}").output

    # The kernel takes a card's IPv6 addresses away with its link, unless it is told to keep them.
    lab.run("node01", "ip link set ens32 down; sleep 1; ip link set ens32 up")
    for family in families:
        wait_until(
            lambda family=family: ask(lab, "node01", family.vip) == [family.address("node01"), "200"],  # type: ignore[misc]
            10,
            f"node01 asks {family.vip} again after its link came back",
        )
    node_routes = lab.run("node01", "ip route show proto 201; ip -6 route show proto 201")
    assert all(f"via {family.address('master1')}" in node_routes for family in families)

    faults_are_healed(lab, families)
    changes_to_the_proxy(lab, families)


def faults_are_healed(lab: Lab, families: tuple[Family, ...]) -> None:
    """Everything that the guard looks after is broken on the worker, in the order of chance, for all families."""
    other = f"{IPV6.other}/64 dev ens33"
    lab.run("node01", f"ip address add {other} nodad")
    ways = [
        {
            "vip": family.vip,
            "source": family.address("node01"),
            "other": family.other,
            "servers": [family.address("master1")],
        }
        for family in families
    ]
    try:
        found = trial(lambda command: lab.run("node01", command), ROUNDS, ways)
    finally:
        lab.run("node01", f"ip address del {other}")
    print(f"\n{told(found)}")
    assert judged(found, HEALED) == []
    for family in families:
        assert ask(lab, "node01", family.vip) == [family.address("node01"), "200"]


def changes_to_the_proxy(lab: Lab, families: tuple[Family, ...]) -> None:
    """From IPVS to the proxy, which listens on the loopback addresses of the families, under requests by the name."""
    client = Asking(lab, "node01", NAME)
    try:
        lab.play("cluster", "-e", "apiserver_balancer=localhost")
        time.sleep(3)
    finally:
        requests = client.end()
    figures = outage(requests)
    print(f"\n{figures}")
    assert figures["failed"] == 0, figures
    listening = lab.run("node01", "ss -Hltnp 'sport = :6443'")
    for family in families:
        literal = f"[{family.loopback}]" if ":" in family.loopback else family.loopback
        assert f" {literal}:6443 " in listening
        # The proxy asks the control planes' addresses of the primary family.
        assert ask(lab, "node01", family.loopback) == [family.loopback, "200"]
        assert not lab.run("node01", f"ip route show table local {family.vip}").strip()
    assert lab.ssh("node01", f"ipvsadm -Sn | grep -E '{'|'.join(family.vip for family in families)}'").stdout == ""
    assert not lab.play("cluster", "-e", "apiserver_balancer=localhost").changed()
