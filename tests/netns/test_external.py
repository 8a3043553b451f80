# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host finds out about a balancer that is not ours, on real ways: it is on another host of the network."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator

import pytest
from machines import INNER, Lan, lan

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="namespaces are made by root")

NOBODY = f"{INNER}.77"
ELSEWHERE = "198.51.100.10"


@pytest.fixture(scope="module")
def two() -> Iterator[Lan]:
    with lan(2) as built:
        yield built


def answer(lan_: Lan, address: str) -> str:
    host = lan_.machines[0]
    told = host.module(
        "network_probe", interface="ens32", source=host.address, peers=[], external=address, external_port=6443
    )
    return str(told["network_probe"]["external"]["answer"])


def test_nobody_listens(two: Lan) -> None:
    assert answer(two, two.machines[1].address) == "refused"


def test_somebody_listens(two: Lan) -> None:
    inside = ["nsenter", "--net", "--target", str(two.machines[1].space.process.pid)]
    with subprocess.Popen([*inside, "nc", "-lk", two.machines[1].address, "6443"]) as balancer:
        try:
            listening = "for turn in $(seq 50); do ss -Hltn | grep -q 6443 && exit; sleep 0.1; done; exit 1"
            two.machines[1].space.run("sh", "-c", listening)
            assert answer(two, two.machines[1].address) == "open"
        finally:
            balancer.kill()


def test_a_firewall_is_silent(two: Lan) -> None:
    two.machines[1].iptables("-A INPUT -p tcp --dport 6443 -j DROP")
    try:
        assert answer(two, two.machines[1].address) == "silent"
    finally:
        two.machines[1].iptables("-F INPUT")


def test_an_address_that_nobody_has_is_no_silence(two: Lan) -> None:
    """The kernel says so itself, but only after it has asked three times, a second apart."""
    assert answer(two, NOBODY) == "unreachable"


def test_a_network_without_a_route_is_no_silence(two: Lan) -> None:
    two.machines[0].ip("route del default")
    try:
        assert answer(two, ELSEWHERE) == "unreachable"
    finally:
        two.machines[0].ip("route add default via 10.21.0.254")
