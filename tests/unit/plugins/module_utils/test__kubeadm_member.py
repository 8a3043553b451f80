# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import dataclasses
import json
from itertools import product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.multinic.kubernetes.plugins.module_utils import _kubeadm_member as member

SERVER = "https://apiserver.cluster.local:6443"
WORKER = member.Wanted("join", "node01", "worker", "v1.20.2", SERVER)
JOINING = member.Wanted("join", "master2", "control_plane", "v1.20.2", SERVER)
FIRST = member.Wanted("init", "master1", "control_plane", "v1.20.2", SERVER)

AS_WORKER = dataclasses.replace(JOINING, role="worker")

NOTHING = member.Observed()
KUBELET = member.Observed(kubelet_conf=True, server=SERVER)
REGISTERED = dataclasses.replace(KUBELET, node_registered=True)
ALL_PODS = dataclasses.replace(
    KUBELET, admin_conf=True, manifests=member.CONTROL_PLANE_MANIFESTS, etcd_data=True, node_registered=True
)
WHOLE = dataclasses.replace(ALL_PODS, apiserver_healthy=True, node_marked=True, addons=True)
NO_ETCD = dataclasses.replace(ALL_PODS, manifests=member.CONTROL_PLANE_MANIFESTS - {"etcd"}, etcd_data=False)


def attempt(wanted: member.Wanted) -> dict[str, Any]:
    return wanted.attempt()


def after(wanted: member.Wanted, seen: member.Observed, exit_code: int | None = None) -> member.Observed:
    return dataclasses.replace(seen, attempt=attempt(wanted), exit_code=exit_code)


@pytest.mark.parametrize(
    ("name", "wanted", "seen", "action"),
    [
        ("fresh worker", WORKER, NOTHING, member.RUN),
        ("fresh control plane", JOINING, NOTHING, member.RUN),
        ("fresh first", FIRST, NOTHING, member.RUN),
        ("attempt that left nothing", WORKER, after(WORKER, NOTHING, 1), member.RUN),
        ("member", WORKER, dataclasses.replace(KUBELET, marker=WORKER.marker()), member.UNCHANGED),
        ("ended well, marker missing", JOINING, after(JOINING, ALL_PODS, 0), member.ADOPT),
        ("power lost after the last step", JOINING, after(JOINING, WHOLE), member.ADOPT),
        ("power lost while etcd joined", JOINING, after(JOINING, ALL_PODS), member.FINISH),
        ("failed with etcd joined", JOINING, after(JOINING, ALL_PODS, 1), member.FINISH),
        ("failed before etcd joined", JOINING, after(JOINING, NO_ETCD, 1), member.RESET),
        ("a silent API server", WORKER, after(WORKER, dataclasses.replace(KUBELET, answered=False), 1), member.REFUSE),
        ("a silent API server, seen by a control plane", JOINING,
         after(JOINING, dataclasses.replace(NO_ETCD, answered=False), 1), member.REFUSE),
        ("a silent API server, but an etcd member", JOINING,
         after(JOINING, dataclasses.replace(ALL_PODS, answered=False), 1), member.FINISH),
        ("a silent API server that never was", FIRST, after(FIRST, dataclasses.replace(ALL_PODS, answered=False)),
         member.RESET),
        ("another cluster's silent API server", WORKER,
         after(WORKER, dataclasses.replace(KUBELET, answered=False, server="https://10.0.0.1:6443"), 1), member.RESET),
        ("ended well in another role", JOINING, after(AS_WORKER, KUBELET, 0), member.REFUSE),
        ("ended well under another name", WORKER, after(dataclasses.replace(WORKER, node_name="old"), KUBELET, 0),
         member.REFUSE),
        ("an etcd member that shall be a worker", dataclasses.replace(AS_WORKER),
         after(JOINING, ALL_PODS, 1), member.REFUSE),
        ("failed in another role", JOINING, after(AS_WORKER, KUBELET, 1), member.RESET),
        ("worker without a node", WORKER, after(WORKER, KUBELET, 1), member.RESET),
        ("worker with a node", WORKER, after(WORKER, REGISTERED), member.ADOPT),
        ("init without addons", FIRST, after(FIRST, dataclasses.replace(WHOLE, addons=False), 1), member.FINISH),
        ("init with another configuration", dataclasses.replace(FIRST, fingerprint="b"),
         after(dataclasses.replace(FIRST, fingerprint="a"), dataclasses.replace(WHOLE, addons=False), 1), member.RESET),
        ("init whole", FIRST, after(FIRST, WHOLE), member.ADOPT),
        ("init with etcd only is begun again", FIRST, after(FIRST, ALL_PODS), member.RESET),
        ("somebody else's complete member", WORKER, REGISTERED, member.ADOPT),
        ("somebody else's half member", WORKER, KUBELET, member.REFUSE),
        ("somebody else's etcd", FIRST, member.Observed(etcd_data=True), member.REFUSE),
        ("another cluster", WORKER, dataclasses.replace(REGISTERED, server="https://10.0.0.1:6443"), member.REFUSE),
        ("another authority", WORKER, dataclasses.replace(REGISTERED, same_authority=False), member.REFUSE),
    ],
)  # fmt: skip
def test_decisions(name: str, wanted: member.Wanted, seen: member.Observed, action: str) -> None:
    decision = member.decide(wanted, seen)
    assert decision.action == action, name
    assert decision.reason


@pytest.mark.parametrize(
    ("marker", "seen", "said"),
    [
        (
            FIRST.marker(),
            KUBELET,
            "member of the cluster as control_plane 'master1', but the plan says worker 'node01'",
        ),
        ({**WORKER.marker(), "node_name": "old"}, KUBELET, "worker 'old'"),
        (WORKER.marker(), NOTHING, "somebody reset it by hand"),
    ],
)
def test_a_marker_that_contradicts_is_not_overruled(marker: dict[str, Any], seen: member.Observed, said: str) -> None:
    decision = member.decide(WORKER, dataclasses.replace(seen, marker=marker))
    assert decision.action == member.REFUSE
    assert said in decision.reason


def test_another_version_is_an_upgrade_and_not_done() -> None:
    marker = {**WORKER.marker(), "kubernetes_version": "v1.19.2"}
    decision = member.decide(WORKER, dataclasses.replace(KUBELET, marker=marker))
    assert decision.action == member.REFUSE
    assert "a member with v1.19.2, but the plan says v1.20.2. This would be an upgrade" in decision.reason
    unversioned = {name: value for name, value in marker.items() if name != "kubernetes_version"}
    assert member.decide(WORKER, dataclasses.replace(KUBELET, marker=unversioned)).action == member.UNCHANGED


def test_a_member_without_a_marker_is_not_to_be_reset_because_the_cluster_is_silent() -> None:
    decision = member.decide(WORKER, dataclasses.replace(KUBELET, answered=False))
    assert decision.action == member.REFUSE
    assert "did not answer" in decision.reason
    assert "kubeadm reset" not in decision.reason


def test_silence_is_told_with_what_to_do() -> None:
    reason = member.decide(WORKER, after(WORKER, dataclasses.replace(KUBELET, answered=False), 1)).reason
    assert SERVER in reason
    assert "run this again" in reason


def test_a_refusal_says_what_is_there_and_what_to_do() -> None:
    reason = member.decide(FIRST, member.Observed(admin_conf=True, etcd_data=True)).reason
    assert "/etc/kubernetes/admin.conf; /var/lib/etcd" in reason
    assert "kubeadm reset -f" in reason


def test_the_marker_is_the_same_on_every_run() -> None:
    assert json.dumps(WORKER.marker(), sort_keys=True) == (
        '{"kubernetes_version": "v1.20.2", "node_name": "node01", "role": "worker", "schema": 1}'
    )


def observations() -> list[member.Observed]:
    flags = ["kubelet_conf", "admin_conf", "etcd_data", "same_authority", "node_registered", "apiserver_healthy"]
    flags.append("answered")
    found: list[member.Observed] = []
    for values in product([False, True], repeat=len(flags)):
        for manifests in (frozenset(), frozenset({"etcd"}), member.CONTROL_PLANE_MANIFESTS):
            for tried, code in ((None, None), (attempt(JOINING), None), (attempt(JOINING), 0), (attempt(JOINING), 1)):
                flagged: dict[str, Any] = dict(zip(flags, values))
                found.append(
                    member.Observed(**flagged, manifests=manifests, attempt=tried, exit_code=code, server=SERVER)
                )
    return found


@pytest.mark.parametrize("seen", observations())
def test_no_etcd_member_and_nothing_foreign_is_ever_wiped(seen: member.Observed) -> None:
    decision = member.decide(JOINING, seen)
    if decision.action == member.RESET:
        assert seen.attempt is not None
        assert seen.answered or not seen.same_authority or not seen.kubelet_conf
        assert "etcd" not in seen.manifests or not seen.same_authority
    if seen.traces and seen.attempt is None:
        assert decision.action in (member.ADOPT, member.REFUSE)
    if decision.action == member.RUN:
        assert not seen.traces


@pytest.mark.parametrize("flags", ["", "--network-plugin=cni", "--node-ip=192.168.160.246 --network-plugin=cni"])
@pytest.mark.parametrize("quote", ['"', ""])
def test_kubelets_address_is_put_right_and_nothing_else(flags: str, quote: str) -> None:
    text = f"# by kubeadm\nKUBELET_KUBEADM_ARGS={quote}{flags}{quote}\nOTHER=1\n"
    if not quote and " " in flags:
        return
    mended = member.with_node_ip(text, "192.168.253.131")
    assert "--node-ip=192.168.253.131" in mended
    assert "192.168.160.246" not in mended
    assert mended.startswith("# by kubeadm\nKUBELET_KUBEADM_ARGS=")
    assert mended.endswith("\nOTHER=1\n")
    assert mended.count("--network-plugin=cni") == flags.count("--network-plugin=cni")
    assert member.with_node_ip(mended, "192.168.253.131") == mended


def test_flags_of_kubelet_that_are_right_are_left_as_they_are() -> None:
    text = 'KUBELET_KUBEADM_ARGS="--a=b  --node-ip=192.168.253.131  --c=d"\n'
    assert member.with_node_ip(text, "192.168.253.131") == text
    assert member.with_node_ip("", "192.168.253.131") == 'KUBELET_KUBEADM_ARGS="--node-ip=192.168.253.131"\n'


@pytest.mark.parametrize(
    ("log", "journal", "said"),
    [
        ("[ERROR NumCPU]: the number of available CPUs 1 is less than the required 2", [], "ignore_preflight_errors"),
        ("error: dial tcp 10.103.97.2:6443: connect: connection refused", [], "ipvsadm -Ln"),
        ("", ["Failed to admit pod etcd-m2 - Unexpected error: ephemeral-storage"], "systemctl restart kubelet"),
        ('error: Secret "kubeadm-certs" was not found in the "kube-system" Namespace', [], "uploads them anew"),
        ("x509: certificate has expired or is not yet valid", [], "chronyc tracking"),
        ('a Node with name "n" and status "Ready" already exists', [], "kubectl delete node"),
        ("container runtime is not running: output:", [], "systemctl status containerd"),
    ],
)
def test_failures_say_what_to_do(log: str, journal: list[str], said: str) -> None:
    message = member.failure_message("kubeadm join failed", log, journal)
    assert message.startswith("kubeadm join failed\nWhat to do: ")
    assert said in message


def test_failures_show_the_end_of_what_was_said() -> None:
    words = [f"{letter}{other}" for letter in "abcde" for other in "abcdefghij"]
    log = "\n".join(f"line {word}" for word in words) + "\nTo see the stack trace of this error execute\n\n"
    message = member.failure_message("failed", log, [f"heard {word}" for word in words])
    assert "line de\n" not in message
    assert "line df\n" in message
    assert "line ej\n" in message
    assert "heard dj\n" not in message
    assert message.endswith("heard ej")
    assert "stack trace" not in message


def test_what_is_said_over_and_over_is_shown_once_and_where_it_was_said_last() -> None:
    journal = [
        'E1124 06:27:52.241141    2722 kubelet.go:2243] node "master1" not found',
        "E1124 06:27:53.000000    2722 status.go:1] the disk is full",
        'E1124 06:27:52.342475    2722 kubelet.go:2243] node "master1" not found',
        "E1124 06:27:54.000000    2722 pods.go:77] pod etcd was refused",
        "E1124 06:27:55.111111    2722 status.go:1] the disk is full",
    ]
    assert member.failure_message("failed", "", journal).splitlines() == [
        "failed",
        "kubelet said:",
        "  E1124 06:27:54.000000    2722 pods.go:77] pod etcd was refused",
        "  E1124 06:27:55.111111    2722 status.go:1] the disk is full",
    ]


def test_credentials_are_good_until_shortly_before_they_expire() -> None:
    kept = member.Credentials("a.b", 1000, "key", 500)
    assert kept.token_usable(now=899, margin=100)
    assert not kept.token_usable(now=900, margin=100)
    assert kept.key_usable(now=399, margin=100)
    assert not kept.key_usable(now=400, margin=100)
    assert not member.Credentials("", 1000, "", 1000).token_usable(now=0, margin=0)
    assert member.Credentials.from_mapping(kept.as_mapping()) == kept


@pytest.mark.parametrize(
    ("uploads", "token", "key", "upload"),
    [
        ({"bootstrap-token-aaaaaa": "5", "kubeadm-certs": "7"}, True, True, "7"),
        ({"bootstrap-token-aaaaaa": "9", "kubeadm-certs": "8"}, True, False, ""),
        ({"kubeadm-certs": "7"}, False, True, "7"),
        ({"bootstrap-token-aaaaaa": "5"}, True, False, ""),
        ({}, False, False, ""),
    ],
)
def test_credentials_are_good_only_while_the_cluster_has_them(
    uploads: dict[str, str], token: bool, key: bool, upload: str
) -> None:
    kept = member.Credentials("aaaaaa.bbbb", 1000, "key", 1000, upload="7").confirmed(uploads)
    assert (kept.token_usable(0, 0), kept.key_usable(0, 0), kept.upload) == (token, key, upload)


def test_the_upload_of_an_init_becomes_known_at_the_first_look() -> None:
    kept = member.Credentials("aaaaaa.bbbb", 1000, "key", 1000).confirmed({"kubeadm-certs": "7"})
    assert kept.key_usable(0, 0)
    assert kept.upload == "7"
    assert not kept.confirmed({"kubeadm-certs": "8"}).key_usable(0, 0)


junk = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda children: st.lists(children, max_size=2) | st.dictionaries(st.text(), children, max_size=2),
    max_leaves=4,
)


@given(st.dictionaries(st.sampled_from(["token", "token_expires", "certificate_key", "key_expires"]), junk))
def test_a_damaged_file_of_credentials_counts_as_none(data: dict[str, Any]) -> None:
    kept = member.Credentials.from_mapping(data)
    assert isinstance(kept.token, str)
    assert isinstance(kept.token_expires, int)
