# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host's own measurements mean."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ansible_collections.multinic.kubernetes.plugins.module_utils import _facts, _proof_host
from ansible_collections.multinic.kubernetes.plugins.module_utils._findings import Finding, Findings
from ansible_collections.multinic.kubernetes.plugins.module_utils._seen import Seen

NODE = {"node_name": "node02", "address": "192.168.253.132", "addresses": ["192.168.253.132"]}


def host(facts: dict[str, Any] | None = None, **probe: Any) -> Seen:
    return Seen("node02", NODE, facts or {}, probe)


@pytest.mark.parametrize(
    ("median", "p99", "severity", "word"),
    [
        (0.2, 9.9, "", ""),
        (0.2, 10.4, "warning", "requests to the API get slow"),
        (20, 140, "warning", "under load"),
        (101, 140, "error", "again and again"),
    ],
)
def test_the_disk_of_etcd(median: float, p99: float, severity: str, word: str) -> None:
    found = Findings()
    _proof_host.judge_fsync(host(fsync={"path": "/var/lib", "writes": 100, "median": median, "p99": p99}), found)
    assert [item.severity for item in found.items] == ([severity] if severity else [])
    assert all(word in item.why and f"takes {p99:.0f} ms" in item.found for item in found.items)


def test_a_disk_that_was_not_measured_is_not_judged() -> None:
    found = Findings()
    for fsync in (None, {}, {"writes": 0}):
        _proof_host.judge_fsync(host(fsync=fsync), found)
    assert found.items == []


@pytest.mark.parametrize(("part", "value"), [(50, 50), (99, 99), (100, 100), (1, 1)])
def test_percentile(part: int, value: int) -> None:
    assert _proof_host.percentile(list(range(100, 0, -1)), part) == value
    assert _proof_host.percentile([], part) == 0


@pytest.mark.parametrize(
    ("text", "severity", "word"),
    [
        ("nameserver 192.168.160.1\nsearch example\n", "", ""),
        ("nameserver 127.0.0.1\n", "warning", "names 127.0.0.1"),
        ("nameserver 192.168.160.1\nnameserver 127.0.0.53 # stub\n", "warning", "names 127.0.0.53"),
        ("nameserver ::1\n", "warning", "names ::1"),
        ("nameserver fe80::1%ens33\n", "", ""),
        ("# nameserver 192.168.160.1\n; nameserver 1.1.1.1\nnameserver\n", "info", "no name server"),
        ("", "info", "no name server"),
    ],
)
def test_name_servers_that_pods_cannot_use(text: str, severity: str, word: str) -> None:
    found = Findings()
    resolver = {"path": "/etc/resolv.conf", "servers": _facts.name_servers(text)}
    _proof_host.judge_resolver(host({"resolver": resolver}), found)
    assert [item.severity for item in found.items] == ([severity] if severity else [])
    assert all(word in item.found for item in found.items)


def nodes(**more: Any) -> list[dict[str, str]]:
    """What kubectl says of a cluster with one node."""
    info = {"machineID": "abc", "systemUUID": "4C4C4544-0000"}
    addresses = [
        {"type": "Hostname", "address": "old"},
        {"type": "InternalIP", "address": more.get("address", "10.0.0.1")},
    ]
    item = {
        "metadata": {"name": more.get("name", "old")},
        "status": {"addresses": addresses, "nodeInfo": {**info, **more.get("info", {})}},
    }
    return _proof_host.parse_nodes(json.dumps({"items": [item]})) or []


IDENTITY = {"identity": {"machine_id": "def", "product_uuid": "4c4c4544-0001"}}


def judged(there: list[dict[str, str]] | None, facts: dict[str, Any]) -> list[Finding]:
    found = Findings()
    _proof_host.judge_cluster([host(facts)], {"cluster_nodes": there}, found)
    return found.items


@pytest.mark.parametrize(
    ("there", "told"),
    [
        (nodes(), ""),
        (None, ""),
        (nodes(name="node02"), "the name node02"),
        (nodes(address="192.168.253.132"), "the address 192.168.253.132"),
        (nodes(info={"machineID": "def"}), "the machine-id def"),
        (nodes(info={"systemUUID": "4C4C4544-0001"}), "the product_uuid 4c4c4544-0001"),
        (nodes(name="node02", address="192.168.253.132"), "the name node02 and the address 192.168.253.132"),
    ],
)
def test_a_host_that_looks_like_a_node_of_the_cluster(there: list[dict[str, str]] | None, told: str) -> None:
    findings = judged(there, IDENTITY)
    assert [item.severity for item in findings] == (["error"] if told else [])
    assert all(told in item.found and item.host == "node02" for item in findings)


@pytest.mark.parametrize("state", [{"member": True}, {"ours": True}])
def test_its_own_node_is_no_trouble(state: dict[str, bool]) -> None:
    assert judged(nodes(name="node02"), {**IDENTITY, "kubernetes": state}) == []


@pytest.mark.parametrize("text", ["", "{}", "[]", "no json"])
def test_what_is_no_list_of_nodes_is_nothing(text: str) -> None:
    assert _proof_host.parse_nodes(text) is None
