# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the measurements mean."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.multinic.kubernetes.plugins.module_utils import _probe
from ansible_collections.multinic.kubernetes.plugins.module_utils._findings import Finding
from ansible_collections.multinic.kubernetes.plugins.module_utils._plan import plan_cluster
from ansible_collections.multinic.kubernetes.tests.unit.network_hosts import (
    MANIFEST,
    bundle,
    card,
    seed_cluster,
    seed_facts,
)

PLAN = plan_cluster(seed_cluster(), {}, bundle()).plan


def measured(name: str, offset: float = 0.0, **more: Any) -> dict[str, Any]:
    """What a host measures when all is well."""
    arguments = _probe.probe_arguments(PLAN, name)
    return {
        "peers": [
            {
                **peer,
                "milliseconds": 0.3,
                "full_milliseconds": 0.5,
                "largest": peer["size"],
                "tcp": "port 179 is refused",
            }
            for peer in arguments["peers"]
        ],
        "lookups": {
            peer["address"]: {"dev": arguments["interface"], "source": arguments["source"], "gateway": None}
            for peer in arguments["peers"]
        },
        "kernel_modules": dict.fromkeys(arguments["kernel_modules"], True),
        "commands": {**dict.fromkeys(arguments["commands"], True), "dockerd": False},
        "cni_plugins": dict.fromkeys(arguments["cni_plugins"], True),
        "foreign_files": [],
        "systemd": 252,
        "clock": {"offset_seconds": offset, "uncertainty_seconds": 0.02},
        "trouble": "",
        **more,
    }


def judge(
    changed_facts: dict[str, Any] | None = None,
    changed_probe: dict[str, Any] | None = None,
    probes: dict[str, dict[str, Any]] | None = None,
) -> list[Finding]:
    """The verdict on four good hosts, of which node01 or some measurements are changed."""
    facts = {host.name: dict(host.facts or {}) for host in seed_cluster()}
    facts["node01"].update(changed_facts or {})
    measurements = {name: measured(name) for name in PLAN["hosts"]}
    measurements["node01"].update(changed_probe or {})
    measurements.update(probes or {})
    return _probe.judge(PLAN, facts, measurements, {})


def peer(**more: Any) -> dict[str, Any]:
    """node01's peers, the first of which is as told."""
    peers = measured("node01")["peers"]
    return {"peers": [{**peers[0], **more}, *peers[1:]]}


def test_all_is_well() -> None:
    assert judge() == []


DUAL = {name: f"fd00:253::{node['address'].rpartition('.')[2]}" for name, node in PLAN["hosts"].items()}


def dual_plan(**more: Any) -> dict[str, Any]:
    cards = {
        name: {"links": [card("ens32", f"{node['address']}/24", f"{DUAL[name]}/64")]}
        for name, node in PLAN["hosts"].items()
    }
    return plan_cluster(seed_cluster(["192.168.253.0/24", "fd00:253::/64"], **cards), more, bundle()).plan


def test_each_family_has_its_own_ways() -> None:
    arguments = _probe.probe_arguments(dual_plan(), "node01")
    assert (arguments["source"], arguments["further_sources"]) == ("192.168.253.131", [DUAL["node01"]])
    assert (arguments["vip"], arguments["further_vips"]) == ("10.103.97.2", ["fd00:10:103:97::2"])
    ports = {peer["address"]: peer["ports"] for peer in arguments["peers"]}
    assert len(ports) == 6
    assert ports["192.168.253.129"] == ports["fd00:253::129"] == [179, 6443]
    ports = {peer["address"]: peer["ports"] for peer in _probe.probe_arguments(dual_plan(), "master1")["peers"]}
    # kubelet and etcd are asked at the primary address alone.
    assert ports["192.168.253.128"] == [179, 2379, 2380, 6443, 10250]
    assert ports["fd00:253::128"] == [179, 6443]
    only_four = _probe.probe_arguments(dual_plan(apiserver_vip="10.103.97.2"), "node01")
    assert {peer["address"]: peer["ports"] for peer in only_four["peers"]}["fd00:253::129"] == [179]


@pytest.mark.parametrize(
    ("changed", "where", "found"),
    [
        ({"milliseconds": None, "full_milliseconds": None, "tcp": ""}, "node01", f"no answer from {DUAL['node01']} on"),
        ({"full_milliseconds": None, "largest": 1400}, "node01", f"does not pass from {DUAL['node01']} on ens32"),
        ({"blocked": [6443]}, "master1", f"something lets no TCP to {DUAL['master1']} port 6443 from node01"),
    ],
)
def test_the_second_family_is_judged_by_its_own_addresses(changed: dict[str, Any], where: str, found: str) -> None:
    plan = dual_plan()
    probes: dict[str, Any] = {}
    for name in plan["hosts"]:
        arguments = _probe.probe_arguments(plan, name)
        good = {"milliseconds": 0.3, "full_milliseconds": 0.5, "tcp": "port 179 is refused"}
        peers = [{**peer, **good, "largest": peer["size"]} for peer in arguments["peers"]]
        for peer in peers if name == "node01" else ():
            peer.update(changed if peer["address"] == DUAL["master1"] else {})
        probes[name] = {**measured(name), "peers": peers, "lookups": {}}
    facts = {host.name: dict(host.facts or {}) for host in seed_cluster()}
    (finding,) = _probe.judge(plan, facts, probes, {})
    assert (finding.severity, finding.host) == ("error", where)
    assert found in finding.found


def listen(port: int, process: str = "nginx", protocol: str = "tcp") -> dict[str, Any]:
    return {"listening": [{"port": port, "process": process, "protocol": protocol, "address": "127.0.0.1"}]}


OURS = {"kubernetes": {"member": False, "ours": True}}
MEMBER = {"kubernetes": {"member": True, "ours": True}}
SILENT = {"milliseconds": None, "full_milliseconds": None, "largest": None, "tcp": "", "udp": ""}
LOOKUP = {"192.168.253.129": {"dev": "ens33", "source": "192.168.160.246", "gateway": None}}
OTHER_SOURCE = {"192.168.253.129": {"dev": "ens32", "source": "192.168.253.200", "gateway": None}}

CASES: list[tuple[str, dict[str, Any], dict[str, Any], str, str]] = [
    (
        "silent peer",
        {},
        peer(**SILENT),
        "error",
        "no answer from 192.168.253.131 on ens32 to master1 (192.168.253.129)",
    ),
    (
        "ICMP is filtered",
        {},
        peer(**{**SILENT, "tcp": "port 22 is open"}),
        "warning",
        "but TCP answers (port 22 is open)",
    ),
    ("the path drops big packets", {}, peer(full_milliseconds=None, largest=1400), "error", "1500 bytes does not pass"),
    ("no packet could be sent", {}, {"trouble": "Operation not permitted"}, "error", "Operation not permitted"),
    ("the kernel takes the other card", {}, {"lookups": LOOKUP}, "error", "takes ens33 with 192.168.160.246"),
    ("the kernel takes another source", {}, {"lookups": OTHER_SOURCE}, "warning", "not 192.168.253.131"),
    ("a module is missing", {}, {"kernel_modules": {"ip_vs": False, "overlay": True}}, "error", "has no ip_vs"),
    (
        "a command is missing and no package brings it",
        {},
        {"commands": {"runc": False, "ip": True, "dockerd": False}, "cni_plugins": {"bridge": False, "portmap": True}},
        "error",
        "it lacks the commands runc and the network plugins bridge",
    ),
    ("an old systemd", {}, {"systemd": 239}, "error", "its systemd is version 239"),
    (
        "containerd of somebody else",
        {},
        {"foreign_files": ["/etc/x"]},
        "warning",
        "/etc/x was written by somebody else",
    ),
    ("Docker", {}, {"commands": {"dockerd": True}}, "warning", "Docker is installed"),
    ("kubelet's port is taken", listen(10250), {}, "error", "port 10250 is taken by nginx"),
    ("swap", {"system": {"swap": ["/dev/sda2"]}}, {}, "info", "swap is on (/dev/sda2)"),
    ("no cgroups", {"system": {"cgroup": "none"}}, {}, "error", "no cgroups"),
    ("no systemd", {"system": {"init": "runit"}}, {}, "error", "its init is runit"),
    ("little disk", {"disk": {"free_mb": 3000, "path": "/var/lib"}}, {}, "warning", "3000 MiB are free in /var/lib"),
    ("no disk", {"disk": {"free_mb": 300, "path": "/var/lib"}}, {}, "error", "300 MiB are free in /var/lib"),
    ("Debian's line", {"hosts_file": [{"address": "127.0.1.1", "names": ["node01"]}]}, {}, "info", "will be replaced"),
    ("loopback", {"hosts_file": [{"address": "127.0.0.1", "names": ["node01"]}]}, {}, "warning", "'127.0.0.1 node01'"),
    ("no time daemon", {"clock": {"daemon": ""}}, {}, "info", "no time daemon runs"),
]


@pytest.mark.parametrize(
    ("facts", "probe", "severity", "found"), [case[1:] for case in CASES], ids=[c[0] for c in CASES]
)
def test_trouble_is_told(facts: dict[str, Any], probe: dict[str, Any], severity: str, found: str) -> None:
    (finding,) = judge(facts, probe)
    assert (finding.severity, finding.host) == (severity, "node01")
    assert found in finding.found
    assert finding.why


@pytest.mark.parametrize(
    "facts",
    [
        listen(6443),
        listen(10250, protocol="udp"),
        {**listen(10250, "kubelet"), **OURS},
        {**listen(10250, "kubelet"), **MEMBER},
        {**MEMBER, "disk": {"free_mb": 300}, "clock": {"daemon": ""}},
        {"hosts_file": [{"address": "127.0.0.1", "names": ["localhost"]}, {"address": "what", "names": ["node01"]}]},
    ],
    ids=["not a worker's port", "udp", "of an unfinished run", "of a member", "a member's disk", "localhost"],
)
def test_no_trouble(facts: dict[str, Any]) -> None:
    assert judge(facts) == []


def test_the_apiservers_port_is_the_plans() -> None:
    node = PLAN["hosts"]["master1"]
    assert set(_probe.needed_ports(PLAN, node)) == {2379, 2380, 6443, 10250, 10257, 10259}
    other = {**PLAN, "apiserver": {**PLAN["apiserver"], "port": 7443}}
    assert 7443 in _probe.needed_ports(other, node)
    assert 6443 not in _probe.needed_ports(other, node)


def test_a_missing_command_is_no_trouble_where_a_package_brings_it() -> None:
    manifest = {**MANIFEST, "parts": [{"kind": "package", "distribution": "debian-12"}]}
    planned = plan_cluster(seed_cluster(), {}, bundle(manifest)).plan
    facts = {host.name: dict(host.facts or {}) for host in seed_cluster()}
    probes = {name: measured(name, commands={"runc": False}) for name in planned["hosts"]}
    assert _probe.judge(planned, facts, probes, {}) == []


def walled(wall: str, **more: Any) -> dict[str, Any]:
    facts = {"firewall": {"active": wall}, **more}
    return plan_cluster(seed_cluster(node01=facts, master2=facts), {}, bundle()).plan


def test_every_pair_tries_tcp_and_udp_and_the_ports_that_it_needs() -> None:
    tried = {peer["name"]: peer["ports"] for peer in _probe.probe_arguments(PLAN, "master1")["peers"]}
    masters = [179, 2379, 2380, 6443, 10250]
    assert tried == {"master2": masters, "master3": masters, "node01": [179, 10250]}
    of_worker = _probe.probe_arguments(PLAN, "node01")["peers"]
    assert {tuple(peer["ports"]) for peer in of_worker} == {(179, 6443)}
    bare = {**PLAN, "cni": {**PLAN["cni"], "name": "none", "encapsulation": "none"}, "time": {}}
    bare["hosts"] = {name: {**node, "role": "worker"} for name, node in PLAN["hosts"].items()}
    lonely = _probe.probe_arguments(bare, "node01")["peers"]
    assert {(tuple(peer["ports"]), tuple(peer["udp_ports"])) for peer in lonely} == {((10250,), (33434,))}


def test_udp_ports_are_those_of_vxlan_and_of_the_time() -> None:
    vxlan = {**PLAN, "cni": {**PLAN["cni"], "encapsulation": "vxlan"}, "time": {"serving": ["master1"]}}
    ports = {peer["name"]: peer["udp_ports"] for peer in _probe.probe_arguments(vxlan, "node01")["peers"]}
    assert ports == {"master1": [123, 4789], "master2": [4789], "master3": [4789]}


def test_only_control_planes_measure_their_disk_and_only_the_first_asks_the_cluster() -> None:
    arguments = {name: _probe.probe_arguments(PLAN, name) for name in PLAN["hosts"]}
    assert [name for name, some in arguments.items() if some["etcd_folder"]] == ["master1", "master2", "master3"]
    assert [name for name, some in arguments.items() if some["cluster_nodes"]] == ["master1"]
    assert {some["vip"] for some in arguments.values()} == {"10.103.97.2"}


def blocked(**more: Any) -> list[Finding]:
    """The verdict when all others try node01, as told."""
    probes = {name: measured(name) for name in PLAN["hosts"]}
    for name in ("master1", "master2", "master3"):
        for peer in probes[name]["peers"]:
            if peer["name"] == "node01":
                peer.update(more)
    return judge(probes=probes)


def test_tcp_that_is_silent_while_icmp_answers_is_told_with_the_host_that_keeps_silent() -> None:
    (finding,) = blocked(blocked=[10250])
    assert (finding.severity, finding.host) == ("error", "node01")
    assert "no TCP to 192.168.253.131 port 10250 from master1, master2, master3" in finding.found
    assert "refusal" not in finding.found


def test_who_has_the_others_address_too_has_tried_itself() -> None:
    twice = {"links": [card("ens32", "192.168.253.131/24", "192.168.253.129/24")]}  # node01, and master1's address
    probes = {name: measured(name) for name in PLAN["hosts"]}
    for peer in probes["node01"]["peers"]:
        peer["blocked_udp"] = [123] if peer["name"] == "master1" else []
    assert [finding.host for finding in judge(probes=probes)] == ["master1"]
    assert judge(twice, probes=probes) == []


def test_a_firewall_that_refuses_is_told() -> None:
    (finding,) = blocked(blocked=[10250], rejected=[10250])
    assert "and answers with a refusal" in finding.found


def test_a_port_that_nobody_needs_is_a_warning() -> None:
    (finding,) = blocked(blocked_udp=[33434])
    assert (finding.severity, finding.host) == ("warning", "node01")
    assert "no UDP passes to 192.168.253.131 port 33434" in finding.found


@pytest.mark.parametrize(
    "facts", [MEMBER, {"listening": [{"port": 33434, "protocol": "udp", "address": "::", "process": "x"}]}]
)
def test_a_udp_port_that_somebody_listens_at_need_not_answer(facts: dict[str, Any]) -> None:
    probes = {name: measured(name) for name in PLAN["hosts"]}
    for peer in probes["master1"]["peers"]:
        peer["blocked_udp"] = [33434] if peer["name"] == "node01" else []
    assert judge(facts, probes=probes) == []


def test_answers_that_come_back_by_another_card_are_told() -> None:
    links = [card("ens32", "192.168.253.131/24"), card("ens33", "192.168.160.246/23", rp_filter=1)]
    (finding,) = judge({"links": links}, peer(**SILENT, seen_on="ens33"))
    assert finding.severity == "error"
    assert "the answers come back by ens33, not by ens32" in finding.found
    assert "the strict reverse path filter of ens33 drops them" in finding.found


def test_an_asymmetric_answer_by_a_policy_rule_is_told() -> None:
    replies = {"192.168.253.129": {"dev": "ens33", "source": "192.168.253.131", "gateway": None}}
    (finding,) = judge({}, {"replies": replies})
    assert "answers from 192.168.253.131 to master1 (192.168.253.129) would leave by ens33" in finding.found


@pytest.mark.parametrize(
    ("lookup", "severity", "found"),
    [
        (
            {"dev": "ens33", "source": "192.168.160.246"},
            "info",
            "before its route is set, requests to 10.103.97.2 leave by ens33, not by ens32",
        ),
        ({"dev": "ens32", "source": "192.168.253.131"}, "", ""),
        ({"dev": "lo", "source": "192.168.253.131"}, "", ""),
        ({"dev": "lo", "source": "10.103.97.2"}, "error", "is local to the host, with the source 10.103.97.2"),
        ({"dev": None, "source": None}, "", ""),
    ],
)
def test_the_way_to_the_vip(lookup: dict[str, Any], severity: str, found: str) -> None:
    findings = judge({}, {"lookups": {**measured("node01")["lookups"], "10.103.97.2": lookup}})
    assert [item.severity for item in findings] == ([severity] if severity else [])
    assert all(found in item.found for item in findings)


OWN, OTHER, STRANGER = "52:54:00:00:20:31", "52:54:00:00:33:31", "52:54:00:00:00:99"
WITH_MACS = {
    "links": [card("ens32", "192.168.253.131/24", mac=OWN), card("ens33", "192.168.160.246/23", mac=OTHER)],
}


@pytest.mark.parametrize(
    ("arp", "severity", "found"),
    [
        ({"192.168.253.131": [STRANGER]}, "error", f"{STRANGER}, no card of node01, answers for 192.168.253.131"),
        ({"192.168.253.131": [OTHER]}, "warning", "its card ens33 answers for 192.168.253.131"),
        ({"192.168.253.131": [OWN]}, "", ""),
        ({"192.168.253.129": [STRANGER, OWN]}, "", ""),  # nothing is known of master1's cards
        ({"192.168.253.77": [STRANGER, OWN]}, "", ""),
    ],
)
def test_who_answers_for_an_address(arp: dict[str, list[str]], severity: str, found: str) -> None:
    findings = judge(WITH_MACS, {"arp": arp})
    assert [item.severity for item in findings] == ([severity] if severity else [])
    assert all(found in item.found for item in findings)


def test_its_own_firewall_is_told() -> None:
    (finding,) = judge({}, peer(**SILENT, forbidden=True, blocked=[6443]))
    assert "its own firewall lets nothing out" in finding.found


def test_a_router_that_tells_is_no_black_hole() -> None:
    (finding,) = judge({}, peer(full_milliseconds=None, largest=1400, limit="10.0.0.1 tells that 1400 bytes fit"))
    assert "1400 bytes do (10.0.0.1 tells that 1400 bytes fit)" in finding.found
    (finding,) = judge({}, peer(full_milliseconds=None, largest=1400))
    assert "a black hole" in finding.found


def test_a_sample_is_told() -> None:
    node = PLAN["hosts"]["node01"]
    hosts = {f"h{number}": {**node, "address": f"10.1.{number // 250}.{number % 250}"} for number in range(201)}
    plan = {**PLAN, "hosts": hosts}
    assert len(_probe.probe_arguments(plan, "h0")["peers"]) == 8
    (finding,) = _probe.judge(plan, {}, {"h0": {"peers": [{**measured("node01")["peers"][0], "name": "h1"}] * 8}}, {})
    assert finding.severity == "info"
    assert "a sample of the ways was tried: each of the 201 hosts tried 8 to 8 others" in finding.found


@pytest.mark.parametrize(
    ("wall", "blocked", "severity", "do"),
    [
        ("ufw", [2379, 6443], "error", "ufw allow from 192.168.253.0/24; ufw allow from 100.64.0.0/10"),
        ("firewalld", [2379], "error", "--zone=trusted --add-source=192.168.253.0/24 --add-source=100.64.0.0/10"),
        ("nftables", [2379], "error", "what comes from 192.168.253.0/24 and 100.64.0.0/10"),
        ("ufw", [], "warning", "ufw default allow routed"),
        ("nftables", [], "", ""),
    ],
)
def test_a_firewall_is_told_with_what_it_blocks_and_how_to_open_it(
    wall: str, blocked: list[int], severity: str, do: str
) -> None:
    planned = walled(wall)
    facts = {host.name: dict(host.facts or {}) for host in seed_cluster()}
    probes = {name: measured(name) for name in planned["hosts"]}
    for peer in probes["master1"]["peers"]:
        peer["blocked"] = blocked if peer["name"] == "master2" else []
    findings = [item for item in _probe.judge(planned, facts, probes, {}) if item.host == "master2"]
    assert [item.severity for item in findings] == ([severity] if severity else [])
    if findings:
        assert do in findings[0].remedy
        assert f"{wall} is active" in findings[0].found
    if blocked:
        assert f"port {', '.join(map(str, blocked))} from master1" in findings[0].found


@pytest.mark.parametrize(
    ("clock", "told"),
    [
        ({"daemon": "ntpd", "synchronised": True}, True),
        ({"daemon": "ntpd", "synchronised": False}, False),
        ({"daemon": "chrony", "synchronised": True}, False),
        ({"daemon": "ntpd", "synchronised": True, "sources": ["server a.example iburst"]}, False),
    ],
)
def test_sources_that_would_be_lost_are_told(clock: dict[str, Any], told: bool) -> None:
    hosts = seed_cluster(master1={"clock": clock}, node01={"clock": clock})
    planned = plan_cluster(hosts, {}, bundle()).plan
    probes = {name: measured(name) for name in planned["hosts"]}
    findings = _probe.judge(planned, {host.name: dict(host.facts or {}) for host in hosts}, probes, {})
    assert [(item.host, item.severity, item.variable) for item in findings] == (
        [("master1", "warning", "time_servers")] if told else []
    )


@pytest.mark.parametrize(("text", "version"), [("systemd 252 (252.22)\n+PAM", 252), ("systemd 239\n", 239), ("", None)])
def test_systemd_version(text: str, version: int | None) -> None:
    assert _probe.systemd_version(text) == version


def test_strict_filter_is_told_with_the_wrong_card() -> None:
    links = [card("ens32", "192.168.253.131/24", rp_filter=1), card("ens33", "192.168.160.246/23")]
    (finding,) = judge({"links": links, "rp_filter_all": 0}, {"lookups": LOOKUP})
    assert "strict reverse path filter" in finding.why


def test_small_hosts_are_told_unless_known() -> None:
    small = {"system": {"cpus": 1, "memory_mb": 1000}}
    facts = {"master1": {**seed_facts("master1", 129), **small}}
    (finding,) = _probe.judge(PLAN, facts, {}, {})
    assert finding.severity == "warning"
    assert _probe.judge({**PLAN, "ignore_preflight_errors": ["NumCPU", "Mem"]}, facts, {}, {}) == []


def test_a_host_that_could_not_measure_is_told() -> None:
    (finding,) = _probe.judge(PLAN, {}, {}, {"node01": "Incorrect sudo password"})
    assert "Incorrect sudo password" in finding.found


def test_hosts_outside_the_run_are_not_judged() -> None:
    facts = {host.name: {**(host.facts or {}), "disk": {"path": "/", "free_mb": 1}} for host in seed_cluster()}
    told = _probe.judge(PLAN, facts, {}, {}, only=["node01"])
    assert [item.host for item in told] == ["node01"]


# --- clocks ----------------------------------------------------------------------------------------------------------


def clocks(**offsets: float) -> list[Finding]:
    return judge(probes={name: measured(name, offset) for name, offset in offsets.items()})


@pytest.mark.parametrize(
    ("offsets", "wrong"),
    [
        ({"node01": 2.5}, ["node01"]),
        ({"node01": -3600.0}, ["node01"]),
        ({"node01": 1.9}, []),
        ({"node01": 2.01}, []),  # within the uncertainty of the measurement
        (dict.fromkeys(("master1", "master2", "master3", "node01"), 5000.0), []),  # the controller's clock is off
        # Two halves: no host is far from the middle, but the halves are from each other.
        ({"master1": 3.5, "master2": 3.5}, ["master1", "master2"]),
        ({"master1": -3.5, "node01": -3.5}, ["master2", "master3"]),
        ({"master1": 1.5, "master2": 3.0}, ["master2"]),
        ({"master1": 1.0, "master2": 1.9}, []),
    ],
)
def test_clocks_that_are_apart(offsets: dict[str, float], wrong: list[str]) -> None:
    assert [finding.host for finding in clocks(**offsets)] == wrong


def test_of_two_clocks_that_are_apart_one_is_told() -> None:
    plan = {**PLAN, "hosts": {name: PLAN["hosts"][name] for name in ("master1", "node01")}}
    probes = {"master1": measured("master1"), "node01": measured("node01", 3.5)}
    told = [item for item in _probe.judge(plan, {}, probes, {}) if item.variable == "clock_tolerance_seconds"]
    assert [item.host for item in told] == ["node01"]
    assert "its clock is 3.5 s ahead of master1's" in told[0].found


def test_a_wrong_clock_is_told_in_words() -> None:
    (finding,) = clocks(node01=-3600.0)
    assert "its clock is 3600.0 s behind master1's" in finding.found
    assert finding.variable == "clock_tolerance_seconds"


@given(
    st.lists(st.tuples(st.floats(-9, 9), st.floats(0, 1)), min_size=1, max_size=6),
    st.floats(0.1, 5),
)
def test_no_two_clocks_that_are_apart_pass(measurements: list[tuple[float, float]], tolerance: float) -> None:
    names = [f"h{number}" for number in range(len(measurements))]
    node = PLAN["hosts"]["node01"]
    plan = {
        "hosts": dict.fromkeys(names, node),
        "apiserver": PLAN["apiserver"],
        "time": {"tolerance_seconds": tolerance},
    }
    probes = {
        name: {"clock": {"offset_seconds": offset, "uncertainty_seconds": doubt}}
        for name, (offset, doubt) in zip(names, measurements)
    }
    told = {item.host for item in _probe.judge(plan, {}, probes, {}) if item.variable == "clock_tolerance_seconds"}
    apart = {
        (one, other)
        for one, (offset, doubt) in zip(names, measurements)
        for other, (offset2, doubt2) in zip(names, measurements)
        if offset2 - offset - doubt - doubt2 > tolerance + 1e-6
    }
    assert all({one, other} & told for one, other in apart)
    assert len(told) < len(names)
    if told:
        ahead = [offset for offset, _doubt in measurements]
        assert max(ahead) - min(ahead) > tolerance - 1e-6


def test_offset_is_measured_at_the_middle_of_the_shortest_round_trip() -> None:
    slow, fast = _probe.clock_offset(100.0, 103.0, 102.0), _probe.clock_offset(100.0, 101.5, 100.5)
    assert (slow.seconds, slow.uncertainty) == (2.0, 1.0)
    assert _probe.best_offset([slow, fast]) == fast
    assert _probe.best_offset([]) is None


# --- packets ---------------------------------------------------------------------------------------------------------


def test_probe_arguments_are_the_plans() -> None:
    arguments = _probe.probe_arguments(PLAN, "node01")
    assert (arguments["interface"], arguments["source"]) == ("ens32", "192.168.253.131")
    assert [item["name"] for item in arguments["peers"]] == ["master1", "master2", "master3"]


@pytest.mark.parametrize(("distributions", "told"), [(None, 0), ([], 1), (["ubuntu-24.04"], 1), (["debian-12"], 0)])
def test_what_a_bundle_would_bring_is_missed_only_where_the_bundle_is_known(
    distributions: list[str] | None, told: int
) -> None:
    plan = {**PLAN, "bundle": {"path": "/nowhere/kube.tar.gz", "distributions": distributions}}
    facts = seed_facts("node01", 131, system={"os_id": "debian", "os_version": "12"})
    probes = {"node01": {**measured("node01"), "commands": {"runc": False}}}
    found = _probe.judge(plan, {"node01": facts}, probes, {}, only=["node01"])
    assert len([item for item in found if item.found.startswith("it lacks")]) == told


@pytest.mark.parametrize(("balancer", "told"), [("ipvs", 0), ("localhost", 1)])
def test_the_proxy_needs_the_port_on_workers_too(balancer: str, told: int) -> None:
    made = plan_cluster(seed_cluster(), {"apiserver_balancer": balancer}, bundle()).plan
    assert ("the API proxy" in _probe.needed_ports(made, made["hosts"]["node01"]).values()) == bool(told)
    assert _probe.needed_ports(made, made["hosts"]["master1"])[6443] == "kube-apiserver"
