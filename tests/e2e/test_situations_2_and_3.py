# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The seed's situations 2 and 3: card names differ on every host, with and without a gateway on the cluster network."""

from __future__ import annotations

import ipaddress
import json

import pytest
from harness import Lab

HOSTS = ["master1", "master2", "master3", "node01"]
CLUSTER_NETWORK = ipaddress.ip_network("192.168.253.0/24")


def four_nodes_ready_on_the_cluster_network(lab: Lab) -> None:
    nodes = json.loads(lab.kubectl("get nodes -o json"))["items"]
    assert sorted(node["metadata"]["name"] for node in nodes) == HOSTS
    for node in nodes:
        conditions = {condition["type"]: condition["status"] for condition in node["status"]["conditions"]}
        assert conditions["Ready"] == "True", node["metadata"]["name"]
        addresses = [entry["address"] for entry in node["status"]["addresses"] if entry["type"] == "InternalIP"]
        assert len(addresses) == 1 and ipaddress.ip_address(addresses[0]) in CLUSTER_NETWORK, addresses
    assert all(lab.everywhere(lab.api_through_vip).values())


def card_names(lab: Lab) -> list[str]:
    """The name each host gives the card of the cluster network."""
    return list(
        lab.everywhere(lambda host: lab.run(host, "ip -o -4 addr | grep 192.168.253 | cut -d' ' -f2").strip()).values()
    )


def test_gateway_and_a_run_killed_twice(gateway_lab: Lab) -> None:
    """Situation 2, with runs killed while packages go in and while hosts join; the next run converges each time."""
    assert len(set(card_names(gateway_lab))) == 4, "the lab's hosts must name their cards differently"
    gateway_lab.play("cluster", kill_at="TASK [multinic.kubernetes.node", kill_after=4)
    gateway_lab.play("cluster", kill_at="PLAY [The other", kill_after=20)
    gateway_lab.play("cluster")
    four_nodes_ready_on_the_cluster_network(gateway_lab)
    assert not gateway_lab.play("cluster").changed()


@pytest.mark.slow
def test_no_gateway(no_gateway_lab: Lab) -> None:
    """Situation 3, which the seed leaves to its user."""
    assert len(set(card_names(no_gateway_lab))) == 4, "the lab's hosts must name their cards differently"
    no_gateway_lab.play("cluster")
    four_nodes_ready_on_the_cluster_network(no_gateway_lab)
