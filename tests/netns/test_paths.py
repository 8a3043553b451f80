# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The proof sees what is wrong on real ways: namespaces of this machine as hosts. ``make netns``; root is needed."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import Any

import pytest
from machines import INNER, NETWORK, NETWORK_SIX, OUTER, Lan, Space, lan

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="namespaces are made by root")


@pytest.fixture
def two() -> Iterator[Lan]:
    with lan(2) as built:
        yield built


@pytest.fixture
def three() -> Iterator[Lan]:
    with lan(3) as built:
        yield built


def told(lan: Lan, **settings: Any) -> list[str]:
    return [f"{item.severity} {item.host}: {item.found}" for item in lan.prove(**settings)]


def one(lan: Lan, pattern: str, **settings: Any) -> None:
    """All findings are of the kind that is expected, and there is one."""
    findings = told(lan, **settings)
    assert findings
    assert [text for text in findings if not re.search(pattern, text)] == []


def test_good_ways_pass_and_cost_no_waiting(three: Lan) -> None:
    assert told(three, wait=10) == []
    assert three.seconds < 8, "what is good is not waited for"
    for probe in three.measured.values():
        assert len(probe["peers"]) == 2
        for peer in probe["peers"]:
            assert peer["tcp"].endswith("is refused")
            assert peer["udp"].endswith("is closed")
        vip = probe["lookups"]["10.103.97.2"]
        assert (vip["dev"], vip["source"].rpartition(".")[0]) == ("ens33", OUTER)


DUAL = [NETWORK, NETWORK_SIX]


@pytest.mark.parametrize(("network", "ways"), [(DUAL, 4), (NETWORK_SIX, 2)])
def test_each_family_is_tried(three: Lan, network: Any, ways: int) -> None:
    assert told(three, wait=10, network=network) == []
    assert three.seconds < 8, "what is good is not waited for"
    for probe in three.measured.values():
        assert len(probe["peers"]) == ways
        six = [peer for peer in probe["peers"] if ":" in peer["address"]]
        assert len(six) == 2
        for peer in six:
            assert (peer["milliseconds"], peer["full_milliseconds"]) != (None, None)
            assert peer["tcp"].endswith("is refused")
            assert probe["lookups"][peer["address"]]["source"].startswith("fd00:20::")


def test_a_firewall_for_ipv6_alone_is_told(two: Lan) -> None:
    two.machines[1].ip6tables("-A INPUT -p tcp --dport 6443 -j DROP")
    two.machines[1].ip6tables("-A INPUT -p tcp --dport 10250 -j DROP")
    one(two, r"^error host2: something lets no TCP to fd00:20::2 port 10250 from host1$", network=NETWORK_SIX)
    one(two, r"^warning host2: no TCP passes to fd00:20::2 port 10250 from host1, though", network=DUAL)
    assert told(two) == []


def test_a_way_that_is_lost_in_one_family_is_told(two: Lan) -> None:
    two.machines[1].ip6tables("-A OUTPUT -p icmpv6 --icmpv6-type echo-reply -j DROP")
    two.machines[1].ip6tables("-A INPUT -p tcp -j DROP")
    two.machines[1].ip6tables("-A INPUT -p udp -j DROP")
    findings = told(two, network=DUAL)
    assert "error host1: no answer from fd00:20::1 on ens32 to host2 (fd00:20::2)" in findings
    assert not any("10.20.0" in text for text in findings)


def test_a_black_hole_for_ipv6_is_told_with_the_largest_packet_that_passes(two: Lan) -> None:
    two.machines[1].ip6tables("-A INPUT -i ens32 -m length --length 1401:65535 -j DROP")
    assert (
        "error host1: a packet of 1500 bytes does not pass from fd00:20::1 on ens32 to host2 (fd00:20::2); 1400 bytes do"
        in " ".join(told(two, wait=2, network=DUAL))
    )


def test_a_firewall_that_drops_udp_is_told(two: Lan) -> None:
    two.machines[1].iptables("-A INPUT -p udp -j DROP")
    one(two, r"^warning host2: no UDP passes to 10\.20\.0\.2 port 33434 from host1, though it answers to ICMP$")


def test_a_firewall_that_drops_tcp_is_told(two: Lan) -> None:
    two.machines[1].iptables("-A INPUT -p tcp --dport 10250 -j DROP")
    one(two, r"^error host2: something lets no TCP to 10\.20\.0\.2 port 10250 from host1$")


@pytest.mark.parametrize("how", ["icmp-port-unreachable", "icmp-host-prohibited"])
def test_a_firewall_that_refuses_is_not_taken_for_a_closed_port(two: Lan, how: str) -> None:
    two.machines[1].iptables(f"-A INPUT -p tcp --syn -j REJECT --reject-with {how}")
    one(two, r"^error host2: .* no TCP to 10\.20\.0\.2 port 10250 from host1, and answers with a refusal$")


def test_filtered_icmp_is_told_from_a_lost_way(two: Lan) -> None:
    two.machines[1].iptables("-A INPUT -p icmp --icmp-type echo-request -j DROP")
    one(two, r"^warning host1: no answer to ICMP from 10\.20\.0\.1 on ens32 to host2 .* but TCP answers")


def test_a_lost_way_is_told_in_time(two: Lan) -> None:
    two.switch.ip("link set i2 nomaster")
    one(two, r"^error host[12]: no answer from 10\.20\.0\.\d on ens32 to host[12] ")
    assert two.seconds < 1.2 + 5


def test_its_own_firewall_is_told(two: Lan) -> None:
    two.machines[0].iptables(f"-A OUTPUT -d {INNER}.0/24 -j DROP")
    findings = told(two)
    assert [
        text for text in findings if text.startswith("error host1: its own firewall lets nothing out from 10.20.0.1")
    ]


@pytest.mark.parametrize("limit", [1400, 577])
def test_a_black_hole_is_told_with_the_largest_packet_that_passes(two: Lan, limit: int) -> None:
    """What is larger is dropped without a word, as by a switch with a smaller MTU."""
    two.machines[1].iptables(f"-A INPUT -i ens32 -m length --length {limit + 1}:65535 -j DROP")
    findings = told(two, wait=2)
    assert (
        f"error host1: a packet of 1500 bytes does not pass from 10.20.0.1 on ens32 to host2 (10.20.0.2); {limit} bytes "
        in (" ".join(findings))
    )
    assert "black hole" in findings[0]


def test_jumbo_frames_that_a_bridge_drops_are_told(two: Lan) -> None:
    for machine in two.machines:
        two.switch.ip(f"link set i{machine.number} mtu 9000")
        machine.ip("link set ens32 mtu 9000")
    two.switch.ip("link set i2 mtu 4000")  # a bridge drops what is too large for the port it leaves by
    assert any(
        "a packet of 9000 bytes does not pass from 10.20.0.1 on ens32 to host2" in text for text in told(two, wait=2)
    )
    assert two.measured["host1"]["peers"][0]["largest"] == 4000


def test_a_router_that_tells_its_mtu_is_named(two: Lan) -> None:
    """The hosts are on networks of their own, with a router between them whose second card takes 1400 bytes."""
    router = Space()
    try:
        two.plug(router, "inner", "r0", "ri")
        router.ip("link set r0 up", f"address add {INNER}.254/24 dev r0")
        router.run("sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv4.conf.all.send_redirects=0")
        router.run("sysctl", "-qw", "net.ipv4.conf.r0.send_redirects=0")
        for machine, other in zip(two.machines, reversed(two.machines)):
            machine.ip(f"route add {other.address}/32 via {INNER}.254")
        router.ip(f"route add {INNER}.2/32 dev r0 mtu lock 1400")
        findings = told(two, wait=2)
        assert any("1400 bytes do (10.20.0.254 tells that 1400 bytes fit)" in text for text in findings), findings
    finally:
        router.close()


def test_an_address_that_somebody_else_has_is_told(two: Lan) -> None:
    """The twin is no host of the inventory."""
    twin = Space()
    try:
        two.plug(twin, "inner", "eth0", "twin")
        twin.ip("link set eth0 up", f"address add {INNER}.2/24 dev eth0")
        mac = twin.run("cat", "/sys/class/net/eth0/address").strip()
        findings = told(two)
        assert f"error host2: {mac}, no card of host2, answers for 10.20.0.2 on ens32" in findings
    finally:
        twin.close()


def test_two_cards_on_one_wire_are_told(two: Lan) -> None:
    two.switch.ip("link set o2 master inner")
    findings = told(two)
    assert "warning host2: its card ens33 answers for 10.20.0.2, the address of ens32: both are on one wire" in findings


def test_answers_that_come_back_by_the_other_card_are_told(two: Lan) -> None:
    """host2 answers host1 by its other card, where host1's strict filter drops what it gets. Its ARP is in order."""
    for machine in two.machines:
        machine.sysctl(
            "net.ipv4.conf.all.rp_filter=0", "net.ipv4.conf.ens33.rp_filter=1", "net.ipv4.conf.ens32.rp_filter=0"
        )
    two.machines[1].sysctl("net.ipv4.conf.all.arp_announce=2")
    two.machines[1].ip(f"route add {INNER}.1/32 via {OUTER}.1 dev ens33")
    findings = told(two)
    assert any("host1: the answers come back by ens33, not by ens32" in text for text in findings), findings
    assert any("the strict reverse path filter of ens33 drops them" in text for text in findings), findings
    assert any(
        "host2: to host1 (10.20.0.1) the kernel takes ens33 with 10.21.0.2, not ens32" in text for text in findings
    )


def test_a_strict_filter_on_an_asymmetric_way_is_told(two: Lan) -> None:
    """host2 has its way to host1 by the other card, so its strict filter drops what comes in by the cluster's."""
    two.machines[1].sysctl("net.ipv4.conf.all.rp_filter=1")
    two.machines[1].ip(f"route add {INNER}.1/32 via {OUTER}.1 dev ens33")
    findings = two.prove()
    assert any(item.host == "host1" and item.found.startswith("no answer from 10.20.0.1") for item in findings)
    assert any(item.host == "host2" and "strict reverse path filter" in item.why for item in findings)


def test_a_policy_rule_that_sends_answers_another_way_is_told(two: Lan) -> None:
    two.machines[1].ip(f"rule add from {INNER}.2 table 7", f"route add default via {OUTER}.254 dev ens33 table 7")
    findings = told(two)
    assert any("host2: answers from 10.20.0.2 to host1 (10.20.0.1) would leave by ens33" in text for text in findings)


def test_two_hundred_peers_cost_little_time_and_none_is_missed(two: Lan) -> None:
    """All of them are addresses of one kernel, which tells one asker of few closed ports; for 200 hosts that is another's
    limit each. The limit for all together, 1000 a second, stays."""
    host, many = two.machines
    many.sysctl("net.ipv4.icmp_ratelimit=0")
    many.ip(*(f"address add {INNER}.{number}/24 dev ens32" for number in range(10, 209)))
    peers = [
        {"name": f"h{number}", "address": f"{INNER}.{number}", "ports": [179, 6443, 10250], "udp_ports": [33434]}
        for number in range(10, 209)
    ]
    answer = host.module("network_probe", interface="ens32", source=host.address, peers=peers)["network_probe"]
    assert answer["trouble"] == ""
    good = [peer for peer in answer["peers"] if peer["full_milliseconds"] and not peer["blocked"] + peer["blocked_udp"]]
    assert len(good) == 199
    assert max(peer["milliseconds"] for peer in good) < 1000
