# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Clusters on an IPv6 network, alone and beside IPv4, from new hosts to pods that talk; on the topologies' hosts."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from harness import REPOSITORY, Lab, wait_until

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


MEMORY = "lab_memory=2G"
NUMBERS = {"master1": 129, "node01": 131}


@dataclass(frozen=True)
class Family:
    vip: str
    prefix: str  # of the cluster addresses
    pods: str  # what the pods' networks begin with

    def address(self, host: str) -> str:
        return f"{self.prefix}{NUMBERS[host]}"


IPV4 = Family("10.103.97.2", "192.168.253.", "100.64.")
IPV6 = Family("fd00:10:103:97::2", "fd00:253::", "fd00:100:64:")
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
