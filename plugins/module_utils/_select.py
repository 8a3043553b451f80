# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which card and which address of a host belong to the cluster: every form of cluster_network.

This module util is PRIVATE to the collection. It is pure: no I/O, no Ansible, standard library only.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import SequenceMatcher
from ipaddress import ip_address, ip_network
from typing import Any, Optional

from ansible_collections.multinic.kubernetes.plugins.module_utils._net import (
    Address,
    HostNetwork,
    IPAddress,
    IPNetwork,
    Link,
    as_address,
    split_list,
)

ALIKE = 0.75
ALIKE_NUMBERS = 0.85  # of addresses: two networks of one site are alike without either being meant for the other
LONGEST_CARD_NAME = 15


class SelectionError(ValueError):
    """Nothing on the host fits: what was found, why it matters, what to do."""

    def __init__(self, found: str, why: str, remedy: str) -> None:
        super().__init__(found)
        self.found = found
        self.why = why
        self.remedy = remedy


@dataclass(frozen=True)
class Selector:
    """One item of cluster_network."""

    kind: str  # auto, cidr, address or interface
    text: str

    @property
    def network(self) -> IPNetwork:
        return ip_network(self.text, strict=False)

    @property
    def address(self) -> IPAddress:
        return ip_address(self.text)

    @property
    def family(self) -> Optional[int]:
        """4 or 6, if the item tells it."""
        return (6 if ":" in self.text else 4) if self.kind in {"cidr", "address"} else None


@dataclass(frozen=True)
class Choice:
    """The chosen card and address of one host, with the reason and what a person should look at."""

    link: Link
    address: Address
    network: IPNetwork
    reason: str
    doubts: tuple[tuple[str, str, str], ...] = ()  # (found, why, remedy)


def parse_selectors(value: Any) -> tuple[Selector, ...]:
    """The items of cluster_network; ValueError tells which one is wrong and why."""
    words = split_list(value) or ["auto"]
    selectors = tuple(_selector(word) for word in words)
    if len(selectors) > 1 and any(selector.kind == "auto" for selector in selectors):
        raise ValueError("'auto' stands alone")
    return selectors


def _selector(word: str) -> Selector:
    if word == "auto":
        return Selector("auto", word)
    if "/" in word:
        try:
            network = ip_network(word, strict=False)
        except ValueError:
            raise ValueError(f"'{word}' is not a network such as 192.168.253.0/24") from None
        if network.prefixlen == 0:
            raise ValueError(f"'{word}' is every network")
        return Selector("cidr", str(network))
    address = as_address(word)
    if address is not None:
        return Selector("address", str(address))
    if re.fullmatch(r"[\d.]+", word) or ":" in word:
        raise ValueError(f"'{word}' looks like an address and is none")
    try:
        re.compile(word)
    except re.error as problem:
        raise ValueError(f"'{word}' is neither a card's name nor a pattern ({problem})") from None
    return Selector("interface", word)


def choose(
    network: HostNetwork, selectors: Sequence[Selector], vips: Collection[IPAddress], common: Optional[Selection] = None
) -> tuple[Choice, ...]:
    """The primary choice, and at most one of the other family. SelectionError tells why there is none."""
    chosen: dict[int, Choice] = {}
    problems = []
    for selector in selectors:
        try:
            choice = _FORMS[selector.kind](network, selector, vips, common)
        except SelectionError as problem:
            problems.append(problem)
            continue
        chosen.setdefault(
            choice.address.family, replace(choice, doubts=choice.doubts or _beside(network, choice, vips))
        )
    if not chosen:
        raise problems[0]
    return tuple(chosen.values())


def not_found(
    network: HostNetwork,
    selectors: Sequence[Selector],
    vips: Collection[IPAddress],
    common: Optional[Selection],
    chosen: Sequence[Choice],
) -> list[SelectionError]:
    """Of each family that is asked for, by a network or an address, and for which nothing was chosen, why not."""
    problems: dict[int, SelectionError] = {}
    having = {choice.address.family for choice in chosen}
    for selector in selectors:
        if selector.family is None or selector.family in having:
            continue
        try:
            _FORMS[selector.kind](network, selector, vips, common)
        except SelectionError as problem:
            problems.setdefault(selector.family, problem)
    return list(problems.values())


def _beside(network: HostNetwork, choice: Choice, vips: Collection[IPAddress]) -> tuple[tuple[str, str, str], ...]:
    """Doubts about a card that is not alone in its network."""
    link, address = choice.link, choice.address
    others = [
        pair
        for pair in _candidates(network, vips)
        if pair[0].name != link.name
        and not pair[0].made
        and not (pair[1].single or address.single)
        and pair[1].family == address.family
        and pair[1].network.overlaps(address.network)
    ]
    if not others:
        return ()
    told = ", ".join(_told(*pair) for pair in [(link, address), *sorted(others, key=_rank)])
    return (
        (
            f"two cards are on one network: {told}",
            "The kernel answers for both addresses on either card, so traffic may take the wrong one.",
            "Give the cards different networks, or make one bond of them.",
        ),
    )


def _candidates(network: HostNetwork, vips: Collection[IPAddress]) -> list[tuple[Link, Address]]:
    return [(link, address) for link, address in network.addresses() if address.ip not in vips]


def _rank(pair: tuple[Link, Address]) -> tuple[Any, ...]:
    """Working, primary, lasting and fast first; names and addresses settle what is left, never the order of cards."""
    link, address = pair
    return (
        not link.works,
        address.secondary,
        address.deprecated,
        address.fleeting,
        address.single,
        -(link.speed_mbps or 0),
        -link.mtu,
        link.name,
        int(address.ip),
    )


def _told(link: Link, address: Address) -> str:
    return f"{link.name} ({address.interface})"


def _by_cidr(network: HostNetwork, selector: Selector, vips: Collection[IPAddress], _common: Any) -> Choice:
    wanted = selector.network
    inside = [
        (link, address)
        for link, address in _candidates(network, vips)
        if address.family == wanted.version and address.ip in wanted
    ]
    own = sorted((pair for pair in inside if not pair[0].made), key=_rank)
    if not own:
        if inside:
            link, address = min(inside, key=_rank)
            raise SelectionError(
                f"only {_told(link, address)} is inside {wanted}, a card that a program made for itself",
                "Such a card is no way to the other hosts.",
                f"Name the hosts' real network; if the card is truly meant, write cluster_network: {link.name}",
            )
        raise _not_found(network, selector, vips)
    link, address = own[0]
    declared = wanted if address.single else address.network
    doubts = []
    others = [pair for pair in own[1:] if pair[0].name != link.name]
    if others:
        doubts.append(
            (
                f"two cards are inside {wanted}: {', '.join(_told(*pair) for pair in [own[0], *others])}",
                "The kernel answers for both addresses on either card, so traffic may take the wrong one.",
                f"Give the cards different networks, or name the card: cluster_network: {link.name}",
            )
        )
    return Choice(link, address, declared, f"{link.name} holds {address.ip}, inside {wanted}.", tuple(doubts))


def _by_interface(network: HostNetwork, selector: Selector, vips: Collection[IPAddress], _common: Any) -> Choice:
    pattern = selector.text
    exact = network.link(pattern)
    matched = [exact] if exact else [link for link in network.links if re.fullmatch(pattern, link.name)]
    if not matched:
        raise _no_card(network, selector, vips)
    pairs = sorted(
        ((link, address) for link, address in _candidates(network, vips) if link in matched),
        key=lambda pair: (pair[1].family, *_rank(pair)),
    )
    names = list(dict.fromkeys(link.name for link, _address in pairs if exact or not link.made)) or list(
        dict.fromkeys(link.name for link, _address in pairs)
    )
    if not names:
        state = ", ".join(f"{link.name} is {'up' if link.works else 'down'}" for link in matched)
        raise SelectionError(
            f"{state}, and has no address that other hosts could use",
            "The cluster card needs an address.",
            f"Give it an address, or choose another network: {_offers(network, vips)}",
        )
    if len(names) > 1:
        raise SelectionError(
            f"the pattern '{pattern}' fits {', '.join(names)}",
            "One card must be the cluster's.",
            f"Write a pattern that fits one card only, or a network: {_offers(network, vips)}",
        )
    link, address = next(pair for pair in pairs if pair[0].name == names[0])
    how = "is named" if exact else f"is the one card that '{pattern}' fits"
    return Choice(link, address, address.network, f"{link.name} {how}; its address is {address.interface}.")


def _by_address(network: HostNetwork, selector: Selector, vips: Collection[IPAddress], _common: Any) -> Choice:
    target = selector.address
    own = network.holder(target)
    if own is not None:
        return Choice(own[0], own[1], own[1].network, f"{target} is the host's own address, on {own[0].name}.")
    lookup = network.lookups.get(str(target))
    if lookup is not None and lookup.dev and lookup.source:
        source = as_address(lookup.source)
        link = network.link(lookup.dev)
        gateway = lookup.gateway
    else:
        found = network.on_link(target) if lookup is None else None
        link, source, gateway = (found[0], found[1].ip, None) if found else (None, None, None)
    address = next((item for item in link.addresses if item.ip == source), None) if link and source else None
    if link is None or address is None or not address.usable:
        raise _not_reached(network, target, vips, f"the kernel knows no way from a card's own address to {target}")
    if gateway and _by_default(network, target, link) and len(_networks(network, vips)) > 1:
        raise _not_reached(
            network,
            target,
            vips,
            f"{target} is reached only through the default route, {gateway} on {_told(link, address)}",
        )
    if link.made:
        raise SelectionError(
            f"the kernel reaches {target} through {_told(link, address)}, a card that a program made for itself",
            "Such a card is no way to the other hosts.",
            f"Name the hosts' real network: {_offers(network, vips)}; if the card is truly meant, write cluster_network: {link.name}",
        )
    way = f"by way of {gateway}" if gateway else "on-link"
    return Choice(
        link,
        address,
        address.network,
        f"The kernel reaches {target} {way} through {link.name} with source {address.ip}.",
    )


def _by_default(network: HostNetwork, target: IPAddress, link: Link) -> bool:
    route = network.best_route(target)
    if route is not None and route.dev == link.name:
        return route.default
    return link.name in network.default_devices(target.version)


@dataclass(frozen=True)
class Selection:
    """The network that `auto` found common to all hosts, and why."""

    network: Optional[IPNetwork]
    reason: str
    remedy: str = ""
    equals: tuple[IPNetwork, ...] = ()  # other networks that are as good


def _by_auto(
    network: HostNetwork, _selector: Selector, vips: Collection[IPAddress], common: Optional[Selection]
) -> Choice:
    if common is None or common.network is None:
        raise SelectionError(
            (common.reason if common else "no network is common to all hosts"),
            "Cluster traffic needs one network that all hosts are on.",
            (common.remedy if common else "") or f"Name it yourself, also per host: {_offers(network, vips)}",
        )
    return _by_cidr(network, Selector("cidr", str(common.network)), vips, None)


_FORMS: Mapping[str, Callable[[HostNetwork, Selector, Collection[IPAddress], Optional[Selection]], Choice]] = {
    "auto": _by_auto,
    "cidr": _by_cidr,
    "address": _by_address,
    "interface": _by_interface,
}


def common_network(hosts: Mapping[str, HostNetwork], vips: Collection[IPAddress]) -> Selection:
    """The best network that all hosts are on: not the default route's, the fastest, then the largest MTU."""
    if not hosts:
        return Selection(None, "there are no facts of any host")
    shared: dict[IPNetwork, list[Link]] = {}
    defaults: set[IPNetwork] = set()
    for network in hosts.values():
        mine: dict[IPNetwork, Link] = {}
        for link, address in sorted(_candidates(network, vips), key=_rank):
            if link.made or address.single or not link.works:
                continue
            mine.setdefault(address.network, link)
            if link.name in network.default_devices(address.family):
                defaults.add(address.network)
        for net, link in mine.items():
            shared.setdefault(net, []).append(link)
    common = {net: links for net, links in shared.items() if len(links) == len(hosts)}
    if not common:
        told = ", ".join(
            f"{net} on {len(links)} of {len(hosts)}" for net, links in sorted(shared.items(), key=_by_text)
        )
        return Selection(None, f"no network is common to all hosts ({told or 'no host has an address'})")
    inner = {net: links for net, links in common.items() if net not in defaults} or common

    def rank(net: IPNetwork) -> tuple[Any, ...]:
        speed = min(link.speed_mbps or 0 for link in inner[net])
        mtu = min(link.mtu for link in inner[net])
        return (net.version, -speed, -mtu, int(net.network_address), net.prefixlen)

    best = min(inner, key=rank)
    equals = tuple(net for net in sorted(inner, key=str) if net != best and rank(net)[:3] == rank(best)[:3])
    reasons = [f"The cluster network is {best}, the only network common to all hosts."]
    if len(common) > 1:
        reasons = [
            f"The cluster network is {best}: of the {len(common)} networks common to all hosts ({', '.join(sorted(map(str, common)))})"
        ]
        if len(inner) == 1:
            reasons.append("it is the only one that does not carry the default route.")
        else:
            speed = min(link.speed_mbps or 0 for link in inner[best])
            reasons.append(
                f"it is the best by family (IPv4 first), link speed ({f'{speed} Mbit/s' if speed else 'not told'}) and MTU"
                + (", and of equals the one with the lowest address." if equals else ".")
            )
    return Selection(best, " ".join(reasons), equals=equals)


def _by_text(item: tuple[IPNetwork, Any]) -> str:
    return str(item[0])


def _networks(network: HostNetwork, vips: Collection[IPAddress]) -> list[IPNetwork]:
    found = {address.network for link, address in _candidates(network, vips) if not link.made and not address.single}
    return sorted(found, key=str)


def _offers(network: HostNetwork, vips: Collection[IPAddress]) -> str:
    """What the host has instead."""
    told = [
        f"{address.network} ({link.name})"
        for link, address in sorted(_candidates(network, vips), key=lambda pair: (pair[0].name, str(pair[1].ip)))
        if not link.made
    ]
    return ", ".join(told) or "the host has no usable address at all"


def _nearest(wanted: str, choices: Iterable[str], least: float = ALIKE) -> Optional[str]:
    """The one choice that differs from what was written as a slip of the hand would."""
    alike = {text: SequenceMatcher(None, wanted, text).ratio() for text in choices}
    best = max(alike.values(), default=0.0)
    nearest = [text for text, ratio in alike.items() if ratio == best]
    return nearest[0] if best >= least and len(nearest) == 1 else None


def _not_found(network: HostNetwork, selector: Selector, vips: Collection[IPAddress]) -> SelectionError:
    near = _nearest(selector.text, map(str, _networks(network, vips)), ALIKE_NUMBERS)
    return SelectionError(
        f"no card has an address inside {selector.text}; the host has {_offers(network, vips)}",
        "Every host must be on the cluster network.",
        f"Set cluster_network: {near}" if near else "Set cluster_network to a network that the host is on.",
    )


def _no_card(network: HostNetwork, selector: Selector, vips: Collection[IPAddress]) -> SelectionError:
    names = [link.name for link in network.links if not link.made]
    folded = {name.lower(): name for name in names}
    near = folded.get(selector.text.lower()) or _nearest(selector.text, names)
    remedy = f"Set cluster_network: {near}" if near else f"Write a network instead: {_offers(network, vips)}"
    if "*" in selector.text and not re.search(r"[.\])]\*", selector.text):
        remedy = f"Patterns are regular expressions: write cluster_network: {selector.text.replace('*', '.*')}"
    return SelectionError(
        f"there is no card '{selector.text}'; the host has {', '.join(names) or 'none'}",
        "A name must be the whole name: ens32 is neither ens320 nor ens32.100.",
        remedy,
    )


def _not_reached(network: HostNetwork, target: IPAddress, vips: Collection[IPAddress], found: str) -> SelectionError:
    twins = []
    for net in _networks(network, vips):
        if net.version == target.version:
            host_bits = int(target) & int(net.hostmask)
            twins.append(str(type(target)(int(net.network_address) | host_bits)))
    near = _nearest(str(target), twins, ALIKE_NUMBERS)
    on_link = [net for net in _networks(network, vips) if near and ip_address(near) in net]
    remedy = (
        f"Set cluster_network: {near} (or {on_link[0]})"
        if near and on_link
        else (f"Set cluster_network to an address or network the host is on: {_offers(network, vips)}")
    )
    return SelectionError(
        found, "An address that is not on-link leads to the default route's card, not to the cluster's.", remedy
    )
