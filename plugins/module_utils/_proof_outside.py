# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The proof of the API's outside address: that nobody else has it, nor its virtual router id.

This module util is PRIVATE to the collection. It is pure: no I/O, no Ansible, standard library only.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.multinic.kubernetes.plugins.module_utils._findings import Findings
from ansible_collections.multinic.kubernetes.plugins.module_utils._seen import Seen

ADDRESS, ROUTER_ID = "apiserver_outside_address", "apiserver_outside_router_id"


def outside_claims(plan: Mapping[str, Any], name: str) -> list[dict[str, str]]:
    """The parameter of the network_probe module: which addresses the host asks about, and on which card."""
    return [
        {"address": str(item["address"]), "interface": str(item["cards"][name]["interface"])}
        for item in (plan.get("apiserver") or {}).get("outside") or ()
        if name in item["cards"]
    ]


def judge_outside(host: Seen, facts: Mapping[str, Mapping[str, Any]], plan: Mapping[str, Any], found: Findings) -> None:
    """Whoever answers, or speaks with the same router id, must be a control plane that has its part in the address."""
    planned = {str(item["address"]): item for item in (plan.get("apiserver") or {}).get("outside") or ()}
    for claim in host.probe.get("outside") or ():
        item = planned.get(str(claim["address"]))
        if item is None:
            continue
        known = {
            str(link.get("mac"))
            for name in item["cards"]
            if str(item["address"]) in ((facts.get(name) or {}).get("kubernetes") or {}).get("outside", ())
            for link in facts[name].get("links") or ()
        }
        # Of a host that has the address on a card the plan has told.
        known |= {
            str(link.get("mac"))
            for other in facts.values()
            if any(str(item["address"]) in _addresses_of(link) for link in other.get("links") or ())
            for link in other.get("links") or ()
        }
        strangers = [mac for mac in claim["macs"] if mac not in known]
        if strangers:
            found.error(
                host.name,
                ADDRESS,
                f"{', '.join(strangers)} answers for {claim['address']} on {claim['interface']}",
                "Somebody has the address already: connections would reach now the one, now the other.",
                f"Set {ADDRESS} to a free address of {item['network']}, or find that host by its hardware address and "
                "give it another one.",
            )
        own = {str(card["address"]) for card in item["cards"].values()}
        # Of our own multicast, which a control plane without peers sends, too.
        own |= {
            address
            for name in item["cards"]
            for link in (facts.get(name) or {}).get("links") or ()
            for address in _addresses_of(link)
        }
        others = sorted(
            {
                str(advert["source"])
                for advert in claim["adverts"]
                if int(advert["router_id"]) == int(item["router_id"]) and str(advert["source"]) not in own
            }
        )
        if others:
            found.error(
                host.name,
                ROUTER_ID,
                f"{', '.join(others)} speaks VRRP on {claim['interface']} with the virtual router id {item['router_id']}",
                "Each would take the other for one of its own.",
                f"Set {ROUTER_ID} to a number from 1 to 255 that no router of {item['network']} has; without it, it is "
                "the last byte of the address.",
            )


def _addresses_of(link: Mapping[str, Any]) -> list[str]:
    return [str(address["address"]) for address in link.get("addresses") or ()]
