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
from ansible_collections.multinic.kubernetes.plugins.module_utils._net import (
    Address,
    HostNetwork,
    Link,
    Route,
    as_address,
)
from ansible_collections.multinic.kubernetes.tests.unit.network_hosts import FIXTURES, card, recorded, seed_facts


def choose(facts: dict[str, Any], value: Any, vip: str = "10.103.97.2") -> tuple[_select.Choice, ...]:
    network = HostNetwork.from_facts(facts)
    vips = [found for found in [as_address(vip)] if found is not None]
    return _select.choose(
        network, _select.parse_selectors(value), vips, _select.common_network({"this": network}, vips)
    )


def four_ways(name: str, card_name: str, auto: bool = True) -> list[tuple[str, Any, list[tuple[str, str]]]]:
    """The usual host: by CIDR, by name, by an address to reach, and by itself, it is 10.20.0.5 of that card."""
    ways = ["10.20.0.0/24", card_name, "10.20.0.1", *(["auto"] if auto else [])]
    return [(name, way, [(card_name, "10.20.0.5/24")]) for way in ways]


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
    *four_ways("bond", "bond0"),
    *four_ways("team", "team0"),
    *four_ways("vlans", "ens3.100", auto=False),
    ("vlans", "auto", [("ens3.100", "10.20.0.5/24")]),
    ("vlans", "10.30.0.1", [("ens3.200", "10.30.0.5/24")]),
    *four_ways("bridge-over-bond-vlan", "br20"),
    *four_ways("macvlan-over-card", "mac0"),
    *four_ways("wireguard", "ens4"),
    ("wireguard", "wg0", [("wg0", "10.99.0.5/24")]),
    *four_ways("dummy", "ens4"),
    ("dummy", "dummy0", [("dummy0", "10.50.0.5/32")]),
    *four_ways("libvirt", "ens4"),
    *four_ways("flannel", "ens4"),
    *four_ways("calico", "ens4"),
    *four_ways("jumbo", "ens4"),
    *four_ways("multipath-default", "ens5"),
    *four_ways("policy-tables", "ens4"),
    *four_ways("several-on-one-card", "ens4"),
    ("several-on-one-card", "10.21.0.0/16", [("ens4", "10.21.0.5/16")]),
    ("several-on-one-card", "10.21.9.9", [("ens4", "10.21.0.5/16")]),
    ("several-on-one-card", "10.20.0.100", [("ens4", "10.20.0.100/32")]),
    # Two default routes: neither network is anybody's but theirs, so the speed, the MTU and the order decide.
    *four_ways("metrics", "ens4"),
    ("cloud-slash32", "10.20.0.0/20", [("ens5", "10.20.0.5/32")]),
    ("cloud-slash32", "ens5", [("ens5", "10.20.0.5/32")]),
    ("cloud-slash32", "10.20.0.1", [("ens5", "10.20.0.5/32")]),
    ("cloud-slash32", "10.20.7.7", [("ens5", "10.20.0.5/32")]),
    ("tailscale", "10.20.0.0/24", [("ens4", "10.20.0.5/24")]),
    ("tailscale", "auto", [("ens4", "10.20.0.5/24")]),
    ("tailscale", "tailscale0", [("tailscale0", "100.101.102.103/32")]),
    ("no-carrier", "10.20.0.0/24", [("ens4", "10.20.0.5/24")]),
    ("no-carrier", "auto", [("ens5", "10.21.0.5/24")]),
    ("loopback-address", "lo", [("lo", "10.20.0.5/32")]),
    ("loopback-address", "10.20.0.5", [("lo", "10.20.0.5/32")]),
    ("unnumbered-peer", "10.20.0.6", [("ens4", "10.20.0.5/32")]),
    ("unnumbered-peer", "10.20.0.9", [("ens5", "10.20.0.5/32")]),
    ("unnumbered-peer", "ens5", [("ens5", "10.20.0.5/32")]),
    ("vrf", "10.20.0.0/24", [("ens4", "10.20.0.5/24")]),
    ("vrf", "ens4", [("ens4", "10.20.0.5/24")]),
    ("vrf", "auto", [("ens4", "10.20.0.5/24")]),
    # Neither the tentative, nor the temporary, nor the deprecated one.
    ("ipv6-states", "fd00:20::/48", [("ens4", "fd00:20::5:5/64")]),
    ("ipv6-states", "ens4", [("ens4", "fd00:20::5:5/64")]),
    ("ipv6-states", "auto", [("ens4", "fd00:20::5:5/64")]),
]


@pytest.mark.parametrize(("name", "value", "expected"), RECORDED)
def test_choice_on_recorded_hosts(name: str, value: Any, expected: list[tuple[str, str]]) -> None:
    choices = choose(recorded(name), value)
    assert [(choice.link.name, str(choice.address.interface)) for choice in choices] == expected
    assert all(choice.reason for choice in choices)


def test_every_recorded_host_is_used() -> None:
    assert len(list(FIXTURES.glob("*.json"))) >= 25
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
    ("tailscale", "10.20.0.1", "through tailscale0 (100.101.102.103/32), a card that a program", "10.20.0.0/24 (ens4)"),
    ("wireguard", "10.99.0.0/24", "only wg0 (10.99.0.5/24)", "cluster_network: wg0"),
    ("wireguard", "10.99.0.1", "through wg0 (10.99.0.5/24), a card that a program", "10.20.0.0/24 (ens4)"),
    ("flannel", "10.244.2.7", "through flannel.1 (10.244.1.0/32), a card that a program", "10.20.0.0/24 (ens4)"),
    ("dummy", "10.50.0.0/24", "only dummy0 (10.50.0.5/32)", "cluster_network: dummy0"),
    ("dummy", "10.50.0.9", "only through the default route, 192.0.2.1 on ens3", "10.20.0.9 (or 10.20.0.0/24)"),
    ("libvirt", "192.168.122.0/24", "only virbr0 (192.168.122.1/24)", "cluster_network: virbr0"),
    ("libvirt", "vnet0", "vnet0 is down, and has no address", "10.20.0.0/24 (ens4)"),
    ("bond", "ens5", "ens5 is up, and has no address", "10.20.0.0/24 (bond0)"),
    ("team", "ens4", "ens4 is up, and has no address", "10.20.0.0/24 (team0)"),
    ("vlans", "ens3.10", "there is no card 'ens3.10'", "Set cluster_network: ens3.100"),
    ("vrf", "10.20.0.1", "only through the default route, 192.0.2.1 on ens3", "10.20.0.1 (or 10.20.0.0/24)"),
    ("metrics", "8.8.8.8", "only through the default route, 192.0.2.1 on ens3", "10.20.0.0/24 (ens4)"),
    ("loopback-address", "10.20.0.0/24", "only lo (10.20.0.5/32)", "cluster_network: lo"),
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


@pytest.mark.parametrize("value", ["ens3", "ens4", "10.20.0.1"])
def test_a_card_that_is_not_alone_in_its_network_is_doubted_however_it_is_chosen(value: str) -> None:
    (choice,) = choose(recorded("two-in-one-subnet"), value)
    ((found, _why, remedy),) = choice.doubts
    assert found.startswith(f"two cards are on one network: {choice.link.name} ")
    assert "bond" in remedy
    (alone,) = choose(recorded("two-cards"), "ens4")
    assert alone.doubts == ()


CONTAINERS: list[tuple[dict[str, Any], bool]] = [
    ({"name": "eth0", "far_end": True}, True),
    ({"name": "eth0", "far_end": False}, False),  # both ends are here: a program's own
    ({"name": "eth0", "far_end": True, "master": "docker0"}, False),
    ({"name": "veth1a2b", "far_end": True}, False),
    ({"name": "cali1a2b", "far_end": True}, False),
    ({"name": "eth0", "far_end": True, "addresses": []}, False),
    ({"name": "lxd1", "far_end": True, "addresses": ["169.254.0.1/32"]}, False),
]


@pytest.mark.parametrize(("more", "taken"), CONTAINERS)
def test_the_card_of_a_host_that_is_a_container_is_no_programs(more: dict[str, Any], taken: bool) -> None:
    data = {"kind": "veth", "addresses": ["10.20.0.5/24"], **more}
    link = Link.from_facts(card(data.pop("name"), *data.pop("addresses"), **data))
    assert link.made is not taken


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
    selection = _select.common_network({"master1": HostNetwork.from_facts(facts)}, ())
    assert str(selection.network) == "10.2.0.0/24"
    assert "25000 Mbit/s" in selection.reason
    assert choose(facts, "auto")[0].link.name == "fast"


def test_auto_tells_which_networks_are_as_good() -> None:
    facts = {"links": [card("ens32", "192.168.253.129/24"), card("ens33", "192.168.160.243/23")]}
    selection = _select.common_network({"master1": HostNetwork.from_facts(facts)}, ())
    assert str(selection.network) == "192.168.160.0/23"
    assert list(map(str, selection.equals)) == ["192.168.253.0/24"]
    assert "of equals the one with the lowest address" in selection.reason
    facts["links"][0]["mtu"] = 9000
    selection = _select.common_network({"master1": HostNetwork.from_facts(facts)}, ())
    assert (str(selection.network), selection.equals) == ("192.168.253.0/24", ())


def test_auto_tells_what_each_network_lacks() -> None:
    networks = {
        "a": HostNetwork.from_facts({"links": [card("e0", "10.1.0.1/24")]}),
        "b": HostNetwork.from_facts({"links": [card("e0", "10.2.0.1/24")]}),
    }
    selection = _select.common_network(networks, ())
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
    common = _select.common_network({"this": network}, ())
    try:
        choices = _select.choose(network, _select.parse_selectors(value), (), common)
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


NETWORKS = ["10.1.0.0/24", "10.2.0.0/24", "10.3.0.0/24", "10.4.0.0/22"]


@st.composite
def racks(draw: st.DrawFn) -> tuple[dict[str, HostNetwork], set[str]]:
    """Hosts on some of four networks, one card for each, and the networks that carry a default route somewhere."""
    hosts: dict[str, HostNetwork] = {}
    defaults: set[str] = set()
    for number in range(1, draw(st.integers(2, 5))):
        mine = draw(st.lists(st.sampled_from(NETWORKS), min_size=1, unique=True))
        links = tuple(
            Link(
                name=f"e{position}",
                mtu=draw(st.sampled_from([1500, 9000])),
                speed_mbps=draw(st.sampled_from([None, 1000, 25000])),
                addresses=(Address(ip_interface((int(ip_network(net)[number]), ip_network(net).prefixlen))),),
            )
            for position, net in enumerate(mine)
        )
        way_out = draw(st.sampled_from([None, *range(len(mine))]))
        routes = () if way_out is None else (Route(ip_network("0.0.0.0/0"), "10.9.9.9", f"e{way_out}"),)
        defaults |= set() if way_out is None else {mine[way_out]}
        hosts[f"h{number}"] = HostNetwork(links=links, routes=routes)
    return hosts, defaults


@given(racks(), st.data())
def test_auto_takes_a_common_network_and_not_the_default_routes(
    drawn: tuple[dict[str, HostNetwork], set[str]], data: st.DataObject
) -> None:
    hosts, defaults = drawn
    common = set.intersection(
        *({str(address.network) for _link, address in network.addresses()} for network in hosts.values())
    )
    selection = _select.common_network(hosts, ())
    assert (selection.network is None) == (not common)
    assert selection.reason
    if selection.network is not None:
        assert str(selection.network) in common
        assert str(selection.network) not in defaults or common <= defaults
        others = [net for net in common if (net in defaults) == (str(selection.network) in defaults)]
        assert _slowest(hosts, str(selection.network)) == max(_slowest(hosts, net) for net in others)
    assert _select.common_network(dict(data.draw(st.permutations(list(hosts.items())))), ()) == selection


def _slowest(hosts: dict[str, HostNetwork], net: str) -> tuple[int, int]:
    """The speed of a network's slowest card, and its smallest MTU."""
    links = [link for host in hosts.values() for link, address in host.addresses() if str(address.network) == net]
    return min(link.speed_mbps or 0 for link in links), min(link.mtu for link in links)


@st.composite
def slips(draw: st.DrawFn, text: str) -> str:
    """The text with one slip of the hand: a character wrong, too much, missing, or two swapped."""
    at = draw(st.integers(0, len(text) - 1))
    letter = draw(st.sampled_from("0123456789./abens"))
    way = draw(st.sampled_from(["wrong", "more", "less", "swapped"]))
    if way == "swapped":
        return text[:at] + text[at : at + 2][::-1] + text[at + 2 :]
    return text[:at] + {"wrong": letter, "more": letter + text[at], "less": ""}[way] + text[at + 1 :]


@given(HOSTS, st.data())
def test_what_is_suggested_is_the_hosts_own(links: list[Link], data: st.DataObject) -> None:
    network = HostNetwork(links=tuple(links))
    own = {str(address.network) for link, address in network.addresses() if not link.made and not address.single}
    names = {link.name for link in network.links if not link.made}
    meant = data.draw(st.sampled_from(sorted(own | names) or ["10.0.0.0/24"]))
    remedy = ""
    try:
        selectors = _select.parse_selectors(data.draw(slips(meant)))
        _select.choose(network, selectors, (), _select.common_network({"this": network}, ()))
    except _select.SelectionError as problem:
        remedy = problem.remedy
    except ValueError:
        return
    _before, separator, suggested = remedy.partition("Set cluster_network: ")
    near, _or, on_link = suggested.rstrip(")").partition(" (or ")
    if on_link:
        assert on_link in own
        assert as_address(near) in ip_network(on_link)
    elif separator:
        assert near in own | names


@given(HOSTS, st.sampled_from(["eth0", "ens32", "bond0", "eth", "ens3", "bond0.7", "th0"]))
def test_a_plain_name_is_one_whole_name(links: list[Link], name: str) -> None:
    network = HostNetwork(links=tuple(links))
    try:
        (choice,) = _select.choose(network, _select.parse_selectors(name), ())
    except _select.SelectionError:
        return
    assert choice.link.name == name
