# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How Calico is told which address is the cluster's.

This module util is PRIVATE to the collection. It is pure: no I/O, no Ansible, standard library only.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Optional

from ansible_collections.multinic.kubernetes.plugins.module_utils._net import (
    Address,
    HostNetwork,
    IPNetwork,
    Link,
    as_address,
    parse_networks,
)

# What one packet loses to the tunnel.
OVERLAY_COST = {"ipip": 20, "vxlan": 50, "wireguard": 60, "none": 0}
SINCE_INTERNAL_IP = (3, 22)
SINCE_CIDR = (3, 16)
WORDS = ("first-found", "kubernetes-internal-ip")
LISTS = ("interface", "skip-interface", "can-reach", "cidr")


@dataclass(frozen=True)
class Chosen:
    """What the plan chose on one host."""

    name: str
    network: HostNetwork
    link: Link
    address: Address


@dataclass(frozen=True)
class Method:
    """An autodetection method, with the reason for it. No method: none that is right for every host exists."""

    value: Optional[str]
    reason: str


def overlay_mtu(mtu: int, encapsulation: str) -> int:
    """The MTU of pods on a card of this MTU."""
    return mtu - OVERLAY_COST[encapsulation]


def version_of(text: str) -> Optional[tuple[int, int]]:
    """(3, 19) of v3.19.1, or nothing."""
    found = re.fullmatch(r"v?(\d+)\.(\d+)(?:\.\d+)?(?:[-+.].*)?", text.strip())
    return (int(found.group(1)), int(found.group(2))) if found else None


def version_in_bundle(manifest: Mapping[str, Any]) -> str:
    """Calico's version by the tag of its node image in the bundle's manifest; empty when there is none."""
    for part in manifest.get("parts") or ():
        for reference in part.get("images") or ():
            found = re.search(r"(?:^|/)(?:calico/|calico-)node:(v\d+\.\d+\.\d+)", str(reference))
            if found:
                return found.group(1)
    return ""


def is_image(reference: str) -> bool:
    """Whether this is one of Calico's own images, under whatever registry."""
    return any(word in part for part in reference.split("/") for word in ("calico", "tigera"))


def check_method(text: str) -> str:
    """The user's own method, if Calico knows it; ValueError tells what is wrong."""
    text = text.strip()
    if text in WORDS:
        return text
    name, separator, value = text.partition("=")
    if not separator or name not in LISTS or not value.strip():
        raise ValueError(
            f"'{text}' is none of first-found, kubernetes-internal-ip, " + ", ".join(f"{n}=…" for n in LISTS)
        )
    if name == "cidr":
        parse_networks(value)
    looks_like_one = ":" in value or re.fullmatch(r"[\d.]+", value)
    if name == "can-reach" and looks_like_one and as_address(value) is None:
        raise ValueError(f"can-reach={value}: not an address")
    if name in {"interface", "skip-interface"}:
        for pattern in value.split(","):
            try:
                re.compile(pattern)
            except re.error as problem:
                raise ValueError(f"{name}={value}: '{pattern}' is not a pattern ({problem})") from None
    return text


def choose(hosts: Sequence[Chosen], version: str, user: str = "") -> Method:
    """The method that makes every host take its planned address, for the Calico version at hand."""
    if user:
        return Method(user, f"Calico's method is {user}, as calico_autodetection_method says.")
    known = version_of(version) if version else None
    told = f"Calico {version}" if known else "Calico's version is not known, so a method of every version is used: it"
    if known and known >= SINCE_INTERNAL_IP:
        return Method(
            "kubernetes-internal-ip", f"{told} can take the node's internal address, which kubelet gets from this plan."
        )
    networks = sorted({host.address.network for host in hosts}, key=str)
    if known and known >= SINCE_CIDR and _cidr_is_right(hosts, networks):
        value = ",".join(str(network) for network in networks)
        return Method(f"cidr={value}", f"{told} can take the address inside {value}, whatever the card is called.")
    names = sorted({host.link.name for host in hosts})
    if _interface_is_right(hosts, names):
        value = "^" + (re.escape(names[0]) if len(names) == 1 else f"({'|'.join(map(re.escape, names))})") + "$"
        return Method(f"interface={value}", f"{told} finds the card by its whole name: {', '.join(names)}.")
    target = reachable_by_all(hosts)
    if target is not None:
        return Method(
            f"can-reach={target}",
            f"{told} asks the kernel which address reaches {target}; on every host that is the cluster card's own.",
        )
    return Method(None, f"{told} has no method that finds the planned address on every host.")


def reachable_by_all(hosts: Sequence[Chosen]) -> Optional[str]:
    """An address that every host reaches on-link from its planned address, no gateway needed."""
    for candidate in sorted(hosts, key=lambda host: host.name):
        target = candidate.address.ip
        if all(_reaches(host, target) for host in hosts):
            return str(target)
    return None


def _reaches(host: Chosen, target: Any) -> bool:
    if host.address.ip == target:
        return True
    found = host.network.on_link(target)
    return found is not None and found[0].name == host.link.name and found[1].ip == host.address.ip


def _cidr_is_right(hosts: Sequence[Chosen], networks: Iterable[IPNetwork]) -> bool:
    """No host has a second address inside the networks that Calico could take instead."""
    inside = list(networks)
    return all(
        address.ip == host.address.ip
        for host in hosts
        for _link, address in host.network.addresses()
        if any(address.family == network.version and address.ip in network for network in inside)
    )


def _interface_is_right(hosts: Sequence[Chosen], names: Sequence[str]) -> bool:
    """On no host do the names lead to another card, or to another address of the same family on the card."""
    return all(
        address.ip == host.address.ip
        for host in hosts
        for link, address in host.network.addresses()
        if link.name in names and address.family == host.address.family
    )
