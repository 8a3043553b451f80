# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Calico's method, by its version and by what the hosts are like."""

from __future__ import annotations

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


@pytest.mark.parametrize(
    ("hosts", "version", "method"),
    [
        (SAME, "v3.28.1", "kubernetes-internal-ip"),
        (CROSSED, "v3.22.0", "kubernetes-internal-ip"),
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


@pytest.mark.parametrize(
    "text",
    ["first-found", "kubernetes-internal-ip", "interface=^ens32$,bond.*", "skip-interface=ens33", "can-reach=192.168.253.1",
     "can-reach=gateway.example.org", "cidr=192.168.253.0/24,10.0.0.0/8"],
)  # fmt: skip
def test_methods_that_calico_knows(text: str) -> None:
    assert _calico.check_method(f" {text} ") == text


@pytest.mark.parametrize(
    "text",
    ["", "ens32", "interface=", "interface=ens(", "can-reach=192.168.253", "can-reach=fd00::zz::1", "cidr=10.0.0.0"],
)
def test_methods_that_calico_does_not_know(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        _calico.check_method(text)


@pytest.mark.parametrize(
    ("encapsulation", "mtu"), [("ipip", 1480), ("vxlan", 1450), ("wireguard", 1440), ("none", 1500)]
)
def test_overlay_mtu(encapsulation: str, mtu: int) -> None:
    assert _calico.overlay_mtu(1500, encapsulation) == mtu


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
