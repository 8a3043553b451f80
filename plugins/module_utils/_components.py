# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads what a host's files and programs say about the components of a cluster that run on it.

This module util is PRIVATE to the collection. It is pure: no I/O, no Ansible, standard library only.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from ipaddress import IPv6Address, ip_address
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from ansible_collections.multinic.kubernetes.plugins.module_utils._facts import _proc_address

ESTABLISHED, LISTEN = "01", "0A"
MOST_ENDS = 100  # ends of connections told of one process; an API server has thousands
LOOPBACK_NAMES = frozenset(("localhost", "localhost.localdomain"))


# --- connections ------------------------------------------------------------------------------------------------------


class Tcp(NamedTuple):
    """One line of /proc/<pid>/net/tcp or tcp6."""

    local: str
    local_port: int
    remote: str
    remote_port: int
    state: str
    inode: str


def parse_tcp(text: str) -> list[Tcp]:
    """The connections and listening sockets of a network namespace."""
    found = []
    for line in text.splitlines()[1:]:
        words = line.split()
        if len(words) > 9 and words[3] in (ESTABLISHED, LISTEN):
            local, local_port = words[1].split(":")
            remote, remote_port = words[2].split(":")
            found.append(
                Tcp(_address(local), int(local_port, 16), _address(remote), int(remote_port, 16), words[3], words[9])
            )
    return found


def _address(text: str) -> str:
    """An address of /proc/net; an IPv4 one in an IPv6 socket as what it is."""
    address = ip_address(_proc_address(text))
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return str(mapped or address)


def ends_of(sockets: Iterable[Tcp], inodes: Collection[str]) -> dict[str, list[dict[str, Any]]]:
    """What a process listens on, whom it asks and by which of its own addresses it is asked; equal ones counted."""
    mine = [socket for socket in sockets if socket.inode in inodes]
    ports = {socket.local_port for socket in mine if socket.state == LISTEN}
    open_ = [socket for socket in mine if socket.state == ESTABLISHED]
    asked = Counter((s.local, s.remote, s.remote_port) for s in open_ if s.local_port not in ports)
    asking = Counter((s.local, s.local_port) for s in open_ if s.local_port in ports)
    return {
        "listens": [
            {"address": address, "port": port}
            for address, port in sorted({(s.local, s.local_port) for s in mine if s.state == LISTEN})
        ],
        "outgoing": [
            {"local": local, "remote": remote, "port": port, "count": number}
            for (local, remote, port), number in sorted(asked.items())[:MOST_ENDS]
        ],
        "incoming": [
            {"local": local, "port": port, "count": number}
            for (local, port), number in sorted(asking.items())[:MOST_ENDS]
        ],
    }


def asked_from(outgoing: Iterable[Mapping[str, Any]], server: str, resolved: Collection[str] = ()) -> list[str]:
    """From which of its own addresses a process asks this server, by the connections that are open now."""
    url = urlsplit(server)
    host, port = str(url.hostname or ""), port_of(server)
    addresses = {*resolved, *([host] if is_address(host) else [])}
    return sorted(
        {str(end["local"]) for end in outgoing if end["port"] == port and (not addresses or end["remote"] in addresses)}
    )


def port_of(server: str) -> int:
    """The port of an API server's address; without one the port of its scheme."""
    url = urlsplit(server)
    try:
        return url.port or (80 if url.scheme == "http" else 443)
    except ValueError:
        return 0


def is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def is_loopback(host: str) -> bool:
    return host in LOOPBACK_NAMES or (is_address(host) and ip_address(host).is_loopback)


def is_any(host: str) -> bool:
    return is_address(host) and ip_address(host).is_unspecified


def url_hosts(urls: str) -> list[str]:
    """The hosts of a list of URLs as etcd's flags hold it."""
    return [str(urlsplit(url.strip()).hostname or "") for url in urls.split(",") if url.strip()]


# --- configuration ----------------------------------------------------------------------------------------------------


def command_flags(arguments: Iterable[str]) -> dict[str, str]:
    """The flags of a running program: --name=value, or --name value."""
    found: dict[str, str] = {}
    waiting = ""
    for argument in arguments:
        if argument.startswith("-"):
            name, equals, value = argument.lstrip("-").partition("=")
            found[name] = value
            waiting = "" if equals else name
        else:
            if waiting:
                found[waiting] = argument
            waiting = ""
    return found


def proxy_settings(text: str) -> dict[str, Any]:
    """Mode and what IPVS leaves alone, of kube-proxy's configuration."""
    mode = re.search(r"^mode:[ \t]*[\"']?([\w-]*)", text, re.MULTILINE)
    block = re.search(r"^([ \t]*)excludeCIDRs:[ \t]*(.*)\n((?:\1[ \t]*- .*\n?)*)", text, re.MULTILINE)
    listed = re.findall(r"[\w.:]+/\d+", f"{block[2]}\n{block[3]}") if block else []
    return {"mode": (mode[1] if mode else "") or "iptables", "exclude_cidrs": listed}


def configmaps(text: str) -> dict[str, dict[str, str]]:
    """Name to data of the configmaps that kubectl listed."""
    try:
        items = json.loads(text).get("items") or ()
        return {str(item["metadata"]["name"]): dict(item.get("data") or {}) for item in items}
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}


def cluster_configuration(text: str) -> dict[str, str]:
    """What matters of kubeadm's ClusterConfiguration."""
    wanted = ("controlPlaneEndpoint", "kubernetesVersion", "podSubnet", "serviceSubnet")
    found = {name: re.search(rf"^\s*{name}:[ \t]*[\"']?([^\s\"']+)", text, re.MULTILINE) for name in wanted}
    return {name: match[1] for name, match in found.items() if match}


def kubeconfig_client(text: str) -> tuple[str, str]:
    """The client certificate of a kubeconfig: ("pem", its text), ("path", its file) or ("", "")."""
    data = re.search(r"^\s*client-certificate-data:\s*[\"']?([A-Za-z0-9+/=]+)", text, re.MULTILINE)
    if data:
        try:
            return "pem", base64.b64decode(data[1]).decode("ascii", "replace")
        except (binascii.Error, ValueError):
            return "", ""
    path = re.search(r"^\s*client-certificate:\s*[\"']?([^\s\"']+)", text, re.MULTILINE)
    return ("path", path[1]) if path else ("", "")


def unit_states(text: str) -> dict[str, dict[str, str]]:
    """What `systemctl show` says of several units."""
    states: dict[str, dict[str, str]] = {}
    for block in re.split(r"\n\s*\n", text.strip()):
        values = dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
        if values.get("Id") and values.get("LoadState") != "not-found":
            states[values["Id"]] = {
                "active": values.get("ActiveState", ""),
                "sub": values.get("SubState", ""),
                "enabled": values.get("UnitFileState", ""),
            }
    return states


def tunnels(text: str) -> list[dict[str, str]]:
    """Overlay cards with the card and the address that they send from, of `ip -j -d link`."""
    try:
        links = json.loads(text or "[]")
    except ValueError:
        return []
    found = []
    for link in links:
        info = (link.get("linkinfo") or {}) if isinstance(link, dict) else {}
        if info.get("info_kind") in ("vxlan", "ipip", "geneve"):
            data = info.get("info_data") or {}
            local = str(data.get("local") or data.get("local6") or "")
            found.append(
                {
                    "name": str(link.get("ifname") or ""),
                    "kind": str(info["info_kind"]),
                    "link": str(data.get("link") or link.get("link") or ""),
                    "local": local if is_address(local) and not is_any(local) else "",
                }
            )
    return found


def route_source(unit: str) -> str:
    """The source of the VIP's route as our unit was written."""
    found = re.search(r"^ExecStart=.* src (\S+)$", unit, re.MULTILINE)
    return found[1] if found else ""


def guard_status(text: str) -> dict[str, Any]:
    """What the guard says of itself and one VIP; empty where it says nothing."""
    try:
        status = json.loads(text or "{}")
    except ValueError:
        return {}
    return dict(status) if isinstance(status, dict) else {}


def normal(name: str) -> str:
    """A name of a certificate so that equal ones are equal: IPv6 addresses are written in many ways."""
    return str(ip_address(name)) if is_address(name) else name.lower()
