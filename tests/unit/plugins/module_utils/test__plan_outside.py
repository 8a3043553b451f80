# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from ipaddress import ip_address
from typing import Any

import pytest

from ansible_collections.multinic.kubernetes.plugins.module_utils._net import HostNetwork
from ansible_collections.multinic.kubernetes.plugins.module_utils._plan import Host, Result, plan_cluster
from ansible_collections.multinic.kubernetes.plugins.module_utils._plan_outside import as_holder, router_id
from ansible_collections.multinic.kubernetes.tests.unit.network_hosts import (
    INTERNAL,
    MANIFEST,
    bundle,
    card,
    default_route,
    facts,
    seed_cluster,
    seed_facts,
)

ADDRESS = "192.168.160.250"
SIX = "fd00:160::250"
MASTERS = ["master1", "master2", "master3"]
ENS33 = {
    "master1": {"interface": "ens33", "address": "192.168.160.244"},
    "master2": {"interface": "ens33", "address": "192.168.160.243"},
    "master3": {"interface": "ens33", "address": "192.168.160.245"},
}


def changed(hosts: list[Host], **per_host: Mapping[str, Any]) -> list[Host]:
    return [replace(host, **per_host.get(host.name, {})) for host in hosts]


def plan(hosts: list[Host] | None = None, address: str = ADDRESS, network: Any = None, **more: Any) -> Result:
    asked = [replace(host, outside_network=network) for host in seed_cluster()] if network else seed_cluster()
    variables = {"apiserver_outside_address": address, **more}
    return plan_cluster(asked if hosts is None else hosts, variables, bundle())


def errors(result: Result) -> list[tuple[str, str, str]]:
    return [(item.host, item.variable, item.found) for item in result.findings if item.severity == "error"]


def outside(result: Result) -> list[dict[str, Any]]:
    return list(result.plan["apiserver"]["outside"])


def with_card(name: str, last: int, *addresses: str, card_name: str = "ens33", **more: Any) -> dict[str, Any]:
    """The facts of a seed's host with other addresses on its outer card."""
    return facts(
        name,
        [card("ens32", f"{INTERNAL}.{last}/24"), card(card_name, *addresses)],
        routes=[default_route("192.168.160.1", card_name)],
        **more,
    )


# --- the card --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "network",
    [
        None,
        "",
        "auto",
        "192.168.160.0/23",
        "ens33",
        "ens3[3-9]",
        ["192.168.160.0/23"],
        ["192.168.160.0/23", "fd00::/64"],
    ],
)
def test_every_form_finds_the_card_of_each_control_plane(network: Any) -> None:
    result = plan(network=network)
    assert result.findings == []
    assert outside(result) == [
        {"address": ADDRESS, "router_id": 250, "network": "192.168.160.0/23", "cards": ENS33},
    ]
    assert ADDRESS in result.plan["apiserver"]["sans"]
    (reason,) = [reason for reason in result.plan["reasons"] if "outside" in reason]
    assert "virtual router id 250" in reason
    assert "master1 (ens33), master2 (ens33), master3 (ens33)" in reason


def test_an_address_to_reach_finds_it_by_the_kernels_answer() -> None:
    hosts = [
        replace(
            host,
            outside_network="192.168.160.1",
            facts={
                **(host.facts or {}),
                "lookups": {
                    "192.168.160.1": {
                        "dev": "ens33",
                        "source": (host.facts or {})["links"][1]["addresses"][0]["address"],
                    }
                },
            },
        )
        for host in seed_cluster()
    ]
    result = plan(hosts)
    assert result.findings == []
    assert outside(result)[0]["cards"] == ENS33


def test_names_differ_from_host_to_host() -> None:
    other = {"facts": seed_facts("master2", 128, outer="eno1")}
    assert outside(plan(changed(seed_cluster(), master2=other)))[0]["cards"]["master2"]["interface"] == "eno1"
    hosts = [replace(host, outside_network="ens33") for host in seed_cluster()]
    result = plan(changed(hosts, master2={**other, "outside_network": "eno1"}))
    assert result.findings == []
    assert outside(result)[0]["cards"]["master2"] == {"interface": "eno1", "address": "192.168.160.243"}


def test_the_cluster_network_may_be_the_outside_one() -> None:
    result = plan(address=f"{INTERNAL}.250")
    assert errors(result) == []
    assert {card["interface"] for card in outside(result)[0]["cards"].values()} == {"ens32"}


def test_one_address_of_each_family() -> None:
    hosts = [
        replace(host, facts=with_card(host.name, last, f"192.168.160.{last}/23", f"fd00:160::{last}/64"))
        for host, last in zip(seed_cluster(), (129, 128, 130, 131))
    ]
    for network in (None, "ens33", "192.168.160.0/23", ["192.168.160.0/23", "fd00:160::/64"]):
        result = plan([replace(host, outside_network=network) for host in hosts], f"{ADDRESS},{SIX}")
        assert result.findings == []
        four, six = outside(result)
        assert (four["address"], four["router_id"]) == (ADDRESS, 250)
        assert (six["address"], six["router_id"]) == (SIX, 0x50)
        assert six["cards"]["master1"] == {"interface": "ens33", "address": "fd00:160::129"}


def test_none_is_planned_without_the_variable() -> None:
    result = plan(address="")
    assert (result.findings, outside(result)) == ([], [])
    alone = plan([replace(host, outside_network="ens33") for host in seed_cluster()], address="")
    assert [(item.host, item.severity) for item in alone.findings] == [(name, "warning") for name in MASTERS]


@pytest.mark.parametrize(
    ("address", "wished", "expected"),
    [(ADDRESS, 0, 250), (ADDRESS, 7, 7), ("192.168.161.0", 0, 255), ("fd00::1:2", 0, 2), ("fd00::100", 0, 255)],
)
def test_the_router_id_follows_from_the_address(address: str, wished: int, expected: int) -> None:
    assert router_id(ip_address(address), wished) == expected


def test_no_two_addresses_of_a_small_network_share_a_router_id() -> None:
    assert len({router_id(ip_address(f"192.168.160.{number}")) for number in range(1, 255)}) == 254


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("address", "variables", "expected"),
    [
        (
            "192.168.160.244",
            {},
            ("master1", "apiserver_outside_address", "192.168.160.244 is an address of its card ens33"),
        ),
        (
            "192.168.160.246",  # a worker's
            {},
            ("node01", "apiserver_outside_address", "192.168.160.246 is an address of its card ens33"),
        ),
        ("192.168.160.1", {}, ("master1", "apiserver_outside_address", "192.168.160.1 is its default gateway")),
        (
            "192.168.161.255",
            {},
            (
                "",
                "apiserver_outside_address",
                "192.168.161.255 is the network's own or its broadcast address (192.168.160.0/23)",
            ),
        ),
        (
            ADDRESS,
            {"pod_cidr": "192.168.160.128/25"},
            ("", "apiserver_outside_address", f"{ADDRESS} is inside pod_cidr 192.168.160.128/25"),
        ),
        (
            ADDRESS,
            {"service_cidr": "192.168.160.240/28"},
            ("", "apiserver_outside_address", f"{ADDRESS} is inside service_cidr 192.168.160.240/28"),
        ),
        (
            ADDRESS,
            {"apiserver_vip": ADDRESS},
            ("", "apiserver_outside_address", f"{ADDRESS} is also apiserver_vip"),
        ),
        (
            ADDRESS,
            {"apiserver_balancer": "external", "apiserver_external_address": ADDRESS},
            ("", "apiserver_outside_address", f"{ADDRESS} is also apiserver_external_address"),
        ),
        (
            ADDRESS,
            {"apiserver_extra_args": {"bind-address": "192.168.253.129"}},
            (
                "",
                "apiserver_extra_args",
                f"bind-address is 192.168.253.129, and apiserver_outside_address is {ADDRESS}",
            ),
        ),
        (
            "fe80::1",
            {},
            ("", "apiserver_outside_address", "'fe80::1' is a loopback, link-local, multicast or empty address"),
        ),
        (
            f"{ADDRESS},192.168.160.251",
            {},
            ("", "apiserver_outside_address", f"{ADDRESS}, 192.168.160.251: at most one address per family"),
        ),
        (
            ADDRESS,
            {"apiserver_outside_router_id": 256},
            ("", "apiserver_outside_router_id", "256 is not a virtual router id"),
        ),
    ],
)
def test_what_the_address_may_not_be(address: str, variables: dict[str, Any], expected: tuple[str, str, str]) -> None:
    result = plan(address=address, **variables)
    assert expected in errors(result)
    assert all(item.remedy and item.why for item in result.findings if item.severity != "info")


def test_each_control_plane_without_such_a_card_is_told_at_once() -> None:
    result = plan(address="198.51.100.250")
    assert [(host, variable) for host, variable, _found in errors(result)] == [
        (name, "apiserver_outside_address") for name in MASTERS
    ]
    assert "the host has 192.168.253.0/24 (ens32), 192.168.160.0/23 (ens33)" in errors(result)[0][2]
    assert outside(result) == []


def test_a_card_that_two_control_planes_lack_is_told_on_each() -> None:
    hosts = changed(
        [replace(host, outside_network="ens33") for host in seed_cluster()],
        master2={"facts": seed_facts("master2", 128, outer="eno1")},
        master3={"facts": seed_facts("master3", 130, outer="eno1")},
    )
    told = errors(plan(hosts))
    assert [(host, variable) for host, variable, _found in told] == [
        ("master2", "apiserver_outside_network"),
        ("master3", "apiserver_outside_network"),
    ]
    assert told[0][2] == "there is no card 'ens33'; the host has eno1, ens32"
    remedies = {item.remedy for item in plan(hosts).findings}
    assert not any("cluster_network" in remedy for remedy in remedies)


def test_another_network_than_the_addresss_is_told() -> None:
    told = errors(plan(network="ens32"))
    assert [host for host, _variable, _found in told] == MASTERS
    assert told[0][2] == f"{ADDRESS} is not inside 192.168.253.0/24 of ens32"


def test_different_prefix_lengths_are_told() -> None:
    odd = {"facts": with_card("master3", 130, "192.168.160.245/24")}
    assert errors(plan(changed(seed_cluster(), master3=odd))) == [
        (
            "master3",
            "apiserver_outside_network",
            "ens33 has 192.168.160.245/24, but ens33 of master1 is in 192.168.160.0/23",
        )
    ]


@pytest.mark.parametrize("value", ["192.168.160.0/33", "[", ["auto", "ens33"]])
def test_a_network_that_means_nothing_is_told_on_each_host(value: Any) -> None:
    told = errors(plan(network=value))
    assert [(host, variable) for host, variable, _found in told] == [
        (name, "apiserver_outside_network") for name in MASTERS
    ]


def test_a_card_that_is_down_and_one_without_the_default_route_are_told() -> None:
    down = {
        "facts": facts(
            "master3",
            [card("ens32", f"{INTERNAL}.130/24"), card("ens33", "192.168.160.245/23", carrier=False)],
            routes=[default_route("192.168.253.1", "ens32")],
        )
    }
    result = plan(changed(seed_cluster(), master3=down))
    assert [(item.severity, item.host, item.found) for item in result.findings] == [
        ("warning", "master3", "ens33 (192.168.160.245) is without a carrier"),
        ("info", "master3", "its default route goes by ens32, not by ens33"),
    ]


def test_an_active_firewall_is_told() -> None:
    result = plan(seed_cluster(master2={"firewall": {"active": "ufw"}}))
    (warning,) = result.findings
    assert (warning.host, warning.found) == ("master2", "ufw is active")
    assert "protocol 112" in warning.why


# --- the second run ---------------------------------------------------------------------------------------------------


def holding(*addresses: str, **more: Any) -> dict[str, Any]:
    return {"facts": with_card("master2", 128, "192.168.160.243/23", *addresses, **more)}


OURS = {"kubernetes": {"member": False, "ours": True, "outside": [ADDRESS]}}


def test_the_address_that_we_put_there_changes_nothing() -> None:
    before = plan(changed(seed_cluster(), master2=holding(**OURS)))
    after = plan(changed(seed_cluster(), master2=holding(f"{ADDRESS}/32", **OURS)))
    assert errors(after) == []
    assert after == before


def test_it_is_somebodys_if_we_did_not_put_it_there_or_not_alone() -> None:
    for host in (holding(f"{ADDRESS}/32"), holding(f"{ADDRESS}/23", **OURS)):
        assert ("master2", "apiserver_outside_address", f"{ADDRESS} is an address of its card ens33") in errors(
            plan(changed(seed_cluster(), master2=host))
        )


def test_an_address_on_its_way_out_is_no_address_of_the_host() -> None:
    host = holding(f"{ADDRESS}/32", **OURS)
    assert plan(changed(seed_cluster(), master2=host), "192.168.160.251").findings == []
    (link,) = [link for link in HostNetwork.from_facts(host["facts"]).links if link.name == "ens33"]
    assert [str(item.interface) for item in link.addresses] == ["192.168.160.243/23"]


def test_calico_is_asked_with_the_address_on_the_card() -> None:
    network = HostNetwork.from_facts(with_card("master1", 129, "192.168.160.244/23", "fd00:160::129/64"))
    planned = [
        {"address": ADDRESS, "cards": {"master1": {"interface": "ens33"}}},
        {"address": SIX, "cards": {"master1": {"interface": "ens33"}}},
    ]
    link = as_holder(network, "master1", planned).link("ens33")
    assert link is not None
    assert [str(item.ip) for item in link.addresses] == [SIX, "192.168.160.244", "fd00:160::129", ADDRESS]
    assert as_holder(network, "node01", planned) == network


def test_calicos_method_that_may_take_the_address_is_told() -> None:
    """cidr= of the address alone fits on whichever control plane has it, and first of all there."""
    method = {"calico_autodetection_method": f"cidr={ADDRESS}/32,192.168.253.0/24"}
    newer = {
        **MANIFEST,
        "parts": [
            {**part, "images": ["docker.io/calico/node:v3.20.0", "docker.io/calico/cni:v3.20.0"]}
            if part["kind"] == "image"
            else part
            for part in MANIFEST["parts"]
        ],
    }
    hosts = seed_cluster()
    good = plan_cluster(hosts, method, bundle(newer))
    bad = plan_cluster(hosts, {**method, "apiserver_outside_address": ADDRESS}, bundle(newer))
    assert good.findings == []
    told = [item for item in bad.findings if item.variable == "calico_autodetection_method"]
    assert [item.host for item in told] == MASTERS, "a worker never has the address"
    assert f"it may be any of 192.168.253.129 (ens32), {ADDRESS} (ens33)" in told[0].found


# --- a run with a limit -----------------------------------------------------------------------------------------------


def test_a_new_control_plane_waits_for_a_run_in_which_the_others_learn_of_it() -> None:
    old = {"kubernetes": {"member": True, "ours": True, "outside": [ADDRESS], "version": "v1.20.2"}}
    hosts = changed(
        seed_cluster(master1=old, master2=old),
        master1={"in_run": False},
        master2={"in_run": False},
        node01={"in_run": False},
    )
    result = plan(hosts)
    assert list(outside(result)[0]["cards"]) == ["master1", "master2"]
    (warning,) = [item for item in result.findings if item.variable == "ansible_limit"]
    assert (warning.severity, warning.host) == ("warning", "master3")
    assert list(outside(plan(seed_cluster(master1=old, master2=old)))[0]["cards"]) == MASTERS
