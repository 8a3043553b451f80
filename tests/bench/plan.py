# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How long the plan of many hosts takes, and how that grows: ``make bench-plan``.

Hosts have six cards each: a bond of two on the cluster network, a VLAN on it, an external card with the default route,
and a bridge that docker made. The last line printed is JSON: hosts, seconds (the best of three, of one process on one
core) and growth_per_doubling (2.0 is linear).
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import sys
import time
from ipaddress import ip_network
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parents[1] / "unit"), str(Path(__file__).parents[2] / ".collections")]

from network_hosts import MANIFEST, card, default_route, facts

from ansible_collections.multinic.kubernetes.plugins.module_utils._plan import Bundle, Host, plan_cluster

# Where the cluster network comes from, and a pod network that needs Calico's choice predicted on every host.
SETTINGS: dict[str, dict[str, Any]] = {
    "cidr": {"cluster_network": "10.20.0.0/16", "cni": "none"},
    "auto": {"cluster_network": "auto", "cni": "none"},
    "cidr, calico": {"cluster_network": "10.20.0.0/16", "cni": "calico"},
    "auto, calico": {"cluster_network": "auto", "cni": "calico"},
}
BUNDLE = Bundle(path="bundle", manifest={**MANIFEST, "kubernetes_version": "v1.31.0"})
INTERNAL, EXTERNAL = ip_network("10.20.0.0/16"), ip_network("172.20.0.0/16")


def host(number: int) -> Host:
    """One of many hosts, all alike but for their addresses."""
    name = f"node{number:05d}"
    inside, outside = INTERNAL[number + 10], EXTERNAL[number + 10]
    cards = [
        card("eno1", kind="", speed_mbps=10000),
        card("eno2", kind="", speed_mbps=10000),
        card("bond0", f"{inside}/16", kind="bond", mtu=9000, speed_mbps=20000),
        card("bond0.100", f"10.30.{number // 200}.{number % 200 + 10}/16", kind="vlan", mtu=9000),
        card("ens1", f"{outside}/16", speed_mbps=1000),
        card("docker0", "172.17.0.1/16", kind="bridge"),
    ]
    routes = [
        default_route("172.20.0.1", "ens1"),
        {"dst": str(INTERNAL), "family": 4, "dev": "bond0", "source": str(inside)},
        {"dst": str(EXTERNAL), "family": 4, "dev": "ens1", "source": str(outside)},
    ]
    return Host(
        name=name,
        position=number,
        control_plane=number < 3,
        worker=number >= 3,
        facts=facts(name, cards, routes=routes),
        trouble="",
        cluster_network=None,
    )


def seconds(hosts: list[Host], settings: dict[str, Any]) -> float:
    """The best of three; a plan that is not sound would measure something else."""
    best = float("inf")
    for _turn in range(3):
        started = time.perf_counter()
        result = plan_cluster(hosts, settings, BUNDLE)
        best = min(best, time.perf_counter() - started)
        assert result.sound and len(result.plan["hosts"]) == len(hosts), result.findings[:3]
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hosts", type=int, default=5000)
    most = parser.parse_args().hosts
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    hosts = [host(number) for number in range(most)]
    # The hosts are input: the collector of garbage need not walk over them for the figure of every size.
    gc.collect()
    gc.freeze()
    sizes = [most // 4, most // 2, most]
    figures: dict[str, Any] = {"hosts": most}
    for name, settings in SETTINGS.items():
        times = [seconds(hosts[:size], settings) for size in sizes]
        for size, taken in zip(sizes, times, strict=True):
            print(f"{name:13} {size:6} hosts {taken:7.3f} s")
        growth = (times[-1] / times[0]) ** 0.5
        if times[-1] > figures.get("seconds", 0.0):
            figures.update(seconds=round(times[-1], 3), growth_per_doubling=round(growth, 2), case=name)
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
