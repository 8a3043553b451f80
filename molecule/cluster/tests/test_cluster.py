# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from testinfra.host import Host

testinfra_hosts = ["ssh://master1"]

NODES = {"master1": "192.168.253.129", "node01": "192.168.253.131"}
KUBECTL = "kubectl --kubeconfig /etc/kubernetes/admin.conf"


@pytest.fixture
def kubectl(host: Host) -> Callable[[str], Any]:
    def run(arguments: str) -> Any:
        return json.loads(host.check_output(f"{KUBECTL} {arguments} -o json"))

    return run


def test_nodes_are_ready_at_their_cluster_addresses(kubectl: Callable[[str], Any]) -> None:
    found = {}
    for node in kubectl("get nodes")["items"]:
        conditions = {entry["type"]: entry["status"] for entry in node["status"]["conditions"]}
        assert conditions["Ready"] == "True", node["metadata"]["name"]
        found[node["metadata"]["name"]] = {
            a["address"] for a in node["status"]["addresses"] if a["type"] == "InternalIP"
        }
    assert found == {name: {address} for name, address in NODES.items()}


def test_components_advertise_cluster_addresses(host: Host, kubectl: Callable[[str], Any]) -> None:
    endpoints = kubectl("get endpoints kubernetes")["subsets"]
    assert [entry["ip"] for subset in endpoints for entry in subset["addresses"]] == [NODES["master1"]]
    etcd = host.file("/etc/kubernetes/manifests/etcd.yaml").content_string
    assert f"--initial-advertise-peer-urls=https://{NODES['master1']}:2380" in etcd
    assert "192.168.160." not in etcd


def test_worker_speaks_to_the_api_through_the_vip(reach: Callable[[str], Host]) -> None:
    worker = reach("node01")
    assert "server: https://apiserver.cluster.local:6443" in worker.file("/etc/kubernetes/kubelet.conf").content_string
    peers = worker.check_output("ss -Htn state established '( dport = :6443 )'")
    assert "10.103.97.2:6443" in peers
    assert "192.168.253.131:" in peers


def test_pods_of_the_system_run(
    kubectl: Callable[[str], Any], until: Callable[[Callable[[], bool], float], bool]
) -> None:
    unready: list[str] = []

    def all_ready() -> bool:
        """Of the pods that stay: those that tried the network are on their way out."""
        pods = kubectl("get pods --namespace kube-system")["items"]
        assert pods
        unready[:] = [
            pod["metadata"]["name"]
            for pod in pods
            if not pod["metadata"].get("deletionTimestamp")
            and not all(status["ready"] for status in pod["status"].get("containerStatuses", [{"ready": False}]))
        ]
        return not unready

    assert until(all_ready, 120), unready


def test_each_host_routes_the_others_pods_over_the_cluster_network(
    kubectl: Callable[[str], Any], reach: Callable[[str], Host]
) -> None:
    networks = {node["metadata"]["name"]: node["spec"]["podCIDR"] for node in kubectl("get nodes")["items"]}
    assert len(set(networks.values())) == len(NODES)
    for name in NODES:
        for peer, network in networks.items():
            if peer != name:
                route = reach(name).check_output(f"ip route show {network}")
                assert f"via {NODES[peer]}" in route
                assert "dev ens32" in route
