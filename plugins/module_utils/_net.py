# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Cards, addresses and routes of one host, as plain values.

This module util is PRIVATE to the collection. It is pure: no I/O, no Ansible, standard library only.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
    ip_address,
    ip_interface,
    ip_network,
)
from typing import Any, Optional, Union

IPAddress = Union[IPv4Address, IPv6Address]
IPNetwork = Union[IPv4Network, IPv6Network]
IPInterface = Union[IPv4Interface, IPv6Interface]

ANY = {4: "0.0.0.0/0", 6: "::/0"}

# Cards that programs make for themselves. They are never taken for the cluster's card unless named.
_MADE_BY_PROGRAMS = re.compile(
    r"lo|docker\d*|docker_gwbridge|br-[0-9a-f]{12}|podman\d*|cni[-\w]*|cbr\d+|veth.*|cali.*|tunl\d*|vxlan\.calico|"
    r"vxlan-v6\.calico|wireguard\.cali|wg-v6\.cali|flannel.*|kube-.*|nodelocaldns|weave|cilium.*|lxc.*|lxdbr\d*|"
    r"incusbr\d*|virbr.*|vnet\d+|tailscale\d*|wg\d.*|wg-.*|zt\w+|tap.*|tun.*|ipvs.*|gre\d*|gretap\d*|erspan\d*|sit\d*|"
    r"ip6tnl\d*|ip6gre\d*|ip_vti\d*|ip6_vti\d*|genev.*|antrea.*|ovs-.*|nerdctl\d+"
)
_MADE_KINDS = frozenset(
    [
        "veth",
        "tun",
        "wireguard",
        "ipip",
        "sit",
        "gre",
        "gretap",
        "ip6tnl",
        "ip6gre",
        "erspan",
        "vti",
        "vti6",
        "dummy",
        "geneve",
        "vxlan",
        "nlmon",
        "ifb",
        "vcan",
    ]
)
# The cluster's own cards on a host that is already a member: what they carry is no conflict.
_OF_THE_CLUSTER = re.compile(
    r"cni[-\w]*|cali.*|tunl\d*|vxlan\.calico|vxlan-v6\.calico|wireguard\.cali|wg-v6\.cali|flannel.*|kube-.*|nodelocaldns"
    r"|cbr\d+|lo"
)


def in_url(address: str) -> str:
    """An address as it stands in a URL, or before a port."""
    return f"[{address}]" if ":" in address else address


def plain(value: Any) -> Any:
    """The value in built-in types only (inventory values arrive as tagged or lazy containers)."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value)
    return str(value)


@dataclass(frozen=True)
class Address:
    """An address on a card, with the prefix it is configured with."""

    interface: IPInterface
    scope: str = "global"
    secondary: bool = False
    dynamic: bool = False
    deprecated: bool = False

    @property
    def ip(self) -> IPAddress:
        return self.interface.ip

    @property
    def network(self) -> IPNetwork:
        return self.interface.network

    @property
    def family(self) -> int:
        return self.interface.version

    @property
    def single(self) -> bool:
        """True for a /32 or /128: an address without neighbours of its own."""
        return self.network.prefixlen == self.network.max_prefixlen

    @property
    def fleeting(self) -> bool:
        """True for an IPv6 address of router advertisements or DHCP: it goes with the link, and may come back as another."""
        return self.family == 6 and self.dynamic

    @property
    def usable(self) -> bool:
        """True where other hosts could use the address: no loopback, link-local, multicast or host scope."""
        ip = self.ip
        return not (ip.is_loopback or ip.is_link_local or ip.is_multicast or ip.is_unspecified or self.scope == "host")

    @classmethod
    def from_facts(cls, data: Mapping[str, Any]) -> Address:
        return cls(
            interface=ip_interface(f"{data['address']}/{int(data['prefix'])}"),
            scope=str(data.get("scope") or "global"),
            secondary=bool(data.get("secondary")),
            dynamic=bool(data.get("dynamic")),
            deprecated=bool(data.get("deprecated")),
        )


@dataclass(frozen=True)
class Link:
    """A card: physical, bond, VLAN, bridge, or one that a program made."""

    name: str
    index: int = 0
    mtu: int = 1500
    up: bool = True
    carrier: bool = True
    mac: str = ""
    kind: str = ""
    parent: Optional[str] = None
    master: Optional[str] = None
    speed_mbps: Optional[int] = None
    duplex: Optional[str] = None
    rp_filter: Optional[int] = None
    accept_ra: Optional[int] = None
    addresses: tuple[Address, ...] = ()
    far_end: bool = False

    @property
    def made(self) -> bool:
        """True for a card made by a program (docker, CNI, VPN): never picked unless it is named."""
        if _MADE_BY_PROGRAMS.fullmatch(self.name) is not None:
            return True
        return self.kind in _MADE_KINDS and not self._of_a_container

    @property
    def _of_a_container(self) -> bool:
        """True for the card of a host that is itself a container (LXC, nspawn): a veth whose other end is in another
        network namespace, too, as that of a pod is, but with an address among neighbours of its own and no bridge above."""
        neighbours = any(address.usable and not address.single for address in self.addresses)
        return self.kind == "veth" and self.far_end and self.master is None and neighbours

    @property
    def of_the_cluster(self) -> bool:
        """True for the cards that Kubernetes itself puts on its members."""
        return _OF_THE_CLUSTER.fullmatch(self.name) is not None

    @property
    def works(self) -> bool:
        return self.up and self.carrier

    def without(self, passing: Collection[str]) -> Link:
        """The card without addresses that are alone in their network and among these."""
        kept = tuple(item for item in self.addresses if not (item.single and str(item.ip) in passing))
        return self if len(kept) == len(self.addresses) else replace(self, addresses=kept)

    @classmethod
    def from_facts(cls, data: Mapping[str, Any]) -> Link:
        return cls(
            name=str(data["name"]),
            index=int(data.get("index") or 0),
            mtu=int(data.get("mtu") or 1500),
            up=bool(data.get("up", True)),
            carrier=bool(data.get("carrier", True)),
            mac=str(data.get("mac") or ""),
            kind=str(data.get("kind") or ""),
            parent=_text_or_none(data.get("parent")),
            master=_text_or_none(data.get("master")),
            speed_mbps=_int_or_none(data.get("speed_mbps")),
            duplex=_text_or_none(data.get("duplex")),
            rp_filter=_int_or_none(data.get("rp_filter")),
            accept_ra=_int_or_none(data.get("accept_ra")),
            addresses=tuple(Address.from_facts(item) for item in data.get("addresses") or ()),
            far_end=bool(data.get("far_end")),
        )


@dataclass(frozen=True)
class Route:
    dst: IPNetwork
    gateway: Optional[str] = None
    dev: Optional[str] = None
    source: Optional[str] = None
    metric: int = 0
    table: str = "main"
    type: str = "unicast"
    protocol: str = ""  # who made it: kernel, static, dhcp, ra

    @property
    def default(self) -> bool:
        return self.dst.prefixlen == 0

    @classmethod
    def from_facts(cls, data: Mapping[str, Any]) -> Route:
        return cls(
            dst=ip_network(str(data["dst"]), strict=False),
            gateway=_text_or_none(data.get("gateway")),
            dev=_text_or_none(data.get("dev")),
            source=_text_or_none(data.get("source")),
            metric=int(data.get("metric") or 0),
            table=str(data.get("table") or "main"),
            type=str(data.get("type") or "unicast"),
            protocol=str(data.get("protocol") or ""),
        )


@dataclass(frozen=True)
class Rule:
    """A policy rule: which table is asked for which packets."""

    family: int
    source: str = "all"
    target: str = "all"
    table: str = "main"
    narrowed: bool = False  # to a card or a mark

    def diverts(self, target: IPAddress) -> bool:
        """Whether the host's own packets to the target, still without a source, may go by another table than main."""
        if self.family != target.version or self.table in {"local", "main", "default"} or self.narrowed:
            return False
        return self.source == "all" and (self.target == "all" or target in ip_network(self.target, strict=False))

    @classmethod
    def from_facts(cls, data: Mapping[str, Any]) -> Rule:
        return cls(
            family=int(data["family"]),
            source=str(data.get("from") or "all"),
            target=str(data.get("to") or "all"),
            table=str(data.get("table") or "main"),
            narrowed=any(data.get(key) not in {None, ""} for key in ("iif", "oif", "fwmark")),
        )


@dataclass(frozen=True)
class Lookup:
    """What the host's kernel answers for one target (ip route get)."""

    dev: Optional[str]
    source: Optional[str]
    gateway: Optional[str] = None

    @classmethod
    def from_facts(cls, data: Mapping[str, Any]) -> Lookup:
        return cls(
            dev=_text_or_none(data.get("dev")),
            source=_text_or_none(data.get("source")),
            gateway=_text_or_none(data.get("gateway")),
        )


@dataclass(frozen=True)
class HostNetwork:
    """All of one host's network that a decision may need."""

    links: tuple[Link, ...] = ()
    routes: tuple[Route, ...] = ()
    lookups: Mapping[str, Lookup] = field(default_factory=dict)
    rp_filter_all: Optional[int] = None
    rules: tuple[Rule, ...] = ()

    @classmethod
    def from_facts(cls, facts: Mapping[str, Any]) -> HostNetwork:
        """Read the facts of the network_facts module, or the plain facts of ansible.builtin.setup.

        The API's outside address, which a keepalived of ours has put on a card for a while, is none of the host's own.
        """
        if "multinic" in facts:
            facts = facts["multinic"]
        if "links" not in facts and "interfaces" in facts:
            return _from_setup(facts)
        passing = frozenset(map(str, (facts.get("kubernetes") or {}).get("outside") or ()))
        return cls(
            links=tuple(
                sorted(
                    (Link.from_facts(item).without(passing) for item in facts.get("links") or ()),
                    key=lambda link: link.name,
                )
            ),
            routes=tuple(Route.from_facts(item) for item in facts.get("routes") or ()),
            lookups={str(target): Lookup.from_facts(answer) for target, answer in (facts.get("lookups") or {}).items()},
            rp_filter_all=_int_or_none(facts.get("rp_filter_all")),
            rules=tuple(Rule.from_facts(item) for item in facts.get("rules") or ()),
        )

    def diverted(self, target: IPAddress) -> bool:
        """Whether a policy rule may keep the main table from answering for the target."""
        return any(rule.diverts(target) for rule in self.rules)

    def link(self, name: str) -> Optional[Link]:
        return next((link for link in self.links if link.name == name), None)

    def addresses(self) -> Iterator[tuple[Link, Address]]:
        """Every address that other hosts could use, with its card."""
        for link in self.links:
            for address in link.addresses:
                if address.usable:
                    yield link, address

    def holder(self, ip: IPAddress) -> Optional[tuple[Link, Address]]:
        """The card that carries exactly this address."""
        return next(((link, address) for link, address in self.addresses() if address.ip == ip), None)

    def default_devices(self, family: int) -> tuple[str, ...]:
        """Cards of the default routes of the main table, lowest metric first."""
        defaults = [
            route
            for route in self.routes
            if route.default
            and route.dst.version == family
            and route.table == "main"
            and route.dev
            and route.type == "unicast"
        ]
        ordered = sorted(defaults, key=lambda route: (route.metric, route.dev or ""))
        return tuple(dict.fromkeys(route.dev for route in ordered if route.dev))

    def best_route(self, target: IPAddress) -> Optional[Route]:
        """The most specific unicast route of the main table that covers the target."""
        fitting = [
            route
            for route in self.routes
            if route.table == "main"
            and route.type == "unicast"
            and route.dst.version == target.version
            and target in route.dst
        ]
        return min(fitting, key=lambda route: (-route.dst.prefixlen, route.metric, route.dev or ""), default=None)

    def on_link(self, target: IPAddress) -> Optional[tuple[Link, Address]]:
        """The card that reaches the target without a gateway, by its own addresses or a link-scope route."""
        for link, address in self.addresses():
            if address.family == target.version and not address.single and target in address.network:
                return link, address
        route = self.best_route(target)
        if route is None or route.gateway is not None or route.default or not route.dev:
            return None
        card = self.link(route.dev)
        for address in card.addresses if card else ():
            fits = address.usable and address.family == target.version
            if card and fits and (route.source is None or str(address.ip) == route.source):
                return card, address
        return None

    def effective_rp_filter(self, link: Link) -> Optional[int]:
        """What the kernel applies: the larger of "all" and the card's own."""
        known = [value for value in (self.rp_filter_all, link.rp_filter) if value is not None]
        return max(known, default=None)


def parse_networks(value: Any) -> tuple[IPNetwork, ...]:
    """CIDRs from "a", "a,b" or a list; ValueError tells which one is wrong."""
    networks: list[IPNetwork] = []
    for text in split_list(value):
        if "/" not in text:
            raise ValueError(f"'{text}' is not a network: it has no prefix length")
        try:
            networks.append(ip_network(text, strict=False))
        except ValueError:
            raise ValueError(f"'{text}' is not a network such as 192.168.253.0/24") from None
    return tuple(networks)


def split_list(value: Any) -> list[str]:
    """The items of a list, or of a text with commas."""
    value = plain(value)
    if value is None:
        return []
    items: Sequence[Any] = value if isinstance(value, list) else [value]
    words: list[str] = []
    for item in items:
        if isinstance(item, (list, dict, bool)):
            raise ValueError(f"{item!r} is not a text")
        words.extend(word.strip() for word in str(item).split(","))
    return [word for word in words if word]


def as_interface(text: str) -> IPInterface:
    """An address with its prefix length; ValueError where it is none."""
    return ip_interface(text)


def as_address(text: str) -> Optional[IPAddress]:
    try:
        return ip_address(text.strip())
    except ValueError:
        return None


def _from_setup(facts: Mapping[str, Any]) -> HostNetwork:
    """The same picture from ansible.builtin.setup's facts, as far as they go."""
    links: list[Link] = []
    # The keys are the names with some characters replaced, which ones differs with the version: each tells its card itself.
    told = {str(data["device"]): data for data in facts.values() if isinstance(data, Mapping) and data.get("device")}
    for name in facts.get("interfaces") or ():
        data = told.get(str(name)) or facts.get(str(name)) or {}
        addresses: list[Address] = []
        primary = data.get("ipv4") or {}
        for position, item in enumerate([primary, *(data.get("ipv4_secondaries") or ())]):
            if item.get("address"):
                prefix = item.get("prefix") or ip_network(f"0.0.0.0/{item.get('netmask') or 32}").prefixlen
                addresses.append(Address(ip_interface(f"{item['address']}/{prefix}"), secondary=position > 0))
        for item in data.get("ipv6") or ():
            if item.get("address"):
                addresses.append(
                    Address(
                        ip_interface(f"{item['address']}/{item.get('prefix') or 128}"), str(item.get("scope") or "")
                    )
                )
        links.append(
            Link(
                name=str(data.get("device") or name),
                mtu=int(data.get("mtu") or 1500),
                up=bool(data.get("active", True)),
                carrier=bool(data.get("active", True)),
                mac=str(data.get("macaddress") or ""),
                kind={"bonding": "bond", "loopback": "loopback"}.get(
                    str(data.get("type")), str(data.get("type") or "")
                ),
                speed_mbps=_speed(data.get("speed")),
                addresses=tuple(addresses),
            )
        )
    routes: list[Route] = []
    for family, key in ((4, "default_ipv4"), (6, "default_ipv6")):
        default = facts.get(key) or {}
        if default.get("interface"):
            routes.append(
                Route(ip_network(ANY[family]), _text_or_none(default.get("gateway")), str(default["interface"]))
            )
    return HostNetwork(links=tuple(sorted(links, key=lambda link: link.name)), routes=tuple(routes))


def _speed(value: Any) -> Optional[int]:
    number = _int_or_none(value)
    return number if number is not None and number > 0 else None


def _int_or_none(value: Any) -> Optional[int]:
    return None if value is None or value == "" else int(value)


def _text_or_none(value: Any) -> Optional[str]:
    return None if value is None or value == "" else str(value)


def group_by(pairs: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    """{key: [names]} of (key, name) pairs; empty keys are left out."""
    groups: dict[str, list[str]] = {}
    for key, name in pairs:
        if key:
            groups.setdefault(key, []).append(name)
    return groups
