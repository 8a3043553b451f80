# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which address Calico's own autodetection would take on a host.

This module util is PRIVATE to the collection. It is pure: no I/O, no Ansible, standard library only.

The rules are those of calico/node: up to v3.21.2 projectcalico/node, pkg/startup/ (pkg/lifecycle/startup/ since v3.20),
then projectcalico/calico, node/pkg/lifecycle/startup/: startup.go, and in autodetection/ autodetection_methods.go,
filtered.go, interfaces.go, reachaddr.go, autodetection_linux.go. They were read at all tags from v3.2.0 to v3.32.1 and on
the branch release-v3.33. What they have in common:

- Cards are walked from the last to the first of the kernel's list (interfaces.go), so the highest number wins. Whether a
  card is up, and whether an address is deprecated, secondary or a /32, is never asked.
- A card's addresses are walked in the kernel's order. The first one that Go calls global unicast is taken (filtered.go):
  also private ones, but no loopback, link-local or multicast ones.
- Patterns are Go's, are parted by commas with blanks around them, and may fit anywhere in the name. Their order says
  nothing. Only first-found and skip-interface leave out the cards of other programs; interface and cidr do not.

What differs between versions is in SINCE, in excluded_cards and in _takes_the_networks_address.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from ipaddress import ip_interface, ip_network
from typing import Optional

from ansible_collections.multinic.kubernetes.plugins.module_utils._net import (
    Address,
    HostNetwork,
    IPAddress,
    IPNetwork,
    Link,
    Route,
    as_address,
)

Release = tuple[int, int, int]
Pair = tuple[Link, Address]

FIRST_FOUND, INTERNAL_IP = "first-found", "kubernetes-internal-ip"
# The first release whose startup.go (autodetection_methods.go since v3.21.3) knows the method.
SINCE: Mapping[str, Release] = {
    FIRST_FOUND: (3, 0, 0),
    "interface": (3, 0, 0),
    "skip-interface": (3, 0, 0),
    "can-reach": (3, 0, 0),
    "cidr": (3, 16, 0),
    INTERNAL_IP: (3, 22, 0),
}
# Linux up to 6.8 lists cards by the rest of their number by this, newer ones by the number.
BUCKETS = 256
NEWEST: Release = (999, 0, 0)
# One release of each kind in excluded_cards, for when the version is not known.
KINDS: Sequence[Release] = ((3, 2, 0), (3, 15, 0), (3, 23, 4), (3, 23, 5), (3, 24, 6), NEWEST)
LATEST_PATCH = 999


@dataclass(frozen=True)
class Prediction:
    """The address that Calico would take, or none, and why.

    Not sure: it depends on what the facts do not tell. The rivals are what fits the method too; where the prediction is
    not sure, they are all that may be taken.
    """

    address: Optional[IPAddress]
    link: str
    reason: str
    sure: bool = True
    rivals: tuple[tuple[str, IPAddress], ...] = ()


@dataclass(frozen=True)
class _Case:
    """One question: this host, this family, this version."""

    network: HostNetwork
    family: int
    release: Optional[Release]
    planned: Optional[IPAddress]


def predict(
    network: HostNetwork, method: str, *, family: int = 4, version: str = "", planned: Optional[IPAddress] = None
) -> Prediction:
    """What Calico of this version would take on this host by the method; planned is what kubelet is told.

    No method is first-found. A version that is not known is taken for one that knows the method.
    """
    name, _separator, value = method.partition("=")
    name = name or FIRST_FOUND
    if name not in SINCE or (method and not value and name not in (FIRST_FOUND, INTERNAL_IP)):
        return Prediction(None, "", f"Calico knows no method '{method}' and ends")
    release = release_of(version)
    if release is not None and release < SINCE[name]:
        since = "v" + ".".join(map(str, SINCE[name][:2]))
        return Prediction(
            None, "", f"Calico {version} ends, for it does not know the method {name}, which came with {since}"
        )
    return _METHODS[name](_Case(network, family, release, planned), value)


def release_of(version: str) -> Optional[Release]:
    """(3, 19, 1) of v3.19.1; of v3.19 its latest patch; nothing if it is no version."""
    found = re.fullmatch(r"v?(\d+)\.(\d+)(?:\.(\d+))?(?:[-+].*)?", version.strip())
    if not found:
        return None
    return (int(found.group(1)), int(found.group(2)), int(found.group(3)) if found.group(3) else LATEST_PATCH)


def with_cards_to_come(network: HostNetwork, cards: Mapping[str, Sequence[IPNetwork]]) -> HostNetwork:
    """The host with the cards that the cluster will make, as its last ones, each with an address of its networks.

    Calico looks again every minute (AUTODETECT_POLL_INTERVAL in startup.go), so it meets them as well.
    """
    last = max((link.index for link in network.links), default=0)
    made = []
    for number, (name, networks) in enumerate(cards.items(), 1):
        addresses = tuple(
            Address(ip_interface(f"{net[1 % net.num_addresses]}/{net.max_prefixlen}")) for net in networks
        )
        old = network.link(name)
        if old is None:
            made.append(Link(name, index=last + number if last else 0, addresses=addresses))
        elif not old.addresses:
            made.append(replace(old, addresses=addresses))
    if not made:
        return network
    names = {link.name for link in made}
    return replace(network, links=(*(link for link in network.links if link.name not in names), *made))


# ---------------------------------------------------------------------------------------------------------------------
# Methods that walk the cards
# ---------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Excluded:
    """The cards that first-found and skip-interface leave out: names with one of the words, or that begin with it."""

    words: tuple[str, ...]
    anchored: bool

    def __contains__(self, name: str) -> bool:
        return name.startswith(self.words) if self.anchored else any(word in name for word in self.words)


@lru_cache(maxsize=64)
def excluded_cards(release: Release) -> Excluded:
    """What a release leaves out: DEFAULT_INTERFACES_TO_EXCLUDE of startup.go, startup_linux.go or autodetection_linux.go.

    - v3.15.0 (projectcalico/node): cni
    - v3.23.4 and v3.24.3: the words stand at the name's beginning. Before, "lo" is left out with "slow0" and "veth" with
      "ibmveth0"; and "cali" with "vxlan.calico", which is found from then on until
    - v3.23.5 and v3.24.4: Calico's own tunnels by their whole names
    - v3.24.6: nodelocaldns; v3.25.0: podman, br-
    """
    words = ["docker", "cbr", "dummy", "virbr", "lxcbr", "veth", "lo", "cali", "tunl", "flannel", "kube-ipvs"]
    of_3_23 = release[:2] == (3, 23)
    if release >= (3, 15, 0):
        words.append("cni")
    if release >= (3, 24, 4) or (of_3_23 and release >= (3, 23, 5)):
        words += ["vxlan.calico", "vxlan-v6.calico", "wireguard.cali", "wg-v6.cali"]
    if release >= (3, 24, 6):
        words.append("nodelocaldns")
    if release >= (3, 25, 0):
        words += ["podman", "br-"]
    return Excluded(tuple(words), release >= (3, 24, 3) or (of_3_23 and release >= (3, 23, 4)))


def _first_found(case: _Case, _value: str) -> Prediction:
    """autoDetectCIDRFirstFound: all cards but the excluded ones."""
    return _without_excluded(case, None, "is not left out by first-found")


def _skip_interface(case: _Case, value: str) -> Prediction:
    """autoDetectCIDRBySkipInterface: as first-found, less the cards that a pattern fits."""
    try:
        skipped = _patterns(value)
    except GoPatternError as problem:
        return _broken(problem)
    return _without_excluded(case, skipped, "is not left out by skip-interface")


def _without_excluded(case: _Case, skipped: Optional[re.Pattern[str]], fits: str) -> Prediction:
    answers: dict[Optional[IPAddress], Prediction] = {}
    for release in [case.release] if case.release else KINDS:
        excluded = excluded_cards(release)
        links = [
            link
            for link in case.network.links
            if link.name not in excluded and not (skipped and skipped.search(link.name))
        ]
        answer = _walk(case, links, None, fits)
        if not answer.sure:
            return answer
        answers[answer.address] = answer
    if len(answers) == 1:
        return next(iter(answers.values()))
    rivals = tuple((answer.link, answer.address) for answer in answers.values() if answer.address)
    return Prediction(None, "", f"it depends on Calico's version, which is not known: {_told(rivals)}", False, rivals)


def _interface(case: _Case, value: str) -> Prediction:
    """autoDetectCIDRByInterface: the cards that a pattern fits. None is excluded, not even lo or docker0."""
    try:
        wanted = _patterns(value)
    except GoPatternError as problem:
        return _broken(problem)
    return _walk(case, [link for link in case.network.links if wanted.search(link.name)], None, f"fits {value}")


def _cidr(case: _Case, value: str) -> Prediction:
    """autoDetectCIDRByCIDR (since v3.16.0): an address inside any of the networks, on any card; none is excluded."""
    inside = _inside(value)
    if inside is None:
        return Prediction(None, "", f"cidr={value} is no list of networks that Calico could read")
    return _walk(case, case.network.links, inside, f"has an address inside {value}")


def _walk(case: _Case, links: Iterable[Link], inside: Optional[_Inside], fits: str) -> Prediction:
    """FilteredEnumeration over these cards: the last card with a fitting address, and its first one."""
    cards = []
    every: list[Pair] = []
    for link in links:
        fitting = [
            address
            for address in link.addresses
            if address.family == case.family
            and _global_unicast(address.ip)
            and (inside is None or address.ip in inside)
        ]
        if fitting:
            cards.append((link, fitting[0]))
            every.extend((link, address) for address in fitting)
    if not cards:
        return Prediction(None, "", f"no card {fits} and has an IPv{case.family} address of use")
    pairs = tuple((link.name, address.ip) for link, address in sorted(every, key=_by_name))
    last = {max(cards, key=order)[0].name: max(cards, key=order) for order in (_by_number, _by_bucket)}
    unnumbered = len(cards) > 1 and any(not link.index for link, _address in cards)
    if unnumbered or len(last) > 1:
        why = (
            "the cards' numbers are not known"
            if unnumbered
            else "kernels before 6.9 list cards above 255 in another order"
        )
        return Prediction(None, "", f"it may be any of {_told(pairs)}, for {why}", False, pairs)
    [(link, address)] = last.values()
    rivals = tuple(pair for pair in pairs if pair != (link.name, address.ip))
    if not rivals:
        reason = f"{link.name} {fits}, and no other address does"
    elif all(name == link.name for name, _ip in rivals):
        reason = f"{link.name} {fits}, and {address.ip} is its first address"
    else:
        reason = f"{link.name} {fits} and has the highest number ({link.index}); {_told(rivals)} would do too"
    return Prediction(address.ip, link.name, reason, True, rivals)


def _by_name(pair: Pair) -> tuple[str, int]:
    return pair[0].name, pair[0].addresses.index(pair[1])


def _by_number(pair: Pair) -> tuple[int, ...]:
    return (pair[0].index,)


def _by_bucket(pair: Pair) -> tuple[int, ...]:
    """The order of Linux up to 6.8 (rtnl_dump_ifinfo): by bucket, and in a bucket the newest card first."""
    return (pair[0].index % BUCKETS, -pair[0].index)


def _global_unicast(ip: IPAddress) -> bool:
    """Go's IsGlobalUnicast: private addresses are, and so are those of scope host that are no loopback."""
    return not (
        ip.is_loopback or ip.is_link_local or ip.is_multicast or ip.is_unspecified or str(ip) == "255.255.255.255"
    )


def _told(pairs: Iterable[tuple[str, IPAddress]]) -> str:
    return ", ".join(f"{ip} ({name})" for name, ip in pairs)


class _Inside:
    """Networks, for the question whether an address is in any of them, however many they are."""

    def __init__(self, networks: Iterable[IPNetwork]) -> None:
        self._starts: dict[tuple[int, int], set[int]] = {}
        for net in networks:
            shift = net.max_prefixlen - net.prefixlen
            self._starts.setdefault((net.version, shift), set()).add(int(net.network_address) >> shift)

    def __contains__(self, ip: IPAddress) -> bool:
        number = int(ip)
        return any(
            version == ip.version and number >> shift in starts for (version, shift), starts in self._starts.items()
        )


@lru_cache(maxsize=64)
def _inside(value: str) -> Optional[_Inside]:
    """The networks as Calico reads them: one that it cannot read spoils all."""
    try:
        texts = _split(value)
        if not all(re.fullmatch(r"[^/]+/\d{1,3}", text) for text in texts):
            return None
        return _Inside(ip_network(text, strict=False) for text in texts)
    except ValueError:
        return None


# ---------------------------------------------------------------------------------------------------------------------
# Go's patterns
# ---------------------------------------------------------------------------------------------------------------------


class GoPatternError(ValueError):
    """The pattern is none for Go, or means what cannot be told here (then it is not sure)."""

    def __init__(self, text: str, sure: bool) -> None:
        super().__init__(text)
        self.sure = sure


_PIECE = re.compile(
    r"\\[\s\S]|\[\^?\]?(?:\[:\^?\w+:\]|\\[\s\S]|[^\]\\])*\]|\(\?(?:P?<(?![=!])|[ims]*:|.?)|[*+?}]\+|[\s\S]"
)
_SAME_IN_GO = set("AbBdDsSwWafnrtvx")
_ODD_IN_CLASS = re.compile(r"\[|--|&&|\|\||~~")
_ONLY_IN_GO = {"Q", "E", "p", "P", "C"}


def go_pattern(text: str) -> str:
    """The pattern for Python's re with the flag ASCII. GoPatternError if Go would refuse it, or if it cannot be told."""
    parts = []
    for piece in _PIECE.findall(text):
        if piece in {"\\", "["}:
            raise GoPatternError(f"'{text}' is not a pattern: its {piece} is not finished", sure=True)
        letter = piece[1] if piece[0] == "\\" else ""
        if letter in _ONLY_IN_GO or (piece[0] == "[" and _ODD_IN_CLASS.search(piece, 1)):
            raise GoPatternError(f"'{text}' holds {piece}, whose meaning is not worked out here", sure=False)
        if letter.isalnum() and letter not in _SAME_IN_GO and letter != "z":
            raise GoPatternError(f"'{text}' is not a pattern to Go, which has no {piece}", sure=True)
        if piece.startswith("(?") and not piece.endswith(("<", ":")):
            flags = piece[2:] in {"i", "m", "s", "U", "-"}
            words = "holds flags, whose reach is not worked out here" if flags else "is not a pattern to Go"
            raise GoPatternError(f"'{text}' {words} ({piece})", sure=not flags)
        if piece in {"*+", "++", "?+", "}+"}:
            raise GoPatternError(f"'{text}' is not a pattern to Go, which has no {piece}", sure=True)
        parts.append("\\Z" if letter == "z" else "(?P<" if piece == "(?<" else piece)
    made = "".join(parts)
    try:
        re.compile(made, re.ASCII)
    except (re.error, RecursionError, OverflowError) as problem:
        raise GoPatternError(f"'{text}' is not a pattern ({problem})", sure=True) from None
    return made


def check_patterns(value: str) -> None:
    """GoPatternError if Calico would refuse a pattern of interface= or skip-interface=, or if one is empty."""
    for text in _split(value):
        if not text:
            raise GoPatternError("it holds an empty pattern, which fits every card", sure=True)
        try:
            go_pattern(text)
        except GoPatternError as problem:
            if problem.sure:
                raise


def _split(value: str) -> list[str]:
    return re.split(r"\s*,\s*", value)


@lru_cache(maxsize=64)
def _patterns(value: str) -> re.Pattern[str]:
    return re.compile("|".join(f"(?:{go_pattern(text)})" for text in _split(value)), re.ASCII)


def _broken(problem: GoPatternError) -> Prediction:
    return Prediction(None, "", f"Calico finds no card: {problem}" if problem.sure else str(problem), problem.sure)


# ---------------------------------------------------------------------------------------------------------------------
# Methods that ask somebody else
# ---------------------------------------------------------------------------------------------------------------------


def _internal_ip(case: _Case, _value: str) -> Prediction:
    """autoDetectUsingK8sInternalIP (since v3.22.0): the node's first InternalIP of the family, if a card carries it."""
    if case.planned is None:
        return Prediction(None, "", "what kubelet will report is not known", False)
    held = _holder(case.network, case.planned)
    if held is None:
        return Prediction(None, "", f"kubelet is told {case.planned}, and no card carries it")
    link, address = held
    if case.release and _takes_the_networks_address(case.release):
        return Prediction(
            address.network.network_address,
            link.name,
            "Calico v3.22.0 to v3.22.3, v3.23.0 and v3.23.1 take the network's address for the node's "
            "(projectcalico/calico issue 5851)",
        )
    return Prediction(address.ip, link.name, f"kubelet is told {address.ip}, and {link.name} carries it")


def _takes_the_networks_address(release: Release) -> bool:
    """The return value was the masked network until v3.22.4 and v3.23.2 (projectcalico/calico issue 5851)."""
    return (3, 22, 0) <= release < (3, 22, 4) or (3, 23, 0) <= release < (3, 23, 2)


def _can_reach(case: _Case, value: str) -> Prediction:
    """ReachDestination (reachaddr.go): connects a UDP socket to port 80, which sends nothing, and takes its source.

    The source only has to be on a card; it may be a loopback or link-local one, and no card is excluded.
    """
    target = as_address(value)
    if target is None:
        return Prediction(None, "", f"which address the name {value} has, only the node knows", False)
    if target.version != case.family:
        return Prediction(None, "", f"{target} cannot be reached by IPv{case.family}")
    way = _source(case.network, target)
    if way.source is None:
        return Prediction(None, "", way.reason, way.sure)
    held = _holder(case.network, way.source)
    if held is None:
        return Prediction(None, "", f"{way.reason}, and no card carries that source")
    rivals = ((held[0].name, way.source),) if not way.sure else ()
    return Prediction(way.source if way.sure else None, held[0].name, way.reason, way.sure, rivals)


@dataclass(frozen=True)
class _Way:
    source: Optional[IPAddress]
    reason: str
    sure: bool = True


def _source(network: HostNetwork, target: IPAddress) -> _Way:
    """The source that the kernel takes to the target: by its own answer if there is one, else by addresses and routes."""
    lookup = network.lookups.get(str(target))
    if lookup is not None:
        source = as_address(lookup.source or "")
        if not lookup.dev or source is None:
            return _Way(None, f"the kernel has no way to {target}")
        return _Way(source, f"the kernel reaches {target} through {lookup.dev} with the source {source}")
    kept = [
        route for route in network.routes if route.table == "local" and route.type == "local" and target in route.dst
    ]
    if any(route.source for route in kept):
        return _by_route(network, [replace(route, type="unicast") for route in kept], target)
    for link in sorted(network.links, key=lambda link: link.name):
        for address in link.addresses if link.up else ():
            if address.ip == target:
                return _Way(_primary(link, address).ip, f"{target} is the host's own address")
    if network.diverted(target):
        return _Way(None, f"a policy rule may lead {target} elsewhere", False)
    ways = [route for route in network.routes if route.table == "main" and route.dst.version == target.version]
    if any(not route.default for route in ways):
        return _by_route(network, ways, target)
    near = [
        (link, address)
        for link in network.links
        if link.up
        for address in link.addresses
        if address.family == target.version
        and not address.single
        and target in address.network
        and not address.secondary
    ]
    if len({link.name for link, _address in near}) > 1:
        return _Way(None, f"{target} is near {_told(sorted((link.name, address.ip) for link, address in near))}", False)
    if near and target.version == 4:
        link, address = near[0]
        return _Way(address.ip, f"{target} is near {link.name}, whose address is {address.ip}")
    if near:
        return _of_card(network, near[0][0].name, target, None)
    return _by_route(network, ways, target)


def _primary(link: Link, address: Address) -> Address:
    """What the kernel takes for a secondary IPv4 address, also to itself: the first one of the same network."""
    if address.family == 6 or not address.secondary:
        return address
    first = (item for item in link.addresses if item.network == address.network and not item.secondary)
    return next(first, address)


def _by_route(network: HostNetwork, ways: Iterable[Route], target: IPAddress) -> _Way:
    """By the most specific route; of equal ones the kernel's first."""
    fitting = sorted((route for route in ways if target in route.dst), key=lambda way: (-way.dst.prefixlen, way.metric))
    if not fitting or fitting[0].type != "unicast":
        return _Way(None, f"the kernel has no way to {target}")
    best = fitting[0]
    equal = [way for way in fitting if (way.dst, way.metric) == (best.dst, best.metric) and way.gateway]
    if best.gateway and len({(way.dev, way.source) for way in equal}) > 1:
        return _Way(None, f"{target} is reached by several ways at once", False)
    source = as_address(best.source or "")
    if source is not None:
        return _Way(source, f"the route {best.dst} through {best.dev} has the source {source}")
    return _of_card(network, best.dev or "", target, as_address(best.gateway or ""))


def _of_card(network: HostNetwork, name: str, target: IPAddress, gateway: Optional[IPAddress]) -> _Way:
    """The source on this card where the route names none."""
    link = network.link(name)
    own = [item for item in (link.addresses if link else ()) if item.family == target.version and item.scope != "host"]
    if target.version == 4:
        own = [address for address in own if not address.secondary]
        chosen = next((address for address in own if gateway and gateway in address.network), next(iter(own), None))
    else:
        own = [address for address in own if _global_unicast(address.ip) and not address.deprecated]
        ranked = sorted(own, key=lambda address: -_common_bits(address.ip, target))
        tied = len(ranked) > 1 and _common_bits(ranked[0].ip, target) == _common_bits(ranked[1].ip, target)
        # Whether a temporary address comes before all others is a setting that the facts do not tell.
        temporary = any(address.secondary for address in own)
        chosen = None if tied or temporary or not ranked else ranked[0]
    if chosen is None:
        return _Way(
            None, f"which source the kernel takes through {name or 'its route'} is not told by the facts", False
        )
    return _Way(chosen.ip, f"the kernel reaches {target} through {name} with the source {chosen.ip}")


def _common_bits(one: IPAddress, other: IPAddress) -> int:
    return one.max_prefixlen - (int(one) ^ int(other)).bit_length()


def _holder(network: HostNetwork, ip: IPAddress) -> Optional[Pair]:
    """The card that carries the address, up or down; of several, the one with the highest number."""
    held = [(link, address) for link in network.links for address in link.addresses if address.ip == ip]
    return max(held, key=_by_number, default=None)


_METHODS: Mapping[str, Callable[[_Case, str], Prediction]] = {
    FIRST_FOUND: _first_found,
    "interface": _interface,
    "skip-interface": _skip_interface,
    "can-reach": _can_reach,
    "cidr": _cidr,
    INTERNAL_IP: _internal_ip,
}
