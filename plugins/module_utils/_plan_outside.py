# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The plan's part on the API's outside address: on which card of each control plane it may be, and what stands in its way.

The card is chosen as the cluster's is, by _select; what is said of a host's network is said by the same code.

This module util is PRIVATE to the collection. It is pure: no I/O, no Ansible, standard library only.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Optional

from ansible_collections.multinic.kubernetes.plugins.module_utils import _select
from ansible_collections.multinic.kubernetes.plugins.module_utils._findings import Findings
from ansible_collections.multinic.kubernetes.plugins.module_utils._net import (
    Address,
    HostNetwork,
    IPAddress,
    IPNetwork,
    as_address,
    as_interface,
    plain,
)
from ansible_collections.multinic.kubernetes.plugins.module_utils._settings import Settings

ADDRESS, NETWORK, ROUTER_ID = "apiserver_outside_address", "apiserver_outside_network", "apiserver_outside_router_id"
MOST_ROUTER_ID = 255
BIND = "bind-address"
WHY_A_CARD = "Each control plane must be able to take the address when the one that has it fails."


@dataclass(frozen=True)
class Seat:
    """A control plane, as far as the outside address is concerned."""

    name: str
    network: HostNetwork
    wish: Any = None  # apiserver_outside_network as it is for this host
    in_run: bool = True
    held: tuple[str, ...] = ()  # what a keepalived of ours may hold there already
    firewall: str = ""


def router_id(address: IPAddress, wished: int = 0) -> int:
    """The virtual router id: the one that is wished for, else the address's last byte, or 255 where that is none.

    So addresses of one network of at most 254 hosts never have the same.
    """
    return wished or int(address) & MOST_ROUTER_ID or MOST_ROUTER_ID


def plan_outside(
    seats: Sequence[Seat], networks: Mapping[str, HostNetwork], wishes: Settings, found: Findings
) -> list[dict[str, Any]]:
    """{address, router_id, network, cards: {host: {interface, address}}} of each outside address.

    seats are the control planes in the inventory's order, networks those of all hosts. Where no card fits the cards are
    fewer, which is a finding.
    """
    if not wishes.apiserver_outside_address:
        for seat in seats:
            if plain(seat.wish):
                found.warning(
                    seat.name,
                    NETWORK,
                    f"it is {_shown(seat.wish)}, but {ADDRESS} is empty",
                    "Without an address the network is not used.",
                    f"Set {ADDRESS} to a free address of that network, or leave {NETWORK} out.",
                )
        return []
    selectors = _selectors(seats, found)
    planned = []
    for address in wishes.apiserver_outside_address:
        _check_address(address, networks, wishes, found)
        choices = {
            seat.name: choice
            for seat in seats
            for choice in [_choose(seat, address, selectors.get(seat.name), wishes, found)]
            if choice is not None
        }
        _check_cards(address, seats, choices, found)
        taking = _taking(address, seats, found)
        planned.append(
            {
                "address": str(address),
                "router_id": router_id(address, wishes.apiserver_outside_router_id),
                "network": str(next(iter(choices.values())).address.network) if choices else "",
                "cards": {
                    name: {"interface": choice.link.name, "address": str(choice.address.ip)}
                    for name, choice in choices.items()
                    if name in taking
                },
            }
        )
    return [item for item in planned if item["cards"]]


def reasons(planned: Sequence[Mapping[str, Any]]) -> list[str]:
    """What a person reads of each outside address."""
    return [
        f"{item['address']} is the API's outside address: on one of "
        + ", ".join(f"{name} ({card['interface']})" for name, card in item["cards"].items())
        + f" at a time, of the network {item['network']}, by VRRP with the virtual router id {item['router_id']}."
        for item in planned
    ]


def as_holder(network: HostNetwork, host: str, planned: Sequence[Mapping[str, Any]]) -> HostNetwork:
    """The host as it is while it has the outside addresses: the kernel lists a new IPv4 address last and an IPv6 one first."""
    links = network.links
    for item in planned:
        card = item["cards"].get(host)
        address = as_address(str(item["address"]))
        if card is None or address is None:
            continue
        held = Address(as_interface(f"{address}/{address.max_prefixlen}"), deprecated=address.version == 6)
        links = tuple(
            replace(link, addresses=(held, *link.addresses) if held.family == 6 else (*link.addresses, held))
            if link.name == card["interface"]
            else link
            for link in links
        )
    return replace(network, links=links)


def _shown(wish: Any) -> str:
    value = plain(wish)
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _selectors(seats: Sequence[Seat], found: Findings) -> dict[str, tuple[_select.Selector, ...]]:
    """Of each host what its wish means; none where it means nothing, which is told."""
    read: dict[str, tuple[_select.Selector, ...]] = {}
    for seat in seats:
        try:
            read[seat.name] = _select.parse_selectors(plain(seat.wish))
        except ValueError as problem:
            found.error(
                seat.name,
                NETWORK,
                str(problem),
                "It says on which card of the control planes the outside address is.",
                "Write a network (192.168.160.0/23), a card's name (ens33), a pattern, or an address to reach, also per "
                "host; or leave it empty: then it is the card whose network holds the address.",
            )
    return read


def _choose(
    seat: Seat,
    address: IPAddress,
    selectors: Optional[Sequence[_select.Selector]],
    wishes: Settings,
    found: Findings,
) -> Optional[_select.Choice]:
    """The card of this family. Without a wish it is the one that reaches the address without a gateway."""
    if selectors is None:
        return None
    family = address.version
    fitting = [item for item in selectors if item.kind != "auto" and item.family in (None, family)]
    wished = bool(fitting)
    # Nothing that the kernel was asked about the address counts: it may be on the host already.
    network = replace(of_family(seat.network, family), lookups=seat.network.lookups if wished else {})
    try:
        choice = _select.choose(
            network, fitting or [_select.Selector("address", str(address))], wishes.apiserver_vip, None
        )[0]
    except _select.SelectionError as problem:
        has = ", ".join(f"{item.network} ({link.name})" for link, item in network.addresses() if not link.made)
        found.error(
            seat.name,
            NETWORK if wished else ADDRESS,
            problem.found if wished else f"no card's network holds {address}; the host has {has or f'no IPv{family}'}",
            WHY_A_CARD,
            problem.remedy.replace("cluster_network", NETWORK)
            if wished
            else f"Set {ADDRESS} to a free address of a network that all control planes are on, or put this host on it.",
        )
        return None
    for told, why, remedy in choice.doubts:
        found.warning(seat.name, NETWORK, told, why, remedy.replace("cluster_network", NETWORK))
    if choice.address.single or address not in choice.address.network:
        found.error(
            seat.name,
            ADDRESS,
            f"{address} is not inside {choice.address.network} of {choice.link.name}",
            "The hosts of that network would not look for it there.",
            f"Set {ADDRESS} to a free address of that network, or {NETWORK} to the network that it is of.",
        )
        return None
    return choice


def of_family(network: HostNetwork, family: int) -> HostNetwork:
    """The host with the addresses of one family alone."""
    links = tuple(
        replace(link, addresses=tuple(item for item in link.addresses if item.family == family))
        for link in network.links
    )
    return replace(network, links=links)


def _check_address(address: IPAddress, networks: Mapping[str, HostNetwork], wishes: Settings, found: Findings) -> None:
    """What the address may not be."""
    free = f"Set {ADDRESS} to a free address of the outside network."
    for name, network in networks.items():
        holder = network.holder(address)
        if holder is not None:
            found.error(
                name,
                ADDRESS,
                f"{address} is an address of its card {holder[0].name}",
                "Two hosts would answer for it.",
                f"{free} If something else has put it there, as another keepalived, take it away first.",
            )
        if any(route.default and route.gateway == str(address) for route in network.routes):
            found.error(name, ADDRESS, f"{address} is its default gateway", "Two hosts would answer for it.", free)
    for variable, others in (
        ("apiserver_vip", wishes.apiserver_vip),
        ("apiserver_external_address", [wishes.apiserver_external_address]),
    ):
        if address in others:
            found.error(
                "",
                ADDRESS,
                f"{address} is also {variable}",
                "The VIP is on no wire, each host has it for itself; the outside address is on one host's card.",
                free,
            )
    for variable, cidrs in (("pod_cidr", wishes.pod_cidr), ("service_cidr", wishes.service_cidr)):
        for cidr in cidrs:
            if address in cidr:
                found.error(
                    "",
                    ADDRESS,
                    f"{address} is inside {variable} {cidr}",
                    "A pod or a service could get the address.",
                    f"{free} Or set {variable} to a network without it.",
                )
    bound = as_address(str(wishes.apiserver_extra_args.get(BIND) or ""))
    if bound is not None and not bound.is_unspecified and bound != address:
        found.error(
            "",
            "apiserver_extra_args",
            f"{BIND} is {bound}, and {ADDRESS} is {address}",
            "The API server would not listen at the outside address.",
            f"Leave {BIND} out of apiserver_extra_args.",
        )


def _ends(network: IPNetwork) -> tuple[Any, ...]:
    """What no host may have in a network: its own address, and IPv4's broadcast."""
    if network.num_addresses <= 2:
        return ()
    return (network[0], network[-1]) if network.version == 4 else (network[0],)


def _check_cards(
    address: IPAddress, seats: Sequence[Seat], choices: Mapping[str, _select.Choice], found: Findings
) -> None:
    """One network, the same on all of them."""
    if not choices:
        return
    usual = Counter(choice.address.network for choice in choices.values()).most_common(1)[0][0]
    like = next(name for name, choice in choices.items() if choice.address.network == usual)
    if address in _ends(usual):
        found.error(
            "",
            ADDRESS,
            f"{address} is the network's own or its broadcast address ({usual})",
            "No host can have it.",
            f"Set {ADDRESS} to a free address of {usual}.",
        )
    for seat in seats:
        choice = choices.get(seat.name)
        if choice is None:
            continue
        link, mine = choice.link, choice.address
        if mine.network != usual:
            found.error(
                seat.name,
                NETWORK,
                f"{link.name} has {mine.interface}, but {choices[like].link.name} of {like} is in {usual}",
                "All control planes must be on one network, for the address moves between them.",
                f"Correct the prefix length, or set {NETWORK} to the network that all control planes are on.",
            )
        if not link.works:
            found.warning(
                seat.name,
                NETWORK,
                f"{link.name} ({mine.ip}) is {'without a carrier' if link.up else 'down'}",
                "This control plane cannot have the outside address.",
                f"Bring it up (ip link set {link.name} up), or check cable and switch.",
            )
        ways_out = seat.network.default_devices(mine.family)
        if ways_out and link.name not in ways_out:
            found.info(
                seat.name,
                NETWORK,
                f"its default route goes by {ways_out[0]}, not by {link.name}",
                f"{address} is reached from {mine.network} alone: answers to clients elsewhere would leave by the other "
                "card, unless routes or rules of yours send them back.",
            )
        if seat.firewall not in ("", "nftables"):
            found.warning(
                seat.name,
                ADDRESS,
                f"{seat.firewall} is active",
                f"IP protocol 112 (VRRP) must pass between the control planes on {link.name}, or each of them would take "
                "the address; and clients need the API server's port there.",
                f"Let protocol 112 in from {mine.network}, and TCP to the API server's port from where clients are.",
            )


def _taking(address: IPAddress, seats: Sequence[Seat], found: Findings) -> set[str]:
    """Who takes part in this run: all, unless some control plane is outside of it and does not know of a new one.

    It would neither listen to the new one nor speak to it, and both would have the address.
    """
    if all(seat.in_run for seat in seats):
        return {seat.name for seat in seats}
    old = {seat.name for seat in seats if str(address) in seat.held}
    for seat in seats:
        if seat.in_run and seat.name not in old:
            others = ", ".join(other.name for other in seats if not other.in_run)
            found.warning(
                seat.name,
                "ansible_limit",
                f"it gets no part in {address} in this run, which leaves out {others}",
                "The control planes share the address only with those that they know.",
                "Run once without a limit.",
            )
    return old
