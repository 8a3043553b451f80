# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every form of cluster_network, on recorded hosts and on drawn ones."""

from __future__ import annotations

from ipaddress import ip_interface, ip_network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.multinic.kubernetes.plugins.module_utils import _select
from ansible_collections.multinic.kubernetes.plugins.module_utils._net import Address, HostNetwork, Link, as_address
from ansible_collections.multinic.kubernetes.tests.unit.network_hosts import FIXTURES, card, recorded, seed_facts


def choose(facts: dict[str, Any], value: Any, vip: str = "10.103.97.2") -> tuple[_select.Choice, ...]:
    network = HostNetwork.from_facts(facts)
    common = _select.common_network({"this": network}, as_address(vip))
    return _select.choose(network, _select.parse_selectors(value), as_address(vip), common)


RECORDED: list[tuple[str, Any, list[tuple[str, str]]]] = [
    ("two-cards", "192.168.253.0/24", [("ens4", "192.168.253.129/24")]),
    ("two-cards", "192.168.253.1", [("ens4", "192.168.253.129/24")]),
    ("two-cards", "192.168.253.129", [("ens4", "192.168.253.129/24")]),
    ("two-cards", "auto", [("ens4", "192.168.253.129/24")]),
    ("two-cards", "ens4", [("ens4", "192.168.253.129/24")]),
    ("bond-vlan", "10.20.0.0/24", [("bond0.100", "10.20.0.5/24")]),
    ("bond-vlan", "bond0.100", [("bond0.100", "10.20.0.5/24")]),
    ("bond-vlan", r"bond\d\.100", [("bond0.100", "10.20.0.5/24")]),
    ("bond-vlan", "10.20.0.1", [("bond0.100", "10.20.0.5/24")]),
    ("bond-vlan", "auto", [("bond0.100", "10.20.0.5/24")]),
    ("bridge-docker", "10.20.0.0/16", [("br0", "10.20.0.5/24")]),
    ("bridge-docker", "auto", [("br0", "10.20.0.5/24")]),
    ("bridge-docker", "docker0", [("docker0", "172.17.0.1/16")]),
    ("dual-stack", ["10.20.0.0/24", "fd00:20::/64"], [("ens4", "10.20.0.5/24"), ("ens4", "fd00:20::5/64")]),
    ("dual-stack", "fd00:20::/64, 10.20.0.0/24", [("ens4", "fd00:20::5/64"), ("ens4", "10.20.0.5/24")]),
    ("dual-stack", "fd00:20::1", [("ens4", "fd00:20::5/64")]),
    ("dual-stack", "auto", [("ens4", "10.20.0.5/24")]),
    ("slash31", "10.20.0.4/31", [("ens4", "10.20.0.4/31")]),
    ("slash31", "10.20.0.5", [("ens4", "10.20.0.4/31")]),
    ("slash32-onlink", "10.20.0.0/24", [("ens4", "10.20.0.5/32")]),
    ("slash32-onlink", "10.20.0.1", [("ens4", "10.20.0.5/32")]),
    ("slash32-onlink", "10.20.0.9", [("ens4", "10.20.0.5/32")]),
    ("two-defaults", "10.20.0.0/24", [("ens4", "10.20.0.5/24")]),
    ("two-defaults", "10.20.0.1", [("ens4", "10.20.0.5/24")]),
    ("no-default", "10.20.0.0/24", [("ens4", "10.20.0.5/24")]),
    ("no-default", "10.20.0.1", [("ens4", "10.20.0.5/24")]),
    ("policy-rules", "10.20.0.0/24", [("ens4", "10.20.0.5/24")]),
    ("secondary", "10.20.0.0/24", [("ens4", "10.20.0.5/24")]),
    ("secondary", "10.20.0.50", [("ens4", "10.20.0.50/24")]),
    ("member", "10.20.0.0/24", [("ens4", "10.20.0.5/24")]),
    ("member", "auto", [("ens4", "10.20.0.5/24")]),
    ("vpn", "tailscale0", [("tailscale0", "100.101.102.103/32")]),
    ("ipv6-only", "auto", [("ens4", "fd00:20::5/64")]),
    ("ipv6-only", "fd00:20::1", [("ens4", "fd00:20::5/64")]),
    ("peer-multipath", "10.20.0.6", [("ens4", "10.20.0.5/32")]),
    ("two-in-one-subnet", "ens4", [("ens4", "10.20.0.6/24")]),
    ("card-down", "10.20.0.0/24", [("ens4", "10.20.0.5/24")]),
    ("macvlan", "10.20.0.0/24", [("macvlan0", "10.20.0.5/24")]),
]


@pytest.mark.parametrize(("name", "value", "expected"), RECORDED)
def test_choice_on_recorded_hosts(name: str, value: Any, expected: list[tuple[str, str]]) -> None:
    choices = choose(recorded(name), value)
    assert [(choice.link.name, str(choice.address.interface)) for choice in choices] == expected
    assert all(choice.reason for choice in choices)


def test_every_recorded_host_is_used() -> None:
    assert {path.stem for path in FIXTURES.glob("*.json")} == {name for name, _value, _expected in RECORDED}


REFUSED: list[tuple[str, Any, str, str]] = [
    ("two-cards", "192.158.253.1", "only through the default route, 192.168.160.1 on ens3", "192.168.253.1"),
    ("two-cards", "192.158.253.0/24", "no card has an address inside", "Set cluster_network: 192.168.253.0/24"),
    ("two-cards", "ens", "there is no card 'ens'", "192.168.253.0/24 (ens4)"),
    ("two-cards", "ens44", "there is no card 'ens44'", "Set cluster_network: ens4"),
    ("two-cards", r"ens\d", "fits ens3, ens4", "192.168.253.0/24 (ens4)"),
    ("two-cards", "en*", "there is no card 'en*'", "write cluster_network: en.*"),
    ("bond-vlan", "bond0", "has no address", "10.20.0.0/24 (bond0.100)"),
    ("bond-vlan", "10.20.1.1", "only through the default route", "Set cluster_network: 10.20.0.1 (or 10.20.0.0/24)"),
    ("bridge-docker", "172.17.0.0/16", "only docker0 (172.17.0.1/16)", "cluster_network: docker0"),
    ("no-default", "8.8.8.8", "knows no way", "10.20.0.0/24 (ens4)"),
    ("vpn", "100.64.0.0/10", "only tailscale0", "cluster_network: tailscale0"),
    ("peer-multipath", "10.40.0.1", "knows no way", "ens4"),
    ("card-down", "10.20.0.1", "only through the default route", "Set cluster_network: 10.20.0.1 (or 10.20.0.0/24)"),
]


@pytest.mark.parametrize(("name", "value", "found", "remedy"), REFUSED)
def test_refusal_tells_what_was_found_and_what_to_do(name: str, value: Any, found: str, remedy: str) -> None:
    with pytest.raises(_select.SelectionError) as caught:
        choose(recorded(name), value)
    assert found in caught.value.found
    assert remedy in caught.value.remedy
    assert caught.value.why


def test_another_network_of_the_same_site_is_no_slip_of_the_hand() -> None:
    """The host lacks its card in the network that is meant; the external one would be the wrong advice."""
    with pytest.raises(_select.SelectionError) as caught:
        choose({"links": [card("ens33", "192.168.160.246/23")]}, "192.168.253.0/24")
    assert caught.value.remedy == "Set cluster_network to a network that the host is on."


@pytest.mark.parametrize(
    "value", ["192.168.253.300", "192.168.253.0/33", "ens(", "0.0.0.0/0", ["auto", "ens3"], "fe80::zz", {"a": 1}, True]
)
def test_nonsense_is_refused_before_any_host_is_looked_at(value: Any) -> None:
    with pytest.raises(ValueError, match=r"."):
        _select.parse_selectors(value)


def test_a_name_is_the_whole_name() -> None:
    facts = seed_facts("master1", 129)
    facts["links"] += [card("ens320", "10.1.0.1/24"), card("ens32.100", "10.2.0.1/24")]
    assert [choice.link.name for choice in choose(facts, "ens32")] == ["ens32"]


def test_two_cards_in_one_network_are_doubtful() -> None:
    (choice,) = choose(recorded("two-in-one-subnet"), "10.20.0.0/24")
    assert choice.link.name == "ens3"
    assert "ens3 (10.20.0.5/24), ens4 (10.20.0.6/24)" in choice.doubts[0][0]


def test_the_vip_is_never_the_cluster_address() -> None:
    facts = seed_facts("master1", 129)
    facts["links"][0]["addresses"].insert(0, {"address": "192.168.253.2", "prefix": 24})
    (choice,) = choose(facts, "192.168.253.0/24", vip="192.168.253.2")
    assert str(choice.address.ip) == "192.168.253.129"


def test_auto_takes_the_fastest_of_two_inner_networks() -> None:
    facts = seed_facts("master1", 129)
    facts["links"] += [card("slow", "10.1.0.1/24", speed_mbps=100), card("fast", "10.2.0.1/24", speed_mbps=25000)]
    selection = _select.common_network({"master1": HostNetwork.from_facts(facts)}, None)
    assert str(selection.network) == "10.2.0.0/24"
    assert "25000 Mbit/s" in selection.reason
    assert choose(facts, "auto")[0].link.name == "fast"


def test_auto_tells_which_networks_are_as_good() -> None:
    facts = {"links": [card("ens32", "192.168.253.129/24"), card("ens33", "192.168.160.243/23")]}
    selection = _select.common_network({"master1": HostNetwork.from_facts(facts)}, None)
    assert str(selection.network) == "192.168.160.0/23"
    assert list(map(str, selection.equals)) == ["192.168.253.0/24"]
    assert "of equals the one with the lowest address" in selection.reason
    facts["links"][0]["mtu"] = 9000
    selection = _select.common_network({"master1": HostNetwork.from_facts(facts)}, None)
    assert (str(selection.network), selection.equals) == ("192.168.253.0/24", ())


def test_auto_tells_what_each_network_lacks() -> None:
    networks = {
        "a": HostNetwork.from_facts({"links": [card("e0", "10.1.0.1/24")]}),
        "b": HostNetwork.from_facts({"links": [card("e0", "10.2.0.1/24")]}),
    }
    selection = _select.common_network(networks, None)
    assert selection.network is None
    assert "10.1.0.0/24 on 1 of 2, 10.2.0.0/24 on 1 of 2" in selection.reason


CARDS = st.builds(
    lambda name, ip, prefix, mtu, speed, works, kind: Link(
        name=name, mtu=mtu, up=works, speed_mbps=speed, kind=kind, addresses=(Address(ip_interface((ip, prefix))),)
    ),
    name=st.sampled_from(["eth0", "eth1", "ens32", "docker0", "bond0.7", "cni0", "wg0"]),
    ip=st.ip_addresses(v=4, network="10.0.0.0/20"),
    prefix=st.integers(22, 32),
    mtu=st.sampled_from([1400, 1500, 9000]),
    speed=st.sampled_from([None, 1000, 10000]),
    works=st.booleans(),
    kind=st.sampled_from(["", "vlan", "bond", "bridge", "wireguard"]),
)
HOSTS = st.lists(CARDS, max_size=5, unique_by=lambda link: link.name)
WISHES = st.one_of(
    st.builds(str, st.ip_addresses(v=4, network="10.0.0.0/20")),
    st.builds(lambda ip, prefix: str(ip_network((ip, prefix), strict=False)), st.ip_addresses(v=4), st.integers(1, 32)),
    st.sampled_from(["auto", "eth0", "eth.*", "10.0.0.0/20", "ens32, eth1"]),
)


def told(links: list[Link], value: str) -> list[str]:
    """The chosen addresses; none where the choice is refused with a reason and a remedy."""
    network = HostNetwork(links=tuple(links))
    common = _select.common_network({"this": network}, None)
    try:
        choices = _select.choose(network, _select.parse_selectors(value), None, common)
    except _select.SelectionError as problem:
        return [] if problem.found and problem.why and problem.remedy else ["refused without a word"]
    return [str(choice.address.ip) for choice in choices]


@given(links=HOSTS, value=WISHES, data=st.data())
def test_choice_depends_on_nothing_but_the_cards(links: list[Link], value: str, data: st.DataObject) -> None:
    """The order of cards is irrelevant, a chosen address is inside a wanted network, and only SelectionError is raised."""
    results = [told(links, value), told(data.draw(st.permutations(links)), value)]
    if as_address(value) is None:
        assert results[0] == results[1]
    if "/" in value:
        assert all(as_address(ip) in ip_network(value) for ip in results[0])
