# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What tools and files say, on recorded output."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ansible_collections.multinic.kubernetes.plugins.module_utils import _facts
from ansible_collections.multinic.kubernetes.plugins.module_utils._net import HostNetwork
from ansible_collections.multinic.kubernetes.tests.unit.network_hosts import recorded


def link(name: str, of: str) -> dict[str, Any]:
    return next(item for item in recorded(of)["links"] if item["name"] == name)


@pytest.mark.parametrize(
    ("of", "name", "expected"),
    [
        ("bond-vlan", "bond0.100", {"kind": "vlan", "parent": "bond0", "mtu": 9000, "master": None}),
        ("bond-vlan", "bond0", {"kind": "bond", "parent": None, "up": True}),
        ("bond-vlan", "ens4", {"kind": "", "master": "bond0"}),
        ("bridge-docker", "br0", {"kind": "bridge", "carrier": True}),
        ("bridge-docker", "docker0", {"kind": "bridge", "carrier": False}),
        ("member", "kube-ipvs0", {"kind": "dummy", "up": False}),
        ("member", "veth1234", {"kind": "veth", "parent": None, "master": "cni0"}),
        ("vpn", "tailscale0", {"kind": "tun", "mac": ""}),
        ("two-cards", "lo", {"kind": "loopback", "mac": ""}),
        ("card-down", "ens4", {"up": False, "carrier": False}),
        ("macvlan", "macvlan0", {"kind": "macvlan", "parent": "ens3"}),
    ],
)
def test_links(of: str, name: str, expected: dict[str, Any]) -> None:
    found = link(name, of)
    assert {key: found[key] for key in expected} == expected


def test_the_other_end_of_a_veth_may_be_elsewhere() -> None:
    item = {"linkinfo": {"info_kind": "veth"}, "link_index": 2}
    text = json.dumps([{"ifname": "a", **item, "link_netnsid": 0}, {"ifname": "b", **item, "link": "c"}])
    assert [found["far_end"] for found in _facts.parse_links(text)] == [True, False]


def test_secondary_address_is_told() -> None:
    addresses = [item for item in link("ens4", "secondary")["addresses"] if item["family"] == 4]
    assert [(item["address"], item["secondary"]) for item in addresses] == [("10.20.0.5", False), ("10.20.0.50", True)]


def test_point_to_point_address_has_no_neighbours() -> None:
    assert [item["prefix"] for item in link("ens4", "peer-multipath")["addresses"] if item["family"] == 4] == [32]


def test_an_address_that_is_not_ready_or_on_its_way_out_is_told() -> None:
    told = {
        item["address"]: (item["secondary"], item["deprecated"])
        for item in link("ens4", "ipv6-states")["addresses"]
        if item["scope"] == "global"
    }
    temporary = next(address for address in told if address.startswith("fd00:20:0:1:"))
    assert told == {
        "fd00:20::3": (False, True),  # tentative
        temporary: (True, False),
        "fd00:20:0:1::5": (False, False),
        "fd00:20::5:5": (False, False),
        "fd00:20::9": (False, True),  # deprecated
    }


def test_a_rule_without_a_table_has_its_action() -> None:
    told = [(item["priority"], item["table"], item["fwmark"]) for item in recorded("tailscale")["rules"]]
    assert told[:5] == [
        (0, "local", None),
        (5210, "main", "0x80000"),
        (5230, "default", "0x80000"),
        (5250, "unreachable", "0x80000"),
        (5270, "52", None),
    ]


def test_each_way_of_a_multipath_default_is_a_route() -> None:
    assert HostNetwork.from_facts(recorded("multipath-default")).default_devices(4) == ("ens3", "ens4")
    assert HostNetwork.from_facts(recorded("metrics")).default_devices(4) == ("ens3", "ens4")


def test_files_add_speed_duplex_and_filter() -> None:
    text = json.dumps([{"ifname": "a"}, {"ifname": "b"}])
    cards = {"a": _facts.CardFiles("10000\n", "full\n", "2\n"), "b": _facts.CardFiles("-1\n", "unknown\n", "")}
    told = [(item["speed_mbps"], item["duplex"], item["rp_filter"]) for item in _facts.parse_links(text, cards)]
    assert told == [(10000, "full", 2), (None, None, None)]


@pytest.mark.parametrize("text", ["", "[]", "[{}]", "\n"])
def test_no_output_is_no_card(text: str) -> None:
    assert _facts.parse_links(text) == []
    assert _facts.parse_routes(text, 4) == []


def test_routes_have_networks_and_every_way() -> None:
    routes = recorded("peer-multipath")["routes"]
    assert [item["gateway"] for item in routes if item["dst"] == "10.30.0.0/16"] == ["192.0.2.2", "192.0.2.3"]
    assert {item["type"] for item in routes if item["dst"] == "10.40.0.0/16"} == {"unreachable"}
    assert [item["dst"] for item in routes if item["gateway"] == "192.0.2.1"] == ["0.0.0.0/0"]
    assert not any(item["type"] in {"broadcast", "multicast"} for item in routes)


def test_the_vips_own_route_is_seen() -> None:
    (route,) = [item for item in recorded("member")["routes"] if item["dst"] == "10.103.97.2/32"]
    assert (route["type"], route["table"], route["dev"], route["source"]) == ("local", "local", "lo", "10.20.0.5")


def test_default_routes_by_metric() -> None:
    assert HostNetwork.from_facts(recorded("two-defaults")).default_devices(4) == ("ens3", "ens4")
    assert HostNetwork.from_facts(recorded("no-default")).default_devices(4) == ()
    assert HostNetwork.from_facts(recorded("ipv6-only")).default_devices(6) == ("ens3",)


def test_policy_rules() -> None:
    rules = recorded("policy-rules")["rules"]
    assert {"from": "10.20.0.5", "table": "100", "priority": 1000}.items() <= rules[1].items()


def test_lookups_keep_their_targets_whatever_fails() -> None:
    assert recorded("no-default")["lookups"] == {
        "10.20.0.1": {"dev": "ens4", "source": "10.20.0.5", "gateway": None},
        "8.8.8.8": {"dev": None, "source": None, "gateway": None},
    }


def test_lookup_targets_are_the_addresses_among_the_words() -> None:
    words = [
        "192.168.253.1, ens32",
        "10.0.0.0/8",
        "auto",
        "FD00::1",
        "192.168.253.1",
        "can-reach=10.0.0.9",
        "cidr=10.0.0.1",
    ]
    assert _facts.lookup_targets(words) == ["192.168.253.1", "fd00::1", "10.0.0.9"]
    assert _facts.lookup_targets(["can-reach=gateway.example.org", "interface=^ens32$,ens33"]) == []


PROC_TCP = """  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:192B 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4242 1 0 100 0 0 10 0
   1: 8101A8C0:D431 0101A8C0:0016 01 00000000:00000000 00:00000000 00000000     0        0 4243 1 0 20 4 30 10 -1
"""
PROC_TCP6 = """  sl  local_address                         remote_address                        st tx_queue rx_queue
   0: 00000000000000000000000001000000:280A 00000000000000000000000000000000:0000 0A 0:0 00:0 0 0 0 77 1
"""


def test_listening_sockets() -> None:
    sockets = [*_facts.parse_proc_net(PROC_TCP, "tcp"), *_facts.parse_proc_net(PROC_TCP6, "tcp")]
    assert _facts.listening(sockets, {"4242": "kube-apiserver"}) == [
        {"port": 6443, "protocol": "tcp", "address": "127.0.0.1", "process": "kube-apiserver"},
        {"port": 10250, "protocol": "tcp", "address": "::1", "process": ""},
    ]


def test_small_files() -> None:
    assert _facts.parse_os_release('ID=debian\nVERSION_ID="12"\nX\n') == {"os_id": "debian", "os_version": "12"}
    assert _facts.parse_meminfo("MemFree: 1 kB\nMemTotal:        2048000 kB\n") == 2000
    assert _facts.parse_swaps("Filename Type\n/dev/sda2 partition 1 0 -2\n") == ["/dev/sda2"]
    assert _facts.parse_hosts_file("127.0.1.1 a b # c\n#x y\n::1\n") == [{"address": "127.0.1.1", "names": ["a", "b"]}]
    assert _facts.member_node_name('{"node_name": "n1"}') == "n1"
    assert [_facts.member_node_name(text) for text in ("", "{", "[]", "{}")] == [""] * 4
    assert _facts.member_version('{"kubernetes_version": "v1.20.2"}') == "v1.20.2"
    assert [_facts.member_version(text) for text in ("", "{", "[]", "{}")] == [""] * 4


CHRONY = """\
# Debian's own
pool 2.debian.pool.ntp.org  iburst   # four of them
server 192.0.2.1 key 7 iburst nts
refclock PHC /dev/ptp0 poll 3
! server commented.example
#server commented.example
keyfile /etc/chrony/chrony.keys
"""
TIMESYNCD = "[Time]\n{}NTP=a.example b.example\n#FallbackNTP=0.pool.example 1.pool.example\n"


@pytest.mark.parametrize(
    ("files", "daemon", "sources"),
    [
        (
            {
                "/etc/chrony/chrony.conf": CHRONY,
                "/etc/chrony/sources.d/x.sources": "server 192.0.2.1\npeer p.example\n",
            },
            "chrony",
            [
                "pool 2.debian.pool.ntp.org iburst",
                "server 192.0.2.1 iburst nts",
                "refclock PHC /dev/ptp0 poll 3",
                "peer p.example",
            ],
        ),
        (
            {"/etc/ntp.conf": "server 127.127.1.0\nserver n.example prefer\npool p.example\nrestrict ::1\n"},
            "ntpd",
            ["server n.example iburst", "pool p.example iburst"],
        ),
        (
            {"/etc/systemd/timesyncd.conf": TIMESYNCD.format("")},
            "systemd-timesyncd",
            ["server a.example iburst", "server b.example iburst"],
        ),
        (
            {"/etc/systemd/timesyncd.conf": TIMESYNCD.format("#")},
            "systemd-timesyncd",
            ["server 0.pool.example iburst", "server 1.pool.example iburst"],
        ),
        ({"/etc/systemd/timesyncd.conf": TIMESYNCD.format("#")}, "chrony", []),
        ({}, "", []),
    ],
    ids=["chrony", "ntpd", "timesyncd", "timesyncd's own", "timesyncd is not used", "nothing"],
)
def test_time_sources(files: dict[str, str], daemon: str, sources: list[str]) -> None:
    assert _facts.time_sources(files, daemon) == sources


@pytest.mark.parametrize(
    ("units", "ufw", "active"),
    [
        ([], "", "none"),
        (["firewalld.service"], "", "firewalld"),
        (["ufw.service"], "ENABLED=no\n", "none"),
        (["ufw.service"], "ENABLED=yes\n", "ufw"),
    ],
)
def test_firewall(units: list[str], ufw: str, active: str) -> None:
    assert _facts.firewall(units, ufw)["active"] == active


@pytest.mark.parametrize(
    ("paths", "version"),
    [
        ((True, False, True), "v2"),
        ((False, True, True), "hybrid"),
        ((False, False, True), "v1"),
        ((False,) * 3, "none"),
    ],
)
def test_cgroup_version(paths: tuple[bool, bool, bool], version: str) -> None:
    assert _facts.cgroup_version(*paths) == version


def test_active_units_by_our_names() -> None:
    assert _facts.active_among(["chrony.service", "cron.service"], _facts.TIME_DAEMONS) == ["chrony"]


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ('KUBELET_KUBEADM_ARGS="--network-plugin=cni --node-ip=192.168.253.129 --x=y"', "192.168.253.129"),
        ('KUBELET_KUBEADM_ARGS="--node-ip=192.168.253.129,fd00:253::129"', "192.168.253.129,fd00:253::129"),
        ("KUBELET_KUBEADM_ARGS=", ""),
    ],
)
def test_the_address_of_a_member_is_read_from_kubelets_flags(text: str, address: str) -> None:
    assert _facts.kubelet_node_ip(text) == address
