# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads what hosts and the API say about a cluster, and compares it with the plan.

This module util is PRIVATE to the collection. It is pure: no I/O, no Ansible, standard library only.
"""

from __future__ import annotations

import ipaddress
import re
import shlex
import textwrap
from collections.abc import Collection, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Optional
from urllib.parse import urlsplit

from ansible_collections.multinic.kubernetes.plugins.module_utils._balancer_modes import (
    EXTERNAL,
    IPVS,
    LOCALHOST,
    UNIT_OF,
)
from ansible_collections.multinic.kubernetes.plugins.module_utils._findings import Finding, Findings, render
from ansible_collections.multinic.kubernetes.plugins.module_utils._net import in_url
from ansible_collections.multinic.kubernetes.plugins.module_utils._seen import (
    addresses_of,
    api_addresses,
    vip_sources,
    virtual_servers,
)
from ansible_collections.multinic.kubernetes.plugins.module_utils._verify_outside import compare_outside
from ansible_collections.multinic.kubernetes.plugins.module_utils._versions import VersionError, parse

PROBE_LABEL = "multinic-probe"
PROBE_PEERS = 16  # pods that each pod pings at most: all pairs of up to 17 nodes, a ring of neighbours beyond
CALICO_ADDRESS = "projectcalico.org/IPv4Address"  # calico/node writes there which address it took
RESTARTS_OF_INTEREST = ("etcd-", "kube-apiserver-")


# --- reading ----------------------------------------------------------------------------------------------------------


def hex_address(text: str) -> str:
    """An address as /proc/net/ip_vs writes it: hexadecimal IPv4, or IPv6 in brackets; ip_vs_conn leaves them out."""
    if ":" in text:
        return str(ipaddress.ip_address(text.strip("[]")))
    return str(ipaddress.ip_address(int(text, 16)))


def hex_endpoint(text: str) -> tuple[str, int]:
    address, _colon, port = text.rpartition(":")
    return hex_address(address), int(port, 16)


def parse_ip_vs(text: str) -> list[dict[str, Any]]:
    """The virtual servers of /proc/net/ip_vs with their real servers."""
    servers: list[dict[str, Any]] = []
    for line in text.splitlines():
        words = line.split()
        if len(words) >= 3 and words[0] in {"TCP", "UDP", "SCTP"}:
            address, port = hex_endpoint(words[1])
            servers.append(
                {"protocol": words[0], "address": address, "port": port, "scheduler": words[2], "real_servers": []}
            )
        elif len(words) >= 6 and words[0] == "->" and servers and re.fullmatch(r".*:[0-9A-F]{4}", words[1]):
            address, port = hex_endpoint(words[1])
            real = {"address": address, "port": port, "method": words[2], "weight": int(words[3])}
            servers[-1]["real_servers"].append({**real, "active": int(words[4]), "inactive": int(words[5])})
    return servers


def parse_ip_vs_conn(text: str) -> list[dict[str, Any]]:
    """The connections of /proc/net/ip_vs_conn: from where, to which virtual server, sent to which real server."""
    found = []
    for line in text.splitlines():
        words = line.split()
        if len(words) < 8 or words[0] not in {"TCP", "UDP", "SCTP"}:
            continue
        ends = [(hex_address(words[n]), int(words[n + 1], 16)) for n in (1, 3, 5)]
        found.append({"source": ends[0], "virtual": ends[1], "real": ends[2], "state": words[7]})
    return found


def flags_of(text: str) -> dict[str, str]:
    """The flags of a static pod's manifest, or of a command line with one argument a line."""
    return dict(re.findall(r"^\s*(?:- )?[\"']?--([a-z0-9-]+)=([^\s\"']*)", text, re.MULTILINE))


def loopback_of(etcd: Mapping[str, str]) -> str:
    """The loopback address that an etcd listens on for clients, by its flags: kubeadm takes one family's."""
    return "::1" if "//[::1]:" in etcd.get("listen-client-urls", "") else "127.0.0.1"


def node_of(item: Mapping[str, Any]) -> dict[str, Any]:
    """What matters of a node of the API."""
    status, metadata, spec = item.get("status") or {}, item["metadata"], item.get("spec") or {}
    ready: Mapping[str, Any] = next(
        (cond for cond in status.get("conditions") or () if cond.get("type") == "Ready"), {}
    )
    addresses = [entry["address"] for entry in status.get("addresses") or () if entry.get("type") == "InternalIP"]
    labels = metadata.get("labels") or {}
    prefix = "node-role.kubernetes.io/"
    return {
        "name": metadata["name"],
        "ready": ready.get("status") == "True",
        "reason": ""
        if ready.get("status") == "True"
        else str(ready.get("message") or ready.get("reason") or "unknown"),
        "internal_ips": addresses,
        "roles": sorted(label[len(prefix) :] for label in labels if label.startswith(prefix)),
        "version": (status.get("nodeInfo") or {}).get("kubeletVersion", ""),
        "runtime": (status.get("nodeInfo") or {}).get("containerRuntimeVersion", ""),
        "calico_address": str((metadata.get("annotations") or {}).get(CALICO_ADDRESS) or "").partition("/")[0],
        "pod_cidr": spec.get("podCIDR", ""),
        "schedulable": not spec.get("unschedulable"),
    }


def pod_of(item: Mapping[str, Any]) -> dict[str, Any]:
    """What matters of a pod of the API."""
    metadata, spec, status = item["metadata"], item.get("spec") or {}, item.get("status") or {}
    containers = status.get("containerStatuses") or ()
    ready: Mapping[str, Any] = next(
        (cond for cond in status.get("conditions") or () if cond.get("type") == "Ready"), {}
    )
    waiting = [(entry.get("state") or {}).get("waiting") or {} for entry in containers]
    reasons = [str(entry.get("message") or entry.get("reason")) for entry in waiting if entry.get("reason")]
    return {
        "name": metadata["name"],
        "uid": metadata.get("uid", ""),
        "labels": dict(metadata.get("labels") or {}),
        "node": spec.get("nodeName", ""),
        "address": status.get("podIP", ""),
        "addresses": [entry["ip"] for entry in status.get("podIPs") or () if entry.get("ip")],
        "phase": status.get("phase", ""),
        "ready": ready.get("status") == "True",
        "restarts": sum(int(entry.get("restartCount", 0)) for entry in containers),
        "reason": "; ".join(reasons) or str(status.get("message") or ""),
    }


def is_probe(pod: Mapping[str, Any]) -> bool:
    return bool(pod["labels"].get("app") == PROBE_LABEL)


def is_dns(pod: Mapping[str, Any]) -> bool:
    return bool(pod["labels"].get("k8s-app") == "kube-dns")


def settled(cluster: Mapping[str, Any], expected_nodes: Iterable[str]) -> bool:
    """Whether there is nothing left to wait for: the expected nodes are Ready, and CoreDNS if it can become so."""
    expected = set(expected_nodes)
    ready = {node["name"] for node in cluster["nodes"] if node["ready"]}
    if cluster["error"] or not ready.issuperset(expected):
        return False
    dns = [pod for pod in cluster["pods"] if is_dns(pod)]
    cannot = not dns or not expected or bool((cluster.get("dns") or {}).get("missing"))
    return cannot or any(pod["ready"] for pod in dns)


def peers_of(me: str, pods: Sequence[Mapping[str, Any]], most: int = PROBE_PEERS) -> list[dict[str, Any]]:
    """The pods of other nodes that the pod of this node pings: all, or the next ones in a ring of the nodes' names."""
    ring = sorted((dict(pod) for pod in pods), key=lambda pod: str(pod["node"]))
    after = [pod for pod in ring if pod["node"] > me]
    before = [pod for pod in ring if pod["node"] < me]
    return (after + before)[:most]


def echoes_of(mine: Mapping[str, Any], peers: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What a pod pings of its peers: each of their addresses whose family it has itself."""
    own = {":" in address for address in addresses_of(mine)}
    return [
        {**{key: value for key, value in peer.items() if key != "addresses"}, "address": address}
        for peer in peers
        for address in addresses_of(peer)
        if (":" in address) in own
    ]


def probe_pods(nodes: Iterable[str], image: str, run: str) -> dict[str, Any]:
    """One pause container on each node, gone as soon as it is told to.

    The nodes are named, so that neither scheduler nor controller manager has to be at work: these are still electing
    their leaders when the last control planes have just joined. ``run`` sets the pods of one run apart from those that
    an earlier one left.
    """
    return {"apiVersion": "v1", "kind": "List", "items": [_probe_pod(node, image, run) for node in nodes]}


def _probe_pod(node: str, image: str, run: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": f"{PROBE_LABEL}-{run}-{node}",
            "namespace": "kube-system",
            "labels": {"app": PROBE_LABEL},
        },
        "spec": {
            "nodeName": node,
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "terminationGracePeriodSeconds": 0,
            "tolerations": [{"operator": "Exists"}],
            "containers": [{"name": "pause", "image": image, "imagePullPolicy": "IfNotPresent"}],
        },
    }


def missing_real_servers(virtual: Optional[Mapping[str, Any]], expected: Iterable[str]) -> list[str]:
    """The addresses that should get connections and are not in the table: their checks fail."""
    having = {real["address"] for real in (virtual or {}).get("real_servers", ())}
    return [address for address in expected if address not in having]


def offered_real_servers(virtual: Mapping[str, Any], healthy: Container[str]) -> list[dict[str, Any]]:
    """The real servers that keepalived holds for healthy, or that have a weight: it leaves the others with the weight 0."""
    return [real for real in virtual["real_servers"] if real["weight"] or real["address"] in healthy]


def drained_real_servers(virtual: Mapping[str, Any], expected: Iterable[str]) -> list[str]:
    """The addresses that are in the table with the weight 0, as keepalived has them where it is told to drain them."""
    weights = {real["address"]: real["weight"] for real in virtual.get("real_servers", ())}
    return [address for address in expected if weights.get(address) == 0]


DNS_A, DNS_AAAA = 1, 28


def dns_addresses(answer: bytes) -> list[str]:
    """The addresses in a DNS answer to one question."""
    count = int.from_bytes(answer[6:8], "big")
    position = _after_name(answer, 12) + 4
    found = []
    for _record in range(count):
        position = _after_name(answer, position)
        kind, length = int.from_bytes(answer[position : position + 2], "big"), answer[position + 8 : position + 10]
        size = int.from_bytes(length, "big")
        if (kind, size) in ((DNS_A, 4), (DNS_AAAA, 16)):
            found.append(str(ipaddress.ip_address(answer[position + 10 : position + 10 + size])))
        position += 10 + size
    return found


def _after_name(message: bytes, position: int) -> int:
    """Where a DNS name ends: after its empty label, or after its two-byte pointer."""
    while position < len(message) and message[position]:
        if message[position] >= 0xC0:
            return position + 2
        position += message[position] + 1
    return position + 1


# --- comparing --------------------------------------------------------------------------------------------------------


@dataclass
class Verdict:
    """What the comparison found, and what the summary shows."""

    findings: list[Finding] = field(default_factory=list)
    rows: list[dict[str, str]] = field(default_factory=list)
    tested: list[str] = field(default_factory=list)
    untested: list[str] = field(default_factory=list)

    @property
    def errors(self) -> list[Finding]:
        return [finding for finding in self.findings if finding.severity == "error"]


@dataclass(frozen=True)
class Way:
    """One VIP as a host has it: what is planned of it, and what was seen (route, virtual_server, api)."""

    vip: str
    real_servers: Sequence[str]
    source: str
    seen: Mapping[str, Any]


def ways_of(plan: Mapping[str, Any], planned: Mapping[str, Any], status: Mapping[str, Any]) -> list[Way]:
    """A host's ways to the API server, one for each address that it is balanced at."""
    further = {str(seen["vip"]): seen for seen in status.get("further_vips") or ()}
    servers = virtual_servers(plan)
    # Only a VIP has a route, and with it a source.
    sources = vip_sources(planned) if mode_of(plan) == IPVS else [""] * len(servers)
    return [
        Way(server["vip"], server["real_servers"], source, further.get(server["vip"], {}) if number else status)
        for number, (server, source) in enumerate(zip(servers, sources))
    ]


def mode_of(plan: Mapping[str, Any]) -> str:
    return str(plan["apiserver"].get("balancer") or IPVS)


class _Comparison:
    def __init__(
        self,
        plan: Mapping[str, Any],
        cluster: Mapping[str, Any],
        hosts: Mapping[str, Mapping[str, Any]],
        trouble: Sequence[str],
        foreign: Collection[str] = (),
    ) -> None:
        self.plan = plan
        self.foreign = frozenset(foreign)
        # Of hosts that could not be looked at nothing is known, also not which of the seen addresses are theirs.
        self.complete = set(plan["control_plane"]) <= set(plan["hosts"])
        self.trouble = trouble
        self.hosts = hosts
        self.found = Findings()
        self.tested: list[str] = []
        self.untested: list[str] = []
        # No list at all, not an empty one: no control plane was asked.
        self.listed = cluster.get("nodes", ()) is not None
        self.nodes = {node["name"]: node for node in cluster.get("nodes") or ()}
        self.pods = list(cluster.get("pods") or ())
        self.dns_missing = str((cluster.get("dns") or {}).get("missing") or "")
        self.cluster_error = str(cluster.get("error") or "")
        self.first = str(plan["first_control_plane"])
        self.balancer = mode_of(plan)
        self.by_dns = self.balancer == EXTERNAL and not plan["apiserver"].get("addresses")

    def run(self) -> Verdict:
        self.compare_nodes()
        for name, status in self.hosts.items():
            planned = self.plan["hosts"].get(name)
            if planned is None:
                continue
            self.compare_kubelet(name, planned, status)
            if name not in self.foreign:
                for way in ways_of(self.plan, planned, status):
                    self.compare_balancer(name, way)
                    self.compare_api(name, way)
            if planned["role"] == "control_plane":
                self.compare_static_pods(name, planned, status)
        for told, sentences in zip((self.tested, self.untested), compare_outside(self.plan, self.hosts, self.found)):
            told += sentences
        self.compare_etcd()
        self.compare_restarts()
        self.compare_pod_network()
        self.compare_dns()
        return Verdict(self.found.items, [self.row(name) for name in self.plan["hosts"]], self.tested, self.untested)

    # -- the API's view --

    def compare_nodes(self) -> None:
        if not self.listed:
            self.untested.append("nodes and pods: no control plane of this run holds an admin.conf")
            return
        if self.cluster_error:
            self.found.error(
                self.first,
                "",
                f"kubectl: {self.cluster_error}",
                "The cluster's nodes could not be listed.",
                "See journalctl -u kubelet and the containers of kube-apiserver and etcd on this host (crictl ps -a).",
            )
            return
        ready = 0
        for name, planned in self.plan["hosts"].items():
            node = self.nodes.get(planned["node_name"])
            if node is None and not self.in_run(name):
                self.untested.append(f"{name}: not part of this run, and no node of the cluster yet")
                continue
            if node is None:
                self.found.error(
                    name,
                    "",
                    f"no node {planned['node_name']} in the cluster (nodes: {', '.join(sorted(self.nodes)) or 'none'})",
                    "The host has not joined.",
                    "Run cluster.yml again; it goes on where it stopped. kubelet's reasons: journalctl -u kubelet.",
                )
                continue
            self.compare_version(name, node)
            self.compare_roles(name, planned, node)
            wanted = addresses_of(planned)
            right = node["internal_ips"][: len(wanted)] == wanted
            if not right:
                self.found.error(
                    name,
                    "cluster_network",
                    f"INTERNAL-IP {', '.join(node['internal_ips']) or 'none'}, planned {', '.join(wanted)}",
                    "kubelet registered another address than the plan's, and everything that asks the API follows it.",
                    "See --node-ip in /proc/$(pgrep -x kubelet)/cmdline; cluster.yml puts a wrong one right.",
                )
            if not node["ready"]:
                self.not_ready(name, node)
            ready += bool(node["ready"] and right)
        if ready == len(self.plan["hosts"]):
            self.tested.append(f"all {ready} nodes are Ready, with their planned INTERNAL-IPs")

    def in_run(self, name: str) -> bool:
        """Whether the host was looked at. One that was not, as in a limited run, is not the run's to judge."""
        return not self.hosts or name in self.hosts

    def compare_version(self, name: str, node: Mapping[str, Any]) -> None:
        if self.plan["kubernetes_version"] and not same_version(node["version"], str(self.plan["kubernetes_version"])):
            self.found.error(
                name,
                "kubernetes_version",
                f"kubelet is {node['version'] or 'of no known version'}, planned {self.plan['kubernetes_version']}",
                "A cluster of mixed versions is the middle of an upgrade, and cluster.yml does none.",
                "Install the version of the rest of the cluster on this host, or finish the upgrade by hand with "
                "kubeadm upgrade.",
            )

    def compare_roles(self, name: str, planned: Mapping[str, Any], node: Mapping[str, Any]) -> None:
        having = bool({"control-plane", "master"} & set(node["roles"]))
        wanted = planned["role"] == "control_plane"
        if having != wanted:
            is_, should = ("a control plane", "a worker") if having else ("no control plane", "a control plane")
            self.found.error(
                name,
                "kube_control_plane",
                f"node {node['name']} is {is_} by its labels ({', '.join(node['roles']) or 'none'}), planned {should}",
                "What runs on a node follows these labels, and upgrades read them."
                if wanted
                else "A host does not change its role by moving to another group.",
                "kubeadm join phase control-plane-join mark-control-plane writes the labels; if the host never "
                "became a control plane, remove the node and run cluster.yml again."
                if wanted
                else "Put the host back into kube_control_plane, or remove the node and run cluster.yml again.",
            )

    def not_ready(self, name: str, node: Mapping[str, Any]) -> None:
        if self.plan["cni"]["name"] == "none" and "network" in node["reason"].lower():
            self.found.info(
                name,
                "cni",
                f"not Ready: {node['reason']}",
                "cni is none, and no pod network is installed yet.",
                f"Install one; its pod CIDR has to be {self.plan['pod_cidr']}.",
            )
            return
        tell = self.found.error if self.in_run(name) else self.found.warning
        tell(
            name,
            "",
            f"not Ready: {node['reason']}",
            "The node runs no pods until it is Ready.",
            "See journalctl -u kubelet -u containerd on the host.",
        )

    def compare_restarts(self) -> None:
        for pod in self.pods:
            if pod["restarts"] and pod["name"].startswith(RESTARTS_OF_INTEREST):
                self.found.info(
                    pod["node"],
                    "",
                    f"{pod['name']} has been restarted, {pod['restarts']} time{'s' if pod['restarts'] > 1 else ''} so far",
                    "A restart is no fault after a reboot; otherwise its log tells why.",
                    f"kubectl -n kube-system logs --previous {pod['name']}",
                )

    # -- each host's view --

    def compare_kubelet(self, name: str, planned: Mapping[str, Any], status: Mapping[str, Any]) -> None:
        kubelet = status.get("kubelet") or {}
        addresses = ",".join(addresses_of(planned))
        if not kubelet.get("running"):
            self.found.error(
                name,
                "",
                "kubelet is not running",
                "Without it the host runs no pods.",
                "See systemctl status kubelet and journalctl -u kubelet.",
            )
        elif not kubelet.get("node_ip") and name in self.foreign:
            self.found.warning(
                name,
                "cluster_network",
                f"kubelet runs without --node-ip; planned is {addresses}",
                "It takes an address by host name or default route at each start, and may take another one tomorrow.",
                "Give kubelet --node-ip, in /var/lib/kubelet/kubeadm-flags.env or KUBELET_EXTRA_ARGS, and restart it.",
            )
        elif kubelet.get("node_ip") != addresses:
            self.found.error(
                name,
                "cluster_network",
                f"kubelet runs with --node-ip={kubelet.get('node_ip') or '(not set)'}, planned {addresses}",
                "Without the planned address kubelet takes one by host name or default route.",
                "Run cluster.yml again: it puts the flag in /var/lib/kubelet/kubeadm-flags.env right and restarts "
                "kubelet. If it stays, KUBELET_EXTRA_ARGS in /etc/default/kubelet or /etc/sysconfig/kubelet overrides it.",
            )
        wanted = f"https://{self.plan['apiserver']['endpoint']}"
        if name not in self.foreign and kubelet.get("running") and kubelet.get("server") != wanted:
            self.found.error(
                name,
                "apiserver_name",
                f"kubelet talks to {kubelet.get('server') or 'nobody'}, planned {wanted}",
                "A kubelet that knows one API server only is lost with it.",
                "Set server: in /etc/kubernetes/kubelet.conf to the planned one and restart kubelet.",
            )

    def compare_balancer(self, name: str, way: Way) -> None:
        if self.balancer == EXTERNAL:
            return
        route = way.seen.get("route") or {}
        source = way.source
        unit = UNIT_OF[self.balancer].partition(".")[0]
        if self.balancer == IPVS and (route.get("type"), route.get("source")) != ("local", source):
            told = f"{route.get('type') or 'no'} route, dev {route.get('dev')}, source {route.get('source')}"
            self.found.error(
                name,
                "apiserver_vip",
                f"the way to {way.vip}: {told if route else 'none'}; planned: local route with source {source}",
                "The source of connections to the API server is not the cluster address, and on strict networks they fail.",
                "systemctl restart multinic-vip-route",
            )
        virtual = way.seen.get("virtual_server")
        if virtual is None:
            self.found.error(
                name,
                "apiserver_vip",
                f"{'IPVS has no virtual server' if self.balancer == IPVS else 'no proxy answers for'} "
                f"{in_url(way.vip)}:{self.plan['apiserver']['port']}",
                "This host does not reach the API server through the VIP."
                if self.balancer == IPVS
                else "This host does not reach the API server, or a control plane only its own.",
                f"systemctl restart {unit}; see journalctl -u {unit}.",
            )
            return
        missing = missing_real_servers(virtual, way.real_servers)
        if missing:
            self.found.error(
                name,
                "",
                f"no connections are sent to {', '.join(missing)}",
                "The balancer's checks of these control planes fail.",
                f"See journalctl -u {unit} here, and kube-apiserver there.",
            )
        drained = drained_real_servers(virtual, way.real_servers)
        if drained:
            self.found.warning(
                name,
                "apiserver_drained",
                f"{', '.join(drained)} gets no new connections: its weight is 0, it is drained",
                "The others carry its share, and there is one less to lose.",
                "When the work on it is done, run cluster.yml --tags apiserver_balancer without it in apiserver_drained.",
            )
        strangers = [r["address"] for r in virtual["real_servers"] if r["address"] not in way.real_servers]
        if strangers and self.complete:
            self.found.error(
                name,
                "",
                f"connections are also sent to {', '.join(strangers)}",
                "These are no planned control planes.",
                "Run cluster.yml without --limit, so that all hosts learn the present control planes.",
            )

    def compare_api(self, name: str, way: Way) -> None:
        api = way.seen.get("api") or {}
        if not api.get("ok"):
            self.found.error(
                name,
                "apiserver_vip",
                f"GET /readyz through {way.vip}: {api.get('error') or 'not asked'}",
                "The host does not reach the API server as its kubelet does.",
                "The lines above on the route and the virtual server say where it ends."
                if self.balancer == IPVS
                else "See journalctl -u multinic-apiserver-proxy here."
                if self.balancer == LOCALHOST
                else "See that the balancer listens, and that its servers are the control planes.",
            )
        elif self.balancer == IPVS and api.get("source") != way.source:
            self.found.error(
                name,
                "apiserver_vip",
                f"the API server was reached from {api.get('source')}, planned {way.source}",
                "Traffic to the API server does not run on the cluster network.",
                "systemctl restart multinic-vip-route",
            )
        if not self.by_dns and way.vip not in (api.get("resolved") or ()):
            self.found.error(
                name,
                "apiserver_name",
                f"{self.plan['apiserver']['name']} is {', '.join(api.get('resolved') or ()) or 'unknown'} here, "
                f"planned {way.vip}",
                "kubelet and kubectl use the name.",
                "See the block of multinic in /etc/hosts; another line or a DNS server may say otherwise.",
            )

    def compare_static_pods(self, name: str, planned: Mapping[str, Any], status: Mapping[str, Any]) -> None:
        flags = status.get("static_pods") or {}
        wanted = {
            ("kube-apiserver", "advertise-address"): planned["address"],
            ("etcd", "initial-advertise-peer-urls"): f"https://{in_url(planned['address'])}:2380",
            ("etcd", "advertise-client-urls"): f"https://{in_url(planned['address'])}:2379",
        }
        for (pod, flag), value in wanted.items():
            if name in self.foreign and pod not in flags:
                continue
            having = (flags.get(pod) or {}).get(flag)
            if having != value:
                self.found.error(
                    name,
                    "cluster_network",
                    f"{pod} has --{flag}={having if having is not None else '(not set)'}, planned {value}",
                    "Other members follow what it advertises.",
                    f"See /etc/kubernetes/manifests/{pod}.yaml.",
                )

    # -- etcd --

    def compare_etcd(self) -> None:
        masters = {name: self.plan["hosts"][name] for name in self.plan["control_plane"] if name in self.plan["hosts"]}
        seen = {name: self.hosts[name].get("etcd") or {} for name in masters if name in self.hosts}
        outside = [name for name, etcd in seen.items() if not etcd and name in self.foreign]
        if outside:
            self.untested.append(f"etcd: it does not run as a static pod of kubeadm on {', '.join(outside)}")
            return
        healthy = 0
        for name, etcd in seen.items():
            if etcd.get("healthy"):
                healthy += 1
                continue
            self.found.error(
                name,
                "",
                f"etcd is not healthy: {etcd.get('error') or 'no answer'}",
                "Without it this control plane serves nothing, and each further loss may stop the cluster.",
                "See crictl logs of the etcd container on this host.",
            )
        lists = [etcd["members"] for etcd in seen.values() if etcd.get("members")]
        if lists:
            self.compare_members(lists[0], masters)
        if seen and healthy == len(masters):
            self.tested.append(f"all {healthy} etcd members are healthy, their peers on the cluster network")
        elif healthy == len(seen):
            self.untested.append(f"etcd on {', '.join(sorted(set(masters) - set(seen)))}: not part of this run")

    def compare_members(self, members: Sequence[Mapping[str, Any]], masters: Mapping[str, Mapping[str, Any]]) -> None:
        having = {str(urlsplit(url).hostname) for member in members for url in member["peer_urls"]}
        wanted = {str(planned["address"]) for planned in masters.values()}
        for address in sorted(wanted - having):
            self.found.error(
                next(name for name, planned in masters.items() if planned["address"] == address),
                "cluster_network",
                f"no etcd member has the peer address {address} (members: {', '.join(sorted(having))})",
                "This control plane's data is not replicated on the planned address.",
                "Compare etcd's member list with the plan before you restart anything.",
            )
        for address in sorted(having - wanted) if self.complete else ():
            self.found.error(
                "",
                "kube_control_plane",
                f"etcd has a member at {address} that is no planned control plane",
                "A member that is gone counts against the majority.",
                "Add the host to kube_control_plane, or remove the member.",
            )

    # -- pods --

    def compare_pod_network(self) -> None:
        if self.plan["cni"]["name"] == "none":
            self.untested.append("pods reaching each other: cni is none")
            return
        self.tell_trouble()
        answered, sent = 0, 0
        for name, status in self.hosts.items():
            probe = status.get("pod_network") or {}
            if probe.get("skipped"):
                self.untested.append(f"pods reaching each other from {name}: {probe['skipped']}")
            for peer in probe.get("peers") or ():
                sent += 1
                answered += bool(peer["answered"] and peer["full_size"])
                if not (peer["answered"] and peer["full_size"]):
                    what = "no answer" if not peer["answered"] else f"no answer to packets of {probe['mtu']} bytes"
                    self.found.error(
                        name,
                        "cni",
                        f"a pod here pings a pod on {peer['node']} ({peer['address']}): {what}",
                        "Pods on different nodes do not reach each other.",
                        "See the routes to the pod CIDRs (ip route), FORWARD rules and the MTU of both hosts.",
                    )
        if sent and answered == sent:
            self.tested.append(f"all {sent} pings between pods on different nodes came back, at the pods' full MTU")
        elif not sent and len(self.hosts) > 1 and not self.untested:
            self.untested.append("pods reaching each other: no probe pods ran")

    def tell_trouble(self) -> None:
        """Nodes on which the probe's pod did not start; and why there are no pods at all."""
        names = {str(planned["node_name"]): name for name, planned in self.plan["hosts"].items()}
        for sentence in self.trouble:
            node, _colon, why = sentence.partition(": ")
            if node not in names:
                self.untested.append(f"pods reaching each other: {sentence}")
                continue
            self.found.error(
                names[node],
                "cni",
                why,
                "The node is Ready, yet a pod does not start there.",
                "See journalctl -u kubelet -u containerd on the host; a missing CNI plugin or pod CIDR is the usual cause.",
            )

    def compare_dns(self) -> None:
        pods = [pod for pod in self.pods if is_dns(pod)]
        if not self.listed:
            return
        if self.cluster_error:
            self.untested.append("cluster DNS: the pods could not be listed")
            return
        ready = [pod for pod in pods if pod["ready"]]
        if not ready and self.dns_missing:
            self.untested.append(f"cluster DNS: no CoreDNS runs (the bundle holds none: {self.dns_missing})")
            return
        if not pods:
            self.untested.append("cluster DNS: no CoreDNS runs")
            return
        if not ready and self.plan["cni"]["name"] == "none":
            self.untested.append("cluster DNS: CoreDNS waits for a pod network, and cni is none")
            return
        if not ready:
            for pod in pods:
                self.found.error(
                    str(pod["node"]),
                    "",
                    f"{pod['name']} is not ready: {pod['reason'] or pod['phase']}",
                    "No pod resolves a name until one CoreDNS is ready.",
                    f"kubectl -n kube-system logs {pod['name']}; kubectl -n kube-system describe pod {pod['name']}",
                )
            return
        asked = {
            name: status["dns"] for name, status in self.hosts.items() if (status.get("dns") or {}).get("question")
        }
        silent = {name: dns for name, dns in asked.items() if not dns.get("answers")}
        for name, dns in silent.items():
            self.found.error(
                name,
                "",
                f"{dns['question']} asked of {self.plan['dns_address']} by a pod here: {dns.get('error')}",
                "Pods of this node resolve no names.",
                "See kube-proxy's log on this node, and the routes to the nodes that CoreDNS runs on.",
            )
        if not asked:
            self.untested.append("cluster DNS: no pod could ask")
        elif not silent:
            self.tested.append(f"cluster DNS answers pods on all {len(asked)} nodes")

    # -- the summary --

    def row(self, name: str) -> dict[str, str]:
        planned, status = self.plan["hosts"][name], self.hosts.get(name) or {}
        node = self.nodes.get(planned["node_name"]) or {}
        flags = status.get("static_pods") or {}
        peer = urlsplit((flags.get("etcd") or {}).get("initial-advertise-peer-urls", "")).hostname
        seen = [status, *(status.get("further_vips") or ())]
        reals = [real for way in seen for real in (way.get("virtual_server") or {}).get("real_servers") or ()]
        sources = [str((way.get("api") or {}).get("source") or "") for way in seen]
        role = "control plane" if planned["role"] == "control_plane" else "worker"
        return {
            "host": name,
            "node": str(planned["node_name"]),
            "ready": {True: "yes", False: "NO"}.get(node.get("ready"), "?"),  # type: ignore[arg-type]
            "role": role + (", worker" if planned["role"] == "control_plane" and planned.get("schedulable") else ""),
            "version": str(node.get("version", "")),
            "internal_ip": ", ".join(node.get("internal_ips") or ()),
            "kubelet": str((status.get("kubelet") or {}).get("node_ip") or ""),
            "apiserver": str((flags.get("kube-apiserver") or {}).get("advertise-address") or ""),
            "etcd": str(peer or ""),
            "api_from": ", ".join(filter(None, sources)),
            "real_servers": " ".join(str(real["address"]) for real in reals if real["weight"] > 0),
        }


def same_version(running: str, planned: str) -> bool:
    """Whether two versions are one release; whoever built it may have added a mark of his own."""
    try:
        return parse(running)[:4] == parse(planned)[:4]
    except VersionError:
        return running == planned


def compare(
    plan: Mapping[str, Any],
    cluster: Mapping[str, Any],
    hosts: Mapping[str, Mapping[str, Any]],
    trouble: Sequence[str] = (),
    foreign: Collection[str] = (),
) -> Verdict:
    """Everything that was seen against the plan; all differences at once.

    Hosts that something else made members, ``foreign``, have no VIP and no balancer of ours: these are not compared.
    """
    return _Comparison(plan, cluster, hosts, trouble, foreign).run()


# --- telling ----------------------------------------------------------------------------------------------------------


def ssh_command(variables: Mapping[str, Any], name: str) -> str:
    """How a person gets into a host, by its connection variables."""
    host = str(variables.get("ansible_host") or variables.get("ansible_ssh_host") or name)
    user = variables.get("ansible_user") or variables.get("ansible_ssh_user")
    words = ["ssh"]
    key = variables.get("ansible_ssh_private_key_file") or variables.get("ansible_private_key_file")
    port = variables.get("ansible_port") or variables.get("ansible_ssh_port")
    if key:
        words += ["-i", shlex.quote(str(key))]
    if port and str(port) != "22":
        words += ["-p", str(port)]
    words += [
        str(variables[key]).strip()
        for key in ("ansible_ssh_common_args", "ansible_ssh_extra_args")
        if variables.get(key)
    ]
    words.append(f"{user}@{host}" if user else host)
    return " ".join(words)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Columns as wide as their widest cell."""
    lines = [list(head), *([str(cell) or "-" for cell in row] for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip() for line in lines]


def summary(plan: Mapping[str, Any], verdict: Verdict, access: str) -> str:
    """What a person wants to see at the end of a run."""
    apiserver = plan["apiserver"]
    lines = [
        f"Kubernetes {plan['kubernetes_version']}: {len(plan['control_plane'])} control planes, "
        f"{len(plan['hosts']) - len(plan['control_plane'])} further workers, cni {plan['cni']['name']}",
        f"API server: https://{apiserver['endpoint']}{_balanced(plan)}",
        "",
        *table(
            ("NODE", "READY", "ROLE", "KUBELET", "APISERVER", "ETCD PEER", "API FROM", "REAL SERVERS"),
            [
                tuple(row[k] for k in ("node", "ready", "role", "kubelet", "apiserver", "etcd", "api_from"))
                + (short(row["real_servers"].split()),)
                for row in verdict.rows
            ],
        ),
        "",
    ]
    lines += [f"seen      {sentence}" for sentence in verdict.tested]
    lines += [f"not seen  {sentence}" for sentence in verdict.untested]
    lines += [
        "",
        "Get in:",
        f"  {access}",
        "Then, as root there:",
        "  export KUBECONFIG=/etc/kubernetes/admin.conf",
        "  kubectl get nodes -o wide",
        "  kubectl get pods -A -o wide",
    ]
    return "\n".join(lines)


def _balanced(plan: Mapping[str, Any]) -> str:
    """Where the API's name leads, and who balances it."""
    addresses = ", ".join(api_addresses(plan))
    mode = mode_of(plan)
    if mode == IPVS:
        return f" = VIP {addresses}, balanced on each host by IPVS"
    if mode == LOCALHOST:
        return f" = {addresses}, balanced on each host by a proxy"
    by_name = addresses == plan["apiserver"]["name"]
    return f"{'' if by_name else f' = {addresses}'}, balanced outside of the cluster"


def short(addresses: Sequence[str]) -> str:
    """Addresses of one /24 as 192.168.253.128 .129 .130; others in full."""
    try:
        ordered = sorted(addresses, key=ipaddress.ip_address)
    except (ValueError, TypeError):
        return " ".join(addresses)
    told: list[str] = []
    for number, address in enumerate(ordered):
        head, _dot, tail = address.rpartition(".")
        same = number > 0 and head and ordered[number - 1].rpartition(".")[0] == head
        told.append(f".{tail}" if same else address)
    return " ".join(told)


def told(findings: Sequence[Finding]) -> str:
    """The findings below their headings, as the preflight tells its own; empty when there is none."""
    return render(findings, {"error": "NOT AS PLANNED"}) if findings else ""


def nothing_yet(plan: Mapping[str, Any]) -> str:
    """What is told where no host is a member of a cluster."""
    return textwrap.fill(f"There is no cluster on {', '.join(plan['hosts'])} yet, so there is nothing to verify.", 110)
