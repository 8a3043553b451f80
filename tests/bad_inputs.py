# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every bad input that we know: what is changed in the lab's inventory, and what the one message must tell of it.

The unit test plans each inventory with the facts that the lab's hosts have; the end-to-end test runs the playbook.
Standard library and PyYAML only: both import it.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

MASTERS = ("master1", "master2", "master3")
HOSTS = (*MASTERS, "node01")


@dataclass(frozen=True)
class BadInput:
    """One thing wrong with the lab's inventory."""

    id: str
    variable: str  # which the message names
    found: str  # what the message tells of the value
    remedy: str  # what the message tells to do
    everywhere: Mapping[str, Any] = field(default_factory=dict)  # variables of all hosts, as in group_vars/all
    hosts: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # variables beside single hosts
    groups: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # members of groups, in place of the lab's two
    ini: str = ""  # lines of an INI inventory beside the lab's own
    where: tuple[str, ...] = ("",)  # the hosts that the message names; '' is the cluster


def everywhere(name: str, variable: str, value: Any, found: str, remedy: str, *where: str, **more: Any) -> BadInput:
    """One variable of all hosts has a bad value."""
    return BadInput(name, variable, found, remedy, {variable: value, **more}, where=where or ("",))


def beside(host: str, name: str, variable: str, value: Any, found: str, remedy: str) -> BadInput:
    """One variable of one host has a bad value."""
    return BadInput(name, variable, found, remedy, hosts={host: {variable: value}}, where=(host,))


def write_inventory(row: BadInput, lab: Path, target: Path) -> Path:
    """A copy of a lab's inventory with the row's change."""
    shutil.copytree(lab, target, symlinks=False)
    path = target / "hosts.yml"
    content: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    members = {name: data or {} for group in content.values() for name, data in group["hosts"].items()}
    for name, variables in row.hosts.items():
        members[name].update(variables)
    groups = row.groups or {name: tuple(group["hosts"]) for name, group in content.items()}
    content = {name: {"hosts": {host: members[host] for host in hosts}} for name, hosts in groups.items()}
    path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    if row.everywhere:
        # The last in the alphabet wins.
        changed = target / "group_vars" / "all" / "zz-bad.yml"
        changed.write_text(yaml.safe_dump(dict(row.everywhere), sort_keys=False), encoding="utf-8")
    if row.ini:
        (target / "zz-bad.ini").write_text(row.ini + "\n", encoding="utf-8")
    return target


SUM = "0123456789abcdef" * 4
TEMPLATE = "{{ nobody_knows_it }}"
FORMS = "Write a network (192.168.253.0/24), a card's name (ens32), an address to reach (192.168.253.1) or auto"
HERE = "192.168.253.0/24 (ens32)"
SAME_FOR_ALL = "once for all hosts"
MAPPING = "Write a mapping"

BAD_INPUTS: list[BadInput] = [
    # --- cluster_network, of all hosts ----------------------------------------------------------------------------
    everywhere(
        "seeds-typo",
        "cluster_network",
        "192.158.253.1",
        "192.158.253.1 is reached only through the default route, 192.168.160.1 on ens33",
        "Set cluster_network: 192.168.253.1 (or 192.168.253.0/24)",
        *HOSTS,
    ),
    everywhere(
        "network-one-digit-off",
        "cluster_network",
        "192.168.235.0/24",
        "inside 192.168.235.0/24",
        "Set cluster_network: 192.168.253.0/24",
        *HOSTS,
    ),
    everywhere(
        "network-of-nobody",
        "cluster_network",
        "10.77.0.0/16",
        f"inside 10.77.0.0/16; the host has {HERE}",
        "Set cluster_network to a network that the host is on",
        *HOSTS,
    ),
    everywhere(
        "network-of-the-other-family",
        "cluster_network",
        "fd00:253::/64",
        "inside fd00:253::/64",
        "Set cluster_network to a network that the host is on",
        *HOSTS,
    ),
    everywhere(
        "second-network-of-a-family-that-the-hosts-have-not",
        "cluster_network",
        "192.168.253.0/24,fd00:253::/64",
        "inside fd00:253::/64",
        "Set cluster_network to a network that the host is on",
        *HOSTS,
    ),
    everywhere(
        "prefix-longer-than-an-address",
        "cluster_network",
        "192.168.253.0/33",
        "'192.168.253.0/33' is not a network",
        FORMS,
        *HOSTS,
    ),
    everywhere(
        "prefix-that-excludes-the-hosts",
        "cluster_network",
        "192.168.253.0/25",
        "inside 192.168.253.0/25",
        "Set cluster_network: 192.168.253.0/24",
        *HOSTS,
    ),
    everywhere("every-network", "cluster_network", "0.0.0.0/0", "'0.0.0.0/0' is every network", FORMS, *HOSTS),
    everywhere(
        "prefix-is-a-word", "cluster_network", "192.168.253.0/x", "'192.168.253.0/x' is not a network", FORMS, *HOSTS
    ),
    everywhere(
        "address-above-255",
        "cluster_network",
        "192.168.253.300",
        "'192.168.253.300' looks like an address",
        FORMS,
        *HOSTS,
    ),
    everywhere(
        "address-of-three-parts", "cluster_network", "192.168.253", "'192.168.253' looks like an address", FORMS, *HOSTS
    ),
    everywhere(
        "address-with-commas",
        "cluster_network",
        "192,168,253,0/24",
        "'192' looks like an address and is none",
        FORMS,
        *HOSTS,
    ),
    everywhere(
        "gateway-of-the-external-network",
        "cluster_network",
        "8.8.8.8",
        "8.8.8.8 is reached only through the default route, 192.168.160.1 on ens33",
        HERE,
        *HOSTS,
    ),
    everywhere(
        "card-with-a-slip",
        "cluster_network",
        "ens322",
        "there is no card 'ens322'; the host has ens32, ens33",
        "Set cluster_network: ens32",
        *HOSTS,
    ),
    everywhere(
        "part-of-a-cards-name",
        "cluster_network",
        "ens3",
        "there is no card 'ens3'; the host has ens32, ens33",
        HERE,
        *HOSTS,
    ),
    everywhere(
        "card-in-capitals",
        "cluster_network",
        "ENS32",
        "there is no card 'ENS32'; the host has ens32, ens33",
        "Set cluster_network: ens32",
        *HOSTS,
    ),
    everywhere(
        "glob-for-a-pattern",
        "cluster_network",
        "ens*2",
        "there is no card 'ens*2'",
        "write cluster_network: ens.*2",
        *HOSTS,
    ),
    everywhere(
        "pattern-of-two-cards", "cluster_network", "ens3.", "the pattern 'ens3.' fits ens32, ens33", HERE, *HOSTS
    ),
    everywhere(
        "pattern-unfinished",
        "cluster_network",
        "ens(32",
        "'ens(32' is neither a card's name nor a pattern",
        FORMS,
        *HOSTS,
    ),
    everywhere("auto-among-others", "cluster_network", ["auto", "ens32"], "'auto' stands alone", FORMS, *HOSTS),
    everywhere(
        "network-is-a-mapping",
        "cluster_network",
        {"cidr": "192.168.253.0/24"},
        "'cidr': '192.168.253.0/24'",
        FORMS,
        *HOSTS,
    ),
    everywhere("network-is-a-boolean", "cluster_network", True, "True is not a text", FORMS, *HOSTS),
    everywhere(
        "loopback-card",
        "cluster_network",
        "lo",
        "lo is up, and has no address that other hosts could use",
        HERE,
        *HOSTS,
    ),
    everywhere(
        "network-template-fails",
        "cluster_network",
        TEMPLATE,
        "'nobody_knows_it' is undefined",
        "Correct the template of cluster_network",
        *HOSTS,
    ),
    everywhere(
        "network-template-has-no-such-filter",
        "cluster_network",
        "{{ 'ens32' | no_such_filter }}",
        "no_such_filter",
        "Correct the template of cluster_network",
        *HOSTS,
    ),
    # --- cluster_network, of one host -----------------------------------------------------------------------------
    beside(
        "node01",
        "one-host-has-no-such-card",
        "cluster_network",
        "ens99",
        "there is no card 'ens99'; the host has ens32, ens33",
        HERE,
    ),
    beside(
        "master2",
        "one-host-has-a-slip",
        "cluster_network",
        "192.168.252.0/24",
        "inside 192.168.252.0/24",
        "Set cluster_network: 192.168.253.0/24",
    ),
    beside(
        "master3",
        "one-host-with-nonsense",
        "cluster_network",
        "192.168.253.0/240",
        "'192.168.253.0/240' is not a network",
        FORMS,
    ),
    beside(
        "node01",
        "one-hosts-template-fails",
        "cluster_network",
        TEMPLATE,
        "'nobody_knows_it' is undefined",
        "Correct the template of cluster_network",
    ),
    BadInput(
        "one-host-on-the-external-network",
        "cni",
        "they are on 2 (192.168.160.0/23: node01; 192.168.253.0/24: master1, master2, master3)",
        "Put all hosts on one network",
        hosts={"node01": {"cluster_network": "ens33"}},
    ),
    # --- the way in and the groups --------------------------------------------------------------------------------
    beside(
        "node01",
        "address-of-nobody",
        "ansible_host",
        "192.168.160.99",
        "192.168.160.99",
        "Check that the host is up, its address, user, key or password",
    ),
    BadInput(
        "two-hosts-one-address",
        "ansible_host",
        "192.168.160.245 is the same machine as",
        "Correct ansible_host",
        hosts={"master2": {"ansible_host": "192.168.160.245"}},
        where=("master2", "master3"),
    ),
    BadInput(
        "no-control-plane",
        "kube_control_plane",
        "group kube_control_plane is empty",
        "Put one host, or better three, into the group kube_control_plane",
        groups={"kube_node": HOSTS},
    ),
    BadInput(
        "control-plane-group-misspelt",
        "kube_control_plane",
        "kube_control_plain holds master1, master2, master3",
        "Rename the group kube_control_plain to kube_control_plane",
        groups={"kube_control_plain": MASTERS, "kube_node": ("node01",)},
    ),
    BadInput(
        "control-plane-group-with-dashes",
        "kube_control_plane",
        "kube-control-plane holds master1",
        "Rename the group kube-control-plane to kube_control_plane",
        groups={"kube-control-plane": MASTERS, "kube_node": ("node01",)},
    ),
    BadInput(
        "node-group-misspelt",
        "kube_node",
        "kube_nodes holds node01",
        "Rename the group kube_nodes to kube_node",
        groups={"kube_control_plane": MASTERS, "kube_nodes": ("node01",)},
    ),
    # --- names of variables ---------------------------------------------------------------------------------------
    BadInput(
        "cluster-network-misspelt",
        "cluster_netwrok",
        "there is no variable cluster_netwrok, only cluster_network",
        "Write cluster_network",
        {"cluster_netwrok": "192.168.253.0/24"},
        where=HOSTS,
    ),
    BadInput(
        "vip-misspelt",
        "apiserver_vp",
        "there is no variable apiserver_vp, only apiserver_vip",
        "Write apiserver_vip",
        {"apiserver_vp": "10.99.0.1"},
        where=HOSTS,
    ),
    BadInput(
        "one-hosts-network-misspelt",
        "cluster_networks",
        "there is no variable cluster_networks, only cluster_network",
        "Write cluster_network",
        hosts={"node01": {"cluster_networks": "ens33"}},
        where=("node01",),
    ),
    # --- the VIP --------------------------------------------------------------------------------------------------
    everywhere(
        "vip-in-the-cluster-network",
        "apiserver_vip",
        "192.168.253.200",
        "192.168.253.200 is inside 192.168.253.0/24 of ens32",
        "outside all of the hosts' networks",
        *HOSTS,
    ),
    everywhere(
        "vip-in-the-external-network",
        "apiserver_vip",
        "192.168.161.7",
        "192.168.161.7 is inside 192.168.160.0/23 of ens33",
        "outside all of the hosts' networks",
        *HOSTS,
    ),
    everywhere(
        "vip-among-the-pods",
        "apiserver_vip",
        "100.64.3.4",
        "100.64.3.4 is inside pod_cidr 100.64.0.0/10",
        "outside 100.64.0.0/10",
    ),
    everywhere(
        "vip-of-the-other-family",
        "apiserver_vip",
        "fd00:97::2",
        "fd00:97::2 is IPv6, but the cluster network is IPv4",
        "Set apiserver_vip to an IPv4 address",
    ),
    everywhere("vip-is-loopback", "apiserver_vip", "127.0.0.1", "'127.0.0.1' is a loopback", "such as 10.103.97.2"),
    everywhere(
        "vip-is-multicast",
        "apiserver_vip",
        "224.0.0.18",
        "'224.0.0.18' is a loopback, link-local, multicast",
        "such as 10.103.97.2",
    ),
    everywhere("vip-is-a-broadcast", "apiserver_vip", "255.255.255.255", "'255.255.255.255'", "such as 10.103.97.2"),
    everywhere(
        "vip-with-a-prefix",
        "apiserver_vip",
        "10.103.97.2/32",
        "'10.103.97.2/32' is not an address",
        "Write a free address",
    ),
    everywhere(
        "vip-is-a-name",
        "apiserver_vip",
        "apiserver.cluster.local",
        "'apiserver.cluster.local' is not an address",
        "Write a free address",
    ),
    everywhere(
        "vip-is-two-of-a-family",
        "apiserver_vip",
        ["10.103.97.2", "10.103.97.3"],
        "10.103.97.2, 10.103.97.3: at most one address per family",
        "one per family",
    ),
    everywhere(
        "vip-of-a-family-that-the-hosts-have-not",
        "apiserver_vip",
        "10.103.97.2,fd00:97::2",
        "fd00:97::2 is IPv6, but the cluster network is IPv4",
        "Set apiserver_vip to an IPv4 address",
    ),
    beside(
        "node01",
        "vip-of-one-host-differs",
        "apiserver_vip",
        "10.103.97.3",
        "'10.103.97.3' here, but not set on master1",
        SAME_FOR_ALL,
    ),
    # --- the API --------------------------------------------------------------------------------------------------
    everywhere(
        "api-name-with-underscore", "apiserver_name", "Api_Server", "'Api_Server' is not a DNS name", "in lower case"
    ),
    everywhere(
        "api-name-ends-with-a-dash",
        "apiserver_name",
        "api-.example",
        "'api-.example' is not a DNS name",
        "in lower case",
    ),
    everywhere(
        "api-name-is-an-address", "apiserver_name", "192.168.253.129", "'192.168.253.129' is an address", "Write a name"
    ),
    everywhere("api-port-out-of-range", "apiserver_port", 65536, "65536 is not a port", "from 1 to 65535"),
    everywhere("api-port-is-a-word", "apiserver_port", "https", "'https' is not a whole number", "from 1 to 65535"),
    everywhere("api-port-of-kubelet", "apiserver_port", 10250, "10250 is the port of kubelet", "6443"),
    beside(
        "master1",
        "api-port-of-the-first-host-differs",
        "apiserver_port",
        7443,
        "7443 here, but not set on master2",
        SAME_FOR_ALL,
    ),
    everywhere(
        "san-with-a-blank",
        "apiserver_extra_sans",
        ["kube example.org"],
        "'kube example.org' is neither an address nor a DNS name",
        "Write a list of addresses and DNS names",
    ),
    everywhere(
        "san-is-a-mapping",
        "apiserver_extra_sans",
        [{"dns": "kube.example.org"}],
        "{'dns': 'kube.example.org'} is not a text",
        "Write a list of addresses and DNS names",
    ),
    everywhere(
        "san-with-a-scheme",
        "apiserver_extra_sans",
        "https://kube.example.org",
        "'https://kube.example.org' is neither",
        "Write a list of addresses and DNS names",
    ),
    everywhere(
        "balancer-unknown",
        "apiserver_balancer",
        "haproxy",
        "'haproxy' is none of ipvs, localhost, external",
        "Write ipvs, localhost or external",
    ),
    everywhere(
        "localhost-and-no-shared-port",
        "apiserver_extra_args",
        {"permit-port-sharing": False},
        "permit-port-sharing is false, and apiserver_balancer is localhost",
        "Leave permit-port-sharing out",
        apiserver_balancer="localhost",
    ),
    everywhere(
        "external-address-is-a-name",
        "apiserver_external_address",
        "balancer.example.org",
        "'balancer.example.org' is not an address",
        "set apiserver_name to the name",
        apiserver_balancer="external",
    ),
    everywhere(
        "external-address-is-loopback",
        "apiserver_external_address",
        "127.0.0.1",
        "'127.0.0.1' is a loopback",
        "Write the balancer's address",
        apiserver_balancer="external",
    ),
    everywhere(
        "external-address-of-a-master",
        "apiserver_external_address",
        "192.168.253.129",
        "192.168.253.129 is this host's own cluster address",
        "Set apiserver_external_address to the balancer's address",
        "master1",
        apiserver_balancer="external",
    ),
    everywhere(
        "external-address-of-a-service",
        "apiserver_external_address",
        "10.96.0.1",
        "10.96.0.1 is inside service_cidr",
        "Set service_cidr",
        apiserver_balancer="external",
    ),
    everywhere(
        "outside-address-is-a-name",
        "apiserver_outside_address",
        "kube.example.org",
        "'kube.example.org' is not an address",
        "Write a free address of a network that all control planes are on",
    ),
    everywhere(
        "outside-address-of-no-network",
        "apiserver_outside_address",
        "198.51.100.250",
        "no card's network holds 198.51.100.250",
        "Set apiserver_outside_address to a free address of a network that all control planes are on, or put this host on it",
        "master1",
        "master2",
        "master3",
    ),
    everywhere(
        "outside-address-of-a-worker",
        "apiserver_outside_address",
        "192.168.160.246",
        "192.168.160.246 is an address of its card ens33",
        "Set apiserver_outside_address to a free address of the outside network",
        "node01",
    ),
    everywhere(
        "outside-router-id-too-large",
        "apiserver_outside_router_id",
        256,
        "256 is not a virtual router id",
        "Write a number from 1 to 255",
    ),
    # --- pods and services ----------------------------------------------------------------------------------------
    everywhere(
        "pods-without-a-prefix",
        "pod_cidr",
        "100.64.0.0",
        "'100.64.0.0' is not a network: it has no prefix length",
        "such as 100.64.0.0/10",
    ),
    everywhere(
        "pods-prefix-too-long",
        "pod_cidr",
        "100.64.0.0/100",
        "'100.64.0.0/100' is not a network",
        "such as 100.64.0.0/10",
    ),
    everywhere(
        "pods-overlap-the-cluster-network",
        "pod_cidr",
        "192.168.253.0/16",
        "192.168.0.0/16 overlaps",
        "Set pod_cidr to a network that no host uses",
        *HOSTS,
    ),
    everywhere(
        "pods-overlap-services",
        "service_cidr",
        "100.64.0.0/16",
        "100.64.0.0/16 overlaps pod_cidr 100.64.0.0/10",
        "networks that do not overlap",
    ),
    everywhere(
        "pods-network-too-small", "pod_cidr", "10.5.0.0/23", "10.5.0.0/23 has room for 2", "such as 100.64.0.0/10"
    ),
    everywhere(
        "pods-network-is-one-hosts", "pod_cidr", "10.5.0.0/25", "10.5.0.0/25 has room for 0", "such as 100.64.0.0/10"
    ),
    everywhere(
        "pods-two-networks-of-a-family",
        "pod_cidr",
        ["10.1.0.0/16", "10.2.0.0/16"],
        "10.1.0.0/16, 10.2.0.0/16: at most one network per family",
        "one per family",
    ),
    everywhere(
        "services-without-a-prefix",
        "service_cidr",
        "10.96.0.0",
        "'10.96.0.0' is not a network: it has no prefix length",
        "such as 10.96.0.0/16",
    ),
    everywhere(
        "services-overlap-the-hosts",
        "service_cidr",
        "192.168.160.0/20",
        "192.168.160.0/20 overlaps 192.168.160.0/23 of ens33",
        "Set service_cidr to a network that no host uses",
        *HOSTS,
    ),
    everywhere(
        "services-too-small", "service_cidr", "10.96.0.0/29", "10.96.0.0/29 has 8 addresses", "such as 10.96.0.0/16"
    ),
    everywhere("services-are-a-number", "service_cidr", 16, "'16' is not a network", "such as 10.96.0.0/16"),
    everywhere(
        "families-differ",
        "service_cidr",
        "fd00:96::/112",
        "fd00:96::/112 is IPv6, but the cluster network is IPv4",
        "Set service_cidr to an IPv4 network",
    ),
    everywhere(
        "pods-of-a-family-that-the-hosts-have-not",
        "pod_cidr",
        "100.64.0.0/10,fd00:64::/48",
        "100.64.0.0/10,fd00:64::/48 is IPv4 and IPv6, but the cluster network is IPv4",
        "Set pod_cidr to an IPv4 network",
    ),
    everywhere(
        "domain-with-a-dot-first", "dns_domain", ".local", "'.local' is not a DNS name", "such as cluster.local"
    ),
    everywhere(
        "domain-in-capitals", "dns_domain", "Cluster.Local", "'Cluster.Local' is not a DNS name", "in lower case"
    ),
    everywhere(
        "cni-unknown", "cni", "flannel", "'flannel' is none of calico, bridge, none", "Write calico, bridge or none"
    ),
    everywhere("cni-the-bundle-lacks", "cni", "calico", "holds no Calico manifest", "set cni: bridge"),
    everywhere("cni-is-a-boolean", "cni", False, "False is not a text", "Write calico, bridge or none"),
    beside("node01", "cni-of-one-host-differs", "cni", "none", "'none' here, but 'bridge' on master1", SAME_FOR_ALL),
    beside(
        "node01",
        "cni-template-of-one-host-fails",
        "cni",
        TEMPLATE,
        "'nobody_knows_it' is undefined",
        "Correct the template of cni",
    ),
    everywhere(
        "cni-template-fails", "cni", TEMPLATE, "'nobody_knows_it' is undefined", "Correct the template of cni", *HOSTS
    ),
    everywhere(
        "encapsulation-unknown",
        "calico_encapsulation",
        "gre",
        "'gre' is none of ipip, vxlan, none",
        "Write ipip, vxlan or none",
    ),
    everywhere(
        "calicos-method-is-a-card",
        "calico_autodetection_method",
        "ens32",
        "'ens32' is none of first-found",
        "interface=^ens32$",
    ),
    everywhere(
        "calicos-address-has-a-slip",
        "calico_autodetection_method",
        "can-reach=192.168.253",
        "can-reach=192.168.253: not an address",
        "Leave it empty",
    ),
    everywhere(
        "kube-proxys-nftables",
        "kube_proxy_mode",
        "nftables",
        "'nftables' is wanted, and Kubernetes v1.20.2 is planned",
        "Write iptables or ipvs",
    ),
    everywhere(
        "kube-proxys-mode-unknown",
        "kube_proxy_mode",
        "IPVS",
        "'IPVS' is none of iptables, ipvs, nftables",
        "Write iptables, ipvs",
    ),
    # --- versions and the bundle ----------------------------------------------------------------------------------
    everywhere(
        "version-too-old",
        "kubernetes_version",
        "v1.18.3",
        "v1.18.3 is not supported: this collection installs v1.19",
        "Write the version as v1.20.2",
    ),
    everywhere(
        "version-the-bundle-lacks",
        "kubernetes_version",
        "v1.21.4",
        "v1.21.4 is wanted, but the bundle",
        "Set kubernetes_version: v1.20.2",
    ),
    everywhere(
        "version-is-a-word",
        "kubernetes_version",
        "latest",
        "'latest' is not a Kubernetes version",
        "Write the version as v1.20.2",
    ),
    everywhere(
        "version-of-two-numbers",
        "kubernetes_version",
        1.2,
        "'1.2' is not a Kubernetes version",
        "Write the version as v1.20.2",
    ),
    everywhere(
        "bundle-of-nobody",
        "bundle",
        "/nowhere/kube.tar.gz",
        "/nowhere/kube.tar.gz, which is no file on the controller",
        "playbooks/bundle.yml builds one",
    ),
    everywhere(
        "bundle-is-no-archive",
        "bundle",
        "{{ inventory_dir }}/hosts.yml",
        "hosts.yml is no tar.gz archive",
        "playbooks/bundle.yml builds one",
        bundle_sha256=SUM,
    ),
    everywhere(
        "bundle-is-a-list", "bundle", ["/root/kube.tar.gz"], "['/root/kube.tar.gz'] is not a text", "Write the path"
    ),
    BadInput(
        "bundle-is-empty",
        "bundle",
        "it is not set",
        "Set bundle to the archive's path or address",
        {"bundle": "", "kubernetes_version": "v1.20.2"},
    ),
    BadInput(
        "bundle-and-version-are-empty",
        "kubernetes_version",
        "it is empty, and no bundle tells it",
        "Set bundle",
        {"bundle": ""},
    ),
    BadInput(
        "bundle-of-an-address-without-a-sum",
        "bundle_sha256",
        "http://127.0.0.1:9/kube.tar.gz, so bundle_sha256 must be set too",
        "Set bundle_sha256 to what sha256sum prints",
        {"bundle": "http://127.0.0.1:9/kube.tar.gz"},
    ),
    everywhere(
        "bundle-of-an-address-that-is-silent",
        "bundle",
        "http://127.0.0.1:9/kube.tar.gz",
        "http://127.0.0.1:9/kube.tar.gz could not be downloaded",
        "address",
        bundle_sha256=SUM,
    ),
    everywhere("sum-of-another-bundle", "bundle_sha256", SUM, f"but {SUM} is expected", "Fetch the bundle again"),
    everywhere(
        "sum-too-short", "bundle_sha256", SUM[:63], f"'{SUM[:63]}' is not a SHA-256 sum", "64 hexadecimal digits"
    ),
    everywhere(
        "registry-is-an-address-with-scheme",
        "image_repository",
        "https://registry.example.org",
        "'https://registry.example.org' is not a registry",
        "Write a registry's name",
    ),
    everywhere(
        "registry-in-capitals",
        "image_repository",
        "registry.example/K8s",
        "'registry.example/K8s' is not a registry",
        "Write a registry's name",
    ),
    # --- time -----------------------------------------------------------------------------------------------------
    everywhere(
        "time-server-with-a-blank",
        "time_servers",
        ["ntp example.org"],
        "'ntp example.org' is neither an address nor a DNS name",
        "names of time servers",
    ),
    everywhere(
        "time-server-with-options",
        "time_servers",
        "server ntp.example.org iburst",
        "'server ntp.example.org iburst' is neither",
        "names of time servers",
    ),
    everywhere("time-servers-are-a-boolean", "time_servers", True, "True is not a text", "names of time servers"),
    everywhere("tolerance-of-nothing", "clock_tolerance_seconds", 0, "0 is not above zero", "such as 2"),
    everywhere("tolerance-is-a-word", "clock_tolerance_seconds", "2s", "'2s' is not a number", "such as 2"),
    BadInput(
        "tolerance-is-an-ini-boolean",
        "clock_tolerance_seconds",
        "True is not a number",
        "such as 2",
        ini="[all:vars]\nclock_tolerance_seconds=True",
    ),
    # --- the components -------------------------------------------------------------------------------------------
    everywhere(
        "kubelets-field-misspelt",
        "kubelet_config",
        {"maxPod": 5},
        "kubelet_config.maxPod: not a field of KubeletConfiguration",
        "did you mean 'maxPods'?",
    ),
    everywhere(
        "kubelets-number-is-a-text",
        "kubelet_config",
        {"maxPods": "many"},
        "kubelet_config.maxPods: the string 'many' where a whole number belongs",
        "Correct kubelet_config.maxPods: write a whole number",
    ),
    everywhere(
        "kubelets-list-is-a-text",
        "kubelet_config",
        {"clusterDNS": "10.96.0.10"},
        "kubelet_config.clusterDNS: the string '10.96.0.10' where a list belongs",
        "Correct kubelet_config.clusterDNS: write a list",
    ),
    everywhere("kubelets-settings-are-a-text", "kubelet_config", "maxPods=5", "'maxPods=5' is not a mapping", MAPPING),
    BadInput(
        "kubelets-settings-are-an-ini-text",
        "kubelet_config",
        "'maxPods: 5' is not a mapping",
        MAPPING,
        ini="[all:vars]\nkubelet_config=maxPods: 5",
    ),
    everywhere(
        "kube-proxys-field-misspelt",
        "kube_proxy_config",
        {"conntrak": {}},
        "kube_proxy_config.conntrak: not a field of KubeProxyConfiguration",
        "did you mean 'conntrack'?",
    ),
    everywhere(
        "kube-proxys-number-is-a-text",
        "kube_proxy_config",
        {"conntrack": {"maxPerCore": "0"}},
        "kube_proxy_config.conntrack.maxPerCore: the string '0' where a whole number belongs",
        "Correct kube_proxy_config.conntrack.maxPerCore: write a whole number",
    ),
    everywhere(
        "etcds-flag-with-dashes", "etcd_extra_args", {"--snapshot-count": "100"}, "--snapshot-count", "without dashes"
    ),
    everywhere(
        "etcds-flag-differs-by-host",
        "etcd_extra_args",
        {"listen-client-urls": "https://192.168.253.129:2379"},
        "etcd_extra_args.listen-client-urls: differs from host to host",
        "leave it out",
    ),
    everywhere(
        "apiservers-anonymous-auth",
        "apiserver_extra_args",
        {"anonymous-auth": False},
        "apiserver_extra_args.anonymous-auth: is off",
        "leave it out",
    ),
    everywhere("apiservers-flags-are-a-list", "apiserver_extra_args", ["v=2"], "['v=2'] is not a mapping", MAPPING),
    everywhere("schedulers-flag-is-a-list", "scheduler_extra_args", {"v": [1, 2]}, "v: [1, 2]", "without dashes"),
    everywhere(
        "controller-managers-flag-is-empty",
        "controller_manager_extra_args",
        {"node-cidr-mask-size": None},
        "node-cidr-mask-size: None",
        "without dashes",
    ),
    everywhere(
        "pods-of-another-family",
        "pod_cidr",
        "fd00:64::/48",
        "fd00:64::/48 is IPv6, but the cluster network is IPv4",
        "Set pod_cidr to an IPv4 network",
    ),
    everywhere(
        "ignored-checks-are-a-mapping",
        "kubeadm_ignore_preflight_errors",
        {"NumCPU": True},
        "{'NumCPU': True} is not a text",
        "such as [NumCPU, Mem]",
    ),
    everywhere(
        "ignored-check-is-a-sentence",
        "kubeadm_ignore_preflight_errors",
        ["number of CPUs"],
        "'number of CPUs' is not the name of a check",
        "such as [NumCPU, Mem]",
    ),
]


def of_six(name: str, variable: str, value: Any, found: str, remedy: str, *where: str) -> BadInput:
    """One variable of all hosts has a bad value, in a cluster whose network is IPv6."""
    more = {} if variable == "cluster_network" else {"cluster_network": SIX}
    return everywhere(name, variable, value, found, remedy, *where, **more)


SIX = "fd00:253::/64"
HERE_SIX = "192.168.253.0/24 (ens32), fd00:253::/64 (ens32)"
# For hosts that have an IPv6 address beside the IPv4 one on ens32; the lab's own hosts have none.
BAD_INPUTS_OF_SIX: list[BadInput] = [
    of_six(
        "typo", "cluster_network", "fd00:235::/64", f"the host has {HERE_SIX}", f"Set cluster_network: {SIX}", *HOSTS
    ),
    of_six(
        "typo-in-a-target", "cluster_network", "fd00:235::1", "to fd00:235::1", "fd00:253::1 (or fd00:253::/64)", *HOSTS
    ),
    of_six("link-local", "cluster_network", "fe80::/64", f"inside fe80::/64; the host has {HERE_SIX}", "is on", *HOSTS),
    of_six("three-colons", "cluster_network", "fd00:253:::1", "'fd00:253:::1' looks like an address", FORMS, *HOSTS),
    of_six("vip-of-ipv4", "apiserver_vip", "10.103.97.2", "10.103.97.2 is IPv4", "to an IPv6 address"),
    of_six(
        "vip-in-the-network",
        "apiserver_vip",
        "fd00:253::99",
        "fd00:253::99 is inside fd00:253::/64 of ens32",
        "such as fd00:10:103:97::2",
        *HOSTS,
    ),
    of_six("vip-is-multicast", "apiserver_vip", "ff02::1", "'ff02::1' is a loopback, link-local, multicast", "free"),
    of_six("vip-is-link-local", "apiserver_vip", "fe80::1", "'fe80::1' is a loopback, link-local", "a free address"),
    of_six("vip-is-none", "apiserver_vip", "fd00:97::2::3", "'fd00:97::2::3' is not an address", "a free address"),
    of_six(
        "two-vips-of-ipv6",
        "apiserver_vip",
        "fd00:97::2,fd00:97::3",
        "fd00:97::2, fd00:97::3: at most one",
        "one per family",
    ),
    of_six("pods-of-ipv4", "pod_cidr", "100.64.0.0/10", "100.64.0.0/10 is IPv4", "Set pod_cidr to an IPv6 network"),
    of_six(
        "pods-on-the-hosts", "pod_cidr", "fd00:253::/56", "fd00:253::/56 overlaps fd00:253::/64", "no host uses", *HOSTS
    ),
    of_six(
        "pods-for-two-nodes", "pod_cidr", "fd00:64::/63", "room for 2 nodes' /64 networks", "such as fd00:100:64::/48"
    ),
    of_six("services-of-ipv4", "service_cidr", "10.96.0.0/16", "10.96.0.0/16 is IPv4", "to an IPv6 network"),
    of_six(
        "services-too-many", "service_cidr", "fd00:96::/64", "fd00:96::/64 has 18446744073709551616", "fd00:10:96::/112"
    ),
    of_six(
        "services-among-the-pods",
        "service_cidr",
        "fd00:100:64::/112",
        "overlaps pod_cidr fd00:100:64::/48",
        "do not overlap",
    ),
    of_six("services-on-the-hosts", "service_cidr", "fd00:253::/112", "overlaps fd00:253::/64", "no host uses", *HOSTS),
    of_six("time-server", "time_servers", ["fd00::zz"], "'fd00::zz' is neither an address nor a DNS name", "addresses"),
    of_six(
        "name-in-the-certificate", "apiserver_extra_sans", ["fd00::zz"], "'fd00::zz' is neither", "addresses and DNS"
    ),
]
