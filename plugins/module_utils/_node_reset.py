# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module util is **PRIVATE** to the collection.

"""What this collection and the cluster have left on a host that is no node any more, and how each of it goes.

Pure: the module looks and acts. Only what bears our mark, what kubeadm made, and what kubelet, kube-proxy and the pod
network keep for themselves is named here; the packages stay, for others may use them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ansible_collections.multinic.kubernetes.plugins.module_utils._host_state import FSTAB_MARK, OURS

# Always the cluster's or ours, whatever is in them.
FOLDERS = (
    "/etc/kubernetes",
    "/var/lib/kubelet",
    "/var/lib/multinic",
    "/var/lib/cni",
    "/etc/multinic",
    "/usr/local/lib/multinic",
    "/run/multinic",
    "/run/multinic-kubeadm",
    "/run/multinic-kubeadm.lock",
    "/var/log/multinic-kubeadm.log",
    "/var/log/pods",
    "/var/log/containers",
)
# Only of a host that was a control plane; elsewhere it may be somebody's own etcd.
ETCD_FOLDER = "/var/lib/etcd"
# Files that hold our mark, and ours by their names where they cannot hold one.
MARKED = (
    "/etc/systemd/system/multinic-*",
    "/etc/systemd/system/kubelet.service.d/10-kubeadm.conf",
    "/etc/systemd/system/kubelet.service",
    "/etc/modules-load.d/multinic-*.conf",
    "/etc/sysctl.d/99-zz-multinic-*.conf",
    "/etc/sysctl.d/90-multinic-*.conf",
    "/etc/tmpfiles.d/multinic-*.conf",
    "/etc/cloud/cloud.cfg.d/99-multinic.cfg",
    "/etc/crictl.yaml",
)
OURS_BY_NAME = ("/etc/cni/net.d/10-multinic-bridge.conflist", "/etc/cni/net.d/10-calico.conflist")
# Files of others that we replaced, and kept beside ours: the unit that reads each.
REPLACED = {
    "/etc/containerd/config.toml": "containerd",
    "/etc/chrony/chrony.conf": "chrony",
    "/etc/chrony.conf": "chronyd",
}
# Files of others that hold our blocks.
SHARED = ("/etc/hosts", "/etc/cloud/templates/hosts.debian.tmpl", "/etc/cloud/templates/hosts.redhat.tmpl")
BINARIES = ("kubeadm", "kubelet", "kubectl", "crictl")
# Folders that go when nothing of others is in them.
EMPTY = (
    "/etc/systemd/system/kubelet.service.d",
    "/root/.kube",
    "/etc/cni/net.d",
    "/etc/cni",
    "/opt/cni/bin",
    "/opt/cni",
)
LINKS_OF_THE_POD_NETWORK = re.compile(
    r"cni0|kube-ipvs0|flannel\.1|tunl0|vxlan\.calico|vxlan-v6\.calico|cali[0-9a-f]{11}"
)
CHAINS = re.compile(r"KUBE-|CNI-|cali[:-]|MULTINIC-")
SETS = re.compile(r"KUBE-|cali")
TABLES = ("kube-proxy",)

_BLOCK = re.compile(r"^# BEGIN multinic (\S+)\n(?:.*\n)*?# END multinic \1\n?", re.MULTILINE)


@dataclass(frozen=True)
class Service:
    """One IPVS virtual server, in ipvsadm's words: -t, -u or -f, and its address."""

    kind: str
    address: str

    @property
    def host(self) -> str:
        return self.address.rpartition(":")[0].strip("[]")


def without_blocks(text: str) -> str:
    """A file of others without any of our blocks."""
    return _BLOCK.sub("", text)


def with_swap(fstab: str) -> str:
    """fstab with the lines of swap that we commented out."""
    return "".join(line.removeprefix(FSTAB_MARK) for line in fstab.splitlines(keepends=True))


def is_marked(content: bytes) -> bool:
    return OURS.encode() in content


def services(listing: str) -> list[Service]:
    """The virtual servers of `ipvsadm -Sn`."""
    found = []
    for line in listing.splitlines():
        words = line.split()
        if len(words) > 2 and words[0] == "-A":
            found.append(Service(words[1], words[2]))
    return found


def services_to_remove(listing: str, proxied: Iterable[str], vips: Iterable[str]) -> list[Service]:
    """Ours at the VIPs, and kube-proxy's, which are at the addresses of its interface kube-ipvs0. Others' stay."""
    theirs = {*proxied, *vips}
    return [service for service in services(listing) if service.host in theirs]


def without_chains(saved: str) -> str:
    """What iptables-save told, without the chains of the cluster, and without the rules that are in or jump to them.

    The built-in chains and everything of others stay as they are, with their counters.
    """
    kept = []
    for line in saved.splitlines():
        words = line.split()
        chains = [words[0][1:]] if line.startswith(":") else _after(words, "-A", "-j", "-g")
        if any(CHAINS.match(name) for name in chains) or any(SETS.match(name) for name in _after(words, "--match-set")):
            continue
        kept.append(line)
    return "".join(f"{line}\n" for line in kept)


def _after(words: Sequence[str], *options: str) -> list[str]:
    return [words[at + 1] for at, word in enumerate(words[:-1]) if word in options]


def chains_in(saved: str) -> bool:
    """Whether a table still holds something of the cluster's."""
    return without_chains(saved) != "".join(f"{line}\n" for line in saved.splitlines())


def sets_to_remove(listing: str) -> list[str]:
    """Names of the cluster's sets, from `ipset list -n`."""
    return [name for name in listing.split() if SETS.match(name)]


def links_to_remove(names: Iterable[str]) -> list[str]:
    """Interfaces of the pod network and of kube-proxy."""
    # The kernel makes tunl0 itself with its module, and it cannot be deleted.
    return [name for name in names if LINKS_OF_THE_POD_NETWORK.fullmatch(name) and name != "tunl0"]


def sysctls_to_restore(before: Mapping[str, str], now: Mapping[str, str | None]) -> dict[str, str]:
    """Kernel parameters and the values that they had before us, where they exist and differ."""
    return {
        key: value
        for key, value in before.items()
        if now.get(key) is not None and " ".join(str(now[key]).split()) != " ".join(value.split())
    }


def mounts_below(mounts: str, folder: str) -> list[str]:
    """Mount points in a folder, from /proc/mounts, the deepest first."""
    points = [
        line.split()[1].encode().decode("unicode_escape") for line in mounts.splitlines() if len(line.split()) > 1
    ]
    return sorted({point for point in points if point.startswith(folder + "/")}, key=len, reverse=True)
