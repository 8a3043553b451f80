# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hosts for the tests of the proof: network namespaces with two cards each, on the bridges of two networks.

Facts and measurements are those of the real modules, run in the host's namespaces; plan and verdict are the real ones too.
The cards are veths whose other ends are in the switch's namespace, as those of an LXC host are.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ansible_collections.multinic.kubernetes.plugins.module_utils import _probe
from ansible_collections.multinic.kubernetes.plugins.module_utils._findings import Finding
from ansible_collections.multinic.kubernetes.plugins.module_utils._plan import Host, plan_cluster

COLLECTIONS = Path(__file__).resolve().parents[2] / ".collections"
SETTINGS: dict[str, Any] = {"kubernetes_version": "v1.31.0", "cni": "none"}
NETWORK = "10.20.0.0/24"
NETWORK_SIX = "fd00:20::/64"
INNER, OUTER, INNER_SIX = "10.20.0", "10.21.0", "fd00:20:"
SPACES = ["unshare", "--net", "--mount", "--propagation", "private"]
STAY = "mount -t sysfs sysfs /sys; ip link set lo up; echo ready; exec sleep 600"
# What Ansible does around a module, without its connection.
RUN = """import importlib, json, sys
sys.path.insert(0, sys.argv[2])
from ansible.module_utils.testing import patch_module_args
module = importlib.import_module("ansible_collections.multinic.kubernetes.plugins.modules." + sys.argv[1])
with patch_module_args(json.load(sys.stdin)):
    module.main()
"""


class Space:
    """A namespace of its own, kept by a process that sleeps."""

    def __init__(self) -> None:
        self.process = subprocess.Popen([*SPACES, "/bin/sh", "-c", STAY], stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "ready\n"

    def run(self, *command: str, text: str = "") -> str:
        inside = ["nsenter", "--net", "--mount", "--target", str(self.process.pid), *command]
        done = subprocess.run(inside, input=text, capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == 0, f"{' '.join(command)}: {done.stdout}{done.stderr}"
        return done.stdout

    def ip(self, *lines: str) -> None:
        self.run("ip", "-batch", "-", text="\n".join(lines) + "\n")

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()


@dataclass
class Machine:
    """A host: ens32 in the cluster's network, ens33 in the other, with the default route."""

    name: str
    number: int
    space: Space

    @property
    def address(self) -> str:
        return f"{INNER}.{self.number}"

    @property
    def six(self) -> str:
        return f"{INNER_SIX}:{self.number}"

    @property
    def outer(self) -> str:
        return f"{OUTER}.{self.number}"

    def ip(self, *lines: str) -> None:
        self.space.ip(*lines)

    def sysctl(self, *settings: str) -> None:
        self.space.run("sysctl", "-qw", *settings)

    def iptables(self, rule: str) -> None:
        self.space.run("iptables", *rule.split())

    def ip6tables(self, rule: str) -> None:
        self.space.run("ip6tables", *rule.split())

    def module(self, name: str, **arguments: Any) -> dict[str, Any]:
        out = self.space.run(sys.executable, "-c", RUN, name, str(COLLECTIONS), text=json.dumps(arguments))
        return json.loads(out.strip().splitlines()[-1])

    def facts(self) -> dict[str, Any]:
        found = self.module("network_facts")["ansible_facts"]["multinic"]
        identity = {"hostname": self.name, "machine_id": self.name, "product_uuid": "", "macs": []}
        # All that is this machine's, and not the namespace's, is left out of the verdict.
        return {**{key: found[key] for key in ("links", "routes", "rules", "rp_filter_all")}, "identity": identity}


@dataclass
class Lan:
    """Machines on two bridges."""

    switch: Space
    machines: list[Machine] = field(default_factory=list)
    seconds: float = 0.0
    measured: dict[str, dict[str, Any]] = field(default_factory=dict)

    def plug(self, space: Space, bridge: str, card: str, end: str) -> None:
        """A card in a space, whose other end hangs at a bridge."""
        self.switch.ip(
            f"link add {end} mtu 1500 type veth peer name {card} netns {space.process.pid}",
            f"link set {end} master {bridge}",
            f"link set {end} up",
        )

    def add(self, name: str, number: int) -> Machine:
        machine = Machine(name, number, Space())
        self.machines.append(machine)
        self.plug(machine.space, "inner", "ens32", f"i{number}")
        self.plug(machine.space, "outer", "ens33", f"o{number}")
        machine.ip(
            "link set ens32 up",
            "link set ens33 up",
            f"address add {machine.address}/24 dev ens32",
            f"address add {machine.six}/64 dev ens32 nodad",
            f"address add {machine.outer}/24 dev ens33",
            f"route add default via {OUTER}.254",
        )
        return machine

    def close(self) -> None:
        for space in (*(machine.space for machine in self.machines), self.switch):
            space.close()

    def prove(self, wait: float = 1.2, network: Any = NETWORK, **settings: Any) -> list[Finding]:
        """Facts, plan, proof and verdict."""
        with ThreadPoolExecutor() as pool:
            facts = dict(zip((machine.name for machine in self.machines), pool.map(Machine.facts, self.machines)))
        hosts = [
            Host(machine.name, place, place == 0, place > 0, facts[machine.name], "", network)
            for place, machine in enumerate(self.machines)
        ]
        result = plan_cluster(hosts, {**SETTINGS, **settings})
        assert sorted(result.plan.get("hosts", ())) == sorted(facts), result.findings

        def probe(machine: Machine) -> dict[str, Any]:
            planned = _probe.probe_arguments(result.plan, machine.name)
            keys = ("interface", "source", "further_sources", "peers", "vip", "further_vips")
            arguments = {key: planned[key] for key in keys}
            return machine.module("network_probe", **arguments, wait=wait)["network_probe"]

        began = time.monotonic()
        with ThreadPoolExecutor() as pool:
            self.measured = dict(zip(facts, pool.map(probe, self.machines)))
        self.seconds = time.monotonic() - began
        return [item for item in _probe.judge(result.plan, facts, self.measured, {}) if item.severity != "info"]


@contextlib.contextmanager
def lan(count: int) -> Iterator[Lan]:
    """So many machines, all of which is gone afterwards."""
    built = Lan(Space())
    try:
        built.switch.ip(*(f"link add {name} type bridge" for name in ("inner", "outer")))
        built.switch.ip(*(f"link set {name} up" for name in ("inner", "outer")))
        for number in range(1, count + 1):
            built.add(f"host{number}", number)
        yield built
    finally:
        built.close()
