#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: network_facts
short_description: Everything the network plan must know about a host, in one call
version_added: "1.0.0"
author: "multinic.kubernetes contributors (@multinic)"
description:
  - Returns cards, addresses, routes, policy rules, reverse path filters, the kernel's own route lookups, the host's
    identity, clock, system, network managers, firewall, hosts file, listening ports and cluster membership.
  - Needs nothing on the host but Python and iproute2. It changes nothing.
  - What cannot be read is left empty and told in C(problems), so that one poor host does not hide the others' facts.
extends_documentation_fragment: [multinic.kubernetes._attributes]
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
options:
  targets:
    description:
      - Addresses whose route the kernel is asked for.
      - Words that are no addresses, such as CIDRs and names of cards, are passed over, so a whole O(targets) may be the
        value of C(cluster_network).
    type: list
    elements: str
    default: []
"""

EXAMPLES = r"""
- name: The network facts are known
  multinic.kubernetes.network_facts:
    targets: ["192.168.253.1"]

- name: The cards are told
  ansible.builtin.debug:
    var: ansible_facts['multinic']['links']
"""

RETURN = r"""
ansible_facts:
  description: Facts to add to C(ansible_facts).
  returned: success
  type: dict
  contains:
    multinic:
      description: The facts.
      returned: success
      type: dict
      contains:
        links:
          description: Cards, sorted by name, each with its addresses.
          returned: success
          type: list
          elements: dict
          sample:
            - name: ens32
              index: 2
              mtu: 1500
              up: true
              carrier: true
              mac: "52:54:00:00:20:81"
              kind: ""
              parent: null
              master: null
              speed_mbps: 10000
              duplex: full
              rp_filter: 1
              accept_ra: 1
              addresses:
                - address: 192.168.253.129
                  prefix: 24
                  family: 4
                  scope: global
                  secondary: false
                  dynamic: false
                  deprecated: false
        routes:
          description: Routes of all tables. A default route's C(dst) is C(0.0.0.0/0) or C(::/0).
          returned: success
          type: list
          elements: dict
          sample:
            - dst: 0.0.0.0/0
              family: 4
              gateway: 192.168.160.1
              dev: ens33
              source: null
              metric: 0
              table: main
              type: unicast
              scope: global
              protocol: static
        rules:
          description: Policy routing rules.
          returned: success
          type: list
          elements: dict
        rp_filter_all:
          description: The reverse path filter of all cards. The kernel applies the larger of this and the card's own.
          returned: success
          type: int
        lookups:
          description: What the kernel answers for each target. All values are null where it has no route.
          returned: success
          type: dict
          sample:
            192.168.253.1: {dev: ens32, source: 192.168.253.129, gateway: null}
        identity:
          description: Host name, machine-id, product_uuid and the MAC addresses of cards with hardware.
          returned: success
          type: dict
        clock:
          description:
            - Seconds since 1970, whether the kernel says that its clock is synchronised, the time daemon, and the sources that
              are configured, as lines of chrony's configuration.
          returned: success
          type: dict
        system:
          description: Distribution, kernel, architecture, CPUs, memory, swap, cgroup version and init.
          returned: success
          type: dict
        network_managers:
          description: Which programs manage the network.
          returned: success
          type: list
          elements: str
        firewall:
          description: Which firewall is in force.
          returned: success
          type: dict
        hosts_file:
          description: Entries of /etc/hosts.
          returned: success
          type: list
          elements: dict
        resolver:
          description: The name servers that pods inherit, and the file they are in.
          returned: success
          type: dict
          sample: {path: /run/systemd/resolve/resolv.conf, servers: ["192.168.160.1"]}
        listening:
          description: Listening sockets with the names of their processes.
          returned: success
          type: list
          elements: dict
        kubernetes:
          description: Whether the host is a member of a cluster, of whose, and with which version.
          returned: success
          type: dict
          sample:
            member: false
            admin_conf: false
            node_name: ""
            version: ""
            node_ip: ""
            kubelet_conf: false
            ours: false
            balancers: [ipvs]
            port_sharing: true
            authority_trouble: ""
            outside: [192.168.160.250]
        disk:
          description: Free and total space of the file system that holds /var/lib, in MiB.
          returned: success
          type: dict
        problems:
          description: What could not be read, each with the reason.
          returned: success
          type: list
          elements: dict
          sample: [{what: "ip -4 rule", why: "no program ip"}]
"""

import ctypes
import glob
import os
import platform
import socket
import sys
import time
from pathlib import Path
from typing import Any, Optional

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.multinic.kubernetes.plugins.module_utils import _facts
from ansible_collections.multinic.kubernetes.plugins.module_utils._balancer import UNIT_FOLDER
from ansible_collections.multinic.kubernetes.plugins.module_utils._balancer_modes import CA, UNIT_OF, shares_port
from ansible_collections.multinic.kubernetes.plugins.module_utils._outside import OUTSIDE_CONFIG, configured_addresses
from ansible_collections.multinic.kubernetes.plugins.module_utils._x509 import (
    CertificateError,
    first_certificate,
    read_certificate,
)

APISERVER = "/etc/kubernetes/manifests/kube-apiserver.yaml"
MEMBER = Path("/var/lib/multinic/member.json")
OURS = Path("/var/lib/multinic")
UNITS = Path("/run/systemd/units")
TIME_ERROR = 5
UNSYNCHRONISED = 0x0040


class Host:
    """Reads one host. What cannot be read is noted, not raised."""

    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.ip = module.get_bin_path("ip", opt_dirs=["/sbin", "/usr/sbin"])
        self.problems: list[dict[str, str]] = []

    def read(self, path: str) -> str:
        try:
            return Path(path).read_text(encoding="utf-8", errors="replace")
        except OSError:
            return ""

    def run_ip(self, *words: str, batch: Optional[str] = None) -> str:
        what = " ".join(("ip", *words))
        if self.ip is None:
            self.problems.append({"what": what, "why": "no program ip"})
            return ""
        code, out, err = self.module.run_command([self.ip, *words], data=batch)
        if code and batch is None:
            self.problems.append({"what": what, "why": err.strip() or f"exit code {code}"})
            return ""
        return str(out)

    def links(self) -> list[dict[str, Any]]:
        cards = {}
        for name in os.listdir("/sys/class/net") if os.path.isdir("/sys/class/net") else ():
            base = f"/sys/class/net/{name}"
            cards[name] = _facts.CardFiles(
                self.read(f"{base}/speed"),
                self.read(f"{base}/duplex"),
                self.read(f"/proc/sys/net/ipv4/conf/{name}/rp_filter"),
                self.read(f"/proc/sys/net/ipv6/conf/{name}/accept_ra"),
            )
        return _facts.parse_links(self.run_ip("-j", "-d", "address", "show"), cards)

    def routes(self) -> list[dict[str, Any]]:
        return [
            route
            for family in (4, 6)
            for route in _facts.parse_routes(self.run_ip(f"-{family}", "-j", "route", "show", "table", "all"), family)
        ]

    def rules(self) -> list[dict[str, Any]]:
        return [
            rule
            for family in (4, 6)
            for rule in _facts.parse_rules(self.run_ip(f"-{family}", "-j", "rule", "show"), family)
        ]

    def lookups(self, targets: list[str]) -> dict[str, dict[str, Any]]:
        if not targets:
            return {}
        batch = "".join(f"route get {target}\n" for target in targets)
        return _facts.parse_lookups(self.run_ip("-j", "-force", "-batch", "-", batch=batch), targets)

    def units(self) -> list[str]:
        """Active units: systemd keeps a link for each running invocation, so no program is asked."""
        prefix = "invocation:"
        try:
            return [name[len(prefix) :] for name in os.listdir(UNITS) if name.startswith(prefix)]
        except OSError:
            return []

    def resolver(self, units: list[str]) -> dict[str, Any]:
        """The file that kubeadm gives to kubelet, and with that to pods."""
        path = _facts.RESOLVED_FILE if _facts.RESOLVED_UNIT in units else "/etc/resolv.conf"
        return {"path": path, "servers": _facts.name_servers(self.read(path))}

    def listening(self) -> list[dict[str, Any]]:
        sockets = [
            found
            for protocol in ("tcp", "udp")
            for version in ("", "6")
            for found in _facts.parse_proc_net(self.read(f"/proc/net/{protocol}{version}"), protocol)
        ]
        return _facts.listening(sockets, self.owners({found.inode for found in sockets}))

    def owners(self, inodes: set[str]) -> dict[str, str]:
        """Names of the processes that hold the sockets; stops when the last one is known."""
        wanted = {f"socket:[{inode}]": inode for inode in inodes if inode != "0"}
        owners: dict[str, str] = {}
        for process in os.listdir("/proc"):
            if len(owners) == len(wanted):
                break
            if not process.isdigit():
                continue
            try:
                handles = os.listdir(f"/proc/{process}/fd")
            except OSError:
                continue
            for handle in handles:
                try:
                    inode = wanted.get(os.readlink(f"/proc/{process}/fd/{handle}"))
                except OSError:
                    continue
                if inode is not None:
                    owners[inode] = self.read(f"/proc/{process}/comm").strip()
        return owners

    def identity(self, links: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            "hostname": socket.gethostname(),
            "machine_id": self.read("/etc/machine-id").strip(),
            "product_uuid": self.read("/sys/class/dmi/id/product_uuid").strip().lower(),
            "macs": sorted(
                link["mac"] for link in links if link["mac"] and os.path.exists(f"/sys/class/net/{link['name']}/device")
            ),
        }

    def system(self) -> dict[str, Any]:
        root = "/sys/fs/cgroup"
        return {
            **_facts.parse_os_release(self.read("/etc/os-release")),
            "kernel": platform.release(),
            "architecture": platform.machine(),
            "cpus": os.cpu_count() or 1,
            "memory_mb": _facts.parse_meminfo(self.read("/proc/meminfo")),
            "swap": _facts.parse_swaps(self.read("/proc/swaps")),
            "cgroup": _facts.cgroup_version(
                os.path.exists(f"{root}/cgroup.controllers"), os.path.isdir(f"{root}/unified"), os.path.isdir(root)
            ),
            "init": self.read("/proc/1/comm").strip(),
        }

    def synchronised(self) -> Optional[bool]:
        """What the kernel says of its own clock, without asking a daemon."""
        try:
            libc = ctypes.CDLL(None, use_errno=True)
            state = ctypes.create_string_buffer(512)
            answer = libc.adjtimex(state)
        except (OSError, AttributeError):
            return None
        if answer < 0:
            return None
        status = int.from_bytes(state.raw[40:44], sys.byteorder)
        return answer != TIME_ERROR and not status & UNSYNCHRONISED

    def time_sources(self, daemon: str) -> list[str]:
        patterns = (*_facts.CHRONY_FILES, *_facts.NTP_FILES, *_facts.TIMESYNCD_FILES)
        paths = [path for pattern in patterns for path in sorted(glob.glob(pattern))]
        return _facts.time_sources({path: self.read(path) for path in paths}, daemon)

    def kubernetes(self) -> dict[str, Any]:
        marker = self.read(str(MEMBER)) if MEMBER.exists() else None
        return {
            "member": marker is not None,
            "admin_conf": os.path.exists("/etc/kubernetes/admin.conf"),
            "node_name": _facts.member_node_name(marker or ""),
            "version": _facts.member_version(marker or ""),
            "node_ip": _facts.kubelet_node_ip(self.read("/var/lib/kubelet/kubeadm-flags.env")) if marker else "",
            "kubelet_conf": os.path.exists("/etc/kubernetes/kubelet.conf"),
            "ours": OURS.is_dir(),
            "balancers": [mode for mode, unit in UNIT_OF.items() if os.path.exists(f"{UNIT_FOLDER}/{unit}")],
            "outside": configured_addresses(self.read(OUTSIDE_CONFIG)),
            "port_sharing": shares_port(self.read(APISERVER)) if os.path.exists(APISERVER) else None,
            "authority_trouble": authority_trouble(self.read(CA)) if os.path.exists(CA) else "",
        }

    def disk(self) -> dict[str, Any]:
        path = "/var/lib" if os.path.isdir("/var/lib") else "/"
        state = os.statvfs(path)
        return {
            "path": path,
            "free_mb": state.f_bavail * state.f_frsize // 2**20,
            "total_mb": state.f_blocks * state.f_frsize // 2**20,
        }

    def facts(self, targets: list[str]) -> dict[str, Any]:
        links = self.links()
        units = self.units()
        daemons = _facts.active_among(units, _facts.TIME_DAEMONS)
        return {
            "links": links,
            "routes": self.routes(),
            "rules": self.rules(),
            "rp_filter_all": _facts.whole(self.read("/proc/sys/net/ipv4/conf/all/rp_filter")),
            "lookups": self.lookups(targets),
            "identity": self.identity(links),
            "clock": {
                "epoch": time.time(),
                "synchronised": self.synchronised(),
                "daemon": daemons[0] if daemons else "",
                "sources": self.time_sources(daemons[0] if daemons else ""),
            },
            "system": self.system(),
            "network_managers": _facts.active_among(units, _facts.NETWORK_MANAGERS),
            "firewall": _facts.firewall(units, self.read("/etc/ufw/ufw.conf")),
            "hosts_file": _facts.parse_hosts_file(self.read("/etc/hosts")),
            "resolver": self.resolver(units),
            "listening": self.listening(),
            "kubernetes": self.kubernetes(),
            "disk": self.disk(),
            "problems": self.problems,
        }


def authority_trouble(text: str) -> str:
    """What is wrong with the certificate of the cluster's authority; a power loss may have left the file empty."""
    try:
        read_certificate(first_certificate(text))
    except CertificateError as error:
        return str(error)
    return ""


def main() -> None:
    module = AnsibleModule(
        argument_spec={"targets": {"type": "list", "elements": "str", "default": []}}, supports_check_mode=True
    )
    targets = _facts.lookup_targets(module.params["targets"])
    module.exit_json(changed=False, ansible_facts={"multinic": Host(module).facts(targets)})


if __name__ == "__main__":
    main()
