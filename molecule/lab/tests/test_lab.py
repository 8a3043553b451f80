# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from pathlib import Path

from testinfra.host import Host

testinfra_hosts = ["ssh://master1", "ssh://node01"]

ADDRESSES = {
    "master1": {"ens33": "192.168.160.243/23", "ens32": "192.168.253.129/24"},
    "node01": {"ens33": "192.168.160.246/23", "ens32": "192.168.253.131/24"},
}


def test_cards_are_those_of_the_inventory(host: Host) -> None:
    name = host.check_output("hostname")
    for card, address in ADDRESSES[name].items():
        assert host.check_output(f"ip -o -4 addr show dev {card} scope global").split()[3] == address
    assert host.check_output("ip -4 route show default").split()[:5] == [
        "default",
        "via",
        "192.168.160.1",
        "dev",
        "ens33",
    ]


def test_reverse_path_filter_is_strict(host: Host) -> None:
    for card in ("all", "ens32", "ens33"):
        assert host.sysctl(f"net.ipv4.conf.{card}.rp_filter") == 1


def test_guest_is_a_debian_with_its_own_kernel(host: Host) -> None:
    assert (host.system_info.distribution, host.system_info.release.split(".")[0]) == ("debian", "12")
    assert host.check_output("systemd-detect-virt --vm") == "uml"
    here = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8")
    assert host.check_output("cat /proc/sys/kernel/random/boot_id") != here.strip()


def test_nothing_leaves_the_lab(host: Host) -> None:
    assert host.run("ping -c 1 -w 10 192.168.160.1").rc == 0
    assert host.run("ping -c 1 -W 2 203.0.113.1").rc != 0
