# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What Calico would take: over recorded hosts, small ones, and all that Hypothesis thinks of."""

from __future__ import annotations

import re
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_interface, ip_network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.multinic.kubernetes.plugins.module_utils import _calico_predict as predictor
from ansible_collections.multinic.kubernetes.plugins.module_utils._calico_predict import predict
from ansible_collections.multinic.kubernetes.plugins.module_utils._net import Address, HostNetwork, Link
from ansible_collections.multinic.kubernetes.tests.unit.network_hosts import FIXTURES, address, card, recorded

RECORDED = sorted(path.stem for path in FIXTURES.glob("*.json"))
NEW, OLD = "v3.28.1", "v3.10.4"


def host(*cards: dict[str, Any], **more: Any) -> HostNetwork:
    """A host whose cards are numbered in the order given, unless they say otherwise."""
    numbered = [{"index": number, **item} for number, item in enumerate(cards, 1)]
    return HostNetwork.from_facts({"links": numbered, **more})


def recorded_host(name: str) -> HostNetwork:
    return HostNetwork.from_facts(recorded(name))


@pytest.mark.parametrize(
    ("name", "method", "taken"),
    [
        # The last card wins, in two-cards the internal one by chance.
        ("two-cards", "first-found", "192.168.253.129"),
        ("two-cards", "", "192.168.253.129"),
        ("two-cards", "skip-interface=ens4", "192.168.160.243"),
        ("two-cards", "skip-interface=ens3 , ens4", None),
        ("two-cards", "interface=ens3", "192.168.160.243"),
        ("two-cards", "interface=ens", "192.168.253.129"),
        ("two-cards", "interface=ens4,ens3", "192.168.253.129"),
        ("two-cards", "interface=ens3,ens4", "192.168.253.129"),
        ("two-cards", "interface=ens33", None),
        ("two-cards", "interface= ens3", None),
        ("two-cards", "interface=lo", None),
        ("two-cards", "cidr=192.168.0.0/16", "192.168.253.129"),
        ("two-cards", "cidr=192.168.160.0/23", "192.168.160.243"),
        ("two-cards", "cidr=10.0.0.0/8 , 192.168.160.7/23", "192.168.160.243"),
        ("two-cards", "cidr=192.168.160.0/23,", None),
        ("two-cards", "cidr=192.168.160.0", None),
        ("two-cards", "cidr=192.168.160.0/255.255.254.0", None),
        ("two-cards", "can-reach=192.168.253.1", "192.168.253.129"),
        ("two-cards", "can-reach=192.158.253.1", "192.168.160.243"),
        ("two-cards", "can-reach=192.168.253.129", "192.168.253.129"),
        ("two-cards", "can-reach=127.0.0.1", "127.0.0.1"),
        ("bond-vlan", "first-found", "10.20.0.5"),
        ("bond-vlan", "interface=bond0", "10.20.0.5"),
        ("bond-vlan", "interface=^bond0$", None),
        # docker0 has the highest number: left out by first-found, but not by cidr and interface.
        ("bridge-docker", "first-found", "10.20.0.5"),
        ("bridge-docker", "cidr=10.20.0.0/16,172.16.0.0/12", "172.17.0.1"),
        ("bridge-docker", "interface=^(br0|docker0)$", "172.17.0.1"),
        ("bridge-docker", "skip-interface=^br0$", "192.0.2.10"),
        # A card that is down counts as any other.
        ("card-down", "first-found", "10.20.0.5"),
        ("card-down", "interface=ens4", "10.20.0.5"),
        ("card-down", "can-reach=10.20.0.1", "192.0.2.10"),
        ("member", "first-found", "10.20.0.5"),
        ("member", "cidr=10.0.0.0/8", "10.96.0.1"),
        ("member", "interface=.*", "100.64.1.1"),
        ("member", "skip-interface=", None),
        ("secondary", "first-found", "10.20.0.5"),
        ("secondary", "interface=ens4", "10.20.0.5"),
        ("secondary", "cidr=10.20.0.50/32", "10.20.0.50"),
        ("slash31", "cidr=10.20.0.4/31", "10.20.0.4"),
        # A /32 is neither passed over nor preferred.
        ("slash32-onlink", "first-found", "10.20.0.5"),
        ("slash32-onlink", "interface=ens3", "203.0.113.7"),
        ("two-in-one-subnet", "cidr=10.20.0.0/24", "10.20.0.6"),
        ("two-in-one-subnet", "can-reach=10.20.0.1", "10.20.0.5"),
        # No release leaves tailscale out.
        ("vpn", "first-found", "100.101.102.103"),
        ("macvlan", "first-found", "10.20.0.5"),
        ("ipv6-only", "first-found", None),
        ("no-default", "can-reach=8.8.8.8", None),
        ("two-cards", "ens3", None),
        ("two-cards", "interface=", None),
    ],
)
def test_recorded_hosts(name: str, method: str, taken: str | None) -> None:
    answer = predict(recorded_host(name), method, version=NEW)
    assert answer.sure, answer
    assert (str(answer.address) if answer.address else None) == taken, answer.reason
    assert answer.reason


@pytest.mark.parametrize(
    ("name", "method", "taken"),
    [
        ("dual-stack", "first-found", "fd00:20::5"),
        ("dual-stack", "interface=^ens3$", "2001:db8:1::10"),
        ("dual-stack", "cidr=10.20.0.0/24,2001:db8:1::/64", "2001:db8:1::10"),
        ("dual-stack", "cidr=10.20.0.0/24", None),
        ("dual-stack", "can-reach=fd00:20::1", "fd00:20::5"),
        ("dual-stack", "can-reach=10.20.0.1", None),
        ("dual-stack", "can-reach=2001:db8:9::9", "2001:db8:1::10"),
        ("two-cards", "first-found", None),
        ("two-cards", "interface=.*", None),
    ],
)
def test_ipv6(name: str, method: str, taken: str | None) -> None:
    answer = predict(recorded_host(name), method, family=6, version=NEW)
    assert answer.sure, answer
    assert (str(answer.address) if answer.address else None) == taken, answer.reason


# Several ways at once, a temporary IPv6 address, policy rules: there only the kernel knows.
NOT_TOLD = {"peer-multipath", "ipv6-states", "loopback-address", "policy-tables", "tailscale"}


@pytest.mark.parametrize("name", RECORDED)
def test_without_the_kernels_answer_its_rules_give_the_same_or_nothing(name: str) -> None:
    network = recorded_host(name)
    assert network.lookups
    for target, lookup in network.lookups.items():
        family = ip_address(target).version
        told = predict(network, f"can-reach={target}", family=family)
        guessed = predict(replace(network, lookups={}), f"can-reach={target}", family=family)
        assert (str(told.address) if told.address else None) == lookup.source
        assert not guessed.sure or guessed.address == told.address, target
        assert guessed.sure or name in NOT_TOLD, (target, guessed)


# ---------------------------------------------------------------------------------------------------------------------
# Versions
# ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "before", "since"),
    [("cidr=10.0.0.0/8", "v3.15.5", "v3.16.0"), ("kubernetes-internal-ip", "v3.21.6", "v3.22.4")],
)
def test_a_method_that_the_version_does_not_know_finds_nothing(method: str, before: str, since: str) -> None:
    network, planned = host(card("ens32", "10.0.0.1/24")), ip_address("10.0.0.1")
    assert predict(network, method, version=since, planned=planned).address == planned
    assert predict(network, method, version="", planned=planned).address == planned
    old = predict(network, method, version=before, planned=planned)
    assert (old.address, old.sure) == (None, True)
    assert f"Calico {before} ends" in old.reason


@pytest.mark.parametrize(
    ("version", "right"),
    [
        ("v3.22.0", False),
        ("v3.22.3", False),
        ("v3.22.4", True),
        ("v3.22", True),
        ("v3.23.0", False),
        ("v3.23.1", False),
        ("v3.23.2", True),
        ("v3.24.0", True),
        ("", True),
    ],
)
def test_internal_ip_took_the_networks_address_at_first(version: str, right: bool) -> None:
    network = host(card("ens32", "10.0.0.7/24"))
    answer = predict(network, "kubernetes-internal-ip", version=version, planned=ip_address("10.0.0.7"))
    assert str(answer.address) == ("10.0.0.7" if right else "10.0.0.0")


def test_internal_ip_must_be_on_a_card_and_known() -> None:
    network = host(card("ens32", "10.0.0.7/24"))
    gone = predict(network, "kubernetes-internal-ip", planned=ip_address("10.0.0.8"))
    assert (gone.address, gone.sure) == (None, True)
    assert not predict(network, "kubernetes-internal-ip").sure


@pytest.mark.parametrize(
    ("name", "version", "excluded"),
    [
        ("docker0", OLD, True),
        ("docker0", NEW, True),
        ("lo", NEW, True),
        ("slow0", "v3.24.2", True),
        ("slow0", "v3.23.3", True),
        ("slow0", "v3.23.4", False),
        ("slow0", "v3.24.0", True),
        ("slow0", "v3.24.3", False),
        ("ibmveth2", OLD, True),
        ("ibmveth2", NEW, False),
        ("cni0", "v3.14.2", False),
        ("cni0", "v3.15.0", True),
        ("vxlan.calico", OLD, True),
        ("vxlan.calico", "v3.23.4", False),
        ("vxlan.calico", "v3.23.5", True),
        ("vxlan.calico", "v3.24.2", True),
        ("vxlan.calico", "v3.24.3", False),
        ("vxlan.calico", "v3.24.4", True),
        ("nodelocaldns", "v3.24.5", False),
        ("nodelocaldns", "v3.24.6", True),
        ("br-0123456789ab", "v3.24.6", False),
        ("br-0123456789ab", "v3.25.0", True),
        ("podman1", "v3.25.0", True),
        ("br0", NEW, False),
        ("tailscale0", NEW, False),
        ("wg0", NEW, False),
        ("kube-ipvs0", OLD, True),
    ],
)
@pytest.mark.parametrize("method", ["first-found", "skip-interface=^nothing$"])
def test_what_first_found_leaves_out(name: str, version: str, excluded: bool, method: str) -> None:
    network = host(card("ens32", "10.0.0.1/24"), card(name, "172.16.0.1/24"))
    assert str(predict(network, method, version=version).address) == ("10.0.0.1" if excluded else "172.16.0.1")


def test_without_a_version_only_what_all_versions_say_is_sure() -> None:
    network = host(card("ens32", "10.0.0.1/24"), card("docker0", "172.17.0.1/16"))
    assert str(predict(network, "first-found").address) == "10.0.0.1"
    network = host(card("ens32", "10.0.0.1/24"), card("br-0123456789ab", "172.18.0.1/16"))
    answer = predict(network, "first-found")
    assert (answer.address, answer.sure) == (None, False)
    assert {str(ip) for _name, ip in answer.rivals} == {"10.0.0.1", "172.18.0.1"}


# ---------------------------------------------------------------------------------------------------------------------
# Order, addresses, patterns
# ---------------------------------------------------------------------------------------------------------------------


def test_numbers_decide_and_not_names() -> None:
    cards = (card("ens32", "10.0.0.1/24", index=9), card("ens33", "172.16.0.1/24", index=4))
    assert predict(host(*cards), "first-found", version=NEW).link == "ens32"
    assert predict(host(*reversed(cards)), "first-found", version=NEW).link == "ens32"


@pytest.mark.parametrize(("one", "other", "sure"), [(2, 3, True), (2, 300, True), (200, 257, False), (2, 258, False)])
def test_numbers_above_255_are_ordered_otherwise_by_older_kernels(one: int, other: int, sure: bool) -> None:
    network = host(card("a", "10.0.0.1/24", index=one), card("b", "10.1.0.1/24", index=other))
    answer = predict(network, "first-found", version=NEW)
    assert answer.sure == sure
    assert (answer.link == "b") == sure


def test_without_numbers_only_a_single_card_is_sure() -> None:
    network = host(card("a", "10.0.0.1/24", index=0), card("b", "10.1.0.1/24", index=0))
    answer = predict(network, "interface=[ab]")
    assert (answer.sure, answer.address) == (False, None)
    assert len(answer.rivals) == 2
    assert str(predict(network, "interface=a").address) == "10.0.0.1"


@pytest.mark.parametrize(
    ("addresses", "taken"),
    [
        (["169.254.1.1/16", "10.0.0.1/24"], "10.0.0.1"),
        ([address("10.0.0.9/24", deprecated=True), "10.0.0.1/24"], "10.0.0.9"),
        (["10.0.0.9/32", "10.0.0.1/24"], "10.0.0.9"),
        ([address("10.0.0.9/32", scope="host"), "10.0.0.1/24"], "10.0.0.9"),
        (["127.0.0.2/8", "224.0.0.1/4"], None),
    ],
)
def test_the_first_global_unicast_address_is_taken(addresses: list[Any], taken: str | None) -> None:
    answer = predict(host(card("ens32", *addresses)), "interface=ens32")
    assert (str(answer.address) if answer.address else None) == taken


@pytest.mark.parametrize(
    ("pattern", "fits"),
    [
        ("ens32", {"ens32", "ens320", "ens32.100"}),
        ("^ens32$", {"ens32"}),
        (r"^ens\d+$", {"ens32", "ens320"}),
        (r"\Aens32\z", {"ens32"}),
        (r"^ens32\.100$,^bond", {"ens32.100", "bond0"}),
        ("[^e]n[sd]", {"bond0"}),
        ("(?P<any>bond|320)", {"ens320", "bond0"}),
        ("(?<any>bond|320)", {"ens320", "bond0"}),
        ("(?i:ENS32$)", {"ens32"}),
        ("ens33,", {"ens32", "ens320", "ens32.100", "bond0"}),
        ("*", None),
        ("(?=ens)", None),
        ("(?!ens32)", None),
        ("(?<!x)ens32", None),
        ("(?#x)ens32", None),
        (r"(e)ns\1", None),
        (r"ens32\Z", None),
        ("ens32++", None),
        ("(ens", None),
        ("ens3{2,3}", {"nothing"}),
    ],
)
def test_patterns_are_gos_and_not_anchored(pattern: str, fits: set[str] | None) -> None:
    for number, name in enumerate(["ens32", "ens320", "ens32.100", "bond0"], 1):
        answer = predict(host(card(name, f"10.0.{number}.1/24")), f"interface={pattern}", version=NEW)
        assert answer.sure
        assert (answer.address is not None) == (fits is not None and name in fits), (name, answer.reason)


@pytest.mark.parametrize("pattern", ["(?i)ENS32", "(?U)ens.*", "[[:alpha:]]+", r"\pL", r"\Qens32\E"])
def test_what_only_go_knows_is_not_told(pattern: str) -> None:
    assert not predict(host(card("ens32", "10.0.0.1/24")), f"interface={pattern}").sure
    assert not predict(host(card("ens32", "10.0.0.1/24")), f"skip-interface={pattern}").sure


# ---------------------------------------------------------------------------------------------------------------------
# can-reach without the kernel's own answer
# ---------------------------------------------------------------------------------------------------------------------

TWO = (card("ens32", "10.0.0.1/24", "10.0.0.2/24"), card("ens33", "172.16.0.1/24"))


def way(dst: str, dev: str, **more: Any) -> dict[str, Any]:
    return {"dst": dst, "dev": dev, **more}


@pytest.mark.parametrize(
    ("routes", "target", "taken"),
    [
        ([], "10.0.0.9", "10.0.0.1"),
        ([], "10.0.0.2", "10.0.0.1"),
        ([way("10.0.0.2/32", "lo", source="10.0.0.2", table="local", type="local")], "10.0.0.2", "10.0.0.2"),
        ([way("10.9.0.1/32", "lo", source="10.0.0.1", table="local", type="local")], "10.9.0.1", "10.0.0.1"),
        ([], "8.8.8.8", "none"),
        ([way("0.0.0.0/0", "ens33", gateway="172.16.0.254")], "8.8.8.8", "172.16.0.1"),
        ([way("10.0.0.0/8", "ens32", source="10.0.0.2"), way("0.0.0.0/0", "ens33")], "10.7.7.7", "10.0.0.2"),
        ([way("10.0.0.0/8", "ens32"), way("10.7.0.0/16", "ens33")], "10.7.7.7", "172.16.0.1"),
        ([way("10.0.0.0/8", "ens32", metric=9), way("10.0.0.0/8", "ens33", metric=5)], "10.7.7.7", "172.16.0.1"),
        ([way("10.0.0.0/8", "ens32"), way("10.7.0.0/16", "ens33", type="unreachable")], "10.7.7.7", "none"),
        ([way("10.0.0.0/8", "ens32", gateway="10.0.0.3"), way("10.0.0.0/8", "ens33", gateway="172.16.0.3")], "10.7.7.7",
         "not told"),
        ([way("10.0.0.0/8", "gone")], "10.7.7.7", "not told"),
        ([way("10.7.0.0/16", "ens32", source="10.0.0.77")], "10.7.7.7", "none"),
        ([], "gateway.example.org", "not told"),
    ],
)  # fmt: skip
def test_can_reach_by_routes(routes: list[dict[str, Any]], target: str, taken: str) -> None:
    cards = [
        {**item, "addresses": [{**one, "secondary": n > 0} for n, one in enumerate(item["addresses"])]} for item in TWO
    ]
    answer = predict(host(*cards, routes=routes), f"can-reach={target}")
    told = str(answer.address) if answer.address else ("none" if answer.sure else "not told")
    assert told == taken, answer.reason


@pytest.mark.parametrize(
    ("rule", "sure"),
    [
        ({"family": 4, "from": "all", "table": "main"}, True),
        ({"family": 4, "from": "10.0.0.1", "table": "100"}, True),
        ({"family": 4, "from": "all", "to": "192.168.0.0/16", "table": "100"}, True),
        ({"family": 4, "from": "all", "fwmark": "0x1", "table": "100"}, True),
        ({"family": 6, "from": "all", "table": "100"}, True),
        ({"family": 4, "from": "all", "to": "10.0.0.0/8", "table": "100"}, False),
        ({"family": 4, "from": "all", "table": "100"}, False),
    ],
)
def test_a_policy_rule_for_all_packets_leaves_it_open(rule: dict[str, Any], sure: bool) -> None:
    assert predict(host(*TWO, rules=[rule]), "can-reach=10.0.0.9").sure == sure


def test_two_cards_in_one_subnet_leave_it_open_without_routes() -> None:
    network = host(card("a", "10.0.0.1/24"), card("b", "10.0.0.2/24"))
    assert not predict(network, "can-reach=10.0.0.9").sure


# ---------------------------------------------------------------------------------------------------------------------
# Cards to come
# ---------------------------------------------------------------------------------------------------------------------


def test_cards_to_come_are_the_last_ones() -> None:
    network = host(card("tunl0"), card("ens32", "10.0.0.1/24"), card("ens33", "172.16.0.1/24"))
    cards = {"tunl0": [ip_network("100.64.0.0/10")], "kube-ipvs0": [ip_network("10.96.0.0/16")]}
    later = predictor.with_cards_to_come(network, cards)
    assert str(predict(network, "cidr=10.0.0.0/8").address) == "10.0.0.1"
    assert str(predict(later, "cidr=10.0.0.0/8").address) == "10.96.0.1"
    assert str(predict(later, "cidr=10.0.0.0/16").address) == "10.0.0.1"
    assert str(predict(later, "interface=tunl").address) == "100.64.0.1"
    assert predict(later, "first-found", version=NEW).link == "ens33"
    assert predictor.with_cards_to_come(later, cards) is later


def test_one_address_on_two_cards_is_told_in_one_order() -> None:
    same = Address(ip_interface("fd00::1/64"))
    links = tuple(Link(name, index=number, up=True, addresses=(same,)) for number, name in ((3, "ens32"), (6, "bond0")))
    told = [
        predict(HostNetwork(links=some), "can-reach=fd00::7", family=6, version="", planned=same.ip)
        for some in (links, links[::-1])
    ]
    assert told[0] == told[1]
    assert told[0].reason == "fd00::7 is near fd00::1 (bond0), fd00::1 (ens32)"


# ---------------------------------------------------------------------------------------------------------------------
# Properties
# ---------------------------------------------------------------------------------------------------------------------

NAMES = st.sampled_from(["lo", "eth0", "ens32", "ens320", "ens32.100", "bond0", "docker0", "br-0123456789ab", "veth1"])
FOUR = st.integers(0x0A000001, 0x0A0000FF).map(IPv4Address) | st.sampled_from(
    [IPv4Address("127.0.0.1"), IPv4Address("169.254.0.9"), IPv4Address("172.16.0.1"), IPv4Address("192.168.1.1")]
)
SIX = st.integers(1, 40).map(lambda n: IPv6Address(f"fd00::{n}")) | st.just(IPv6Address("fe80::1"))
ADDRESSES = st.builds(
    lambda ip, prefix, deprecated: Address(
        ip_interface(f"{ip}/{prefix if ip.version == 4 else 64}"), deprecated=deprecated
    ),
    FOUR | SIX,
    st.sampled_from([16, 24, 31, 32]),
    st.booleans(),
)
METHODS = st.sampled_from(
    ["", "first-found", "kubernetes-internal-ip", "interface=ens32", "interface=^ens32$", "interface=eth.*,bond", "interface=.",
     "skip-interface=^eth0$", "skip-interface=ens,bond", "cidr=10.0.0.0/25", "cidr=10.0.0.0/8,fd00::/120", "can-reach=10.0.0.7",
     "can-reach=fd00::7", "can-reach=name", "interface=(", "nonsense"]
)  # fmt: skip
VERSIONS = st.sampled_from(["", "v3.8.2", "v3.15.0", "v3.21.4", "v3.23.4", "v3.24.6", "v3.32.1"])


@st.composite
def networks(draw: st.DrawFn) -> HostNetwork:
    names = draw(st.lists(NAMES, unique=True, max_size=6))
    numbers = draw(st.lists(st.integers(1, 600), unique=True, min_size=len(names), max_size=len(names)))
    return HostNetwork(
        links=tuple(
            Link(name, index=number, up=draw(st.booleans()), addresses=tuple(draw(st.lists(ADDRESSES, max_size=3))))
            for name, number in zip(names, numbers, strict=True)
        )
    )


@given(network=networks(), method=METHODS, version=VERSIONS, family=st.sampled_from([4, 6]), data=st.data())
def test_whatever_the_host_is_like(
    network: HostNetwork, method: str, version: str, family: int, data: st.DataObject
) -> None:
    own = [ip for link in network.links for item in link.addresses if (ip := item.ip).version == family]
    planned = data.draw(st.sampled_from(own)) if own else None
    answer = predict(network, method, family=family, version=version, planned=planned)
    assert answer.reason
    assert answer.address is None or answer.address in own
    assert answer.sure or answer.address is None
    assert all(ip in own for _name, ip in answer.rivals)
    shuffled = replace(network, links=tuple(data.draw(st.permutations(network.links))))
    assert predict(shuffled, method, family=family, version=version, planned=planned) == answer
    if method == "kubernetes-internal-ip" and answer.sure and answer.address:
        assert answer.address == planned


@given(network=networks(), name=NAMES, version=VERSIONS)
def test_a_whole_name_never_picks_another_card(network: HostNetwork, name: str, version: str) -> None:
    answer = predict(network, f"interface=^{re.escape(name)}$", version=version)
    assert answer.sure
    link = network.link(name)
    usable = [item.ip for item in (link.addresses if link else ()) if item.family == 4 and not (
        item.ip.is_loopback or item.ip.is_link_local)]  # fmt: skip
    assert answer.address == (usable[0] if usable else None)
    assert answer.link == (name if usable else "")


@given(network=networks(), version=VERSIONS.filter(bool))
def test_cidr_is_inside_and_skip_interface_skips(network: HostNetwork, version: str) -> None:
    inside = predict(network, "cidr=10.0.0.0/25", version=version).address
    assert inside is None or inside in ip_network("10.0.0.0/25")
    answer = predict(network, "skip-interface=ens,bond", version=version)
    assert not any(word in answer.link for word in ("ens", "bond", "docker", "lo", "veth"))
    first = predict(network, "first-found", version=version)
    skipped = predict(network, "skip-interface=^no-card$", version=version)
    assert (first.address, first.sure, first.rivals) == (skipped.address, skipped.sure, skipped.rivals)


@given(text=st.text(alphabet=st.sampled_from(list(r"ens32()[]|*+?{},^$\dPQ<>=!:.-")), max_size=9))
def test_any_pattern_is_taken_refused_or_left_open(text: str) -> None:
    answer = predict(host(card("ens32", "10.0.0.1/24")), f"interface={text}")
    assert answer.address in {None, ip_address("10.0.0.1")}
