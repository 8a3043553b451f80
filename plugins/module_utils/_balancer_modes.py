# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The ways by which a host can reach the API server, beside IPVS, and the change from one to another.

``ipvs`` is in _balancer. ``localhost`` is a haproxy of our own on the loopback addresses; ``external`` a balancer that the
user brings, of which nothing is on the host. Name and port are the same in all three, so no kubeconfig changes.

This module util is PRIVATE to the collection. It is pure: no I/O, no Ansible, standard library only.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ansible_collections.multinic.kubernetes.plugins.module_utils._balancer import (
    BALANCER_UNIT,
    FILES,
    RETRIES,
    RETRY_DELAY,
    UNIT_FOLDER,
    UNITS,
    BalancerError,
    Check,
    at,
    balancer_state,
    drained_addresses,
)
from ansible_collections.multinic.kubernetes.plugins.module_utils._net import in_url

IPVS, LOCALHOST, EXTERNAL = "ipvs", "localhost", "external"
MODES = (IPVS, LOCALHOST, EXTERNAL)
STANDARD = Check()

PROXY_UNIT = "multinic-apiserver-proxy.service"
RELOAD_PATH_UNIT = "multinic-apiserver-proxy-reload.path"
RELOAD_UNIT = "multinic-apiserver-proxy-reload.service"
PROXY_CONFIG = "/etc/multinic/apiserver-proxy.conf"
RUN_FOLDER = "/run/multinic-apiserver-proxy"
STATUS_SOCKET = f"{RUN_FOLDER}/status.sock"
CA = "/etc/kubernetes/pki/ca.crt"
CA_REMEDY = f"It is the same on every host of the cluster: copy {CA} from another one."
LOOPBACK = {4: "127.0.0.1", 6: "::1"}

PROXY_UNITS = (PROXY_UNIT, RELOAD_PATH_UNIT)  # in the order in which they start
PROXY_FILES = (PROXY_CONFIG, *(f"{UNIT_FOLDER}/{unit}" for unit in (PROXY_UNIT, RELOAD_UNIT, RELOAD_PATH_UNIT)))

# The unit whose file tells that a way is set up on a host.
UNIT_OF = {IPVS: BALANCER_UNIT, LOCALHOST: PROXY_UNIT}
# What of a way is on a host: units in the order in which they start, and files.
UNITS_OF = {IPVS: UNITS, LOCALHOST: PROXY_UNITS}
FILES_OF = {IPVS: FILES, LOCALHOST: PROXY_FILES}
# How host_state calls what belongs to a way; it becomes part of file names.
STATE_NAME = {IPVS: "apiserver-balancer", LOCALHOST: "apiserver-proxy"}

MOST_CONNECTIONS = 4096
# A watch may be silent for hours. Who ends it is the client or the API server, or the death of the latter.
IDLE_LIMIT = "24h"
# After a reload the connections that are open stay with a process that checks nothing any more. There the kernel finds a
# dead host, and in the end they are closed.
DEAD_PEER = "5s"
OLD_WORKER = "1h"
# Go's resolver, which all of Kubernetes uses, believes what it read of /etc/hosts for 5 s.
NAME_REMEMBERED = 6.0

# What the API server shares its port by with the proxy on the loopback address; kube-apiserver has it since 1.20.
SHARING_FLAG = "permit-port-sharing"
SHARING_SINCE = (1, 20)


def name_addresses(mode: str, vips: Iterable[str], external: str, families: Iterable[int]) -> list[str]:
    """The addresses that the API's name has on every host; none where the name is the DNS's to tell.

    families are the cluster network's, the primary one first. Every host has the IPv4 loopback address too, and some
    programs ask for no other.
    """
    if mode == LOCALHOST:
        return [LOOPBACK[family] for family in dict.fromkeys([*families, 4])]
    if mode == EXTERNAL:
        return [external] if external else []
    return list(vips)


# ---------------------------------------------------------------------------------------------------------------------
# localhost: a haproxy of our own
# ---------------------------------------------------------------------------------------------------------------------


def _version(address: str) -> int:
    return ipaddress.ip_address(address).version


def proxy_config(
    apiserver: Mapping[str, Any], sources: Sequence[str], check: Check = STANDARD, drained: Iterable[str] = ()
) -> str:
    """haproxy's configuration: one listener on each loopback address, a checked server for each control plane.

    sources are the host's cluster addresses; checks and requests leave by the one of the server's family. drained are
    addresses of servers, also of such as are here only until they are removed: their weight is 0, so that established
    connections go on and no new one comes.

    A server that answers with another status than 200 gets no new connections and keeps those it has (`error-status
    L7OKC` with `disable-on-404` makes haproxy take it as one that is leaving); one that does not answer at all is down.
    The connections of a dead host end by the kernel (`tcp-ut`); a busy server's, which may be late with a handshake, go on.
    While none is ready, all that can be reached get the requests: a slow answer, or one from a
    server whose etcd is electing, is better than none. A connection that is refused is tried with the next server.
    """
    port, name = int(apiserver["port"]), str(apiserver["name"])
    servers = [str(address) for address in apiserver["real_servers"]]
    problems = check.problems()
    if not servers:
        problems.append("there is no control plane to balance to: the inventory group kube_control_plane is empty")
    if len(set(servers)) != len(servers):
        problems.append(f"the control planes' addresses {', '.join(servers)} are not unique")
    balanced = {_version(address) for address in servers}
    out = [address for address in drained if _version(address) in balanced]
    servers = list(dict.fromkeys([*servers, *out]))
    own = {_version(source): source for source in reversed(sources)}
    lost = [address for address in servers if _version(address) not in own]
    if lost:
        problems.append(
            f"no cluster address of this host ({', '.join(sources)}) is of the family of {', '.join(lost)}; "
            "give both of one family (cluster_network)"
        )
    if problems:
        raise BalancerError("; ".join(problems))
    timing = (
        f"check inter {_ms(check.interval)} fastinter {_ms(RETRY_DELAY)} downinter {_ms(check.interval)} rise 1 "
        f"fall {RETRIES + 1} tcp-ut {DEAD_PEER}"
    )
    binds = "".join(f"    bind {at(str(address), port)}\n" for address in apiserver["addresses"])
    lines = [
        f"    server {address} {at(address, port)} source {in_url(own[_version(address)])}{' weight 0' if address in out else ''}"
        for address in servers
    ]
    # The trust is the line's end, so that it can be cut off while the host has no CA yet.
    ready = "".join(f"{line} verify required ca-file {CA} verifyhost {name}\n" for line in lines)
    # A bare connection that does not come about tells of a dead host. A TLS handshake that does not may tell of a busy one.
    reachable = "    default-server on-marked-down shutdown-sessions\n" + "".join(f"{line}\n" for line in lines)
    return f"""\
# Written by multinic.kubernetes. The API server at {name}:{port}, checked every {check.interval:g} s;
# a dead one is out after at most {check.slowest_detection():.1f} s.
global
    user haproxy
    group haproxy
    maxconn {MOST_CONNECTIONS}
    hard-stop-after {OLD_WORKER}
    stats socket {STATUS_SOCKET} mode 600 level admin expose-fd listeners

defaults
    mode tcp
    maxconn {MOST_CONNECTIONS}
    timeout connect {_ms(check.timeout)}
    timeout check {_ms(check.answer_timeout)}
    timeout client {IDLE_LIMIT}
    timeout server {IDLE_LIMIT}
    timeout tunnel {IDLE_LIMIT}
    option clitcpka
    option srvtcpka
    srvtcpka-idle 2s
    srvtcpka-intvl 1s
    srvtcpka-cnt 3
    option redispatch 1
    retries 3
    balance roundrobin
    default-server {timing}

frontend apiserver
{binds}    use_backend reachable if {{ nbsrv(ready) eq 0 }}
    default_backend ready

backend ready
    option httpchk
    http-check connect ssl sni {name} alpn http/1.1
    http-check send meth GET uri {check.path} ver HTTP/1.1 hdr Host {name} hdr Connection close
    http-check expect status 200 error-status L7OKC
    http-check disable-on-404
{ready}
backend reachable
{reachable}"""


def _ms(seconds: float) -> str:
    return f"{round(seconds * 1000)}ms"


def _without_trust(path: str) -> str:
    return f"sed 's|verify required.*|verify none|' {path}"


def proxy_unit(addresses: Sequence[str], port: int) -> str:
    """Unit of our own haproxy: it shares no file with a haproxy that the host may run for other purposes.

    It begins as root, for it shares the port of the API server on a control plane, which the kernel allows only to
    sockets of one user. A host that has not joined yet has no CA: its checks believe everybody, until it has one.
    """
    # After a power loss it may be there and hold nothing; haproxy would not start with it.
    prepare = f"/bin/sh -c \"if grep -qs 'END CERTIFICATE' {CA}; then cat {PROXY_CONFIG}; else {_without_trust(PROXY_CONFIG)}; fi"
    prepare += f' > {RUN_FOLDER}/haproxy.conf"'
    return f"""\
# Written by multinic.kubernetes
[Unit]
Description=Kubernetes API proxy, {", ".join(at(address, port) for address in addresses)} to the healthy control planes
Documentation=man:haproxy(1)
After=network.target
Before=kubelet.service
StartLimitIntervalSec=0

[Service]
Type=notify
RuntimeDirectory=multinic-apiserver-proxy
ExecStartPre={prepare}
ExecStart=/usr/sbin/haproxy -Ws -f {RUN_FOLDER}/haproxy.conf -p {RUN_FOLDER}/main.pid
ExecReload={prepare}
ExecReload=/usr/sbin/haproxy -f {RUN_FOLDER}/haproxy.conf -c -q
ExecReload=/bin/kill -USR2 $MAINPID
KillMode=mixed
SuccessExitStatus=143
Restart=always
RestartSec=500ms
LimitNOFILE=16384
Nice=-10
OOMScoreAdjust=-900
NoNewPrivileges=yes
ProtectHome=yes
ProtectSystem=full
PrivateTmp=yes

[Install]
WantedBy=multi-user.target
"""


def reload_path_unit() -> str:
    """Another CA, which kubeadm brings: the proxy takes it up without losing a connection."""
    return f"""\
# Written by multinic.kubernetes
[Unit]
Description=Changes of the CA by which the Kubernetes API proxy checks

[Path]
PathChanged={CA}
Unit={RELOAD_UNIT}

[Install]
WantedBy=multi-user.target
"""


def reload_unit() -> str:
    return f"""\
# Written by multinic.kubernetes
[Unit]
Description=The Kubernetes API proxy reads its configuration and CA again

[Service]
Type=oneshot
ExecStart=/bin/systemctl try-reload-or-restart {PROXY_UNIT}
"""


def localhost_state(
    cluster: Mapping[str, Any], node: Mapping[str, Any], check: Check = STANDARD, drained: Iterable[str] = ()
) -> dict[str, Any]:
    """Everything the proxy needs on one host, as parameters of the host_state module.

    Another set of servers is a reload, which costs no connection.
    """
    apiserver = cluster["apiserver"]
    out = drained_addresses(cluster, drained) if drained else ()
    sources = [str(address) for address in node["addresses"]]
    return {
        "kernel_modules": [],
        "sysctls": {},
        "directories": [{"path": PROXY_CONFIG.rpartition("/")[0], "mode": "0755"}],
        "files": [
            {
                "path": PROXY_CONFIG,
                "content": proxy_config(apiserver, sources, check, out),
                "validate": f'/bin/sh -c "{_without_trust("%s")} | /usr/sbin/haproxy -c -f /dev/stdin"',
                "reload": [PROXY_UNIT],
            },
            {
                "path": f"{UNIT_FOLDER}/{PROXY_UNIT}",
                "content": proxy_unit([str(address) for address in apiserver["addresses"]], int(apiserver["port"])),
                "restart": [PROXY_UNIT],
            },
            {"path": f"{UNIT_FOLDER}/{RELOAD_UNIT}", "content": reload_unit()},
            {
                "path": f"{UNIT_FOLDER}/{RELOAD_PATH_UNIT}",
                "content": reload_path_unit(),
                "restart": [RELOAD_PATH_UNIT],
            },
        ],
        "units": [{"name": unit, "enabled": True, "state": "started"} for unit in PROXY_UNITS],
    }


# ---------------------------------------------------------------------------------------------------------------------
# what a way needs on a host, and how it leaves
# ---------------------------------------------------------------------------------------------------------------------


def mode_state(
    cluster: Mapping[str, Any],
    node: Mapping[str, Any],
    programs: Mapping[str, str],
    check: Check = STANDARD,
    drained: Iterable[str] = (),
) -> dict[str, Any]:
    """What the planned way needs on the host: parameters of host_state, and the name for it. programs are the guard's.

    Of an external balancer nothing is on the host: the name is empty then, and so is all else. BalancerError where the
    drained control planes are for others to drain.
    """
    mode = str(cluster["apiserver"]["balancer"])
    if mode == EXTERNAL:
        if drained:
            raise BalancerError(
                f"{', '.join(drained)} cannot be drained from here, for the balancer is external; "
                "drain it there, and leave apiserver_drained empty"
            )
        return {"name": "", "kernel_modules": [], "sysctls": {}, "directories": [], "files": [], "units": []}
    if mode == LOCALHOST:
        state = localhost_state(cluster, node, check, drained)
    else:
        state = balancer_state(cluster, node, programs, check, drained)
    return {"name": STATE_NAME[mode], **state}


def way_removal(mode: str) -> dict[str, Any]:
    """How a way leaves a host, in two steps of host_state: first its ``units`` end, the last started first; then ``files`` go.

    A unit whose file is gone already would not run what it does at its end. No plan is needed. Folders stay, for the
    next way has its files in the same. BalancerError for a mode of which nothing is on the host.
    """
    if mode not in UNITS_OF:
        raise BalancerError(f"{mode!r} is none of {', '.join(UNITS_OF)}, the ways that have something on a host")
    return {
        "name": STATE_NAME[mode],
        "units": [{"name": unit, "enabled": False, "state": "stopped"} for unit in reversed(UNITS_OF[mode])],
        "files": [{"path": path, "state": "absent"} for path in FILES_OF[mode]],
        "kernel_modules": [],
        "sysctls": {},
    }


def hosts_block(cluster: Mapping[str, Any], host: str, changed: bool = False) -> str:
    """The lines of /etc/hosts for one host.

    While the host still has another way to the API, the API's name keeps the addresses of that one, until the change is
    asked for.
    """
    old = {} if changed else cluster["apiserver"].get("changing") or {}
    name = str(cluster["apiserver"]["name"])
    lines = [line for line in cluster["hosts_file"] if not (old.get(host) and list(line["names"]) == [name])]
    lines += [{"address": address, "names": [name]} for address in old.get(host) or ()]
    return "".join(f"{line['address']} {' '.join(line['names'])}\n" for line in lines)


def sharing_arguments(kubernetes: tuple[int, ...]) -> dict[str, str]:
    """The API server's arguments for a proxy beside it; set in every mode, so that a change restarts no API server."""
    return {SHARING_FLAG: "true"} if tuple(kubernetes[:2]) >= SHARING_SINCE else {}


def taken_port(apiserver: Mapping[str, Any]) -> list[str]:
    """kubeadm's checks that the proxy beside the API server would fail: it has the port on the loopback addresses."""
    return [f"Port-{apiserver['port']}"] if apiserver.get("balancer") == LOCALHOST else []


def found_addresses(hosts_file: Iterable[Mapping[str, Any]], name: str) -> list[str]:
    """The addresses that a hosts file gives a name, each once, in its order."""
    return list(dict.fromkeys(str(line["address"]) for line in hosts_file if name in (line.get("names") or ())))


def shares_port(manifest: str) -> bool:
    """Whether the API server of this static pod's manifest lets the proxy listen beside it."""
    return bool(re.search(rf"^\s*- [\"']?--{SHARING_FLAG}(=(true|True|TRUE|t|T|1))?[\"']?\s*$", manifest, re.MULTILINE))


def proxy_as_virtual_server(address: str, port: int, told: str) -> dict[str, Any]:
    """The proxy as _verify.parse_ip_vs tells a virtual server: without those whose checks fail, and 0 is a drained one."""
    return {
        "protocol": "TCP",
        "address": address,
        "port": port,
        "scheduler": "roundrobin",
        "real_servers": [
            {"address": server, "port": port, "method": "proxy", "weight": weight}
            for server, weight in proxy_servers(told).items()
        ],
    }


def proxy_servers(told: str) -> dict[str, int]:
    """What haproxy says of its servers (`show stat`, comma-separated): the weight of each that is healthy, by address.

    One that is healthy so far, with a failed check behind it, is UP with a fraction.
    """
    lines = told.splitlines()
    if not lines or not lines[0].startswith("# "):
        return {}
    head = lines[0][2:].split(",")
    rows = [dict(zip(head, line.split(","))) for line in lines[1:] if line]
    return {
        row["svname"]: int(row.get("weight") or 0)
        for row in rows
        if row.get("pxname") == "ready"
        and row.get("svname") not in ("FRONTEND", "BACKEND")
        and (row.get("status") or "").partition(" ")[0] == "UP"
    }
