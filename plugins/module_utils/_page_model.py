# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the page shows, gathered from plan, facts, measurements and status: hosts, cards, networks, pairs, components.

This module util is PRIVATE to the collection. It is pure: no I/O, no Ansible, standard library only. Nothing here is
escaped; the page escapes whatever it writes. What hosts sent may have any shape: what does not fit is left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import median
from typing import Any, Optional
from urllib.parse import urlsplit

from ansible_collections.multinic.kubernetes.plugins.module_utils._findings import SEVERITIES, Finding, ordered
from ansible_collections.multinic.kubernetes.plugins.module_utils._net import HostNetwork, Link
from ansible_collections.multinic.kubernetes.plugins.module_utils._seen import virtual_servers

ROLES = {"control_plane": "control plane", "worker": "worker"}
LARGEST = 1e12
LANES = 5  # networks drawn with a rail of their own; the rest is told beside the hosts
SLOW_TIMES, SLOW_LEAST = 4, 1.0  # a pair is slow if it takes so many times the median, and so many milliseconds


def mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def sequence(value: Any) -> Sequence[Any]:
    return value if isinstance(value, (list, tuple)) else ()


def number(value: Any) -> Optional[float]:
    """A number that can be shown: neither text nor truth nor infinity."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) < LARGEST:
        return None
    return value


def dig(value: Any, *path: str) -> Any:
    for key in path:
        value = mapping(value).get(key)
    return value


# --- hosts and cards --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Card:
    """A card of a host, as it is drawn."""

    name: str
    network: str
    address: str
    more: tuple[str, ...] = ()
    mtu: int = 0
    speed: str = ""
    kind: str = ""
    fault: str = ""
    cluster: bool = False
    gateways: tuple[str, ...] = ()


@dataclass(frozen=True)
class Host:
    """A host, its part of the plan, and what was found of it."""

    name: str
    node: Mapping[str, Any]
    cards: tuple[Card, ...] = ()
    minor: tuple[str, ...] = ()
    first: bool = False
    control_plane: bool = False
    errors: int = 0
    warnings: int = 0
    clock: str = ""

    @property
    def planned(self) -> bool:
        return bool(self.node)

    @property
    def role(self) -> str:
        if not self.planned:
            return "control plane" if self.control_plane else ""
        role = ROLES.get(str(self.node.get("role")), str(self.node.get("role") or ""))
        if self.node.get("role") == "control_plane" and self.node.get("schedulable"):
            role += " + worker"
        return f"{role}, first" if self.first else role

    @property
    def address(self) -> str:
        return str(self.node.get("address") or "")

    @property
    def addresses(self) -> list[str]:
        return [str(item) for item in sequence(self.node.get("addresses"))] or [self.address]

    @property
    def sources(self) -> list[str]:
        """Of the routes to the VIPs, in their order."""
        return _sources(self.node)

    @property
    def cluster_card(self) -> Optional[Card]:
        return next((card for card in self.cards if card.cluster), None)


def speed(mbps: Optional[int]) -> str:
    if not mbps:
        return ""
    return f"{mbps / 1000:g} Gbit/s" if mbps >= 1000 else f"{mbps} Mbit/s"


def _network(facts: Any) -> HostNetwork:
    """The host's network, empty where the facts cannot be read; the plan has told that already."""
    try:
        return HostNetwork.from_facts(mapping(facts))
    except (ValueError, KeyError, TypeError, AttributeError):
        return HostNetwork()


def _kind(link: Link, network: HostNetwork) -> str:
    """'VLAN on bond0', 'bond of ens4 and ens5'."""
    members = [other.name for other in network.links if other.master == link.name and not other.made]
    if link.kind == "bond":
        return "bond of " + ", ".join(members) if members else "bond"
    if link.kind in {"vlan", "macvlan", "ipvlan"}:
        kind = {"vlan": "VLAN"}.get(link.kind, link.kind)
        return f"{kind} on {link.parent}" if link.parent else kind
    if link.kind in {"bridge", "team"}:
        return f"{link.kind} of {', '.join(members)}" if members else link.kind
    return link.kind


def _fault(link: Link) -> str:
    if not link.up:
        return "down"
    return "" if link.carrier else "no carrier"


def _cards(network: HostNetwork, node: Mapping[str, Any]) -> tuple[list[Card], list[str]]:
    """The cards to draw, and the names of those that are only told."""
    cards: list[Card] = []
    minor: list[str] = []
    routes = [route for route in network.routes if route.default and route.table == "main" and route.type == "unicast"]
    for link in network.links:
        addresses = [address for address in link.addresses if address.usable]
        cluster = bool(node) and link.name == node.get("interface")
        if (link.made or not addresses) and not cluster:
            if link.name != "lo" and not link.master:
                kind = _kind(link, network)
                kind = f"({kind})" if kind and not link.made else ""
                minor.append(" ".join(filter(None, (link.name, *(str(item.interface) for item in addresses), kind))))
            continue
        wanted = {str(item) for item in sequence(node.get("addresses"))} if cluster else set()
        addresses.sort(key=lambda address: (str(address.ip) not in wanted, address.family, address.secondary))
        told = [str(address.interface) for address in addresses]
        cards.append(
            Card(
                name=link.name,
                network=str(node.get("network")) if cluster else str(addresses[0].network),
                address=told[0] if told else "no address",
                more=tuple(told[1:]),
                mtu=link.mtu,
                speed=speed(link.speed_mbps) + (" half duplex" if link.duplex == "half" else ""),
                kind=_kind(link, network),
                fault=_fault(link),
                cluster=cluster,
                gateways=tuple(dict.fromkeys(route.gateway or "on-link" for route in routes if route.dev == link.name)),
            )
        )
    return cards, minor


def clock_text(probe: Any) -> str:
    """'+12 ms ± 20'."""
    offset = number(dig(probe, "clock", "offset_seconds"))
    doubt = number(dig(probe, "clock", "uncertainty_seconds"))
    if offset is None:
        return ""
    told = f"{offset * 1000:+.0f} ms" if abs(offset) < 10 else f"{offset:+.1f} s"
    return told + (f" ± {doubt * 1000:.0f}" if doubt is not None and abs(offset) < 10 else "")


def hosts_of(
    plan: Mapping[str, Any], facts: Mapping[str, Any], probes: Mapping[str, Any], findings: Sequence[Finding]
) -> list[Host]:
    """Hosts of the plan in its order, then those that could not be planned."""
    nodes = mapping(plan.get("hosts"))
    masters = [str(name) for name in sequence(plan.get("control_plane"))]
    workers = [str(name) for name in sequence(plan.get("workers"))]
    numbers: dict[tuple[str, str], int] = {}
    for finding in findings:
        numbers[finding.host, finding.severity] = numbers.get((finding.host, finding.severity), 0) + 1
    hosts = []
    for name in dict.fromkeys([*nodes, *masters, *workers, *facts]):
        node = mapping(nodes.get(name))
        cards, minor = _cards(_network(facts.get(name)), node)
        if node and not any(card.cluster for card in cards):
            address = f"{node.get('address')}/{node.get('prefix')}"
            mtu = int(number(node.get("mtu")) or 0)
            cards.insert(0, Card(str(node.get("interface")), str(node.get("network")), address, mtu=mtu, cluster=True))
        hosts.append(
            Host(
                name=name,
                node=node,
                cards=tuple(cards),
                minor=tuple(minor),
                first=name == plan.get("first_control_plane"),
                control_plane=name in masters,
                errors=numbers.get((name, "error"), 0),
                warnings=numbers.get((name, "warning"), 0),
                clock=clock_text(probes.get(name)),
            )
        )
    return hosts


# --- networks ---------------------------------------------------------------------------------------------------------


@dataclass
class Lane:
    """A column of the drawing: one network, or several that no host shares, so that one rail can carry them in turn."""

    kind: str
    networks: list[str] = field(default_factory=list)
    cards: dict[str, list[Card]] = field(default_factory=dict)

    def all(self) -> Iterator[Card]:
        for cards in self.cards.values():
            yield from cards

    @property
    def gateways(self) -> list[str]:
        return list(dict.fromkeys(gateway for card in self.all() for gateway in card.gateways))


def lanes_of(hosts: Sequence[Host]) -> tuple[list[Lane], dict[str, list[Card]]]:
    """The cluster's lane first, then the default routes', then the others by size; and the cards that got none."""
    cluster = Lane("cluster")
    names = {card.network for host in hosts for card in host.cards if card.cluster}
    grouped: dict[str, dict[str, list[Card]]] = {}
    for host in hosts:
        for card in host.cards:
            if card.cluster or (card.network in names and (host.cluster_card or card).network == card.network):
                cluster.cards.setdefault(host.name, []).append(card)
                cluster.networks = list(dict.fromkeys([*cluster.networks, card.network]))
            else:
                grouped.setdefault(card.network, {}).setdefault(host.name, []).append(card)

    def order(item: tuple[str, dict[str, list[Card]]]) -> tuple[bool, int, str]:
        network, members = item
        return (not any(card.gateways for cards in members.values() for card in cards), -len(members), network)

    lanes = [cluster] if cluster.cards else []
    rest: dict[str, list[Card]] = {}
    for network, members in sorted(grouped.items(), key=order):
        kind = "other" if order((network, members))[0] else "default"
        fitting = (lane for lane in lanes if lane.kind == kind and not lane.cards.keys() & members.keys())
        lane = next(fitting, None)
        if lane is None and len(lanes) < LANES:
            lane = Lane(kind)
            lanes.append(lane)
        if lane is None:
            for name, cards in members.items():
                rest.setdefault(name, []).extend(cards)
            continue
        lane.networks.append(network)
        lane.cards.update(members)
    return lanes, rest


# --- pairs ------------------------------------------------------------------------------------------------------------

STATES = GOOD, SLOW, NARROW, TCP, SILENT, UNKNOWN = "good", "slow", "narrow", "tcp", "silent", "unknown"  # best first


@dataclass(frozen=True)
class Pair:
    """What one host measured of its way to another."""

    state: str
    milliseconds: Optional[float] = None
    largest: Optional[int] = None
    size: Optional[int] = None
    tcp: str = ""

    @property
    def time(self) -> str:
        return milliseconds(self.milliseconds)

    def words(self) -> str:
        if self.state == UNKNOWN:
            return "not measured"
        if self.state == SILENT:
            return "no answer"
        if self.state == TCP:
            return f"no answer to ICMP, but TCP answers ({self.tcp})"
        if self.state == NARROW:
            return f"{self.time}, but only {self.largest or 64} of {self.size} bytes pass"
        return f"{self.time}, {self.largest} bytes" + (", slow" if self.state == SLOW else "")


NOT_MEASURED = Pair(UNKNOWN)


def milliseconds(value: Optional[float]) -> str:
    if value is None:
        return ""
    return f"{value:.2f} ms" if value < 10 else f"{value:.1f} ms" if value < 100 else f"{value:.0f} ms"


@dataclass(frozen=True)
class Pairs:
    """All measurements, by sender and receiver."""

    names: tuple[str, ...]
    found: Mapping[tuple[str, str], Pair]
    middle: Optional[float]

    def get(self, sender: str, receiver: str) -> Pair:
        return self.found.get((sender, receiver), NOT_MEASURED)

    @property
    def slow(self) -> float:
        return max((self.middle or 0) * SLOW_TIMES, SLOW_LEAST)

    def states(self) -> dict[str, int]:
        numbers = dict.fromkeys(STATES, 0)
        for pair in self.found.values():
            numbers[pair.state] += 1
        return numbers

    def reached(self) -> dict[str, tuple[int, int]]:
        """Of each sender: how many it reaches with full packets, and how many it tried."""
        numbers: dict[str, tuple[int, int]] = {}
        for (sender, _receiver), pair in self.found.items():
            good, tried = numbers.get(sender, (0, 0))
            numbers[sender] = (good + (pair.state in (GOOD, SLOW)), tried + 1)
        return numbers


def pairs_of(plan: Mapping[str, Any], probes: Mapping[str, Any]) -> Pairs:
    names = tuple(str(name) for name in mapping(plan.get("hosts")))
    known = set(names)
    peers = [
        (name, mapping(peer))
        for name in names
        for peer in sequence(dig(probes.get(name), "peers"))
        if mapping(peer).get("name") in known and mapping(peer).get("name") != name
    ]
    times = [value for _name, peer in peers if (value := number(peer.get("milliseconds"))) is not None]
    middle = median(times) if times else None
    slow = max((middle or 0) * SLOW_TIMES, SLOW_LEAST)
    # Of two families the worse way is the pair's.
    found: dict[tuple[str, str], Pair] = {}
    for name, peer in peers:
        pair, key = _pair(peer, slow), (name, str(peer["name"]))
        if key not in found or STATES.index(pair.state) > STATES.index(found[key].state):
            found[key] = pair
    return Pairs(names, found, middle)


def _pair(peer: Mapping[str, Any], slow: float) -> Pair:
    time, full = number(peer.get("milliseconds")), number(peer.get("full_milliseconds"))
    size, largest = number(peer.get("size")), number(peer.get("largest"))
    tcp = str(peer.get("tcp") or "")
    if time is None:
        state = TCP if tcp else SILENT
    elif full is None:
        state = NARROW
    else:
        state = SLOW if time > slow else GOOD
        largest = largest or size
    return Pair(state, time, int(largest) if largest else None, int(size) if size else None, tcp)


def short_names(names: Sequence[str]) -> tuple[dict[str, str], str]:
    """The names without the domain that all of them share, and that domain."""
    labels = [name.split(".") for name in names]
    shared = 0
    while (
        len(names) > 1
        and all(len(parts) > shared + 1 for parts in labels)
        and len({parts[-1 - shared] for parts in labels}) == 1
    ):
        shared += 1
    if not shared or any(all(part.isdigit() for part in parts) for parts in labels):
        return {name: name for name in names}, ""
    return {name: ".".join(parts[:-shared]) for name, parts in zip(names, labels)}, ".".join(labels[0][-shared:])


def _shared(names: Sequence[str]) -> int:
    """How many characters all names begin with, up to the last dash or dot among them."""
    first, last = min(names), max(names)
    same = next((place for place, (one, other) in enumerate(zip(first, last)) if one != other), len(first))
    found = re.match(r"(.*[-_.])?", first[:same])
    return found.end() if found else 0


def labels_of(names: Sequence[str], most: int) -> tuple[dict[str, str], str]:
    """Labels for the names, and what they leave out: the shared domain, and, of long ones, what else all begin or end with."""
    short, domain = short_names(names)
    told = f".{domain}" if domain else ""
    if max(map(len, short.values()), default=0) <= most or len(names) < 2:
        return short, told
    begin, end = _shared(list(short.values())), _shared([name[::-1] for name in short.values()])
    if any(len(name) <= begin + end for name in short.values()):
        begin, end = begin if begin >= end else 0, end if end > begin else 0
    one = next(iter(short.values()))
    left = [one[:begin], f"{one[len(one) - end :]}{told}"]
    return {key: name[begin : len(name) - end] for key, name in short.items()}, " and ".join(filter(None, left))


# --- components -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Seen:
    """An address of the plan, and the one that is really used if somebody looked."""

    planned: tuple[str, ...] = ()
    seen: Optional[tuple[str, ...]] = None
    trouble: str = ""

    @property
    def applies(self) -> bool:
        return bool(self.planned or self.seen or self.trouble)

    @property
    def right(self) -> bool:
        return not self.trouble and self.seen is not None and sorted(self.seen) == sorted(self.planned)


COMPONENTS = (
    ("kubelet", "kubelet"),
    ("node", "INTERNAL-IP"),
    ("apiserver", "API server"),
    ("etcd", "etcd peer"),
    ("route", "VIP route's source"),
    ("api", "API asked from"),
    ("real_servers", "real servers"),
    ("kube-proxy", "kube-proxy asks from"),
    ("kube-controller-manager", "controller manager asks from"),
    ("kube-scheduler", "scheduler asks from"),
    ("Calico", "Calico"),
)
OF_THE_VIP = ("route", "api", "real_servers")


def components_of(
    plan: Mapping[str, Any],
    status: Mapping[str, Any],
    cluster: Mapping[str, Any],
    uses: Optional[Mapping[str, Any]] = None,
    foreign: Sequence[Any] = (),
) -> dict[str, dict[str, Seen]]:
    """For each host the address of every component. Hosts that something else made members have no VIP."""
    nodes = {str(mapping(node).get("name")): mapping(node) for node in sequence(cluster.get("nodes"))}
    real = tuple(address for server in virtual_servers(plan) for address in server["real_servers"])
    mode = str(dig(plan, "apiserver", "balancer") or "ipvs")
    rows: dict[str, dict[str, Seen]] = {}
    for name, data in mapping(plan.get("hosts")).items():
        node = mapping(data)
        result = mapping(status.get(name))
        rows[name] = _components(node, mapping(result.get("status", result)), real)
        if nodes:
            found = nodes.get(str(node.get("node_name")))
            addresses = _addresses(node)
            internal = tuple(str(item) for item in sequence(dig(found, "internal_ips"))[: len(addresses)])
            rows[name]["node"] = Seen(addresses, internal, "" if found else "no such node")
        for use in map(mapping, sequence(mapping(uses).get(name))):
            key = str(use.get("component"))
            if key in dict(COMPONENTS) and key not in rows[name]:
                used, planned = (tuple(str(item) for item in sequence(use.get(what))) for what in ("uses", "planned"))
                rows[name][key] = Seen(used if use.get("as_planned") else planned, used or None)
        if name in foreign:
            rows[name].update(dict.fromkeys(OF_THE_VIP, Seen()))
        elif mode != "ipvs":
            # No route of ours, and the source is the proxy's, or the kernel's choice.
            rows[name].update(route=Seen(), api=replace(rows[name]["api"], planned=rows[name]["api"].seen or ()))
            if mode == "external":
                rows[name]["real_servers"] = Seen()
    return rows


def _components(node: Mapping[str, Any], seen: Mapping[str, Any], real: tuple[str, ...]) -> dict[str, Seen]:
    address, sources = (str(node.get("address")),), tuple(_sources(node))
    master = node.get("role") == "control_plane"
    row = {
        "kubelet": Seen(_addresses(node)),
        "apiserver": Seen(address if master else ()),
        "etcd": Seen(address if master else ()),
        "route": Seen(sources),
        "api": Seen(sources),
        "real_servers": Seen(real),
    }
    if not seen:
        return row
    kubelet = mapping(seen.get("kubelet"))
    ways = [seen, *map(mapping, sequence(seen.get("further_vips")))]
    routes, asked = [mapping(way.get("route")) for way in ways], [mapping(way.get("api")) for way in ways]
    told = tuple(filter(None, str(kubelet.get("node_ip") or "").split(",")))
    row["kubelet"] = Seen(_addresses(node), told, "" if kubelet.get("running") else "not running")
    row["route"] = Seen(sources, _told(route.get("source") for route in routes), _first(map(_route_trouble, routes)))
    row["api"] = Seen(sources, _told(api.get("source") for api in asked), _first(map(_api_trouble, asked)))
    if master:
        pods = mapping(seen.get("static_pods"))
        peer = _host_of(dig(pods, "etcd", "initial-advertise-peer-urls"))
        healthy = dig(seen, "etcd", "healthy")
        row["apiserver"] = Seen(address, _told([dig(pods, "kube-apiserver", "advertise-address")]))
        row["etcd"] = Seen(address, _told([peer]), "" if healthy else str(dig(seen, "etcd", "error") or "not healthy"))
    virtual = [way.get("virtual_server") for way in ways]
    servers = [mapping(item) for one in virtual for item in sequence(dig(one, "real_servers"))]
    having = tuple(str(item.get("address")) for item in servers if number(item.get("weight")))
    row["real_servers"] = Seen(real, having, "" if all(virtual) else "no virtual server")
    return row


def _route_trouble(route: Mapping[str, Any]) -> str:
    kind = str(route.get("type") or "")
    return "" if kind == "local" else f"{kind or 'no'} route"


def _api_trouble(api: Mapping[str, Any]) -> str:
    return "" if api.get("ok") else str(api.get("error") or "no answer")


def _first(troubles: Iterable[str]) -> str:
    return next(filter(None, troubles), "")


def _sources(node: Mapping[str, Any]) -> list[str]:
    routes = sequence(node.get("vip_routes")) or [node.get("vip_route")]
    return [str(source) for route in routes if (source := dig(route, "source"))]


def _addresses(node: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(str(item) for item in sequence(node.get("addresses"))) or (str(node.get("address")),)


def _told(values: Iterable[Any]) -> tuple[str, ...]:
    return tuple(str(value) for value in values if value)


def _host_of(url: Any) -> str:
    try:
        return str(urlsplit(str(url or "")).hostname or "")
    except ValueError:
        return ""


# --- everything -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Model:
    kind: str
    when: str
    plan: Mapping[str, Any]
    findings: tuple[Finding, ...]
    hosts: tuple[Host, ...]
    pairs: Pairs
    components: Mapping[str, Mapping[str, Seen]]
    looked: bool
    versions: tuple[str, ...]  # of Kubernetes: what the cluster has, else what is planned


def _finding(item: Any) -> Finding:
    found = item if isinstance(item, Finding) else Finding.from_dict(mapping(item))
    if found.severity in SEVERITIES:
        return found
    return Finding("info", found.host, found.variable, found.found, found.why, found.remedy)


def model_of(report: Mapping[str, Any]) -> Model:
    plan, probes = mapping(report.get("plan")), mapping(report.get("probes"))
    status, cluster = mapping(report.get("status")), mapping(report.get("cluster"))
    findings = tuple(ordered(_finding(item) for item in sequence(report.get("findings"))))
    return Model(
        kind=str(report.get("kind") or "preflight"),
        when=str(report.get("when") or ""),
        plan=plan,
        findings=findings,
        hosts=tuple(hosts_of(plan, mapping(report.get("facts")), probes, findings)),
        pairs=pairs_of(plan, probes),
        components=components_of(
            plan, status, cluster, mapping(report.get("components")), sequence(report.get("foreign"))
        ),
        looked=bool(status or cluster),
        versions=_told(sequence(report.get("versions")) or [plan.get("kubernetes_version")]),
    )
