# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host that left its cluster still has of it."""

from __future__ import annotations

from harness import Lab

LEFTOVERS = r"""
ls -d /etc/kubernetes /var/lib/kubelet /var/lib/etcd /var/lib/multinic /etc/multinic /var/lib/cni /run/multinic* \
  /etc/systemd/system/multinic* /etc/systemd/system/kubelet.service* /etc/systemd/system/*.wants/multinic* \
  /etc/sysctl.d/*multinic* /etc/modules-load.d/multinic* /etc/tmpfiles.d/multinic* \
  /usr/local/bin/kube* /usr/local/bin/crictl /usr/local/lib/multinic 2>/dev/null
# The folders are containerd's, which makes them when it starts.
find /etc/cni /opt/cni ! -type d 2>/dev/null
grep -l multinic /etc/hosts /etc/fstab /etc/containerd/config.toml /etc/chrony/chrony.conf /etc/crictl.yaml 2>/dev/null
ip route show table local | grep 10.103.97.2
ip -o link | grep -oE '(cni0|kube-ipvs0|veth[^@]*)'
ipvsadm -Sn 2>/dev/null | grep -- -A
iptables-save 2>/dev/null | grep -oE '^:(KUBE|CNI|MULTINIC)[^ ]*'
ipset list -n 2>/dev/null
systemctl list-units --all --plain --no-legend 'multinic*' 'kubelet*' | awk '{print $1}'
ps -eo comm= | grep -E '^(kube|etcd|keepalived|containerd-shim)'
true
"""


def leftovers(lab: Lab, host: str) -> list[str]:
    """What of the cluster is still on a host that left it."""
    return lab.run(host, LEFTOVERS).split("\n")[:-1]
