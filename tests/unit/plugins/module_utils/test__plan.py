# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The plan of the seed's situations, every bad input we know, and what holds for any input."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from ipaddress import ip_address, ip_network
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.multinic.kubernetes.plugins.module_utils import _plan
from ansible_collections.multinic.kubernetes.plugins.module_utils._findings import SEVERITIES
from ansible_collections.multinic.kubernetes.plugins.module_utils._plan import Bundle, Host, Result, plan_cluster
from ansible_collections.multinic.kubernetes.plugins.module_utils._settings import (
    DEFAULT_PODS,
    DEFAULT_SERVICES,
    DEFAULT_VIP,
)
from ansible_collections.multinic.kubernetes.tests.unit.network_hosts import (
    CALICO,
    INTERNAL,
    MANIFEST,
    MASTERS,
    WORKERS,
    address,
    bundle,
    card,
    facts,
    seed_cluster,
    seed_facts,
)

ADDRESSES = {name: f"{INTERNAL}.{last}" for name, last in {**MASTERS, **WORKERS}.items()}


def plan(hosts: list[Host] | None = None, variables: dict[str, Any] | None = None, **more: Any) -> Result:
    return plan_cluster(seed_cluster() if hosts is None else hosts, variables or {}, bundle(**more))


# --- a cluster that runs ---------------------------------------------------------------------------------------------


def foreign_cluster(**kubernetes: Any) -> list[Host]:
    """Plain kubeadm's nodes: kubelet.conf, no marker of ours, the pods' cards of another plugin."""
    state = {"member": False, "ours": False, "kubelet_conf": True, "admin_conf": True, **kubernetes}
    hosts = []
    for host in seed_cluster():
        known = dict(host.facts or {})
        known["links"] = [*known["links"], card("flannel.1", "100.64.1.0/32"), card("cni0", "100.64.1.1/24")]
        hosts.append(replace(host, facts={**known, "kubernetes": {**known.get("kubernetes", {}), **state}}))
    return hosts


def test_of_a_running_cluster_only_addresses_are_planned() -> None:
    installed = plan_cluster(foreign_cluster(), {"cni": "calico"}, None)
    assert not installed.sound
    result = plan_cluster(foreign_cluster(), {"cni": "calico"}, None, running=True)
    assert result.findings == []
    assert {name: node["address"] for name, node in result.plan["hosts"].items()} == ADDRESSES


def test_of_a_running_cluster_too_the_typo_is_told() -> None:
    hosts = [replace(host, cluster_network="192.158.253.1") for host in foreign_cluster()]
    findings = plan_cluster(hosts, {}, None, running=True).findings
    assert {item.host for item in findings} == set(ADDRESSES)
    assert {(item.severity, item.variable) for item in findings} == {("error", "cluster_network")}


# --- good input ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("network", ["192.168.253.0/24", "192.168.253.1", "ens32", "auto", None, ["192.168.253.0/24"]])
def test_every_form_of_cluster_network_gives_the_same_addresses(network: Any) -> None:
    result = plan(seed_cluster(network))
    assert result.findings == []
    hosts = result.plan["hosts"]
    assert {name: node["address"] for name, node in hosts.items()} == ADDRESSES
    assert {node["interface"] for node in hosts.values()} == {"ens32"}
    assert hosts["node01"]["vip_route"] == {"destination": "10.103.97.2/32", "source": ADDRESSES["node01"]}
    assert all(node["reasons"] for node in hosts.values())


def test_auto_tells_its_reason_once_for_the_cluster() -> None:
    result = plan(seed_cluster("auto"))
    (reason,) = [text for text in result.plan["reasons"] if "192.168.253.0/24" in text]
    assert "the only one that does not carry the default route" in reason


@pytest.mark.parametrize("network", ["192.168.253.0/24", "192.168.253.1"])
def test_cards_may_have_other_names_on_each_host(network: str) -> None:
    names = {"master1": "eno1", "master2": "enp3s0", "master3": "ens33", "node01": "p2p1"}
    hosts = [
        replace(host, facts=seed_facts(host.name, int(ADDRESSES[host.name].split(".")[3]), names[host.name], "ens32"))
        for host in seed_cluster(network)
    ]
    result = plan(hosts)
    assert result.findings == []
    assert {name: node["interface"] for name, node in result.plan["hosts"].items()} == names


def test_the_whole_plan() -> None:
    result = plan()
    chosen = {key: value for key, value in result.plan.items() if key not in {"hosts", "reasons", "hosts_file"}}
    assert chosen == {
        "schema": 1,
        "kubernetes_version": "v1.20.2",
        "bundle": {"path": "/root/kube.tar.gz", "sha256": "a" * 64, "unpacked_mb": 0, "distributions": []},
        "apiserver": {
            "name": "apiserver.cluster.local",
            "vip": "10.103.97.2",
            "vips": ["10.103.97.2"],
            "port": 6443,
            "endpoint": "apiserver.cluster.local:6443",
            "balancer": "ipvs",
            "addresses": ["10.103.97.2"],
            "changing": {},
            "retiring": {},
            "sans": [
                "apiserver.cluster.local",
                "10.103.97.2",
                "127.0.0.1",
                "localhost",
                "master1",
                "192.168.253.129",
                "master2",
                "192.168.253.128",
                "master3",
                "192.168.253.130",
            ],
            "real_servers": ["192.168.253.129", "192.168.253.128", "192.168.253.130"],
            "virtual_servers": [
                {"vip": "10.103.97.2", "real_servers": ["192.168.253.129", "192.168.253.128", "192.168.253.130"]}
            ],
            "outside": [],
        },
        "pod_cidr": "100.64.0.0/10",
        "service_cidr": "10.96.0.0/16",
        "dns_domain": "cluster.local",
        "dns_address": "10.96.0.10",
        "control_plane": ["master1", "master2", "master3"],
        "workers": ["node01"],
        "first_control_plane": "master1",
        "kernel_modules": ["br_netfilter", "overlay", "nf_conntrack", "ip_vs", "ip_vs_rr", "ipip"],
        "needs": {
            "commands": list(_plan.COMMANDS),
            "cni_plugins": [],
            "way_packages": [],
            "other_ways_packages": ["haproxy"],
        },
        "ignore_preflight_errors": [],
        "cni": {"name": "calico", "mtu": 1480, "autodetection_method": "interface=^ens32$", "encapsulation": "ipip"},
        "kube_proxy": {"mode": "iptables", "exclude_cidrs": ["10.103.97.2/32"]},
        "time": {
            "servers": ["192.168.253.129", "192.168.253.128", "192.168.253.130"],
            "offline": True,
            "serving": ["master1", "master2", "master3"],
            "sources": {},
            "allow": ["192.168.253.0/24"],
            "tolerance_seconds": 2.0,
        },
    }
    assert {"address": "192.168.253.131", "names": ["node01"]} in result.plan["hosts_file"]
    assert {"address": "10.103.97.2", "names": ["apiserver.cluster.local"]} in result.plan["hosts_file"]


def test_who_serves_the_time_keeps_the_sources_it_has_but_for_the_cluster_itself() -> None:
    kept = ["pool 2.debian.pool.ntp.org iburst", "refclock PHC /dev/ptp0 poll 3"]
    clock = {"clock": {"daemon": "chrony", "sources": [*kept, "server 192.168.253.128 iburst minpoll 4 maxpoll 6"]}}
    hosts = seed_cluster(master1=clock, node01=clock)
    made = plan(hosts).plan
    assert made["time"]["sources"] == {"master1": kept}
    assert any(
        "master1 keeps its time sources 2.debian.pool.ntp.org, PHC /dev/ptp0" in text for text in made["reasons"]
    )
    assert plan(hosts, {"time_servers": ["192.0.2.1"]}).plan["time"]["sources"] == {}


@pytest.mark.parametrize(
    ("variables", "modules", "plugins"),
    [
        ({}, ["ipip"], []),
        ({"calico_encapsulation": "vxlan"}, ["vxlan"], []),
        ({"cni": "none"}, [], ["loopback"]),
        ({"cni": "bridge", "kube_proxy_mode": "ipvs"}, ["ip_vs_wrr", "ip_vs_sh"], ["bridge", "host-local"]),
        ({"cni": "none", "kube_proxy_mode": "nftables"}, ["nf_tables", "nft_chain_nat"], ["loopback"]),
    ],
)
def test_what_a_host_must_have_follows_from_the_wishes(
    variables: dict[str, Any], modules: list[str], plugins: list[str]
) -> None:
    made = plan(seed_cluster(), variables, manifest={**MANIFEST, "kubernetes_version": "v1.34.4"}).plan
    common = ["br_netfilter", "overlay", "nf_conntrack", "ip_vs", "ip_vs_rr"]
    assert made["kernel_modules"] == [*common, *modules]
    assert made["needs"]["cni_plugins"][: len(plugins)] == plugins


def test_a_member_is_first() -> None:
    member = {"member": True, "admin_conf": True, "node_name": "master2.example", "kubelet_conf": True, "ours": True}
    result = plan(seed_cluster(master2={"kubernetes": member}))
    assert result.plan["first_control_plane"] == "master2"
    assert result.plan["hosts"]["master2"]["node_name"] == "master2.example"


MEMBER = {"member": True, "admin_conf": True, "node_name": "", "kubelet_conf": True, "ours": True}


def limited(*names: str, members: tuple[str, ...]) -> list[Host]:
    """A run that is limited to these hosts, in a cluster that has these members."""
    hosts = seed_cluster(**{name: {"kubernetes": {**MEMBER, "node_name": name}} for name in members})
    return [replace(host, in_run=host.name in names) for host in hosts]


def test_a_limited_run_plans_the_whole_cluster() -> None:
    result = plan(limited("master1", "node01", members=tuple(MASTERS)))
    assert result.findings == []
    assert set(result.plan["hosts"]) == set(ADDRESSES)
    assert result.plan["apiserver"]["real_servers"] == [ADDRESSES[name] for name in MASTERS]


def test_the_first_control_plane_is_one_of_the_run() -> None:
    assert plan(limited("master3", "node01", members=tuple(MASTERS))).plan["first_control_plane"] == "master3"


@pytest.mark.parametrize("members", [tuple(MASTERS), (*MASTERS, "node01")])
def test_where_a_cluster_is_no_control_plane_has_to_be_in_the_run(members: tuple[str, ...]) -> None:
    result = plan(limited("node01", members=members))
    assert result.findings == []
    assert result.plan["first_control_plane"] == "master1"


def test_a_host_of_both_groups_is_a_schedulable_control_plane() -> None:
    hosts = [replace(host, worker=True) for host in seed_cluster()]
    result = plan(hosts)
    assert (result.plan["hosts"]["master1"]["role"], result.plan["hosts"]["master1"]["schedulable"]) == (
        "control_plane",
        True,
    )
    assert result.plan["workers"] == ["node01"]


def test_one_host_may_have_its_own_cluster_network() -> None:
    hosts = seed_cluster("192.168.253.0/24")
    hosts[3] = replace(hosts[3], cluster_network="ens33")
    assert plan(hosts).plan["hosts"]["node01"]["address"].startswith("192.168.160.")


def test_the_mtu_is_the_chosen_cards_not_the_smallest_of_all() -> None:
    def jumbo(name: str, last: int) -> dict[str, Any]:
        return {"links": [card("ens32", f"{INTERNAL}.{last}/24", mtu=9000), card("ens33", f"192.168.160.{last}/23")]}

    result = plan(seed_cluster(**{name: jumbo(name, last) for name, last in {**MASTERS, **WORKERS}.items()}))
    assert result.findings == []
    assert result.plan["cni"]["mtu"] == 8980


@pytest.mark.parametrize(
    ("variables", "mtu"),
    [
        ({"cni": "bridge"}, 1500),
        ({"calico_encapsulation": "vxlan"}, 1450),
        ({"calico_encapsulation": "none"}, 1500),
        ({"cni": "none"}, 1500),
    ],
)
def test_the_overlay_costs_some_mtu(variables: dict[str, Any], mtu: int) -> None:
    assert plan(variables=variables).plan["cni"]["mtu"] == mtu


def test_given_time_servers_are_used() -> None:
    assert plan(variables={"time_servers": "10.0.0.1, ntp.example.org"}).plan["time"]["servers"] == [
        "10.0.0.1",
        "ntp.example.org",
    ]


@pytest.mark.parametrize(
    ("docker", "severity"),
    [("192.168.128.1/17", "warning"), ("192.168.253.254/24", "error"), ("192.168.253.9/30", "error")],
)
def test_a_wider_network_of_docker_hides_nothing_of_the_clusters(docker: str, severity: str) -> None:
    result = plan(extra_card(card("docker0", docker, kind="bridge"))())
    (finding,) = (item for item in result.findings if "of docker0 overlaps" in item.found)
    assert (finding.host, finding.severity) == ("node01", severity)


def test_the_users_calico_method_is_honoured() -> None:
    result = plan(variables={"calico_autodetection_method": "can-reach=192.168.253.1"})
    assert result.plan["cni"]["autodetection_method"] == "can-reach=192.168.253.1"
    assert result.findings == []


def test_a_calico_method_that_leads_elsewhere_is_refused_on_each_host() -> None:
    result = plan(variables={"calico_autodetection_method": "can-reach=192.158.253.1"})
    assert not result.sound
    assert {(item.host, item.variable, item.severity) for item in result.findings} == {
        (name, "calico_autodetection_method", "error") for name in ALL
    }
    assert "would take 192.168.160.246 (ens33), but 192.168.253.131 (ens32) is planned" in result.findings[-1].found
    assert "interface=^ens32$" in result.findings[-1].remedy


def test_a_calico_method_that_would_meet_the_clusters_own_cards_is_refused() -> None:
    variables = {"calico_autodetection_method": "skip-interface=ens33", "kube_proxy_mode": "ipvs"}
    assert plan(variables=variables).findings == []
    variables["calico_autodetection_method"] = "interface=ens32,kube"
    result = plan(variables=variables)
    assert {item.variable for item in result.findings} == {"calico_autodetection_method"}


DUAL = ("192.168.253.0/24", "fd00:253::/64")


def dual_stack(value: Any = DUAL, ipv4: bool = True, **per_host: dict[str, Any]) -> list[Host]:
    """The seed's hosts with an IPv6 address beside their IPv4 one on ens32, or alone."""
    cards = {
        name: {"links": [card("ens32", *([f"{INTERNAL}.{last}/24"] if ipv4 else []), f"fd00:253::{last}/64")]}
        for name, last in {**MASTERS, **WORKERS}.items()
    }
    return seed_cluster(value, **{name: {**mine, **per_host.get(name, {})} for name, mine in cards.items()})


def test_dual_stack_is_planned_in_both_families() -> None:
    result = plan(dual_stack())
    assert result.findings == []
    made, node = result.plan, result.plan["hosts"]["node01"]
    assert node["addresses"] == ["192.168.253.131", "fd00:253::131"]
    assert node["networks"] == [*DUAL]
    assert node["vip_route"] == {"destination": "10.103.97.2/32", "source": "192.168.253.131"}
    assert node["vip_routes"] == [
        node["vip_route"],
        {"destination": "fd00:10:103:97::2/128", "source": "fd00:253::131"},
    ]
    assert made["pod_cidr"] == "100.64.0.0/10,fd00:100:64::/48"
    assert made["service_cidr"] == "10.96.0.0/16,fd00:10:96::/112"
    assert made["dns_address"] == "10.96.0.10"
    assert made["kube_proxy"]["exclude_cidrs"] == ["10.103.97.2/32", "fd00:10:103:97::2/128"]
    assert made["apiserver"]["vip"] == "10.103.97.2"
    assert made["apiserver"]["virtual_servers"] == [
        {"vip": "10.103.97.2", "real_servers": [ADDRESSES[name] for name in MASTERS]},
        {"vip": "fd00:10:103:97::2", "real_servers": [f"fd00:253::{last}" for last in MASTERS.values()]},
    ]
    assert {"fd00:10:103:97::2", "::1", "fd00:253::129", "10.103.97.2"} <= set(made["apiserver"]["sans"])
    entries = [(line["address"], line["names"][0]) for line in made["hosts_file"]]
    assert {("192.168.253.131", "node01"), ("fd00:253::131", "node01")} <= set(entries)
    assert entries[-2:] == [
        ("10.103.97.2", made["apiserver"]["name"]),
        ("fd00:10:103:97::2", made["apiserver"]["name"]),
    ]
    assert made["time"]["allow"] == sorted(DUAL)
    assert [text for text in made["reasons"] if "is not set" in text] == [
        "apiserver_vip is not set, so the API is reached at 10.103.97.2,fd00:10:103:97::2, by the families of the cluster "
        "network.",
        "pod_cidr is not set, so pods get addresses of 100.64.0.0/10,fd00:100:64::/48, by the families of the cluster "
        "network.",
        "service_cidr is not set, so services get addresses of 10.96.0.0/16,fd00:10:96::/112, by the families of the "
        "cluster network.",
    ]


def test_the_first_network_is_of_the_primary_family() -> None:
    variables = {"pod_cidr": "100.64.0.0/10,fd00:64::/48", "apiserver_vip": "10.103.97.2,fd00:97::2"}
    result = plan(dual_stack("fd00:253::/64,192.168.253.0/24"), variables)
    assert result.findings == []
    node = result.plan["hosts"]["node01"]
    assert (node["address"], node["addresses"]) == ("fd00:253::131", ["fd00:253::131", "192.168.253.131"])
    assert node["vip_route"]["destination"] == "fd00:97::2/128"
    assert result.plan["pod_cidr"] == "fd00:64::/48,100.64.0.0/10"
    assert result.plan["dns_address"] == "fd00:10:96::a"


def test_ipv6_alone_needs_nothing_but_its_network() -> None:
    result = plan(dual_stack("fd00:253::/64", ipv4=False))
    assert result.findings == []
    made, node = result.plan, result.plan["hosts"]["node01"]
    assert (made["pod_cidr"], made["service_cidr"]) == ("fd00:100:64::/48", "fd00:10:96::/112")
    assert made["apiserver"]["vip"] == "fd00:10:103:97::2"
    assert node["vip_routes"] == [{"destination": "fd00:10:103:97::2/128", "source": "fd00:253::131"}]
    assert made["cni"]["mtu"] == 1500
    assert "ipip" not in made["kernel_modules"]
    assert any("IP in IP carries IPv4 alone" in text for text in made["reasons"])


def test_the_ipv6_defaults_are_what_kubernetes_takes() -> None:
    pods, services = ip_network(DEFAULT_PODS[6]), ip_network(DEFAULT_SERVICES[6])
    assert 0 <= 64 - pods.prefixlen <= 16
    assert services.prefixlen >= 108
    nets = [pods, services, ip_network(DEFAULT_VIP[6])]
    assert not any(left.overlaps(right) for left in nets for right in nets if left is not right)
    assert all(net.is_private and net.subnet_of(ip_network("fd00::/8")) for net in nets)  # type: ignore[arg-type]


def test_one_vip_is_enough_for_two_families() -> None:
    result = plan(dual_stack(), {"apiserver_vip": "fd00:97::2"})
    assert result.findings == []
    node = result.plan["hosts"]["node01"]
    assert node["vip_routes"] == [{"destination": "fd00:97::2/128", "source": "fd00:253::131"}]
    assert result.plan["apiserver"]["real_servers"][0] == "fd00:253::129"


@pytest.mark.parametrize(
    ("encapsulation", "calico", "mtu", "refused"),
    [
        ("ipip", "v3.19.1", 1480, ""),
        ("none", "v3.19.1", 1500, ""),
        ("vxlan", "v3.26.1", 1430, ""),
        ("vxlan", "v3.22.4", 1430, "the bundle holds Calico v3.22.4"),
    ],
)
def test_what_calico_makes_of_two_families(encapsulation: str, calico: str, mtu: int, refused: str) -> None:
    image = {"kind": "image", "path": "images/node.tar", "images": [f"docker.io/calico/node:{calico}"]}
    held = {**MANIFEST, "parts": [*CALICO, image]}
    result = plan(dual_stack(), {"calico_encapsulation": encapsulation}, manifest=held)
    assert [item.variable for item in result.findings] == (["calico_encapsulation"] if refused else [])
    assert all(refused in item.found for item in result.findings)
    assert result.plan["cni"]["mtu"] == mtu


@pytest.mark.parametrize(
    ("hosts", "variables", "where", "variable", "found", "remedy"),
    [
        (
            dual_stack(node01={"links": [card("ens32", f"{INTERNAL}.131/24")]}),
            {},
            "node01",
            "cluster_network",
            "no card has an address inside fd00:253::/64",
            "a network that the host is on",
        ),
        (
            dual_stack(node01={"links": [card("ens32", f"{INTERNAL}.131/24")]}),
            {},
            "node01",
            "cluster_network",
            "its cluster address 192.168.253.131 is IPv4, but IPv4 and IPv6 on master1",
            "Give node01 an address of each family",
        ),
        (
            dual_stack(node01={"links": [card("ens32", f"{INTERNAL}.131/24"), card("ens9", "fd00:253::131/64")]}),
            {},
            "node01",
            "cluster_network",
            "on two cards: 192.168.253.131 on ens32, fd00:253::131 on ens9",
            "Put both addresses on one card",
        ),
        (
            dual_stack(),
            {"pod_cidr": "100.64.0.0/10"},
            "",
            "pod_cidr",
            "100.64.0.0/10 is IPv4, but the cluster network is IPv4 and IPv6",
            "Set pod_cidr to one IPv4 and IPv6 network each",
        ),
        (
            dual_stack("fd00:253::/64", ipv4=False),
            {"service_cidr": "10.96.0.0/16"},
            "",
            "service_cidr",
            "10.96.0.0/16 is IPv4, but the cluster network is IPv6",
            "Set service_cidr to an IPv6 network",
        ),
        (
            dual_stack("fd00:253::/64", ipv4=False),
            {"apiserver_vip": "10.103.97.2"},
            "",
            "apiserver_vip",
            "10.103.97.2 is IPv4, but the cluster network is IPv6",
            "Set apiserver_vip to an IPv6 address",
        ),
        (
            dual_stack(),
            {"pod_cidr": "100.64.0.0/10,fd00:64::/40"},
            "",
            "pod_cidr",
            "has room for 16777216 nodes' /64 networks",
            "such as fd00:100:64::/48",
        ),
        (
            dual_stack(),
            {"service_cidr": "10.96.0.0/16,fd00:96::/64"},
            "",
            "service_cidr",
            "fd00:96::/64 has 18446744073709551616 addresses",
            "such as fd00:10:96::/112",
        ),
        (
            dual_stack(),
            {"apiserver_vip": "10.103.97.2,fd00:253::2"},
            "node01",
            "apiserver_vip",
            "fd00:253::2 is inside fd00:253::/64 of ens32",
            "such as fd00:10:103:97::2",
        ),
        (
            dual_stack(
                ["192.168.253.0/24", "fd00:253::/48"],
                node01={"links": [card("ens32", f"{INTERNAL}.131/24", "fd00:253:0:9::131/64")]},
            ),
            {},
            "",
            "calico_encapsulation",
            "in 2 networks: fd00:253:0:9::/64, fd00:253::/64",
            "calico_encapsulation: vxlan",
        ),
    ],
)
def test_two_families_that_do_not_fit(
    hosts: list[Host], variables: dict[str, Any], where: str, variable: str, found: str, remedy: str
) -> None:
    fitting = [
        item
        for item in plan(hosts, variables).findings
        if (item.severity, item.host, item.variable) == ("error", where, variable)
        and found in item.found
        and remedy in item.remedy
    ]
    assert len(fitting) == 1, [(item.host, item.variable, item.found) for item in plan(hosts, variables).findings]


@pytest.mark.parametrize(
    ("network", "addresses", "family"),
    [
        (DUAL, ["127.0.0.1", "::1"], 4),
        ("fd00:253::/64,192.168.253.0/24", ["::1", "127.0.0.1"], 6),
    ],
)
def test_a_proxy_listens_in_every_family_and_sends_to_the_primary_one(
    network: Any, addresses: list[str], family: int
) -> None:
    """Whatever families the VIPs are of: nothing is balanced at them."""
    result = plan(dual_stack(network), {"apiserver_balancer": "localhost"})
    made = result.plan
    real = [ADDRESSES[name] if family == 4 else f"fd00:253::{MASTERS[name]}" for name in MASTERS]
    assert result.findings == []
    assert made["apiserver"]["addresses"] == addresses
    assert made["apiserver"]["real_servers"] == real
    assert made["apiserver"]["virtual_servers"] == [{"vip": vip, "real_servers": real} for vip in addresses]
    assert not any("apiserver_vip" in reason for reason in made["reasons"])
    assert {"127.0.0.1", "::1"} <= set(made["apiserver"]["sans"])
    name = made["apiserver"]["name"]
    assert [line["address"] for line in made["hosts_file"] if name in line["names"]] == addresses
    assert not any("VIP" in reason for node in made["hosts"].values() for reason in node["reasons"])


@pytest.mark.parametrize(("version", "refused"), [("v1.28.15", True), ("v1.29.0", False), ("v1.34.4", False)])
def test_nftables_needs_a_kube_proxy_that_has_it(version: str, refused: bool) -> None:
    result = plan(variables={"kube_proxy_mode": "nftables"}, manifest={**MANIFEST, "kubernetes_version": version})
    assert [finding.variable for finding in result.findings] == (["kube_proxy_mode"] if refused else [])
    assert result.plan["kube_proxy"] == {"mode": "nftables", "exclude_cidrs": ["10.103.97.2/32"]}


def test_dual_stack_needs_a_kubelet_that_takes_two_addresses() -> None:
    old = {**MANIFEST, "kubernetes_version": "v1.19.16"}
    (finding,) = plan(dual_stack(), manifest=old).findings
    assert "IPv4 and IPv6, and the bundle holds Kubernetes v1.19.16" in finding.found
    assert plan(dual_stack("fd00:253::/64", ipv4=False), manifest=old).findings == []


@pytest.mark.parametrize(
    ("accept_ra", "protocol", "cards"), [(1, "ra", ["ens32"]), (2, "ra", ["ens32"]), (0, "ra", []), (1, "static", [])]
)
def test_a_default_route_of_an_advertisement_is_kept(accept_ra: int, protocol: str, cards: list[str]) -> None:
    route = {"dst": "::/0", "family": 6, "gateway": "fe80::1", "dev": "ens32", "protocol": protocol}
    inner = {"links": [card("ens32", f"{INTERNAL}.131/24", "fd00:253::131/64", accept_ra=accept_ra)], "routes": [route]}
    result = plan(dual_stack(node01=inner))
    node = result.plan["hosts"]["node01"]
    assert node["sysctls"] == {f"net/ipv6/conf/{name}/accept_ra": "2" for name in cards}
    assert any("accept_ra is 2" in text for text in node["reasons"]) == bool(cards)
    ipv4 = plan(dual_stack("192.168.253.0/24", node01=inner))
    assert ipv4.plan["hosts"]["node01"]["sysctls"] == {}


@given(
    hosts=st.permutations(dual_stack()),
    first=st.sampled_from([4, 6]),
    pods=st.permutations([DEFAULT_PODS[4], DEFAULT_PODS[6]]),
    vips=st.permutations([DEFAULT_VIP[4], DEFAULT_VIP[6]]),
)
@settings(max_examples=30, deadline=None)
def test_every_list_of_two_families_has_the_order_of_the_cluster_network(
    hosts: list[Host], first: int, pods: list[str], vips: list[str]
) -> None:
    value = DUAL if first == 4 else DUAL[::-1]
    result = plan(
        [replace(host, cluster_network=value) for host in hosts], {"pod_cidr": pods, "apiserver_vip": ",".join(vips)}
    )
    assert result.findings == []
    families = [first, 10 - first]
    made = result.plan
    for networks in (made["pod_cidr"].split(","), made["service_cidr"].split(","), made["kube_proxy"]["exclude_cidrs"]):
        assert [ip_network(text).version for text in networks] == families
    for node in made["hosts"].values():
        assert [ip_address(text).version for text in node["addresses"]] == families
        assert [ip_network(text).version for text in node["networks"]] == families
        for route, server in zip(node["vip_routes"], made["apiserver"]["virtual_servers"], strict=True):
            assert route["destination"] == str(ip_network(server["vip"]))
            assert ip_address(route["source"]).version == ip_address(server["vip"]).version
            assert {ip_address(text).version for text in server["real_servers"]} == {ip_address(server["vip"]).version}
    variables = {"pod_cidr": [DEFAULT_PODS[4], DEFAULT_PODS[6]], "apiserver_vip": [DEFAULT_VIP[4], DEFAULT_VIP[6]]}
    assert made == plan([replace(host, cluster_network=value) for host in dual_stack()], variables).plan


def test_an_address_that_goes_with_the_link_is_taken_last_and_told() -> None:
    fleeting = address("fd00:253::aaaa:131/64", dynamic=True)
    beside = {"links": [card("ens32", f"{INTERNAL}.131/24", fleeting, "fd00:253::131/64")]}
    result = plan(dual_stack(node01=beside), {"cni": "none"})
    assert result.findings == []
    assert result.plan["hosts"]["node01"]["addresses"][1] == "fd00:253::131"
    (finding,) = plan(dual_stack(node01={"links": [card("ens32", f"{INTERNAL}.131/24", fleeting)]})).findings
    assert (finding.severity, finding.host) == ("warning", "node01")
    assert finding.found.startswith("fd00:253::aaaa:131 of ens32 comes from router advertisements")


@pytest.mark.parametrize(
    ("held", "refused"),
    [
        ("192.168.253.131", "it is a member with 192.168.253.131 (IPv4), but IPv4 and IPv6 is planned"),
        ("fd00:253::131,192.168.253.131", "(IPv6 and IPv4), but IPv4 and IPv6 is planned"),
        ("192.168.253.131,fd00:253::131", ""),
        ("", ""),
    ],
)
def test_the_families_of_a_member_stay(held: str, refused: str) -> None:
    member = {**MEMBER, "node_name": "node01", "node_ip": held}
    findings = plan(dual_stack(node01={"kubernetes": member})).findings
    assert [item.host for item in findings] == (["node01"] if refused else [])
    assert all(refused in item.found for item in findings)


def test_auto_without_a_difference_is_told() -> None:
    def even(name: str, last: int) -> dict[str, Any]:
        return {
            "links": [card("ens32", f"192.168.253.{last}/24"), card("ens33", f"192.168.160.{last}/23")],
            "routes": [],
        }

    inner = {name: even(name, last) for name, last in {**MASTERS, **WORKERS}.items()}
    (finding,) = plan(seed_cluster("auto", **inner)).findings
    assert (finding.severity, finding.host, finding.variable) == ("warning", "", "cluster_network")
    assert finding.found == "auto finds no difference between 192.168.160.0/23 and 192.168.253.0/24"
    assert "cluster_network: 192.168.253.0/24" in finding.remedy


@pytest.mark.parametrize("member", [True, False])
def test_an_empty_authority_of_a_member_is_told(member: bool) -> None:
    state = {**MEMBER, "member": member, "node_name": "node01", "authority_trouble": "it holds no certificate"}
    findings = plan(seed_cluster(node01={"kubernetes": state})).findings
    told = [(item.host, item.found, item.remedy) for item in findings if "ca.crt" in item.found]
    file = "/etc/kubernetes/pki/ca.crt"
    remedy = f"It is the same on every host of the cluster: copy {file} from another one."
    assert told == ([("node01", f"{file}: it holds no certificate", remedy)] if member else [])


def test_a_members_own_cards_are_no_conflict() -> None:
    member = {"member": True, "admin_conf": True, "node_name": "node01", "kubelet_conf": True, "ours": True}
    links = [
        *seed_facts("node01", 131)["links"],
        card("cni0", "100.64.3.1/24", kind="bridge"),
        card("kube-ipvs0", "10.96.0.1/32", "10.96.0.10/32", kind="dummy"),
    ]
    assert plan(seed_cluster(node01={"links": links, "kubernetes": member})).findings == []


# --- bad input -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Bad:
    """One thing wrong, and what must be told of it."""

    name: str
    variable: str
    found: str
    remedy: str
    variables: dict[str, Any] = field(default_factory=dict)
    hosts: Callable[[], list[Host]] = seed_cluster
    bundle: dict[str, Any] | None = field(default_factory=dict)
    where: tuple[str, ...] = ("",)
    severity: str = "error"


def only(*names: str) -> Callable[[], list[Host]]:
    return lambda: [host for host in seed_cluster() if host.name in names]


def with_facts(**per_host: dict[str, Any]) -> Callable[[], list[Host]]:
    return lambda: seed_cluster(**per_host)


def with_network(value: Any, *names: str) -> Callable[[], list[Host]]:
    return lambda: [
        replace(host, cluster_network=value) if not names or host.name in names else host for host in seed_cluster()
    ]


def unreachable() -> list[Host]:
    hosts = seed_cluster()
    hosts[3] = replace(hosts[3], facts=None, trouble="it cannot be reached: Connection timed out")
    return hosts


def same(*names: str, **identity: Any) -> Callable[[], list[Host]]:
    return with_facts(
        **{
            name: {
                "identity": {"hostname": name, "machine_id": f"of-{name}", "product_uuid": "", "macs": [], **identity}
            }
            for name in names
        }
    )


def extra_card(*cards: dict[str, Any]) -> Callable[[], list[Host]]:
    return with_facts(node01={"links": [*seed_facts("node01", 131)["links"], *cards]})


def inner_card(**more: Any) -> Callable[[], list[Host]]:
    links = [card("ens32", f"{INTERNAL}.131/24", **more), card("ens33", "192.168.160.246/23")]
    return with_facts(node01={"links": links})


def without_a_way_out(*names: str) -> Callable[[], list[Host]]:
    return with_facts(**{name: {"routes": seed_facts(name, 1)["routes"][1:]} for name in names})


ALL = tuple(ADDRESSES)
IMAGES = {
    **MANIFEST,
    "image_repository": "k8s.gcr.io",
    "images_required": ["k8s.gcr.io/kube-apiserver:v1.20.2", "k8s.gcr.io/pause:3.2"],
    "parts": [
        *CALICO,
        {
            "kind": "image",
            "path": "images/a.tar",
            "images": ["k8s.gcr.io/kube-apiserver:v1.20.2", "k8s.gcr.io/pause:3.2"],
        },
    ],
}
TYPO = "192.168.253.1 (or 192.168.253.0/24)"
OLDER = {
    "member": True,
    "admin_conf": False,
    "node_name": "node01",
    "version": "v1.19.2",
    "kubelet_conf": True,
    "ours": True,
}
ELSEWHERE = {"member": False, "admin_conf": False, "node_name": "", "kubelet_conf": True, "ours": False}

BAD = [
    Bad("no control plane", "kube_control_plane", "is empty", "one host, or better three", hosts=only("node01")),
    Bad("no host at all", "kube_control_plane", "is empty", "one host", hosts=list),
    Bad(
        "two control planes",
        "kube_control_plane",
        "2 control-plane hosts: master1, master2",
        "odd number",
        hosts=only("master1", "master2", "node01"),
        severity="warning",
    ),
    Bad(
        "unreachable host",
        "ansible_host",
        "it cannot be reached: Connection timed out",
        "its address, user, key",
        hosts=unreachable,
        where=("node01",),
    ),
    Bad(
        "no ip program",
        "",
        "no program ip",
        "package iproute2",
        hosts=with_facts(node01={"links": [], "problems": [{"what": "ip -j address", "why": "no program ip"}]}),
        where=("node01",),
    ),
    Bad(
        "facts are garbage",
        "",
        "cannot be read",
        "report it",
        hosts=with_facts(node01={"links": [{"mtu": 1}]}),
        where=("node01",),
    ),
    # cluster_network
    Bad(
        "the seed's typo",
        "cluster_network",
        "192.158.253.1 is reached only through the default route",
        TYPO,
        hosts=with_network("192.158.253.1"),
        where=ALL,
    ),
    Bad(
        "a typo in the network",
        "cluster_network",
        "inside 192.158.253.0/24",
        "cluster_network: 192.168.253.0/24",
        hosts=with_network("192.158.253.0/24"),
        where=ALL,
    ),
    Bad(
        "a network of nobody",
        "cluster_network",
        "the host has 192.168.253.0/24 (ens32)",
        "a network that the host is on",
        hosts=with_network("10.9.0.0/16"),
        where=ALL,
    ),
    Bad(
        "one host is elsewhere",
        "cluster_network",
        "no card has an address inside 192.168.253.0/24",
        "Set cluster_network",
        hosts=with_facts(node01={"links": [card("ens33", "192.168.160.246/23")]}),
        where=("node01",),
    ),
    Bad(
        "no such card",
        "cluster_network",
        "there is no card 'ens31'",
        "192.168.253.0/24 (ens32)",
        hosts=with_network("ens31", "master2"),
        where=("master2",),
    ),
    Bad(
        "part of a card's name",
        "cluster_network",
        "there is no card 'ens3'",
        "192.168.253.0/24 (ens32)",
        hosts=with_network("ens3"),
        where=ALL,
    ),
    Bad(
        "a glob",
        "cluster_network",
        "there is no card 'en*'",
        "write cluster_network: en.*",
        hosts=with_network("en*"),
        where=ALL,
    ),
    Bad(
        "an ambiguous pattern",
        "cluster_network",
        "fits ens32, ens33",
        "fits one card only",
        hosts=with_network("ens.*"),
        where=ALL,
    ),
    Bad(
        "no address at all",
        "cluster_network",
        "'192.168.253.300' looks like an address",
        "192.168.253.0/24",
        hosts=with_network("192.168.253.300"),
        where=ALL,
    ),
    Bad(
        "no network at all",
        "cluster_network",
        "'192.168.253.0/33' is not a network",
        "192.168.253.0/24",
        hosts=with_network("192.168.253.0/33"),
        where=ALL,
    ),
    Bad(
        "a mapping",
        "cluster_network",
        "is not a text",
        "192.168.253.0/24",
        hosts=with_network({"cidr": "x"}),
        where=ALL,
    ),
    Bad(
        "no network on one host",
        "cluster_network",
        "'192.168.253.0/33' is not a network",
        "192.168.253.0/24",
        hosts=with_network("192.168.253.0/33", "master2"),
        where=("master2",),
    ),
    Bad(
        "only docker is inside",
        "cluster_network",
        "only docker0 (172.17.0.1/16)",
        "cluster_network: docker0",
        hosts=lambda: (
            [
                replace(h, cluster_network="172.17.0.0/16")
                for h in extra_card(card("docker0", "172.17.0.1/16"))()
                if h.name == "node01"
            ]
            + only("master1")()
        ),
        where=("node01",),
    ),
    Bad(
        "nothing in common",
        "cluster_network",
        "no network is common to all hosts",
        "also per host",
        hosts=lambda: [
            replace(host, cluster_network="auto", facts=facts(host.name, [card("e0", f"10.{n}.0.1/24")]))
            for n, host in enumerate(seed_cluster())
        ],
        where=ALL,
    ),
    Bad(
        "two cards in one network",
        "cluster_network",
        "two cards are inside 192.168.253.0/24",
        "cluster_network: ens32",
        hosts=extra_card(card("ens34", f"{INTERNAL}.231/24")),
        where=("node01",),
        severity="warning",
    ),
    Bad(
        "card without a carrier",
        "cluster_network",
        "ens32 (192.168.253.131) is without a carrier",
        "cable and switch",
        hosts=inner_card(carrier=False),
        where=("node01",),
    ),
    Bad(
        "card down",
        "cluster_network",
        "ens32 (192.168.253.131) is down",
        "ip link set ens32 up",
        hosts=inner_card(up=False, carrier=False),
        where=("node01",),
    ),
    Bad(
        "docker overlaps the cluster",
        "cluster_network",
        "192.168.253.128/25 of docker0",
        "docker: bip",
        hosts=extra_card(card("docker0", f"{INTERNAL}.254/25", kind="bridge")),
        where=("node01",),
    ),
    Bad(
        "other MTU",
        "cluster_network",
        "ens32 has an MTU of 1400",
        "the same MTU",
        hosts=inner_card(mtu=1400),
        where=("node01",),
        severity="warning",
    ),
    Bad(
        "slow link",
        "cluster_network",
        "runs at 100 Mbit/s, others at 10000",
        "cable, switch port",
        hosts=with_facts(
            node01={"links": [card("ens32", f"{INTERNAL}.131/24", speed_mbps=100)]},
            master1={"links": [card("ens32", f"{INTERNAL}.129/24", speed_mbps=10000)]},
        ),
        where=("node01",),
        severity="warning",
    ),
    Bad(
        "half duplex",
        "cluster_network",
        "half duplex",
        "full duplex",
        hosts=inner_card(duplex="half"),
        where=("node01",),
        severity="warning",
    ),
    Bad(
        "same cluster address",
        "cluster_network",
        "192.168.253.129 is also that of",
        "address of its own",
        hosts=with_facts(node01=seed_facts("node01", 129)),
        where=("master1", "node01"),
    ),
    # identity
    Bad(
        "same host name",
        "",
        "host name node01 is also that of",
        "hostnamectl set-hostname",
        hosts=same("node01", "master3", hostname="node01"),
        where=("master3", "node01"),
    ),
    Bad(
        "same host name in other letters",
        "",
        "host name node01 is also that of node01",
        "hostnamectl",
        hosts=same("master3", hostname="NODE01"),
        where=("master3",),
    ),
    Bad(
        "localhost",
        "",
        "its host name is 'localhost'",
        "hostnamectl set-hostname",
        hosts=same("node01", hostname="localhost"),
        where=("node01",),
    ),
    Bad(
        "bad host name",
        "",
        "its host name is 'node_01'",
        "letters, digits and dashes",
        hosts=same("node01", hostname="node_01"),
        where=("node01",),
    ),
    Bad(
        "same machine-id",
        "",
        "machine-id cloned is also that of",
        "systemd-machine-id-setup",
        hosts=same("node01", "master1", machine_id="cloned"),
        where=("master1", "node01"),
    ),
    Bad(
        "same product_uuid",
        "",
        "product_uuid 4c4c4544-1 is also that of",
        "hypervisor",
        hosts=same("node01", "master1", product_uuid="4C4C4544-1"),
        where=("master1", "node01"),
    ),
    Bad(
        "same MAC",
        "",
        "MAC 52:54:00:00:00:01 is also that of",
        "MAC of its own",
        hosts=same("node01", "master1", macs=["52:54:00:00:00:01"]),
        where=("master1", "node01"),
    ),
    Bad(
        "a member with another version",
        "kubernetes_version",
        "a member with Kubernetes v1.19.2, but v1.20.2 is planned",
        "Give the bundle of v1.19.2",
        hosts=with_facts(node01={"kubernetes": OLDER}),
        where=("node01",),
    ),
    Bad(
        "a member of something else",
        "",
        "already a node of a cluster",
        "kubeadm reset",
        hosts=with_facts(node01={"kubernetes": ELSEWHERE}),
        where=("node01",),
    ),
    # VIP and CIDRs
    Bad(
        "VIP inside the hosts' network",
        "apiserver_vip",
        "192.168.253.2 is inside 192.168.253.0/24 of ens32",
        "10.103.97.2",
        {"apiserver_vip": "192.168.253.2"},
        where=ALL,
    ),
    Bad(
        "another host's cluster address",
        "cluster_network",
        "192.168.253.129, the cluster address of master1, is also on its ens34",
        "ip address del 192.168.253.129/24 dev ens34",
        hosts=extra_card(card("ens34", "192.168.253.129/24")),
        where=("node01",),
    ),
    Bad(
        "VIP on a card",
        "apiserver_vip",
        "10.103.97.2 is an address of ens34",
        "ip address del 10.103.97.2/32 dev ens34",
        hosts=extra_card(card("ens34", "10.103.97.2/32")),
        where=("node01",),
    ),
    Bad(
        "VIP inside the pods' network",
        "apiserver_vip",
        "inside pod_cidr 100.64.0.0/10",
        "outside 100.64.0.0/10",
        {"apiserver_vip": "100.64.0.5"},
    ),
    Bad(
        "VIP inside the services' network",
        "apiserver_vip",
        "inside service_cidr 10.96.0.0/12",
        "outside 10.96.0.0/12",
        {"service_cidr": "10.96.0.0/12"},
        severity="warning",
    ),
    Bad(
        "VIP of the other family",
        "apiserver_vip",
        "fd00::2 is IPv6",
        "to an IPv4 address",
        {"apiserver_vip": "fd00::2"},
    ),
    Bad("VIP is loopback", "apiserver_vip", "'127.0.0.1' is a loopback", "10.103.97.2", {"apiserver_vip": "127.0.0.1"}),
    Bad(
        "VIP is no address",
        "apiserver_vip",
        "'10.103.97' is not an address",
        "10.103.97.2",
        {"apiserver_vip": "10.103.97"},
    ),
    Bad(
        "pods overlap services",
        "service_cidr",
        "10.96.0.0/16 overlaps pod_cidr 10.0.0.0/8",
        "do not overlap",
        {"pod_cidr": "10.0.0.0/8", "apiserver_vip": "172.31.0.2"},
    ),
    Bad(
        "pods overlap hosts",
        "pod_cidr",
        "192.168.0.0/16 overlaps 192.168.253.0/24 of ens32",
        "that no host uses",
        {"pod_cidr": "192.168.0.0/16"},
        where=ALL,
    ),
    Bad(
        "services overlap hosts",
        "service_cidr",
        "192.168.160.0/20 overlaps",
        "that no host uses",
        {"service_cidr": "192.168.160.0/20"},
        where=ALL,
    ),
    Bad(
        "docker overlaps pods",
        "pod_cidr",
        "172.16.0.0/12 overlaps 172.17.0.0/16 of docker0",
        "that no host uses",
        {"pod_cidr": "172.16.0.0/12"},
        extra_card(card("docker0", "172.17.0.1/16")),
        where=("node01",),
    ),
    Bad(
        "tailscale is inside the pods' network",
        "pod_cidr",
        "overlaps 100.101.1.1/32 of tailscale0",
        "no host uses",
        hosts=extra_card(card("tailscale0", "100.101.1.1/32")),
        where=("node01",),
        severity="warning",
    ),
    Bad(
        "pods' network too small",
        "pod_cidr",
        "10.5.0.0/23 has room for 2",
        "100.64.0.0/10",
        {"pod_cidr": "10.5.0.0/23"},
    ),
    Bad(
        "pods' network too large",
        "pod_cidr",
        "room for 131072",
        "100.64.0.0/10",
        {"pod_cidr": "10.0.0.0/7", "service_cidr": "172.30.0.0/16", "apiserver_vip": "172.31.0.2"},
    ),
    Bad(
        "services' network too small",
        "service_cidr",
        "has 8 addresses",
        "10.96.0.0/16",
        {"service_cidr": "10.96.0.0/29"},
    ),
    Bad(
        "services' network too large",
        "service_cidr",
        "has 2097152 addresses",
        "10.96.0.0/16",
        {"service_cidr": "10.96.0.0/11", "apiserver_vip": "172.31.0.2"},
    ),
    Bad(
        "families differ",
        "service_cidr",
        "10.96.0.0/16,fd00:96::/112 is IPv4 and IPv6, but the cluster network is IPv4",
        "Set service_cidr to an IPv4 network, leave it empty",
        {"service_cidr": "10.96.0.0/16,fd00:96::/112"},
    ),
    Bad(
        "two VIPs of one family",
        "apiserver_vip",
        "10.103.97.2, 10.103.97.3: at most one address per family",
        "one per family",
        {"apiserver_vip": "10.103.97.2,10.103.97.3"},
    ),
    Bad(
        "one VIP of two is of a family that the cluster has not",
        "apiserver_vip",
        "fd00:97::2 is IPv6, but the cluster network is IPv4",
        "Set apiserver_vip to an IPv4 address, or leave it empty",
        {"apiserver_vip": "10.103.97.2,fd00:97::2"},
    ),
    Bad("pod_cidr is no network", "pod_cidr", "has no prefix length", "100.64.0.0/10", {"pod_cidr": "100.64.0.0"}),
    Bad(
        "two pod networks of one family",
        "pod_cidr",
        "at most one network per family",
        "one per family",
        {"pod_cidr": "10.1.0.0/16,10.2.0.0/16"},
    ),
    # versions and the bundle
    Bad(
        "not a version",
        "kubernetes_version",
        "'latest' is not a Kubernetes version",
        "v1.20.2",
        {"kubernetes_version": "latest"},
    ),
    Bad("too old", "kubernetes_version", "v1.18.0 is not supported", "v1.20.2", {"kubernetes_version": "1.18.0"}),
    Bad(
        "not the bundle's",
        "kubernetes_version",
        "v1.19.2 is wanted, but the bundle /root/kube.tar.gz holds v1.20.2",
        "Set kubernetes_version: v1.20.2",
        {"kubernetes_version": "v1.19.2"},
    ),
    Bad("no version anywhere", "kubernetes_version", "no bundle tells it", "Set bundle", bundle=None),
    Bad(
        "no bundle there",
        "bundle",
        "no file on the controller",
        "playbooks/bundle.yml",
        bundle={"manifest": None, "trouble": "/root/kube.tar.gz is no file on the controller"},
    ),
    Bad(
        "wrong checksum",
        "bundle_sha256",
        f"has the sum {'a' * 64}, but {'b' * 64} is expected",
        "Fetch the bundle again",
        bundle={"expected_sha256": "b" * 64},
    ),
    Bad(
        "not a checksum",
        "bundle_sha256",
        "'abc' is not a SHA-256 sum",
        "64 hexadecimal digits",
        {"bundle_sha256": "abc"},
    ),
    Bad(
        "other architecture",
        "bundle",
        "the host is arm64, the bundle is for amd64",
        "the bundle for arm64",
        hosts=with_facts(node01={"system": {"architecture": "aarch64"}}),
        where=("node01",),
    ),
    Bad(
        "other distribution",
        "bundle",
        "the host is ubuntu-24.04, the bundle has packages for debian-12",
        "for ubuntu-24.04",
        hosts=with_facts(node01={"system": {"os_id": "ubuntu", "os_version": "24.04"}}),
        where=("node01",),
        bundle={"manifest": {**MANIFEST, "parts": [*CALICO, {"kind": "package", "distribution": "debian-12"}]}},
        severity="warning",
    ),
    Bad(
        "bundle of no version",
        "bundle",
        "its manifest says",
        "another bundle",
        bundle={"manifest": {**MANIFEST, "kubernetes_version": "v0.9.0"}},
        variables={"kubernetes_version": "v1.20.2"},
    ),
    Bad(
        "no Calico in the bundle",
        "cni",
        "cni is calico, but the bundle /root/kube.tar.gz holds no Calico manifest",
        "cni: bridge",
        bundle={"manifest": {**MANIFEST, "parts": []}},
    ),
    Bad(
        "no images of Calico in the bundle",
        "cni",
        "holds manifests (manifests/calico.yaml), but no image of Calico",
        "with Calico's images",
        bundle={"manifest": {**MANIFEST, "parts": CALICO[:1]}},
    ),
    Bad(
        "images of another registry than wanted, and no way out",
        "image_repository",
        "registry.example/kubernetes is wanted, but the bundle's images are named k8s.gcr.io/…, and the host has no route",
        "Leave image_repository empty",
        {"image_repository": "registry.example/kubernetes"},
        hosts=without_a_way_out("node01", "master1"),
        where=("master1", "node01"),
        bundle={"manifest": IMAGES},
    ),
    Bad(
        "images of another registry than wanted",
        "image_repository",
        "registry.example/kubernetes is wanted, but the bundle's images are named k8s.gcr.io/…",
        "Leave image_repository empty",
        {"image_repository": "registry.example/kubernetes"},
        bundle={"manifest": IMAGES},
        severity="warning",
    ),
    Bad(
        "the cluster's first control plane is not in the run",
        "ansible_limit",
        "no cluster yet that it could join, and master1, which creates it, is not part of this run",
        "--limit master1,master2,node01",
        hosts=lambda: limited("master2", "node01", members=()),
        where=("master2", "node01"),
    ),
    # the network of pods
    Bad(
        "bridge over two networks",
        "cni",
        "they are on 2 (192.168.160.0/23: node01; 192.168.253.0/24: master1, master2, master3)",
        "cni: calico",
        {"cni": "bridge"},
        hosts=with_network("ens33", "node01"),
    ),
    Bad(
        "IPv6 for pods",
        "pod_cidr",
        "fd00:64::/48 is IPv6, but the cluster network is IPv4",
        "Set pod_cidr to an IPv4 network, leave it empty",
        {"pod_cidr": "fd00:64::/48", "service_cidr": "fd00:96::/112"},
    ),
    Bad(
        "IPv6 for services",
        "service_cidr",
        "10.96.0.0/16,fd00:96::/112 is IPv4 and IPv6, but the cluster network is IPv4",
        "Set service_cidr to an IPv4 network",
        {"pod_cidr": "100.64.0.0/10,fd00:64::/48", "service_cidr": "10.96.0.0/16,fd00:96::/112"},
    ),
    # the components' settings
    Bad(
        "a misspelt field of kubelet",
        "kubelet_config",
        "kubelet_config.maxPod: not a field of KubeletConfiguration",
        "did you mean 'maxPods'?",
        {"kubelet_config": {"maxPod": 5}},
    ),
    Bad(
        "a text where kube-proxy wants a number",
        "kube_proxy_config",
        "kube_proxy_config.conntrack.maxPerCore: the string '0' where a whole number belongs",
        "Correct kube_proxy_config.conntrack.maxPerCore: write a whole number",
        {"kube_proxy_config": {"conntrack": {"maxPerCore": "0"}}},
    ),
    Bad(
        "a flag that differs from host to host",
        "etcd_extra_args",
        "etcd_extra_args.listen-client-urls: differs from host to host",
        "leave it out",
        {"etcd_extra_args": {"listen-client-urls": "https://192.168.253.129:2379"}},
    ),
    Bad(
        "a misspelt field, where no host can be planned",
        "kubelet_config",
        "kubelet_config.maxPod: not a field of KubeletConfiguration",
        "did you mean 'maxPods'?",
        {"kubelet_config": {"maxPod": 5}},
        hosts=with_network("10.9.0.0/16"),
    ),
    # the other variables
    Bad(
        "unknown CNI", "cni", "'flannel' is none of calico, bridge, none", "calico, bridge or none", {"cni": "flannel"}
    ),
    Bad("unknown balancer", "apiserver_balancer", "'haproxy' is none of", "ipvs", {"apiserver_balancer": "haproxy"}),
    Bad("unknown encapsulation", "calico_encapsulation", "'gre' is none of", "vxlan", {"calico_encapsulation": "gre"}),
    Bad(
        "nftables before its time",
        "kube_proxy_mode",
        "'nftables' is wanted, and Kubernetes v1.20.2 is planned",
        "iptables or ipvs",
        {"kube_proxy_mode": "nftables"},
    ),
    Bad("port out of range", "apiserver_port", "70000 is not a port", "from 1 to 65535", {"apiserver_port": 70000}),
    Bad("port is a word", "apiserver_port", "'https' is not a whole number", "6443", {"apiserver_port": "https"}),
    Bad("port is a boolean", "apiserver_port", "'True' is not a whole number", "6443", {"apiserver_port": True}),
    Bad(
        "bad API name",
        "apiserver_name",
        "'Api_Server' is not a DNS name",
        "lower case",
        {"apiserver_name": "Api_Server"},
    ),
    Bad("bad DNS domain", "dns_domain", "'.local' is not a DNS name", "cluster.local", {"dns_domain": ".local"}),
    Bad(
        "bad SAN",
        "apiserver_extra_sans",
        "'a b' is neither",
        "addresses and DNS names",
        {"apiserver_extra_sans": ["a b"]},
    ),
    Bad("bad time server", "time_servers", "'ntp server' is neither", "time servers", {"time_servers": ["ntp server"]}),
    Bad(
        "tolerance of nothing",
        "clock_tolerance_seconds",
        "0 is not above zero",
        "such as 2",
        {"clock_tolerance_seconds": 0},
    ),
    Bad(
        "tolerance is a word",
        "clock_tolerance_seconds",
        "'two' is not a number",
        "such as 2",
        {"clock_tolerance_seconds": "two"},
    ),
    Bad("arguments are a list", "etcd_extra_args", "is not a mapping", "{name: value}", {"etcd_extra_args": ["x"]}),
    Bad(
        "arguments with dashes",
        "apiserver_extra_args",
        "without dashes",
        "{name: value}",
        {"apiserver_extra_args": {"--v": "2"}},
    ),
    Bad(
        "kubelet's settings are a text", "kubelet_config", "is not a mapping", "{name: value}", {"kubelet_config": "x"}
    ),
    Bad(
        "unknown Calico method",
        "calico_autodetection_method",
        "'ens32' is none of",
        "interface=^ens32$",
        {"calico_autodetection_method": "ens32"},
    ),
    Bad(
        "Calico's address has a slip",
        "calico_autodetection_method",
        "not an address",
        "interface=",
        {"calico_autodetection_method": "can-reach=192.168.253"},
    ),
]


@pytest.mark.parametrize("bad", BAD, ids=lambda bad: bad.name)
def test_bad_input_is_told(bad: Bad) -> None:
    given_bundle = None if bad.bundle is None else bundle(**bad.bundle)
    result = plan_cluster(bad.hosts(), bad.variables, given_bundle)
    told = [item for item in result.findings if bad.found in item.found and item.variable == bad.variable]
    assert told, "\n".join(map(str, result.findings))
    assert {item.severity for item in told} == {bad.severity}
    assert {item.host for item in told} == set(bad.where)
    assert all(bad.remedy in item.remedy for item in told), told
    assert all(item.why for item in told)
    assert result.sound == (bad.severity != "error")


def test_names_of_bad_inputs_are_unique() -> None:
    assert len({bad.name for bad in BAD}) == len(BAD) >= 60


def test_everything_is_told_at_once() -> None:
    hosts = [replace(host, cluster_network="192.158.253.1") for host in unreachable()][1:]
    result = plan(hosts, {"cni": "flannel", "apiserver_vip": "100.64.0.1", "kubernetes_version": "v1.19.2"})
    assert {item.variable for item in result.findings} >= {
        "cluster_network",
        "ansible_host",
        "cni",
        "apiserver_vip",
        "kubernetes_version",
        "kube_control_plane",
    }


@pytest.mark.parametrize("name", ["bridge", "none"])
def test_only_calico_needs_calico(name: str) -> None:
    assert plan(variables={"cni": name}, manifest={**MANIFEST, "parts": []}).findings == []


@pytest.mark.parametrize(
    ("images", "repository"),
    [
        (["k8s.gcr.io"], "k8s.gcr.io"),
        (["k8s.gcr.io"], "k8s.gcr.io/"),
        (["k8s.gcr.io", "registry.example/k8s"], "registry.example/k8s"),
    ],
)
def test_images_named_as_wanted_are_right(images: list[str], repository: str) -> None:
    names = [f"{head}/{tail}" for head in images for tail in ("kube-apiserver:v1.20.2", "pause:3.2")]
    manifest = {**IMAGES, "parts": [*CALICO, {"kind": "image", "path": "images/a.tar", "images": names}]}
    hosts = without_a_way_out(*ALL)()
    assert plan(hosts, {"image_repository": repository}, manifest=manifest).findings == []


def test_a_registry_that_every_host_reaches_is_only_a_warning() -> None:
    hosts = without_a_way_out(*ALL)()
    result = plan(hosts, {"image_repository": "192.168.253.9:5000/k8s"}, manifest=IMAGES)
    assert [(item.severity, item.variable) for item in result.findings] == [("warning", "image_repository")]


# --- any input -------------------------------------------------------------------------------------------------------

NAMES = ["m1", "m2", "m3", "n1", "n2", "n3"]


@st.composite
def clusters(draw: st.DrawFn) -> list[Host]:
    hosts = []
    for position, name in enumerate(draw(st.lists(st.sampled_from(NAMES), unique=True, max_size=6))):
        cards = [
            card(
                draw(st.sampled_from([f"e{number}", f"ens{number}", "docker0"]))
                + ("" if number == 0 else f".{number}"),
                address(f"10.{draw(st.integers(0, 2))}.{number}.{draw(st.integers(1, 6))}/{draw(st.integers(16, 32))}"),
                mtu=draw(st.sampled_from([1500, 9000])),
                up=draw(st.booleans()),
            )
            for number in range(draw(st.integers(0, 3)))
        ]
        hosts.append(
            Host(
                name=name,
                position=position,
                control_plane=draw(st.booleans()),
                worker=draw(st.booleans()),
                facts=draw(st.one_of(st.none(), st.just(facts(name, cards)))),
                cluster_network=draw(
                    st.sampled_from(
                        ["auto", "10.0.0.0/16", "10.0.0.0/8", "10.1.0.1", "e0", "ens.*", "nonsense/", ["e0", "ens1"]]
                    )
                ),
            )
        )
    return hosts


VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(), st.text(max_size=12), st.lists(st.text(max_size=5), max_size=2)
)
VARIABLES = st.dictionaries(
    st.sampled_from(
        [
            "apiserver_vip",
            "pod_cidr",
            "service_cidr",
            "cni",
            "apiserver_port",
            "kubernetes_version",
            "time_servers",
            "clock_tolerance_seconds",
            "etcd_extra_args",
            "apiserver_extra_sans",
            "calico_autodetection_method",
            "image_repository",
            "kubelet_config",
        ]
    ),
    VALUES | st.dictionaries(st.sampled_from(["maxPods", "v"]), st.integers(), max_size=1),
    max_size=3,
)


@settings(max_examples=150)
@given(hosts=clusters(), variables=VARIABLES, data=st.data())
def test_any_input_gives_one_plan_and_never_an_exception(
    hosts: list[Host], variables: dict[str, Any], data: st.DataObject
) -> None:
    first = plan_cluster(hosts, variables, Bundle(manifest=MANIFEST))
    again = plan_cluster(data.draw(st.permutations(hosts)), variables, Bundle(manifest=MANIFEST))
    assert again == first
    json.dumps(first.plan)
    for item in first.findings:
        assert item.severity in SEVERITIES
        assert item.found
        assert item.why
        assert item.remedy or item.severity == "info"
    by_name = {host.name: host for host in hosts}
    for name, node in first.plan.get("hosts", {}).items():
        held = {item["address"] for link in (by_name[name].facts or {})["links"] for item in link["addresses"]}
        assert node["address"] in held
        assert ip_address(node["address"]) in ip_network(node["network"])
        if isinstance(by_name[name].cluster_network, str) and "/" in by_name[name].cluster_network:
            assert ip_address(node["address"]) in ip_network(by_name[name].cluster_network)
        assert node["address"] != first.plan["apiserver"]["vip"]
        (mine,) = [link for link in (by_name[name].facts or {})["links"] if link["name"] == node["interface"]]
        assert node["mtu"] == mine["mtu"]
        assert first.plan["cni"]["mtu"] <= node["mtu"]
    if first.sound:
        assert first.plan["control_plane"]
        assert set(first.plan["hosts"]) == set(by_name)
