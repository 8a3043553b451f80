# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Nodes leave a cluster of three control planes and a worker, and come back: in order, interrupted, and dead.

A client on a host that stays asks the API server through the VIP every 50 ms meanwhile. The tests go on from each other.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator

import pytest
from harness import Lab, wait_until
from leftovers import leftovers
from outage import Asking, outage

pytestmark = pytest.mark.slow

VIP = "10.103.97.2"
ADDRESSES = {"master1": "192.168.253.129", "master2": "192.168.253.128", "master3": "192.168.253.130"}
EVERYBODY = {*ADDRESSES, "node01"}


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    lab = Lab("lab", "removal")
    try:
        lab.fresh()
        lab.play("cluster")
        yield lab
    finally:
        lab.remove()


def nodes(lab: Lab, host: str = "master1") -> dict[str, bool]:
    """Node to whether it is Ready."""
    found = {}
    for node in json.loads(lab.kubectl("get nodes -o json", host))["items"]:
        states = {condition["type"]: condition["status"] for condition in node["status"]["conditions"]}
        found[node["metadata"]["name"]] = states.get("Ready") == "True"
    return found


MEMBERS = """
import ssl, urllib.request
pki = "/etc/kubernetes/pki/etcd"
context = ssl.create_default_context(cafile=f"{pki}/ca.crt")
context.load_cert_chain(f"{pki}/healthcheck-client.crt", f"{pki}/healthcheck-client.key")
request = urllib.request.Request("https://127.0.0.1:2379/v3/cluster/member/list", b"{}")
print(urllib.request.urlopen(request, context=context, timeout=10).read().decode())
"""


def members(lab: Lab, host: str = "master1") -> set[str]:
    """The names of etcd's members, as etcd itself tells them."""
    listing = json.loads(lab.run(host, f"python3 -c {shlex.quote(MEMBERS)}"))
    return {member["name"] for member in listing["members"]}


def balanced(lab: Lab, host: str) -> set[str]:
    lines = [line.split() for line in lab.run(host, "ipvsadm -Sn").splitlines()]
    return {
        line[line.index("-r") + 1].partition(":")[0]
        for line in lines
        if line[0] == "-a" and f"{VIP}:6443" in line and line[line.index("-w") + 1] != "0"
    }


def remove(lab: Lab, node: str) -> None:
    """Under requests; none may fail. And a second time, which changes nothing."""
    watcher = "node01" if node != "node01" else "master1"
    asking = Asking(lab, watcher, VIP)
    lab.play("remove_node", "-e", f"node={node}")
    seen = outage(asking.end())
    assert seen["failed"] == 0 and seen["requests"] > 100, seen
    assert leftovers(lab, node) == []
    assert node not in nodes(lab)
    assert lab.play("remove_node", "-e", f"node={node}").changed() == {}


def install(lab: Lab) -> None:
    """The whole inventory again, under requests through the node that is not touched by it."""
    asking = Asking(lab, "master1", VIP)
    lab.play("cluster")
    seen = outage(asking.end())
    assert seen["failed"] == 0 and seen["requests"] > 100, seen
    assert nodes(lab) == dict.fromkeys(EVERYBODY, True)
    for host in EVERYBODY:
        wait_until(lambda host=host: balanced(lab, host) == set(ADDRESSES.values()), 20, f"all servers on {host}")  # type: ignore[misc]


def test_a_control_plane_leaves_and_nothing_is_left_of_it(lab: Lab) -> None:
    remove(lab, "master3")
    assert members(lab) == {"master1", "master2"}
    for host in ("master1", "master2", "node01"):
        assert balanced(lab, host) == {ADDRESSES["master1"], ADDRESSES["master2"]}


def test_it_joins_again(lab: Lab) -> None:
    install(lab)
    assert members(lab) == set(ADDRESSES)


def test_a_worker_leaves_and_joins_again(lab: Lab) -> None:
    remove(lab, "node01")
    install(lab)


@pytest.mark.parametrize("at", ["The node is drained", "The API server has ended", "The node has left etcd"])
def test_a_removal_that_is_killed_goes_on(lab: Lab, at: str) -> None:
    if "master2" not in nodes(lab):
        install(lab)
    lab.play("remove_node", "-e", "node=master2", kill_at=at, kill_after=1.0)
    lab.play("remove_node", "-e", "node=master2")
    assert leftovers(lab, "master2") == []
    assert members(lab) == {"master1", "master3"}
    assert lab.play("remove_node", "-e", "node=master2").changed() == {}


def test_a_dead_control_plane_leaves_without_being_asked(lab: Lab) -> None:
    install(lab)
    lab.guest(["master3"], "killed")
    refused = lab.play("remove_node", "-e", "node=master3", expect=None)
    assert refused.returncode != 0, "its node is still Ready: it may be alive"
    assert nodes(lab)["master3"]
    wait_until(lambda: not nodes(lab)["master3"], 90, "master3 counts as NotReady", every=2)
    asking = Asking(lab, "node01", VIP)
    lab.play("remove_node", "-e", "node=master3")
    seen = outage(asking.end())
    assert seen["failed"] == 0, seen
    assert members(lab) == {"master1", "master2"}
    assert "master3" not in nodes(lab)
