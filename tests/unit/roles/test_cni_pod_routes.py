# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest


@pytest.fixture(scope="module")
def program(repository: Path) -> ModuleType:
    """The program as the role ships it."""
    spec = importlib.util.spec_from_file_location("pod_routes", repository / "roles/cni/files/pod_routes.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def item(name: str, address: str = "", cidr: str = "", **more: Any) -> dict[str, Any]:
    addresses = [{"type": "Hostname", "address": name}]
    if address:
        addresses.insert(0, {"type": "InternalIP", "address": address})
    spec: dict[str, Any] = {"podCIDR": cidr, "podCIDRs": [cidr]} if cidr else {}
    return {"metadata": {"name": name}, "spec": {**spec, **more}, "status": {"addresses": addresses}}


NODES = [
    item("master1", "192.168.253.129", "100.64.0.0/24"),
    item("master2", "192.168.253.128", "100.64.1.0/24"),
    item("node01", "192.168.253.131", "100.64.2.0/24"),
]


def dual(name: str, last: int, pods: int) -> dict[str, Any]:
    """A node with two families."""
    node = item(name, f"192.168.253.{last}", f"100.64.{pods}.0/24")
    node["status"]["addresses"].insert(1, {"type": "InternalIP", "address": f"fd00:253::{last}"})
    node["spec"]["podCIDRs"].append(f"fd00:100:64:{pods}::/64")
    return node


def test_a_node_has_an_address_and_pods_of_each_family(program: ModuleType) -> None:
    assert program.node_of(dual("n", 131, 2)) == (
        "n",
        ("192.168.253.131", "fd00:253::131"),
        ("100.64.2.0/24", "fd00:100:64:2::/64"),
    )
    assert program.node_of(item("new")) == ("new", (), ())


def test_each_family_has_routes_of_its_own(program: ModuleType) -> None:
    nodes = [program.node_of(dual("master1", 129, 0)), program.node_of(dual("node01", 131, 1))]
    assert program.wanted_routes(nodes, "master1", "ens32", "192.168.253.129") == {
        "100.64.1.0/24": ("100.64.1.0/24", "192.168.253.131", "ens32", "192.168.253.129")
    }
    wanted = program.wanted_routes(nodes, "master1", "ens32", "fd00:253::129")
    assert wanted == {
        "fd00:100:64:1::/64": ("fd00:100:64:1::/64", "fd00:253::131", "ens32", "fd00:253::129"),
    }
    listing = [
        {
            "dst": "fd00:100:64:1::/64",
            "gateway": "fd00:253::131",
            "dev": "ens32",
            "prefsrc": "fd00:253::129",
            "metric": 1024,
        }
    ]
    assert program.route_commands(wanted, program.found_routes(listing)) == []


def test_routes_lead_to_all_other_nodes_that_have_pods(program: ModuleType) -> None:
    nodes = [program.node_of(node) for node in [*NODES, item("new", "192.168.253.140")]]
    routes = program.wanted_routes(nodes, "master1", "ens32", "192.168.253.129")
    assert routes == {
        "100.64.1.0/24": ("100.64.1.0/24", "192.168.253.128", "ens32", "192.168.253.129"),
        "100.64.2.0/24": ("100.64.2.0/24", "192.168.253.131", "ens32", "192.168.253.129"),
    }


def test_commands_repair_only_what_differs(program: ModuleType) -> None:
    nodes = [program.node_of(node) for node in NODES]
    wanted = program.wanted_routes(nodes, "master1", "ens32", "192.168.253.129")
    listing = [
        {"dst": "100.64.1.0/24", "gateway": "192.168.253.128", "dev": "ens32", "prefsrc": "192.168.253.129"},
        {"dst": "100.64.2.0/24", "gateway": "192.168.160.246", "dev": "ens33"},
        {"dst": "100.64.7.0/24", "gateway": "192.168.253.150", "dev": "ens32", "prefsrc": "192.168.253.129"},
    ]
    commands = [" ".join(command) for command in program.route_commands(wanted, program.found_routes(listing))]
    assert commands == [
        "route del 100.64.7.0/24 via 192.168.253.150 dev ens32 proto 201",
        "route replace 100.64.2.0/24 via 192.168.253.131 dev ens32 src 192.168.253.129 proto 201",
    ]
    assert program.route_commands(wanted, wanted) == []


def test_a_single_address_route_is_compared_as_a_network(program: ModuleType) -> None:
    """`ip` prints a /32 without its prefix."""
    assert list(program.found_routes([{"dst": "100.64.1.7", "gateway": "192.168.253.128", "dev": "ens32"}])) == [
        "100.64.1.7/32"
    ]


def test_conflist_is_what_the_plugins_read(program: ModuleType) -> None:
    chain = json.loads(program.conflist(["100.64.2.0/24"], 1450, "cni0"))
    bridge, portmap = chain["plugins"]
    assert bridge["mtu"] == 1450
    assert bridge["ipMasq"] is False
    assert bridge["ipam"]["ranges"] == [[{"subnet": "100.64.2.0/24"}]]
    assert bridge["ipam"]["routes"] == [{"dst": "0.0.0.0/0"}]
    assert portmap["capabilities"] == {"portMappings": True}


def test_pods_get_an_address_and_a_route_of_each_family(program: ModuleType) -> None:
    chain = json.loads(program.conflist(["fd00:100:64:2::/64", "100.64.2.0/24"], 1450, "cni0"))
    ipam = chain["plugins"][0]["ipam"]
    assert ipam["ranges"] == [[{"subnet": "fd00:100:64:2::/64"}], [{"subnet": "100.64.2.0/24"}]]
    assert ipam["routes"] == [{"dst": "::/0"}, {"dst": "0.0.0.0/0"}]


@pytest.mark.parametrize(("pods", "last"), [("fd00:100:64::/48", "MASQUERADE"), ("2a01:4f8:64::/48", "RETURN")])
def test_ipv6_pods_are_masqueraded_unless_they_are_public(program: ModuleType, pods: str, last: str) -> None:
    rules = program.chain_rules(pods, "fd00:10:96::/112", ["fd00:253::131", "fd00:253::129"])
    assert rules[program.NAT_CHAIN] == [
        f"-A MULTINIC-PODS-NAT -d {pods} -j RETURN",
        "-A MULTINIC-PODS-NAT -d fd00:253::129/128 -j RETURN",
        "-A MULTINIC-PODS-NAT -d fd00:253::131/128 -j RETURN",
        "-A MULTINIC-PODS-NAT -d ff00::/8 -j RETURN",
        f"-A MULTINIC-PODS-NAT -j {last}",
    ]


def test_pods_keep_their_address_towards_pods_and_nodes(program: ModuleType) -> None:
    rules = program.chain_rules("100.64.0.0/10", "10.96.0.0/16", ["192.168.253.131", "192.168.253.129"])
    assert rules[program.NAT_CHAIN] == [
        "-A MULTINIC-PODS-NAT -d 100.64.0.0/10 -j RETURN",
        "-A MULTINIC-PODS-NAT -d 192.168.253.129/32 -j RETURN",
        "-A MULTINIC-PODS-NAT -d 192.168.253.131/32 -j RETURN",
        "-A MULTINIC-PODS-NAT -d 224.0.0.0/4 -j RETURN",
        "-A MULTINIC-PODS-NAT -j MASQUERADE",
    ]
    chain = program.NAT_CHAIN
    text = program.restore_input("nat", chain, rules[chain])
    assert text.startswith("*nat\n:MULTINIC-PODS-NAT - [0:0]\n-A ")
    assert text.endswith("-j MASQUERADE\nCOMMIT\n")


@pytest.mark.parametrize(
    "text",
    [
        """
apiVersion: v1
clusters:
- cluster:
    certificate-authority-data: QUJD
    server: https://apiserver.cluster.local:6443
  name: default-cluster
users:
- name: default-auth
  user:
    client-certificate: /var/lib/kubelet/pki/kubelet-client-current.pem
    client-key: /var/lib/kubelet/pki/kubelet-client-current.pem
""",
        """
clusters:
  - name: a
    cluster: {}
  - cluster:
      server: "https://apiserver.cluster.local:6443"
      certificate-authority-data: 'QUJD'
users:
  - user:
      client-key: /var/lib/kubelet/pki/kubelet-client-current.pem
      client-certificate: /var/lib/kubelet/pki/kubelet-client-current.pem
""",
    ],
)
def test_kubeconfig_of_kubelet_is_read(program: ModuleType, text: str) -> None:
    assert program.kubeconfig_values(text) == {
        "server": "https://apiserver.cluster.local:6443",
        "certificate-authority-data": "QUJD",
        "client-certificate": "/var/lib/kubelet/pki/kubelet-client-current.pem",
        "client-key": "/var/lib/kubelet/pki/kubelet-client-current.pem",
    }


def test_the_nodes_are_remembered_over_a_restart(program: ModuleType, tmp_path: Path) -> None:
    config = {
        "node_name": "node01",
        "mtu": 1500,
        "bridge": "cni0",
        "families": [{"pod_cidr": "100.64.0.0/10"}],
        "state_path": str(tmp_path / "nodes.json"),
        "conflist_path": str(tmp_path / "net.d/10.conflist"),
    }
    nodes = {node["metadata"]["name"]: program.node_of(node) for node in NODES}
    program.PodNetwork(config).learn(nodes)
    again = program.PodNetwork(config)
    assert again.nodes == nodes
    again.keep_conflist()
    assert "100.64.2.0/24" in (tmp_path / "net.d/10.conflist").read_text(encoding="utf-8")


@pytest.mark.parametrize("text", ["[[1]", "[[1]]", '[["node01", "192.168.253.131", "100.64.2.0/24"]]'])
def test_a_damaged_memory_is_no_reason_to_stop(program: ModuleType, tmp_path: Path, text: str) -> None:
    (tmp_path / "nodes.json").write_text(text, encoding="utf-8")
    assert program.PodNetwork({"state_path": str(tmp_path / "nodes.json")}).nodes == {}


def test_the_cni_configuration_waits_for_pods_of_each_family(program: ModuleType, tmp_path: Path) -> None:
    pods = [{"pod_cidr": "100.64.0.0/10"}, {"pod_cidr": "fd00:100:64::/48"}]
    config = {"node_name": "node01", "mtu": 1500, "bridge": "cni0", "families": pods}
    network = program.PodNetwork(
        {**config, "state_path": str(tmp_path / "n.json"), "conflist_path": str(tmp_path / "c.conflist")}
    )
    network.learn({"node01": program.node_of(item("node01", "192.168.253.131", "100.64.2.0/24"))})
    network.keep_conflist()
    assert not (tmp_path / "c.conflist").exists()
    network.learn({"node01": program.node_of(dual("node01", 131, 2))})
    network.keep_conflist()
    assert "fd00:100:64:2::/64" in (tmp_path / "c.conflist").read_text(encoding="utf-8")


def test_a_message_is_told_once_until_it_changes(program: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    log = program.Log()
    for message in ("down", "down", "up", "down"):
        log.say("route", message)
    assert capsys.readouterr().out.splitlines() == ["down", "up", "down"]
