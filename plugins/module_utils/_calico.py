# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How Calico is told which address is the cluster's.

This module util is PRIVATE to the collection. It is pure: no I/O, no Ansible, standard library only.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Optional

from ansible_collections.multinic.kubernetes.plugins.module_utils._calico_predict import (
    Prediction,
    check_patterns,
    predict,
)
from ansible_collections.multinic.kubernetes.plugins.module_utils._findings import Finding
from ansible_collections.multinic.kubernetes.plugins.module_utils._net import (
    Address,
    HostNetwork,
    IPNetwork,
    Link,
    as_address,
    parse_networks,
)

# What one packet loses to the tunnel: IPv6's own header is 20 bytes longer. Calico has no IP in IP for IPv6.
OVERLAY_COST = {"ipip": 20, "vxlan": 50, "wireguard": 60, "none": 0}
OVERLAY_COST_IPV6 = {"ipip": 0, "vxlan": 70, "wireguard": 80, "none": 0}
SINCE_IPV6_VXLAN = (3, 23)
SINCE_INTERNAL_IP = (3, 22)
SINCE_CIDR = (3, 16)
WORDS = ("first-found", "kubernetes-internal-ip")
LISTS = ("interface", "skip-interface", "can-reach", "cidr")


@dataclass(frozen=True)
class Chosen:
    """What the plan chose on one host, in one family."""

    name: str
    network: HostNetwork
    link: Link
    address: Address
    declared: Optional[IPNetwork] = None  # the cluster's network, if the address's own is only itself (/32, /128)

    @property
    def cluster_network(self) -> IPNetwork:
        return self.declared or self.address.network


@dataclass(frozen=True)
class Method:
    """An autodetection method, with the reason for it. No method: none that is right for every host exists."""

    value: Optional[str]
    reason: str


def overlay_cost(encapsulation: str, family: int) -> int:
    """The bytes by which the pods' MTU is smaller than the card's."""
    return (OVERLAY_COST_IPV6 if family == 6 else OVERLAY_COST)[encapsulation]


def wraps_ipv6(version: str) -> bool:
    """Whether this Calico carries IPv6 in VXLAN."""
    known = version_of(version) if version else None
    return known is not None and known >= SINCE_IPV6_VXLAN


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
        try:
            check_patterns(value)
        except ValueError as problem:
            raise ValueError(f"{name}={value}: {problem}") from None
    return text


def cards_to_come(
    pods: Sequence[IPNetwork], services: Sequence[IPNetwork], encapsulation: str, proxy_mode: str
) -> dict[str, list[IPNetwork]]:
    """The cards with addresses that the cluster will make on every host: those of kube-proxy and of Calico."""
    four, six = ([net for net in pods if net.version == family] for family in (4, 6))
    tunnels = {"ipip": {"tunl0": four}, "vxlan": {"vxlan.calico": four, "vxlan-v6.calico": six}}
    cards = {**tunnels.get(encapsulation, {}), "kube-ipvs0": list(services) if proxy_mode == "ipvs" else []}
    return {name: networks for name, networks in cards.items() if networks}


def choose(hosts: Sequence[Chosen], version: str, user: str = "") -> Method:
    """The method that makes every host take its planned address, for the Calico version at hand."""
    if user:
        return Method(user, f"Calico's method is {user}, as calico_autodetection_method says.")
    known = version_of(version) if version else None
    told = f"Calico {version}" if known else "Calico's version is not known, so a method of every version is used: it"
    if known and known >= SINCE_INTERNAL_IP and _leads_all(hosts, "kubernetes-internal-ip", version):
        return Method(
            "kubernetes-internal-ip", f"{told} can take the node's internal address, which kubelet gets from this plan."
        )
    networks = ",".join(sorted({str(host.cluster_network) for host in hosts}))
    if known and known >= SINCE_CIDR and _leads_all(hosts, f"cidr={networks}", version):
        return Method(
            f"cidr={networks}", f"{told} can take the address inside {networks}, whatever the card is called."
        )
    names = sorted({host.link.name for host in hosts})
    interface = (
        "interface=^" + (re.escape(names[0]) if len(names) == 1 else f"({'|'.join(map(re.escape, names))})") + "$"
    )
    if _leads_all(hosts, interface, version):
        return Method(interface, f"{told} finds the card by its whole name: {', '.join(names)}.")
    target = reachable_by_all(hosts)
    if target is not None:
        return Method(
            f"can-reach={target}",
            f"{told} asks the kernel which address reaches {target}; on every host that is the cluster card's own.",
        )
    return Method(None, f"{told} has no method that finds the planned address on every host.")


def reachable_by_all(hosts: Sequence[Chosen]) -> Optional[str]:
    """An address that every host reaches from its planned address, no gateway needed."""
    return next((target for target in _targets(hosts) if _leads_all(hosts, f"can-reach={target}", "")), None)


def why_unreachable(hosts: Sequence[Chosen]) -> list[str]:
    """For each address that was tried, one host that does not reach it from its planned address, and why."""
    reasons = []
    for target in _targets(hosts):
        for host in hosts:
            answer = _predicted(host, f"can-reach={target}", "")
            if answer.address != host.address.ip:
                reasons.append(f"{target} does not do on {host.name}: {answer.reason}")
                break
    return reasons


def _targets(hosts: Sequence[Chosen]) -> list[str]:
    """One planned address of each network: what holds for one host's holds for its neighbours'."""
    found: dict[IPNetwork, str] = {}
    for host in sorted(hosts, key=lambda host: host.name):
        found.setdefault(host.address.network, str(host.address.ip))
    return list(found.values())


def check(hosts: Sequence[Chosen], version: str, method: str) -> list[Finding]:
    """Where the method would not give a host its planned address, or does so by chance."""
    findings = []
    better: Optional[str] = None
    for host in hosts:
        answer = _predicted(host, method, version)
        planned = f"{host.address.ip} ({host.link.name}) is planned"
        apart = sorted({name for name, _ip in answer.rivals} - {answer.link})
        doubtful = not answer.sure and (not answer.rivals or host.address.ip in {ip for _name, ip in answer.rivals})
        right = answer.sure and answer.address == host.address.ip
        if right and not apart:
            continue
        if better is None:
            other = choose(hosts, version).value
            better = (
                f"Leave calico_autodetection_method empty: the plan takes {other} then, which is right on every host."
                if other and other != method
                else "Write a method that leads to the planned address on every host."
            )
        if right:
            found = f"{answer.reason}; {planned}"
            why = (
                f"{method} is right only by the order of the cards, which may be another after a boot, or when a card is "
                "made or removed. Calico looks again every minute."
            )
        elif doubtful:
            found = f"{planned}, and what Calico would take cannot be told: {answer.reason}"
            why = f"If {method} gives Calico another address, the pods' traffic leaves the cluster network."
        else:
            found = f"Calico would take {_told(answer, host)}, but {planned}: {answer.reason}"
            why = f"By {method} Calico takes another address than the plan, so the pods' traffic leaves the cluster network."
        severity = "warning" if right or doubtful else "error"
        findings.append(Finding(severity, host.name, "calico_autodetection_method", found, why, better))
    return findings


def _told(answer: Prediction, host: Chosen) -> str:
    if answer.address is not None:
        return f"{answer.address} ({answer.link})"
    return "another address" if answer.rivals else f"no IPv{host.address.family} address"


def _predicted(host: Chosen, method: str, version: str) -> Prediction:
    family = host.address.family
    return predict(host.network, method, family=family, version=version, planned=host.address.ip)


def _leads_all(hosts: Sequence[Chosen], method: str, version: str) -> bool:
    """The method gives every host its planned address, and nothing else fits it, in whatever order the cards come."""
    answers = (_predicted(host, method, version) for host in hosts)
    return all(
        answer.sure and answer.address == host.address.ip and not answer.rivals for host, answer in zip(hosts, answers)
    )
