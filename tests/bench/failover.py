# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How many requests fail, and for how long, while a control plane goes in one way or another: ``make bench-failover``.

A lab of three control planes and a worker is booted and installed. On the worker two clients ask ``/version`` every 50 ms,
each time over a new connection: one through the VIP of this collection, one through another VIP that was set up once by
hand as the yardstick, with its route by the host's own address, and a watcher that asks every 5 s without a timeout.

A request has failed if it was not answered within 2 s. ``gap_seconds`` is the time in which requests fail: from the
beginning of the first that failed to the beginning of the first after which all were answered. That is never less than the
longest time without any answer. For the flapping link it counts from the link's return.

The last line printed is JSON. The lab is removed at the end, also after a failure.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "e2e"))

from harness import CACHE, Lab, wait_until
from leftovers import leftovers
from outage import Asking, copied, outage

WORKER = "node01"
WORKER_ADDRESS = "192.168.253.131"
MASTERS = {"master1": "192.168.253.129", "master2": "192.168.253.128", "master3": "192.168.253.130"}
CARD = "ens32"
VIPS = {"ours": "10.103.97.2", "yardstick": "10.103.97.3"}
NODES_SEEN = "/run/failover-nodes.txt"
KUBE_PROXY = {"kube_proxy_config": {"conntrack": {"maxPerCore": 0}, "ipvs": {"excludeCIDRs": ["10.103.97.3/32"]}}}

# What the longest gap and the failed requests may be, for `ours`.
MOST_SECONDS = {"frozen": 3.0, "unplugged": 3.0, "apiserver_killed": 3.0, "link_flap": 2.0}
NO_FAILURE = ("stopped", "removed")


def misses(figures: dict[str, dict[str, Any]]) -> list[str]:
    """Targets that were not met, one sentence each."""
    missed = [
        f"{name}: {figures[name]['gap_seconds']} s, and {most:g} s is the most"
        for name, most in MOST_SECONDS.items()
        if name in figures and (figures[name]["gap_seconds"] > most or not figures[name]["over"])
    ]
    missed += [
        f"{name}: {figures[name]['failed']} requests failed, and none may"
        for name in NO_FAILURE
        if name in figures and figures[name]["failed"]
    ]
    return missed


class Bench:
    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.figures: dict[str, dict[str, dict[str, Any]]] = {side: {} for side in VIPS}
        self.not_ready: list[str] = []
        self.left_behind: list[str] = []

    # --- before ------------------------------------------------------------------------------------------------------

    def install(self) -> None:
        started = time.monotonic()
        self.lab.fresh()
        say(f"four hosts run after {time.monotonic() - started:.0f} s")
        self.lab.play("cluster", "-e", json.dumps(KUBE_PROXY), "-e", "verify_pod_network=false")
        say(f"the cluster stands after {time.monotonic() - started:.0f} s")

    def arrange(self) -> None:
        """The clients' programs, and the yardstick: set once, by hand."""
        vip = VIPS["yardstick"]
        program = copied(self.lab, WORKER, Path(__file__).with_name("failover_prober.py"))
        self.yardstick_route()
        self.worker(f"systemctl stop failover-prober 2>/dev/null; ipvsadm -D -t {vip}:6443 2>/dev/null; true")
        self.worker(f"ipvsadm -A -t {vip}:6443 -s rr")
        for address in MASTERS.values():
            self.worker(f"ipvsadm -a -t {vip}:6443 -r {address}:6443 -m -w 1")
        self.worker(
            f"systemd-run -q --collect --unit=failover-prober python3 {program} {vip} {' '.join(MASTERS.values())}"
        )

    def yardstick_route(self) -> None:
        self.worker(f"ip route replace {VIPS['yardstick']}/32 via {WORKER_ADDRESS} metric 50")

    def worker(self, command: str, timeout: float = 60) -> str:
        return self.lab.run(WORKER, command, timeout)

    def servers(self, side: str) -> set[str]:
        """Real servers that the worker's virtual server offers."""
        lines = [line.split() for line in self.worker("ipvsadm -Sn").splitlines()]
        return {
            line[line.index("-r") + 1].partition(":")[0]
            for line in lines
            if line[0] == "-a" and f"{VIPS[side]}:6443" in line and line[line.index("-w") + 1] != "0"
        }

    def whole(self) -> None:
        """Everything is as it was before the next blow."""
        self.yardstick_route()
        everything = set(MASTERS.values())
        wait_until(
            lambda: all(self.servers(side) == everything for side in VIPS),
            150,
            "all three servers in both virtual servers",
            every=1,
        )

    # --- one blow ----------------------------------------------------------------------------------------------------

    def measure(self, name: str, blow: Callable[[], float | None], seconds: float) -> None:
        """Two clients, a blow, and so many seconds to see what comes of it. The blow may tell since when to count."""
        asking = {side: Asking(self.lab, WORKER, vip) for side, vip in VIPS.items()}
        time.sleep(2)
        since = blow() or 0.0
        time.sleep(seconds)
        for side, client in asking.items():
            self.figures[side][name] = outage(client.end(), since)
        ours, yardstick = self.figures["ours"][name], self.figures["yardstick"][name]
        say(f"{name}: {told(ours)}; yardstick {told(yardstick)}")

    def frozen(self) -> None:
        """A power loss, long enough for the cluster to notice that a node is gone: 40 s by default."""
        watch = (
            "while :; do kubectl --kubeconfig /etc/kubernetes/admin.conf --request-timeout 3s get nodes --no-headers "
            f"2>/dev/null; sleep 1; done > {NODES_SEEN}"
        )
        self.lab.run("master1", f"systemd-run -q --collect --unit=failover-watch sh -c '{watch}'")
        try:
            self.measure("frozen", lambda: self.lab.guest(["master3"], "frozen"), 60)
        finally:
            self.lab.guest(["master3"], "thawed")
            seen = self.lab.run("master1", f"systemctl stop failover-watch; cat {NODES_SEEN}").splitlines()
        nodes = [line.split()[:2] for line in seen if len(line.split()) > 1]
        assert len(nodes) > 40, f"the nodes were seen only {len(nodes)} times"
        self.not_ready = sorted({name for name, status in nodes if "NotReady" in status and name != "master3"})
        told_of = sorted({name for name, status in nodes if "NotReady" in status})
        say(f"nodes NotReady while master3 was frozen for 60 s: {', '.join(told_of) or 'none'}")

    def unplugged(self) -> None:
        def plug(state: str) -> None:
            parameters = {"lab": self.lab.name, "guests": ["master2"], "cards": {CARD: state}}
            self.lab.module("lab_guest", {**parameters, "cache": str(CACHE)})

        try:
            self.measure("unplugged", lambda: plug("unplugged"), 15)
        finally:
            plug("plugged")

    def apiserver_killed(self) -> None:
        self.measure("apiserver_killed", lambda: self.on("master2", "kill -9 $(pidof kube-apiserver)"), 10)

    def stopped(self) -> None:
        """The static pod's manifest is moved away: kubelet ends the API server in order."""
        manifest, away = "/etc/kubernetes/manifests/kube-apiserver.yaml", "/root/kube-apiserver.yaml"
        try:
            self.measure("stopped", lambda: self.on("master3", f"mv {manifest} {away}"), 20)
        finally:
            self.on("master3", f"test ! -e {away} || mv {away} {manifest}")

    def link_flap(self) -> None:
        def flap() -> float:
            flaps = f"ip link set {CARD} down; sleep 5; ip link set {CARD} up; date +%s.%N"
            return float(self.worker(flaps, 30).split()[-1])

        self.measure("link_flap", flap, 15)

    def removed(self) -> None:
        self.measure("removed", lambda: self.play_removal("master3"), 5)
        self.left_behind = leftovers(self.lab, "master3")
        say(f"left on master3: {', '.join(self.left_behind) or 'nothing'}")

    def play_removal(self, node: str) -> None:
        self.lab.play("remove_node", "-e", f"node={node}")

    def on(self, host: str, command: str) -> None:
        self.lab.run(host, command)

    def run(self, names: Sequence[str]) -> None:
        for name in names:
            self.whole()
            getattr(self, name)()


def told(figures: dict[str, Any]) -> str:
    over = "" if figures["over"] else ", and still failing at the end"
    return f"{figures['failed']} of {figures['requests']} failed within {figures['gap_seconds']} s{over}"


def table(figures: dict[str, dict[str, dict[str, Any]]]) -> str:
    head = f"{'':18}{'ours: failed':>14}{'gap s':>8}{'slowest s':>11}{'yardstick: failed':>20}{'gap s':>8}{'slowest s':>11}"
    rows = [head]
    for name, ours in figures["ours"].items():
        theirs = figures["yardstick"][name]
        more = "" if theirs["over"] else "+"
        rows.append(
            f"{name:18}{ours['failed']:>14}{ours['gap_seconds']:>8}{ours['slowest_seconds']:>11}"
            f"{theirs['failed']:>20}{str(theirs['gap_seconds']) + more:>8}{theirs['slowest_seconds']:>11}"
        )
    return "\n".join(rows)


def say(text: str) -> None:
    print(text, flush=True)


BLOWS = ("apiserver_killed", "unplugged", "stopped", "link_flap", "frozen", "removed")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("blows", nargs="*", default=list(BLOWS), help=f"only these; of {', '.join(BLOWS)}")
    parser.add_argument("--lab-name", default="failover")
    parser.add_argument("--keep", action="store_true", help="leave the lab running")
    parser.add_argument("--installed", action="store_true", help="the lab runs and holds the cluster already")
    arguments = parser.parse_args()
    # So that whoever ends it does not leave the lab behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    bench = Bench(Lab("lab", arguments.lab_name))
    started = time.monotonic()
    try:
        if not arguments.installed:
            bench.install()
        bench.arrange()
        bench.run(arguments.blows)
    finally:
        if not arguments.keep:
            bench.lab.remove()
    figures = bench.figures
    say("\n" + table(figures))
    for side in figures:
        for name, found in figures[side].items():
            for trouble, count in found.pop("troubles", {}).items():
                say(f"{side}, {name}: {count} times {trouble}")
    missed = misses(figures["ours"])
    missed += [f"{node} was NotReady while another host was frozen" for node in bench.not_ready]
    for sentence in missed:
        say(f"MISSED: {sentence}")
    say(
        json.dumps(
            {
                **figures,
                "not_ready": bench.not_ready,
                "left_behind": bench.left_behind,
                "seconds": round(time.monotonic() - started),
            }
        )
    )
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    main()
