# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How a host reaches the API server: the VIP's route, the virtual server and its health checks, all from the plan.

This module util is PRIVATE to the collection. It is pure: no I/O, no Ansible, standard library only.
"""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ansible_collections.multinic.kubernetes.plugins.module_utils._apiserver_guard import UP

ROUTE_UNIT = "multinic-vip-route.service"
BALANCER_UNIT = "multinic-apiserver-balancer.service"
GUARD_UNIT = "multinic-apiserver-guard.service"
CONFIG_PATH = "/etc/multinic/apiserver-balancer.conf"
GUARD_PROGRAM = "/usr/local/lib/multinic/apiserver_guard.py"
CERTIFICATES_PROGRAM = "/usr/local/lib/multinic/apiserver_certificates.py"
GUARD_CONFIG = "/etc/multinic/apiserver-guard.json"
GUARD_STATUS = "/run/multinic-apiserver-guard/status.json"
BALANCER_FOLDER = "/run/multinic-apiserver-balancer"
CLUSTER_CA = "/etc/kubernetes/pki/ca.crt"
UNIT_FOLDER = "/etc/systemd/system"
UNITS = (ROUTE_UNIT, BALANCER_UNIT, GUARD_UNIT)  # in the order in which they start
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


def route_unit(vip: str, source: str) -> str:
    """Unit that sets the VIP's route before anything needs it; it tries again while the address is not there yet."""
    replace, delete = route_words(vip, source)
    return f"""\
# Written by multinic.kubernetes
[Unit]
Description=Route to the Kubernetes API address {vip} with the source {source}
After=network.target
Before={BALANCER_UNIT} kubelet.service
StartLimitIntervalSec=0

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/sbin/ip {replace}
ExecStop=-/sbin/ip {delete}
Restart=on-failure
RestartSec=1

[Install]
WantedBy=multi-user.target
"""


def balancer_unit(vip: str, port: int) -> str:
    """Unit of our own keepalived: it shares no file with a keepalived that the host may run for other purposes."""
    return f"""\
# Written by multinic.kubernetes
[Unit]
Description=Kubernetes API balancer, {at(vip, port)} to the healthy control planes
Documentation=man:keepalived(8)
After=network.target systemd-modules-load.service {ROUTE_UNIT}
Wants={ROUTE_UNIT}
Before=kubelet.service
StartLimitIntervalSec=0

[Service]
Type=simple
RuntimeDirectory={BALANCER_FOLDER[len("/run/") :]}
# A killed keepalived leaves its table behind, and its successor knows nothing of a server that died meanwhile.
ExecStartPre=-/usr/sbin/ipvsadm --delete-service --tcp-service {at(vip, port)}
ExecStart=/usr/sbin/keepalived --dont-fork --check --use-file={CONFIG_PATH} \
--pid={BALANCER_FOLDER}/main.pid --checkers_pid={BALANCER_FOLDER}/checkers.pid
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


def guard_unit(vip: str, port: int) -> str:
    """Unit of the program that puts back what others change.

    It runs by the distribution's own Python, of which it needs the standard library only. It stops before the units that it
    looks after, so it never takes their stop for an accident. /proc/sys has to stay writable, for the sysctls.
    """
    return f"""\
# Written by multinic.kubernetes
[Unit]
Description=Guard of the Kubernetes API address {at(vip, port)}: route, virtual server, sysctls
After=network.target {ROUTE_UNIT} {BALANCER_UNIT}
StartLimitIntervalSec=0

[Service]
Type=simple
RuntimeDirectory={GUARD_STATUS[len("/run/") :].rpartition("/")[0]}
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


def guard_config(apiserver: Mapping[str, Any], node: Mapping[str, Any], last_resort: str) -> str:
    """What the guard has to know; no server but the last resort, so that it need not change with the control planes."""
    wanted = {
        "vip": str(apiserver["vip"]),
        "port": int(apiserver["port"]),
        "source": str(node["vip_route"]["source"]),
        "interface": str(node["interface"]),
        "name": str(apiserver["name"]),
        "last_resort": last_resort,
        "sysctls": SYSCTLS,
        "balancer_unit": BALANCER_UNIT,
        "route_unit": ROUTE_UNIT,
        "folder": BALANCER_FOLDER,
        "status": GUARD_STATUS,
        "ca": CLUSTER_CA,
        "certificates": CERTIFICATES_PROGRAM,
    }
    return json.dumps(wanted, indent=2) + "\n"


def at(address: str, port: int) -> str:
    """Address and port as people write them."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def keepalived_config(apiserver: Mapping[str, Any], source: str, last_resort: str, check: Check = Check()) -> str:
    """keepalived's configuration: one virtual server, a checked real server for each control plane.

    `alpha` keeps a server out until its first check has passed, so that an unfinished control plane gets no request;
    `bindto` makes each check take the way the requests take. While no server passes, the last resort gets the requests:
    a slow answer, or one from a server whose etcd is electing, is better than none, and open watches stay open. Of each
    server that is healthy there is a file, by which the guard knows what belongs into the table.
    """
    vip, port, real_servers = apiserver["vip"], int(apiserver["port"]), [str(ip) for ip in apiserver["real_servers"]]
    problems = check.problems()
    if not real_servers:
        problems.append("there is no control plane to balance to: the inventory group kube_control_plane is empty")
    if len(set(real_servers)) != len(real_servers):
        problems.append(f"the control planes' addresses {', '.join(real_servers)} are not unique")
    if problems:
        raise BalancerError("; ".join(problems))
    blocks = "".join(_real_server(address, port, check, source) for address in real_servers)
    return f"""\
# Written by multinic.kubernetes. The API server at {at(vip, port)}, checked every {check.interval:g} s;
# a dead one is out after at most {check.slowest_detection():.1f} s.
global_defs {{
    router_id multinic-apiserver
    script_user root
    enable_script_security
}}

virtual_server {vip} {port} {{
    lvs_sched rr
    lvs_method NAT
    protocol TCP
    alpha
    warmup 0
    delay_loop {check.interval:g}
    retry {RETRIES}
    delay_before_retry {RETRY_DELAY:g}
    virtualhost {apiserver["name"]}
    sorry_server {last_resort} {port}

{blocks}}}
"""


def _real_server(address: str, port: int, check: Check, source: str) -> str:
    return f"""\
    real_server {address} {port} {{
        weight 1
        notify_up "/usr/bin/touch {BALANCER_FOLDER}/{UP}{address}"
        notify_down "/usr/bin/rm -f {BALANCER_FOLDER}/{UP}{address}"
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


def balancer_state(
    cluster: Mapping[str, Any], node: Mapping[str, Any], programs: Mapping[str, str], check: Check = Check()
) -> dict[str, Any]:
    """Everything the balancer needs on one host, as parameters of the host_state module; with the guard's programs."""
    apiserver = cluster["apiserver"]
    vip, port = str(apiserver["vip"]), int(apiserver["port"])
    source = str(node["vip_route"]["source"])
    last_resort = str(cluster["hosts"][cluster["first_control_plane"]]["address"])
    config = keepalived_config(apiserver, source, last_resort, check)
    guarded = {
        **programs,
        GUARD_CONFIG: guard_config(apiserver, node, last_resort),
        f"{UNIT_FOLDER}/{GUARD_UNIT}": guard_unit(vip, port),
    }
    return {
        "kernel_modules": list(KERNEL_MODULES),
        "sysctls": dict(SYSCTLS),
        "directories": [{"path": path.rpartition("/")[0], "mode": "0755"} for path in (CONFIG_PATH, GUARD_PROGRAM)],
        "files": [
            {"path": f"{UNIT_FOLDER}/{ROUTE_UNIT}", "content": route_unit(vip, source), "restart": [ROUTE_UNIT]},
            {
                "path": CONFIG_PATH,
                "content": config,
                "validate": "/usr/sbin/keepalived --check --config-test --use-file=%s",
                "restart": [BALANCER_UNIT],
            },
            {"path": f"{UNIT_FOLDER}/{BALANCER_UNIT}", "content": balancer_unit(vip, port), "restart": [BALANCER_UNIT]},
            *({"path": path, "content": content, "restart": [GUARD_UNIT]} for path, content in guarded.items()),
        ],
        "units": [{"name": unit, "enabled": True, "state": "started"} for unit in UNITS],
    }


def balancer_stopped() -> dict[str, Any]:
    """The first half of the removal: nothing of the balancer runs, so systemd has taken route and table away."""
    return {"units": [{"name": unit, "enabled": False, "state": "stopped"} for unit in UNITS]}


def balancer_absent() -> dict[str, Any]:
    """The second half: no file of the balancer is there. The units have to be stopped while theirs still are."""
    paths = (
        *(f"{UNIT_FOLDER}/{unit}" for unit in UNITS),
        CONFIG_PATH,
        GUARD_CONFIG,
        GUARD_PROGRAM,
        CERTIFICATES_PROGRAM,
    )
    return {
        "kernel_modules": [],
        "sysctls": {},
        "files": [{"path": path, "state": "absent"} for path in paths],
    }
