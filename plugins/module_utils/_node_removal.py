# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module util is **PRIVATE** to the collection.

"""Whether a node may leave its cluster, what that takes, and what of it the cluster still holds.

Pure: the module asks the cluster and acts, this judges. What must never happen is that etcd loses its quorum, or that
the last control plane goes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Optional
from urllib.parse import urlsplit

WORKER = "worker"
CONTROL_PLANE = "control_plane"
CONTROL_PLANE_LABELS = ("node-role.kubernetes.io/control-plane", "node-role.kubernetes.io/master")


@dataclass(frozen=True)
class Member:
    """One member of etcd, and whether it answered just now."""

    id: str
    name: str
    peer_urls: tuple[str, ...] = ()
    learner: bool = False
    healthy: bool = True

    @property
    def address(self) -> str:
        """Where its peers reach it, without the port; "" where it has told no URL."""
        return next((str(urlsplit(url).hostname or "") for url in self.peer_urls), "")


@dataclass(frozen=True)
class NodeSeen:
    """One node as the cluster knows it."""

    name: str
    ready: bool = False
    control_plane: bool = False
    unschedulable: bool = False
    addresses: tuple[str, ...] = ()  # one of each family, the primary one first

    @property
    def address(self) -> str:
        return next(iter(self.addresses), "")


@dataclass(frozen=True)
class Judgement:
    """What the removal of one node means. problems forbid it; steps tell it, one sentence each, in order."""

    role: str
    addresses: tuple[str, ...]  # of each family, the primary one first; none where nobody knows them
    known: bool
    member: Optional[Member] = None
    problems: list[str] = field(default_factory=list)
    steps: list[str] = field(default_factory=list)


def nodes_of(listing: Mapping[str, Any]) -> list[NodeSeen]:
    """The nodes of `kubectl get nodes -o json`."""
    found = []
    for item in listing.get("items") or ():
        status, labels = item.get("status") or {}, (item["metadata"].get("labels") or {})
        conditions = {entry["type"]: entry["status"] for entry in status.get("conditions") or ()}
        internal = [str(a["address"]) for a in status.get("addresses") or () if a.get("type") == "InternalIP"]
        found.append(
            NodeSeen(
                name=str(item["metadata"]["name"]),
                ready=conditions.get("Ready") == "True",
                control_plane=any(label in labels for label in CONTROL_PLANE_LABELS),
                unschedulable=bool((item.get("spec") or {}).get("unschedulable")),
                addresses=tuple(internal),
            )
        )
    return found


def members_of(listing: Iterable[Mapping[str, Any]], healthy: Iterable[str]) -> list[Member]:
    """etcd's own list of members; healthy holds the IDs of those that answered."""
    good = set(healthy)
    return [
        Member(
            id=str(entry["ID"]),
            name=str(entry.get("name") or ""),
            peer_urls=tuple(str(url) for url in entry.get("peerURLs") or ()),
            learner=bool(entry.get("isLearner")),
            healthy=str(entry["ID"]) in good,
        )
        for entry in listing
    ]


def judge(name: str, nodes: Sequence[NodeSeen], members: Sequence[Member], *, reachable: bool) -> Judgement:
    """Whether the node of this name may be removed, and what will be done.

    reachable: whether Ansible gets into its host. members are those of the stacked etcd; none for an external one.
    """
    node = next((entry for entry in nodes if entry.name == name), None)
    addresses = node.addresses if node else ()
    member = next((entry for entry in members if entry.name == name or entry.address in addresses), None)
    role = CONTROL_PLANE if member is not None or (node is not None and node.control_plane) else WORKER
    addresses = addresses or tuple(filter(None, [member.address if member else ""]))
    problems = [
        *_lonely(name, nodes, node),
        *_quorum(members, member),
        *([_alive(name)] if node is not None and node.ready and not reachable else []),
    ]
    return Judgement(
        role=role,
        addresses=addresses,
        known=node is not None or member is not None,
        member=member,
        problems=problems,
        steps=_steps(name, nodes, members, member, role, addresses, reachable=reachable),
    )


def _lonely(name: str, nodes: Sequence[NodeSeen], node: Optional[NodeSeen]) -> list[str]:
    others = [entry for entry in nodes if entry.control_plane and entry.name != name]
    if node is None or not node.control_plane or others:
        return []
    return [f"{name} is the cluster's last control plane; without it there is no cluster. Join another one first"]


def _quorum(members: Sequence[Member], leaving: Optional[Member]) -> list[str]:
    """etcd needs more than half of its voting members, both to decide that one leaves and to go on without it."""
    if leaving is None or leaving.learner:
        return []
    voting = [entry for entry in members if not entry.learner]
    remaining = [entry for entry in voting if entry.id != leaving.id]
    if not remaining:
        return [f"{leaving.name or leaving.address} is the last member of etcd, which holds all that the cluster knows"]
    silent = [entry.name or entry.address for entry in voting if not entry.healthy]
    now, then = sum(entry.healthy for entry in voting), sum(entry.healthy for entry in remaining)
    needed_now, needed_then = len(voting) // 2 + 1, len(remaining) // 2 + 1
    if now < needed_now:
        return [
            f"etcd has no quorum: {now} of its {len(voting)} members answer and {needed_now} are needed "
            f"(silent: {', '.join(silent)}), so it cannot even decide that one leaves. Bring a member back first"
        ]
    if then < needed_then:
        return [
            f"etcd would lose its quorum: without {leaving.name or leaving.address} {then} of {len(remaining)} members "
            f"answer and {needed_then} are needed (silent: {', '.join(silent)}). Bring those back, or remove them first"
        ]
    return []


def _alive(name: str) -> str:
    return (
        f"Ansible cannot reach {name}, but the cluster says that it is Ready: it is alive and would go on. See that "
        "Ansible gets in (ansible_host, key, sudo); or, if it shall go without being cleaned, switch it off first"
    )


def _steps(
    name: str,
    nodes: Sequence[NodeSeen],
    members: Sequence[Member],
    member: Optional[Member],
    role: str,
    addresses: Sequence[str],
    *,
    reachable: bool,
) -> list[str]:
    steps = []
    node = next((entry for entry in nodes if entry.name == name), None)
    balanced = " and ".join(addresses) if role == CONTROL_PLANE else ""
    if node is None and member is None and not reachable:
        # That of a host that cannot be asked is the inventory's, which may differ.
        known = ", ".join(entry.name for entry in nodes)
        steps.append(
            f"the cluster has no node and no member of etcd with the name {name}; it has {known}. If the host is one of "
            "these, nothing of it leaves: run again with -e node_removal_node_name=ITS-NAME"
        )
    if balanced:
        steps.append(f"{balanced} takes no new connections on any host's balancer; established ones go on")
    if node is not None and reachable:
        steps.append(f"{name} is cordoned and its pods are evicted")
    elif node is not None:
        steps.append(f"{name} is cordoned; its pods are deleted with it, since nobody there can end them")
    if role == CONTROL_PLANE and reachable and member is not None:
        steps.append("its API server ends in order")
    if balanced:
        steps.append(f"{balanced} leaves every host's balancer")
    if member is not None:
        voting = sum(not entry.learner for entry in members) - (not member.learner)
        spare = max(0, (voting - 1) // 2)
        steps.append(
            f"its member leaves etcd, which then has {voting} and can lose {spare if spare else 'none'} of them"
        )
    if reachable:
        steps.append(f"{name} is reset with kubeadm, and what this collection put there is removed")
    else:
        steps.append(f"nothing is done on {name} itself, which cannot be reached; wipe it before it comes back")
    if node is not None:
        steps.append(f"the node {name} is deleted from the cluster")
    return steps


def without_api_endpoint(status: str, name: str) -> str:
    """kubeadm's ClusterStatus without the API endpoint of one node; kubeadm before 1.22 keeps it.

    It is YAML as kubeadm writes it: two spaces before each name, four before what belongs to it.
    """
    return re.sub(rf"^  {re.escape(name)}:\n(?:    .*\n)*", "", status, flags=re.MULTILINE)


def pods_left(complaint: str) -> str:
    """What kubectl drain says of the pods that it could not evict: its last lines that name one, each once."""
    lines = [line.strip() for line in complaint.splitlines() if re.search(r"\bpods?\b", line, re.IGNORECASE)]
    return "; ".join(dict.fromkeys(lines[-5:])) or complaint.strip()[-500:]
