# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The guard of the API server's address against a real kernel's routes. The table of virtual servers is molecule's."""

from __future__ import annotations

import contextlib
import json
import os
import random
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from machines import Space

from ansible_collections.multinic.kubernetes.plugins.module_utils import _apiserver_guard as guard
from ansible_collections.multinic.kubernetes.plugins.module_utils import _balancer as balancer

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="namespaces are made by root")

SOON = 1.0  # seconds: the kernel tells of the change, so the guard does not wait for its next look


@dataclass
class Family:
    option: str
    vip: str
    source: str
    other: str
    prefix: int

    @property
    def route(self) -> str:
        return f"local {self.vip} dev lo table local"


FAMILIES = {
    "IPv4": Family("-4", "10.103.97.2", "10.20.0.1", "10.20.0.9", 24),
    "IPv6": Family("-6", "fd00:103::2", "fd00:20::1", "fd00:20::9", 64),
}


@dataclass
class Guarded:
    """A namespace with a guard in it."""

    family: Family
    space: Space
    process: subprocess.Popen[str]
    folder: Path

    def ip(self, *words: str) -> str:
        return self.space.run("ip", self.family.option, *" ".join(words).split())

    def source(self) -> str:
        """The source of what is sent to the VIP; empty where it does not stay on the host by way of lo."""
        # Without any route the command fails, which is an answer here.
        command = f"ip {self.family.option} route get {self.family.vip} 2>/dev/null || true"
        words = self.space.run("sh", "-c", command).split()
        return words[words.index("src") + 1] if words[:1] == ["local"] and "lo" in words else ""

    def healed(self, seconds: float = SOON) -> bool:
        return until(lambda: self.source() == self.family.source, seconds)

    def status(self) -> dict[str, Any]:
        return dict(json.loads((self.folder / "status.json").read_text(encoding="utf-8")))

    def said(self) -> list[str]:
        return (self.folder / "said").read_text(encoding="utf-8").splitlines()

    def memory(self) -> int:
        """kB of its own that it holds."""
        rollup = Path(f"/proc/{self.pid()}/smaps_rollup").read_text(encoding="ascii")
        return sum(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Rss:"))

    def pid(self) -> int:
        children = (
            Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text(encoding="ascii").split()
        )
        return int(children[0]) if children else self.process.pid


def until(condition: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


@contextlib.contextmanager
def running(folder: Path, families: Sequence[Family], statuses: Sequence[str]) -> Iterator[list[Guarded]]:
    """One guard in a namespace of its own, for a VIP of each family; the statuses are the names of its files."""
    ways = [balancer.Balanced(family.vip, family.source, (), family.source) for family in families]
    settings = json.loads(balancer.guard_config(ways, "apiserver.cluster.local", 6443, "ens32"))
    # Units that systemd does not know, if there is a systemd at all, are units that nobody stopped.
    settings.update(folder=str(folder), route_unit="", balancer_unit="")
    for way, status in zip(settings["ways"], statuses, strict=True):
        way["status"] = str(folder / status)
    (folder / "config.json").write_text(json.dumps(settings), encoding="utf-8")
    space = Space()
    with contextlib.ExitStack() as stack:
        stack.callback(space.close)
        space.ip("link add ens32 type bridge", "link set ens32 up")
        space.run("sysctl", "-qw", "net.ipv4.conf.ens32.promote_secondaries=1")
        for family in families:
            for address in (family.source, family.other):
                nodad = " nodad" if ":" in address else ""
                space.ip(f"address add {address}/{family.prefix} dev ens32{nodad}")
        output = stack.enter_context((folder / "said").open("w", encoding="utf-8"))
        inside = ["nsenter", "--net", "--mount", "--target", str(space.process.pid)]
        program = ["/usr/bin/python3", "-I", "-S", "-E", guard.__file__, str(folder / "config.json")]
        process = subprocess.Popen([*inside, *program], stdout=output, text=True)
        stack.callback(process.wait)
        stack.callback(process.kill)
        made = [Guarded(family, space, process, folder) for family in families]
        assert all(host.healed(5) for host in made), "a guard that starts sets every route"
        yield made


@pytest.fixture(params=list(FAMILIES))
def guarded(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Guarded]:
    with running(tmp_path, [FAMILIES[request.param]], ["status.json"]) as (made,):
        yield made


def test_a_deleted_route_is_put_back(guarded: Guarded) -> None:
    before = guarded.status()["repairs"]
    guarded.ip("route del", guarded.family.route)
    assert guarded.healed()
    assert until(lambda: guarded.status()["repairs"] == before + 1, SOON)
    assert guarded.said()[-1] == (
        f"<5>put the route to {guarded.family.vip} with the source {guarded.family.source} back: it was gone"
    )


def test_a_wrong_source_is_put_right(guarded: Guarded) -> None:
    guarded.ip("route replace", guarded.family.route, "src", guarded.family.other)
    assert guarded.healed()
    assert until(lambda: f"it was {guarded.family.other}" in guarded.said()[-1], SOON)


def test_another_route_before_ours_is_taken_away(guarded: Guarded) -> None:
    other = f"{guarded.family.route} src {guarded.family.other}"
    if guarded.family.option == "-4":
        guarded.ip("route prepend", other)
    else:
        guarded.ip("route add", other, "metric 1")
    assert guarded.healed()
    assert len(guarded.ip("route show table local", guarded.family.vip).splitlines()) == 1


def test_a_lost_address_is_told_once_and_its_return_heals(guarded: Guarded) -> None:
    family = guarded.family
    guarded.ip("address del", f"{family.source}/{family.prefix} dev ens32")
    assert until(lambda: len(guarded.status()["open"]) == 1, 6)
    told = guarded.status()["open"][0]
    assert f"{family.source} is on no card of this host any more; ens32 has {family.other}" in told
    time.sleep(2.2)
    assert len([line for line in guarded.said() if "any more" in line]) == 1
    guarded.ip("address add", f"{family.source}/{family.prefix} dev ens32", "nodad" if ":" in family.source else "")
    assert guarded.healed()
    assert until(lambda: guarded.status()["open"] == [], 2)
    assert guarded.said()[-1].endswith("is back") or guarded.said()[-2].endswith("is back")


def test_a_vip_on_a_card_belongs_to_somebody_else(guarded: Guarded) -> None:
    family = guarded.family
    address = f"address {{}} {family.vip}/{128 if ':' in family.vip else 32} dev ens32"
    guarded.ip(
        address.format("add"), "nodad" if ":" in family.vip else ""
    )  # in IPv4 ours stands before the kernel's route for it, so nothing is wrong yet
    time.sleep(0.3)
    count = guarded.status()["repairs"]
    # In IPv6 the kernel's route for the address has taken the place of ours, so there may be none to delete.
    guarded.space.run("sh", "-c", f"ip {family.option} route del {family.route} || true")
    assert until(lambda: any("is an address of ens32 now" in line for line in guarded.said()), 6)
    time.sleep(1.2)
    assert guarded.status()["repairs"] == count
    guarded.ip(address.format("del"))
    assert guarded.healed()
    assert guarded.status()["open"] == []


def test_who_changes_it_back_each_time_is_told_once(guarded: Guarded) -> None:
    """Another owner, as fast as the guard. After some rounds the guard stands back and is silent."""
    for _round in range(guard.FIGHT - 1):  # the first repair was at the start
        guarded.ip("route del", guarded.family.route)
        assert guarded.healed()
    assert until(lambda: "somebody else wants it otherwise" in guarded.said()[-1], SOON)
    lines = len(guarded.said())
    guarded.ip("route del", guarded.family.route)
    assert not guarded.healed(guard.FIRST_WAIT / 2)
    assert guarded.healed(guard.FIRST_WAIT + guard.TICK)
    assert len(guarded.said()) == lines
    assert guarded.status()["clashes"] == ["route"]


def test_memory_is_small_and_flat(guarded: Guarded) -> None:
    start = guarded.memory()
    for _round in range(guard.FIGHT - 1):
        guarded.ip("route replace", guarded.family.route, "src", guarded.family.other)
        assert guarded.healed()
    end = guarded.memory()
    print(f"guard: {start} kB at first, {end} kB after {guard.FIGHT - 1} repairs")
    assert end < 16 * 1024
    assert end - start < 1024


def test_one_guard_keeps_the_routes_of_both_families(tmp_path: Path) -> None:
    with running(tmp_path, list(FAMILIES.values()), ["first.json", "second.json"]) as hosts:
        for host in hosts:
            host.ip("route del", host.family.route)
            assert host.healed()


def test_both_families_are_healed_whatever_comes_when(tmp_path: Path) -> None:
    """As many faults in each family as the guard repairs in a minute before it takes them for a quarrel."""
    with running(tmp_path, list(FAMILIES.values()), ["first.json", "second.json"]) as hosts:
        faults = [(host, fault) for host in hosts for fault in ("gone", "other source") for _turn in range(4)]
        random.shuffle(faults)
        for host, fault in faults:
            if fault == "gone":
                host.ip("route del", host.family.route)
            else:
                host.ip("route replace", host.family.route, "src", host.family.other)
            assert until(lambda: all(one.source() == one.family.source for one in hosts), SOON), (host.family, fault)
        statuses = [json.loads((tmp_path / name).read_text(encoding="utf-8")) for name in ("first.json", "second.json")]
        assert [(status["repairs"], status["clashes"]) for status in statuses] == [(9, []), (9, [])]
