# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The network's filters on what Ansible's own setup tells of a real host with several cards, and on what our module tells."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from machines import COLLECTIONS, RUN, Space

from ansible_collections.multinic.kubernetes.plugins.filter import network

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="namespaces are made by root")

VIP = {4: "10.103.97.2", 6: "fd00:10:103:97::2"}
BOTH = ["192.168.253.0/24", "fd00:253::/64"]
# What Ansible does around its own module, without its connection.
SETUP = RUN.replace("ansible_collections.multinic.kubernetes.plugins.modules", "ansible.modules")
SUBSET = {"gather_subset": ["!all", "!min", "network"], "gather_timeout": 20}
CARDS = (
    "link add ens32 type bridge",
    "link add ens33 type bridge",
    "link add docker0 type bridge",
    "link add mgmt-1.100 type bridge",
    *(f"link set {card} up" for card in ("ens32", "ens33", "docker0", "mgmt-1.100")),
    "address add 192.168.253.129/24 dev ens32",
    "address add fd00:253::129/64 dev ens32 nodad",
    "address add 192.168.160.243/23 dev ens33",
    "address add 192.168.160.200/23 dev ens33",
    "address add 192.168.100.7/31 dev mgmt-1.100",
    "address add 172.17.0.1/16 dev docker0",
    "route add default via 192.168.160.1 dev ens33",
)


@pytest.fixture(scope="module")
def told() -> Iterator[dict[str, dict[str, Any]]]:
    """The facts of one host, by who tells them."""
    space = Space()
    try:
        space.ip(*CARDS)
        answers = {}
        for who, code, name, arguments in (
            ("setup", SETUP, "setup", SUBSET),
            ("network_facts", RUN, "network_facts", {"targets": ["192.168.253.1"]}),
        ):
            out = space.run(sys.executable, "-c", code, name, str(COLLECTIONS), text=json.dumps(arguments))
            facts: Mapping[str, Any] = json.loads(out.strip().splitlines()[-1])["ansible_facts"]
            answers[who] = {key.removeprefix("ansible_"): value for key, value in facts.items()}
        yield answers
    finally:
        space.close()


@pytest.mark.parametrize("who", ["setup", "network_facts"])
@pytest.mark.parametrize(
    ("value", "card", "address"),
    [
        ("192.168.253.0/24", "ens32", "192.168.253.129"),
        ("fd00:253::/64", "ens32", "fd00:253::129"),
        (BOTH, "ens32", "192.168.253.129"),
        ("ens32", "ens32", "192.168.253.129"),
        ("192.168.253.1", "ens32", "192.168.253.129"),
        ("ens33", "ens33", "192.168.160.243"),
        ("mgmt-1.100", "mgmt-1.100", "192.168.100.7"),
        ("192.168.100.6/31", "mgmt-1.100", "192.168.100.7"),
        ("docker0", "docker0", "172.17.0.1"),
    ],
    ids=str,
)
def test_card_and_address_of_one_host(
    told: dict[str, dict[str, Any]], who: str, value: Any, card: str, address: str
) -> None:
    assert network.cluster_interface(told[who], value) == card
    assert network.cluster_address(told[who], value) == address
    vip = VIP[6 if ":" in address else 4]
    route = network.vip_route(told[who], vip, value)
    assert route.endswith(f"dev lo table local src {address}")


@pytest.mark.parametrize("who", ["setup", "network_facts"])
def test_what_holds_for_all_hosts(told: dict[str, dict[str, Any]], who: str) -> None:
    hosts = {"master1": told[who]}
    assert network.can_reach_gateway(hosts, "192.168.253.0/24") == "192.168.253.129"
    assert network.calico_autodetection(hosts, BOTH, "v3.19.1") == f"cidr={','.join(BOTH)}"
    assert network.calico_autodetection(hosts, "ens32", "v3.15.0") == "interface=^ens32$"
    assert network.vip_route(told[who], VIP[6], BOTH).endswith("src fd00:253::129")


def test_both_choose_alike_by_themselves(told: dict[str, dict[str, Any]]) -> None:
    chosen = {network.cluster_interface(facts, "auto") for facts in told.values()}
    assert len(chosen) == 1 and chosen <= {"ens32", "mgmt-1.100"}  # not that of the default route
