# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the proof knows of one host, and what of a plan is in each family.

This module util is PRIVATE to the collection. It is pure: no I/O, no Ansible, standard library only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from ipaddress import ip_address
from typing import Any

FEW = 8


@dataclass(frozen=True)
class Seen:
    """One host: its plan, its facts and what it measured."""

    name: str
    node: Mapping[str, Any]
    facts: Mapping[str, Any]
    probe: Mapping[str, Any]

    def fact(self, *path: str) -> Any:
        value: Any = self.facts
        for key in path:
            value = value.get(key) if isinstance(value, Mapping) else None
        return value

    def families(self) -> list[Seen]:
        """The host as it is seen in each of its families, the primary one first: its address, network and peers there."""
        addresses = addresses_of(self.node)
        networks = self.node.get("networks") or [self.node.get("network")]
        peers = self.probe.get("peers") or ()
        return [
            replace(
                self,
                node={**self.node, "address": address, "network": network},
                probe={**self.probe, "peers": [peer for peer in peers if same_family(peer["address"], address)]},
            )
            for address, network in zip(addresses, networks)
        ]


def addresses_of(node: Mapping[str, Any]) -> list[str]:
    """A host's cluster addresses, one of each family, the primary one first."""
    return [str(address) for address in node.get("addresses") or [node["address"]]]


def virtual_servers(plan: Mapping[str, Any]) -> list[dict[str, Any]]:
    """{vip, real_servers} of each address that the API is balanced at, the primary family's first if there is one.

    It is a VIP, or one of the loopback addresses, or where an external balancer is: its address, or the API's name.
    """
    apiserver = plan.get("apiserver") or {}
    servers = apiserver.get("virtual_servers") or [apiserver]
    return [
        {"vip": str(server["vip"]), "real_servers": [str(address) for address in server.get("real_servers") or ()]}
        for server in servers
        if server.get("vip")
    ]


def api_addresses(plan: Mapping[str, Any]) -> list[str]:
    return [str(server["vip"]) for server in virtual_servers(plan)]


def vip_sources(node: Mapping[str, Any]) -> list[str]:
    """The sources of a host's routes to the VIPs, in the VIPs' order."""
    return [str(route["source"]) for route in node.get("vip_routes") or [node["vip_route"]]]


def same_family(one: str, other: str) -> bool:
    return ip_address(str(one)).version == ip_address(str(other)).version


def some(names: Sequence[str]) -> str:
    """The first of many names, and how many more there are."""
    return ", ".join(names[:FEW]) + (f" and {len(names) - FEW} more" if len(names) > FEW else "")
