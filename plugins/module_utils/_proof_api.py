# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The proof of the way to the API server: what is asked on a host depends on who balances.

This module util is PRIVATE to the collection. It is pure: no I/O, no Ansible, standard library only.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ansible_collections.multinic.kubernetes.plugins.module_utils._balancer import at
from ansible_collections.multinic.kubernetes.plugins.module_utils._balancer_modes import (
    EXTERNAL,
    IPVS,
    LOCALHOST,
)
from ansible_collections.multinic.kubernetes.plugins.module_utils._findings import Findings
from ansible_collections.multinic.kubernetes.plugins.module_utils._proof_paths import judge_vip_way
from ansible_collections.multinic.kubernetes.plugins.module_utils._seen import Seen, api_addresses

# What a connection attempt ends with. The first two show that somebody is there.
OPEN, REFUSED, SILENT, UNREACHABLE, UNKNOWN = "open", "refused", "silent", "unreachable", "unknown"


def api_way(plan: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters of the network_probe module that are about the way to the API."""
    apiserver = plan["apiserver"]
    mode = apiserver.get("balancer", IPVS)
    addresses = api_addresses(plan) if mode != LOCALHOST else []
    if mode == EXTERNAL:
        return {"vip": None, "further_vips": [], "external": addresses[0], "external_port": int(apiserver["port"])}
    return {"vip": next(iter(addresses), None), "further_vips": addresses[1:]}


def member_somewhere(hosts: Iterable[Seen]) -> bool:
    """Whether there is a cluster already, so that the balancer must have somebody to send requests to."""
    return any(host.fact("kubernetes", "member") for host in hosts)


def judge_api_way(host: Seen, plan: Mapping[str, Any], running: bool, found: Findings) -> None:
    """IPVS: where each VIP leads before its route is set. external: whether the balancer is there."""
    apiserver = plan.get("apiserver") or {}
    mode = apiserver.get("balancer", IPVS)
    if mode == IPVS:
        for view in host.families():
            judge_vip_way(view, plan, found)
    elif mode == EXTERNAL and host.probe.get("external"):
        _judge_external(host, apiserver, running, found)


def _judge_external(host: Seen, apiserver: Mapping[str, Any], running: bool, found: Findings) -> None:
    """Before there is a cluster a balancer may refuse, or be silent, for want of servers; afterwards it may not."""
    told = host.probe["external"]
    answer, port = str(told.get("answer")), int(apiserver["port"])
    addresses = [str(address) for address in told.get("addresses") or ()]
    where = ", ".join(at(address, port) for address in addresses)
    variable = "apiserver_external_address" if apiserver.get("addresses") else "apiserver_name"
    if answer == OPEN or (answer == REFUSED and not running):
        return
    if answer == UNKNOWN:
        found.error(
            host.name,
            variable,
            f"no address is known for {apiserver['name']}: {told.get('error') or 'the name is not resolved'}",
            "The host could not reach the API.",
            "Enter the name into the DNS that this host asks, or set apiserver_external_address to the balancer's address.",
        )
    elif answer == UNREACHABLE:
        found.error(
            host.name,
            variable,
            f"{where} cannot be reached: {told.get('error')}",
            "The host has no way to the balancer, so none to the API.",
            f"Give the host a route to it (ip route get {addresses[0]}), or correct the address.",
        )
    elif running:
        found.error(
            host.name,
            variable,
            f"{where} {'refuses' if answer == REFUSED else 'does not answer'} connections",
            "There is a cluster, and the host would not reach its API by this balancer.",
            f"Let the balancer listen on port {port} and send to port {port} of the control planes "
            f"({', '.join(map(str, apiserver.get('real_servers') or ()))}), and let firewalls pass it.",
        )
    else:
        found.warning(
            host.name,
            variable,
            f"{where} does not answer connections",
            "Some balancers are silent while they have no server; but a wrong address or a firewall looks the same.",
            f"Look whether the balancer listens on port {port}, and whether this host may reach it.",
        )
