# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator

import pytest
from testinfra.host import Host

# What can be done to node01, seen from master1.
testinfra_hosts = ["ssh://master1"]

Shell = Callable[..., subprocess.CompletedProcess[str]]


def answers(host: Host, address: str) -> bool:
    """Whether one of several echo requests is answered: one frame may be lost on a machine that is busy."""
    asked = host.run(f"ping -c 1 -w 10 {address}")
    print(asked.stdout, host.run(f"ip neigh show to {address}; ip -s link").stdout)
    return asked.rc == 0


def is_silent(host: Host, address: str) -> bool:
    return host.run(f"ping -c 3 -i 0.5 -W 1 {address}").rc != 0


@pytest.fixture
def thawed(guest: Callable[..., None]) -> Iterator[None]:
    yield
    guest(guests=["node01"], state="thawed")


@pytest.fixture
def plugged(guest: Callable[..., None]) -> Iterator[None]:
    yield
    guest(guests=["node01"], cards={"ens32": "plugged"})


@pytest.mark.usefixtures("thawed")
def test_frozen_guest_is_dead_until_thawed(host: Host, guest: Callable[..., None], shell: Shell) -> None:
    before = shell("node01", "cat /proc/sys/kernel/random/boot_id").stdout
    assert before
    assert answers(host, "192.168.253.131")
    guest(guests=["node01"], state="frozen")
    assert is_silent(host, "192.168.253.131")
    guest(guests=["node01"], state="thawed")
    assert answers(host, "192.168.253.131")
    assert shell("node01", "cat /proc/sys/kernel/random/boot_id").stdout == before


@pytest.mark.usefixtures("plugged")
def test_unplugged_card_is_silent_and_the_other_is_not(host: Host, guest: Callable[..., None]) -> None:
    guest(guests=["node01"], cards={"ens32": "unplugged"})
    assert is_silent(host, "192.168.253.131")
    assert answers(host, "192.168.160.246")
    guest(guests=["node01"], cards={"ens32": "plugged"})
    assert answers(host, "192.168.253.131")


def test_power_cycle_keeps_the_disk_and_a_new_disk_does_not(guest: Callable[..., None], shell: Shell) -> None:
    before = shell("node01", "cat /proc/sys/kernel/random/boot_id").stdout
    assert shell("node01", "echo kept > /root/kept && sync").returncode == 0
    guest(guests=["node01"], state="power_cycled")
    assert shell("node01", "cat /root/kept").stdout == "kept\n"
    assert shell("node01", "cat /proc/sys/kernel/random/boot_id").stdout not in ("", before)
    guest(guests=["node01"], state="killed")
    guest(guests=["node01"], state="started", fresh=True)
    assert shell("node01", "test ! -e /root/kept").returncode == 0
