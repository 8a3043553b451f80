# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import re
from typing import Any

import pytest

from ansible_collections.multinic.kubernetes.plugins.module_utils import _node_removal as removal

ADDRESSES = {"m1": "192.168.253.129", "m2": "192.168.253.128", "m3": "192.168.253.130", "w1": "192.168.253.131"}


def node(name: str, **more: Any) -> removal.NodeSeen:
    return removal.NodeSeen(
        name, **{"ready": True, "control_plane": name.startswith("m"), "addresses": (ADDRESSES[name],), **more}
    )


def member(name: str, healthy: bool = True, learner: bool = False) -> removal.Member:
    return removal.Member(f"id-{name}", name, (f"https://{ADDRESSES[name]}:2380",), learner, healthy)


def judge(name: str, nodes: str, members: str, silent: str = "", **more: Any) -> removal.Judgement:
    found = [node(entry, ready=entry not in silent.split()) for entry in nodes.split()]
    etcd = [member(entry, entry not in silent.split()) for entry in members.split()]
    return removal.judge(name, found, etcd, **{"reachable": True, **more})


def test_a_worker_leaves_without_a_word_of_etcd_or_balancers() -> None:
    found = judge("w1", "m1 m2 m3 w1", "m1 m2 m3")
    assert (found.role, found.known, found.problems, found.member) == ("worker", True, [], None)
    assert not [step for step in found.steps if "etcd" in step or "balancer" in step]
    assert found.steps[-1] == "the node w1 is deleted from the cluster"


def test_a_control_plane_is_drained_before_it_leaves_and_forgotten_last() -> None:
    found = judge("m3", "m1 m2 m3 w1", "m1 m2 m3")
    assert (found.role, found.addresses, found.problems) == ("control_plane", ("192.168.253.130",), [])
    words = ["no new connections", "evicted", "API server ends", "leaves every", "leaves etcd", "reset", "deleted"]
    assert len(found.steps) == len(words)
    assert all(word in step for word, step in zip(words, found.steps)), found.steps
    assert "then has 2 and can lose none" in found.steps[4]


@pytest.mark.parametrize(
    ("name", "nodes", "members", "silent", "reachable", "message"),
    [
        ("m1", "m1 w1", "m1", "", True, "last control plane"),
        ("m1", "m1 w1", "m1", "", True, "last member of etcd"),
        ("m1", "m1 m2 m3", "m1 m2 m3", "m3", True, "without m1 1 of 2 members answer and 2 are needed .silent: m3."),
        ("m3", "m1 m2 m3", "m1 m2 m3", "m2 m3", False, "1 of its 3 members answer and 2 are needed"),
        ("m2", "m1 m2", "m1 m2", "m2", False, "1 of its 2 members answer and 2 are needed"),
        ("w1", "m1 w1", "m1", "", False, "Ansible cannot reach w1, but the cluster says that it is Ready"),
    ],
)
def test_what_would_harm_the_cluster_is_refused(
    name: str, nodes: str, members: str, silent: str, reachable: bool, message: str
) -> None:
    problems = judge(name, nodes, members, silent, reachable=reachable).problems
    assert [text for text in problems if re.search(message, text)], problems


def test_a_dead_control_plane_leaves_with_the_clusters_side_alone() -> None:
    found = judge("m3", "m1 m2 m3", "m1 m2 m3", "m3", reachable=False)
    assert found.problems == []
    assert not [step for step in found.steps if "evicted" in step or "ends in order" in step]
    assert [step for step in found.steps if "wipe it before it comes back" in step]


def test_a_dead_control_plane_of_five_leaves_though_another_is_dead() -> None:
    ADDRESSES.update(m4="192.168.253.140", m5="192.168.253.141")
    assert judge("m5", "m1 m2 m3 m4 m5", "m1 m2 m3 m4 m5", "m4 m5", reachable=False).problems == []


def test_a_learner_has_no_vote_to_lose() -> None:
    members = [member("m1"), member("m2", learner=True)]
    found = removal.judge("m2", [node("m1"), node("m2")], members, reachable=True)
    assert found.problems == []
    assert "then has 1 and can lose none" in " ".join(found.steps)


def test_a_node_that_is_gone_is_no_error() -> None:
    found = judge("m3", "m1 m2 w1", "m1 m2")
    assert (found.known, found.problems, found.addresses) == (False, [], ())


def test_a_dead_host_that_the_cluster_has_under_another_name_is_told() -> None:
    told = judge("host3", "m1 m2 w1", "m1 m2", reachable=False).steps[0]
    assert "no node and no member of etcd with the name host3; it has m1, m2, w1" in told
    assert "-e node_removal_node_name=" in told
    assert "node_removal_node_name" not in "".join(judge("m3", "m1 m2 w1", "m1 m2").steps)


def test_both_families_of_a_control_plane_are_drained() -> None:
    both = (ADDRESSES["m3"], "fd00:253::130")
    found = removal.judge("m3", [node("m1"), node("m3", addresses=both)], [], reachable=True)
    assert found.addresses == both
    assert found.steps[0].startswith("192.168.253.130 and fd00:253::130 takes no new connections")


def test_a_member_whose_node_is_gone_still_leaves_etcd() -> None:
    found = judge("m3", "m1 m2", "m1 m2 m3", "m3", reachable=False)
    assert (found.role, found.addresses, found.known) == ("control_plane", ("192.168.253.130",), True)
    assert found.member is not None and found.member.id == "id-m3"


def test_nodes_are_read_from_kubectl() -> None:
    item = {
        "metadata": {"name": "m1", "labels": {"node-role.kubernetes.io/master": ""}},
        "spec": {"unschedulable": True},
        "status": {
            "conditions": [{"type": "Ready", "status": "Unknown"}],
            "addresses": [
                {"type": "Hostname", "address": "m1"},
                {"type": "InternalIP", "address": "192.168.253.129"},
                {"type": "InternalIP", "address": "fd00:253::129"},
            ],
        },
    }
    expected = removal.NodeSeen("m1", False, True, True, ("192.168.253.129", "fd00:253::129"))
    assert removal.nodes_of({"items": [item, {"metadata": {"name": "x"}}]}) == [expected, removal.NodeSeen("x")]


def test_members_are_read_from_etcd() -> None:
    listing: list[dict[str, Any]] = [
        {"ID": "7", "name": "m1", "peerURLs": ["https://[fd00::1]:2380"]},
        {"ID": "8", "isLearner": True},
    ]
    one, two = removal.members_of(listing, ["7"])
    assert (one.address, one.healthy, one.learner) == ("fd00::1", True, False)
    assert (two.address, two.name, two.healthy, two.learner) == ("", "", False, True)


STATUS = """\
apiEndpoints:
  m1:
    advertiseAddress: 192.168.253.129
    bindPort: 6443
  m11:
    advertiseAddress: 192.168.253.130
    bindPort: 6443
apiVersion: kubeadm.k8s.io/v1beta2
kind: ClusterStatus
"""


def test_kubeadms_record_loses_one_endpoint() -> None:
    left = removal.without_api_endpoint(STATUS, "m1")
    assert left == STATUS.replace("  m1:\n    advertiseAddress: 192.168.253.129\n    bindPort: 6443\n", "")
    assert removal.without_api_endpoint(left, "m1") == left


def test_pods_that_did_not_go_are_named() -> None:
    said = 'node/m1 cordoned\nerror when evicting pods/"a" -n "b" (will retry after 5s): budget\nerror: timed out\n'
    assert removal.pods_left(said) == 'error when evicting pods/"a" -n "b" (will retry after 5s): budget'
    assert removal.pods_left("error: timed out") == "error: timed out"
