# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the measurements say of a host alone, and of its place in a cluster that is there already.

This module util is PRIVATE to the collection. It is pure: no I/O, no Ansible, standard library only.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from ipaddress import ip_address
from typing import Any, Optional

from ansible_collections.multinic.kubernetes.plugins.module_utils._findings import Findings
from ansible_collections.multinic.kubernetes.plugins.module_utils._seen import Seen

# https://etcd.io/docs/v3.5/faq/ and /op-guide/hardware/: the 99th percentile of wal_fsync should be below 10 ms; leaders
# send a heartbeat every 100 ms.
SLOW_DISK_MS, HEARTBEAT_MS = 10, 100


def percentile(values: Sequence[float], part: float) -> float:
    """The smallest value that so many of a hundred do not exceed (nearest rank); 0 of none."""
    if not values:
        return 0.0
    return sorted(values)[max(math.ceil(len(values) * part / 100), 1) - 1]


def judge_fsync(host: Seen, found: Findings) -> None:
    """Whether the disk keeps a write as fast as etcd needs."""
    measured = host.probe.get("fsync") or {}
    if not measured.get("writes"):
        return
    median, slow = float(measured["median"]), float(measured["p99"])
    told = (
        f"the disk of {measured['path']} takes {slow:.0f} ms to keep a write (99th percentile of {measured['writes']}; half of "
        f"them {median:.1f} ms)"
    )
    advice = f"etcd keeps its data there, and its makers want less than {SLOW_DISK_MS} ms (etcd.io/docs, hardware)"
    remedy = "Give /var/lib/etcd a local SSD, or at least a disk that nothing else writes to."
    if median > HEARTBEAT_MS:
        found.error(
            host.name,
            "",
            told,
            f"{advice}; above its heartbeat of {HEARTBEAT_MS} ms members elect a new leader again and again.",
            remedy,
        )
    elif slow > HEARTBEAT_MS:
        found.warning(
            host.name,
            "",
            told,
            f"{advice}; at times above its heartbeat of {HEARTBEAT_MS} ms, so that members may elect a new leader under load.",
            remedy,
        )
    elif slow > SLOW_DISK_MS:
        found.warning(host.name, "", told, f"{advice}; requests to the API get slow.", remedy)


def judge_resolver(host: Seen, found: Findings) -> None:
    """The name servers that pods inherit. systemd-resolved's own list counts where it runs, as kubeadm takes that one."""
    resolver = host.fact("resolver")
    if not isinstance(resolver, Mapping):
        return
    path, servers = str(resolver.get("path") or ""), [str(item) for item in resolver.get("servers") or ()]
    loops = [server for server in servers if _is_loopback(server)]
    if loops:
        found.warning(
            host.name,
            "kubelet_config",
            f"{path} names {', '.join(loops)} as a name server",
            "Pods inherit it, and for them it is themselves: CoreDNS would ask itself for ever, and ends with 'Loop detected'.",
            "Write a file with the real name servers, and name it, if you have not: kubelet_config: {resolvConf: /etc/resolv-pods.conf}.",
        )
    elif not servers:
        found.info(
            host.name,
            "",
            f"{path or '/etc/resolv.conf'} names no name server",
            "Pods inherit it. CoreDNS answers for the cluster's own names only if its Corefile does not forward the others.",
        )


def _is_loopback(text: str) -> bool:
    try:
        return ip_address(text.partition("%")[0]).is_loopback
    except ValueError:
        return False


def parse_nodes(text: str) -> Optional[list[dict[str, str]]]:
    """Name, addresses and identity of the nodes in `kubectl get nodes -o json`."""
    try:
        items = json.loads(text)["items"]
    except (ValueError, KeyError, TypeError):
        return None
    nodes = []
    for item in items:
        status = item.get("status") or {}
        info = status.get("nodeInfo") or {}
        nodes.append(
            {
                "name": str((item.get("metadata") or {}).get("name") or ""),
                "addresses": ",".join(
                    str(entry.get("address"))
                    for entry in status.get("addresses") or ()
                    if entry.get("type") == "InternalIP"
                ),
                "machine_id": str(info.get("machineID") or ""),
                "product_uuid": str(info.get("systemUUID") or "").lower(),
            }
        )
    return nodes


def judge_cluster(hosts: Sequence[Seen], probe: Mapping[str, Any], found: Findings) -> None:
    """A host that is to join must not be taken for a node that the cluster has already.

    One whose installation was broken off may have its own node there.
    """
    nodes: Sequence[Mapping[str, str]] = probe.get("cluster_nodes") or ()
    for host in hosts:
        if host.fact("kubernetes", "member") or host.fact("kubernetes", "ours"):
            continue
        name = str(host.node["node_name"])
        uuid = str(host.fact("identity", "product_uuid") or "").lower()
        for node in nodes:
            addresses = set((node.get("addresses") or "").split(",")) & set(host.node["addresses"])
            same = [
                *([f"the name {name}"] if node["name"] == name else ()),
                *([f"the address {', '.join(sorted(addresses))}"] if addresses else ()),
                *([f"the machine-id {node['machine_id']}"] if _same(node, host, "machine_id") else ()),
                *([f"the product_uuid {uuid}"] if uuid and node.get("product_uuid") == uuid else ()),
            ]
            if same:
                found.error(
                    host.name,
                    "",
                    f"the cluster has a node {node['name']} already, with {' and '.join(same)}",
                    "This host is no member yet: it would push that node out of the cluster, or be taken for it.",
                    f"If it is this host, installed anew: kubectl delete node {node['name']}. Else give the host a name, "
                    "address and machine-id of its own.",
                )


def _same(node: Mapping[str, str], host: Seen, key: str) -> bool:
    mine = str(host.fact("identity", key) or "")
    return bool(mine) and node.get(key) == mine
