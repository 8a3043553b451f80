# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filters, on our facts and on ansible.builtin.setup's."""

from __future__ import annotations

from typing import Any

import pytest
from ansible.errors import AnsibleFilterError

from ansible_collections.multinic.kubernetes.plugins.filter import network
from ansible_collections.multinic.kubernetes.tests.unit.network_hosts import card, recorded, seed_facts

OURS = {"multinic": seed_facts("master1", 129)}
PLAIN = {
    "interfaces": ["lo", "ens33", "ens32", "bond-0", "mgmt-1.100"],
    "lo": {"device": "lo", "type": "loopback", "ipv4": {"address": "127.0.0.1", "prefix": "8"}},
    "ens33": {
        "device": "ens33",
        "active": True,
        "mtu": 1500,
        "ipv4": {"address": "192.168.160.243", "netmask": "255.255.254.0"},
    },
    "ens32": {
        "device": "ens32",
        "active": True,
        "speed": 10000,
        "ipv4": {"address": "192.168.253.129", "netmask": "255.255.255.0", "prefix": "24"},
        "ipv4_secondaries": [{"address": "192.168.253.200", "netmask": "255.255.255.0"}],
        "ipv6": [{"address": "fe80::1", "prefix": "64", "scope": "link"}],
    },
    "bond_0": {"device": "bond-0", "active": False},
    "mgmt_1.100": {
        "device": "mgmt-1.100",
        "active": False,
        "ipv4": {"address": "10.9.0.1", "netmask": "255.255.255.254"},
    },
    "default_ipv4": {"interface": "ens33", "gateway": "192.168.160.1"},
}
BOTH = {"master1": OURS, "node01": {"multinic": seed_facts("node01", 131)}}


@pytest.mark.parametrize("facts", [OURS, PLAIN], ids=["ours", "plain"])
@pytest.mark.parametrize("value", ["192.168.253.0/24", "ens32", "auto", "192.168.253.1"])
def test_one_host(facts: dict[str, Any], value: str) -> None:
    assert network.cluster_interface(facts, value) == "ens32"
    assert network.cluster_address(facts, value) == "192.168.253.129"
    assert (
        network.vip_route(facts, "10.103.97.2", value) == "local 10.103.97.2/32 dev lo table local src 192.168.253.129"
    )


@pytest.mark.parametrize("key", ["mgmt_1.100", "mgmt_1_100", "mgmt-1.100"])
def test_a_card_is_known_however_setup_writes_its_name(key: str) -> None:
    facts = {name: fact for name, fact in PLAIN.items() if name != "mgmt_1.100"}
    facts[key] = {"device": "mgmt-1.100", "ipv4": {"address": "10.9.0.1", "netmask": "255.255.255.254"}}
    assert network.cluster_address(facts, "10.9.0.0/31") == "10.9.0.1"
    assert network.cluster_interface(facts, "mgmt-1.100") == "mgmt-1.100"


def test_all_hosts() -> None:
    assert network.calico_autodetection(BOTH, "192.168.253.0/24", "v3.19.1") == "cidr=192.168.253.0/24"
    assert network.calico_autodetection(BOTH) == "interface=^ens32$"
    assert network.can_reach_gateway(BOTH, "192.168.253.0/24") == "192.168.253.129"


def test_two_families() -> None:
    facts = {"multinic": {"links": [card("ens32", "192.168.253.129/24", "fd00:253::129/64")], "routes": []}}
    both = ["192.168.253.0/24", "fd00:253::/64"]
    assert network.cluster_address(facts, both) == "192.168.253.129"
    route = network.vip_route(facts, "fd00:10:103:97::2", both)
    assert route == "local fd00:10:103:97::2/128 dev lo table local src fd00:253::129"
    assert network.vip_route(facts, "10.103.97.2", both).endswith("src 192.168.253.129")
    assert network.calico_autodetection({"a": facts}, both, "v3.19.1") == "cidr=192.168.253.0/24,fd00:253::/64"
    assert network.can_reach_gateway({"a": facts}, both) == "192.168.253.129"


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: network.cluster_address(OURS, "10.0.0.0/8"), "the host has 192.168.253.0/24"),
        (lambda: network.cluster_address(OURS, "1.2.3"), "looks like an address"),
        (lambda: network.cluster_address("x"), "must be a host's ansible_facts"),
        (lambda: network.cluster_address({"links": [{}]}), "cannot be read"),
        (lambda: network.vip_route(OURS, "vip", "ens32"), "'vip' is not an address"),
        (lambda: network.vip_route(OURS, "fd00::1", "ens32"), "differ in family"),
        (lambda: network.can_reach_gateway({}, "ens32"), "mapping of host names"),
        (lambda: network.can_reach_gateway(BOTH, "ens31"), "master1: there is no card 'ens31'"),
        (
            lambda: network.can_reach_gateway({"a": OURS, "b": {"links": [{"name": "ens32", "addresses": [
                {"address": "10.0.0.1", "prefix": 24}]}]}}, "ens32"),
            "b is on 10.0.0.0/24 (ens32)",
        ),
    ],
)  # fmt: skip
def test_errors_tell_what_is_wrong(call: Any, words: str) -> None:
    with pytest.raises(AnsibleFilterError) as caught:
        call()
    assert words in str(caught.value)


def test_can_reach_is_asked_of_the_kernels_rules() -> None:
    twins = {"a": recorded("two-in-one-subnet")}
    assert network.can_reach_gateway(twins, "ens3") == "10.20.0.5"
    assert network.calico_autodetection(twins, "ens3", "v3.19.1") == "interface=^ens3$"
    neighbour = {"z": {"links": [{"name": "ens4", "addresses": [{"address": "10.20.0.7", "prefix": 24}]}]}}
    assert network.can_reach_gateway({**twins, **neighbour}, "10.20.0.0/24") == "10.20.0.5"
    with pytest.raises(AnsibleFilterError, match=r"10\.20\.0\.7 does not do on b: .* ens3 has the source 10\.20\.0\.5"):
        network.can_reach_gateway({"a": neighbour["z"], "b": twins["a"]}, "ens4")


@pytest.mark.parametrize(
    ("version", "method"),
    [("v3.22.0", "cidr=192.168.253.0/24"), ("v3.22.4", "kubernetes-internal-ip"), ("v3.15.0", "interface=^ens32$")],
)
def test_calicos_method_by_its_version(version: str, method: str) -> None:
    assert network.calico_autodetection(BOTH, "192.168.253.0/24", version) == method


def test_every_filter_is_offered() -> None:
    assert set(network.FilterModule().filters()) == {
        "calico_autodetection", "can_reach_gateway", "cluster_address", "cluster_interface", "vip_route",
    }  # fmt: skip
