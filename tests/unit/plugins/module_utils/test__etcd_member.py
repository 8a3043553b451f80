# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is decided about a member; that it really joins is the end-to-end test's to show."""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.multinic.kubernetes.plugins.module_utils import _etcd_member as etcd

ONE = {"ID": "11", "name": "master1", "peerURLs": ["https://192.168.253.129:2380"]}
TWO_URL = "https://192.168.253.128:2380"
LEARNER = {"ID": "12", "peerURLs": [TWO_URL], "isLearner": True}

# Abridged from what kubeadm 1.20.2 wrote.
MANIFEST = """apiVersion: v1
kind: Pod
spec:
  containers:
  - command:
    - etcd
    - --advertise-client-urls=https://192.168.253.128:2379
    - --initial-advertise-peer-urls=https://192.168.253.128:2380
    - --initial-cluster=master2=https://192.168.253.128:2380
    - --key-file=/etc/kubernetes/pki/etcd/server.key
    image: k8s.gcr.io/etcd:3.4.13-0
"""


def test_a_member_that_never_ran_has_the_name_it_will_have() -> None:
    assert etcd.initial_cluster([ONE, LEARNER], "master2", TWO_URL) == (
        "master2=https://192.168.253.128:2380,master1=https://192.168.253.129:2380"
    )


def test_another_member_without_a_name_is_called_by_its_id() -> None:
    other = {"ID": "99", "peerURLs": ["https://192.168.253.130:2380"]}
    assert "99=https://192.168.253.130:2380" in etcd.initial_cluster([ONE, other], "master2", TWO_URL)


def test_the_static_pod_of_a_first_member_becomes_that_of_a_joining_one() -> None:
    made = etcd.joining_manifest(MANIFEST, "a=https://192.0.2.1:2380,b=https://192.0.2.2:2380").splitlines()
    position = made.index("    - --initial-cluster=a=https://192.0.2.1:2380,b=https://192.0.2.2:2380")
    assert made[position + 1] == "    - --initial-cluster-state=existing"
    assert [line for line in made if "initial-cluster" not in line] == [
        line for line in MANIFEST.splitlines() if "initial-cluster" not in line
    ]


def test_it_is_the_same_when_done_twice() -> None:
    once = etcd.joining_manifest(MANIFEST, "a=b")
    assert etcd.joining_manifest(once, "a=b") == once


def test_a_static_pod_of_another_kind_is_an_error() -> None:
    with pytest.raises(etcd.EtcdError, match="initial-cluster"):
        etcd.joining_manifest("kind: Pod\n", "a=b")


@pytest.mark.parametrize(
    ("message", "passes"),
    [
        ("etcdserver: too many learner members in cluster", True),
        ("etcdserver: can only promote a learner member which is in sync with leader", True),
        ("etcdserver: unhealthy cluster", True),
        ("etcdserver: re-configuration failed due to not enough started members", True),
        ("etcdserver: leader changed", True),
        ("https://192.0.2.1:2379: etcdserver: rpc not supported for learner", True),
        ("https://192.0.2.1:2379: [Errno 111] Connection refused", False),
        ("etcdserver: Peer URLs already exists", False),
        ("etcdserver: permission denied", False),
    ],
)
def test_what_may_pass_by_itself(message: str, passes: bool) -> None:
    assert etcd.is_transient(message) is passes


def test_endpoints_come_from_the_static_pods() -> None:
    pods = {
        "items": [
            {"metadata": {"annotations": {etcd.CLIENT_URLS: "https://192.0.2.2:2379"}}},
            {"metadata": {"annotations": {etcd.CLIENT_URLS: "https://192.0.2.1:2379,https://192.0.2.2:2379"}}},
            {"metadata": {}},
        ]
    }
    assert etcd.client_urls(pods) == ["https://192.0.2.1:2379", "https://192.0.2.2:2379"]


class Cluster:
    """The members of a cluster, and what was asked of it."""

    def __init__(self, *members: Mapping[str, Any]) -> None:
        self.there = list(members)
        self.asked: list[str] = []

    def members(self) -> list[Mapping[str, Any]]:
        return list(self.there)

    def call(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        self.asked.append(path)
        if path == "add":
            assert body == {"peerURLs": [TWO_URL], "isLearner": True}
            self.there.append({"ID": "13", **body})
        if path == "remove":
            self.there = [member for member in self.there if member["ID"] != body["ID"]]
        return {"members": self.there}


def joining(cluster: Cluster, monkeypatch: pytest.MonkeyPatch, data: Path) -> etcd.Joining:
    monkeypatch.setattr(etcd, "DATA", data)
    made = object.__new__(etcd.Joining)
    made.options = argparse.Namespace(peer_url=TWO_URL, name="master2")
    monkeypatch.setattr(made, "etcd", cluster, raising=False)
    return made


@pytest.mark.parametrize(
    ("mine", "data", "asked"),
    [
        (None, False, ["add"]),
        (LEARNER, False, []),  # announced by a run that was killed
        ({**LEARNER, "name": "master2"}, False, ["remove", "add"]),  # it ran, and its data is gone
        ({**LEARNER, "name": "master2"}, True, []),
    ],
)
def test_a_host_is_added_once(
    mine: Mapping[str, Any] | None, data: bool, asked: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    cluster = Cluster(ONE, *([mine] if mine else []))
    members = joining(cluster, monkeypatch, tmp_path if data else tmp_path / "none").add()
    assert cluster.asked == asked
    assert etcd.member_at(members, TWO_URL) is not None


@pytest.mark.parametrize(
    ("mine", "promoted", "asked"), [(LEARNER, True, ["promote"]), ({**LEARNER, "isLearner": False}, False, [])]
)
def test_only_a_learner_is_promoted(
    mine: Mapping[str, Any], promoted: bool, asked: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    cluster = Cluster(ONE, mine)
    assert joining(cluster, monkeypatch, tmp_path).promote() is promoted
    assert cluster.asked == asked


def test_an_etcd_that_was_removed_is_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(etcd.EtcdError, match="no member"):
        joining(Cluster(ONE), monkeypatch, tmp_path).promote()


def test_it_runs_as_a_program_without_the_collection(tmp_path: Path) -> None:
    """The module writes the source beside kubeadm's configuration, where nothing else of the collection is."""
    program = tmp_path / "etcd_member.py"
    program.write_text(Path(str(etcd.__file__)).read_text(encoding="utf-8"), encoding="utf-8")
    done = subprocess.run([sys.executable, "-I", str(program), "--help"], check=False, capture_output=True, text=True)
    assert done.returncode == 0 and "--peer-url" in done.stdout, done.stderr


@pytest.mark.parametrize(("address", "loopback"), [("192.168.253.128", "127.0.0.1"), ("fd00:253::128", "::1")])
def test_etcd_tells_of_its_health_on_the_loopback_address_of_its_family(address: str, loopback: str) -> None:
    assert etcd.loopback_beside(address) == loopback
