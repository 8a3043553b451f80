# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The plan's part on the way to the API server: what the wish needs, and which hosts have another way now.

This module util is PRIVATE to the collection. It is pure: no I/O, no Ansible, standard library only.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

from ansible_collections.multinic.kubernetes.plugins.module_utils._balancer_modes import (
    EXTERNAL,
    IPVS,
    LOCALHOST,
    SHARING_FLAG,
    SHARING_SINCE,
    UNIT_OF,
    found_addresses,
    name_addresses,
)
from ansible_collections.multinic.kubernetes.plugins.module_utils._findings import Findings
from ansible_collections.multinic.kubernetes.plugins.module_utils._settings import Settings
from ansible_collections.multinic.kubernetes.plugins.module_utils._versions import VersionError, parse

# What each way needs of a distribution for which the bundle holds no packages.
COMMANDS = {IPVS: ("keepalived", "ipvsadm"), LOCALHOST: ("haproxy",), EXTERNAL: ()}
PROXY_PACKAGE = "haproxy"
# Packages of the bundle that only one way needs. Those of IPVS, the default, are on every host.
PACKAGES = {LOCALHOST: (PROXY_PACKAGE,)}


def packages_of_ways(mode: str) -> dict[str, list[str]]:
    """The packages that the way needs, and those that only other ways need, as the plan tells them."""
    own = set(PACKAGES.get(mode, ()))
    others = {name for names in PACKAGES.values() for name in names} - own
    return {"way_packages": sorted(own), "other_ways_packages": sorted(others)}


def needed_commands(common: Iterable[str], mode: str) -> list[str]:
    """The commands that every host needs, without those of the ways that are not taken."""
    others = {command for commands in COMMANDS.values() for command in commands} - set(COMMANDS[mode])
    wanted = [command for command in common if command not in others]
    return [*wanted, *(command for command in COMMANDS[mode] if command not in wanted)]


def planned_addresses(wishes: Settings, families: Iterable[int]) -> list[str]:
    """The addresses of the API's name on every host. families are the cluster network's, the primary one first."""
    external = "" if wishes.apiserver_external_address is None else str(wishes.apiserver_external_address)
    return name_addresses(wishes.apiserver_balancer, map(str, wishes.apiserver_vip), external, families)


def virtual_servers(
    wishes: Settings, addresses: Sequence[str], families: Sequence[int], real_servers: Callable[[int], list[str]]
) -> list[dict[str, Any]]:
    """{vip, real_servers} of each address that the API is balanced at; real_servers gives those of a family.

    What balances at the loopback addresses, or outside, sends all of them to the primary family's, the first of families.
    """
    if wishes.apiserver_balancer == IPVS:
        return [{"vip": str(vip), "real_servers": real_servers(vip.version)} for vip in wishes.apiserver_vip]
    return [{"vip": vip, "real_servers": real_servers(families[0])} for vip in addresses or [wishes.apiserver_name]]


def changing(hosts: Mapping[str, Mapping[str, Any]], name: str, addresses: Collection[str]) -> dict[str, list[str]]:
    """The hosts whose API name leads elsewhere than planned, with where it leads, in the order of hosts (their facts).

    Only those that this collection has begun with: what else is in a hosts file is somebody else's.
    """
    found = {}
    for host, facts in hosts.items():
        state = facts.get("kubernetes") or {}
        old = found_addresses(facts.get("hosts_file") or (), name)
        if old and (state.get("ours") or state.get("balancers")) and set(old) != set(addresses):
            found[host] = old
    return found


def retiring(hosts: Mapping[str, Mapping[str, Any]], mode: str) -> dict[str, list[str]]:
    """The hosts that have something of other ways than the planned one, with these."""
    found = {}
    for host, facts in hosts.items():
        there = (facts.get("kubernetes") or {}).get("balancers") or ()
        others = [other for other in UNIT_OF if other in there and other != mode]
        if others:
            found[host] = others
    return found


def reasons(before: Mapping[str, Any], old: Mapping[str, Any], mode: str) -> list[str]:
    """What is told of hosts that change their way."""
    hosts = list(dict.fromkeys([*before, *old]))
    if not hosts:
        return []
    return [f"{', '.join(hosts)} change their way to the API to {mode}, one host after another."]


def check_way(
    hosts: Mapping[str, Mapping[str, Any]],
    wishes: Settings,
    version: str,
    manifest: Mapping[str, Any],
    addresses: Mapping[str, Collection[str]],
    found: Findings,
) -> None:
    """Whether the wished way can be had. hosts are facts by host, addresses cluster addresses by host."""
    if wishes.apiserver_balancer == LOCALHOST:
        _check_localhost(hosts, wishes, version, manifest, found)
    elif wishes.apiserver_balancer == EXTERNAL:
        _check_external(hosts, wishes, addresses, found)
    if wishes.apiserver_external_address is not None and wishes.apiserver_balancer != EXTERNAL:
        found.warning(
            "",
            "apiserver_external_address",
            f"it is {wishes.apiserver_external_address}, but apiserver_balancer is {wishes.apiserver_balancer}",
            "The address is not used.",
            "Set apiserver_balancer: external if the hosts are to reach the API by it.",
        )


def _check_localhost(
    hosts: Mapping[str, Mapping[str, Any]],
    wishes: Settings,
    version: str,
    manifest: Mapping[str, Any],
    found: Findings,
) -> None:
    why = "On a control plane the proxy has the API server's port, on the loopback address, which that must allow."
    oldest = ".".join(map(str, SHARING_SINCE))
    try:
        old = bool(version) and parse(version)[:2] < SHARING_SINCE
    except VersionError:
        old = False  # told elsewhere
    if old:
        found.error(
            "",
            "apiserver_balancer",
            f"it is localhost, and Kubernetes is {version}",
            f"{why} It can since Kubernetes {oldest}.",
            f"Set apiserver_balancer: ipvs, or use a bundle of Kubernetes {oldest} or newer.",
        )
    flag = wishes.apiserver_extra_args.get(SHARING_FLAG, "true")
    if flag not in ("true", "1", "t", "T", "TRUE", "True"):
        found.error(
            "",
            "apiserver_extra_args",
            f"{SHARING_FLAG} is {flag}, and apiserver_balancer is localhost",
            why,
            f"Leave {SHARING_FLAG} out of apiserver_extra_args.",
        )
    packages = [part for part in manifest.get("parts") or () if part.get("kind") == "package"]
    if packages and not any(part.get("package") == PROXY_PACKAGE for part in packages):
        found.error(
            "",
            "apiserver_balancer",
            f"it is localhost, but the bundle has packages and none is {PROXY_PACKAGE}",
            "The proxy is the distribution's haproxy, which comes with the bundle.",
            "Build the bundle anew (playbooks/bundle.yml), or set apiserver_balancer: ipvs.",
        )
    for host, facts in hosts.items():
        if (facts.get("kubernetes") or {}).get("port_sharing") is False:
            found.error(
                host,
                "apiserver_balancer",
                f"it is localhost, but the API server here runs without --{SHARING_FLAG}",
                why,
                f"Add --{SHARING_FLAG}=true to /etc/kubernetes/manifests/kube-apiserver.yaml, on one control plane after "
                "another, and to apiServer.extraArgs in the configmap kubeadm-config of kube-system. Then run again.",
            )


def _check_external(
    hosts: Mapping[str, Mapping[str, Any]],
    wishes: Settings,
    addresses: Mapping[str, Collection[str]],
    found: Findings,
) -> None:
    address = wishes.apiserver_external_address
    if address is None:
        for host, old in changing(hosts, wishes.apiserver_name, ()).items():
            found.error(
                host,
                "apiserver_external_address",
                f"it is empty, and {wishes.apiserver_name} is {', '.join(old)} in /etc/hosts here",
                "The host changes to the external balancer only after that has answered, so its address must be known.",
                "Set apiserver_external_address to the balancer's address.",
            )
        return
    for host, own in addresses.items():
        if str(address) in own:
            found.error(
                host,
                "apiserver_external_address",
                f"{address} is this host's own cluster address",
                "That is no balancer: with this host the whole cluster would lose the API.",
                "Set apiserver_external_address to the balancer's address, or apiserver_balancer: ipvs.",
            )
    for variable, networks in (("pod_cidr", wishes.pod_cidr), ("service_cidr", wishes.service_cidr)):
        for network in networks:
            if address in network:
                found.error(
                    "",
                    "apiserver_external_address",
                    f"{address} is inside {variable} {network}",
                    "A pod or a service could get the address by which every node reaches the API.",
                    f"Set {variable} to a network without the balancer's address.",
                )
