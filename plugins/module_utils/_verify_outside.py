# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Compares who has the API's outside address with the plan: one control plane, whose certificate is good for it.

This module util is PRIVATE to the collection. It is pure: no I/O, no Ansible, standard library only.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.multinic.kubernetes.plugins.module_utils._findings import Findings

ADDRESS = "apiserver_outside_address"
LOOK = "See journalctl -u multinic-apiserver-outside -u multinic-apiserver-outside-check on the control planes."


def compare_outside(
    plan: Mapping[str, Any], hosts: Mapping[str, Mapping[str, Any]], found: Findings
) -> tuple[list[str], list[str]]:
    """What was seen and what could not be, as sentences; what is wrong goes into the findings.

    hosts are what cluster_status told of each that was looked at.
    """
    tested: list[str] = []
    untested: list[str] = []
    for item in plan["apiserver"].get("outside") or ():
        address, cards = str(item["address"]), item["cards"]
        seen = {
            name: entry
            for name in cards
            for entry in (hosts.get(name) or {}).get("outside") or ()
            if entry["address"] == address
        }
        _compare_certificates(address, seen, found)
        holders = [name for name, entry in seen.items() if entry["held"]]
        left = sorted(set(cards) - set(seen))
        if len(holders) > 1:
            for name in holders:
                found.error(
                    name,
                    ADDRESS,
                    f"{address} is on {' and '.join(holders)} at once",
                    "They do not hear each other, and clients reach now the one, now the other.",
                    "Let IP protocol 112 (VRRP) pass between the control planes on that network. " + LOOK,
                )
        elif not holders and left:
            untested.append(f"{address}: not on {', '.join(seen) or 'any host'}; {', '.join(left)} was not looked at")
        elif not holders:
            found.error("", ADDRESS, f"{address} is on no control plane", "Nobody reaches the API there.", LOOK)
        else:
            _compare_way(address, holders[0], str(cards[holders[0]]["interface"]), seen, found, tested)
    return tested, untested


def _compare_way(
    address: str, holder: str, card: str, seen: Mapping[str, Mapping[str, Any]], found: Findings, tested: list[str]
) -> None:
    silent = {name: entry["error"] for name, entry in seen.items() if entry["error"]}
    for name, error in silent.items():
        found.error(
            name,
            ADDRESS,
            f"the API at {address}, which is on {holder}: {error}",
            "Clients on the outside network would fare alike.",
            f"See whether a firewall of {holder} lets the API server's port through on {card}. {LOOK}",
        )
    if not silent:
        tested.append(f"{address} is on {holder} ({card}), and the API answers there")


def _compare_certificates(address: str, seen: Mapping[str, Mapping[str, Any]], found: Findings) -> None:
    for name, entry in seen.items():
        if entry["certificate"]:
            found.error(
                name,
                ADDRESS,
                f"its API server's certificate is not good for {address}: {entry['certificate']}",
                "A cluster that is there keeps its certificates; clients refuse this one at the outside address.",
                f"Add {address} to certSANs in the configmap kubeadm-config of kube-system; then on one control plane after "
                "another remove apiserver.crt and apiserver.key in /etc/kubernetes/pki, run kubeadm init phase certs "
                "apiserver with that configuration, and restart kube-apiserver.",
            )
