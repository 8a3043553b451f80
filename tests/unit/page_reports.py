# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reports for the tests of the page: what the preflight has at hand for 4 and for 100 hosts, and what a doctor would."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

from ansible_collections.multinic.kubernetes.plugins.module_utils._findings import Finding
from ansible_collections.multinic.kubernetes.plugins.module_utils._plan import Host, plan_cluster
from ansible_collections.multinic.kubernetes.plugins.module_utils._probe import judge, probe_arguments
from ansible_collections.multinic.kubernetes.tests.unit.network_hosts import (
    bundle,
    card,
    default_route,
    facts,
    seed_cluster,
)

WHEN = "2026-11-24 09:30 UTC"
TYPO = "192.158.253.1"


def report_of(hosts: list[Host], settings: Mapping[str, Any], troubles: dict[str, str] | None = None) -> dict[str, Any]:
    """Plan, measurements and findings of these hosts, all of which answer."""
    result = plan_cluster(hosts, settings, bundle())
    known = {host.name: dict(host.facts or {}) for host in hosts if host.facts}
    probes = {name: _measured(result.plan, name) for name in result.plan.get("hosts", {})}
    for name in troubles or {}:
        probes.pop(name, None)
    return {
        "plan": result.plan,
        "facts": known,
        "probes": probes,
        "findings": [*result.findings, *judge(result.plan, known, probes, troubles or {})]
        if result.plan
        else result.findings,
        "when": WHEN,
    }


def again(report: dict[str, Any]) -> dict[str, Any]:
    """The report with its measurements judged anew, after a test has changed them."""
    findings = [item for item in report["findings"] if isinstance(item, Finding)]
    judged = judge(report["plan"], report["facts"], report["probes"], {})
    return {**report, "findings": list(dict.fromkeys([*findings, *judged]))}


def _measured(plan: Mapping[str, Any], name: str) -> dict[str, Any]:
    chance = random.Random(name)  # noqa: S311 # the same every time, and no secret
    arguments = probe_arguments(plan, name)
    peers = []
    for peer in arguments["peers"]:
        time = round(0.2 + chance.random() * 0.3, 3)
        full = round(time + 0.1, 3)
        peers.append({**peer, "milliseconds": time, "full_milliseconds": full, "largest": peer["size"], "tcp": ""})
    sources = {":" in source: source for source in plan["hosts"][name]["addresses"]}
    lookups = {
        peer["address"]: {"dev": arguments["interface"], "source": sources[":" in peer["address"]], "gateway": None}
        for peer in peers
    }
    offset = round(chance.uniform(-0.03, 0.03), 4)
    return {
        "peers": peers,
        "lookups": lookups,
        "kernel_modules": dict.fromkeys(arguments["kernel_modules"], True),
        "clock": {"offset_seconds": offset, "uncertainty_seconds": 0.02},
        "trouble": "",
    }


def _spoil(report: dict[str, Any], sender: str, receiver: str, **more: Any) -> None:
    for peer in report["probes"][sender]["peers"]:
        if peer["name"] == receiver:
            peer.update(more)


SILENT = {"milliseconds": None, "full_milliseconds": None, "largest": None}


def four() -> dict[str, Any]:
    """The seed's hosts with speeds, and nothing wrong."""
    changed: dict[str, dict[str, Any]] = {}
    for name, last in {"master1": 129, "master2": 128, "master3": 130, "node01": 131}.items():
        inner = card("ens32", f"192.168.253.{last}/24", speed_mbps=10000, duplex="full")
        outer = card("ens33", f"192.168.160.{115 + last}/23", speed_mbps=1000, duplex="full")
        changed[name] = {"links": [inner, outer]}
    return report_of(seed_cluster(**changed), {"cni": "bridge"})


def four_in_trouble() -> dict[str, Any]:
    """A path that drops big packets, one silent pair, a filtered one, a taken port, a docker bridge, a slow card."""
    report = four()
    report["facts"]["master2"]["links"].append(card("docker0", "172.17.0.1/16", kind="bridge"))
    report["facts"]["node01"]["links"][0].update(speed_mbps=1000, carrier=True)
    report["facts"]["node01"]["listening"] = [
        {"port": 10250, "protocol": "tcp", "address": "0.0.0.0", "process": "nginx"}  # noqa: S104 # as it is told
    ]
    report["facts"]["master3"]["clock"] = {"daemon": ""}
    for name in ("master1", "master2"):
        report["facts"][name]["system"]["swap"] = ["/dev/sda2"]
    _spoil(report, "master1", "node01", full_milliseconds=None, largest=1400)
    _spoil(report, "node01", "master1", full_milliseconds=None, largest=1400)
    _spoil(report, "master2", "node01", **SILENT)
    _spoil(report, "node01", "master2", **SILENT, tcp="port 22 is open")
    _spoil(report, "master3", "master1", milliseconds=7.3, full_milliseconds=8.1)
    return again(report)


def dual_stack() -> dict[str, Any]:
    """The seed's hosts with addresses of both families on the internal card."""
    changed: dict[str, dict[str, Any]] = {}
    for name, last in {"master1": 129, "master2": 128, "master3": 130, "node01": 131}.items():
        changed[name] = {"links": [card("ens32", f"192.168.253.{last}/24", f"fd00:253::{last}/64")]}
    networks = ["192.168.253.0/24", "fd00:253::/64"]
    return report_of(seed_cluster(networks, **changed), {"cni": "bridge"})


def typo() -> dict[str, Any]:
    """The seed's own slip: nothing can be planned."""
    return report_of(seed_cluster(TYPO), {"cni": "bridge"})


def shapes() -> dict[str, Any]:
    """Bond and VLAN, two cards in one subnet, dual stack, long names, a card down, and a host that was not reached."""
    name = "ip-10-20-0-{}.storage-and-compute.eu-central-1.example.internal"
    cards = {
        1: [
            card("ens4", mtu=9000, master="bond0"),
            card("ens5", mtu=9000, master="bond0"),
            card("bond0", mtu=9000, kind="bond"),
            card(
                "bond0.100",
                "10.20.0.11/24",
                "2001:db8:20::11/64",
                mtu=9000,
                kind="vlan",
                parent="bond0",
                speed_mbps=50000,
            ),
            card("ens3", "192.0.2.11/24", speed_mbps=1000),
            card("docker0", "172.17.0.1/16", kind="bridge"),
        ],
        2: [
            card("enp130s0f0np0", "10.20.0.12/24", "10.20.0.112/24", mtu=9000, speed_mbps=25000),
            card("enp130s0f1np1", "10.20.0.212/24", mtu=1500, speed_mbps=1000),
            card("ens3", "192.0.2.12/24", speed_mbps=1000),
        ],
        3: [card("ens3", "10.20.0.13/24", mtu=9000), card("ens9", "198.51.100.13/32", up=False, carrier=False)],
    }
    hosts = [
        Host(
            name=name.format(number),
            position=number,
            control_plane=number == 1,
            worker=number != 1,
            facts=facts(f"node-{number}", some, routes=[default_route("192.0.2.1", "ens3")] if number < 3 else []),
            cluster_network="10.20.0.0/24",
        )
        for number, some in cards.items()
    ]
    trouble = "it cannot be reached: Failed to connect to the host via ssh: Connection timed out"
    hosts.append(Host("node-4", 4, False, True, None, trouble, "10.20.0.0/24"))
    return report_of(hosts, {"cni": "bridge"})


def many(
    number: int = 100, racks: int = 1, name: str = "node{:03d}.rack{:02d}.cluster.example.internal"
) -> dict[str, Any]:
    """A large cluster, with a rack's worth of trouble here and there."""
    hosts = []
    for position in range(number):
        rack, last = position * racks // number, position % 200 + 10
        outer = f"10.0.{position // 200}.{last}"
        inner = card("ens32", f"192.168.{100 + rack}.{last}/24", speed_mbps=25000, mtu=9000)
        me = name.format(position + 1, rack + 1)
        hosts.append(
            Host(
                name=me,
                position=position,
                control_plane=position < 3,
                worker=position >= 3,
                facts=facts(
                    me,
                    [inner, card("ens33", f"{outer}/16", speed_mbps=1000)],
                    routes=[default_route("10.0.255.1", "ens33")],
                ),
                cluster_network=[f"192.168.{100 + item}.0/24" for item in range(racks)] if racks == 1 else "ens32",
            )
        )
    hosts[40 % number].facts["links"][0].update(mtu=1500, speed_mbps=10000)  # type: ignore[index]
    report = report_of(hosts, {"cni": "bridge"})
    names = list(report["plan"]["hosts"])
    if number > 80:
        for other in names:
            _spoil(report, names[77], other, **SILENT)
            _spoil(report, other, names[77], **SILENT)
        for other in names[20:30]:
            _spoil(report, names[5], other, full_milliseconds=None, largest=1500)
            _spoil(report, names[12], other, milliseconds=4.2)
            _spoil(report, names[33], other, **SILENT, tcp="port 22 is open")
        for item in names[:50]:
            report["facts"][item]["clock"] = {"daemon": ""}
        report["probes"].pop(names[90])
    return again(report)


def doctor() -> dict[str, Any]:
    """A running cluster on which two components took another address."""
    report = four()
    plan = report["plan"]
    status: dict[str, Any] = {}
    for name, node in plan["hosts"].items():
        address = node["address"]
        real = [{"address": item, "port": 6443, "weight": 1} for item in plan["apiserver"]["real_servers"]]
        seen: dict[str, Any] = {
            "kubelet": {"running": True, "node_ip": address, "server": "https://apiserver.cluster.local:6443"},
            "route": {"type": "local", "dev": "lo", "source": address},
            "virtual_server": {"address": plan["apiserver"]["vip"], "port": 6443, "real_servers": real},
            "api": {"ok": True, "source": address, "error": ""},
            "static_pods": {},
            "etcd": {},
        }
        if node["role"] == "control_plane":
            peer = {"initial-advertise-peer-urls": f"https://{address}:2380"}
            seen["static_pods"] = {"kube-apiserver": {"advertise-address": address}, "etcd": peer}
            seen["etcd"] = {"healthy": True, "error": "", "members": []}
        status[name] = {"member": True, "status": seen}
    status["node01"]["status"]["route"] = {"type": "unicast", "dev": "ens33", "source": "192.168.160.246"}
    status["node01"]["status"]["api"] = {"ok": False, "error": "timed out", "source": ""}
    status["master2"]["status"]["kubelet"]["node_ip"] = "192.168.160.243"
    status["master3"]["status"]["virtual_server"]["real_servers"][0]["weight"] = 0
    nodes = [
        {"name": node["node_name"], "ready": True, "internal_ips": [node["address"]]} for node in plan["hosts"].values()
    ]
    error = Finding(
        "error",
        "node01",
        "apiserver_vip",
        "the way to 10.103.97.2: unicast route, dev ens33, source 192.168.160.246; planned: local route with source "
        "192.168.253.131",
        "The source of connections to the API server is not the cluster address, and on strict networks they fail.",
        "systemctl restart multinic-vip-route",
    )
    return {**report, "kind": "doctor", "status": status, "cluster": {"nodes": nodes}, "findings": [error]}
