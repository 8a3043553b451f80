# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The API's outside address on a control plane: a keepalived of our own that only speaks VRRP, and who tells it of the API server.

The address is on one control plane at a time, alone in its network (/32, /128) on the card of the outside network: so it is
never the source of what the host itself sends, and no program that looks for the host's address takes it for that.

This module util is PRIVATE to the collection. It is pure: no I/O, no Ansible, standard library only.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from ansible_collections.multinic.kubernetes.plugins.module_utils._apiserver_outside import NEVER, READY, UNREADY
from ansible_collections.multinic.kubernetes.plugins.module_utils._balancer import UNIT_FOLDER, host_prefix
from ansible_collections.multinic.kubernetes.plugins.module_utils._net import as_address

OUTSIDE_UNIT = "multinic-apiserver-outside.service"
CHECK_UNIT = "multinic-apiserver-outside-check.service"
OUTSIDE_CONFIG = "/etc/multinic/apiserver-outside.conf"
CHECK_PROGRAM = "/usr/local/lib/multinic/apiserver_outside.py"
FOLDER = "/run/multinic-apiserver-outside"
PRIORITY_FILE = f"{FOLDER}/priority"
STATE_NAME = "apiserver-outside"
OUTSIDE = "outside"  # what its removal is called beside those of the ways

UNITS = (OUTSIDE_UNIT, CHECK_UNIT)  # in the order in which they start
# The configuration goes last: it tells that there is something.
FILES = (*(f"{UNIT_FOLDER}/{unit}" for unit in UNITS), CHECK_PROGRAM, OUTSIDE_CONFIG)

# A holder that is silent has lost the address after three intervals and a bit (RFC 9568, 6.1).
ADVERT_INTERVAL = 0.5
# Equal for all, so that the address stays where it is when a control plane returns. One that is not ready is below one
# that is drained.
PRIORITY, PRIORITY_DRAINED = 200, 100
MARK = "# holds "


def cards_of(cluster: Mapping[str, Any], host: str) -> list[dict[str, Any]]:
    """{address, router_id, interface, source, peers} of each outside address that the host takes part in."""
    found = []
    for item in cluster["apiserver"].get("outside") or ():
        cards = item["cards"]
        if host in cards:
            found.append(
                {
                    "address": str(item["address"]),
                    "router_id": int(item["router_id"]),
                    "interface": str(cards[host]["interface"]),
                    "source": str(cards[host]["address"]),
                    "peers": [str(card["address"]) for name, card in cards.items() if name != host],
                }
            )
    return found


def outside_config(ways: Iterable[Mapping[str, Any]], *, drained: bool = False) -> str:
    """keepalived's configuration: an instance of VRRP version 3 for each address, without IPVS.

    The peers are told by their addresses, so no switch has to pass multicast; one that has none sends multicast. Who has
    just taken the address says so again after a second and then every five, for a switch or a host may have missed it,
    and at once when another one claims it too.
    """
    ways = list(ways)
    instances = "\n".join(_instance(way, PRIORITY_DRAINED if drained else PRIORITY) for way in ways)
    return f"""\
# Written by multinic.kubernetes. The API server's outside address, on one of the control planes.
{MARK}{" ".join(way["address"] for way in ways)}
global_defs {{
    router_id {STATE_NAME}
    script_user root
    enable_script_security
    vrrp_version 3
}}

# What {CHECK_UNIT} writes: {READY}, or {UNREADY} while the API server here is not ready, {NEVER} while it never was.
vrrp_track_file apiserver {{
    file {PRIORITY_FILE}
    init_file {NEVER}
}}

{instances}"""


def _instance(way: Mapping[str, Any], priority: int) -> str:
    address = str(way["address"])
    unicast = ""
    if way["peers"]:
        peers = "".join(f"        {peer}\n" for peer in way["peers"])
        unicast = f"    unicast_src_ip {way['source']}\n    unicast_peer {{\n{peers}    }}\n"
    return f"""\
vrrp_instance outside-{6 if ":" in address else 4} {{
    state BACKUP
    interface {way["interface"]}
    virtual_router_id {way["router_id"]}
    priority {priority}
    advert_int {ADVERT_INTERVAL:g}
    garp_master_delay 1
    garp_master_refresh 5
    garp_lower_prio_delay 0
    garp_lower_prio_repeat 2
{unicast}    track_file {{
        apiserver weight 1
    }}
    virtual_ipaddress {{
        {host_prefix(address)} dev {way["interface"]}
    }}
}}
"""


def configured_addresses(config: str) -> list[str]:
    """The addresses that our keepalived on a host may hold, by its configuration."""
    found = re.search(rf"^{MARK}(.*)$", config, re.MULTILINE)
    return [word for word in found[1].split() if as_address(word)] if found else []


def outside_unit(ways: Iterable[Mapping[str, Any]]) -> str:
    """Unit of a keepalived that shares no file with any other one on the host.

    One that was killed leaves the address behind, which another control plane has by then.
    """
    ways = list(ways)
    told = ", ".join(str(way["address"]) for way in ways)
    gone = [f"-/sbin/ip address del {host_prefix(str(way['address']))} dev {way['interface']}" for way in ways]
    before = "\n".join(f"ExecStartPre={words}" for words in gone)
    after = "\n".join(f"ExecStopPost={words}" for words in gone)
    return f"""\
# Written by multinic.kubernetes
[Unit]
Description=Outside address {told} of the Kubernetes API, on one of the control planes
Documentation=man:keepalived(8)
After=network.target
Wants={CHECK_UNIT}
StartLimitIntervalSec=0

[Service]
Type=simple
RuntimeDirectory={FOLDER[len("/run/") :]}
RuntimeDirectoryPreserve=restart
{before}
ExecStart=/usr/sbin/keepalived --dont-fork --vrrp --use-file={OUTSIDE_CONFIG} \
--pid={FOLDER}/main.pid --vrrp_pid={FOLDER}/vrrp.pid
ExecReload=/bin/kill -HUP $MAINPID
{after}
Restart=always
RestartSec=1
KillMode=mixed
Nice=-10
OOMScoreAdjust=-900

[Install]
WantedBy=multi-user.target
"""


def check_unit(address: str, port: int, path: str) -> str:
    """Unit of the program that asks the host's own API server, at its cluster address: a proxy may have the loopback one.

    One that hangs is ended by systemd; while none runs the host counts as not ready.
    """
    return f"""\
# Written by multinic.kubernetes
[Unit]
Description=Whether the Kubernetes API server of this host may have the outside address
After=network.target {OUTSIDE_UNIT}
PartOf={OUTSIDE_UNIT}
StartLimitIntervalSec=0

[Service]
Type=simple
ExecStart=/usr/bin/python3 -I -S -E {CHECK_PROGRAM} {address} {port} {path} {PRIORITY_FILE}
ExecStopPost=-/bin/sh -c 'if grep -qx {READY} {PRIORITY_FILE}; then echo {UNREADY} > {PRIORITY_FILE}; fi'
Restart=always
RestartSec=200ms
WatchdogSec=10
NotifyAccess=main
OOMScoreAdjust=-900
MemoryMax=40M
TasksMax=8
CapabilityBoundingSet=
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
ProtectKernelTunables=yes
ProtectSystem=full
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service

[Install]
WantedBy=multi-user.target
"""


def outside_state(
    cluster: Mapping[str, Any], host: str, program: str, path: str, drained: Iterable[str] = ()
) -> dict[str, Any]:
    """What the host needs for the outside address, as parameters of host_state; ``files`` is empty where it has no part in one.

    program is the text of the one that asks the API server, path what that asks for, drained cluster addresses of control
    planes. Other peers, another router id or priority are a reload: the address stays where it is.
    """
    ways = cards_of(cluster, host)
    state: dict[str, Any] = {"name": STATE_NAME, "directories": [], "files": [], "units": []}
    if not ways:
        return state
    node = cluster["hosts"][host]
    out = str(node["address"]) in set(map(str, drained))
    check = check_unit(str(node["address"]), int(cluster["apiserver"]["port"]), path)
    return {
        **state,
        "directories": [
            {"path": place.rpartition("/")[0], "mode": "0755"} for place in (OUTSIDE_CONFIG, CHECK_PROGRAM)
        ],
        "files": [
            {
                "path": OUTSIDE_CONFIG,
                "content": outside_config(ways, drained=out),
                "validate": "/usr/sbin/keepalived --vrrp --config-test --use-file=%s",
                "reload": [OUTSIDE_UNIT],
            },
            {"path": f"{UNIT_FOLDER}/{OUTSIDE_UNIT}", "content": outside_unit(ways), "restart": [OUTSIDE_UNIT]},
            {"path": CHECK_PROGRAM, "content": program, "restart": [CHECK_UNIT]},
            {"path": f"{UNIT_FOLDER}/{CHECK_UNIT}", "content": check, "restart": [CHECK_UNIT]},
        ],
        "units": [{"name": unit, "enabled": True, "state": "started"} for unit in UNITS],
    }


def outside_removal() -> dict[str, Any]:
    """How the outside address leaves a host, in two steps of host_state: first the ``units`` end, then the ``files`` go."""
    return {
        "name": STATE_NAME,
        "units": [{"name": unit, "enabled": False, "state": "stopped"} for unit in reversed(UNITS)],
        "files": [{"path": path, "state": "absent"} for path in FILES],
        "kernel_modules": [],
        "sysctls": {},
    }
