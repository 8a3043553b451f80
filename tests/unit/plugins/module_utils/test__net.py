# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Addresses, networks and routes, with netaddr as the judge."""

from __future__ import annotations

from ipaddress import ip_address, ip_interface, ip_network

import netaddr
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.multinic.kubernetes.plugins.module_utils import _plan
from ansible_collections.multinic.kubernetes.plugins.module_utils._net import (
    Address,
    HostNetwork,
    IPNetwork,
    Link,
    Route,
    as_address,
    parse_networks,
)

# Few addresses, so that they meet; and any, so that none is special.
IPS = st.one_of(
    st.ip_addresses(v=4, network="10.0.0.0/28"), st.ip_addresses(v=6, network="fd00::/124"), st.ip_addresses()
)
TEXTS = st.one_of(
    st.builds(str, IPS),
    st.from_regex(r"[0-9]{1,3}(\.[0-9]{1,3}){2,4}", fullmatch=True),
    st.from_regex(r"[0-9a-f:]{2,12}", fullmatch=True),
    st.text(max_size=8),
)


@st.composite
def cidrs(draw: st.DrawFn) -> str:
    ip = draw(IPS)
    return f"{ip}/{draw(st.integers(0, ip.max_prefixlen))}"


def numbers(network: IPNetwork) -> tuple[int, int, int]:
    """Family, first address and prefix length: texts differ in how they write ::ffff:0:0."""
    return network.version, int(network.network_address), network.prefixlen


def judged(text: str) -> tuple[int, int, int]:
    """The same of netaddr's network."""
    network = netaddr.IPNetwork(text).cidr
    return network.version, int(network.ip), network.prefixlen


@given(TEXTS)
def test_an_address_is_what_netaddr_takes_for_one(text: str) -> None:
    found = as_address(text)
    try:
        other = netaddr.IPAddress(text.strip(), flags=netaddr.INET_PTON)
    except (ValueError, netaddr.AddrFormatError):
        other = None
    if found is None:
        # netaddr goes by the system's parser, which takes a few more ways to write an address.
        assert other is None or "%" in text or not text.isascii()
    elif "%" not in text:
        assert other is not None
        assert int(found) == int(other)
        assert found.version == other.version


@given(cidrs())
def test_a_network_is_netaddrs(text: str) -> None:
    (network,) = parse_networks(text)
    assert numbers(network) == judged(text)
    assert network.num_addresses == netaddr.IPNetwork(text).size


@given(st.lists(cidrs(), max_size=4), st.sampled_from([",", ", ", " ,"]))
def test_networks_may_be_a_list_or_a_text(texts: list[str], separator: str) -> None:
    assert parse_networks(texts) == parse_networks(separator.join(texts))


@given(IPS, cidrs())
def test_containment_is_netaddrs(ip: netaddr.IPAddress, text: str) -> None:
    address = Address(ip_interface(text))
    assert (ip in address.network) == (netaddr.IPAddress(str(ip)) in netaddr.IPNetwork(text))


@given(st.lists(cidrs(), max_size=3), st.lists(cidrs(), max_size=3))
def test_overlaps_are_netaddrs(one: list[str], other: list[str]) -> None:
    found = {
        (numbers(left), numbers(right)) for left, right in _plan._pairs(parse_networks(one), parse_networks(other))
    }
    assert found == {
        (judged(left), judged(right))
        for left in one
        for right in other
        if netaddr.IPSet([left]) & netaddr.IPSet([right])
    }


@given(st.lists(cidrs(), max_size=6), IPS)
def test_the_best_route_has_netaddrs_smallest_matching_network(texts: list[str], target: netaddr.IPAddress) -> None:
    routes = tuple(Route(ip_network(text, strict=False), dev=f"e{n}") for n, text in enumerate(texts))
    best = HostNetwork(routes=routes).best_route(target)
    smallest = netaddr.smallest_matching_cidr(str(target), texts)
    assert (best and numbers(best.dst)) == (smallest and judged(str(smallest)))


@given(st.lists(cidrs(), max_size=5, unique=True), IPS)
def test_on_link_is_inside_one_of_the_cards_networks(texts: list[str], target: netaddr.IPAddress) -> None:
    links = tuple(Link(f"e{n}", addresses=(Address(ip_interface(text)),)) for n, text in enumerate(texts))
    found = HostNetwork(links=links).on_link(target)
    networks = [
        netaddr.IPNetwork(text)
        for text in texts
        if Address(ip_interface(text)).usable and not Address(ip_interface(text)).single
    ]
    assert (found is not None) == any(netaddr.IPAddress(str(target)) in network for network in networks)
    if found is not None:
        assert found[1] in found[0].addresses
        assert target in found[1].network


@pytest.mark.parametrize("text", ["10.0.0.0", "10.0.0.0/33", "10.0.0/24", "fd00::/129", "a/8", "/8", "10.0.0.0/-1"])
def test_what_is_no_network_is_told_as_it_was_written(text: str) -> None:
    with pytest.raises(ValueError, match="is not a network") as caught:
        parse_networks(text)
    assert f"'{text}'" in str(caught.value)


def test_a_leading_zero_is_no_address() -> None:
    """Some take it for octal, others for decimal."""
    assert as_address("10.0.0.010") is None
    assert as_address(" 10.0.0.10 ") == ip_address("10.0.0.10")
