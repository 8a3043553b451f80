#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: network_probe
short_description: Prove a host's way to its peers on the cluster network
version_added: "1.0.0"
author: "multinic.kubernetes contributors (@multinic)"
description:
  - Sends ICMP echo requests to every peer, from the planned address and the planned card only, small ones and ones that
    fill the planned MTU and must not be fragmented. To peers that stay silent TCP is tried too.
  - Asks the kernel which card and source it takes to each peer by itself, and looks for kernel modules, commands and
    network plugins.
  - The action plugin of the same name runs first. It fills in what is not given from the fact C(cluster_plan), and
    measures the host's clock against the controller's, with the round trip taken out.
  - It needs root on the host, and changes nothing.
extends_documentation_fragment: [multinic.kubernetes._attributes]
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
options:
  interface:
    description: The card that packets must leave and answers must enter by. The default is the plan's.
    type: str
  source:
    description: The source address. The default is the plan's.
    type: str
  peers:
    description: The hosts to reach. The default is all other hosts of the plan.
    type: list
    elements: dict
    suboptions:
      name:
        description: The peer's name, for the report.
        type: str
        required: true
      address:
        description: The peer's cluster address.
        type: str
        required: true
      size:
        description: Bytes of the largest packet that must pass, IP header included.
        type: int
        default: 1500
      ports:
        description: TCP ports that are tried, because the peer has a firewall. An open and a refused one both pass.
        type: list
        elements: int
        default: []
  kernel_modules:
    description: Kernel modules that must be loaded, built in or loadable. The default is the plan's.
    type: list
    elements: str
  commands:
    description: Commands to look for. The default is the plan's.
    type: list
    elements: str
  cni_plugins:
    description: Network plugins to look for, in C(/opt/cni/bin), C(/usr/lib/cni) and C(/usr/libexec/cni).
    type: list
    elements: str
  own_files:
    description: Files that the collection takes over; those that somebody else wrote are told.
    type: list
    elements: path
  wait:
    description: Seconds to wait for answers. Packets are repeated three times within that time.
    type: float
    default: 3
"""

EXAMPLES = r"""
- name: The hosts reach each other as planned
  multinic.kubernetes.network_probe:

- name: One path carries jumbo frames
  multinic.kubernetes.network_probe:
    interface: ens32
    source: 192.168.253.129
    peers:
      - {name: master2, address: 192.168.253.128, size: 9000}
"""

RETURN = r"""
network_probe:
  description: The measurements. They are no verdict; the preflight_report action compares those of all hosts.
  returned: success
  type: dict
  contains:
    peers:
      description: For each peer the times of a small and of the full packet, null without an answer.
      returned: success
      type: list
      elements: dict
      sample:
        - name: master2
          address: 192.168.253.128
          size: 1500
          milliseconds: 0.4
          full_milliseconds: 0.6
          largest: 1500
          tcp: ""
          blocked: []
    lookups:
      description: Which card and source the kernel takes to each peer.
      returned: success
      type: dict
    kernel_modules:
      description: Whether each module is there.
      returned: success
      type: dict
    commands:
      description: Whether each command is there.
      returned: success
      type: dict
    cni_plugins:
      description: Whether each network plugin is there.
      returned: success
      type: dict
    foreign_files:
      description: Those of O(own_files) that are there and that this collection did not write.
      returned: success
      type: list
      elements: str
    systemd:
      description: The version of systemd, null if it does not tell.
      returned: success
      type: int
      sample: 252
    clock:
      description: The clock's offset from the controller's, and how far it may be wrong.
      returned: success
      type: dict
      sample: {offset_seconds: 0.012, uncertainty_seconds: 0.02}
    trouble:
      description: Why no packet could be sent; empty otherwise.
      returned: success
      type: str
"""

import errno
import os
import platform
import select
import socket
import time
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Optional

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.multinic.kubernetes.plugins.module_utils import _facts, _probe

ROUNDS = (0.0, 0.3, 1.0)
# Set "don't fragment" and ignore what the kernel believes of the path. Python's socket module lacks these names.
IP_MTU_DISCOVER = 10
IPV6_MTU_DISCOVER = 23
PMTUDISC_PROBE = 3
IPPROTO_ICMPV6 = 58
SSH = 22
AT_ONCE = 256  # connections
FOLDERS = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/sbin"]
PLUGIN_FOLDERS = ("/opt/cni/bin", "/usr/lib/cni", "/usr/libexec/cni")
OURS = "Written by multinic.kubernetes"


@dataclass
class Packet:
    """One size to one peer: when it was sent last, and how long the first answer took."""

    address: str
    size: int
    sent: float = 0.0
    milliseconds: Optional[float] = None


@dataclass
class Pinger:
    """Echo requests from one address and one card only."""

    source: str
    interface: str
    identifier: int = field(default_factory=lambda: os.getpid() & 0xFFFF)

    def __post_init__(self) -> None:
        self.family = ip_address(self.source).version

    def open(self) -> socket.socket:
        if self.family == 4:
            sock = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
            sock.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, PMTUDISC_PROBE)
        else:
            sock = socket.socket(socket.AF_INET6, socket.SOCK_RAW, IPPROTO_ICMPV6)
            sock.setsockopt(socket.IPPROTO_IPV6, IPV6_MTU_DISCOVER, PMTUDISC_PROBE)
        self.bind(sock)
        sock.setblocking(False)
        return sock

    def bind(self, sock: socket.socket) -> None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, self.interface.encode() + b"\0")
        sock.bind((self.source, 0))

    def run(self, packets: list[Packet], wait: float) -> None:
        """Send every packet up to three times, until all are answered or the time is over."""
        self.identifier = (self.identifier + 1) & 0xFFFF  # late answers to an earlier run are no answers to this one
        sock = self.open()
        try:
            start = time.monotonic()
            for number, moment in enumerate(ROUNDS):
                for sequence, packet in enumerate(packets):
                    if packet.milliseconds is None:
                        self.send(sock, sequence, packet)
                last = number + 1 == len(ROUNDS)
                self.collect(sock, packets, start + (wait if last else min(wait, ROUNDS[number + 1])))
                if all(packet.milliseconds is not None for packet in packets) or moment >= wait:
                    return
        finally:
            sock.close()

    def send(self, sock: socket.socket, sequence: int, packet: Packet) -> None:
        packet.sent = time.monotonic()
        try:
            sock.sendto(_probe.echo_request(self.family, self.identifier, sequence, packet.size), (packet.address, 0))
        except OSError as problem:
            # Larger than the card's MTU, no such neighbour, a full queue: none of it is an answer.
            if problem.errno not in {
                errno.EMSGSIZE,
                errno.EHOSTUNREACH,
                errno.ENETUNREACH,
                errno.ENOBUFS,
                errno.EAGAIN,
            }:
                raise

    def collect(self, sock: socket.socket, packets: list[Packet], until: float) -> None:
        missing = sum(packet.milliseconds is None for packet in packets)
        while missing and (left := until - time.monotonic()) > 0:
            if not select.select([sock], [], [], left)[0]:
                return
            try:
                data, sender = sock.recvfrom(65535)
            except OSError:
                continue
            sequence = _probe.echo_sequence(self.family, self.identifier, data)
            if sequence is None or sequence >= len(packets):
                continue
            packet = packets[sequence]
            if packet.milliseconds is None and ip_address(sender[0].split("%")[0]) == ip_address(packet.address):
                packet.milliseconds = round((time.monotonic() - packet.sent) * 1000, 3)
                missing -= 1

    def knock(self, doors: list[tuple[str, int]], wait: float) -> dict[tuple[str, int], str]:
        """Try TCP ports of addresses: an open and a refused one both prove the way. Doors without an answer are left out."""
        answers: dict[tuple[str, int], str] = {}
        for start in range(0, len(doors), AT_ONCE):
            answers.update(self.knock_at_once(doors[start : start + AT_ONCE], wait))
        return answers

    def knock_at_once(self, doors: list[tuple[str, int]], wait: float) -> dict[tuple[str, int], str]:
        answers: dict[tuple[str, int], str] = {}
        waiting: dict[socket.socket, tuple[str, int]] = {}
        for door in doors:
            sock = socket.socket(socket.AF_INET if self.family == 4 else socket.AF_INET6, socket.SOCK_STREAM)
            self.bind(sock)
            sock.setblocking(False)
            code = sock.connect_ex(door)
            if code in {0, errno.ECONNREFUSED}:
                answers[door] = answer(door, code)
            if code == errno.EINPROGRESS:
                waiting[sock] = door
            else:
                sock.close()
        until = time.monotonic() + wait
        while waiting and (left := until - time.monotonic()) > 0:
            for sock in select.select([], list(waiting), [], left)[1]:
                code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                door = waiting.pop(sock)
                sock.close()
                if code in {0, errno.ECONNREFUSED}:
                    answers[door] = answer(door, code)
        for sock in waiting:
            sock.close()
        return answers


def answer(door: tuple[str, int], code: int) -> str:
    return f"port {door[1]} is {'refused' if code else 'open'}"


def measure(pinger: Pinger, peers: list[dict[str, Any]], wait: float) -> list[dict[str, Any]]:
    small = [Packet(peer["address"], _probe.SMALL) for peer in peers]
    full = [Packet(peer["address"], peer["size"]) for peer in peers]
    pinger.run(small + full, wait)
    steps = [
        Packet(peer["address"], step)
        for peer, little, large in zip(peers, small, full)
        if little.milliseconds is not None and large.milliseconds is None
        for step in _probe.smaller_steps(peer["size"])
    ]
    if steps:
        pinger.run(steps, wait)
    doors = [(packet.address, SSH) for packet in small if packet.milliseconds is None]
    doors += [(peer["address"], port) for peer in peers for port in peer["ports"]]
    answers = pinger.knock(doors, wait)
    return [
        {
            **{key: value for key, value in peer.items() if key != "ports"},
            "milliseconds": little.milliseconds,
            "full_milliseconds": large.milliseconds,
            "largest": _largest([large, *(step for step in steps if step.address == peer["address"])]),
            "tcp": answers.get((peer["address"], SSH), ""),
            "blocked": [port for port in peer["ports"] if (peer["address"], port) not in answers],
        }
        for peer, little, large in zip(peers, small, full)
    ]


def _largest(packets: list[Packet]) -> Optional[int]:
    return max((packet.size for packet in packets if packet.milliseconds is not None), default=None)


def lookups(module: AnsibleModule, addresses: list[str]) -> dict[str, dict[str, Any]]:
    program = module.get_bin_path("ip", opt_dirs=["/sbin", "/usr/sbin"])
    if program is None or not addresses:
        return {}
    batch = "".join(f"route get {address}\n" for address in addresses)
    _code, out, _err = module.run_command([program, "-j", "-force", "-batch", "-"], data=batch)
    return _facts.parse_lookups(out, addresses)


def kernel_modules(names: list[str]) -> dict[str, bool]:
    """A module is there if it is loaded or built in, or its file is among those of the running kernel."""
    base = Path("/lib/modules") / platform.release()
    known: set[str] = set()
    for index in ("modules.dep", "modules.builtin"):
        try:
            lines = (base / index).read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            continue
        known.update(Path(line.split(":", 1)[0]).name.split(".", 1)[0].replace("-", "_") for line in lines)
    return {name: name.replace("-", "_") in known or os.path.isdir(f"/sys/module/{name}") for name in names}


def commands(module: AnsibleModule, names: list[str]) -> dict[str, bool]:
    return {name: module.get_bin_path(name, opt_dirs=FOLDERS) is not None for name in names}


def cni_plugins(names: list[str]) -> dict[str, bool]:
    return {name: any(os.access(f"{folder}/{name}", os.X_OK) for folder in PLUGIN_FOLDERS) for name in names}


def foreign_files(paths: list[str]) -> list[str]:
    foreign = []
    for path in paths:
        try:
            text = Path(path).read_text(encoding="utf-8", errors="replace")
        except OSError:
            continue
        if text.strip() and OURS not in text:
            foreign.append(path)
    return foreign


def systemd_version(module: AnsibleModule) -> Optional[int]:
    program = module.get_bin_path("systemctl")
    if program is None:
        return None
    _code, out, _err = module.run_command([program, "--version"])
    return _probe.systemd_version(out)


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "interface": {"type": "str"},
            "source": {"type": "str"},
            "peers": {
                "type": "list",
                "elements": "dict",
                "options": {
                    "name": {"type": "str", "required": True},
                    "address": {"type": "str", "required": True},
                    "size": {"type": "int", "default": 1500},
                    "ports": {"type": "list", "elements": "int", "default": []},
                },
            },
            "kernel_modules": {"type": "list", "elements": "str"},
            "commands": {"type": "list", "elements": "str"},
            "cni_plugins": {"type": "list", "elements": "str"},
            "own_files": {"type": "list", "elements": "path"},
            "wait": {"type": "float", "default": 3},
        },
        required_together=[("interface", "source")],
        supports_check_mode=True,
    )
    peers = [dict(peer) for peer in module.params["peers"] or ()]
    result: dict[str, Any] = {
        "peers": [],
        "lookups": lookups(module, [peer["address"] for peer in peers]),
        "kernel_modules": kernel_modules(module.params["kernel_modules"] or []),
        "commands": commands(module, module.params["commands"] or []),
        "cni_plugins": cni_plugins(module.params["cni_plugins"] or []),
        "foreign_files": foreign_files(module.params["own_files"] or []),
        "systemd": systemd_version(module),
        "trouble": "",
    }
    if peers:
        try:
            pinger = Pinger(module.params["source"], module.params["interface"])
            result["peers"] = measure(pinger, peers, module.params["wait"])
        except OSError as problem:
            result["trouble"] = str(problem)
        except ValueError as problem:
            module.fail_json(msg=f"source: {problem}")
    module.exit_json(changed=False, network_probe=result)


if __name__ == "__main__":
    main()
