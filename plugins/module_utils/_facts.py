# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host's own tools and files say, turned into facts.

This module util is PRIVATE to the collection. It is pure: no I/O, no Ansible, standard library only. The module
network_facts reads the texts and calls these functions.
"""

from __future__ import annotations

import json
import re
import socket
import struct
import sys
from collections.abc import Iterable, Iterator, Mapping
from ipaddress import ip_address, ip_network
from typing import Any, NamedTuple, Optional

from ansible_collections.multinic.kubernetes.plugins.module_utils._net import ANY

FOREVER = 4294967295
FAMILIES = {"inet": 4, "inet6": 6}
TABLES = {"253": "default", "254": "main", "255": "local"}
TCP_LISTEN = "0A"
UDP_UNCONNECTED = "07"

TIMESYNCD = "systemd-timesyncd"
TIME_DAEMONS = {
    "chrony.service": "chrony",
    "chronyd.service": "chrony",
    "systemd-timesyncd.service": TIMESYNCD,
    "ntp.service": "ntpd",
    "ntpd.service": "ntpd",
    "ntpsec.service": "ntpsec",
    "openntpd.service": "openntpd",
}
NETWORK_MANAGERS = {
    "NetworkManager.service": "NetworkManager",
    "systemd-networkd.service": "systemd-networkd",
    "networking.service": "ifupdown",
    "network.service": "network-scripts",
    "wicked.service": "wicked",
    "connman.service": "connman",
}
# Where time sources are named, with those that chrony reads first.
CHRONY_FILES = (
    *("/etc/chrony/chrony.conf", "/etc/chrony.conf", "/etc/chrony/conf.d/*.conf", "/etc/chrony.d/*.conf"),
    *("/etc/chrony/sources.d/*.sources", "/run/chrony-dhcp/*.sources"),
)
NTP_FILES = ("/etc/ntp.conf", "/etc/ntpsec/ntp.conf")
TIMESYNCD_FILES = ("/etc/systemd/timesyncd.conf", "/etc/systemd/timesyncd.conf.d/*.conf")
NTP_OWN_CLOCKS = "127.127."
FIREWALLS = {"firewalld.service": "firewalld", "ufw.service": "ufw", "nftables.service": "nftables"}


# Where systemd-resolved keeps the real name servers; its /etc/resolv.conf names only itself, 127.0.0.53.
RESOLVED_FILE = "/run/systemd/resolve/resolv.conf"
RESOLVED_UNIT = "systemd-resolved.service"


class CardFiles(NamedTuple):
    """What /sys and /proc tell about one card and ip does not."""

    speed: str = ""
    duplex: str = ""
    rp_filter: str = ""
    accept_ra: str = ""


def parse_json(text: str) -> list[dict[str, Any]]:
    """The objects of ip's JSON output; an empty answer, and the empty objects old versions print, are no objects."""
    if not text.strip():
        return []
    data = json.loads(text)
    return [item for item in data if item]


def parse_links(text: str, cards: Optional[Mapping[str, CardFiles]] = None) -> list[dict[str, Any]]:
    """Cards from `ip -j -d address show`, sorted by name."""
    known = cards or {}
    links = [_link(item, known.get(item["ifname"], CardFiles())) for item in parse_json(text) if "ifname" in item]
    return sorted(links, key=lambda link: str(link["name"]))


def _link(item: Mapping[str, Any], card: CardFiles) -> dict[str, Any]:
    flags = item.get("flags") or []
    kind = str((item.get("linkinfo") or {}).get("info_kind") or "")
    if not kind and item.get("link_type") == "loopback":
        kind = "loopback"
    return {
        "name": item["ifname"],
        "index": item.get("ifindex", 0),
        "mtu": item.get("mtu", 0),
        "up": "UP" in flags,
        "carrier": "LOWER_UP" in flags,
        "mac": item.get("address", "") if item.get("link_type") == "ether" else "",
        "kind": kind,
        "parent": item.get("link") if kind != "veth" else None,
        "far_end": kind == "veth" and "link_netnsid" in item,
        "master": item.get("master"),
        "speed_mbps": positive(card.speed),
        "duplex": card.duplex.strip() if card.duplex.strip() in {"full", "half"} else None,
        "rp_filter": whole(card.rp_filter),
        "accept_ra": whole(card.accept_ra),
        "addresses": [address for entry in item.get("addr_info") or () for address in _address(entry)],
    }


def _address(entry: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    family = FAMILIES.get(str(entry.get("family")))
    if family is None or not entry.get("local"):
        return
    yield {
        "address": entry["local"],
        # On a point-to-point card the prefix belongs to the peer's address.
        "prefix": entry.get("prefixlen", 0) if not entry.get("address") else (32 if family == 4 else 128),
        "family": family,
        "scope": entry.get("scope", "global"),
        "secondary": bool(entry.get("secondary") or entry.get("temporary")),
        "dynamic": bool(entry.get("dynamic")),
        # An address that is not yet, or not at all, known to be nobody else's is as little to be chosen.
        "deprecated": any(entry.get(state) for state in ("deprecated", "tentative", "dadfailed")),
    }


def parse_routes(text: str, family: int) -> list[dict[str, Any]]:
    """Routes from `ip -4|-6 -j route show table all`; each way of a multipath route is a route of its own."""
    routes = []
    for item in parse_json(text):
        if item.get("type") in {"broadcast", "multicast", "anycast"} or item.get("dst") == "ff00::/8":
            continue
        for hop in item.get("nexthops") or [item]:
            via = hop.get("via") or {}
            routes.append(
                {
                    "dst": _destination(str(item.get("dst", "default")), family),
                    "family": family,
                    "gateway": hop.get("gateway") or via.get("host"),
                    "dev": hop.get("dev"),
                    "source": item.get("prefsrc"),
                    "metric": item.get("metric", 0),
                    "table": _table(item.get("table", "main")),
                    "type": item.get("type", "unicast"),
                    "scope": item.get("scope", "global"),
                    "protocol": item.get("protocol", ""),
                }
            )
    return routes


def _destination(text: str, family: int) -> str:
    return ANY[family] if text in {"default", "all"} else str(ip_network(text, strict=False))


def _table(value: Any) -> str:
    return TABLES.get(str(value), str(value))


def parse_rules(text: str, family: int) -> list[dict[str, Any]]:
    """Policy rules from `ip -4|-6 -j rule show`."""
    rules = []
    for item in parse_json(text):
        source = str(item.get("src", "all"))
        destination = str(item.get("dst", "all"))
        rules.append(
            {
                "family": family,
                "priority": item.get("priority", 0),
                "from": source + (f"/{item['srclen']}" if "srclen" in item else ""),
                "to": destination + (f"/{item['dstlen']}" if "dstlen" in item else ""),
                "table": _table(item.get("table", "")) or str(item.get("action", "")),
                "iif": item.get("iif"),
                "oif": item.get("oif"),
                "fwmark": item.get("fwmark"),
            }
        )
    return rules


def parse_lookups(text: str, targets: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Answers of `ip -j -force -batch -` to "route get TARGET" lines; a target without an answer has no route."""
    lookups: dict[str, dict[str, Any]] = {target: {"dev": None, "source": None, "gateway": None} for target in targets}
    by_address = {str(ip_address(target)): target for target in lookups}
    for line in text.splitlines():
        if not line.lstrip().startswith("["):
            continue
        for item in parse_json(line):
            target = by_address.get(str(item.get("dst", "")).partition("/")[0])
            if target is not None:
                via = item.get("via") or {}
                lookups[target] = {
                    "dev": item.get("dev"),
                    "source": item.get("prefsrc"),
                    "gateway": item.get("gateway") or via.get("host"),
                }
    return lookups


def lookup_targets(words: Iterable[str]) -> list[str]:
    """The addresses among the words: cluster_network may hold CIDRs and card names too, Calico's method a can-reach=."""
    targets = []
    for word in words:
        for part in str(word).replace("can-reach=", "", 1).split(","):
            try:
                targets.append(str(ip_address(part.strip())))
            except ValueError:
                continue
    return list(dict.fromkeys(targets))


def parse_os_release(text: str) -> dict[str, str]:
    """ID and VERSION_ID of /etc/os-release."""
    values = {}
    for line in text.splitlines():
        key, separator, value = line.partition("=")
        if separator:
            values[key.strip()] = value.strip().strip("\"'")
    return {"os_id": values.get("ID", ""), "os_version": values.get("VERSION_ID", "")}


def parse_meminfo(text: str) -> int:
    """Memory in MiB from /proc/meminfo."""
    found = re.search(r"^MemTotal:\s+(\d+) kB", text, re.MULTILINE)
    return int(found.group(1)) // 1024 if found else 0


def parse_swaps(text: str) -> list[str]:
    """Active swap devices and files from /proc/swaps."""
    return [line.split()[0] for line in text.splitlines()[1:] if line.strip()]


def parse_hosts_file(text: str) -> list[dict[str, Any]]:
    """Lines of /etc/hosts as {address, names}."""
    entries = []
    for line in text.splitlines():
        words = line.split("#", 1)[0].split()
        if len(words) > 1:
            entries.append({"address": words[0], "names": words[1:]})
    return entries


def name_servers(text: str) -> list[str]:
    """The name servers of a resolv.conf."""
    lines = (re.split(r"[#;]", line, maxsplit=1)[0].split() for line in text.splitlines())
    return [words[1] for words in lines if len(words) > 1 and words[0] == "nameserver"]


class Socket(NamedTuple):
    port: int
    protocol: str
    address: str
    inode: str


def parse_proc_net(text: str, protocol: str) -> list[Socket]:
    """Listening sockets of /proc/net/{tcp,tcp6,udp,udp6}; protocol is tcp or udp."""
    wanted = TCP_LISTEN if protocol == "tcp" else UDP_UNCONNECTED
    sockets = []
    for line in text.splitlines()[1:]:
        words = line.split()
        if len(words) > 9 and words[3] == wanted:
            address, _colon, port = words[1].partition(":")
            sockets.append(Socket(int(port, 16), protocol, _proc_address(address), words[9]))
    return sockets


def _proc_address(text: str) -> str:
    """An address as /proc/net writes it: 32-bit words in the machine's byte order."""
    words = [int(text[start : start + 8], 16) for start in range(0, len(text), 8)]
    order = "<" if sys.byteorder == "little" else ">"
    packed = struct.pack(f"{order}{len(words)}I", *words)
    return socket.inet_ntop(socket.AF_INET if len(words) == 1 else socket.AF_INET6, packed)


def listening(sockets: Iterable[Socket], owners: Mapping[str, str]) -> list[dict[str, Any]]:
    """Sockets with the names of their processes, each once."""
    entries = {(item.port, item.protocol, item.address): owners.get(item.inode, "") for item in sockets}
    return [
        {"port": port, "protocol": protocol, "address": address, "process": process}
        for (port, protocol, address), process in sorted(entries.items())
    ]


def active_among(units: Iterable[str], table: Mapping[str, str]) -> list[str]:
    """Names of the table whose unit is active, in the table's order."""
    running = set(units)
    return list(dict.fromkeys(name for unit, name in table.items() if unit in running))


def time_sources(files: Mapping[str, str], daemon: str) -> list[str]:
    """Where the host has its time from, as lines of chrony's configuration; each source once.

    What timesyncd would ask without a configuration stands in its file as a comment, and counts only while it runs.
    """
    lines: list[str] = []
    for path, text in files.items():
        if "timesyncd" in path:
            lines += [f"server {name} iburst" for name in _timesyncd_servers(text, daemon == TIMESYNCD)]
        elif "chrony" in path:
            lines += [
                re.sub(r" key \d+\b", "", line)  # the file of keys is not taken along
                for line in _directives(text)
                if line.split()[0] in {"server", "pool", "peer", "refclock"}
            ]
        else:
            lines += [
                f"{words[0]} {words[1]} iburst"
                for words in map(str.split, _directives(text))
                if words[0] in {"server", "pool"} and not words[1].startswith(NTP_OWN_CLOCKS)
            ]
    first: dict[str, str] = {}
    for line in lines:
        first.setdefault(source_name(line), line)
    return list(first.values())


def source_name(line: str) -> str:
    """What a line of chrony's configuration asks for the time: a server, or a clock by its driver and parameter."""
    words = line.split()
    return " ".join(words[1:3]) if words[0] == "refclock" else words[1]


def _directives(text: str) -> Iterator[str]:
    """Lines of at least two words, without comments, with single spaces."""
    for line in text.splitlines():
        words = re.split(r"[#!;%]", line, maxsplit=1)[0].split()
        if len(words) > 1:
            yield " ".join(words)


def _timesyncd_servers(text: str, active: bool) -> list[str]:
    found = re.findall(r"^(#?)\s*(NTP|FallbackNTP)=(.*)$", text, re.MULTILINE)
    named = [name for comment, key, value in found if key == "NTP" and not comment for name in value.split()]
    fallback = [name for _comment, key, value in found if key == "FallbackNTP" for name in value.split()]
    return named or (fallback if active else [])


def firewall(units: Iterable[str], ufw_conf: str) -> dict[str, Any]:
    """Which firewall is in force. ufw's unit is active even where ufw is off, so its own file decides."""
    active = active_among(units, FIREWALLS)
    if "ufw" in active and not re.search(r"^\s*ENABLED\s*=\s*yes", ufw_conf, re.MULTILINE | re.IGNORECASE):
        active.remove("ufw")
    return {"active": active[0] if active else "none", **{name: name in active for name in FIREWALLS.values()}}


def cgroup_version(controllers: bool, unified: bool, present: bool) -> str:
    """v2, hybrid or v1 from which paths exist below /sys/fs/cgroup."""
    if controllers:
        return "v2"
    if unified:
        return "hybrid"
    return "v1" if present else "none"


def member_node_name(marker: str) -> str:
    """The node name in our own membership marker; a marker without one is still a marker."""
    return _of_marker(marker, "node_name")


def member_version(marker: str) -> str:
    """The version of Kubernetes that our own membership marker says the host became a member with."""
    return _of_marker(marker, "kubernetes_version")


def kubelet_node_ip(text: str) -> str:
    """The --node-ip of kubeadm's file of kubelet's flags: one address, or one of each family with a comma."""
    found = re.search(r"--node-ip=([0-9A-Fa-f.:,]+)", text)
    return found.group(1) if found else ""


def _of_marker(marker: str, name: str) -> str:
    try:
        data = json.loads(marker or "{}")
    except ValueError:
        return ""
    return str(data.get(name) or "") if isinstance(data, dict) else ""


def whole(text: str) -> Optional[int]:
    """The whole number of a /proc or /sys file, or nothing."""
    try:
        return int(text.strip())
    except ValueError:
        return None


def positive(text: str) -> Optional[int]:
    """The number of a /sys file where only one above zero means something (speed is -1 without a link)."""
    number = whole(text)
    return number if number is not None and number > 0 else None
