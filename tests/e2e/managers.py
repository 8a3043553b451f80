# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The five ways in which a host's network is run, as files: the outer card has a fixed address, the inner one DHCP.

Where nothing runs the network both addresses are set once at boot.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

PACKAGES = ("network-manager", "netplan.io", "ifupdown", "isc-dhcp-client")
# What may run a network; of these, only a way's own units are left unmasked.
UNITS = ("systemd-networkd.service", "systemd-networkd.socket", "NetworkManager.service", "networking.service")
WAIT_ONLINE = ("systemd-networkd-wait-online.service", "NetworkManager-wait-online.service")
SCRIPT, SCRIPT_UNIT = "/usr/local/sbin/set-addresses", "set-addresses.service"
# What any of the ways writes; taken away before the next one comes.
PLACES = (
    "/etc/systemd/network/*.network",
    "/etc/NetworkManager/system-connections/*",
    "/etc/netplan/*",
    "/run/systemd/network/*",
    "/etc/network/interfaces",
    SCRIPT,
    f"/etc/systemd/system/{SCRIPT_UNIT}",
    f"/etc/systemd/system/multi-user.target.wants/{SCRIPT_UNIT}",
)


@dataclass(frozen=True)
class Network:
    """A host's cards and addresses, as the lab gave them."""

    outer: str
    outer_address: str  # with prefix
    gateway: str
    inner: str
    inner_address: str  # with prefix; DHCP gives it


Files = Mapping[str, str]


def _networkd(network: Network) -> Files:
    return {
        "/etc/systemd/network/20-outer.network": f"""\
[Match]
Name={network.outer}

[Network]
Address={network.outer_address}
Gateway={network.gateway}
""",
        "/etc/systemd/network/20-inner.network": f"""\
[Match]
Name={network.inner}

[Network]
DHCP=ipv4
""",
    }


def _network_manager(network: Network) -> Files:
    folder = "/etc/NetworkManager/system-connections"
    return {
        f"{folder}/outer.nmconnection": f"""\
[connection]
id=outer
type=ethernet
interface-name={network.outer}

[ipv4]
method=manual
address1={network.outer_address},{network.gateway}
""",
        f"{folder}/inner.nmconnection": f"""\
[connection]
id=inner
type=ethernet
interface-name={network.inner}

[ipv4]
method=auto
""",
    }


def _netplan(network: Network) -> Files:
    return {
        "/etc/netplan/50-cards.yaml": f"""\
network:
  version: 2
  renderer: networkd
  ethernets:
    {network.outer}:
      addresses: [{network.outer_address}]
      routes: [{{to: default, via: {network.gateway}}}]
    {network.inner}:
      dhcp4: true
"""
    }


def _ifupdown(network: Network) -> Files:
    return {
        "/etc/network/interfaces": f"""\
auto lo {network.outer} {network.inner}
iface lo inet loopback
iface {network.outer} inet static
  address {network.outer_address}
  gateway {network.gateway}
iface {network.inner} inet dhcp
"""
    }


def _nothing(network: Network) -> Files:
    return {
        SCRIPT: f"""\
#!/bin/sh -e
until test -e /sys/class/net/{network.outer} -a -e /sys/class/net/{network.inner}; do sleep 0.1; done
ip link set {network.outer} up
ip link set {network.inner} up
ip address replace {network.outer_address} dev {network.outer}
ip address replace {network.inner_address} dev {network.inner}
ip route replace default via {network.gateway}
""",
        f"/etc/systemd/system/{SCRIPT_UNIT}": f"""\
[Unit]
DefaultDependencies=no
After=local-fs.target
Before=network.target
Wants=network.target

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/sh -e {SCRIPT}

[Install]
WantedBy=multi-user.target
""",
    }


@dataclass(frozen=True)
class Way:
    """One way: which units it runs, what it is told, how it is started anew."""

    name: str
    units: tuple[str, ...]
    files: Callable[[Network], Files]
    restart: str
    dhcp: bool = True


_NETWORKD = UNITS[:2]
WAYS = (
    Way("systemd-networkd", _NETWORKD, _networkd, "systemctl restart systemd-networkd"),
    Way("NetworkManager", UNITS[2:3], _network_manager, "systemctl restart NetworkManager"),
    Way("netplan", _NETWORKD, _netplan, "netplan apply && systemctl restart systemd-networkd"),
    Way("ifupdown", UNITS[3:], _ifupdown, "systemctl restart networking"),
    Way("nothing", (SCRIPT_UNIT,), _nothing, f"systemctl restart {SCRIPT_UNIT}", dhcp=False),
)


def switch(way: Way, network: Network) -> str:
    """The shell commands that hand a host's network over to a way, with the next boot. Cards keep their names."""
    lines = ["set -e", f"rm -f {' '.join(PLACES)}"]
    for path, content in way.files(network).items():
        lines.append(f"mkdir -p {path.rpartition('/')[0]}; umask 077; cat > {path} <<'END'\n{content}END")
        lines.append(f"chmod {'600' if path.endswith('.nmconnection') else '644'} {path}")
    others = [unit for unit in UNITS if unit not in way.units]
    lines += [f"systemctl mask -q {' '.join(others)}", f"systemctl unmask -q {' '.join(way.units)}"]
    lines += ["systemctl daemon-reload", f"systemctl enable -q {' '.join(way.units)}"]
    return "\n".join(lines)
