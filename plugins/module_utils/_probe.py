# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The proof: what each host has to measure, and what the measurements mean.

This module util is PRIVATE to the collection. It is pure: no I/O, no Ansible, standard library only. The module
network_probe measures; judge() compares all hosts' measurements and facts with the plan.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any, Optional

from ansible_collections.multinic.kubernetes.plugins.module_utils._findings import Finding, Findings, ordered
from ansible_collections.multinic.kubernetes.plugins.module_utils._net import HostNetwork

IP_HEADER = {4: 20, 6: 40}
ICMP_HEADER = 8
ECHO_REQUEST = {4: 8, 6: 128}
ECHO_REPLY = {4: 0, 6: 129}
SMALL = 64  # bytes of a packet that every network carries
STEPS = (9000, 8000, 4000, 1500, 1492, 1480, 1460, 1450, 1420, 1400, 1280, 576)
MIB_FOR_ETCD = 1024
MIB_LITTLE = 5120
LEAST_CPUS, LEAST_MIB = 2, 1700
STRICT = 1
FEW = 8
DEBIANS_OWN = "127.0.1.1"  # the line that Debian's installer writes for the host's own name

LEAST_SYSTEMD = 244  # the first that restarts a oneshot unit, as that of the VIP's route is
DOCKER = "dockerd"
TAKEN_OVER = ("/etc/containerd/config.toml",)

KUBELET = 10250
BGP = 179
ETCD = (2379, 2380)
CONTROL_PLANE_PORTS = {**dict.fromkeys(ETCD, "etcd"), 10257: "kube-controller-manager", 10259: "kube-scheduler"}
OURS = frozenset(("kubelet", "etcd", "kube-apiserver", "kube-controller", "kube-scheduler", "kube-proxy"))


# ---------------------------------------------------------------------------------------------------------------------
# What is measured
# ---------------------------------------------------------------------------------------------------------------------


def probe_arguments(plan: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The parameters of the network_probe module for one host of the plan."""
    node = plan["hosts"][name]
    needs = plan.get("needs") or {}
    peers = [
        {
            "name": peer,
            "address": other["address"],
            "size": min(int(node["mtu"]), int(other["mtu"])),
            "ports": ports_to_knock(plan, node, other),
        }
        for peer, other in plan["hosts"].items()
        if peer != name and ip_address(other["address"]).version == ip_address(node["address"]).version
    ]
    return {
        "interface": node["interface"],
        "source": node["address"],
        "peers": peers,
        "kernel_modules": list(plan.get("kernel_modules") or ()),
        "commands": [*(needs.get("commands") or ()), DOCKER],
        "cni_plugins": list(needs.get("cni_plugins") or ()),
        "own_files": list(TAKEN_OVER),
    }


def ports_to_knock(plan: Mapping[str, Any], node: Mapping[str, Any], other: Mapping[str, Any]) -> list[int]:
    """The TCP ports that a host must reach on another one; only where a firewall may be in the way."""
    if not other.get("firewall"):
        return []
    ports = set()
    if other.get("role") == "control_plane":
        ports.add(int(plan["apiserver"]["port"]))
    if node.get("role") == "control_plane":
        ports.add(KUBELET)
        ports.update(ETCD if other.get("role") == "control_plane" else ())
    if (plan.get("cni") or {}).get("name") == "calico":
        ports.add(BGP)
    return sorted(ports)


def echo_request(family: int, identifier: int, sequence: int, size: int) -> bytes:
    """An ICMP echo request that makes an IP packet of this size. The kernel itself fills in ICMPv6's checksum."""
    payload = bytes(max(size - IP_HEADER[family] - ICMP_HEADER, 0))
    header = struct.pack("!BBHHH", ECHO_REQUEST[family], 0, 0, identifier, sequence)
    total = 0 if family == 6 else checksum(header + payload)
    return struct.pack("!BBHHH", ECHO_REQUEST[family], 0, total, identifier, sequence) + payload


def echo_sequence(family: int, identifier: int, packet: bytes) -> Optional[int]:
    """The sequence number of an echo reply to us, else nothing. IPv4 raw sockets deliver the IP header too."""
    start = (packet[0] & 0x0F) * 4 if family == 4 and packet else 0
    if len(packet) < start + ICMP_HEADER:
        return None
    kind, _code, _checksum, found, sequence = struct.unpack("!BBHHH", packet[start : start + ICMP_HEADER])
    return int(sequence) if kind == ECHO_REPLY[family] and found == identifier else None


def checksum(data: bytes) -> int:
    """The internet checksum (RFC 1071)."""
    if len(data) % 2:
        data += b"\0"
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def systemd_version(text: str) -> Optional[int]:
    """The number in `systemctl --version`: "systemd 252 (252.22-1~deb12u1)"."""
    found = re.match(r"systemd (\d+)", text)
    return int(found[1]) if found else None


def smaller_steps(size: int) -> list[int]:
    """Sizes to try when the full one does not pass."""
    return [step for step in STEPS if SMALL < step < size]


@dataclass(frozen=True)
class Offset:
    """How far a host's clock is ahead of the controller's, and how far that may be wrong."""

    seconds: float
    uncertainty: float


def clock_offset(before: float, host: float, after: float) -> Offset:
    """The offset by the midpoint of the round trip."""
    return Offset(host - (before + after) / 2, (after - before) / 2)


def best_offset(offsets: Sequence[Offset]) -> Optional[Offset]:
    """The one with the shortest round trip."""
    return min(offsets, key=lambda offset: offset.uncertainty, default=None)


# ---------------------------------------------------------------------------------------------------------------------
# What it means
# ---------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Seen:
    """One host: its plan, its facts and what it measured."""

    name: str
    node: Mapping[str, Any]
    facts: Mapping[str, Any]
    probe: Mapping[str, Any]

    def fact(self, *path: str) -> Any:
        value: Any = self.facts
        for key in path:
            value = value.get(key) if isinstance(value, Mapping) else None
        return value


def judge(
    plan: Mapping[str, Any],
    facts: Mapping[str, Mapping[str, Any]],
    probes: Mapping[str, Mapping[str, Any]],
    troubles: Mapping[str, str],
    only: Optional[Sequence[str]] = None,
) -> list[Finding]:
    """Compare what the hosts measured with the plan. Troubles are of hosts that could not measure.

    Only these hosts are judged, all if none are told: of those outside a limited run nothing will be changed.
    """
    found = Findings()
    hosts = [
        _Seen(name, node, facts.get(name) or {}, probes.get(name) or {})
        for name, node in plan.get("hosts", {}).items()
        if only is None or name in only
    ]
    for name, trouble in troubles.items():
        found.error(
            name,
            "",
            f"the proof could not be made: {trouble}",
            "Nothing is known of this host's way to the others.",
            "Check that sudo gives root there, and run again.",
        )
    _judge_clocks(hosts, float((plan.get("time") or {}).get("tolerance_seconds") or 2), found)
    for host in hosts:
        _judge_peers(host, found)
        _judge_sources(host, found)
        _judge_modules(host, found)
        _judge_needs(host, plan, found)
        _judge_containers(host, found)
        _judge_firewall(host, hosts, plan, found)
        _judge_ports(host, plan, found)
        _judge_system(host, plan, found)
        _judge_names(host, found)
        _judge_clock_daemon(host, plan, found)
    return ordered(found.items)


@dataclass(frozen=True)
class _Clock:
    """A host's clock: its distance from the controller's, and how far that may be wrong."""

    name: str
    offset: float
    doubt: float

    @property
    def earliest(self) -> float:
        return self.offset - self.doubt

    @property
    def latest(self) -> float:
        return self.offset + self.doubt

    def distance(self, other: _Clock) -> float:
        """How far they are apart for certain; below zero if they may agree."""
        return max(self.earliest - other.latest, other.earliest - self.latest)


def _judge_clocks(hosts: Sequence[_Seen], tolerance: float, found: Findings) -> None:
    """No two clocks may be further apart than allowed. Those outside the largest group that agrees are told."""
    clocks = [
        _Clock(host.name, float(clock["offset_seconds"]), float(clock["uncertainty_seconds"]))
        for host in hosts
        if (clock := host.probe.get("clock"))
    ]
    agreeing = _agreeing(clocks, tolerance)
    for clock in clocks:
        if clock in agreeing:
            continue
        other = max(agreeing, key=clock.distance)
        off = clock.offset - other.offset
        found.error(
            clock.name,
            "clock_tolerance_seconds",
            f"its clock is {abs(off):.1f} s {'ahead of' if off > 0 else 'behind'} {other.name}'s "
            f"(measured to ±{(clock.doubt + other.doubt) * 1000:.0f} ms), {tolerance:g} s are allowed",
            "Certificates are not yet valid or no more, and etcd's leases go wrong.",
            "Set the clock that is wrong (chronyc makestep, or timedatectl set-time), then run again.",
        )


def _agreeing(clocks: Sequence[_Clock], tolerance: float) -> list[_Clock]:
    """The largest group of which no two are certainly further apart; of several, the one that is behind."""
    starts = sorted(clock.earliest for clock in clocks)
    groups = ([clock for clock in clocks if clock.earliest <= start <= clock.latest + tolerance] for start in starts)
    return max(groups, key=len, default=[])


def _judge_peers(host: _Seen, found: Findings) -> None:
    if host.probe.get("trouble"):
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
    deaf = [peer for peer in silent if not peer.get("tcp")]
    if deaf:
        found.error(
            host.name,
            "cluster_network",
            f"no answer {way}{_names(deaf)}",
            "The hosts must reach each other on the cluster network, from the cluster address.",
            "Check cable, VLAN, switch and firewall of that network, and that the other host is up on it.",
        )
    filtered = [peer for peer in silent if peer.get("tcp")]
    if filtered:
        found.warning(
            host.name,
            "cluster_network",
            f"no answer to ICMP {way}{_names(filtered)}, but TCP answers ({filtered[0]['tcp']})",
            "The path's MTU cannot be proved, and path MTU discovery needs ICMP.",
            "Let ICMP pass between the hosts on the cluster network.",
        )
    narrow: dict[tuple[int, int], list[Mapping[str, Any]]] = {}
    for peer in peers:
        if peer.get("milliseconds") is not None and peer.get("full_milliseconds") is None:
            narrow.setdefault((int(peer["size"]), int(peer.get("largest") or SMALL)), []).append(peer)
    for (size, passes), some in sorted(narrow.items()):
        found.error(
            host.name,
            "cluster_network",
            f"a packet of {size} bytes does not pass {way}{_names(some)}; {passes} bytes do",
            "Large transfers would hang for ever, while small requests work.",
            f"Give switches and all cards on the way an MTU of at least {size}, or lower the cards' MTU to what passes.",
        )


def _names(peers: Sequence[Mapping[str, Any]]) -> str:
    told = [f"{peer['name']} ({peer['address']})" for peer in peers[:FEW]]
    return ", ".join(told) + (f" and {len(peers) - FEW} more" if len(peers) > FEW else "")


def _judge_sources(host: _Seen, found: Findings) -> None:
    """What the kernel takes by itself, without being bound, as etcd and the apiserver do."""
    card, source = host.node["interface"], host.node["address"]
    network = HostNetwork.from_facts(host.facts) if host.facts else HostNetwork()
    link = network.link(card)
    strict = link is not None and network.effective_rp_filter(link) == STRICT
    for peer in host.probe.get("peers") or ():
        answer = (host.probe.get("lookups") or {}).get(peer["address"]) or {}
        if not answer.get("dev"):
            continue
        told = f"to {peer['name']} ({peer['address']}) the kernel takes {answer.get('dev')} with {answer.get('source')}"
        if answer.get("dev") != card:
            found.error(
                host.name,
                "cluster_network",
                f"{told}, not {card} with {source}",
                "Cluster traffic would run on the other network"
                + (", and the strict reverse path filter drops the answers." if strict else "."),
                f"Correct the routes and rules (ip route get {peer['address']}; ip rule), or choose another network.",
            )
        elif answer.get("source") != source:
            found.warning(
                host.name,
                "cluster_network",
                f"{told}, not {source}",
                "Connections come from an address that the cluster does not know as this host's.",
                f"Make {source} the first address of {card}, or plan with {answer.get('source')}.",
            )


def _judge_modules(host: _Seen, found: Findings) -> None:
    missing = sorted(name for name, there in (host.probe.get("kernel_modules") or {}).items() if not there)
    if missing:
        found.error(
            host.name,
            "",
            f"the kernel {host.fact('system', 'kernel') or ''} has no {', '.join(missing)}",
            "Pods' network and the API's balancer need these modules.",
            "Install the kernel's modules (linux-image, linux-modules-extra, kernel-modules-core) and reboot if need be.",
        )


def _judge_needs(host: _Seen, plan: Mapping[str, Any], found: Findings) -> None:
    """What must be there already where the bundle has no packages to bring it."""
    system = f"{host.fact('system', 'os_id') or ''}-{host.fact('system', 'os_version') or ''}".rstrip("-").lower()
    bundle = plan.get("bundle") or {}
    if not bundle.get("path") or system in (bundle.get("distributions") or ()):
        return
    missing = {
        what: sorted(name for name, there in (host.probe.get(key) or {}).items() if not there and name != DOCKER)
        for key, what in (("commands", "the commands"), ("cni_plugins", "the network plugins"))
    }
    told = " and ".join(f"{what} {', '.join(names)}" for what, names in missing.items() if names)
    if told:
        found.error(
            host.name,
            "bundle",
            f"it lacks {told}",
            f"The bundle has no packages for {system or 'its distribution'}, so nothing brings them.",
            "Install them with the host's own package manager (containernetworking-plugins holds the network plugins), "
            f"or build the bundle for {system or 'it'}.",
        )


def _judge_containers(host: _Seen, found: Findings) -> None:
    """Who else uses containerd here."""
    if host.fact("kubernetes", "member"):
        return
    foreign = host.probe.get("foreign_files") or ()
    if foreign:
        found.warning(
            host.name,
            "container_runtime_extra_config",
            f"{', '.join(foreign)} was written by somebody else and will be replaced",
            "kubelet needs a containerd with the CRI, systemd's cgroups and the bundle's pause image.",
            "Put lines that you need into container_runtime_extra_config. The file is kept beside it, with .multinic-saved "
            "added to its name.",
        )
    if (host.probe.get("commands") or {}).get(DOCKER):
        found.warning(
            host.name,
            "",
            "Docker is installed",
            "It runs its containers by the same containerd, which is configured anew and restarted; and its rules drop "
            "what the host forwards.",
            "Better give Kubernetes a host of its own. Docker's own packages of containerd and runc are used as they are.",
        )


def _judge_firewall(host: _Seen, hosts: Sequence[_Seen], plan: Mapping[str, Any], found: Findings) -> None:
    wall = str(host.node.get("firewall") or "")
    if not wall:
        return
    blocked: dict[int, list[str]] = {}
    for other in hosts:
        for peer in other.probe.get("peers") or ():
            for port in (peer.get("blocked") or ()) if peer["name"] == host.name else ():
                blocked.setdefault(int(port), []).append(other.name)
    network, pods = str(host.node["network"]), str(plan.get("pod_cidr") or "")
    remedy = _opening(wall, [network, *filter(None, pods.split(","))])
    if blocked:
        ports = ", ".join(map(str, sorted(blocked)))
        names = list(dict.fromkeys(name for some in blocked.values() for name in some))
        found.error(
            host.name,
            "",
            f"{wall} is active and lets no TCP to {host.node['address']} port {ports} from {', '.join(names[:FEW])}",
            "The hosts of a cluster must reach these ports of each other.",
            remedy,
        )
    elif wall != "nftables" and not host.fact("kubernetes", "member"):
        found.warning(
            host.name,
            "",
            f"{wall} is active",
            f"Besides the TCP ports that were tried, {_beyond_tcp(plan)} must pass between the hosts, and what they forward "
            "from and to pods.",
            remedy,
        )


def _beyond_tcp(plan: Mapping[str, Any]) -> str:
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


def needed_ports(plan: Mapping[str, Any], node: Mapping[str, Any]) -> dict[int, str]:
    """TCP ports that must be free, with who needs them."""
    ports = {KUBELET: "kubelet"}
    if node.get("role") == "control_plane":
        ports.update(CONTROL_PLANE_PORTS)
        ports[int(plan["apiserver"]["port"])] = "kube-apiserver"
    return ports


def _judge_ports(host: _Seen, plan: Mapping[str, Any], found: Findings) -> None:
    if host.fact("kubernetes", "member"):
        return
    needed = needed_ports(plan, host.node)
    unfinished = bool(host.fact("kubernetes", "ours"))
    told = set()
    for entry in host.fact("listening") or ():
        port, process = entry.get("port"), str(entry.get("process") or "an unknown process")
        if entry.get("protocol") != "tcp" or port not in needed or port in told:
            continue
        told.add(port)
        if unfinished and process in OURS:
            continue
        found.error(
            host.name,
            "apiserver_port" if needed[port] == "kube-apiserver" else "",
            f"port {port} is taken by {process}",
            f"{needed[port]} needs it.",
            f"Stop it (ss -ltnp 'sport = :{port}') or take the host out of the inventory.",
        )


def _judge_system(host: _Seen, plan: Mapping[str, Any], found: Findings) -> None:
    master = host.node.get("role") == "control_plane"
    cpus, memory = host.fact("system", "cpus"), host.fact("system", "memory_mb")
    known = set(plan.get("ignore_preflight_errors") or ())
    few = bool(cpus) and cpus < LEAST_CPUS and not known & {"NumCPU", "all"}
    little = bool(memory) and memory < LEAST_MIB and not known & {"Mem", "all"}
    if master and (few or little):
        found.warning(
            host.name,
            "kubeadm_ignore_preflight_errors",
            f"{cpus} CPU and {memory} MiB of memory",
            f"kubeadm wants {LEAST_CPUS} CPUs and {LEAST_MIB} MiB on a control-plane host, and refuses less.",
            "Give the host more, or, for a trial, list NumCPU and Mem in kubeadm_ignore_preflight_errors.",
        )
    systemd = host.probe.get("systemd")
    if systemd is not None and systemd < LEAST_SYSTEMD:
        found.error(
            host.name,
            "",
            f"its systemd is version {systemd}",
            "The unit that sets the VIP's route is tried again until the address is there, which older ones cannot.",
            f"Use a distribution with systemd {LEAST_SYSTEMD} or newer.",
        )
    if host.fact("system", "cgroup") == "none":
        found.error(
            host.name,
            "",
            "no cgroups are mounted",
            "containerd and kubelet need them.",
            "Mount them: boot with systemd.",
        )
    if host.fact("system", "init") not in (None, "", "systemd"):
        found.error(
            host.name,
            "",
            f"its init is {host.fact('system', 'init')}",
            "The services are systemd units.",
            "Use a host with systemd.",
        )
    swap = host.fact("system", "swap") or []
    if swap and not host.fact("kubernetes", "member"):
        found.info(
            host.name,
            "",
            f"swap is on ({', '.join(swap)}); it will be turned off, now and at boot",
            "kubelet refuses to start with swap.",
        )
    _judge_disk(host, plan, found)


def _judge_disk(host: _Seen, plan: Mapping[str, Any], found: Findings) -> None:
    free = host.fact("disk", "free_mb")
    if free is None or host.fact("kubernetes", "member"):
        return
    need = MIB_FOR_ETCD + 3 * int((plan.get("bundle") or {}).get("unpacked_mb") or 0)
    if free < need:
        found.error(
            host.name,
            "",
            f"{free} MiB are free in {host.fact('disk', 'path')}",
            f"Bundle, images and etcd need {need} MiB.",
            "Free some space or give the file system more.",
        )
    elif free < MIB_LITTLE:
        found.warning(
            host.name,
            "",
            f"{free} MiB are free in {host.fact('disk', 'path')}",
            "kubelet removes images and pods when a disk gets full.",
            "Give the file system more space.",
        )


def _judge_names(host: _Seen, found: Findings) -> None:
    names = {str(host.node["node_name"]).lower(), str(host.fact("identity", "hostname") or "").lower()} - {""}
    for address, alias in _loopback_names(host.fact("hosts_file") or ()):
        if alias.lower() not in names:
            continue
        line = f"/etc/hosts has the line '{address} {alias}'"
        why = "Programs that look up the host's own name get a loopback address and offer it to others."
        if address == DEBIANS_OWN:
            found.info(host.name, "", f"{line}; it will be replaced by one with the cluster address", why)
        else:
            found.warning(host.name, "", line, why, "Remove the name from that line.")


def _loopback_names(entries: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, str]]:
    for entry in entries:
        try:
            loopback = ip_address(str(entry.get("address"))).is_loopback
        except ValueError:
            continue
        if loopback:
            for alias in entry.get("names") or ():
                yield str(entry["address"]), str(alias)


def _judge_clock_daemon(host: _Seen, plan: Mapping[str, Any], found: Findings) -> None:
    time, daemon = plan.get("time") or {}, host.fact("clock", "daemon")
    if (
        daemon not in (None, "", "chrony")
        and host.fact("clock", "synchronised")
        and host.name in (time.get("serving") or ())
        and host.name not in (time.get("sources") or {})
    ):
        found.warning(
            host.name,
            "time_servers",
            f"its clock is kept by {daemon}, which chrony replaces, and no source of it could be read",
            "It serves the time to the other hosts, and would have none to follow any more.",
            "Set time_servers to the servers that it asks now.",
        )
    if host.facts and not host.fact("clock", "daemon") and not host.fact("kubernetes", "member"):
        found.info(
            host.name,
            "time_servers",
            "no time daemon runs; chrony will be set up",
            "The hosts' clocks must stay together.",
        )
