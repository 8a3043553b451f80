# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the measurements say of the ways between the hosts.

This module util is PRIVATE to the collection. It is pure: no I/O, no Ansible, standard library only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.multinic.kubernetes.plugins.module_utils._findings import Findings
from ansible_collections.multinic.kubernetes.plugins.module_utils._net import HostNetwork
from ansible_collections.multinic.kubernetes.plugins.module_utils._packets import SMALL
from ansible_collections.multinic.kubernetes.plugins.module_utils._sampling import ALL_PAIRS, LEAST, sampled
from ansible_collections.multinic.kubernetes.plugins.module_utils._seen import (
    Seen,
    addresses_of,
    api_addresses,
    same_family,
    some,
    virtual_servers,
)

STRICT = 1
PASSES = frozenset(("open", "refused", "closed", "answered"))

KUBELET = 10250
BGP = 179
ETCD = (2379, 2380)
VXLAN = 4789
TIME = 123
UNUSED = 33434  # where traceroute's datagrams go: nobody listens there


def tcp_ports(plan: Mapping[str, Any], node: Mapping[str, Any], other: Mapping[str, Any]) -> list[int]:
    """The TCP ports that a host must reach on another one, at the address that is told of it.

    kubelet and etcd are asked at the primary address only.
    """
    ports = set()
    primary = other["address"] == addresses_of(other)[0]
    if other.get("role") == "control_plane" and (
        primary or any(other["address"] in server["real_servers"] for server in virtual_servers(plan))
    ):
        ports.add(int(plan["apiserver"]["port"]))
    if node.get("role") == "control_plane" and primary:
        ports.add(KUBELET)
        ports.update(ETCD if other.get("role") == "control_plane" else ())
    if (plan.get("cni") or {}).get("name") == "calico":
        ports.add(BGP)
    return sorted(ports)


def udp_ports(plan: Mapping[str, Any], name: str) -> list[int]:
    """The UDP ports that every other host must reach on this one."""
    ports = [VXLAN] if (plan.get("cni") or {}).get("encapsulation") == "vxlan" else []
    return sorted([*ports, *([TIME] if name in ((plan.get("time") or {}).get("serving") or ()) else [])])


def judge_sample(plan: Mapping[str, Any], probes: Mapping[str, Mapping[str, Any]], found: Findings) -> None:
    """A proof that left something out says so."""
    tried = [len(probe["peers"]) for probe in probes.values() if probe.get("peers")]
    hosts = len(plan.get("hosts") or ())
    if sampled(hosts) and tried:
        found.info(
            "",
            "",
            f"a sample of the ways was tried: each of the {hosts} hosts tried {min(tried)} to {max(tried)} others",
            f"Above {ALL_PAIRS} hosts each tries at least {LEAST} others and is tried by as many, and one way at least leads "
            "from each subnet to each.",
        )


def judge_peers(host: Seen, found: Findings) -> None:
    if host.probe.get("trouble") and host.node["address"] == addresses_of(host.node)[0]:
        found.error(
            host.name,
            "",
            f"the way to the others could not be tried: {host.probe['trouble']}",
            "The proof sends packets from the cluster card, which root may do.",
            "Run with become: true, and check that the card still has its address.",
        )
    way = f"from {host.node['address']} on {host.node['interface']} to "
    peers = host.probe.get("peers") or ()
    silent = [peer for peer in peers if peer.get("milliseconds") is None]
    forbidden = [peer for peer in peers if peer.get("forbidden")]
    if forbidden:
        found.error(
            host.name,
            "",
            f"its own firewall lets nothing out {way}{_names(forbidden)}",
            "The hosts of a cluster must reach each other.",
            "Accept in its rules, for output, what goes to the cluster network.",
        )
    deaf = [peer for peer in silent if not (peer.get("tcp") or peer.get("udp") or peer.get("forbidden"))]
    _judge_astray(host, [peer for peer in deaf if peer.get("seen_on")], found)
    lost = [peer for peer in deaf if not peer.get("seen_on")]
    if lost:
        found.error(
            host.name,
            "cluster_network",
            f"no answer {way}{_names(lost)}",
            "The hosts must reach each other on the cluster network, from the cluster address.",
            "Check cable, VLAN, switch and firewall of that network, and that the other host is up on it.",
        )
    filtered = [peer for peer in silent if peer.get("tcp") or peer.get("udp")]
    if filtered:
        told = f"TCP answers ({filtered[0]['tcp']})" if filtered[0].get("tcp") else f"UDP does ({filtered[0]['udp']})"
        found.warning(
            host.name,
            "cluster_network",
            f"no answer to ICMP {way}{_names(filtered)}, but {told}",
            "The path's MTU cannot be proved, and path MTU discovery needs ICMP.",
            "Let ICMP pass between the hosts on the cluster network.",
        )
    _judge_narrow(host, peers, way, found)


def _judge_astray(host: Seen, peers: Sequence[Mapping[str, Any]], found: Findings) -> None:
    """Answers that come back another way than the question went."""
    card = host.node["interface"]
    for other in sorted({str(peer["seen_on"]) for peer in peers}):
        mine = [peer for peer in peers if peer["seen_on"] == other]
        if other == card:
            cause = "the answers come back, but this host drops them"
            remedy = "Check its firewall's rules for input, and the reverse path filter (sysctl net.ipv4.conf.all.rp_filter)."
        else:
            cause = f"the answers come back by {other}, not by {card}"
            remedy = (
                f"On the other hosts, correct the routes and rules to {host.node['address']} "
                f"(ip route get {host.node['address']} from THEIR-ADDRESS; ip rule), or choose another network."
            )
        found.error(
            host.name,
            "cluster_network",
            f"{cause}: from {host.node['address']} on {card} to {_names(mine)}{_filter_told(host, other)}",
            "Half of the traffic would run on another network, and firewalls and filters drop what they saw no beginning of.",
            remedy,
        )


def _filter_told(host: Seen, card: str) -> str:
    network = HostNetwork.from_facts(host.facts) if host.facts else HostNetwork()
    link = network.link(card)
    strict = link is not None and network.effective_rp_filter(link) == STRICT
    return f"; the strict reverse path filter of {card} drops them" if strict else ""


def _judge_narrow(host: Seen, peers: Sequence[Mapping[str, Any]], way: str, found: Findings) -> None:
    narrow: dict[tuple[int, int, str], list[Mapping[str, Any]]] = {}
    for peer in peers:
        if peer.get("milliseconds") is not None and peer.get("full_milliseconds") is None:
            key = (int(peer["size"]), int(peer.get("largest") or SMALL), str(peer.get("limit") or ""))
            narrow.setdefault(key, []).append(peer)
    for (size, passes, limit), some_peers in sorted(narrow.items()):
        found.error(
            host.name,
            "cluster_network",
            f"a packet of {size} bytes does not pass {way}{_names(some_peers)}; {passes} bytes do"
            + (f" ({limit})" if limit else ", and nothing on the way says so (a black hole)"),
            "Large transfers would be slow or fail, while small requests work."
            if limit
            else "Large transfers would hang for ever, while small requests work.",
            f"Give switches and all cards on the way an MTU of at least {size}, or lower the cards' MTU to what passes.",
        )


def _names(peers: Sequence[Mapping[str, Any]]) -> str:
    return some([f"{peer['name']} ({peer['address']})" for peer in peers])


def judge_sources(host: Seen, found: Findings) -> None:
    """What the kernel takes by itself, as etcd and the apiserver do, and what it takes for answers from the cluster address."""
    card, source = host.node["interface"], host.node["address"]
    network = HostNetwork.from_facts(host.facts) if host.facts else HostNetwork()
    link = network.link(card)
    strict = link is not None and network.effective_rp_filter(link) == STRICT
    for peer in host.probe.get("peers") or ():
        answer = (host.probe.get("lookups") or {}).get(peer["address"]) or {}
        reply = (host.probe.get("replies") or {}).get(peer["address"]) or {}
        told = f"to {peer['name']} ({peer['address']}) the kernel takes {answer.get('dev')} with {answer.get('source')}"
        if answer.get("dev") and answer["dev"] != card:
            found.error(
                host.name,
                "cluster_network",
                f"{told}, not {card} with {source}",
                "Cluster traffic would run on the other network"
                + (
                    f", and {card}'s strict reverse path filter (rp_filter 1) drops what comes from there."
                    if strict
                    else "."
                ),
                f"Correct the routes and rules (ip route get {peer['address']}; ip rule), or choose another network.",
            )
        elif reply.get("dev") and reply["dev"] != card:
            found.error(
                host.name,
                "cluster_network",
                f"answers from {source} to {peer['name']} ({peer['address']}) would leave by {reply['dev']}, not by {card}",
                "A policy rule sends them another way than the questions came: filters and firewalls drop such answers.",
                f"Correct the rules (ip route get {peer['address']} from {source}; ip rule).",
            )
        elif answer.get("dev") and answer.get("source") != source:
            found.warning(
                host.name,
                "cluster_network",
                f"{told}, not {source}",
                "Connections come from an address that the cluster does not know as this host's.",
                f"Make {source} the first address of {card}, or plan with {answer.get('source')}.",
            )


def judge_vip_way(host: Seen, plan: Mapping[str, Any], found: Findings) -> None:
    """Where requests to the API would go without the VIP's route, which is set later; and somebody else's route to it."""
    vip = next((vip for vip in api_addresses(plan) if same_family(vip, host.node["address"])), "")
    answer = (host.probe.get("lookups") or {}).get(vip) or {}
    card, source = host.node["interface"], host.node["address"]
    if not answer.get("dev") or answer.get("source") == source:
        return
    if answer["dev"] == "lo":
        found.error(
            host.name,
            "apiserver_vip",
            f"{vip} is local to the host, with the source {answer.get('source')}",
            "Another program's address or route stands where the VIP's route is to be.",
            f"Remove it (ip route get {vip}; ip route show table local {vip}), or set apiserver_vip to a free address.",
        )
    elif answer["dev"] != card:
        found.info(
            host.name,
            "apiserver_vip",
            f"before its route is set, requests to {vip} leave by {answer['dev']}, not by {card}",
            "With the other card's address as their source, requests to the API get no answer.",
        )


def judge_answers_for(
    host: Seen, facts: Mapping[str, Mapping[str, Any]], plan: Mapping[str, Any], found: Findings
) -> None:
    """Who answers by ARP for the host's own address, and for the others': for one address only one card may."""
    answers = host.probe.get("arp") or {}
    if not answers:
        return
    card = host.node["interface"]
    names = {str(node["address"]): name for name, node in plan["hosts"].items()}
    for address, macs in sorted(answers.items()):
        name = names.get(address, "")
        links = (facts.get(name) or {}).get("links") or ()
        own = {str(link["mac"]): str(link["name"]) for link in links if link.get("mac")}
        if not own:
            continue  # nothing is known of the peer's cards
        strangers = [mac for mac in macs if mac not in own]
        others = sorted({own[mac] for mac in macs if mac in own} - ({card} if name == host.name else set()))
        if strangers and name:
            found.error(
                host.name,
                "cluster_network",
                f"{', '.join(strangers)}, no card of {name}, answers for {address} on {card}",
                "Two hosts have one address: connections reach now the one, now the other.",
                "Find the other host by that hardware address (switch, hypervisor, DHCP server) and give it another address.",
            )
        elif others and name == host.name:
            found.warning(
                host.name,
                "cluster_network",
                f"its card {', '.join(others)} answers for {address}, the address of {card}: both are on one wire",
                "The others may send the cluster's traffic to the wrong card.",
                "Separate the networks, or let each card answer for its own addresses only "
                "(sysctl net.ipv4.conf.all.arp_ignore=1 and net.ipv4.conf.all.arp_announce=2).",
            )


def several(answers: Mapping[str, Sequence[str]], source: str) -> dict[str, list[str]]:
    """Of all answers those that tell something: any for the host's own address, and several for another's."""
    return {address: list(macs) for address, macs in answers.items() if address == source or len(macs) > 1}


_Try = tuple[Seen, Mapping[str, Any]]


def tries(hosts: Sequence[Seen]) -> dict[str, list[_Try]]:
    """For each host the others that tried it, with what they saw. One that has its address too has tried itself."""
    seen: dict[str, list[_Try]] = {}
    for other in hosts:
        own = {item["address"] for link in other.fact("links") or () for item in link.get("addresses") or ()}
        for peer in other.probe.get("peers") or ():
            if peer["address"] in own:
                continue
            seen.setdefault(str(peer["name"]), []).append((other, peer))
    return seen


def judge_firewall(host: Seen, tried_by: Sequence[_Try], plan: Mapping[str, Any], found: Findings) -> None:
    """What others could not reach of this host, though it answers them: a firewall there or on the way."""
    wall = str(host.node.get("firewall") or "")
    needed, spare = _blocked(host, tried_by, plan)
    networks = [*(host.node.get("networks") or [str(host.node["network"])])]
    networks += filter(None, str(plan.get("pod_cidr") or "").split(","))
    remedy = (
        _opening(wall, networks)
        if wall
        else f"Let pass what comes from {' and '.join(networks)}: in the host's own rules (nft list ruleset), and in security "
        "groups or port filters on the way."
    )
    for kind, names in needed.items():
        who = f"{wall} is active and lets" if wall else "something lets"
        refused = any(
            str(port) in kind[1].split(", ") for _other, peer in tried_by for port in peer.get("rejected") or ()
        )
        found.error(
            host.name,
            "",
            f"{who} no {kind[0]} to {host.node['address']} port {kind[1]} from {some(names)}"
            + (", and answers with a refusal" if refused else ""),
            "The hosts of a cluster must reach these ports of each other.",
            remedy,
        )
    if needed:
        return
    told_once = host.node["address"] == addresses_of(host.node)[0]
    if wall and wall != "nftables" and told_once and not host.fact("kubernetes", "member"):
        found.warning(
            host.name,
            "",
            f"{wall} is active",
            f"Besides the ports that were tried, {_beyond(plan)} must pass between the hosts, and what they forward "
            "from and to pods.",
            remedy,
        )
    elif not wall:
        for kind, names in spare.items():
            found.warning(
                host.name,
                "",
                f"no {kind[0]} passes to {host.node['address']} port {kind[1]} from {some(names)}, though it answers to ICMP",
                "A firewall on the host or on the way lets only part of the traffic through, and pods use any port.",
                remedy,
            )


_Kind = tuple[str, str]


def _blocked(
    host: Seen, tried_by: Sequence[_Try], plan: Mapping[str, Any]
) -> tuple[dict[_Kind, list[str]], dict[_Kind, list[str]]]:
    """Who could not reach which ports of the host, though it answers them: those that are needed, and others.

    A UDP port that somebody listens at need not answer, and without ICMP a closed one cannot.
    """
    member = bool(host.fact("kubernetes", "member"))
    heard = {int(entry["port"]) for entry in host.fact("listening") or () if entry.get("protocol") == "udp"}
    ports: dict[tuple[str, bool], dict[int, list[str]]] = {}
    for other, peer in tried_by:
        echo = peer.get("milliseconds") is not None
        if peer.get("forbidden") or not (echo or peer.get("tcp") or peer.get("udp")):
            continue
        must = tcp_ports(plan, other.node, host.node)
        for port in map(int, peer.get("blocked") or ()):
            ports.setdefault(("TCP", port in must), {}).setdefault(port, []).append(other.name)
        must = udp_ports(plan, host.name)
        for port in map(int, (peer.get("blocked_udp") or ()) if echo and not member else ()):
            if port not in heard:
                ports.setdefault(("UDP", port in must), {}).setdefault(port, []).append(other.name)
    needed: dict[_Kind, list[str]] = {}
    spare: dict[_Kind, list[str]] = {}
    for (protocol, must_pass), closed in ports.items():
        names = list(dict.fromkeys(name for those in closed.values() for name in those))
        (needed if must_pass else spare)[protocol, ", ".join(map(str, sorted(closed)))] = names
    return needed, spare


def _beyond(plan: Mapping[str, Any]) -> str:
    cni = plan.get("cni") or {}
    wrapped = {"ipip": "IP protocol 4 (ipip)", "vxlan": "UDP 4789 (VXLAN)"}.get(str(cni.get("encapsulation")), "")
    return " and ".join(filter(None, [wrapped, "UDP 123 (time)"]))


def _opening(wall: str, networks: Sequence[str]) -> str:
    """How to let the networks in, in the firewall's own words."""
    if wall == "ufw":
        allow = "; ".join(f"ufw allow from {network}" for network in networks)
        return f"Let the cluster's networks in and through: {allow}; ufw default allow routed."
    if wall == "firewalld":
        sources = " ".join(f"--add-source={network}" for network in networks)
        return (
            f"Trust the cluster's networks: firewall-cmd --permanent --zone=trusted {sources}; firewall-cmd --reload."
        )
    return f"Accept in its rules, for input and forward, what comes from {' and '.join(networks)}."
