# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from ansible_collections.multinic.kubernetes.plugins.module_utils import _kubectl as kubectl
from ansible_collections.multinic.kubernetes.plugins.module_utils._kubeadm import discovery_kubeconfig

REFUSED = kubectl.Answer(1, err="The connection to the server a:6443 was refused - did you specify the right host?")
MISSING = kubectl.Answer(1, err='Error from server (NotFound): nodes "x" not found')
GOOD = kubectl.Answer(0, '{"kind": "Node"}', "Warning: v1 ComponentStatus is deprecated")


def asked(answers: Sequence[kubectl.Answer], patience: float) -> tuple[kubectl.Answer, list[list[str]]]:
    seen: list[list[str]] = []

    def runner(words: Sequence[str], _stdin: str, _seconds: float, _bin_dir: str) -> kubectl.Answer:
        seen.append(list(words))
        return answers[min(len(seen), len(answers)) - 1]

    tool = kubectl.Kubectl("/opt/kubectl", "/etc/kubernetes/admin.conf", runner=runner, pause=0)
    return tool.ask("get", "node", "x", patience=patience), seen


def test_the_command_is_complete() -> None:
    _answer, (words,) = asked([GOOD], 0)
    assert words == [
        "/opt/kubectl",
        "--kubeconfig=/etc/kubernetes/admin.conf",
        "--request-timeout=20s",
        "get",
        "node",
        "x",
    ]


@pytest.mark.parametrize(
    ("answers", "patience", "times", "last"),
    [
        ([GOOD], 9, 1, GOOD),
        ([REFUSED, REFUSED, GOOD], 9, 3, GOOD),
        ([REFUSED, MISSING], 9, 2, MISSING),
        ([MISSING], 9, 1, MISSING),
        ([REFUSED, GOOD], 0, 1, REFUSED),
    ],
)
def test_only_silence_is_waited_out(
    answers: list[kubectl.Answer], patience: float, times: int, last: kubectl.Answer
) -> None:
    answer, seen = asked(answers, patience)
    assert (answer, len(seen)) == (last, times)


def test_a_refusal_is_an_answer_and_silence_is_none() -> None:
    assert [answer.silent for answer in (GOOD, MISSING, REFUSED)] == [False, False, True]
    assert MISSING.complaint == 'Error from server (NotFound): nodes "x" not found'
    noisy = "E1124 09:32:40.1 31356 memcache.go:265] refused\nWarning: old\n" + REFUSED.err
    assert kubectl.Answer(1, err=noisy).complaint == REFUSED.err
    assert kubectl.Answer(1, err="E1124 09:32:40.1 1 a.go:1] lost\n").complaint == "E1124 09:32:40.1 1 a.go:1] lost"
    assert kubectl.Answer(2).complaint == "kubectl ended with code 2 and said nothing"


def script(folder: Path, text: str) -> str:
    folder.mkdir(exist_ok=True)
    program = folder / "kubectl"
    program.write_text(f"#!/bin/sh\n{text}\n")
    program.chmod(0o755)
    return str(program)


def test_kubectl_is_found_where_the_search_path_of_sudo_lacks_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = script(tmp_path / "elsewhere", "exit 0")
    monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.setattr(kubectl, "PLACES", ("/nonexistent",))
    assert kubectl.find_kubectl(str(tmp_path / "elsewhere")) == program
    with pytest.raises(kubectl.NoKubectlError, match=r"not on this host \(looked for in /nonexistent\)"):
        kubectl.find_kubectl()


def test_warnings_do_not_mix_with_the_answer(tmp_path: Path) -> None:
    program = script(tmp_path / "bin", "cat; echo a warning >&2")
    answer = kubectl.Kubectl(program, "/none", str(tmp_path / "bin")).ask("get", stdin="{}")
    assert (answer.out, answer.err) == ("{}", "a warning\n")


def test_no_command_is_waited_for_for_ever(tmp_path: Path) -> None:
    program = script(tmp_path / "bin", "exec sleep 5")
    answer = kubectl.Kubectl(program, "/none").ask("get", seconds=0.2)
    assert answer.silent
    assert "no answer within 0.2 s" in answer.complaint


@pytest.mark.parametrize(
    ("log", "passes"),
    [
        ("error execution phase addon/coredns: Get https://a:6443/apis: dial tcp 10.103.97.2:6443: connect: connection refused", True),
        ("error execution phase check-etcd: etcd cluster is not healthy: failed to dial endpoint", True),
        ("error execution phase preflight: couldn't validate the identity of the API Server: i/o timeout", True),
        ("error execution phase control-plane-join/etcd: etcdserver: leader changed", True),
        ("The connection to the server a:6443 was refused - did you specify the right host or port?", True),
        ("Unable to connect to the server: net/http: TLS handshake timeout", True),
        ('Error from server (NotFound): nodes "x" not found', False),
        ("error execution phase preflight: [preflight] Some fatal errors occurred:", False),
        ("W1 connection refused, trying again\nerror execution phase preflight: no such file", False),
        ("error execution phase wait-control-plane: couldn't initialize a Kubernetes cluster", False),
        ("", False),
        ("Error from server: etcdserver: leader changed", True),
        ("Error from server (ServiceUnavailable): the server is currently unable to handle the request", True),
        ("error execution phase control-plane-join/etcd: error creating local etcd static pod manifest file: "
         "etcdserver: re-configuration failed due to not enough started members", True),
        ("Unable to connect to the server: x509: certificate signed by unknown authority", False),
    ],
)  # fmt: skip
def test_what_may_pass_is_told_from_what_will_not(log: str, passes: bool) -> None:
    assert kubectl.is_transient(log) is passes


def test_kubeconfigs_are_read_in_both_notations() -> None:
    text = "clusters:\n- cluster:\n    certificate-authority-data: QUJD\n    server: https://a:6443\n  name: x\n"
    assert kubectl.kubeconfig_server(text) == "https://a:6443"
    assert kubectl.kubeconfig_authority(text) == "QUJD"
    quoted = "  server: 'https://a:6443'\n"
    assert kubectl.kubeconfig_server(quoted) == "https://a:6443"
    ours = discovery_kubeconfig("https://a.local:6443", "ABC")
    assert kubectl.kubeconfig_server(ours) == "https://a.local:6443"
    assert kubectl.kubeconfig_authority(ours) == "QUJD"
    assert kubectl.kubeconfig_server("") == kubectl.kubeconfig_authority("") == ""
