# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How a host reaches the API server: the VIP's route, the virtual server and its health checks, all from the plan.

This module util is PRIVATE to the collection. It is pure: no I/O, no Ansible, standard library only.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

ROUTE_UNIT = "multinic-vip-route.service"
BALANCER_UNIT = "multinic-apiserver-balancer.service"
CONFIG_PATH = "/etc/multinic/apiserver-balancer.conf"
UNIT_FOLDER = "/etc/systemd/system"
KERNEL_MODULES = ("ip_vs", "ip_vs_rr")

# A connection whose server has left the table is answered with a reset at once, instead of being sent into the void
# until a timeout of its own; the second does the same for a server that was first given the weight 0.
SYSCTLS = {"net.ipv4.vs.expire_nodest_conn": "1", "net.ipv4.vs.expire_quiescent_template": "1"}

DETECTION_LIMIT = 3.0  # seconds in which a dead server has to be out of the table
RETRY_DELAY = 0.1
RETRIES = 1
# While etcd elects a new leader every API server is unready for some seconds. None must leave for that.
ANSWER_RETRY_DELAY = 1
ANSWER_RETRIES = 3


class BalancerError(ValueError):
    """The plan or the settings cannot be balanced; the message says what was found and what to do."""


@dataclass(frozen=True)
class Check:
    """How keepalived asks a server whether it may have requests.

    Two checks at each interval, both must pass: a connection, which a dead host is found by, within `timeout`; and an
    answer of the API server, which may take `answer_timeout`. A server that is merely slow stays in.
    """

    path: str = "/readyz"
    interval: float = 1.0
    timeout: float = 0.9
    answer_timeout: float = 5.0

    def slowest_detection(self) -> float:
        """The longest a dead host stays in: it died just after a check, and every try after that times out."""
        return self.interval + self.timeout + RETRIES * (RETRY_DELAY + self.timeout)

    def problems(self) -> list[str]:
        found = []
        if not self.path.startswith("/") or any(char.isspace() or char in '"{}' for char in self.path):
            found.append(f"check_path is {self.path!r}: give a path that begins with / and holds no spaces or braces")
        if min(self.interval, self.timeout, self.answer_timeout) < 0.1:
            found.append(
                f"check_interval is {self.interval:g}, check_timeout {self.timeout:g} and check_answer_timeout "
                f"{self.answer_timeout:g}: each must be at least 0.1 s"
            )
        elif self.slowest_detection() > DETECTION_LIMIT:
            found.append(
                f"check_interval is {self.interval:g} and check_timeout {self.timeout:g}: a dead server would stay up to "
                f"{self.slowest_detection():.1f} s, and {DETECTION_LIMIT:g} s is the most; lower one of them "
                f"(interval + 2 x timeout + {RETRY_DELAY:g})"
            )
        return found


@dataclass(frozen=True)
class Balanced:
    """One VIP as one host balances it. There is one for each family that has a VIP."""

    vip: str
    source: str  # the host's cluster address in the VIP's family
    real_servers: tuple[str, ...]
    last_resort: str  # gets the requests while no server passes its checks


def balanced(cluster: Mapping[str, Any], node: Mapping[str, Any]) -> list[Balanced]:
    """What the host balances, in the plan's order of families."""
    apiserver, first = cluster["apiserver"], cluster["hosts"][cluster["first_control_plane"]]
    servers = apiserver.get("virtual_servers") or [{key: apiserver[key] for key in ("vip", "real_servers")}]
    addresses = [str(address) for address in first.get("addresses") or [first["address"]]]
    found = []
    for server, route in zip(servers, node.get("vip_routes") or [node["vip_route"]]):
        family = ipaddress.ip_address(server["vip"]).version
        last_resort = [address for address in addresses if ipaddress.ip_address(address).version == family]
        real_servers = tuple(str(address) for address in server["real_servers"])
        found.append(Balanced(str(server["vip"]), str(route["source"]), real_servers, last_resort[0]))
    return found


def kept_addresses(node: Mapping[str, Any], ways: Sequence[Balanced]) -> dict[str, str]:
    """The sysctl that keeps the cluster card's IPv6 addresses over a link that goes down: the kernel drops them else,
    and whoever set them at boot does not come again. Slashes, for a VLAN's card has a dot in its name.
    """
    six = any(":" in way.vip for way in ways)
    return {f"net/ipv6/conf/{node['interface']}/keep_addr_on_down": "1"} if six else {}


def host_prefix(address: str) -> str:
    """An address as the network that holds it alone."""
    ip = ipaddress.ip_address(address)
    return f"{ip}/{ip.max_prefixlen}"


def route_words(vip: str, source: str) -> tuple[str, str]:
    """The `ip` arguments that put the VIP's route in place, and those that remove it."""
    version, source_version = ipaddress.ip_address(vip).version, ipaddress.ip_address(source).version
    if version != source_version:
        raise BalancerError(
            f"the VIP {vip} is IPv{version} but the cluster address {source} is IPv{source_version}; "
            "give both of one family (apiserver_vip, cluster_network)"
        )
    family = "-6 " if version == 6 else ""
    route = f"local {host_prefix(vip)} dev lo table local"
    return f"{family}route replace {route} src {source}", f"{family}route del {route}"


def route_unit(ways: Sequence[Balanced]) -> str:
    """Unit that sets the VIPs' routes before anything needs them; it tries again while an address is not there yet."""
    told = ", ".join(f"{way.vip} with the source {way.source}" for way in ways)
    words = [route_words(way.vip, way.source) for way in ways]
    lines = [f"ExecStart=/sbin/ip {replace}" for replace, _delete in words]
    lines += [f"ExecStop=-/sbin/ip {delete}" for _replace, delete in words]
    commands = "\n".join(lines)
    return f"""\
# Written by multinic.kubernetes
[Unit]
Description=Route to the Kubernetes API address {told}
After=network.target
Before={BALANCER_UNIT} kubelet.service
StartLimitIntervalSec=0

[Service]
Type=oneshot
RemainAfterExit=yes
{commands}
Restart=on-failure
RestartSec=1

[Install]
WantedBy=multi-user.target
"""


def balancer_unit(vips: Sequence[str], port: int) -> str:
    """Unit of our own keepalived: it shares no file with a keepalived that the host may run for other purposes."""
    told = ", ".join(at(vip, port) for vip in vips)
    cleanup = "\n".join(
        f"ExecStartPre=-/usr/sbin/ipvsadm --delete-service --tcp-service {at(vip, port)}" for vip in vips
    )
    return f"""\
# Written by multinic.kubernetes
[Unit]
Description=Kubernetes API balancer, {told} to the healthy control planes
Documentation=man:keepalived(8)
After=network.target systemd-modules-load.service {ROUTE_UNIT}
Wants={ROUTE_UNIT}
Before=kubelet.service
StartLimitIntervalSec=0

[Service]
Type=simple
RuntimeDirectory=multinic-apiserver-balancer
# A killed keepalived leaves its table behind, and its successor knows nothing of a server that died meanwhile.
{cleanup}
ExecStart=/usr/sbin/keepalived --dont-fork --check --use-file={CONFIG_PATH} \
--pid=/run/multinic-apiserver-balancer/main.pid --checkers_pid=/run/multinic-apiserver-balancer/checkers.pid
ExecReload=/bin/kill -HUP $MAINPID
Restart=always
RestartSec=500ms
Nice=-10
OOMScoreAdjust=-900

[Install]
WantedBy=multi-user.target
"""


def at(address: str, port: int) -> str:
    """Address and port as people write them."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def keepalived_config(ways: Sequence[Balanced], server_name: str, port: int, check: Check = Check()) -> str:
    """keepalived's configuration: a virtual server for each VIP, a checked real server for each control plane.

    `alpha` keeps a server out until its first check has passed, so that an unfinished control plane gets no request;
    `bindto` makes each check take the way the requests take. While no server passes, the last resort gets the requests:
    a slow answer, or one from a server whose etcd is electing, is better than none, and open watches stay open.
    """
    problems = check.problems()
    for real_servers in (way.real_servers for way in ways):
        if not real_servers:
            problems.append("there is no control plane to balance to: the inventory group kube_control_plane is empty")
        if len(set(real_servers)) != len(real_servers):
            problems.append(f"the control planes' addresses {', '.join(real_servers)} are not unique")
    if problems:
        raise BalancerError("; ".join(problems))
    told = ", ".join(at(way.vip, port) for way in ways)
    servers = "\n".join(_virtual_server(way, server_name, port, check) for way in ways)
    return f"""\
# Written by multinic.kubernetes. The API server at {told}, checked every {check.interval:g} s;
# a dead one is out after at most {check.slowest_detection():.1f} s.
global_defs {{
    router_id multinic-apiserver
}}

{servers}"""


def _virtual_server(way: Balanced, server_name: str, port: int, check: Check) -> str:
    blocks = "".join(_real_server(address, port, check, way.source) for address in way.real_servers)
    return f"""\
virtual_server {way.vip} {port} {{
    lvs_sched rr
    lvs_method NAT
    protocol TCP
    alpha
    warmup 0
    delay_loop {check.interval:g}
    retry {RETRIES}
    delay_before_retry {RETRY_DELAY:g}
    virtualhost {server_name}
    sorry_server {way.last_resort} {port}

{blocks}}}
"""


def _real_server(address: str, port: int, check: Check, source: str) -> str:
    return f"""\
    real_server {address} {port} {{
        weight 1
        TCP_CHECK {{
            connect_timeout {check.timeout:g}
            bindto {source}
        }}
        SSL_GET {{
            connect_timeout {check.answer_timeout:g}
            retry {ANSWER_RETRIES}
            delay_before_retry {ANSWER_RETRY_DELAY}
            bindto {source}
            enable_sni
            fast_recovery
            url {{
                path {check.path}
                status_code 200
            }}
        }}
    }}
"""


def balancer_state(cluster: Mapping[str, Any], node: Mapping[str, Any], check: Check = Check()) -> dict[str, Any]:
    """Everything the balancer needs on one host, as parameters of the host_state module."""
    name, port = str(cluster["apiserver"]["name"]), int(cluster["apiserver"]["port"])
    ways = balanced(cluster, node)
    vips = [way.vip for way in ways]
    return {
        "kernel_modules": list(KERNEL_MODULES),
        "sysctls": {**SYSCTLS, **kept_addresses(node, ways)},
        "directories": [{"path": CONFIG_PATH.rpartition("/")[0], "mode": "0755"}],
        "files": [
            {"path": f"{UNIT_FOLDER}/{ROUTE_UNIT}", "content": route_unit(ways), "restart": [ROUTE_UNIT]},
            {
                "path": CONFIG_PATH,
                "content": keepalived_config(ways, name, port, check),
                "validate": "/usr/sbin/keepalived --check --config-test --use-file=%s",
                "restart": [BALANCER_UNIT],
            },
            {
                "path": f"{UNIT_FOLDER}/{BALANCER_UNIT}",
                "content": balancer_unit(vips, port),
                "restart": [BALANCER_UNIT],
            },
        ],
        "units": [
            {"name": ROUTE_UNIT, "enabled": True, "state": "started"},
            {"name": BALANCER_UNIT, "enabled": True, "state": "started"},
        ],
    }
