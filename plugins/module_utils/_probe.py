# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The proof: what each host has to measure, and what the measurements mean.

This module util is PRIVATE to the collection. It is pure: no I/O, no Ansible, standard library only. The module
network_probe measures; judge() compares all hosts' measurements and facts with the plan. What concerns the ways between
hosts is in _proof_paths, some of what concerns a host alone in _proof_host.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from itertools import product
from typing import Any, Optional

from ansible_collections.multinic.kubernetes.plugins.module_utils._balancer_modes import LOCALHOST
from ansible_collections.multinic.kubernetes.plugins.module_utils._findings import Finding, Findings, ordered
from ansible_collections.multinic.kubernetes.plugins.module_utils._proof_api import (
    api_way,
    judge_api_way,
    member_somewhere,
)
from ansible_collections.multinic.kubernetes.plugins.module_utils._proof_host import (
    judge_cluster,
    judge_fsync,
    judge_resolver,
)
from ansible_collections.multinic.kubernetes.plugins.module_utils._proof_outside import judge_outside, outside_claims
from ansible_collections.multinic.kubernetes.plugins.module_utils._proof_paths import (
    ETCD,
    KUBELET,
    UNUSED,
    judge_answers_for,
    judge_firewall,
    judge_peers,
    judge_sample,
    judge_sources,
    tcp_ports,
    tries,
    udp_ports,
)
from ansible_collections.multinic.kubernetes.plugins.module_utils._sampling import sample
from ansible_collections.multinic.kubernetes.plugins.module_utils._seen import Seen, addresses_of, same_family

MIB_FOR_ETCD = 1024
MIB_LITTLE = 5120
LEAST_CPUS, LEAST_MIB = 2, 1700
DEBIANS_OWN = "127.0.1.1"  # the line that Debian's installer writes for the host's own name

LEAST_SYSTEMD = 244  # the first that restarts a oneshot unit, as that of the VIP's route is
DOCKER = "dockerd"
ETCD_FOLDER = "/var/lib/etcd"
TAKEN_OVER = ("/etc/containerd/config.toml",)

CONTROL_PLANE_PORTS = {**dict.fromkeys(ETCD, "etcd"), 10257: "kube-controller-manager", 10259: "kube-scheduler"}
OURS = frozenset(("kubelet", "etcd", "kube-apiserver", "kube-controller", "kube-scheduler", "kube-proxy", "haproxy"))


# ---------------------------------------------------------------------------------------------------------------------
# What is measured
# ---------------------------------------------------------------------------------------------------------------------


def probe_arguments(plan: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The parameters of the network_probe module for one host of the plan."""
    node = plan["hosts"][name]
    needs = plan.get("needs") or {}
    peers = []
    others = sample({host: str(other.get("network") or "") for host, other in plan["hosts"].items()}, name)
    sources = addresses_of(node)
    for source, peer in product(sources, others):
        other = plan["hosts"][peer]
        for address in (found for found in addresses_of(other) if same_family(found, source)):
            tcp, udp = tcp_ports(plan, node, {**other, "address": address}), udp_ports(plan, peer)
            peers.append(
                {
                    "name": peer,
                    "address": address,
                    "size": min(int(node["mtu"]), int(other["mtu"])),
                    "ports": tcp or [KUBELET],
                    "udp_ports": udp or [UNUSED],
                }
            )
    master = node.get("role") == "control_plane"
    return {
        "interface": node["interface"],
        "source": node["address"],
        "further_sources": sources[1:],
        "peers": peers,
        "kernel_modules": list(plan.get("kernel_modules") or ()),
        "commands": [*(needs.get("commands") or ()), DOCKER],
        "cni_plugins": list(needs.get("cni_plugins") or ()),
        "own_files": list(TAKEN_OVER),
        **api_way(plan),
        "outside": outside_claims(plan, name),
        "etcd_folder": ETCD_FOLDER if master else None,
        "cluster_nodes": name == plan.get("first_control_plane"),
    }


def systemd_version(text: str) -> Optional[int]:
    """The number in `systemctl --version`: "systemd 252 (252.22-1~deb12u1)"."""
    found = re.match(r"systemd (\d+)", text)
    return int(found[1]) if found else None


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
        Seen(name, node, facts.get(name) or {}, probes.get(name) or {})
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
    judge_sample(plan, probes, found)
    judge_cluster(hosts, probes.get(str(plan.get("first_control_plane"))) or {}, found)
    _judge_clocks(hosts, float((plan.get("time") or {}).get("tolerance_seconds") or 2), found)
    ways = [host.families() for host in hosts]
    for number in range(max(map(len, ways), default=0)):
        views = [view[number] for view in ways if len(view) > number]
        tried_by = tries(views)
        for view in views:
            judge_peers(view, found)
            judge_sources(view, found)
            judge_firewall(view, tried_by.get(view.name) or (), plan, found)
    running = member_somewhere(hosts)
    for host in hosts:
        judge_api_way(host, plan, running, found)
        judge_answers_for(host, facts, plan, found)
        judge_outside(host, facts, plan, found)
        _judge_modules(host, found)
        _judge_needs(host, plan, found)
        _judge_containers(host, found)
        _judge_ports(host, plan, found)
        _judge_system(host, plan, found)
        _judge_names(host, found)
        judge_resolver(host, found)
        judge_fsync(host, found)
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


def _judge_clocks(hosts: Sequence[Seen], tolerance: float, found: Findings) -> None:
    """No two clocks may be further apart than allowed. Those outside the largest group that agrees are told."""
    clocks = [
        _Clock(host.name, float(clock["offset_seconds"]), float(clock["uncertainty_seconds"]))
        for host in hosts
        if (clock := host.probe.get("clock"))
    ]
    agreeing = frozenset(_agreeing(clocks, tolerance))
    farthest = (
        min(agreeing, key=lambda clock: (clock.latest, clock.name), default=None),
        max(agreeing, key=lambda clock: (clock.earliest, clock.name), default=None),
    )
    for clock in clocks:
        if clock in agreeing:
            continue
        other = max(filter(None, farthest), key=clock.distance)
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
    ends = sorted(clock.latest + tolerance for clock in clocks)
    # A clock ends after it starts, so those that agree at a moment are those that started less those that ended before.
    start = max(starts, key=lambda moment: bisect_right(starts, moment) - bisect_left(ends, moment), default=0.0)
    return [clock for clock in clocks if clock.earliest <= start <= clock.latest + tolerance]


def _judge_modules(host: Seen, found: Findings) -> None:
    missing = sorted(name for name, there in (host.probe.get("kernel_modules") or {}).items() if not there)
    if missing:
        found.error(
            host.name,
            "",
            f"the kernel {host.fact('system', 'kernel') or ''} has no {', '.join(missing)}",
            "Pods' network and the API's balancer need these modules.",
            "Install the kernel's modules (linux-image, linux-modules-extra, kernel-modules-core) and reboot if need be.",
        )


def _judge_needs(host: Seen, plan: Mapping[str, Any], found: Findings) -> None:
    """What must be there already where the bundle has no packages to bring it."""
    system = f"{host.fact('system', 'os_id') or ''}-{host.fact('system', 'os_version') or ''}".rstrip("-").lower()
    distributions = (plan.get("bundle") or {}).get("distributions")
    if distributions is None or system in distributions:
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


def _judge_containers(host: Seen, found: Findings) -> None:
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


def needed_ports(plan: Mapping[str, Any], node: Mapping[str, Any]) -> dict[int, str]:
    """TCP ports that must be free, with who needs them."""
    ports = {KUBELET: "kubelet"}
    if node.get("role") == "control_plane":
        ports.update(CONTROL_PLANE_PORTS)
        ports[int(plan["apiserver"]["port"])] = "kube-apiserver"
    elif plan["apiserver"].get("balancer") == LOCALHOST:
        ports[int(plan["apiserver"]["port"])] = "the API proxy"
    return ports


def _judge_ports(host: Seen, plan: Mapping[str, Any], found: Findings) -> None:
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
            "apiserver_port" if port == int(plan["apiserver"]["port"]) else "",
            f"port {port} is taken by {process}",
            f"{needed[port]} needs it.",
            f"Stop it (ss -ltnp 'sport = :{port}') or take the host out of the inventory.",
        )


def _judge_system(host: Seen, plan: Mapping[str, Any], found: Findings) -> None:
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


def _judge_disk(host: Seen, plan: Mapping[str, Any], found: Findings) -> None:
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


def _judge_names(host: Seen, found: Findings) -> None:
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


def _judge_clock_daemon(host: Seen, plan: Mapping[str, Any], found: Findings) -> None:
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
