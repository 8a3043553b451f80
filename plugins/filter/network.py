# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import typing as t

from ansible.errors import AnsibleFilterError

from ansible_collections.multinic.kubernetes.plugins.module_utils import _calico, _select
from ansible_collections.multinic.kubernetes.plugins.module_utils._net import HostNetwork, as_address, plain

TOLD_AT_MOST = 3


def cluster_interface(facts: t.Any, network: t.Any = "auto") -> str:
    """The name of the card that is the cluster's on this host."""
    return _choice(_network(facts), network).link.name


def cluster_address(facts: t.Any, network: t.Any = "auto") -> str:
    """The address that is the cluster's on this host."""
    return str(_choice(_network(facts), network).address.ip)


def vip_route(facts: t.Any, vip: t.Any, network: t.Any = "auto") -> str:
    """The words for `ip route replace`: the one form of the VIP's route that works on every node."""
    address = as_address(str(vip))
    if address is None:
        raise AnsibleFilterError(f"vip_route: '{vip}' is not an address")
    sources = [choice.address.ip for choice in _choices(_network(facts), network)]
    source = next((source for source in sources if source.version == address.version), None)
    if source is None:
        raise AnsibleFilterError(f"vip_route: the VIP {address} and the cluster address {sources[0]} differ in family")
    return f"local {address}/{address.max_prefixlen} dev lo table local src {source}"


def calico_autodetection(hosts: t.Any, network: t.Any = "auto", version: str = "") -> str:
    """The autodetection method by which Calico takes each host's cluster address."""
    method = _calico.choose(_chosen(hosts, network, every=True), str(version))
    if method.value is None:
        raise AnsibleFilterError(f"calico_autodetection: {method.reason}")
    return method.value


def can_reach_gateway(hosts: t.Any, network: t.Any = "auto") -> str:
    """An address that leads every host to its cluster card: can-reach needs no gateway."""
    chosen = _chosen(hosts, network)
    target = _calico.reachable_by_all(chosen)
    if target is None:
        told = ", ".join(f"{host.name} is on {host.address.network} ({host.link.name})" for host in chosen)
        tried = "; ".join(_calico.why_unreachable(chosen)[:TOLD_AT_MOST])
        raise AnsibleFilterError(
            f"can_reach_gateway: no address leads every host to its cluster address: {told}. {tried}"
        )
    return target


def _network(facts: t.Any) -> HostNetwork:
    if not isinstance(facts, t.Mapping):
        raise AnsibleFilterError("the input must be a host's ansible_facts")
    try:
        return HostNetwork.from_facts(plain(facts))
    except (ValueError, KeyError, TypeError, AttributeError) as problem:
        raise AnsibleFilterError(f"the facts cannot be read: {type(problem).__name__}: {problem}") from problem


def _choice(network: HostNetwork, value: t.Any) -> _select.Choice:
    return _choices(network, value)[0]


def _choices(network: HostNetwork, value: t.Any, common: _select.Selection | None = None) -> tuple[_select.Choice, ...]:
    """The primary choice, and the other family's if that is asked for too."""
    try:
        selectors = _select.parse_selectors(value)
        return _select.choose(network, selectors, (), common or _select.common_network({"": network}, ()))
    except _select.SelectionError as problem:
        raise AnsibleFilterError(f"{problem.found}. {problem.why} {problem.remedy}") from problem
    except ValueError as problem:
        raise AnsibleFilterError(str(problem)) from problem


def _chosen(hosts: t.Any, value: t.Any, *, every: bool = False) -> list[_calico.Chosen]:
    """What is chosen on each host, in its primary family or in every one."""
    if not isinstance(hosts, t.Mapping) or not hosts:
        raise AnsibleFilterError("the input must be a mapping of host names to their ansible_facts")
    networks = {str(name): _network(facts) for name, facts in hosts.items()}
    common = _select.common_network(networks, ())
    chosen = []
    for name, network in sorted(networks.items()):
        try:
            choices = _choices(network, value, common)
        except AnsibleFilterError as problem:
            raise AnsibleFilterError(f"{name}: {problem.message}") from problem
        chosen += [
            _calico.Chosen(name, network, choice.link, choice.address, choice.network)
            for choice in (choices if every else choices[:1])
        ]
    return chosen


class FilterModule:
    """The network plan's decisions, for people's own playbooks."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {
            "calico_autodetection": calico_autodetection,
            "can_reach_gateway": can_reach_gateway,
            "cluster_address": cluster_address,
            "cluster_interface": cluster_interface,
            "vip_route": vip_route,
        }
