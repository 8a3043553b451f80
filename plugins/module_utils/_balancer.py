# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How a host reaches the API server: the VIP's route, the virtual server and its health checks, all from the plan.

This module util is PRIVATE to the collection. It is pure: no I/O, no Ansible, standard library only.
"""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ansible_collections.multinic.kubernetes.plugins.module_utils._apiserver_guard import UP
from ansible_collections.multinic.kubernetes.plugins.module_utils._net import in_url

ROUTE_UNIT = "multinic-vip-route.service"
BALANCER_UNIT = "multinic-apiserver-balancer.service"
GUARD_UNIT = "multinic-apiserver-guard.service"
CONFIG_PATH = "/etc/multinic/apiserver-balancer.conf"
GUARD_PROGRAM = "/usr/local/lib/multinic/apiserver_guard.py"
CERTIFICATES_PROGRAM = "/usr/local/lib/multinic/apiserver_certificates.py"
GUARD_CONFIG = "/etc/multinic/apiserver-guard.json"
GUARD_FOLDER = "/run/multinic-apiserver-guard"
BALANCER_FOLDER = "/run/multinic-apiserver-balancer"
CLUSTER_CA = "/etc/kubernetes/pki/ca.crt"
UNIT_FOLDER = "/etc/systemd/system"
UNITS = (ROUTE_UNIT, BALANCER_UNIT, GUARD_UNIT)  # in the order in which they start
FILES = (*(f"{UNIT_FOLDER}/{unit}" for unit in UNITS), CONFIG_PATH, GUARD_CONFIG, GUARD_PROGRAM, CERTIFICATES_PROGRAM)
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

    Three checks at each interval, all must pass. A connection within `timeout`, by which a dead host is found. An answer,
    whichever, within twice `answer_timeout`: one that was killed listens again at once, but answers nobody for seconds,
    and then refuses everybody until it knows the roles. And the answer that it is ready, within `answer_timeout`, which may
    fail for some seconds: a server that is merely slow stays in.
    """

    path: str = "/readyz"
    interval: float = 1.0
    timeout: float = 0.9
    answer_timeout: float = 5.0

    def slowest_detection(self) -> float:
        """The longest a dead host stays in: it died just after a check, and every try after that times out."""
        return self.interval + self.timeout + RETRIES * (RETRY_DELAY + self.timeout)

    def slowest_leave(self) -> float:
        """Seconds that an API server which says that it is not ready stays in at most, where its answers come promptly."""
        return self.interval + ANSWER_RETRIES * ANSWER_RETRY_DELAY

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
    drained: tuple[str, ...] = ()  # real servers, also such as are on their way out, that take no new connections


def balanced(cluster: Mapping[str, Any], node: Mapping[str, Any], drained: Sequence[str] = ()) -> list[Balanced]:
    """What the host balances, in the plan's order of families. Drained are addresses."""
    first = _addresses(cluster["hosts"][cluster["first_control_plane"]])
    found = []
    for server, route in zip(_virtual_servers(cluster), node.get("vip_routes") or [node["vip_route"]]):
        vip, real_servers = str(server["vip"]), tuple(str(address) for address in server["real_servers"])
        candidates = [address for address in (*first, *real_servers) if _alike(address, vip)]
        last_resort = next((address for address in candidates if address not in drained), "")
        out = tuple(address for address in drained if _alike(address, vip))
        found.append(Balanced(vip, str(route["source"]), real_servers, last_resort, out))
    return found


def _virtual_servers(cluster: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    apiserver = cluster["apiserver"]
    return list(apiserver.get("virtual_servers") or [{key: apiserver[key] for key in ("vip", "real_servers")}])


def _addresses(host: Mapping[str, Any]) -> list[str]:
    return [str(address) for address in host.get("addresses") or [host["address"]]]


def _alike(one: str, other: str) -> bool:
    return (":" in one) == (":" in other)


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
RuntimeDirectory={BALANCER_FOLDER[len("/run/") :]}
# A killed keepalived leaves its table behind, and its successor knows nothing of a server that died meanwhile.
{cleanup}
ExecStart=/usr/sbin/keepalived --dont-fork --check --use-file={CONFIG_PATH} \
--pid={BALANCER_FOLDER}/main.pid --checkers_pid={BALANCER_FOLDER}/checkers.pid
# The file of a server that is no longer balanced would tell the guard that it is healthy, were it balanced again.
ExecReload=-/bin/sh -c 'cd {BALANCER_FOLDER} && for file in {UP}*; do \
grep -qF "real_server $${{file#{UP}}} " {CONFIG_PATH} || rm -f "$$file"; done'
ExecReload=/bin/kill -HUP $MAINPID
Restart=always
RestartSec=100ms
# Its checking process takes the table down when it is asked to end. Where the main one was killed it is killed too.
KillMode=mixed
Nice=-10
OOMScoreAdjust=-900

[Install]
WantedBy=multi-user.target
"""


def guard_unit(vips: Sequence[str], port: int) -> str:
    """Unit of the program that puts back what others change.

    It runs by the distribution's own Python, of which it needs the standard library only. It stops before the units that it
    looks after, so it never takes their stop for an accident. /proc/sys has to stay writable, for the sysctls.
    """
    told = ", ".join(at(vip, port) for vip in vips)
    return f"""\
# Written by multinic.kubernetes
[Unit]
Description=Guard of the Kubernetes API address {told}: route, virtual server, sysctls
After=network.target {ROUTE_UNIT} {BALANCER_UNIT}
StartLimitIntervalSec=0

[Service]
Type=simple
RuntimeDirectory={GUARD_FOLDER[len("/run/") :]}
ExecStart=/usr/bin/python3 -I -S -E {GUARD_PROGRAM} {GUARD_CONFIG}
Restart=always
RestartSec=1
OOMScoreAdjust=-900
MemoryMax=20M
TasksMax=8
UMask=0022
CapabilityBoundingSet=CAP_NET_ADMIN
LockPersonality=yes
MemoryDenyWriteExecute=yes
NoNewPrivileges=yes
PrivateDevices=yes
PrivateTmp=yes
ProtectClock=yes
ProtectControlGroups=yes
ProtectHome=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectSystem=strict
RestrictAddressFamilies=AF_NETLINK AF_UNIX AF_INET AF_INET6
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service

[Install]
WantedBy=multi-user.target
"""


def guard_config(ways: Sequence[Balanced], server_name: str, port: int, interface: str) -> str:
    """What the guard has to know; no server but the last resort, so that it need not change with the control planes."""
    wanted = {
        "port": port,
        "interface": interface,
        "name": server_name,
        "balancer_unit": BALANCER_UNIT,
        "route_unit": ROUTE_UNIT,
        "folder": BALANCER_FOLDER,
        "ca": CLUSTER_CA,
        "certificates": CERTIFICATES_PROGRAM,
        "config": CONFIG_PATH,
        # What the host has once is looked after once.
        "ways": [
            {
                "vip": way.vip,
                "source": way.source,
                "last_resort": way.last_resort,
                "status": f"{GUARD_FOLDER}/{way.vip}.json",
                "first": not number,
                "sysctls": {} if number else SYSCTLS,
            }
            for number, way in enumerate(ways)
        ],
    }
    return json.dumps(wanted, indent=2) + "\n"


def at(address: str, port: int) -> str:
    """Address and port as people write them."""
    return f"{in_url(address)}:{port}"


def drained_addresses(cluster: Mapping[str, Any], drained: Iterable[str]) -> list[str]:
    """Cluster addresses of the control planes that shall take no new connections.

    Each is given by its name in the inventory, or by its address where it is no longer in the plan: a node that is being
    removed. BalancerError for any other name, and where none is left to take connections.
    """
    addresses: list[str] = []
    unknown = []
    for name in dict.fromkeys(str(name).strip() for name in drained):
        if name in cluster["control_plane"]:
            addresses += _addresses(cluster["hosts"][name])
        elif _is_address(name):
            addresses.append(str(ipaddress.ip_address(name)))
        else:
            unknown.append(name)
    if unknown:
        raise BalancerError(
            f"{', '.join(unknown)} cannot be drained: no control plane has this name; "
            f"there are {', '.join(cluster['control_plane'])} (apiserver_drained)"
        )
    if any(set(map(str, server["real_servers"])) <= set(addresses) for server in _virtual_servers(cluster)):
        raise BalancerError(
            "every control plane is to be drained, and none would be left to take connections; "
            "leave at least one out of apiserver_drained"
        )
    return addresses


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def keepalived_config(ways: Sequence[Balanced], server_name: str, port: int, check: Check = Check()) -> str:
    """keepalived's configuration: a virtual server for each VIP, a checked real server for each control plane.

    drained are addresses of real servers, also of such as are in the table only until they are removed: their weight is
    0, so that established connections go on and no new one comes.

    `alpha` keeps a server out until its first check has passed, so that an unfinished control plane gets no request;
    `inhibit_on_failure` gives one that fails the weight 0 instead of taking it out, for that would reset the requests that
    are under way to an API server which only says that it will stop: the guard takes out those that answer nothing;
    `bindto` makes each check take the way the requests take. While no server passes, the last resort gets the requests:
    a slow answer, or one from a server whose etcd is electing, is better than none, and open watches stay open. Of each
    server that is healthy there is a file, by which the guard knows what belongs into the table.
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
    script_user root
    enable_script_security
}}

{servers}"""


def _virtual_server(way: Balanced, server_name: str, port: int, check: Check) -> str:
    servers = list(dict.fromkeys([*way.real_servers, *way.drained]))
    # The only server has nobody to leave its requests to.
    rests = len(servers) > 1
    inhibit = "\n    sorry_server_inhibit" if rests else ""
    blocks = "".join(
        _real_server(address, port, check, way.source, weight=0 if address in way.drained else 1, rests=rests)
        for address in servers
    )
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
    sorry_server {way.last_resort} {port}{inhibit}

{blocks}}}
"""


def _real_server(address: str, port: int, check: Check, source: str, weight: int, rests: bool) -> str:
    inhibit = "\n        inhibit_on_failure" if rests else ""
    return f"""\
    real_server {address} {port} {{
        weight {weight}{inhibit}
        notify_up "/usr/bin/touch {BALANCER_FOLDER}/{UP}{address}"
        notify_down "/usr/bin/rm -f {BALANCER_FOLDER}/{UP}{address}"
        TCP_CHECK {{
            connect_timeout {check.timeout:g}
            bindto {source}
        }}
        SSL_GET {{
            connect_timeout {2 * check.answer_timeout:g}
            bindto {source}
            enable_sni
            fast_recovery
            url {{
                path {check.path}
                status_code 200 500
            }}
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


def balancer_state(
    cluster: Mapping[str, Any],
    node: Mapping[str, Any],
    programs: Mapping[str, str],
    check: Check = Check(),
    drained: Iterable[str] = (),
) -> dict[str, Any]:
    """Everything the balancer needs on one host, as parameters of the host_state module; with the guard's programs.

    Another set of real servers is a reload: keepalived compares it with what it had and changes only that. A restart
    would take the whole virtual server away for a moment.
    """
    name, port = str(cluster["apiserver"]["name"]), int(cluster["apiserver"]["port"])
    ways = balanced(cluster, node, drained_addresses(cluster, drained) if drained else ())
    vips = [way.vip for way in ways]
    guarded = {
        **programs,
        GUARD_CONFIG: guard_config(ways, name, port, str(node["interface"])),
        f"{UNIT_FOLDER}/{GUARD_UNIT}": guard_unit(vips, port),
    }
    return {
        "kernel_modules": list(KERNEL_MODULES),
        "sysctls": {**SYSCTLS, **kept_addresses(node, ways)},
        "directories": [{"path": path.rpartition("/")[0], "mode": "0755"} for path in (CONFIG_PATH, GUARD_PROGRAM)],
        "files": [
            {"path": f"{UNIT_FOLDER}/{ROUTE_UNIT}", "content": route_unit(ways), "restart": [ROUTE_UNIT]},
            {
                "path": CONFIG_PATH,
                "content": keepalived_config(ways, name, port, check),
                "validate": "/usr/sbin/keepalived --check --config-test --use-file=%s",
                "reload": [BALANCER_UNIT],
            },
            {
                "path": f"{UNIT_FOLDER}/{BALANCER_UNIT}",
                "content": balancer_unit(vips, port),
                "restart": [BALANCER_UNIT],
            },
            *({"path": path, "content": content, "restart": [GUARD_UNIT]} for path, content in guarded.items()),
        ],
        "units": [{"name": unit, "enabled": True, "state": "started"} for unit in UNITS],
    }
