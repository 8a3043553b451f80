# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How a host reaches the API server: the VIP's route, the virtual server and its health checks, all from the plan.

This module util is PRIVATE to the collection. It is pure: no I/O, no Ansible, standard library only.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping, Sequence
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
RuntimeDirectory=multinic-apiserver-balancer
# A killed keepalived leaves its table behind, and its successor knows nothing of a server that died meanwhile.
ExecStartPre=-/usr/sbin/ipvsadm --delete-service --tcp-service {at(vip, port)}
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


def drained_addresses(cluster: Mapping[str, Any], drained: Iterable[str]) -> list[str]:
    """Cluster addresses of the control planes that shall take no new connections.

    Each is given by its name in the inventory, or by its address where it is no longer in the plan: a node that is being
    removed. BalancerError for any other name, and where none is left to take connections.
    """
    addresses, unknown = [], []
    for name in dict.fromkeys(str(name).strip() for name in drained):
        if name in cluster["control_plane"]:
            addresses.append(str(cluster["hosts"][name]["address"]))
        elif _is_address(name):
            addresses.append(str(ipaddress.ip_address(name)))
        else:
            unknown.append(name)
    if unknown:
        raise BalancerError(
            f"{', '.join(unknown)} cannot be drained: no control plane has this name; "
            f"there are {', '.join(cluster['control_plane'])} (apiserver_drained)"
        )
    if not set(map(str, cluster["apiserver"]["real_servers"])) - set(addresses):
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


def keepalived_config(
    apiserver: Mapping[str, Any],
    source: str,
    last_resort: str,
    check: Check = Check(),
    drained: Sequence[str] = (),
) -> str:
    """keepalived's configuration: one virtual server, a checked real server for each control plane.

    drained are addresses of real servers, also of such as are in the table only until they are removed: their weight is
    0, so that established connections go on and no new one comes.

    `alpha` keeps a server out until its first check has passed, so that an unfinished control plane gets no request;
    `bindto` makes each check take the way the requests take. While no server passes, the last resort gets the requests:
    a slow answer, or one from a server whose etcd is electing, is better than none, and open watches stay open.
    """
    vip, port, real_servers = apiserver["vip"], int(apiserver["port"]), [str(ip) for ip in apiserver["real_servers"]]
    problems = check.problems()
    if not real_servers:
        problems.append("there is no control plane to balance to: the inventory group kube_control_plane is empty")
    if len(set(real_servers)) != len(real_servers):
        problems.append(f"the control planes' addresses {', '.join(real_servers)} are not unique")
    if problems:
        raise BalancerError("; ".join(problems))
    blocks = "".join(
        _real_server(address, port, check, source, weight=0 if address in drained else 1)
        for address in dict.fromkeys([*real_servers, *drained])
    )
    return f"""\
# Written by multinic.kubernetes. The API server at {at(vip, port)}, checked every {check.interval:g} s;
# a dead one is out after at most {check.slowest_detection():.1f} s.
global_defs {{
    router_id multinic-apiserver
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


def _real_server(address: str, port: int, check: Check, source: str, weight: int) -> str:
    return f"""\
    real_server {address} {port} {{
        weight {weight}
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
    cluster: Mapping[str, Any], node: Mapping[str, Any], check: Check = Check(), drained: Iterable[str] = ()
) -> dict[str, Any]:
    """Everything the balancer needs on one host, as parameters of the host_state module.

    Another set of real servers is a reload: keepalived compares it with what it had and changes only that. A restart
    would take the whole virtual server away for a moment.
    """
    apiserver = cluster["apiserver"]
    vip, port = str(apiserver["vip"]), int(apiserver["port"])
    source = str(node["vip_route"]["source"])
    out = drained_addresses(cluster, drained) if drained else []
    first = str(cluster["hosts"][cluster["first_control_plane"]]["address"])
    last_resort = next(address for address in (first, *map(str, apiserver["real_servers"])) if address not in out)
    config = keepalived_config(apiserver, source, last_resort, check, out)
    return {
        "kernel_modules": list(KERNEL_MODULES),
        "sysctls": dict(SYSCTLS),
        "directories": [{"path": CONFIG_PATH.rpartition("/")[0], "mode": "0755"}],
        "files": [
            {"path": f"{UNIT_FOLDER}/{ROUTE_UNIT}", "content": route_unit(vip, source), "restart": [ROUTE_UNIT]},
            {
                "path": CONFIG_PATH,
                "content": config,
                "validate": "/usr/sbin/keepalived --check --config-test --use-file=%s",
                "reload": [BALANCER_UNIT],
            },
            {"path": f"{UNIT_FOLDER}/{BALANCER_UNIT}", "content": balancer_unit(vip, port), "restart": [BALANCER_UNIT]},
        ],
        "units": [
            {"name": ROUTE_UNIT, "enabled": True, "state": "started"},
            {"name": BALANCER_UNIT, "enabled": True, "state": "started"},
        ],
    }
