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
  - Sends ICMP echo requests, TCP connections and UDP datagrams to every peer, from the planned address and the planned card
    only. Nothing needs to listen there, for a closed port answers too. Some echo requests fill the planned MTU and must not
    be fragmented; where they do not pass, the largest size that does is searched for.
  - Where a peer stays silent, all cards are watched for answers that come back another way.
  - Asks by ARP whether somebody else has the host's address, and the kernel which card and source it takes to each peer by
    itself. Looks for kernel modules, commands and network plugins, and measures how long the disk of etcd takes to keep a
    write.
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
        description: TCP ports that are tried. An open and a refused one both pass; a firewall's refusal does not.
        type: list
        elements: int
        default: []
      udp_ports:
        description: UDP ports that are tried. One that answers and one that is closed both pass.
        type: list
        elements: int
        default: []
  further_sources:
    description:
      - Source addresses of other families than O(source), for the peers that have addresses of these. The default is the
        plan's.
    type: list
    elements: str
  vip:
    description: The address of the API, whose present way is asked of the kernel. The default is the plan's.
    type: str
  further_vips:
    description: Addresses of the API of other families than O(vip). The default is the plan's.
    type: list
    elements: str
  external:
    description: Address or name of the balancer that the user brings, which is connected to. The default is the plan's.
    type: str
  external_port:
    description: Its port.
    type: int
    default: 6443
  outside:
    description:
      - Addresses that the API is to have from outside, of which it is asked by ARP or by neighbour discovery whether somebody
        has them already. VRRP is listened to on the same card. The default is the plan's.
    type: list
    elements: dict
    suboptions:
      address:
        description: The address.
        type: str
        required: true
      interface:
        description: The card on which it is asked for.
        type: str
        required: true
  etcd_folder:
    description:
      - The folder that etcd will keep its data in. How long its disk takes for a write is measured with a file that has no
        name, in the nearest folder above that is there. The default is the plan's on control-plane hosts.
    type: path
  cluster_nodes:
    description: Whether the cluster is asked for its nodes. The default is true on the plan's first control-plane host.
    type: bool
    default: false
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
    description: Seconds that all packets, their repetitions and the search for what is wrong may take together.
    type: float
    default: 5
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
      description:
        - For each peer the times of a small and of the full packet, null without an answer; the largest size that passes, and
          who told that more does not; what TCP and UDP answered, and the ports that do not answer or that a firewall refuses.
        - Answers that another card received than the one that was asked from are told in C(seen_on).
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
          limit: ""
          tcp: port 10250 is refused
          udp: port 33434 is closed
          blocked: []
          blocked_udp: []
          rejected: []
          forbidden: false
          seen_on: ""
    lookups:
      description: Which card and source the kernel takes to each peer, and to the VIP.
      returned: success
      type: dict
    external:
      description: Whether the user's balancer takes a connection (open, refused, silent, unreachable, unknown), and where.
      returned: success
      type: dict
      sample: {addresses: [192.168.253.10], answer: open, error: ""}
    replies:
      description: Which card the kernel takes to each peer from the planned source; policy rules may make it another.
      returned: success
      type: dict
    arp:
      description: Hardware addresses that answered for the host's own address, and for peers that several answered for.
      returned: success
      type: dict
      sample: {"192.168.253.129": ["52:54:00:00:00:99"]}
    outside:
      description: Of each address of O(outside) the hardware addresses that answered for it, and the VRRP adverts that were heard.
      returned: success
      type: list
      elements: dict
      sample:
        - address: 192.168.160.250
          interface: ens33
          macs: []
          adverts: [{source: 192.168.160.2, router_id: 7, version: 2}]
    fsync:
      description: Milliseconds that the disk of etcd took to keep a write, at most in half and in 99 of 100 cases.
      returned: when measured
      type: dict
      sample: {path: /var/lib, writes: 100, median: 0.4, p99: 1.2}
    cluster_nodes:
      description: The nodes that the cluster has already, null if it was not asked or did not answer.
      returned: success
      type: list
      elements: dict
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

import os
import platform
import socket
import time
from collections.abc import Sequence
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Optional

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.multinic.kubernetes.plugins.module_utils import (
    _facts,
    _kubectl,
    _packets,
    _probe,
    _proof_api,
    _proof_host,
    _proof_paths,
)
from ansible_collections.multinic.kubernetes.plugins.module_utils._wire import Arp, Door, Packet, Pinger, search
from ansible_collections.multinic.kubernetes.plugins.module_utils._wire_claims import Claim

SSH = 22
FIRST_PART = 0.6  # of the time to wait; the rest is for a closer look at what did not answer
SECOND_PART = 1.2  # seconds: the kernel repeats a connection's first packet after one
ARP_SECONDS = 0.3
LEAST_PAUSE = 0.15
MOST_PAUSE = 0.5
WRITE = bytes(2300)  # what etcd's own advice for measuring a disk writes at once
WRITES = 100
WRITE_SECONDS = 2.0
ADMIN_CONF = "/etc/kubernetes/admin.conf"
CLUSTER_SECONDS = 5
EXTERNAL_SECONDS = 4  # the kernel finds after 3 that nobody has an address, which is another answer than silence
FOLDERS = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/sbin"]
PLUGIN_FOLDERS = ("/opt/cni/bin", "/usr/lib/cni", "/usr/libexec/cni")
OURS = "Written by multinic.kubernetes"


def measure(pinger: Pinger, peers: Sequence[dict[str, Any]], wait: float) -> list[dict[str, Any]]:
    """Echo, TCP and UDP to all peers at once; then a closer look at those that did not answer. Bounded by the time to wait."""
    end = time.monotonic() + wait
    small = [Packet(peer["address"], _packets.SMALL) for peer in peers]
    full = [Packet(peer["address"], peer["size"]) for peer in peers]
    doors = {
        peer["address"]: [
            *(Door(peer["address"], port) for port in peer["ports"]),
            *(Door(peer["address"], port, "udp") for port in peer["udp_ports"]),
        ]
        for peer in peers
    }
    pinger.run([*small, *full], wait * FIRST_PART, [door for some in doors.values() for door in some])
    narrow = [large for little, large in zip(small, full) if answered(little) and not answered(large)]
    silent = [little for little in small if not answered(little)]
    unsettled = [door for little in small if answered(little) for door in doors[little.address] if not door.answer]
    if unsettled:
        # The host answers and a port of it does not: a firewall, or a frame that got lost on a busy machine.
        pinger.run([], SECOND_PART, unsettled)
    if silent:
        ssh = {little.address: Door(little.address, SSH) for little in silent}
        pinger.trace(silent, (end - time.monotonic()) / (2 if narrow else 1), list(ssh.values()))
        for address, door in ssh.items():
            doors[address].append(door)
    slowest = max((little.milliseconds for little in small if little.milliseconds is not None), default=0.0)
    pause = min(max(LEAST_PAUSE, slowest / 1000 * 4), MOST_PAUSE)
    found = search(pinger, narrow, pause, end) if narrow else {}
    return [
        {
            **{key: value for key, value in peer.items() if key not in {"ports", "udp_ports"}},
            **told(little, large, found.get(peer["address"])),
            **opened(doors[peer["address"]]),
        }
        for peer, little, large in zip(peers, small, full)
    ]


def answered(packet: Packet) -> bool:
    return packet.milliseconds is not None


def told(small: Packet, full: Packet, found: Optional[int]) -> dict[str, Any]:
    """What the echo requests showed."""
    limit = ""
    if not answered(full) and full.told_by:
        limit = f"{full.told_by} tells that {full.told_mtu} bytes fit" if full.told_mtu else f"{full.told_by} tells so"
    elif not answered(full) and full.problem == "EMSGSIZE":
        limit = "the card itself takes no more"
    return {
        "milliseconds": small.milliseconds,
        "full_milliseconds": full.milliseconds,
        "largest": full.size if answered(full) else found,
        "limit": limit,
        "seen_on": small.seen_on,
    }


def opened(doors: Sequence[Door]) -> dict[str, Any]:
    """What TCP and UDP showed. The ssh port is only asked for an answer of any kind."""
    asked = [door for door in doors if door.port != SSH]
    return {
        **{
            protocol: next(
                (
                    f"port {door.port} is {door.answer}"
                    for door in doors
                    if door.protocol == protocol and door.answer in _proof_paths.PASSES
                ),
                "",
            )
            for protocol in ("tcp", "udp")
        },
        "blocked": [door.port for door in asked if door.protocol == "tcp" and door.answer not in _proof_paths.PASSES],
        "blocked_udp": [
            door.port for door in asked if door.protocol == "udp" and door.answer not in _proof_paths.PASSES
        ],
        "rejected": sorted({door.port for door in asked if door.answer == "rejected"}),
        "forbidden": any(door.answer == "forbidden" for door in doors),
    }


def fsync(folder: str) -> Optional[dict[str, Any]]:
    """How long the disk takes to keep a small write, on a file without a name: nothing is left of it."""
    path = next((place for place in (Path(folder), *Path(folder).parents) if place.is_dir()), Path("/"))
    times: list[float] = []
    try:
        handle = os.open(path, os.O_TMPFILE | os.O_WRONLY, 0o600)
    except OSError:
        return None
    try:
        end = time.monotonic() + WRITE_SECONDS
        while len(times) < WRITES and (start := time.monotonic()) < end:
            os.write(handle, WRITE)
            os.fdatasync(handle)
            times.append((time.monotonic() - start) * 1000)
    except OSError:
        return None
    finally:
        os.close(handle)
    return {
        "path": str(path),
        "writes": len(times),
        "median": round(_proof_host.percentile(times, 50), 3),
        "p99": round(_proof_host.percentile(times, 99), 3),
    }


def cluster_nodes() -> Optional[list[dict[str, str]]]:
    """The nodes that the cluster has already, if this host may ask it."""
    program = _kubectl.find_program("kubectl")
    if program is None or not os.path.exists(ADMIN_CONF):
        return None
    kubectl = _kubectl.Kubectl(program, ADMIN_CONF)
    answer = kubectl.ask("get", "nodes", "-o", "json", request_seconds=CLUSTER_SECONDS, seconds=CLUSTER_SECONDS + 1)
    return _proof_host.parse_nodes(answer.out) if answer.good else None


def lookups(module: AnsibleModule, addresses: Sequence[str], source: str = "") -> dict[str, dict[str, Any]]:
    """Which way the kernel takes, by itself or from an address."""
    program = module.get_bin_path("ip", opt_dirs=["/sbin", "/usr/sbin"])
    if program is None or not addresses:
        return {}
    batch = "".join(f"route get {address}{f' from {source}' if source else ''}\n" for address in addresses)
    _code, out, _err = module.run_command([program, "-j", "-force", "-batch", "-"], data=batch)
    return _facts.parse_lookups(out, addresses)


def of_family(addresses: Sequence[str], source: str) -> list[str]:
    """Those of the family that the source has. ValueError: one of them is no address."""
    return [address for address in addresses if ip_address(address).version == ip_address(source).version]


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


def external(name: str, port: int) -> dict[str, Any]:
    """A connection to the balancer that the user brings, to the first of its addresses that takes one."""
    found: dict[str, Any] = {"addresses": [], "answer": _proof_api.UNKNOWN, "error": ""}
    try:
        ends = socket.getaddrinfo(name, port, type=socket.SOCK_STREAM)
    except OSError as problem:
        return {**found, "error": str(problem)}
    for family, kind, protocol, _canonical, end in ends:
        found["addresses"].append(str(end[0]))
        with socket.socket(family, kind, protocol) as door:
            door.settimeout(EXTERNAL_SECONDS)
            try:
                door.connect(end)
                return {**found, "answer": _proof_api.OPEN, "error": ""}
            except ConnectionRefusedError:
                answer, error = _proof_api.REFUSED, ""
            except socket.timeout:
                answer, error = _proof_api.SILENT, ""
            except OSError as problem:
                answer, error = _proof_api.UNREACHABLE, problem.strerror or str(problem)
        if found["answer"] != _proof_api.REFUSED:
            found.update(answer=answer, error=error)
    return found


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
                    "udp_ports": {"type": "list", "elements": "int", "default": []},
                },
            },
            "kernel_modules": {"type": "list", "elements": "str"},
            "commands": {"type": "list", "elements": "str"},
            "cni_plugins": {"type": "list", "elements": "str"},
            "own_files": {"type": "list", "elements": "path"},
            "further_sources": {"type": "list", "elements": "str"},
            "vip": {"type": "str"},
            "further_vips": {"type": "list", "elements": "str"},
            "external": {"type": "str"},
            "external_port": {"type": "int", "default": 6443},
            "outside": {
                "type": "list",
                "elements": "dict",
                "options": {
                    "address": {"type": "str", "required": True},
                    "interface": {"type": "str", "required": True},
                },
            },
            "etcd_folder": {"type": "path"},
            "cluster_nodes": {"type": "bool", "default": False},
            "wait": {"type": "float", "default": 5},
        },
        required_together=[("interface", "source")],
        supports_check_mode=True,
    )
    given = module.params
    peers = [dict(peer) for peer in given["peers"] or ()]
    addresses = [peer["address"] for peer in peers]
    sources = [source for source in (given["source"], *(given["further_sources"] or ())) if source]
    vips = [vip for vip in (given["vip"], *(given["further_vips"] or ())) if vip]
    measured: list[dict[str, Any]] = []
    trouble = ""
    arp: Optional[Arp] = None
    claims: list[Claim] = []
    try:
        claims = [Claim(item["address"], item["interface"]) for item in given["outside"] or ()]
        if given["source"]:
            arp = Arp(given["source"], given["interface"])
            arp.ask()
        for source in sources if peers else ():
            pinger = Pinger(source, given["interface"])
            mine = [peer for peer in peers if peer["address"] in of_family(addresses, source)]
            measured += measure(pinger, mine, given["wait"]) if mine else []
    except OSError as problem:
        trouble = str(problem)
    except ValueError as problem:
        module.fail_json(msg=f"source: {problem}")
    result: dict[str, Any] = {
        "peers": measured,
        "lookups": lookups(module, [*addresses, *vips]),
        "external": external(given["external"], given["external_port"]) if given["external"] else None,
        "replies": {
            address: answer
            for source in sources
            for address, answer in lookups(module, of_family(addresses, source), source).items()
        },
        "kernel_modules": kernel_modules(given["kernel_modules"] or []),
        "commands": commands(module, given["commands"] or []),
        "cni_plugins": cni_plugins(given["cni_plugins"] or []),
        "foreign_files": foreign_files(given["own_files"] or []),
        "systemd": systemd_version(module),
        "fsync": fsync(given["etcd_folder"]) if given["etcd_folder"] else None,
        "cluster_nodes": cluster_nodes() if given["cluster_nodes"] else None,
        "arp": _proof_paths.several(arp.finish(ARP_SECONDS), given["source"]) if arp else {},
        "outside": [claim.finish() for claim in claims],
        "trouble": trouble,
    }
    module.exit_json(changed=False, network_probe=result)


if __name__ == "__main__":
    main()
