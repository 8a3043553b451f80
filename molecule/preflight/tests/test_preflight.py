# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable

import pytest
from testinfra.host import Host

testinfra_hosts = ["ssh://master1"]

Play = Callable[..., subprocess.CompletedProcess[str]]
Shell = Callable[..., subprocess.CompletedProcess[str]]

LOOK = (
    "ip -o addr; ip route show table all; ip rule; lsmod | cut -d' ' -f1 | sort; iptables-save | grep -v ^#;"
    " find /etc /usr/local /var/lib/multinic /run/systemd/system -type f -printf '%p %T@ %s\\n' 2>/dev/null | sort"
)


def test_good_hosts_pass_and_nothing_is_changed(play: Play, shell: Shell) -> None:
    # Looking for the first time may itself load kernel modules, such as those of iptables-save.
    before = [{name: shell(name, LOOK, 20).stdout for name in ("master1", "node01")} for _look in range(2)][-1]
    assert all("192.168.253" in text for text in before.values())
    done = play("preflight")
    assert done.returncode == 0, done.stdout + done.stderr
    for words in ("192.168.253.129", "192.168.253.131", "10.103.97.2"):
        assert words in done.stdout
    assert {name: shell(name, LOOK, 20).stdout for name in before} == before


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"cluster_network": "10.99.0.0/24"}, ["master1", "node01", "cluster_network", "10.99.0.0/24"]),
        (
            {"apiserver_vip": "192.168.253.200", "pod_cidr": "192.168.0.0/16", "kubernetes_version": "v1.99.0"},
            ["apiserver_vip", "192.168.253.200", "pod_cidr", "192.168.0.0/16", "kubernetes_version", "v1.99.0"],
        ),
    ],
    ids=["one-fault-on-all-hosts", "many-faults-at-once"],
)
def test_bad_input_is_refused(play: Play, variables: dict[str, object], words: list[str]) -> None:
    done = play("preflight", "-e", json.dumps(variables))
    assert done.returncode != 0
    missing = [word for word in words if word not in done.stdout]
    assert not missing, done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr


def test_port_that_is_taken_is_refused(host: Host, play: Play) -> None:
    host.check_output("systemd-run --unit=squatter --collect python3 -m http.server 10250")
    try:
        done = play("preflight")
    finally:
        host.check_output("systemctl stop squatter")
    assert done.returncode != 0
    assert "10250" in done.stdout, done.stdout
    assert "master1" in done.stdout
