# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Does to a host's way to the API server what can happen to it, in random order, and sees how soon all is as planned.

Runs on a host of the lab, so that ssh takes no time: ``python3 guard_faults.py ROUNDS WAYS``. WAYS is a JSON list, one
object for each family: ``vip``, ``source`` (of the route), ``other`` (an address of the same family that the host has
too) and ``servers`` (the addresses of the healthy API servers). Each fault that there is comes once before any comes
again; one of a route or a virtual server comes once for each family.

Prints one JSON object: ``took`` is a list of [fault, seconds until all was healed, what was still wrong after 20 s];
``before`` and ``after`` are the guard's process and memory in bytes. A change of IPVS that the kernel does not take ends
the program: then nothing was tried.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from collections.abc import Iterable
from typing import Any

PORT = 6443
FOLDER = "/run/multinic-apiserver-balancer"
SYSCTLS = [f"net.ipv4.vs.{name}" for name in ("expire_nodest_conn", "expire_quiescent_template")]
GIVE_UP = 20.0


def out(*words: str) -> str:
    return subprocess.run(words, capture_output=True, text=True, check=False).stdout


def read(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as stream:
            return stream.read().strip()
    except OSError:
        return ""


def end(address: str, port: int = PORT) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


class Way:
    """The way of one family: its route and its virtual server."""

    def __init__(self, vip: str, source: str, other: str, servers: list[str]) -> None:
        self.vip, self.source, self.other, self.servers = vip, source, other, servers
        self.ip = ("ip", "-6" if ":" in vip else "-4", "route")
        self.route = ("local", vip, "dev", "lo", "table", "local")
        self.service = ("-t", end(vip))

    def wrong(self, table: list[list[str]]) -> str:
        """What of it is not as planned, or nothing."""
        words = out(*self.ip, "get", self.vip).split()
        found = dict(zip(words, words[1:]))
        if words[:1] != ["local"] or found.get("dev") != "lo" or found.get("src") != self.source:
            return "route"
        if ["-A", *self.service, "-s", "rr"] not in table:
            return "virtual server"
        real = {tuple(line[4:]) for line in table if line[:3] == ["-a", *self.service]}
        return "" if real == {(end(server), "-m", "-w", "1") for server in self.servers} else "servers"

    def faults(self) -> dict[str, list[str]]:
        first, last = self.servers[0], self.servers[-1]
        wanted = {
            "route deleted": [*self.ip, "del", *self.route],
            "wrong source": [*self.ip, "replace", *self.route, "src", self.other],
            "server removed": ["ipvsadm", "-d", *self.service, "-r", end(first)],
            "server altered": ["ipvsadm", "-e", *self.service, "-r", end(last), "-g", "-w", "0"],
            "server added": ["ipvsadm", "-a", *self.service, "-r", end(first, 9999), "-m", "-w", "1"],
            "scheduler changed": ["ipvsadm", "-E", *self.service, "-s", "rr", "-p", "300"],
        }
        family = "IPv6" if ":" in self.vip else "IPv4"
        return {f"{name}, {family}": command for name, command in wanted.items()}


# What happens to the whole host. The process that a signal is for is known only then.
MAIN, CHECKERS = "main", "checkers"
COMMON = {
    "table flushed": ["ipvsadm", "-C"],
    "sysctl reset": ["sysctl", "-qw", *(f"{key}=0" for key in SYSCTLS)],
    "keepalived killed": ["kill", "-9", MAIN],
    "checker killed": ["kill", "-9", CHECKERS],
    "keepalived halted": ["kill", "-STOP", CHECKERS],
}


def process(name: str) -> str:
    return read(f"{FOLDER}/{name}.pid")


def runs(pid: str) -> bool:
    return bool(pid) and read(f"/proc/{pid}/stat").rpartition(")")[2][1:2] in ("S", "R", "D")


def wrong(ways: Iterable[Way], killed: str) -> str:
    """What of the host is not as planned, or nothing."""
    table = [line.split() for line in out("ipvsadm", "-Sn").splitlines()]
    for way in ways:
        trouble = way.wrong(table)
        if trouble:
            return f"{trouble} of {way.vip}"
    if any(read(f"/proc/sys/{key.replace('.', '/')}") != "1" for key in SYSCTLS):
        return "sysctl"
    pids = [process(name) for name in (MAIN, CHECKERS)]
    return "" if all(map(runs, pids)) and killed not in pids else "keepalived"


def memory() -> dict[str, Any]:
    pid = out("systemctl", "show", "-P", "MainPID", "multinic-apiserver-guard").strip()
    rollup = dict(line.split(":", 1) for line in read(f"/proc/{pid}/smaps_rollup").splitlines()[1:])
    group = "/sys/fs/cgroup/system.slice/multinic-apiserver-guard.service"
    return {
        "pid": pid,
        "rss": int(rollup["Rss"].split()[0]) * 1024,
        "pss": int(rollup["Pss"].split()[0]) * 1024,
        "current": int(read(f"{group}/memory.current") or 0),
        "peak": int(read(f"{group}/memory.peak") or 0),
    }


def main() -> None:
    rounds, ways = int(sys.argv[1]), [Way(**way) for way in json.loads(sys.argv[2])]
    trouble = wrong(ways, "")
    if trouble:
        sys.exit(f"before any fault: {trouble}")
    faults = dict(COMMON)
    for way in ways:
        faults.update(way.faults())
    plan: list[str] = []
    while len(plan) < rounds:
        plan += random.sample(sorted(faults), len(faults))  # any order will do
    took: list[tuple[str, float, str]] = []
    before = memory()
    for name in plan[:rounds]:
        began = time.monotonic()
        command = [process(word) if word in (MAIN, CHECKERS) else word for word in faults[name]]
        subprocess.run(command, check=True)
        killed = command[-1] if "killed" in name else ""
        trouble = wrong(ways, killed)
        while trouble and time.monotonic() - began < GIVE_UP:
            time.sleep(0.02)
            trouble = wrong(ways, killed)
        took.append((name, round(time.monotonic() - began, 2), trouble))
        time.sleep(max(random.uniform(0.3, 0.8), began + 1.0 - time.monotonic()))  # noqa: S311  # any order will do
    print(json.dumps({"took": took, "before": before, "after": memory()}))


if __name__ == "__main__":
    main()
