# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The plan: from all hosts' facts and the inventory's variables to every address the cluster will use.

This module util is PRIVATE to the collection. It is pure: no I/O, no Ansible, standard library only. The same input
gives the same plan, in whatever order the hosts come, and everything wrong with it is found at once.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from itertools import product
from typing import Any, Optional

from ansible_collections.multinic.kubernetes.plugins.module_utils import (
    _calico,
    _cni,
    _kubeadm,
    _plan_balancer,
    _plan_outside,
    _select,
    _versions,
)
from ansible_collections.multinic.kubernetes.plugins.module_utils._balancer import KERNEL_MODULES as BALANCER_MODULES
from ansible_collections.multinic.kubernetes.plugins.module_utils._balancer_modes import CA, CA_REMEDY
from ansible_collections.multinic.kubernetes.plugins.module_utils._calico_predict import with_cards_to_come
from ansible_collections.multinic.kubernetes.plugins.module_utils._facts import source_name
from ansible_collections.multinic.kubernetes.plugins.module_utils._findings import Finding, Findings, ordered
from ansible_collections.multinic.kubernetes.plugins.module_utils._net import (
    HostNetwork,
    IPAddress,
    IPNetwork,
    Link,
    as_address,
    group_by,
    plain,
)
from ansible_collections.multinic.kubernetes.plugins.module_utils._settings import (
    DEFAULT_PODS,
    DEFAULT_SERVICES,
    DEFAULT_VIP,
    DNS_LABEL,
    DNS_NAME,
    RULES,
    Settings,
    read_settings,
)

SCHEMA = 1
CONTROL_PLANE, WORKER = "control_plane", "worker"
TIME_SERVING = 3
DNS_POSITION = 10
NODE_PREFIX = {4: 24, 6: 64}
WIDEST_PER_NODE = 16
SINCE_DUAL_STACK = (1, 20)
SMALLEST_SERVICES = 16
IPV6_SERVICE_BITS = 20
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "ppc64le": "ppc64le", "s390x": "s390x", "armv7l": "arm"}
# What must be there already on a distribution for which the bundle holds no packages.
COMMANDS = (
    *("containerd", "ctr", "runc", "chronyd", "keepalived", "ipvsadm"),
    *("iptables", "ipset", "conntrack", "ethtool", "socat", "ip", "tc", "mount", "modprobe"),
)
# Calico brings its own network plugins; another CNI of the user's own brings all but the one that containerd itself uses.
CNI_PLUGINS = {"calico": (), "bridge": ("bridge", "host-local", "loopback", "portmap"), "none": ("loopback",)}
# kube-proxy loads those of the schedulers that it may be told to use.
# A kernel may have nf_tables and yet no chains that translate addresses.
NFTABLES_PROXY_MODULES = ("nf_tables", "nft_chain_nat")
IPVS_PROXY_MODULES = ("ip_vs", "ip_vs_rr", "ip_vs_wrr", "ip_vs_sh")
NO_UUID = re.compile(r"|(0{8}|f{8})-.*|03000200-0400-0500-0006-000700080009|not (settable|specified|present)")


@dataclass(frozen=True)
class Host:
    """One host of the inventory, as the plan needs it."""

    name: str
    position: int
    control_plane: bool
    worker: bool
    facts: Optional[Mapping[str, Any]]
    trouble: str = ""
    cluster_network: Any = None
    in_run: bool = True
    ansible_host: str = ""
    explained: bool = False  # why it has no facts is told already
    outside_network: Any = None


@dataclass(frozen=True)
class Bundle:
    """What the controller knows of the bundle."""

    path: str = ""
    manifest: Optional[Mapping[str, Any]] = None
    sha256: str = ""
    expected_sha256: str = ""
    trouble: str = ""
    variable: str = "bundle"  # the one whose value is the trouble
    remedy: str = "Set bundle to the archive's path or address; playbooks/bundle.yml builds one."


@dataclass(frozen=True)
class NodePlan:
    node_name: str
    role: str
    schedulable: bool
    interface: str
    address: str
    addresses: list[str]
    prefix: int
    network: str
    networks: list[str]  # of the addresses, in their order
    mtu: int
    vip_route: dict[str, str]  # the first of them
    vip_routes: list[dict[str, str]]
    sysctls: dict[str, str]  # what this host alone needs
    firewall: str
    reasons: list[str]


@dataclass(frozen=True)
class ClusterPlan:
    schema: int
    kubernetes_version: str
    bundle: dict[str, Any]
    apiserver: dict[str, Any]
    pod_cidr: str
    service_cidr: str
    dns_domain: str
    dns_address: str
    control_plane: list[str]
    workers: list[str]
    first_control_plane: str
    kernel_modules: list[str]
    needs: dict[str, list[str]]
    ignore_preflight_errors: list[str]
    cni: dict[str, Any]
    kube_proxy: dict[str, Any]
    hosts_file: list[dict[str, Any]]
    time: dict[str, Any]
    reasons: list[str]
    hosts: dict[str, NodePlan]


@dataclass(frozen=True)
class Result:
    """The plan, as far as it could be made, and all that was found on the way."""

    plan: dict[str, Any]
    findings: list[Finding]

    @property
    def sound(self) -> bool:
        return not any(finding.severity == "error" for finding in self.findings)


@dataclass
class _Node:
    """A host on its way to a NodePlan."""

    host: Host
    facts: Mapping[str, Any]
    network: HostNetwork
    choices: tuple[_select.Choice, ...] = ()
    reasons: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        return self.host.name

    @property
    def choice(self) -> _select.Choice:
        return self.choices[0]

    @property
    def families(self) -> tuple[int, ...]:
        return tuple(choice.address.family for choice in self.choices)

    def address_of(self, family: int) -> Optional[IPAddress]:
        return next((choice.address.ip for choice in self.choices if choice.address.family == family), None)

    def fact(self, *path: str) -> Any:
        value: Any = self.facts
        for key in path:
            value = value.get(key) if isinstance(value, Mapping) else None
        return value

    @property
    def member(self) -> bool:
        return bool(self.fact("kubernetes", "member"))

    @property
    def ours(self) -> bool:
        """Whether this collection made it a member, or began to."""
        return self.member or bool(self.fact("kubernetes", "ours"))

    @property
    def node_name(self) -> str:
        return str(self.fact("kubernetes", "node_name") or self.fact("identity", "hostname") or self.name).lower()


def plan_cluster(
    hosts: Iterable[Host],
    settings: Mapping[str, Any],
    bundle: Optional[Bundle] = None,
    doubtful: Iterable[str] = (),
    *,
    running: bool = False,
) -> Result:
    """Plan the whole cluster. Never raises for bad input: what is wrong with it is in the findings.

    doubtful names variables about whose values the caller has told something already. For them, as for those that have
    a wrong value, something else stands in, and nothing is said about that.

    Of a cluster that is ``running`` only the addresses are planned, whoever installed it: what would stand in the way of
    an installation is not told.
    """
    found = Findings()
    install = Findings() if running else found
    wishes, wrong = read_settings(settings)
    stand_ins = frozenset([*doubtful, *(finding.variable for finding in wrong)])
    if "cni" in stand_ins:
        wishes = replace(wishes, cni="none")
    inventory = sorted(hosts, key=lambda host: (host.position, host.name))
    _check_groups(inventory, found)
    version = _check_bundle(wishes, bundle, stand_ins, install)
    nodes = _nodes(inventory, found)
    reasons = _choose(nodes, wishes, found)
    families = _families(nodes, found)
    # Of a cluster that is there already neither the VIP nor the CIDRs are told by the inventory.
    _check_families(families, wishes, install)
    given, wishes = wishes, wishes.in_families(families or (4,))
    reasons += _default_reasons(given, wishes)
    _check_dual_stack(families, version, install)
    _check_proxy_mode(wishes, version, install)
    _check_settings(wishes, len(inventory), stand_ins, found)
    _check_bundle_has_calico(wishes, bundle, install)
    _plan_balancer.check_way(
        {node.name: node.facts for node in nodes},
        wishes,
        version,
        (bundle.manifest if bundle else None) or {},
        {node.name: [str(choice.address.ip) for choice in node.choices] for node in nodes},
        install,
    )
    outside = _plan_outside.plan_outside(_seats(nodes), {node.name: node.network for node in nodes}, wishes, found)
    distinct = _check_twins(nodes, found)
    _check_identity(distinct, wishes, bundle, found)
    # The VIP and the CIDRs are the inventory's: of a cluster that something else made they tell nothing.
    _check_networks([node for node in distinct if node.ours or not running], wishes, bundle, found)
    for check in (_check_members, _check_bundle_fits, _check_image_names):
        check(distinct, wishes, bundle, install)
    _check_member_versions(distinct, version, install)
    _check_member_families(distinct, install)
    _check_member_authority(distinct, found)
    chosen = [node for node in nodes if node.choices]
    _check_cards([node for node in distinct if node.choices], found)
    made = _assemble(inventory, chosen, reasons, outside, wishes=wishes, version=version, bundle=bundle, found=found)
    plan = plain(asdict(made)) if made else {}
    _check_limit(plan, chosen, install)
    _check_bridge(plan, install)
    _check_configuration(plan, version, wishes, install)
    mine = [finding for finding in found.items if finding.variable not in stand_ins]
    all_found = [*wrong, *mine]
    if running:
        # Which address Calico has taken is seen on the hosts; a method is not needed any more.
        all_found = [item for item in all_found if item.variable != "calico_autodetection_method"]
    return Result(plan, ordered(all_found))


# ---------------------------------------------------------------------------------------------------------------------
# What the inventory says
# ---------------------------------------------------------------------------------------------------------------------


def _check_groups(inventory: Sequence[Host], found: Findings) -> None:
    masters = [host.name for host in inventory if host.control_plane]
    if not masters:
        found.error(
            "",
            "kube_control_plane",
            "the inventory's group kube_control_plane is empty",
            "A cluster needs at least one control-plane host.",
            "Put one host, or better three, into the group kube_control_plane.",
        )
    elif len(masters) % 2 == 0:
        found.warning(
            "",
            "kube_control_plane",
            f"{len(masters)} control-plane hosts: {', '.join(masters)}",
            f"etcd needs a majority: {len(masters)} hosts bear the loss of no more hosts than {len(masters) - 1} do.",
            "Use an odd number: 1, 3 or 5.",
        )


def _nodes(inventory: Sequence[Host], found: Findings) -> list[_Node]:
    nodes = []
    for host in inventory:
        if host.facts is None:
            if host.explained:
                continue
            found.error(
                host.name,
                "ansible_host",
                host.trouble or "there are no facts of this host",
                "Nothing can be planned for a host that cannot be looked at."
                + ("" if host.in_run else " The plan is the whole cluster's, also in a run that is limited to others."),
                "Check that the host is up, its address, user, key or password and sudo, and that Python 3.9 or newer is "
                "there" + ("." if host.in_run else "; or take it out of the inventory, if it is gone."),
            )
            continue
        try:
            network = HostNetwork.from_facts(host.facts)
        except (ValueError, KeyError, TypeError, AttributeError) as problem:
            found.error(
                host.name,
                "",
                f"the host's network facts cannot be read: {type(problem).__name__}: {problem}",
                "The plan is made from these facts.",
                "Run again; if it stays so, please report it with the output of `ip -j -d address`.",
            )
            continue
        node = _Node(host, host.facts, network)
        if _has_ip(node, found):
            nodes.append(node)
    return nodes


def _has_ip(node: _Node, found: Findings) -> bool:
    problems = [item for item in node.fact("problems") or () if str(item.get("what", "")).startswith("ip ")]
    if not problems or node.network.links:
        return True
    found.error(
        node.name,
        "",
        f"{problems[0].get('what')}: {problems[0].get('why')}",
        "Cards and routes are read with iproute2's ip, whose JSON output needs version 4.14 or newer.",
        "Install the package iproute2 (Debian, Ubuntu) or iproute (Red Hat).",
    )
    return False


def _check_settings(wishes: Settings, hosts: int, stand_ins: Collection[str], found: Findings) -> None:
    """Values that are right alone and wrong together."""
    both = not {"pod_cidr", "service_cidr"} & set(stand_ins)
    for left, right in _pairs(wishes.pod_cidr, wishes.service_cidr) if both else ():
        found.error(
            "",
            "service_cidr",
            f"{right} overlaps pod_cidr {left}",
            "An address would belong to a pod and to a service at once.",
            "Set pod_cidr and service_cidr to networks that do not overlap.",
        )
    for variable, networks, tell in (
        ("pod_cidr", wishes.pod_cidr, found.error),
        ("service_cidr", wishes.service_cidr, found.warning),
    ):
        for network, vip in product(networks, wishes.apiserver_vip):
            if vip in network and variable not in stand_ins:
                tell(
                    "",
                    "apiserver_vip",
                    f"{vip} is inside {variable} {network}",
                    "A pod or a service could get the address by which every node reaches the API.",
                    f"Set apiserver_vip to a free address outside {network}, or {variable} to a network without it.",
                )
    for network in wishes.pod_cidr:
        room = NODE_PREFIX[network.version] - network.prefixlen
        if not 0 <= room <= WIDEST_PER_NODE or 2 ** max(room, 0) < hosts:
            found.error(
                "",
                "pod_cidr",
                f"{network} has room for {2**room if room >= 0 else 0} nodes' /{NODE_PREFIX[network.version]} networks",
                f"Each of the {hosts} nodes gets one of its own, and the controller manager takes at most "
                f"2^{WIDEST_PER_NODE}.",
                f"Set pod_cidr to a network such as {DEFAULT_PODS[network.version]}.",
            )
    for network in wishes.service_cidr:
        if network.num_addresses < SMALLEST_SERVICES or network.max_prefixlen - network.prefixlen > IPV6_SERVICE_BITS:
            found.error(
                "",
                "service_cidr",
                f"{network} has {network.num_addresses} addresses",
                f"The apiserver takes at most 2^{IPV6_SERVICE_BITS}, and cluster DNS gets number {DNS_POSITION}.",
                f"Set service_cidr to a network such as {DEFAULT_SERVICES[network.version]}.",
            )


def _check_bundle(wishes: Settings, bundle: Optional[Bundle], stand_ins: Collection[str], found: Findings) -> str:
    """The Kubernetes version to install."""
    told = not {"bundle", "bundle_sha256"}.isdisjoint(stand_ins)
    why = "Everything that is installed comes from the bundle."
    if bundle is not None and bundle.trouble and not told:
        found.error("", bundle.variable, bundle.trouble, why, bundle.remedy)
    if bundle is not None and bundle.expected_sha256 and bundle.sha256 and bundle.sha256 != bundle.expected_sha256:
        found.error(
            "",
            "bundle_sha256",
            f"{bundle.path} has the sum {bundle.sha256}, but {bundle.expected_sha256} is expected",
            "The archive is not the one that was meant, or it is damaged. Nothing of it is unpacked.",
            "Fetch the bundle again, or set bundle_sha256 to the sum that its maker tells.",
        )
    manifest = (bundle.manifest if bundle else None) or {}
    held = str(manifest.get("kubernetes_version") or "")
    if held:
        try:
            held = str(_versions.parse_supported(held))
        except ValueError as problem:
            found.error(
                "",
                "bundle",
                f"its manifest says: {problem}",
                "This version cannot be installed.",
                "Use another bundle.",
            )
            held = ""
    wanted = wishes.kubernetes_version
    if wanted and held and wanted != held:
        found.error(
            "",
            "kubernetes_version",
            f"{wanted} is wanted, but the bundle {bundle.path if bundle else ''} holds {held}",
            "A bundle holds one version.",
            f"Set kubernetes_version: {held}, leave it empty, or give the bundle of {wanted}.",
        )
    if not wanted and not held and not told and (bundle is None or not bundle.trouble):
        found.error(
            "",
            "kubernetes_version",
            "it is empty, and no bundle tells it",
            "The plan depends on the version.",
            "Set bundle (then the version is the bundle's) or kubernetes_version.",
        )
    return wanted or held


# ---------------------------------------------------------------------------------------------------------------------
# The choice
# ---------------------------------------------------------------------------------------------------------------------


def _choose(nodes: Sequence[_Node], wishes: Settings, found: Findings) -> list[str]:
    """Choose card and address of each host; returns the reasons that are the whole cluster's."""
    selectors: dict[str, tuple[_select.Selector, ...]] = {}
    wrong: dict[str, str] = {}
    for node in nodes:
        value = plain(node.host.cluster_network)
        key = repr(value)
        if key not in selectors:
            try:
                selectors[key] = _select.parse_selectors(value)
            except ValueError as problem:
                selectors[key], wrong[key] = (), str(problem)
        if key in wrong:
            found.error(
                node.name,
                "cluster_network",
                wrong[key],
                "It says which network is the cluster's.",
                "Write a network (192.168.253.0/24), a card's name (ens32), an address to reach (192.168.253.1) or "
                "auto, also per host.",
            )
    automatic = [
        node for node in nodes if any(item.kind == "auto" for item in selectors[repr(plain(node.host.cluster_network))])
    ]
    vips = wishes.apiserver_vip or tuple(filter(None, map(as_address, DEFAULT_VIP.values())))
    common = _select.common_network({node.name: node.network for node in automatic}, vips) if automatic else None
    for node in nodes:
        mine = selectors[repr(plain(node.host.cluster_network))]
        if not mine:
            continue
        try:
            node.choices = _select.choose(node.network, mine, vips, common)
        except _select.SelectionError as problem:
            found.error(node.name, "cluster_network", problem.found, problem.why, problem.remedy)
            continue
        for missed in _select.not_found(node.network, mine, vips, common, node.choices):
            found.error(node.name, "cluster_network", missed.found, missed.why, missed.remedy)
        for choice in node.choices:
            node.reasons.append(choice.reason)
            for told, why, remedy in choice.doubts:
                found.warning(node.name, "cluster_network", told, why, remedy)
    if common and common.equals:
        found.warning(
            "",
            "cluster_network",
            f"auto finds no difference between {common.network} and {', '.join(map(str, common.equals))}",
            "Neither the default route nor link speed nor MTU tells which of them is meant, so the lowest address decides.",
            f"Name the network: cluster_network: {common.equals[0]}, or {common.network}.",
        )
    return [common.reason] if common and common.network else []


def _families(nodes: Sequence[_Node], found: Findings) -> tuple[int, ...]:
    """The families of the cluster network, the primary one first, and every host's choices in that order.

    They are those of most hosts. None: no host has a cluster address.
    """
    chosen = [node for node in nodes if node.choices]
    if not chosen:
        return ()
    usual = Counter(frozenset(node.families) for node in chosen).most_common(1)[0][0]
    first = next(node for node in chosen if frozenset(node.families) == usual)
    families = first.families
    for node in chosen:
        node.choices = tuple(sorted(node.choices, key=lambda choice: [*families, 4, 6].index(choice.address.family)))
        if frozenset(node.families) != usual:
            mine = ", ".join(str(choice.address.ip) for choice in node.choices)
            found.error(
                node.name,
                "cluster_network",
                f"its cluster address {mine} is {_named(node.families)}, but {_named(families)} on {first.name}",
                "Every node needs an address of each family that the cluster has, and of no other.",
                f"Give {node.name} an address of each family on the cluster network, or set cluster_network to networks "
                "of the families that all hosts have.",
            )
        cards = list(dict.fromkeys(choice.link.name for choice in node.choices))
        if len(cards) > 1:
            found.error(
                node.name,
                "cluster_network",
                "its cluster addresses are on two cards: "
                + ", ".join(f"{choice.address.ip} on {choice.link.name}" for choice in node.choices),
                "The cluster has one card on each host, which pods' routes, MTU and firewall follow.",
                "Put both addresses on one card, or set cluster_network to one network alone.",
            )
    return families


def _check_families(families: Sequence[int], wishes: Settings, found: Findings) -> None:
    """What the user gave for one family, and the cluster network is of another."""
    told = _named(families)
    hosts = f"the cluster network is {told}"
    for variable, networks in (("pod_cidr", wishes.pod_cidr), ("service_cidr", wishes.service_cidr)):
        having = {network.version for network in networks}
        if families and networks and having != set(families):
            wanted = f"{'an' if len(families) == 1 else 'one'} {told} network" + (" each" if len(families) > 1 else "")
            found.error(
                "",
                variable,
                f"{_joined(networks)} is {_named(sorted(having))}, but {hosts}",
                "Pods and services have addresses of the families that the nodes have, each of them.",
                f"Set {variable} to {wanted}, leave it empty, or set cluster_network to networks of these families.",
            )
    for vip in wishes.apiserver_vip:
        if families and vip.version not in families:
            found.error(
                "",
                "apiserver_vip",
                f"{vip} is IPv{vip.version}, but {hosts}",
                "The VIP's route has the cluster address as its source, so both are of one family.",
                f"Set apiserver_vip to an {' or '.join(f'IPv{family}' for family in families)} address, or leave it empty.",
            )


def _check_proxy_mode(wishes: Settings, version: str, found: Findings) -> None:
    if wishes.kube_proxy_mode == "nftables" and version and not _versions.has_nftables_proxy(_versions.parse(version)):
        found.error(
            "",
            "kube_proxy_mode",
            f"'nftables' is wanted, and Kubernetes {version} is planned",
            "kube-proxy has this mode from Kubernetes 1.29 on; an older one would not start.",
            "Write iptables or ipvs, or give the bundle of a newer Kubernetes.",
        )


def _check_dual_stack(families: Sequence[int], version: str, found: Findings) -> None:
    """kubelet takes two addresses from 1.20 on (cmd/kubelet/app/server.go)."""
    if len(families) > 1 and version and not _versions.parse(version).at_least(*SINCE_DUAL_STACK):
        found.error(
            "",
            "cluster_network",
            f"the cluster network is {_named(families)}, and the bundle holds Kubernetes {version}",
            "kubelet takes an address of each family from 1.20 on.",
            "Use a bundle with Kubernetes 1.20 or newer, or set cluster_network to one network alone.",
        )


def _default_reasons(given: Settings, wishes: Settings) -> list[str]:
    """Which IPv6 addresses are taken where the user gave none."""
    return [
        f"{variable} is not set, so {what} {_joined(getattr(wishes, variable))}, by the families of the cluster network."
        for variable, what in (
            ("apiserver_vip", "the API is reached at"),
            ("pod_cidr", "pods get addresses of"),
            ("service_cidr", "services get addresses of"),
        )
        if not getattr(given, variable)
        and any(item.version == 6 for item in getattr(wishes, variable))
        and (variable != "apiserver_vip" or wishes.apiserver_balancer == "ipvs")
    ]


def _named(families: Iterable[int]) -> str:
    return " and ".join(f"IPv{family}" for family in families)


def _check_cards(nodes: Sequence[_Node], found: Findings) -> None:
    fastest = max((node.choice.link.speed_mbps or 0 for node in nodes), default=0)
    largest = max((node.choice.link.mtu for node in nodes), default=0)
    for node in nodes:
        link, address = node.choice.link, node.choice.address
        if not link.works:
            found.error(
                node.name,
                "cluster_network",
                f"{link.name} ({address.ip}) is {'without a carrier' if link.up else 'down'}",
                "The cluster's card must have a link.",
                f"Bring it up (ip link set {link.name} up), check cable and switch, or choose another network.",
            )
        for fleeting in (choice.address.ip for choice in node.choices if choice.address.fleeting):
            found.warning(
                node.name,
                "cluster_network",
                f"{fleeting} of {link.name} comes from router advertisements or DHCP",
                "It is gone while the link is down, may come back as another, and a node keeps the address that it joined with.",
                "Configure an address of the host's own on that card; it is preferred to this one.",
            )
        if link.mtu < largest:
            found.warning(
                node.name,
                "cluster_network",
                f"{link.name} has an MTU of {link.mtu}, the largest on this network is {largest}",
                "Hosts of one network with different MTUs lose large packets without a word.",
                "Give all cluster cards the same MTU. Until then the pods' MTU follows the smallest.",
            )
        if link.speed_mbps and link.speed_mbps < fastest:
            found.warning(
                node.name,
                "cluster_network",
                f"{link.name} runs at {link.speed_mbps} Mbit/s, others at {fastest}",
                "One slow card slows etcd and all transfers.",
                "Check cable, switch port and negotiation (ethtool), or whether it is the card you mean.",
            )
        if link.duplex == "half":
            found.warning(
                node.name,
                "cluster_network",
                f"{link.name} runs at half duplex",
                "It loses packets under load.",
                "Let both ends negotiate, or set both to full duplex.",
            )
    for address_text, names in group_by(
        (str(choice.address.ip), node.name) for node in nodes for choice in node.choices
    ).items():
        if len(names) > 1:
            for name in names:
                found.error(
                    name,
                    "cluster_network",
                    f"its cluster address {address_text} is also that of {_others(names, name)}",
                    "Two hosts with one address cannot both be reached.",
                    "Give each host an address of its own, or check whether the inventory names one host twice.",
                )
    owners = {choice.address.ip: node.name for node in nodes for choice in node.choices}
    for node in nodes:
        own = {choice.address.ip for choice in node.choices}
        for link, address in node.network.addresses():
            owner = owners.get(address.ip, node.name)
            if owner != node.name and address.ip not in own:
                found.error(
                    node.name,
                    "cluster_network",
                    f"{address.ip}, the cluster address of {owner}, is also on its {link.name}",
                    "Two hosts with one address cannot both be reached.",
                    f"Take it away here (ip address del {address.interface} dev {link.name}, and from the configuration), or "
                    f"give {owner} another.",
                )


# ---------------------------------------------------------------------------------------------------------------------
# What the hosts say
# ---------------------------------------------------------------------------------------------------------------------


def _check_twins(nodes: Sequence[_Node], found: Findings) -> list[_Node]:
    """Each machine once: one that has two names in the inventory is told as that, and not as two that are alike."""
    machines: dict[tuple[Any, ...], list[_Node]] = {}
    for node in nodes:
        macs = tuple(sorted(map(str, node.fact("identity", "macs") or ())))
        machine_id = node.fact("identity", "machine_id")
        machines.setdefault((machine_id, macs) if machine_id and macs else (node.name,), []).append(node)
    for same in machines.values():
        for node in same if len(same) > 1 else ():
            found.error(
                node.name,
                "ansible_host",
                f"{node.host.ansible_host or node.name} is the same machine as "
                f"{_others([other.name for other in same], node.name)} (host name {node.node_name}, the same machine-id and MACs)",
                "One machine cannot be two nodes.",
                "Correct ansible_host of the one that is wrong, or name the machine only once, in both groups if it is "
                "to be control plane and worker. If they are two, one a clone of the other, give it MACs, a machine-id and "
                "a host name of its own.",
            )
    return [same[0] for same in machines.values()]


def _check_identity(nodes: Sequence[_Node], _wishes: Settings, _bundle: Optional[Bundle], found: Findings) -> None:
    same = "The hosts were cloned: "
    for what, why, remedy, pairs in (
        (
            "host name",
            "Two nodes with one name push each other out of the cluster.",
            "Give each host a name of its own (hostnamectl set-hostname NAME).",
            [(node.node_name, node.name) for node in nodes],
        ),
        (
            "machine-id",
            same + "DHCP, the journal and several CNIs take them for one.",
            "On the clone: rm /etc/machine-id && systemd-machine-id-setup, then reboot.",
            [(str(node.fact("identity", "machine_id") or ""), node.name) for node in nodes],
        ),
        (
            "product_uuid",
            same + "Kubernetes tells machines apart by it.",
            "Give the virtual machine a new UUID in its hypervisor.",
            [(_uuid(node), node.name) for node in nodes],
        ),
        (
            "MAC",
            "Switches deliver the frames of one to the other.",
            "Give each card a MAC of its own, in the hypervisor or the network configuration.",
            [(str(mac), node.name) for node in nodes for mac in node.fact("identity", "macs") or ()],
        ),
    ):
        for value, names in group_by(pairs).items():
            unique = list(dict.fromkeys(names))
            if len(unique) > 1:
                for name in unique:
                    found.error(name, "", f"its {what} {value} is also that of {_others(unique, name)}", why, remedy)
    for node in nodes:
        if not DNS_NAME.fullmatch(node.node_name) or node.node_name.split(".")[0] == "localhost":
            found.error(
                node.name,
                "",
                f"its host name is '{node.node_name}'",
                "kubelet registers under the host name, which must be a DNS name of its own.",
                "Set one with letters, digits and dashes: hostnamectl set-hostname NAME.",
            )


def _uuid(node: _Node) -> str:
    text = str(node.fact("identity", "product_uuid") or "").lower()
    return "" if NO_UUID.fullmatch(text) else text


def _check_networks(nodes: Sequence[_Node], wishes: Settings, _bundle: Optional[Bundle], found: Findings) -> None:
    for node in nodes:
        for (link, address), vip in product(node.network.addresses(), wishes.apiserver_vip):
            if address.ip == vip:
                found.error(
                    node.name,
                    "apiserver_vip",
                    f"{vip} is an address of {link.name}",
                    "The VIP must be on no card: each node balances it by itself.",
                    f"Remove it (ip address del {address.interface} dev {link.name}) or set apiserver_vip to a free one.",
                )
            elif not address.single and address.family == vip.version and vip in address.network:
                found.error(
                    node.name,
                    "apiserver_vip",
                    f"{vip} is inside {address.network} of {link.name}",
                    "A host of that network may have the address, and it could not be reached any more.",
                    f"Set apiserver_vip to a free address outside all of the hosts' networks, such as {DEFAULT_VIP[vip.version]}.",
                )
        _check_overlaps(node, wishes, found)


def _check_overlaps(node: _Node, wishes: Settings, found: Findings) -> None:
    for variable, networks in (("pod_cidr", wishes.pod_cidr), ("service_cidr", wishes.service_cidr)):
        for link, network in _host_networks(node):
            for mine, theirs in _pairs(networks, (network,)):
                tell = found.warning if theirs.num_addresses == 1 else found.error
                tell(
                    node.name,
                    variable,
                    f"{mine} overlaps {theirs} of {link.name}",
                    "Hosts of that network could not be reached any more, or the pods and services there could not.",
                    f"Set {variable} to a network that no host uses.",
                )
    for choice in node.choices:
        for link, network in _host_networks(node):
            if link.made and network.num_addresses > 1 and choice.link.name != link.name:
                for mine, theirs in _pairs((choice.address.network,), (network,)):
                    # The more specific route wins.
                    hidden = theirs.prefixlen < mine.prefixlen
                    tell = found.warning if hidden else found.error
                    tell(
                        node.name,
                        "cluster_network",
                        f"{theirs} of {link.name} overlaps the cluster network {mine}",
                        f"What is behind {link.name} with an address of the cluster network cannot be reached from this host."
                        if hidden
                        else "Part of the cluster's addresses would be looked for behind that card.",
                        f"Give {link.name} another network (docker: bip or default-address-pools in daemon.json).",
                    )


def _host_networks(node: _Node) -> Iterator[tuple[Link, IPNetwork]]:
    for link, address in node.network.addresses():
        if not (node.member or node.fact("kubernetes", "ours")) or not link.of_the_cluster:
            yield link, address.network


def _check_members(nodes: Sequence[_Node], _wishes: Settings, _bundle: Optional[Bundle], found: Findings) -> None:
    for node in nodes:
        if node.fact("kubernetes", "kubelet_conf") and not node.member and not node.fact("kubernetes", "ours"):
            found.error(
                node.name,
                "",
                "it is already a node of a cluster (/etc/kubernetes/kubelet.conf) that was made by something else",
                "Its certificates and data would be mixed with this cluster's.",
                "Take it out of that cluster first (kubeadm reset), or out of this inventory.",
            )


def _check_member_versions(nodes: Sequence[_Node], version: str, found: Findings) -> None:
    for node in nodes:
        held = str(node.fact("kubernetes", "version") or "")
        if version and held and held != version:
            found.error(
                node.name,
                "kubernetes_version",
                f"it is a member with Kubernetes {held}, but {version} is planned",
                "This would be an upgrade; cluster.yml does not do it: it would put another kubelet under the running "
                "pods, and leave the control plane as it is.",
                f"Give the bundle of {held}. If the cluster was upgraded by hand with kubeadm upgrade, write the new "
                "version into /var/lib/multinic/member.json on each of its hosts.",
            )


def _check_member_families(nodes: Sequence[_Node], found: Findings) -> None:
    """Services and pods have the families that kubeadm init was given; no later run changes them."""
    for node in nodes:
        held = str(node.fact("kubernetes", "node_ip") or "")
        families = tuple(address.version for text in held.split(",") for address in [as_address(text)] if address)
        if families and node.choices and families != node.families:
            found.error(
                node.name,
                "cluster_network",
                f"it is a member with {held} ({_named(families)}), but {_named(node.families)} is planned",
                "The families of a cluster, and which is the primary one, are fixed when it is made.",
                f"Set cluster_network to {_named(families)} as before, or make the cluster anew (kubeadm reset on all hosts).",
            )


def _check_member_authority(nodes: Sequence[_Node], found: Findings) -> None:
    """Of a host that is no member yet kubeadm writes it anew."""
    for node in nodes:
        trouble = node.fact("kubernetes", "authority_trouble") if node.member else ""
        if trouble:
            found.error(
                node.name,
                "",
                f"{CA}: {trouble}",
                "Nothing on this host can check who answers as the API server. A power loss may leave a file empty.",
                CA_REMEDY,
            )


def _check_bundle_fits(nodes: Sequence[_Node], _wishes: Settings, bundle: Optional[Bundle], found: Findings) -> None:
    manifest = (bundle.manifest if bundle else None) or {}
    architecture = str(manifest.get("architecture") or "")
    distributions = {
        str(part.get("distribution")) for part in manifest.get("parts") or () if part.get("kind") == "package"
    }
    for node in nodes:
        machine = str(node.fact("system", "architecture") or "")
        mine = ARCHITECTURES.get(machine, machine)
        if architecture and mine and mine != architecture:
            found.error(
                node.name,
                "bundle",
                f"the host is {mine}, the bundle is for {architecture}",
                "The bundle's programs cannot run there.",
                f"Give this host the bundle for {mine}, or leave it out.",
            )
        system = f"{node.fact('system', 'os_id') or ''}-{node.fact('system', 'os_version') or ''}"
        if distributions and system not in distributions and system != "-":
            found.warning(
                node.name,
                "bundle",
                f"the host is {system}, the bundle has packages for {', '.join(sorted(distributions))}",
                "containerd, keepalived and chrony must then be there already or come from the host's own sources.",
                f"Build the bundle for {system}, or install these packages beforehand.",
            )


def _check_bundle_has_calico(wishes: Settings, bundle: Optional[Bundle], found: Findings) -> None:
    """Calico is applied when all hosts are members already: too late to find that it is not there."""
    if wishes.cni != "calico" or bundle is None or bundle.manifest is None:
        return
    parts = bundle.manifest.get("parts") or ()
    manifests = [path for part in parts if part.get("kind") == "manifest" and _is_yaml(path := str(part.get("path")))]
    if not manifests:
        found.error(
            "",
            "cni",
            f"cni is calico, but the bundle {bundle.path} holds no Calico manifest",
            "Calico is installed from the bundle, at the end, when all hosts have been changed.",
            "Use a bundle that holds Calico's manifests and images, or set cni: bridge (hosts of one network), or "
            "cni: none to bring your own.",
        )
    elif not any(_calico.is_image(str(name)) for part in parts for name in part.get("images") or ()):
        found.error(
            "",
            "cni",
            f"cni is calico, and the bundle {bundle.path} holds manifests ({', '.join(manifests)}), but no image of Calico",
            "Calico's pods could not start.",
            "Use a bundle with Calico's images, or set cni: bridge (hosts of one network), or cni: none to bring your own.",
        )


def _is_yaml(path: str) -> bool:
    return path.endswith((".yaml", ".yml"))


def _check_image_names(nodes: Sequence[_Node], wishes: Settings, bundle: Optional[Bundle], found: Findings) -> None:
    """kubeadm asks for image_repository's names, but the hosts get the images under those that the bundle gives them."""
    wanted = wishes.image_repository.rstrip("/")
    manifest = (bundle.manifest if bundle else None) or {}
    named = str(manifest.get("image_repository") or "").rstrip("/")
    held = {str(name) for part in manifest.get("parts") or () for name in part.get("images") or ()}
    required = [name for name in map(str, manifest.get("images_required") or ()) if name in held]
    renamed = {f"{wanted}/{name.removeprefix(named + '/')}" for name in required if name.startswith(named + "/")}
    if not wanted or not named or wanted == named or renamed <= held:
        return
    told = f"{wanted} is wanted, but the bundle's images are named {named}/…"
    why = "Images are not renamed: kubeadm and kubelet would not find the bundle's, and pull them from that registry."
    remedy = f"Leave image_repository empty, or use a bundle whose images are named {wanted}/…"
    cut_off = [node.name for node in nodes if not _may_reach(node.network, wanted)]
    for name in cut_off:
        found.error(name, "image_repository", f"{told}, and the host has no route to that registry", why, remedy + ".")
    if not cut_off:
        found.warning("", "image_repository", told, why, remedy + ", unless every host can pull from there.")


def _may_reach(network: HostNetwork, registry: str) -> bool:
    """Whether the host has any route to the registry; of one that is told by name, whether it has a default route."""
    host = registry.split("/", maxsplit=1)[0]
    address = as_address(host) or as_address(host.rpartition(":")[0].strip("[]"))
    if address is None:
        return any(network.default_devices(family) for family in (4, 6))
    return network.on_link(address) is not None or network.best_route(address) is not None


# ---------------------------------------------------------------------------------------------------------------------
# The plan itself
# ---------------------------------------------------------------------------------------------------------------------


def _assemble(
    inventory: Sequence[Host],
    nodes: Sequence[_Node],
    reasons: list[str],
    outside: list[dict[str, Any]],
    *,
    wishes: Settings,
    version: str,
    bundle: Optional[Bundle],
    found: Findings,
) -> Optional[ClusterPlan]:
    masters = [node for node in nodes if node.host.control_plane]
    if not masters:
        return None
    first = _first(masters)
    reasons.append(
        f"{first.name} is the first control-plane host, "
        + ("for it is already a member." if first.member else "for it is the first in the inventory.")
    )
    vips = wishes.apiserver_vip
    facts = {node.name: node.facts for node in nodes}
    families = list(dict.fromkeys(family for node in nodes for family in node.families))
    addresses = _plan_balancer.planned_addresses(wishes, families)
    virtual_servers = _plan_balancer.virtual_servers(wishes, addresses, families, partial(_real_servers, masters))
    changing = _plan_balancer.changing(facts, wishes.apiserver_name, addresses)
    retiring = _plan_balancer.retiring(facts, wishes.apiserver_balancer)
    reasons += _plan_balancer.reasons(changing, retiring, wishes.apiserver_balancer)
    reasons += _plan_outside.reasons(outside)
    hosts = {}
    for node in nodes:
        plan = _node_plan(node, wishes)
        if plan is not None:
            hosts[node.name] = plan
    serving = [] if wishes.time_servers else [node for node in masters[:TIME_SERVING] if node.name in hosts]
    if serving:
        reasons.append(
            f"time_servers is empty, so {', '.join(node.name for node in serving)} serve the time on the cluster network."
        )
    sources = _kept_sources(serving, nodes)
    for name, lines in sources.items():
        reasons.append(f"{name} keeps its time sources {', '.join(map(source_name, lines))}, for the others too.")
    return ClusterPlan(
        schema=SCHEMA,
        kubernetes_version=version,
        bundle=_bundle_facts(bundle),
        apiserver={
            "name": wishes.apiserver_name,
            "vip": str(vips[0]),
            "vips": list(map(str, vips)),
            "port": wishes.apiserver_port,
            "endpoint": f"{wishes.apiserver_name}:{wishes.apiserver_port}",
            "balancer": wishes.apiserver_balancer,
            "addresses": addresses,
            "changing": changing,
            "retiring": retiring,
            "sans": _sans(wishes, masters),
            "real_servers": virtual_servers[0]["real_servers"],
            "virtual_servers": virtual_servers,
            "outside": outside,
        },
        pod_cidr=_joined(wishes.pod_cidr),
        service_cidr=_joined(wishes.service_cidr),
        dns_domain=wishes.dns_domain,
        dns_address=_dns_address(wishes.service_cidr[0]),
        control_plane=[host.name for host in inventory if host.control_plane],
        workers=[host.name for host in inventory if not host.control_plane],
        first_control_plane=first.name,
        kernel_modules=_kernel_modules(wishes),
        needs={
            "commands": list(
                dict.fromkeys(
                    [
                        *_plan_balancer.needed_commands(COMMANDS, wishes.apiserver_balancer),
                        *(["keepalived"] if outside else []),
                    ]
                )
            ),
            "cni_plugins": list(CNI_PLUGINS.get(wishes.cni, ())),
            **_plan_balancer.packages_of_ways(wishes.apiserver_balancer),
        },
        ignore_preflight_errors=list(wishes.kubeadm_ignore_preflight_errors),
        cni=_pod_network(nodes, wishes, bundle, reasons, outside, found),
        kube_proxy={"mode": wishes.kube_proxy_mode, "exclude_cidrs": list(map(_alone, vips))},
        hosts_file=[
            *(
                {"address": address, "names": _names(plan.node_name, name)}
                for name, plan in hosts.items()
                for address in plan.addresses
            ),
            *({"address": address, "names": [wishes.apiserver_name]} for address in addresses),
        ],
        time={
            "servers": list(wishes.time_servers) or [hosts[node.name].address for node in serving],
            "offline": not wishes.time_servers,
            "serving": [node.name for node in serving],
            "sources": sources,
            "allow": sorted({network for plan in hosts.values() for network in plan.networks}),
            "tolerance_seconds": wishes.clock_tolerance_seconds,
        },
        reasons=reasons,
        hosts=hosts,
    )


def _seats(nodes: Sequence[_Node]) -> list[_plan_outside.Seat]:
    """The control planes, for the outside address."""
    return [
        _plan_outside.Seat(
            node.name,
            node.network,
            node.host.outside_network,
            node.host.in_run,
            tuple(map(str, node.fact("kubernetes", "outside") or ())),
            _firewall(node),
        )
        for node in nodes
        if node.host.control_plane
    ]


def _first(masters: Sequence[_Node]) -> _Node:
    """The control plane that lets others join: a member, rather of this run, else the inventory's first."""
    members = [node for node in masters if node.member and node.fact("kubernetes", "admin_conf")]
    return next((node for node in members if node.host.in_run), next(iter(members), masters[0]))


def _check_limit(plan: Mapping[str, Any], nodes: Sequence[_Node], found: Findings) -> None:
    """The host that creates the cluster must take part in the run. One that is a member lets others join in any case."""
    first = next((node for node in nodes if plan and node.name == plan["first_control_plane"]), None)
    if first is None or first.host.in_run or first.member:
        return
    limit = ",".join([first.name, *(node.name for node in nodes if node.host.in_run)])
    for node in nodes:
        if node.host.in_run and not node.member:
            found.error(
                node.name,
                "ansible_limit",
                f"there is no cluster yet that it could join, and {first.name}, which creates it, is not part of this run",
                "Other hosts join the cluster that the first control plane has created.",
                f"Run with --limit {limit}, or without a limit.",
            )


def _check_bridge(plan: Mapping[str, Any], found: Findings) -> None:
    """What the role cni would refuse, when most of the hosts are changed already."""
    told = any(item.variable == "pod_cidr" and item.severity == "error" for item in found.items)
    if plan and plan["cni"]["name"] == "bridge" and not told:
        for problem in _cni.bridge_problems(plan):
            found.error(
                "",
                "cni",
                problem,
                "cni: bridge cannot carry the pods' traffic then.",
                "Put all hosts on one network, or set cni: calico or none.",
            )


def _check_configuration(plan: Mapping[str, Any], version: str, wishes: Settings, found: Findings) -> None:
    """What kubeadm, kubelet or kube-proxy would not take, or silently drop."""
    if not version:
        return
    settings = {
        "ignore_preflight_errors": list(wishes.kubeadm_ignore_preflight_errors),
        **{name: getattr(wishes, name) for name in _kubeadm.DEFAULT_SETTINGS if name in RULES},
    }
    for problem in _kubeadm.problems_of(plan, version, settings):
        variable = problem.path.split(".")[0].split("[")[0]
        found.error(
            "",
            variable if variable in RULES else "",
            f"{problem.path}: {problem.found}",
            "Kubernetes would refuse it, or silently go without it.",
            f"Correct {problem.path}: {problem.remedy}.",
        )


def _alone(vip: IPAddress) -> str:
    """The network that holds the address alone."""
    return f"{vip}/{vip.max_prefixlen}"


def _real_servers(masters: Sequence[_Node], family: int) -> list[str]:
    return [str(address) for node in masters for address in [node.address_of(family)] if address is not None]


def _node_plan(node: _Node, wishes: Settings) -> Optional[NodePlan]:
    choice = node.choice
    sources = [(vip, node.address_of(vip.version)) for vip in wishes.apiserver_vip]
    if any(source is None for _vip, source in sources):
        return None  # the families differ, which _families or _check_families tells
    routes = [{"destination": _alone(vip), "source": str(source)} for vip, source in sources]
    accept_ra = _told_by_routers(node)
    return NodePlan(
        node_name=node.node_name,
        role=CONTROL_PLANE if node.host.control_plane else WORKER,
        schedulable=node.host.worker,
        interface=choice.link.name,
        address=str(choice.address.ip),
        addresses=[str(item.address.ip) for item in node.choices],
        prefix=choice.address.network.prefixlen,
        network=str(choice.network),
        networks=[str(item.network) for item in node.choices],
        mtu=choice.link.mtu,
        vip_route=routes[0],
        vip_routes=routes,
        sysctls={f"net/ipv6/conf/{card}/accept_ra": "2" for card in accept_ra},
        firewall=_firewall(node),
        reasons=[
            *node.reasons,
            *(
                f"The VIP's route has the source {source}, so that requests to the API leave by {choice.link.name}."
                for _vip, source in sources
                if wishes.apiserver_balancer == "ipvs"
            ),
            *(
                f"{card} goes on taking its default route from a router's advertisement, which a kernel that forwards "
                "IPv6 ignores unless accept_ra is 2."
                for card in accept_ra
            ),
        ],
    )


def _told_by_routers(node: _Node) -> list[str]:
    """Cards where the kernel itself takes the IPv6 default route from advertisements, if pods' IPv6 is to be forwarded."""
    if 6 not in node.families:
        return []
    by_routers = {route.dev for route in node.network.routes if route.default and route.protocol == "ra"}
    return [link.name for link in node.network.links if link.name in by_routers and link.accept_ra in (1, 2)]


def _pod_network(
    nodes: Sequence[_Node],
    wishes: Settings,
    bundle: Optional[Bundle],
    reasons: list[str],
    outside: Sequence[Mapping[str, Any]],
    found: Findings,
) -> dict[str, Any]:
    smallest = min(nodes, key=lambda node: (node.choice.link.mtu, node.name)).choice.link
    calico = wishes.cni == "calico"
    families = [network.version for network in wishes.pod_cidr]
    encapsulation = wishes.calico_encapsulation if calico else "none"
    routed_ipv6 = encapsulation == "ipip" and 6 in families
    if routed_ipv6 and 4 not in families:
        encapsulation = "none"
    cost = max(_calico.overlay_cost(encapsulation, family) for family in families)
    mtu = smallest.mtu - cost
    reasons.append(
        f"The pods' MTU is {mtu}: the cluster cards' {smallest.mtu}"
        + (f" less {cost} for {encapsulation}." if cost else ", nothing is wrapped.")
    )
    if routed_ipv6:
        reasons.append("IP in IP carries IPv4 alone: IPv6 between pods is routed, not wrapped.")
        _check_routed_ipv6(nodes, found)
    method = ""
    if calico:
        version = _calico.version_in_bundle((bundle.manifest if bundle else None) or {})
        cards = _calico.cards_to_come(
            wishes.pod_cidr, wishes.service_cidr, wishes.calico_encapsulation, wishes.kube_proxy_mode
        )
        chosen = [
            _calico.Chosen(node.name, with_cards_to_come(network, cards), choice.link, choice.address, choice.network)
            for node in nodes
            for network in [_plan_outside.as_holder(node.network, node.name, outside)]
            for choice in node.choices
        ]
        if encapsulation == "vxlan" and 6 in families and not _calico.wraps_ipv6(version):
            found.error(
                "",
                "calico_encapsulation",
                f"vxlan is wanted for {_joined(wishes.pod_cidr)}, and the bundle holds "
                + (f"Calico {version}" if version else "Calico of a version that it does not tell"),
                "Calico carries IPv6 in VXLAN from v3.23 on.",
                "Use a bundle with Calico v3.23 or newer, set calico_encapsulation: ipip (IPv6 between pods is routed "
                "then), or set cluster_network to an IPv4 network alone.",
            )
        answer = _calico.choose(chosen, version, wishes.calico_autodetection_method)
        reasons.append(answer.reason)
        method = answer.value or ""
        if answer.value is None:
            found.error(
                "",
                "calico_autodetection_method",
                answer.reason,
                "Calico would take another card's address on some host.",
                "Use Calico v3.22.4 or newer, or set calico_autodetection_method yourself.",
            )
        else:
            found.extend(_calico.check(chosen, version, method))
    return {"name": wishes.cni, "mtu": mtu, "autodetection_method": method, "encapsulation": encapsulation}


def _check_routed_ipv6(nodes: Sequence[_Node], found: Findings) -> None:
    networks = {str(choice.network) for node in nodes for choice in node.choices if choice.address.family == 6}
    if len(networks) > 1:
        found.error(
            "",
            "calico_encapsulation",
            f"ipip carries no IPv6, and the hosts' IPv6 addresses are in {len(networks)} networks: "
            + ", ".join(sorted(networks)),
            "The routers between these networks do not know the way to the pods.",
            "Set calico_encapsulation: vxlan with Calico v3.23 or newer, or put all hosts on one IPv6 network.",
        )


def _kernel_modules(wishes: Settings) -> list[str]:
    """What the hosts' kernels must be able to load, and what is loaded on them at every boot."""
    modules = ["br_netfilter", "overlay", "nf_conntrack"]
    if wishes.apiserver_balancer == "ipvs":
        modules += BALANCER_MODULES
    if wishes.kube_proxy_mode == "ipvs":
        modules += IPVS_PROXY_MODULES
    if wishes.kube_proxy_mode == "nftables":
        modules += NFTABLES_PROXY_MODULES
    if wishes.cni == "calico":
        wrapped = wishes.calico_encapsulation == "vxlan" or any(network.version == 4 for network in wishes.pod_cidr)
        modules += {"ipip": ["ipip"], "vxlan": ["vxlan"], "none": []}[wishes.calico_encapsulation] if wrapped else []
    return list(dict.fromkeys(modules))


def _kept_sources(serving: Sequence[_Node], nodes: Sequence[_Node]) -> dict[str, list[str]]:
    """The time sources that those who serve have already, as lines of chrony's configuration, without the cluster's own."""
    ours = {str(choice.address.ip) for node in nodes for choice in node.choices}
    ours |= {name for node in nodes for name in (node.name, node.node_name)}
    kept = {
        node.name: [line for line in node.fact("clock", "sources") or () if source_name(line) not in ours]
        for node in serving
    }
    return {name: lines for name, lines in kept.items() if lines}


def _firewall(node: _Node) -> str:
    active = str(node.fact("firewall", "active") or "")
    return "" if active == "none" else active


def _sans(wishes: Settings, masters: Sequence[_Node]) -> list[str]:
    names = [wishes.apiserver_name, *map(str, wishes.apiserver_vip), "127.0.0.1", "localhost"]
    if wishes.apiserver_external_address is not None:
        names.append(str(wishes.apiserver_external_address))
    names += map(str, wishes.apiserver_outside_address)
    if any(6 in node.families for node in masters) or any(vip.version == 6 for vip in wishes.apiserver_vip):
        names.insert(names.index("localhost"), "::1")
    for node in masters:
        names += [node.node_name, *(str(choice.address.ip) for choice in node.choices)]
    return list(dict.fromkeys([*names, *wishes.apiserver_extra_sans]))


def _bundle_facts(bundle: Optional[Bundle]) -> dict[str, Any]:
    manifest = (bundle.manifest if bundle else None) or {}
    size = sum(int(part.get("size") or 0) for part in manifest.get("parts") or ())
    return {
        "path": bundle.path if bundle else "",
        "sha256": bundle.sha256 if bundle else "",
        "unpacked_mb": -(-size // 2**20),
        # Those that it has packages for; nothing where the bundle could not be read.
        "distributions": sorted(
            {str(part["distribution"]) for part in manifest.get("parts") or () if part.get("kind") == "package"}
        )
        if manifest
        else None,
    }


def _dns_address(network: IPNetwork) -> str:
    return str(network[DNS_POSITION]) if network.num_addresses > DNS_POSITION else ""


def _names(node_name: str, inventory_name: str) -> list[str]:
    """Names for /etc/hosts: the node's, its short form, and the inventory's if it is a name at all."""
    names = [node_name, node_name.split(".", maxsplit=1)[0]]
    if re.fullmatch(rf"{DNS_LABEL}(\.{DNS_LABEL})*", inventory_name) and not re.fullmatch(r"[\d.]+", inventory_name):
        names.append(inventory_name)
    return list(dict.fromkeys(names))


def _pairs(one: Iterable[IPNetwork], other: Iterable[IPNetwork]) -> Iterator[tuple[IPNetwork, IPNetwork]]:
    others = list(other)
    for left in one:
        for right in others:
            if left.version == right.version and left.overlaps(right):
                yield left, right


def _joined(networks: Iterable[IPNetwork | IPAddress]) -> str:
    return ",".join(map(str, networks))


def _others(names: Sequence[str], name: str) -> str:
    return ", ".join(other for other in names if other != name)
