# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Calico's method, by its version and by what the hosts are like."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_network
from typing import Any

import pytest

from ansible_collections.multinic.kubernetes.plugins.module_utils import _calico
from ansible_collections.multinic.kubernetes.plugins.module_utils._net import HostNetwork
from ansible_collections.multinic.kubernetes.tests.unit.network_hosts import INTERNAL, card


def chosen(name: str, cluster: dict[str, Any], *others: dict[str, Any]) -> _calico.Chosen:
    network = HostNetwork.from_facts({"links": [cluster, *others]})
    link = network.link(cluster["name"])
    assert link is not None
    return _calico.Chosen(name, network, link, link.addresses[0])


SAME = [
    chosen("a", card("ens32", f"{INTERNAL}.129/24"), card("ens33", "192.168.160.243/23")),
    chosen("b", card("ens32", f"{INTERNAL}.128/24"), card("ens33", "192.168.160.244/23")),
]
CROSSED = [
    chosen("a", card("ens32", f"{INTERNAL}.129/24"), card("ens33", "192.168.160.243/23")),
    chosen("b", card("ens33", f"{INTERNAL}.128/24"), card("ens32", "192.168.160.244/23")),
]
DIFFERENT = [
    chosen("a", card("bond0.7", f"{INTERNAL}.129/24"), card("ens33", "192.168.160.243/23")),
    chosen("b", card("p1", f"{INTERNAL}.128/24"), card("ens32", "192.168.160.244/23")),
]
SECONDARY = [
    chosen("a", card("ens32", f"{INTERNAL}.129/24", f"{INTERNAL}.200/24")),
    chosen("b", card("ens32", f"{INTERNAL}.128/24")),
]
RACKS = [chosen("a", card("ens32", "10.1.0.1/24")), chosen("b", card("ens32", "10.2.0.1/24"))]
RACKS_CROSSED = [
    chosen("a", card("ens32", "10.1.0.1/24"), card("ens33", "172.16.0.1/24")),
    chosen("b", card("ens33", "10.2.0.1/24"), card("ens32", "172.16.0.2/24")),
]
# docker0 has an address inside the cluster network.
BRIDGED = [
    chosen("a", card("ens32", f"{INTERNAL}.129/24"), card("docker0", "192.168.253.200/29")),
    chosen("b", card("ens32", f"{INTERNAL}.128/24")),
]
DUAL = [
    replace(host, address=address)
    for host in (
        chosen(
            "a", card("ens32", f"{INTERNAL}.129/24", "fd00:253::129/64"), card("ens33", "172.16.0.1/24", "fd00:1::1/64")
        ),
        chosen(
            "b", card("ens32", f"{INTERNAL}.128/24", "fd00:253::128/64"), card("ens33", "172.16.0.2/24", "fd00:1::2/64")
        ),
    )
    for address in host.link.addresses
]


@pytest.mark.parametrize(
    ("hosts", "version", "method"),
    [
        (SAME, "v3.28.1", "kubernetes-internal-ip"),
        (CROSSED, "v3.22.4", "kubernetes-internal-ip"),
        (CROSSED, "v3.22.3", "cidr=192.168.253.0/24"),
        (SECONDARY, "v3.23.1", "can-reach=192.168.253.129"),
        (BRIDGED, "v3.19.1", "interface=^ens32$"),
        (DUAL, "v3.19.1", "cidr=192.168.253.0/24,fd00:253::/64"),
        (DUAL, "v3.10.4", "interface=^ens32$"),
        (SAME, "v3.19.1", "cidr=192.168.253.0/24"),
        (CROSSED, "v3.16.0", "cidr=192.168.253.0/24"),
        (RACKS, "v3.19.1", "cidr=10.1.0.0/24,10.2.0.0/24"),
        (SECONDARY, "v3.19.1", "can-reach=192.168.253.129"),
        (SAME, "v3.8.2", "interface=^ens32$"),
        (SAME, "", "interface=^ens32$"),
        (DIFFERENT, "v3.8.2", r"interface=^(bond0\.7|p1)$"),
        (CROSSED, "v3.8.2", "can-reach=192.168.253.129"),
        (RACKS, "v3.8.2", "interface=^ens32$"),
        (RACKS_CROSSED, "v3.8.2", None),
    ],
)
def test_method(hosts: list[_calico.Chosen], version: str, method: str | None) -> None:
    answer = _calico.choose(hosts, version)
    assert answer.value == method
    assert answer.reason


def test_the_users_method_wins() -> None:
    assert _calico.choose(SAME, "v3.28.1", "first-found").value == "first-found"


def numbered(name: str, inner: int, outer: int, last: int) -> _calico.Chosen:
    return chosen(
        name,
        card("ens32", f"{INTERNAL}.{last}/24", index=inner),
        card("ens33", f"192.168.160.{last}/23", index=outer),
    )


@pytest.mark.parametrize(
    ("method", "version", "host", "told"),
    [
        ("first-found", "v3.19.1", "b", "would take 192.168.160.128 (ens33), but 192.168.253.128 (ens32) is planned"),
        ("interface=ens33", "v3.19.1", "a", "would take 192.168.160.129 (ens33)"),
        ("interface=ens3", "v3.19.1", "b", "ens33 fits ens3 and has the highest number (3)"),
        ("skip-interface=ens32", "v3.19.1", "a", "would take 192.168.160.129 (ens33)"),
        ("cidr=192.168.160.0/23", "v3.19.1", "a", "would take 192.168.160.129 (ens33)"),
        ("cidr=10.0.0.0/8", "v3.19.1", "a", "would take no IPv4 address"),
        ("cidr=192.168.253.0/24", "v3.15.5", "a", "does not know the method cidr, which came with v3.16"),
        ("kubernetes-internal-ip", "v3.19.1", "a", "which came with v3.22"),
        ("kubernetes-internal-ip", "v3.23.0", "a", "would take 192.168.253.0 (ens32)"),
        ("can-reach=8.8.8.8", "v3.19.1", "a", "no way to 8.8.8.8"),
        ("can-reach=192.168.160.1", "v3.19.1", "a", "would take 192.168.160.129 (ens33)"),
    ],
)
def test_a_method_that_takes_another_address_is_an_error(method: str, version: str, host: str, told: str) -> None:
    hosts = [numbered("a", 3, 2, 129), numbered("b", 2, 3, 128)]
    found = {item.host: item for item in _calico.check(hosts, version, method) if item.severity == "error"}
    assert told in found[host].found
    assert "(ens32) is planned" in found[host].found
    assert found[host].variable == "calico_autodetection_method"
    assert method in found[host].why
    better = _calico.choose(hosts, version).value
    assert better
    assert better in found[host].remedy


def test_a_method_that_is_right_by_the_order_of_cards_is_a_warning() -> None:
    hosts = [numbered("a", 3, 2, 129)]
    [item] = _calico.check(hosts, "v3.28.0", "first-found")
    assert (item.severity, item.host) == ("warning", "a")
    assert "192.168.160.129 (ens33) would do too" in item.found
    assert _calico.check(hosts, "v3.28.0", "skip-interface=ens33") == []


@pytest.mark.parametrize(
    ("method", "severity"),
    [("can-reach=gateway.example.org", "warning"), ("interface=ens3", "warning"), ("cidr=192.0.0.0/8", "warning"),
     ("interface=ens3[34]", "error"), ("interface=(?i)ENS32", "warning")],
)  # fmt: skip
def test_what_cannot_be_told_is_a_warning_unless_it_is_wrong_in_any_case(method: str, severity: str) -> None:
    host = chosen(
        "a", card("ens32", f"{INTERNAL}.129/24"), card("ens33", "192.168.160.1/23"), card("ens34", "192.0.2.1/24")
    )
    [item] = _calico.check([host], "v3.28.0", method)
    assert item.severity == severity


def test_the_second_family_is_checked_too() -> None:
    assert _calico.check(DUAL, "v3.19.1", "interface=^ens32$") == []
    found = _calico.check(DUAL, "v3.19.1", "cidr=192.168.253.0/24")
    assert [(item.host, item.severity) for item in found] == [("a", "error"), ("b", "error")]
    assert all("no IPv6 address, but fd00:253::12" in item.found for item in found)


def test_the_chosen_method_is_always_right() -> None:
    for hosts in (SAME, CROSSED, DIFFERENT, SECONDARY, RACKS, BRIDGED, DUAL):
        for version in ("", "v3.10.4", "v3.19.1", "v3.22.0", "v3.28.1"):
            method = _calico.choose(hosts, version).value
            assert method is None or _calico.check(hosts, version, method) == [], (hosts, version)


def test_cards_to_come() -> None:
    pods, services = [ip_network("100.64.0.0/10"), ip_network("fd00:64::/48")], [ip_network("10.96.0.0/16")]
    assert _calico.cards_to_come(pods, services, "ipip", "iptables") == {"tunl0": pods[:1]}
    assert _calico.cards_to_come(pods, services, "none", "ipvs") == {"kube-ipvs0": services}
    assert _calico.cards_to_come(pods, services, "vxlan", "iptables") == {
        "vxlan.calico": pods[:1],
        "vxlan-v6.calico": pods[1:],
    }


@pytest.mark.parametrize(
    "text",
    ["first-found", "kubernetes-internal-ip", "interface=^ens32$,bond.*", "interface=(?i)ENS32", "skip-interface=ens33", "can-reach=192.168.253.1",
     "can-reach=gateway.example.org", "cidr=192.168.253.0/24,10.0.0.0/8"],
)  # fmt: skip
def test_methods_that_calico_knows(text: str) -> None:
    assert _calico.check_method(f" {text} ") == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "ens32",
        "interface=",
        "interface=ens(",
        "interface=ens32,",
        "interface=(?!docker).*",
        "skip-interface=a,,b",
        "can-reach=192.168.253",
        "can-reach=fd00::zz::1",
        "cidr=10.0.0.0",
    ],
)
def test_methods_that_calico_does_not_know(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        _calico.check_method(text)


@pytest.mark.parametrize(
    ("encapsulation", "ipv4", "ipv6"), [("ipip", 20, 0), ("vxlan", 50, 70), ("wireguard", 60, 80), ("none", 0, 0)]
)
def test_overlay_cost(encapsulation: str, ipv4: int, ipv6: int) -> None:
    assert (_calico.overlay_cost(encapsulation, 4), _calico.overlay_cost(encapsulation, 6)) == (ipv4, ipv6)


@pytest.mark.parametrize(("version", "wraps"), [("v3.22.5", False), ("v3.23.0", True), ("v4.0.0", True), ("", False)])
def test_vxlan_for_ipv6_came_late(version: str, wraps: bool) -> None:
    assert _calico.wraps_ipv6(version) == wraps


@pytest.mark.parametrize(
    ("images", "version"),
    [
        (["docker.io/calico/cni:v3.19.1", "docker.io/calico/node:v3.19.1"], "v3.19.1"),
        (["registry.example/calico-node:v3.28.0"], "v3.28.0"),
        (["k8s.gcr.io/pause:3.2"], ""),
    ],
)
def test_version_in_bundle(images: list[str], version: str) -> None:
    assert _calico.version_in_bundle({"parts": [{"kind": "image", "images": images}, {"kind": "binary"}]}) == version


def test_addresses_of_their_own_are_found_by_the_network_they_are_in() -> None:
    """A list of all hosts' /32 would be another one after each host that joins."""
    hosts = [
        _calico.Chosen(host.name, host.network, host.link, host.address, ip_network(f"{INTERNAL}.0/24"))
        for host in (
            chosen("a", card("ens32", f"{INTERNAL}.129/32"), card("ens33", "192.168.160.243/32")),
            chosen("b", card("ens32", f"{INTERNAL}.128/32"), card("ens33", "192.168.160.244/32")),
        )
    ]
    assert _calico.choose(hosts, "v3.19.1").value == f"cidr={INTERNAL}.0/24"
