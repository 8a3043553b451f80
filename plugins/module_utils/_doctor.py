# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Judges a running cluster: which address each component really uses, against the plan.

This module util is PRIVATE to the collection. It is pure: no I/O, no Ansible, standard library only. What the hosts and
the API say comes from the modules network_facts, network_probe, cluster_status and component_status.
"""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from typing import Any, Optional

from ansible_collections.multinic.kubernetes.plugins.module_utils._balancer import (
    BALANCER_UNIT,
    GUARD_UNIT,
    ROUTE_UNIT,
)
from ansible_collections.multinic.kubernetes.plugins.module_utils._balancer_modes import (
    EXTERNAL,
    IPVS,
    LOCALHOST,
    PROXY_UNIT,
)
from ansible_collections.multinic.kubernetes.plugins.module_utils._components import (
    asked_from,
    is_address,
    is_any,
    is_loopback,
    normal,
    url_hosts,
)
from ansible_collections.multinic.kubernetes.plugins.module_utils._findings import (
    WIDTH,
    Finding,
    Findings,
    headline,
    ordered,
    render,
)
from ansible_collections.multinic.kubernetes.plugins.module_utils._net import HostNetwork
from ansible_collections.multinic.kubernetes.plugins.module_utils._probe import judge
from ansible_collections.multinic.kubernetes.plugins.module_utils._seen import addresses_of, api_addresses, vip_sources
from ansible_collections.multinic.kubernetes.plugins.module_utils._verify import Verdict, compare, short, table

DAY = 86400
WARN_DAYS = 30
FEW = 12  # hosts up to which every address is shown; beyond, those that are not as planned
LISTED = 8
ETCD_CLIENT, ETCD_PEER = 2379, 2380
CONTROL_PLANE_CLIENTS = ("kube-controller-manager", "kube-scheduler")
CLIENTS = ("kubelet", "kube-proxy", *CONTROL_PLANE_CLIENTS)
# kubelet renews this one never, and no API server looks at it unless told to.
LENIENT = "kubelet server"
RUNTIMES = {"containerd.service": "containerd", "crio.service": "cri-o", "docker.service": "docker"}


@dataclass(frozen=True)
class Seen:
    """All that is known of a cluster, by host."""

    plan: Mapping[str, Any]
    facts: Mapping[str, Mapping[str, Any]]
    probes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    status: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # cluster_status, of members
    components: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # component_status
    views: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # the cluster as each control plane sees it
    troubles: Mapping[str, str] = field(default_factory=dict)
    findings: Sequence[Finding] = ()  # of the plan
    hosts: Sequence[str] = ()  # that take part in the run

    def fact(self, name: str, *path: str) -> Any:
        value: Any = self.facts.get(name) or {}
        for key in path:
            value = value.get(key) if isinstance(value, Mapping) else None
        return value

    def member(self, name: str) -> bool:
        return bool(self.fact(name, "kubernetes", "kubelet_conf"))

    def foreign(self, name: str) -> bool:
        """Whether something else than this collection made the host a member."""
        return self.member(name) and not (
            self.fact(name, "kubernetes", "member") or self.fact(name, "kubernetes", "ours")
        )


@dataclass(frozen=True)
class Use:
    """An address that a component uses. right is nothing where it could not be seen or there is nothing to compare with."""

    component: str
    what: str
    uses: tuple[str, ...]
    planned: tuple[str, ...]
    card: str
    right: Optional[bool]

    def as_dict(self) -> dict[str, Any]:
        return {
            "component": self.component,
            "what": self.what,
            "uses": list(self.uses),
            "planned": list(self.planned),
            "card": self.card,
            "as_planned": self.right,
        }


@dataclass(frozen=True)
class Diagnosis:
    """What the doctor tells."""

    findings: list[Finding]
    about: dict[str, Any]
    uses: dict[str, list[Use]]
    certificates: dict[str, list[dict[str, Any]]]
    rows: list[dict[str, str]]
    tested: list[str]
    untested: list[str]
    cluster: dict[str, Any]


def diagnose(seen: Seen) -> Diagnosis:
    """Everything that was seen against the plan; all differences at once."""
    return _Doctor(seen).run()


def best_view(views: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The cluster as the first control plane sees it whose API server answers; else why the first does not."""
    told = [dict(view) for view in views.values() if view]
    return next((view for view in told if not view.get("error")), told[0] if told else {})


class _Doctor:
    def __init__(self, seen: Seen) -> None:
        self.seen = seen
        self.plan = seen.plan
        self.found = Findings()
        self.uses: dict[str, list[Use]] = {}
        self.certificates: dict[str, list[dict[str, Any]]] = {}
        self.cluster = best_view(seen.views)
        self.nodes = {str(node["name"]): node for node in self.cluster.get("nodes") or ()}
        self.networks = {name: HostNetwork.from_facts(facts) for name, facts in seen.facts.items() if facts}
        self.members = [name for name in seen.hosts if seen.member(name)]
        self.tested: list[str] = []
        self.untested: list[str] = []

    def run(self) -> Diagnosis:
        self.found.extend(self.seen.findings)
        for name, trouble in self.seen.troubles.items():
            self.found.error(
                name,
                "",
                f"the host could not be examined: {trouble}",
                "What its components use is not known.",
                "Check that sudo gives root there, and run again.",
            )
        if not self.members:
            self.nothing()
            return self.told(Verdict())
        verdict = Verdict()
        if self.plan.get("hosts"):
            self.found.extend(proof_findings(self.seen))
            verdict = self.verify()
        for name in self.members:
            self.examine(name, self.plan.get("hosts", {}).get(name))
        self.judge_strangers()
        self.tell_members()
        self.tell_certificates()
        self.tell_guards()
        return self.told(verdict)

    def told(self, verdict: Verdict) -> Diagnosis:
        return Diagnosis(
            ordered(self.found.items),
            self.about(),
            self.uses,
            self.certificates,
            verdict.rows,
            [*verdict.tested, *self.tested],
            [*verdict.untested, *self.untested],
            self.cluster,
        )

    def nothing(self) -> None:
        names = [name for name in self.seen.hosts if self.seen.facts.get(name)]
        if names:
            self.found.error(
                "",
                "",
                f"no host is a node of a cluster: /etc/kubernetes/kubelet.conf is on none of {_few(names)}",
                "The doctor looks at a cluster that runs, and it looks for what kubeadm writes.",
                "Check that the inventory is the cluster's. playbooks/cluster.yml makes a cluster, and "
                "playbooks/preflight.yml looks at hosts that are to become one.",
            )

    def verify(self) -> Verdict:
        status = {name: self.seen.status[name] for name in self.members if self.seen.status.get(name)}
        foreign = [name for name in self.members if self.seen.foreign(name)]
        verdict = compare(self.plan, self.cluster or {"nodes": None}, status, foreign=foreign)
        self.found.extend(verdict.findings)
        return verdict

    # -- what it is --

    def about(self) -> dict[str, Any]:
        """What kind of cluster this is."""
        nodes = self.nodes.values()
        servers = Counter(
            str(server)
            for name in self.members
            if (server := _dig(self.seen.components.get(name) or {}, "kubeconfigs", "kubelet", "server"))
        )
        runtimes = {str(node.get("runtime")) for node in nodes if node.get("runtime")} or {
            RUNTIMES[unit]
            for name in self.members
            for unit, state in (_dig(self.seen.components.get(name) or {}, "units") or {}).items()
            if unit in RUNTIMES and state["active"] == "active"
        }
        configuration: dict[str, Any] = next(
            (found for name in self.members if (found := self.component(name).get("cluster_configuration"))), {}
        )
        modes = {self.proxy_mode(name) for name in self.members} - {""}
        return {
            "ours": bool(self.members) and not any(self.seen.foreign(name) for name in self.members),
            "foreign": [name for name in self.members if self.seen.foreign(name)],
            # The kubelets'; where nobody could be asked for the nodes, what kubeadm was told.
            "versions": sorted({str(node["version"]) for node in nodes if node.get("version")})
            or list(filter(None, [configuration.get("kubernetesVersion")])),
            "runtimes": sorted(runtimes),
            "endpoints": [server for server, _number in servers.most_common()],
            "kube_proxy_modes": sorted(modes),
            "cni": sorted({str(file) for name in self.members for file in self.component(name).get("cni") or ()}),
            "cluster_configuration": configuration,
        }

    def component(self, name: str) -> Mapping[str, Any]:
        return self.seen.components.get(name) or {}

    def proxy_mode(self, name: str) -> str:
        """The mode that kube-proxy says to be in, else the one that it has read."""
        proxy = self.component(name).get("kube_proxy") or {}
        return str(proxy.get("mode") or _dig(proxy, "settings", "mode") or "")

    # -- one host --

    def examine(self, name: str, planned: Optional[Mapping[str, Any]]) -> None:
        host = self.component(name)
        self.uses[name] = []
        if not host:
            return
        self.use_addresses(name, planned)
        self.use_connections(name, planned, host)
        self.use_pod_network(name, planned, host)
        self.judge_remains(name, host)
        self.judge_defaults(name)
        self.judge_clock(name)
        if planned is not None:
            self.judge_listening(name, planned, host)
            if not self.seen.foreign(name):
                self.judge_units(name, host)
                self.judge_guard(name, host)
                self.judge_proxy(name, host)
        self.judge_certificates(name, planned, host)

    def card(self, name: str, addresses: Iterable[str]) -> str:
        """The cards that hold the addresses."""
        network = self.networks.get(name)
        cards = []
        for text in addresses:
            if is_loopback(text):
                cards.append("lo")
            elif network is not None and is_address(text):
                holder = network.holder(ip_address(text))
                cards.append(holder[0].name if holder else "on no card")
        return ", ".join(dict.fromkeys(cards))

    def use(
        self, name: str, component: str, what: str, uses: Iterable[str], planned: Iterable[str] = ()
    ) -> Optional[Use]:
        """Note an address that is used; returns it if it is not the planned one."""
        used, wanted = tuple(dict.fromkeys(filter(None, uses))), tuple(filter(None, planned))
        right = set(used) <= set(wanted) if used and wanted else None
        entry = Use(component, what, used, wanted, self.card(name, used), right)
        self.uses[name].append(entry)
        return entry if right is False else None

    def use_addresses(self, name: str, planned: Optional[Mapping[str, Any]]) -> None:
        """What was compared already; here it is only shown."""
        status = self.seen.status.get(name) or {}
        node = self.nodes.get(self.node_name(name, planned)) or {}
        own = [str(planned["address"])] if planned else []
        every = addresses_of(planned) if planned else []
        flags = _dig(self.component(name), "processes", "kubelet", "flags") or {}
        self.use(name, "kubelet", "--node-ip", str(flags.get("node-ip") or "").split(","), every)
        if node:
            self.use(name, "node", "INTERNAL-IP", node.get("internal_ips") or (), every)
        if planned and not self.seen.foreign(name):
            ways = [status, *(status.get("further_vips") or ())]
            mode = self.plan["apiserver"].get("balancer") or IPVS
            sources = vip_sources(planned)
            if mode == IPVS:
                routes = [way.get("route") or {} for way in ways]
                kinds = " and ".join(dict.fromkeys(str(route.get("type") or "none") for route in routes))
                having = [str(route.get("source") or "") for route in routes]
                self.use(name, "VIP route", f"source ({kinds})", having, sources)
                kept = [str(guard.get("source") or "") for guard in self.guards(name)]
                if kept:
                    self.use(name, "guard of the VIP", "keeps the source", kept, sources)
            # What asks a proxy on the host itself has the loopback address; the proxy has a source of its own.
            self.use(
                name,
                "API through the VIP" if mode == IPVS else f"API ({mode})",
                "asked from",
                [str(_dig(way, "api", "source") or "") for way in ways],
                sources if mode == IPVS else (),
            )
        apiserver = _dig(self.component(name), "processes", "kube-apiserver", "flags")
        if apiserver is not None:
            self.use(name, "kube-apiserver", "advertises", [str(apiserver.get("advertise-address") or "")], own)
        etcd = _dig(self.component(name), "processes", "etcd", "flags")
        if etcd is not None:
            for flag, what in (
                ("initial-advertise-peer-urls", "advertises to peers"),
                ("advertise-client-urls", "advertises to clients"),
                ("listen-peer-urls", "listens for peers"),
                ("listen-client-urls", "listens for clients"),
            ):
                hosts = [host for host in url_hosts(str(etcd.get(flag) or "")) if not is_loopback(host)]
                self.use(name, "etcd", what, hosts, own)

    def node_name(self, name: str, planned: Optional[Mapping[str, Any]]) -> str:
        told = (planned or {}).get("node_name") or self.seen.fact(name, "identity", "hostname") or name
        return str(told).lower()

    def use_connections(self, name: str, planned: Optional[Mapping[str, Any]], host: Mapping[str, Any]) -> None:
        own = [str(planned["address"])] if planned else []
        source = vip_sources(planned) if planned else []
        for program in CLIENTS:
            kubeconfig, process = _dig(host, "kubeconfigs", program), _dig(host, "processes", program)
            if process is None:
                self.missing_program(name, program, planned)
                continue
            server = str((kubeconfig or {}).get("server") or "")
            local = asked_from(process["outgoing"], server, (kubeconfig or {}).get("resolved") or ()) if server else []
            if any(is_loopback(end) for end in local):
                # A proxy on the host itself: it leaves the host from wherever that goes.
                self.use(name, program, f"asks {_told(server)} from", local)
                continue
            # To an external balancer the kernel chooses the way.
            elsewhere = _dig(self.plan, "apiserver", "balancer") == EXTERNAL and program not in CONTROL_PLANE_CLIENTS
            wrong = self.use(name, program, f"asks {_told(server)} from", local, () if elsewhere else (*source, *own))
            self.judge_server(name, program, server, planned)
            if wrong:
                tell = self.found.warning if self.seen.foreign(name) else self.found.error
                tell(
                    name,
                    "cluster_network",
                    f"{program} asks the API server at {_told(server)} from {', '.join(local)} ({wrong.card}), planned "
                    f"{', '.join(dict.fromkeys((*source, *own)))}",
                    "Its traffic does not run on the cluster network.",
                    "See the route to that address (ip route get), then restart the program: a connection keeps its source.",
                )
        for program, port, what in (
            ("etcd", ETCD_PEER, "asks its peers from"),
            ("kube-apiserver", ETCD_CLIENT, "asks etcd from"),
        ):
            process = _dig(host, "processes", program)
            ends = [end for end in (process or {}).get("outgoing") or () if end["port"] == port]
            local = sorted({str(end["local"]) for end in ends if not is_loopback(str(end["local"]))})
            if process is None or not local:
                continue
            wrong = self.use(name, program, what, local, own)
            if wrong:
                tell = self.found.warning if self.seen.foreign(name) else self.found.error
                tell(
                    name,
                    "cluster_network",
                    f"{program} {what} {', '.join(local)} ({wrong.card}), planned {', '.join(own)}",
                    "Its traffic does not run on the cluster network, or comes from an address that the others do not know.",
                    "See ip route get to the other control planes, and which address is the first of the cluster's card.",
                )

    def missing_program(self, name: str, program: str, planned: Optional[Mapping[str, Any]]) -> None:
        master = bool(planned) and planned["role"] == "control_plane"  # type: ignore[index]
        if program == "kubelet" or (program in CONTROL_PLANE_CLIENTS and not master):
            return  # kubelet is told by the comparison with the plan
        if program == "kube-proxy" and self.seen.foreign(name):
            self.untested.append(f"kube-proxy on {name}: it does not run there")
            return
        self.found.error(
            name,
            "",
            f"{program} is not running",
            "Services have no backends on this node."
            if program == "kube-proxy"
            else "Another control plane may do its work, until that is gone too.",
            f"See kubectl -n kube-system get pods -o wide, and crictl ps -a --name {program} here.",
        )

    def judge_server(self, name: str, program: str, server: str, planned: Optional[Mapping[str, Any]]) -> None:
        """kubelet's was compared already."""
        if program == "kubelet" or not server or planned is None or self.seen.foreign(name):
            return
        api = self.plan["apiserver"]
        good = {str(api["name"]), *api_addresses(self.plan)}
        if program in CONTROL_PLANE_CLIENTS:
            good |= set(planned["addresses"])
        host = url_hosts(server)[0]
        if host not in good and not (program in CONTROL_PLANE_CLIENTS and is_loopback(host)):
            self.found.error(
                name,
                "apiserver_name",
                f"{program} talks to {server}, planned https://{api['endpoint']}",
                "A program that knows one API server only is lost with it, and this one is on another network."
                if is_address(host)
                else "It follows a name that the plan does not know.",
                "Set server: in the configmap kube-proxy of kube-system and restart its pods."
                if program == "kube-proxy"
                else f"Set server: in {_dig(self.component(name), 'kubeconfigs', program, 'path')} and restart it.",
            )

    def use_pod_network(self, name: str, planned: Optional[Mapping[str, Any]], host: Mapping[str, Any]) -> None:
        node = self.nodes.get(self.node_name(name, planned)) or {}
        own = list(planned["addresses"]) if planned else []
        taken = str(node.get("calico_address") or "")
        if taken and self.use(name, "Calico", "took", [taken], own):
            self.found.error(
                name,
                "calico_autodetection_method",
                f"calico/node took {taken} ({self.card(name, [taken])}), planned {', '.join(own)}",
                "Pods' traffic between nodes runs on another network, or nowhere.",
                "Set the autodetection method (kubernetes-internal-ip, or cidr= with the cluster network) in the DaemonSet "
                "calico-node or the operator's Installation; its pods restart by themselves.",
            )
        for tunnel in host.get("tunnels") or ():
            parent, local = str(tunnel.get("link") or ""), str(tunnel.get("local") or "")
            if not (parent or local):
                continue
            wrong = self.use(name, str(tunnel["name"]), f"sends by {parent or 'any card'} from", [local], own)
            if wrong or (planned and parent and parent != planned["interface"]):
                self.found.error(
                    name,
                    "cluster_network",
                    f"{tunnel['name']} ({tunnel['kind']}) sends by {parent or 'any card'}"
                    + (f" from {local}" if local else "")
                    + (f", planned {planned['interface']} with {planned['address']}" if planned else ""),
                    "Pods' traffic between nodes runs on another network than the cluster's.",
                    "Tell the pod network its card or network: Calico's autodetection method, flannel's --iface. It makes "
                    "the tunnel anew when its pod restarts.",
                )

    # -- findings of one host --

    def judge_remains(self, name: str, host: Mapping[str, Any]) -> None:
        """Addresses that were written down at the installation and are on no card any more."""
        network = self.networks.get(name)
        if network is None:
            return
        etcd = _dig(host, "processes", "etcd", "flags") or {}
        written = {
            "kubelet's --node-ip": _dig(host, "processes", "kubelet", "flags", "node-ip")
            or _dig(host, "installed", "node_ip"),
            "the VIP's route": _dig(host, "installed", "route_source"),
            "kube-apiserver's --advertise-address": _dig(
                host, "processes", "kube-apiserver", "flags", "advertise-address"
            ),
            "etcd's --initial-advertise-peer-urls": next(
                iter(url_hosts(str(etcd.get("initial-advertise-peer-urls") or ""))), ""
            ),
        }
        gone: dict[str, list[str]] = {}
        for what, address in written.items():
            text = str(address or "")
            if not is_address(text) or is_any(text) or is_loopback(text):
                continue
            if network.holder(ip_address(text)) is None:
                gone.setdefault(text, []).append(what)
        planned = self.plan.get("hosts", {}).get(name)
        now = f"; the plan has {planned['address']} on {planned['interface']} now" if planned else ""
        for address, users in gone.items():
            self.found.error(
                name,
                "cluster_network",
                f"{address} is on no card any more, and {', '.join(users)} still has it{now}",
                "The host's address was changed after the cluster was installed. Certificates and etcd's members hold the "
                "old one.",
                f"Give the card {address} back. If it has to change, remove the host from the cluster and let it join again.",
            )
        if planned is None:
            for address in {str(found) for found in written.values() if found} - set(gone):
                self.found.info(
                    name,
                    "cluster_network",
                    f"it was installed with {address}, which is on {self.card(name, [address])} now",
                    "The plan has no address for this host. Its card may have been renamed, or its network changed.",
                )

    def judge_defaults(self, name: str) -> None:
        network = self.networks.get(name)
        for family in (4, 6) if network is not None else ():
            devices = network.default_devices(family) if network is not None else ()
            if len(devices) > 1:
                self.found.warning(
                    name,
                    "",
                    f"it has {len(devices)} default routes for IPv{family}, by {', '.join(devices)}",
                    "Which one answers leave by changes with a link's state, and programs that take the default route's "
                    "address take another one then.",
                    "Leave the default route of one card only; reach further networks by routes of their own.",
                )

    def judge_clock(self, name: str) -> None:
        clock = self.seen.fact(name, "clock") or {}
        if clock.get("synchronised") is False and not self.offline(name):
            self.found.warning(
                name,
                "time_servers",
                f"its clock is not synchronised ({clock.get('daemon') or 'no time daemon runs'})",
                "Clocks drift apart, and certificates and etcd's leases need them together.",
                "See chronyc sources (or timedatectl timesync-status), and that its time servers answer.",
            )

    def offline(self, name: str) -> bool:
        """Whether the cluster keeps its own time, and this host is one of those that serve it."""
        time = self.plan.get("time") or {}
        return bool(time.get("offline")) and name in (time.get("serving") or ())

    def judge_listening(self, name: str, planned: Mapping[str, Any], host: Mapping[str, Any]) -> None:
        etcd = _dig(host, "processes", "etcd", "flags") or {}
        for flag in ("listen-peer-urls", "listen-client-urls"):
            hosts = [found for found in url_hosts(str(etcd.get(flag) or "")) if not is_loopback(found)]
            if any(is_any(found) for found in hosts):
                self.found.warning(
                    name,
                    "",
                    f"etcd listens on every card (--{flag}={etcd[flag]})",
                    "It answers on networks that are not the cluster's.",
                    f"Set --{flag} in /etc/kubernetes/manifests/etcd.yaml to {planned['address']} and loopback.",
                )
            elif hosts and str(planned["address"]) not in hosts:
                self.found.error(
                    name,
                    "cluster_network",
                    f"etcd listens on {', '.join(hosts)} (--{flag}), planned {planned['address']}",
                    "The other members do not reach it on the cluster network.",
                    "See /etc/kubernetes/manifests/etcd.yaml.",
                )

    def judge_units(self, name: str, host: Mapping[str, Any]) -> None:
        units = host.get("units") or {}
        mode = self.plan["apiserver"].get("balancer")
        for unit, why, of in (
            (ROUTE_UNIT, "It sets the VIP's route at boot; without it the host comes back without the API.", IPVS),
            (BALANCER_UNIT, "Nobody takes a dead control plane out of IPVS, or puts one back in.", IPVS),
            (GUARD_UNIT, "Nobody puts the VIP's route or virtual server back when something takes it away.", IPVS),
            (PROXY_UNIT, "Without it the host does not reach the API, or a control plane only its own.", LOCALHOST),
        ):
            state = units.get(unit)
            if state is None and mode == of:
                self.found.error(
                    name, "", f"there is no unit {unit}", why, "Run cluster.yml again with --tags apiserver_balancer."
                )
            elif state is not None and state["active"] != "active":
                self.found.error(
                    name,
                    "",
                    f"{unit} is {state['active']} ({state['sub']})",
                    why,
                    f"systemctl restart {unit}; see journalctl -u {unit}.",
                )
            elif state is not None and state["enabled"] not in ("enabled", ""):
                self.found.warning(name, "", f"{unit} is {state['enabled']}", why, f"systemctl enable {unit}")

    def judge_guard(self, name: str, host: Mapping[str, Any]) -> None:
        """What the guard itself says. It has looked a second ago, so its complaints are of now."""
        guards = host.get("guards") or ()
        for told in dict.fromkeys(told for guard in guards for told in guard.get("open") or ()):
            self.found.warning(
                name,
                "",
                f"the guard of the API server's address says: {told}",
                "It does not put this right by itself.",
                f"See journalctl -u {GUARD_UNIT}.",
            )
        for thing in dict.fromkeys(thing for guard in guards for thing in guard.get("clashes") or ()):
            self.found.warning(
                name,
                "",
                f"something keeps changing what the guard of the API server's address puts back: {thing}",
                "The guard stands back and repairs it every half minute at most; until then the API may be out of reach here.",
                f"Find who does it: journalctl -u {GUARD_UNIT} tells what was found and who it might be.",
            )

    def guards(self, name: str) -> list[Mapping[str, Any]]:
        """What the host's guard says, of each VIP."""
        return [guard for guard in self.component(name).get("guards") or () if guard]

    def tell_guards(self) -> None:
        """How many guards there are, and what they have done."""
        guards = [(name, guard) for name in self.members for guard in self.guards(name)]
        if not guards:
            return
        repairs = sum(int(guard.get("repairs") or 0) for _name, guard in guards)
        last = max(
            (
                (int(guard["last"].get("at") or 0), name, str(guard["last"].get("told") or ""))
                for name, guard in guards
                if guard.get("last")
            ),
            default=None,
        )
        hosts = len({name for name, _guard in guards})
        some = f"{hosts} host{'' if hosts == 1 else 's'}"
        told = f"the way to the API server is guarded on {some}; repairs since the guards started: {repairs}"
        self.tested.append(told + (f", the last on {last[1]}: {last[2]}" if last else ""))

    def judge_proxy(self, name: str, host: Mapping[str, Any]) -> None:
        wanted, mode = self.plan["kube_proxy"], self.proxy_mode(name)
        settings = _dig(host, "kube_proxy", "settings") or {}
        if mode and mode != wanted["mode"]:
            self.found.error(
                name,
                "kube_proxy_mode",
                f"kube-proxy is in {mode} mode, planned {wanted['mode']}",
                "In nftables mode it flushes IPVS whenever it starts, and with it the way to the API server."
                if mode == "nftables"
                else "It falls back to another mode where the kernel lacks modules, and without a word where it may.",
                "See mode in the configmap kube-proxy of kube-system and the log of its pod here.",
            )
        missing = [cidr for cidr in wanted["exclude_cidrs"] if not _covered(cidr, settings.get("exclude_cidrs") or ())]
        if settings and mode == "ipvs" and missing:
            self.found.error(
                name,
                "kube_proxy_config",
                f"kube-proxy's excludeCIDRs lack {', '.join(missing)} "
                f"(it has {', '.join(settings['exclude_cidrs']) or 'none'})",
                "In IPVS mode it deletes virtual servers that it does not know: the way to the API server.",
                "Add it to ipvs.excludeCIDRs in the configmap kube-proxy of kube-system and restart its pods.",
            )
        listed = host.get("kube_proxy_configmap") or {}
        if listed and settings and listed != settings:
            self.found.warning(
                name,
                "kube_proxy_config",
                "kube-proxy runs with another configuration than the configmap's now "
                f"({_settings(settings)}; the configmap: {_settings(listed)})",
                "The next restart changes how services are served on this node.",
                "kubectl -n kube-system rollout restart daemonset kube-proxy",
            )

    # -- certificates --

    def judge_certificates(self, name: str, planned: Optional[Mapping[str, Any]], host: Mapping[str, Any]) -> None:
        now = int(host.get("epoch") or 0)
        found = [dict(entry) for entry in host.get("certificates") or ()]
        self.certificates[name] = found
        files = {entry["name"]: entry for entry in found if not entry["served"]}
        for entry in found:
            what = (
                f"the certificate that {_program(entry)} serves" if entry["served"] else f"certificate {entry['name']}"
            )
            where = f" ({entry['path']})" if entry["path"] else ""
            if entry["error"] or entry["not_after"] is None:
                continue  # told together, as not seen
            days = (entry["not_after"] - now) / DAY
            entry["days"] = int(days // 1)
            if not entry["served"]:
                self.judge_dates(name, entry, f"{what}{where}", now, days)
            else:
                self.judge_served(name, entry, files.get(entry["name"]), what)
            self.judge_names(name, entry, planned, what)

    def judge_dates(self, name: str, entry: Mapping[str, Any], what: str, now: int, days: float) -> None:
        remedy = (
            "See journalctl -u kubelet, and rotateCertificates in /var/lib/kubelet/config.yaml."
            if entry["name"].startswith("kubelet ")
            else "A certificate authority has to be replaced by hand, with all that it has signed; plan for it."
            if entry["name"].endswith("ca")
            else "kubeadm certs renew all on this host (kubeadm alpha certs renew all before v1.20), then restart the "
            "control plane's pods and kubelet."
        )
        if (entry["not_before"] or 0) > now:
            self.found.error(
                name,
                "",
                f"{what} is valid only in {_days((entry['not_before'] - now) / DAY)}",
                "Nobody accepts it before that. The clock of this host, or of the one that signed it, is wrong.",
                "Set the clock right (chronyc makestep, or timedatectl set-time).",
            )
        elif days < 0:
            lenient = entry["name"] == LENIENT
            (self.found.warning if lenient else self.found.error)(
                name,
                "",
                f"{what} expired {_days(-days)} ago",
                "No API server looks at it unless it was told to, but metrics' collectors may."
                if lenient
                else "Connections that need it are refused.",
                f"Remove the file and its key, and restart kubelet: it makes a new one ({entry['path']})."
                if lenient
                else remedy,
            )
        elif days < WARN_DAYS:
            own = entry["name"].startswith("kubelet ")
            why = "kubelet should have renewed it by now." if own else "Nothing renews it by itself."
            self.found.warning(name, "", f"{what} expires in {_days(days)}", why, remedy)

    def judge_served(self, name: str, entry: Mapping[str, Any], file: Optional[Mapping[str, Any]], what: str) -> None:
        if file and file["not_after"] is not None and file["not_after"] != entry["not_after"]:
            expired = entry["days"] < 0
            (self.found.error if expired else self.found.warning)(
                name,
                "",
                f"{what} is another one than that in {file['path']}: it "
                + (f"expired {-entry['days']} days ago" if expired else f"expires in {entry['days']} days"),
                "The file was renewed, and the program goes on with what it read when it started.",
                f"Restart {_program(entry)} on this host.",
            )

    def judge_names(self, name: str, entry: Mapping[str, Any], planned: Optional[Mapping[str, Any]], what: str) -> None:
        if planned is None:
            return
        having = {normal(str(item)) for item in entry["sans"]}
        must = list(self.must_hold(name, str(entry["name"]), planned))
        missing = [item for item in must if normal(item) not in having]
        if missing:
            self.found.error(
                name,
                "apiserver_extra_sans" if entry["name"] == "apiserver" else "cluster_network",
                f"{what} lacks {', '.join(missing)}",
                "Whoever connects by that name or address refuses it.",
                "Add it to certSANs in the configmap kubeadm-config, remove apiserver.crt and apiserver.key, run kubeadm init "
                "phase certs apiserver, and restart kube-apiserver."
                if entry["name"] == "apiserver"
                else f"Remove it and its key, run kubeadm init phase certs {entry['name']}, and restart etcd; one host after "
                "the other.",
            )
        if entry["name"] == "apiserver" and not self.seen.foreign(name):
            more = [item for item in self.plan["apiserver"]["sans"] if item not in must and normal(item) not in having]
            if more and not entry["served"]:
                self.found.info(
                    name,
                    "apiserver_extra_sans",
                    f"{what} does not hold {', '.join(more)}, as a new one would",
                    "Hosts that came later, or names that were added to the inventory later, are not in it. Nothing of the "
                    "cluster uses them here.",
                )

    def must_hold(self, name: str, certificate: str, planned: Mapping[str, Any]) -> Iterator[str]:
        """What the certificate has to be good for."""
        if certificate == "apiserver":
            if self.seen.foreign(name):
                server = str(_dig(self.component(name), "kubeconfigs", "kubelet", "server") or "")
                yield from (host for host in url_hosts(server) if not is_loopback(host))
            else:
                api = self.plan["apiserver"]
                yield from (str(api["name"]), *map(str, api.get("vips") or [api["vip"]]))
            yield from planned["addresses"]
        elif certificate in ("etcd-server", "etcd-peer"):
            yield str(planned["address"])

    def tell_certificates(self) -> None:
        every = [(name, entry) for name, entries in self.certificates.items() for entry in entries]
        known = [(entry["days"], entry["name"], name) for name, entry in every if "days" in entry]
        if known:
            days, certificate, name = min(known)
            self.tested.append(
                f"{len(known)} certificates read; the first to expire is {certificate} on {name}, "
                + (f"in {days} days" if days >= 0 else f"{-days} days ago")
            )
        reasons: dict[str, list[str]] = {}
        for name, entry in every:
            if "days" not in entry:
                reasons.setdefault(str(entry["error"] or "its dates could not be read"), []).append(name)
        for reason, names in reasons.items():
            self.untested.append(f"certificates on {_few(list(dict.fromkeys(names)))}: {reason}")

    # -- the whole cluster --

    def tell_members(self) -> None:
        """What was seen in connections, in one sentence; hosts that are no nodes."""
        for name in self.seen.hosts:
            if self.seen.facts.get(name) and name not in self.members:
                self.found.error(
                    name,
                    "",
                    "it is in the inventory, and no node of the cluster (there is no /etc/kubernetes/kubelet.conf)",
                    "The host takes no part in the cluster.",
                    "Run cluster.yml again, or take the host out of the inventory.",
                )
        entries = [use for uses in self.uses.values() for use in uses]
        right = [use for use in entries if use.right]
        if right and not any(use.right is False for use in entries):
            self.tested.append(f"all {len(right)} addresses that components use are the planned ones")
        unseen = Counter(use.component for use in entries if not use.uses)
        for component, number in sorted(unseen.items()):
            self.untested.append(
                f"an address of {component} on {number} host{'' if number == 1 else 's'}: none in use now"
            )
        for name in self.members:
            trouble = str(self.component(name).get("trouble") or "")
            if trouble:
                self.untested.append(f"configmaps, asked on {name}: {' '.join(trouble.split())}")

    def judge_strangers(self) -> None:
        """Nodes that the inventory does not know."""
        known = {self.node_name(name, planned) for name, planned in (self.plan.get("hosts") or {}).items()}
        away = {name for name in self.plan.get("control_plane") or () if name not in (self.plan.get("hosts") or {})}
        away |= {finding.host for finding in self.seen.findings if finding.host and finding.severity == "error"}
        strangers = sorted(set(self.nodes) - known - {name.lower() for name in away})
        if strangers and self.plan.get("hosts"):
            self.found.warning(
                "",
                "kube_node",
                f"the cluster has nodes that the inventory does not know: {_few(strangers)}",
                "Nobody plans their addresses, and a run of cluster.yml leaves them out of /etc/hosts and the balancer.",
                "Put them into the inventory, or remove them with kubectl delete node if they are gone.",
            )


def proof_findings(seen: Seen) -> list[Finding]:
    """The proof's findings, as far as they matter to hosts that are members."""
    facts = {}
    for name, known in seen.facts.items():
        state = {**(known.get("kubernetes") or {})} if known else {}
        facts[name] = {**known, "kubernetes": {**state, "member": bool(state.get("kubelet_conf"))}} if known else {}
    # What an installation would need, or would change, is none of a running cluster's business.
    plan = {
        **seen.plan,
        "bundle": {},
        "ignore_preflight_errors": ["all"],
        "time": {**(seen.plan.get("time") or {}), "serving": []},
    }
    drop = ("kernel_modules", "commands", "cni_plugins", "foreign_files")
    probes = {
        name: {key: value for key, value in probe.items() if key not in drop} for name, probe in seen.probes.items()
    }
    return [item for item in judge(plan, facts, probes, {}, only=list(seen.hosts)) if item.severity != "info"]


def _dig(value: Any, *path: str) -> Any:
    for key in path:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:LISTED]) + (f" and {len(names) - LISTED} more" if len(names) > LISTED else "")


def _days(days: float) -> str:
    whole = int(days)
    return "less than a day" if whole < 1 else f"{whole} day{'' if whole == 1 else 's'}"


def _told(server: str) -> str:
    return server.partition("://")[2] or server or "an unknown server"


def _program(entry: Mapping[str, Any]) -> str:
    return {"apiserver": "kube-apiserver", "etcd-server": "etcd"}.get(str(entry["name"]), "kubelet")


def _settings(settings: Mapping[str, Any]) -> str:
    return f"{settings.get('mode')}, excludeCIDRs {', '.join(settings.get('exclude_cidrs') or ()) or 'none'}"


def _covered(cidr: str, having: Iterable[str]) -> bool:
    network = ip_network(cidr)
    for text in having:
        try:
            other = ip_network(text, strict=False)
        except ValueError:
            continue
        if other.version == network.version and network.subnet_of(other):  # type: ignore[arg-type]
            return True
    return False


# --- telling ----------------------------------------------------------------------------------------------------------

TITLES = {"error": "ERRORS: this is not as planned", "warning": "WARNINGS", "info": "GOOD TO KNOW"}


def report_text(plan: Mapping[str, Any], diagnosis: Diagnosis) -> str:
    """The whole report."""
    parts = [
        _title(plan, diagnosis),
        _about(plan, diagnosis.about),
        "\n".join(_addresses(diagnosis.uses)),
        "\n".join(
            [_sentence("seen", item) for item in diagnosis.tested]
            + [_sentence("not seen", item) for item in diagnosis.untested]
        ),
        render(diagnosis.findings, TITLES),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _title(plan: Mapping[str, Any], diagnosis: Diagnosis) -> str:
    hosts = len(plan.get("hosts") or diagnosis.uses)
    version = ", ".join(diagnosis.about["versions"])
    left = f"DOCTOR  {hosts} host{'' if hosts == 1 else 's'}{f', Kubernetes {version}' if version else ''}"
    return f"{left}{headline(diagnosis.findings):>{max(WIDTH - len(left), 2)}}\n{'=' * WIDTH}"


def _about(plan: Mapping[str, Any], about: Mapping[str, Any]) -> str:
    """What it is."""
    endpoints = [_told(server) for server in about["endpoints"]]
    made = "multinic.kubernetes made it"
    if about["foreign"]:
        made = (
            f"something else than multinic.kubernetes made {_few(about['foreign'])}: no VIP and no balancer to compare"
        )
    lines = [("cluster", made)] if endpoints or about["foreign"] else []
    if endpoints:
        server = plan.get("apiserver") or {}
        told = f"kubelets ask {_few(endpoints)}"
        mode = server.get("balancer") or IPVS
        way = f", {'VIP' if mode == IPVS else mode} {_few(api_addresses(plan))}"
        lines.append(("API", told + (way if about["ours"] and server else "")))
    configuration = about["cluster_configuration"]
    parts = [
        (", ".join(about["runtimes"]), "{}"),
        (", ".join(about["kube_proxy_modes"]), "kube-proxy in {} mode"),
        (", ".join(about["cni"]), "pod network by {}"),
        (str(configuration.get("podSubnet") or ""), "pods {}"),
        (str(configuration.get("serviceSubnet") or ""), "services {}"),
    ]
    found = ", ".join(form.format(value) for value, form in parts if value)
    lines += [("runs with", found)] if found else []
    return "\n".join(
        textwrap.fill(text, WIDTH, initial_indent=f"  {name:<11}", subsequent_indent=" " * 13, break_on_hyphens=False)
        for name, text in lines
    )


def _addresses(uses: Mapping[str, Sequence[Use]]) -> list[str]:
    """Each component's address and card; of many hosts, how many are right and those that are not."""
    entries = [(name, use) for name, some in uses.items() for use in some if use.uses]
    if not entries:
        return []
    shown = entries if len(uses) <= FEW else [(name, use) for name, use in entries if use.right is False]
    lines = []
    if len(uses) > FEW:
        right = Counter((use.component, use.what) for _name, use in entries if use.right)
        every = Counter((use.component, use.what) for _name, use in entries)
        rows = [
            (component, what, f"{right[(component, what)]} of {number}") for (component, what), number in every.items()
        ]
        lines += table(("COMPONENT", "", "AS PLANNED"), rows)
    if shown:
        lines += [""] * bool(lines) + table(
            ("HOST", "COMPONENT", "", "USES", "CARD", "PLANNED"),
            [(name, use.component, use.what, short(use.uses), use.card, _compared(use)) for name, use in shown],
        )
    return [f"  {line}".rstrip() for line in lines]


def _compared(use: Use) -> str:
    if use.right is None:
        return "-"
    return "yes" if use.right else f"NO: {short(list(dict.fromkeys(use.planned)))}"


def _sentence(mark: str, text: str) -> str:
    return textwrap.fill(
        text, WIDTH, initial_indent=f"  {mark:<11}", subsequent_indent=" " * 13, break_on_hyphens=False
    )


def as_data(seen: Seen, diagnosis: Diagnosis) -> dict[str, Any]:
    """The report as data."""
    return {
        "schema": 1,
        "about": diagnosis.about,
        "plan": dict(seen.plan),
        "findings": [finding.as_dict() for finding in diagnosis.findings],
        "components": {name: [use.as_dict() for use in uses] for name, uses in diagnosis.uses.items()},
        "certificates": diagnosis.certificates,
        "virtual_servers": {
            name: status.get("virtual_server") for name, status in seen.status.items() if "virtual_server" in status
        },
        "rows": diagnosis.rows,
        "tested": diagnosis.tested,
        "untested": diagnosis.untested,
    }
