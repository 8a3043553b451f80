# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The collection's variables: their defaults, and what may be in them.

This module util is PRIVATE to the collection. It is pure: no I/O, no Ansible, standard library only.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from ipaddress import ip_address, ip_network
from typing import Any, Optional

from ansible_collections.multinic.kubernetes.plugins.module_utils import _calico, _versions
from ansible_collections.multinic.kubernetes.plugins.module_utils._balancer_modes import MODES
from ansible_collections.multinic.kubernetes.plugins.module_utils._findings import Finding
from ansible_collections.multinic.kubernetes.plugins.module_utils._net import (
    IPAddress,
    IPNetwork,
    as_address,
    parse_networks,
    plain,
    split_list,
)

DNS_LABEL = r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?"
# What else of Kubernetes listens on a control-plane host.
TAKEN_PORTS = {
    2379: "etcd",
    2380: "etcd's members",
    10250: "kubelet",
    10256: "kube-proxy",
    10257: "the controller manager",
    10259: "the scheduler",
}
REPOSITORY = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9.]*[A-Za-z0-9])?(:[0-9]+)?(/[a-z0-9]+([-._]+[a-z0-9]+)*)*/?")
DNS_NAME = re.compile(rf"(?=.{{1,253}}$){DNS_LABEL}(\.{DNS_LABEL})*")


# What stands in, in each family of the cluster network, for a variable that is not set. They are the same for every
# cluster: one that followed from the hosts' networks would move when a host is added.
DEFAULT_VIP = {4: "10.103.97.2", 6: "fd00:10:103:97::2"}
DEFAULT_PODS = {4: "100.64.0.0/10", 6: "fd00:100:64::/48"}
DEFAULT_SERVICES = {4: "10.96.0.0/16", 6: "fd00:10:96::/112"}


@dataclass(frozen=True)
class Settings:
    """The checked values of the cluster-wide variables.

    apiserver_vip, pod_cidr and service_cidr have at most one item of each family. Empty: the variable is not set, and
    in_families() says what it is then.
    """

    kubernetes_version: str = ""
    bundle: str = ""
    bundle_sha256: str = ""
    apiserver_vip: tuple[IPAddress, ...] = ()
    apiserver_name: str = "apiserver.cluster.local"
    apiserver_port: int = 6443
    apiserver_extra_sans: tuple[str, ...] = ()
    apiserver_balancer: str = "ipvs"
    apiserver_external_address: Optional[IPAddress] = None
    apiserver_outside_address: tuple[IPAddress, ...] = ()  # at most one of each family
    apiserver_outside_router_id: int = 0  # 0: by the address
    pod_cidr: tuple[IPNetwork, ...] = ()
    service_cidr: tuple[IPNetwork, ...] = ()
    dns_domain: str = "cluster.local"
    cni: str = "calico"
    calico_autodetection_method: str = ""
    calico_encapsulation: str = "ipip"
    image_repository: str = ""
    kube_proxy_mode: str = "iptables"
    time_servers: tuple[str, ...] = ()
    kubeadm_ignore_preflight_errors: tuple[str, ...] = ()
    etcd_extra_args: Mapping[str, str] = field(default_factory=dict)
    apiserver_extra_args: Mapping[str, str] = field(default_factory=dict)
    controller_manager_extra_args: Mapping[str, str] = field(default_factory=dict)
    scheduler_extra_args: Mapping[str, str] = field(default_factory=dict)
    kubelet_config: Mapping[str, Any] = field(default_factory=dict)
    kube_proxy_config: Mapping[str, Any] = field(default_factory=dict)
    clock_tolerance_seconds: float = 2.0

    def in_families(self, families: Sequence[int]) -> Settings:
        """The settings of a cluster whose network has these families, the primary one first."""

        def ordered(given: Sequence[Any], parse: Callable[[str], Any], default: Mapping[int, str]) -> tuple[Any, ...]:
            if not given:
                return tuple(parse(default[family]) for family in families)
            return tuple(sorted(given, key=lambda item: [*families, *(4, 6)].index(item.version)))

        return replace(
            self,
            apiserver_vip=ordered(self.apiserver_vip, ip_address, DEFAULT_VIP),
            pod_cidr=ordered(self.pod_cidr, ip_network, DEFAULT_PODS),
            service_cidr=ordered(self.service_cidr, ip_network, DEFAULT_SERVICES),
        )


def _text(value: Any) -> str:
    if isinstance(value, (bool, list, dict)):
        raise ValueError(f"{value!r} is not a text")
    return str(value).strip()


def _one_of(*choices: str) -> Callable[[Any], str]:
    def parse(value: Any) -> str:
        text = _text(value)
        if text not in choices:
            raise ValueError(f"'{text}' is none of {', '.join(choices)}")
        return text

    return parse


def _address(value: Any) -> IPAddress:
    text = _text(value)
    address = as_address(text)
    if address is None:
        raise ValueError(f"'{text}' is not an address")
    if address.is_loopback or address.is_multicast or address.is_unspecified or address.is_link_local:
        raise ValueError(f"'{text}' is a loopback, link-local, multicast or empty address")
    if address.version == 4 and address.is_reserved:
        raise ValueError(f"'{text}' is a broadcast or reserved address")
    return address


def _vips(value: Any) -> tuple[IPAddress, ...]:
    addresses = tuple(map(_address, split_list(value)))
    if not addresses:
        raise ValueError("it is empty")
    if len({address.version for address in addresses}) != len(addresses):
        raise ValueError(f"{', '.join(map(str, addresses))}: at most one address per family")
    return addresses


def _outside(value: Any) -> tuple[IPAddress, ...]:
    return _vips(value) if split_list(value) else ()


def _router_id(value: Any) -> int:
    number = _whole(value)
    if number > 255:
        raise ValueError(f"{number} is not a virtual router id")
    return number


def _cidrs(value: Any) -> tuple[IPNetwork, ...]:
    networks = parse_networks(value)
    if not networks:
        raise ValueError("it is empty")
    if len({network.version for network in networks}) != len(networks):
        raise ValueError(f"{', '.join(map(str, networks))}: at most one network per family")
    return networks


def _whole(value: Any) -> int:
    if isinstance(value, bool) or not re.fullmatch(r"\d+", str(value).strip()):
        raise ValueError(f"'{value}' is not a whole number")
    return int(value)


def _port(value: Any) -> int:
    port = _whole(value)
    if not 1 <= port <= 65535:
        raise ValueError(f"{port} is not a port")
    return port


def _api_port(value: Any) -> int:
    port = _port(value)
    if port in TAKEN_PORTS:
        raise ValueError(f"{port} is the port of {TAKEN_PORTS[port]}")
    return port


def _seconds(value: Any) -> float:
    if isinstance(value, (bool, list, dict)):
        raise ValueError(f"{value!r} is not a number")
    try:
        seconds = float(value)
    except ValueError:
        raise ValueError(f"'{value}' is not a number") from None
    if not 0 < seconds < float("inf"):
        raise ValueError(f"{value} is not above zero")
    return seconds


def _dns_name(value: Any) -> str:
    text = _text(value)
    if not DNS_NAME.fullmatch(text):
        raise ValueError(f"'{text}' is not a DNS name")
    return text


def _api_name(value: Any) -> str:
    text = _dns_name(value)
    if as_address(text) is not None:
        raise ValueError(f"'{text}' is an address")
    return text


def _repository(value: Any) -> str:
    text = _text(value)
    if text and not REPOSITORY.fullmatch(text):
        raise ValueError(f"'{text}' is not a registry and path, such as k8s.gcr.io or registry.example.org:5000/k8s")
    return text


def _path(value: Any) -> str:
    if isinstance(value, (int, float)):
        raise ValueError(f"{value!r} is not a text")
    return _text(value)


def _sans(value: Any) -> tuple[str, ...]:
    for item in split_list(value):
        if as_address(item) is None and not DNS_NAME.fullmatch(item.removeprefix("*.")):
            raise ValueError(f"'{item}' is neither an address nor a DNS name")
    return tuple(split_list(value))


def _servers(value: Any) -> tuple[str, ...]:
    for item in split_list(value):
        if as_address(item) is None and not DNS_NAME.fullmatch(item.lower()):
            raise ValueError(f"'{item}' is neither an address nor a DNS name")
    return tuple(split_list(value))


def _checks(value: Any) -> tuple[str, ...]:
    for item in split_list(value):
        if not re.fullmatch(r"[A-Za-z][\w.-]*", item):
            raise ValueError(f"'{item}' is not the name of a check")
    return tuple(split_list(value))


def _sha256(value: Any) -> str:
    text = _text(value).lower()
    if text and not re.fullmatch(r"[0-9a-f]{64}", text):
        raise ValueError(f"'{text}' is not a SHA-256 sum")
    return text


def _mapping(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{value!r} is not a mapping of names to values")
    return value


def _arguments(value: Any) -> dict[str, str]:
    for name, item in _mapping(value).items():
        if item is None or isinstance(item, (list, dict)) or name.startswith("-"):
            raise ValueError(f"{name}: {item!r} is not a flag's name without dashes and its value")
    return {name: str(item).lower() if isinstance(item, bool) else str(item) for name, item in value.items()}


def _version(value: Any) -> str:
    text = _text(value)
    return str(_versions.parse_supported(text)) if text else ""


def _method(value: Any) -> str:
    text = _text(value)
    return _calico.check_method(text) if text else ""


@dataclass(frozen=True)
class Rule:
    """How one variable is read, and what to write instead of a wrong value."""

    parse: Callable[[Any], Any]
    remedy: str


_MAPPING = "Write a mapping, such as {name: value}."
_FLAGS = "Write a mapping of flags' names without dashes to one value each, such as {name: value}."
_NETWORK = "Write a network with its prefix length, such as {0}; one per family, parted by a comma."

RULES: Mapping[str, Rule] = {
    "kubernetes_version": Rule(_version, "Write the version as v1.20.2, or leave it empty: then it is the bundle's."),
    "bundle": Rule(_path, "Write the path or the http(s) address of the bundle."),
    "bundle_sha256": Rule(_sha256, "Write the 64 hexadecimal digits that sha256sum prints."),
    "apiserver_vip": Rule(
        _vips,
        "Write a free address outside all networks in use, such as 10.103.97.2; one per family, parted by a comma.",
    ),
    "apiserver_name": Rule(_api_name, "Write a name in lower case, such as apiserver.cluster.local."),
    "apiserver_port": Rule(_api_port, "Write a number from 1 to 65535; 6443 is usual."),
    "apiserver_extra_sans": Rule(_sans, "Write a list of addresses and DNS names."),
    "apiserver_balancer": Rule(_one_of(*MODES), "Write ipvs, localhost or external."),
    "apiserver_external_address": Rule(
        _address,
        "Write the balancer's address. For one that is known by a name, set apiserver_name to the name and leave this empty.",
    ),
    "apiserver_outside_address": Rule(
        _outside,
        "Write a free address of a network that all control planes are on; one per family, parted by a comma; or leave it "
        "empty.",
    ),
    "apiserver_outside_router_id": Rule(
        _router_id, "Write a number from 1 to 255 that no other VRRP router of that network has, or 0: by the address."
    ),
    "pod_cidr": Rule(_cidrs, _NETWORK.format("100.64.0.0/10")),
    "service_cidr": Rule(_cidrs, _NETWORK.format("10.96.0.0/16")),
    "dns_domain": Rule(_dns_name, "Write a domain in lower case, such as cluster.local."),
    "cni": Rule(_one_of("calico", "bridge", "none"), "Write calico, bridge or none."),
    "calico_autodetection_method": Rule(
        _method,
        "Leave it empty, so that the plan chooses, or write one of Calico's methods, such as interface=^ens32$.",
    ),
    "calico_encapsulation": Rule(_one_of("ipip", "vxlan", "none"), "Write ipip, vxlan or none."),
    "image_repository": Rule(
        _repository, "Write a registry's name and path, or leave it empty: then it is the bundle's own."
    ),
    "kube_proxy_mode": Rule(
        _one_of("iptables", "ipvs", "nftables"), "Write iptables, ipvs, or nftables for Kubernetes 1.29 and newer."
    ),
    "time_servers": Rule(_servers, "Write a list of addresses or names of time servers, or leave it empty."),
    "kubeadm_ignore_preflight_errors": Rule(_checks, "Write a list of the checks' names, such as [NumCPU, Mem]."),
    "etcd_extra_args": Rule(_arguments, _FLAGS),
    "apiserver_extra_args": Rule(_arguments, _FLAGS),
    "controller_manager_extra_args": Rule(_arguments, _FLAGS),
    "scheduler_extra_args": Rule(_arguments, _FLAGS),
    "kubelet_config": Rule(_mapping, _MAPPING),
    "kube_proxy_config": Rule(_mapping, _MAPPING),
    "clock_tolerance_seconds": Rule(_seconds, "Write a number of seconds above zero, such as 2."),
}


def read_settings(raw: Mapping[str, Any]) -> tuple[Settings, list[Finding]]:
    """The checked settings; a wrong value is a finding, and the default stands in so that all are found at once."""
    values: dict[str, Any] = {}
    findings = []
    for name, rule in RULES.items():
        value = plain(raw.get(name))
        if value is None or value == "":
            continue
        try:
            values[name] = rule.parse(value)
        except ValueError as problem:
            findings.append(
                Finding(
                    "error", "", name, str(problem), "The variable has a value that means nothing here.", rule.remedy
                )
            )
    return Settings(**values), findings


def merge_settings(hosts: Mapping[str, Mapping[str, Any]]) -> tuple[dict[str, Any], list[Finding]]:
    """One value for each variable of the whole cluster, that of most hosts; the others are findings.

    A host without the variable's name has no value that could be read, which is told elsewhere.
    """
    merged: dict[str, Any] = {}
    findings: list[Finding] = []
    for variable in RULES:
        told: dict[str, list[str]] = {}
        values: dict[str, Any] = {}
        for host, variables in hosts.items():
            if variable in variables:
                value = plain(variables[variable])
                told.setdefault(repr(value), []).append(host)
                values[repr(value)] = value
        common = max(told, key=lambda text: len(told[text]), default="")
        merged[variable] = values.get(common)
        for text, names in told.items():
            if text == common:
                continue
            findings.extend(
                Finding(
                    "error",
                    name,
                    variable,
                    f"{_shown(text)} here, but {_shown(common)} on {told[common][0]}",
                    "The variable is one for the whole cluster.",
                    f"Set {variable} once for all hosts, in group_vars/all.yml or under [all:vars].",
                )
                for name in names
            )
    return merged, findings


def _shown(text: str) -> str:
    return "not set" if text == "None" else text
