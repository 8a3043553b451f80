# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the module does with processes, locks and files, with real ones. kubeadm itself is seen end to end."""

from __future__ import annotations

import fcntl
import json
import os
import re
import signal
import stat
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ansible_collections.multinic.kubernetes.plugins.module_utils._kubeadm import init_documents, join_documents
from ansible_collections.multinic.kubernetes.plugins.modules import kubeadm

PLAN: dict[str, Any] = {
    "kubernetes_version": "v1.20.2",
    "apiserver": {"name": "api.local", "vip": "10.103.97.2", "port": 6443, "endpoint": "api.local:6443", "sans": []},
    "pod_cidr": "100.64.0.0/10",
    "service_cidr": "10.96.0.0/16",
    "dns_domain": "cluster.local",
    "dns_address": "10.96.0.10",
    "control_plane": ["m1", "m2"],
    "workers": ["w1"],
    "first_control_plane": "m1",
    "kube_proxy": {"mode": "iptables", "exclude_cidrs": []},
    "hosts": {
        "m1": {"node_name": "m1", "role": "control_plane", "schedulable": False, "address": "192.168.253.129"},
        "m2": {"node_name": "m2", "role": "control_plane", "schedulable": False, "address": "192.168.253.128"},
        "w1": {"node_name": "w1", "role": "worker", "schedulable": True, "address": "192.168.253.131"},
    },
}
PATHS = {
    "KUBERNETES": "kubernetes",
    "STATE": "state",
    "MARKER": "state/member.json",
    "ATTEMPT": "state/kubeadm-attempt.json",
    "EXIT_CODE": "state/kubeadm-attempt.rc",
    "PHASE_EXIT_CODE": "state/kubeadm-phase.rc",
    "KUBELET_FLAGS": "kubeadm-flags.env",
    "PKI_BEFORE": "state/pki-before",
    "CREDENTIALS": "state/kubeadm-credentials.json",
    "RUNTIME": "run",
    "LOCK": "lock",
    "LOG": "log",
    "ETCD": "etcd",
}


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A host of its own: every place the module touches lies in a temporary folder."""
    for name, place in PATHS.items():
        monkeypatch.setattr(kubeadm, name, tmp_path / place)
    (tmp_path / "state").mkdir()
    return tmp_path


def member(operation: str = "init", check_mode: bool = False, node: str = "", **params: Any) -> kubeadm.Kubeadm:
    joins = operation in ("join", "await")
    build = join_documents if joins else init_documents
    defaults: dict[str, Any] = {
        "operation": operation,
        "configuration": build(PLAN, PLAN["hosts"][node or ("w1" if joins else "m1")], {}),
        "kubernetes_version": "v1.20.2",
        "endpoint": "api.local:6443",
        "token": None,
        "certificate_key": None,
        "ca_certificate": None,
        "patches": {},
        "patches_directory": "/nonexistent",
        "bundle_manifest": "/nonexistent",
        "for_control_plane": True,
        "bin_dir": "/nonexistent",
        "wait": True,
        "timeout": 20,
        "lock_timeout": 0,
    }
    module: Any = SimpleNamespace(params={**defaults, **params}, check_mode=check_mode)
    return kubeadm.Kubeadm(module)


def wait_until(condition: Any, seconds: float = 10) -> None:
    give_up = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < give_up, "it did not come true in time"
        time.sleep(0.02)


def locked(path: Path) -> bool:
    with path.open("a") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


@pytest.mark.parametrize("code", [0, 7])
def test_a_detached_command_leaves_its_code_and_no_secrets(root: Path, code: int) -> None:
    host = member()
    host.lock()
    host.write_runtime("kubeadm.yaml", "secret")
    assert host.wait_for(host.detached(["/bin/sh", "-c", f"echo said; exit {code}"])) == code
    assert host.exit_code() == code
    assert host.log() == "said\n"
    assert not (root / "run").exists()
    assert stat.S_IMODE((root / "log").stat().st_mode) == 0o600


def test_a_detached_command_outlives_a_killed_module_and_holds_the_lock(root: Path, repository: Path) -> None:
    script = textwrap.dedent(
        """
        import sys
        from pathlib import Path
        sys.path[:0] = [sys.argv[2], sys.argv[3]]
        import test_kubeadm as tests
        root = Path(sys.argv[1])
        for name, place in tests.PATHS.items():
            setattr(tests.kubeadm, name, root / place)
        host = tests.member()
        host.lock()
        host.write_runtime("kubeadm.yaml", "secret")
        process = host.detached(["/bin/sh", "-c", 'echo begun; sleep 1; echo "$$" >"$0"', str(root / "went-on")])
        print("running", flush=True)
        host.wait_for(process)
        """
    )
    module = subprocess.Popen(
        [sys.executable, "-c", script, str(root), str(repository / ".collections"), str(Path(__file__).parent)],
        stdout=subprocess.PIPE,
        start_new_session=True,
        text=True,
    )
    assert module.stdout is not None
    assert module.stdout.readline() == "running\n"
    os.killpg(module.pid, signal.SIGKILL)
    module.wait()
    module.stdout.close()
    assert locked(root / "lock")
    with pytest.raises(kubeadm.KubeadmError, match="still at work"):
        member().lock()
    wait_until(lambda: not locked(root / "lock"))
    assert (root / "went-on").exists()
    assert not (root / "run").exists()
    assert member().exit_code() == 0


def test_the_next_run_waits_for_the_lock(root: Path) -> None:
    first = member()
    first.lock()
    process = first.detached(["/bin/sleep", "0.6"])
    assert first.lock_file is not None
    os.close(first.lock_file)
    started = time.monotonic()
    member(lock_timeout=10).lock()
    assert time.monotonic() - started > 0.3
    assert process.wait(5) == 0


def test_a_command_that_takes_too_long_is_left_alone(root: Path) -> None:
    host = member(timeout=0)
    host.lock()
    process = host.detached(["/bin/sleep", "0.5"])
    with pytest.raises(kubeadm.KubeadmError, match="it was left alone"):
        host.wait_for(process)
    assert process.wait(0) is None
    assert process.wait(5) == 0


def test_secrets_are_only_in_files_of_root(root: Path) -> None:
    host = member()
    path = host.write_configuration()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    kept = json.loads((root / "state/kubeadm-credentials.json").read_text())
    assert stat.S_IMODE((root / "state/kubeadm-credentials.json").stat().st_mode) == 0o600
    text = path.read_text()
    assert kept["token"] in text
    assert kept["certificate_key"] in text
    assert kept["token"] not in str(host.diff())
    assert kept["certificate_key"] not in str(host.diff())


def test_tokens_have_kubeadms_form_and_differ() -> None:
    tokens = {kubeadm.new_token() for _number in range(50)}
    assert len(tokens) == 50
    assert all(re.fullmatch(r"[a-z0-9]{6}\.[a-z0-9]{16}", token) for token in tokens)


def test_a_join_says_what_it_lacks_before_it_touches_anything(root: Path) -> None:
    with pytest.raises(kubeadm.KubeadmError, match=r"token, ca_certificate missing.*Limit the run to"):
        member("join").membership()
    assert sorted(path.name for path in root.iterdir()) == ["lock", "state"]
    assert list((root / "state").iterdir()) == []


def test_check_mode_predicts_and_writes_nothing(root: Path) -> None:
    result = member("join", check_mode=True).membership()
    assert result["changed"] is True
    assert result["decision"] == "run"
    assert '"node_name": "w1"' in result["diff"]["after"]
    assert member("credentials", check_mode=True).credentials()["changed"] is True
    assert sorted(path.name for path in root.iterdir()) == ["state"]


def test_a_damaged_marker_is_an_error_and_not_a_second_init(root: Path) -> None:
    (root / "state/member.json").write_text("{")
    with pytest.raises(kubeadm.KubeadmError, match="is damaged"):
        member().membership()


def test_a_foreign_cluster_is_refused(root: Path) -> None:
    (root / "etcd/member").mkdir(parents=True)
    with pytest.raises(kubeadm.KubeadmError, match="this collection did not write"):
        member().membership()
    assert (root / "etcd/member").exists()


def test_a_wrong_configuration_is_refused_with_its_path() -> None:
    documents = [{**document, "colour": "blue"} for document in join_documents(PLAN, PLAN["hosts"]["w1"], {})]
    with pytest.raises(kubeadm.KubeadmError, match=r"JoinConfiguration\.colour: not a field"):
        member("join", configuration=documents)
    with pytest.raises(kubeadm.KubeadmError, match="exactly one InitConfiguration"):
        member("init", configuration=join_documents(PLAN, PLAN["hosts"]["w1"], {}))
    with pytest.raises(kubeadm.KubeadmError, match=r"v1\.18\.0 is not supported"):
        member(kubernetes_version="v1.18.0")


def test_the_bundle_names_the_images(root: Path) -> None:
    manifest = root / "manifest.json"
    manifest.write_text(json.dumps({"image_repository": "registry.bundle"}))
    documents = {document["kind"]: document for document in member(bundle_manifest=str(manifest)).documents}
    assert documents["ClusterConfiguration"]["imageRepository"] == "registry.bundle"


LACKING = {
    "image_repository": "registry.bundle",
    "parts": [{"path": "images/etcd.tar", "images": ["registry.bundle/etcd:3.4.13-0"]}],
    "missing": [
        {"name": "crictl", "reason": "not in Debian"},
        {"name": "registry.bundle/coredns:1.7.0", "reason": "the proxy is away"},
    ],
}


def lacking(root: Path, **changes: Any) -> str:
    manifest = root / "manifest.json"
    manifest.write_text(json.dumps({**LACKING, **changes}))
    return str(manifest)


def ignored(host: kubeadm.Kubeadm) -> list[str]:
    found: list[str] = host.own["nodeRegistration"].get("ignorePreflightErrors", [])
    return found


def test_a_bundle_without_coredns_makes_a_cluster_without_it(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kubeadm.Kubeadm, "program", lambda _self, name: name)
    host = member(bundle_manifest=lacking(root))
    assert ignored(host) == ["ImagePull"]
    arguments = host.arguments()
    assert arguments[arguments.index("--skip-phases") + 1] == "addon/coredns"
    assert host.warnings == ["the cluster gets no DNS of its own: the bundle holds no CoreDNS (the proxy is away)"]
    joining = member("join", node="m2", bundle_manifest=lacking(root), token="t", ca_certificate="c")
    assert ignored(joining) == ["ImagePull"]
    assert joining.warnings == []
    assert "--skip-phases" not in joining.arguments()
    assert ignored(member("join", bundle_manifest=lacking(root))) == []


@pytest.mark.parametrize(
    ("changes", "settings"),
    [
        ({"missing": []}, {}),
        ({"parts": [{"images": ["registry.bundle/coredns/coredns:v1.8.0"]}]}, {}),
        ({}, {"image_repository": "registry.mine:5000/kubernetes"}),
    ],
)
def test_coredns_is_installed_where_it_can_be_had(
    root: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], settings: dict[str, Any]
) -> None:
    monkeypatch.setattr(kubeadm.Kubeadm, "program", lambda _self, name: name)
    documents = init_documents(PLAN, PLAN["hosts"]["m1"], settings)
    host = member(bundle_manifest=lacking(root, **changes), configuration=documents)
    assert (ignored(host), host.warnings) == ([], [])
    assert "--skip-phases" not in host.arguments()


def test_patches_are_brought_into_the_wanted_state(root: Path) -> None:
    directory = root / "patches"
    directory.mkdir()
    (directory / "old.yaml").write_text("x")
    member(patches={"etcd+strategic.json": "{}"}, patches_directory=str(directory)).write_patches()
    assert {path.name: path.read_text() for path in directory.iterdir()} == {"etcd+strategic.json": "{}"}


def test_the_users_certificates_are_kept_through_a_reset(root: Path) -> None:
    (root / "kubernetes/pki").mkdir(parents=True)
    (root / "kubernetes/pki/ca.key").write_text("mine")
    host = member()
    host.keep_pki()
    assert (root / "state/pki-before/ca.key").read_text() == "mine"
    assert stat.S_IMODE((root / "state/pki-before").stat().st_mode) == 0o700
    (root / "kubernetes/pki/ca.key").write_text("of a later attempt")
    (root / "state/kubeadm-attempt.json").write_text("{}")
    host.keep_pki()
    assert (root / "state/pki-before/ca.key").read_text() == "mine"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount")
@pytest.mark.parametrize("folder", ["kubernetes/pki", "etcd/member"])
def test_a_folder_that_cannot_be_cleared_is_told(root: Path, monkeypatch: pytest.MonkeyPatch, folder: str) -> None:
    monkeypatch.setattr(kubeadm.Kubeadm, "command", lambda *_arguments, **_options: (0, ""))
    monkeypatch.setattr(kubeadm.Kubeadm, "program", lambda _self, name: name)
    inner = root / folder / "snap"
    inner.mkdir(parents=True)
    (inner / "kept").write_text("")
    (root / folder / "gone").write_text("")
    subprocess.run(["mount", "-t", "tmpfs", "none", str(inner)], check=True)
    try:
        (inner / "mine").write_text("")
        with pytest.raises(kubeadm.KubeadmError, match=f"{folder} could not be cleared.*busy.*findmnt"):
            member().reset()
    finally:
        subprocess.run(["umount", str(inner)], check=True)
    member().reset()
    assert not (root / folder).exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount")
def test_a_folder_that_is_a_mount_point_is_emptied_and_filled(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kubeadm.Kubeadm, "command", lambda *_arguments, **_options: (0, ""))
    monkeypatch.setattr(kubeadm.Kubeadm, "program", lambda _self, name: name)
    pki = root / "kubernetes/pki"
    pki.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "none", str(pki)], check=True)
    try:
        (pki / "ca.crt").write_text("mine")
        host = member()
        host.keep_pki()
        (pki / "apiserver.crt").write_text("of the attempt")
        host.reset()
        assert [path.name for path in pki.iterdir()] == ["ca.crt"]
    finally:
        subprocess.run(["umount", str(pki)], check=True)


def test_a_copy_of_the_users_certificates_that_was_interrupted_is_made_anew(root: Path) -> None:
    (root / "kubernetes/pki").mkdir(parents=True)
    for name in ("ca.crt", "ca.key"):
        (root / "kubernetes/pki" / name).write_text("mine")
    (root / "state/pki-before.new").mkdir()
    (root / "state/pki-before.new/ca.crt").write_text("")
    member().keep_pki()
    assert {path.name: path.read_text() for path in (root / "state/pki-before").iterdir()} == {
        "ca.crt": "mine",
        "ca.key": "mine",
    }
    assert not (root / "state/pki-before.new").exists()


def test_a_phase_that_ended_well_makes_no_whole_member(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    host = member("join", node="m2", ca_certificate="c", token="t", certificate_key="k")
    host.lock()
    assert host.wait_for(host.detached(["/bin/sh", "-c", "exit 1"])) == 1
    monkeypatch.setattr(host, "wait_until_healthy", lambda: None)
    host.finishing("join phase x", lambda: ["/bin/true"])
    assert host.exit_code() == 1
    assert (root / "state/kubeadm-phase.rc").read_text() == "0\n"


def test_a_join_of_this_run_is_waited_for_as_long_as_it_may_take(root: Path) -> None:
    first = member("join")
    first.lock()
    with pytest.raises(kubeadm.KubeadmError, match="begun by this run, is still at work after 0 s"):
        member("await", timeout=0, lock_timeout=600).lock()
    with pytest.raises(kubeadm.KubeadmError, match="of an earlier run is still at work after 0 s"):
        member("join", timeout=0, lock_timeout=None).lock()


def half_joined(root: Path, server: str = "https://api.local:6443") -> None:
    (root / "kubernetes").mkdir()
    (root / "kubernetes/kubelet.conf").write_text(f"    server: {server}\n")
    (root / "state/kubeadm-attempt.json").write_text(
        json.dumps({"operation": "join", "node_name": "w1", "role": "worker", "fingerprint": "x"})
    )


def kubectl_says(root: Path, text: str, code: int = 1) -> str:
    (root / "bin").mkdir()
    (root / "bin/kubectl").write_text(f"#!/bin/sh\necho asked >>{root}/asked\necho '{text}' >&2\nexit {code}\n")
    (root / "bin/kubectl").chmod(0o755)
    return str(root / "bin")


@pytest.mark.parametrize(
    ("said", "decision"),
    [
        ("Unable to connect to the server: EOF", None),
        ('Error from server (NotFound): nodes "w1" not found', "reset"),
        ("Unable to connect to the server: x509: certificate signed by unknown authority", "reset"),
    ],
)
def test_a_half_joined_host_is_reset_only_when_the_cluster_has_spoken(
    root: Path, monkeypatch: pytest.MonkeyPatch, said: str, decision: str | None
) -> None:
    monkeypatch.setattr(kubeadm, "PATIENCE", 0)
    half_joined(root)
    host = member("join", check_mode=True, bin_dir=kubectl_says(root, said))
    if decision:
        assert host.membership()["decision"] == decision
    else:
        with pytest.raises(kubeadm.KubeadmError, match=r"did not answer\. Nothing was changed"):
            host.membership()
    assert (root / "asked").exists()


def test_another_cluster_is_not_asked(root: Path) -> None:
    half_joined(root, "https://other.local:6443")
    assert member("join", check_mode=True, bin_dir=kubectl_says(root, "")).membership()["decision"] == "reset"
    assert not (root / "asked").exists()


def joined(root: Path, host: kubeadm.Kubeadm, flags: str) -> kubeadm.Kubeadm:
    (root / "state/member.json").write_text(json.dumps(host.wanted.marker()))
    (root / "kubernetes").mkdir(exist_ok=True)
    (root / "kubernetes/kubelet.conf").write_text("x")
    (root / "kubeadm-flags.env").write_text(f'KUBELET_KUBEADM_ARGS="{flags}"\n')
    return host


def test_kubelets_address_of_a_member_is_put_right(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[list[str]] = []

    def command(_self: kubeadm.Kubeadm, words: list[str]) -> tuple[int, str]:
        ran.append(words)
        return 0, ""

    monkeypatch.setattr(kubeadm.Kubeadm, "command", command)
    monkeypatch.setattr(kubeadm.Kubeadm, "enable_kubelet", lambda _self: False)
    predicted = joined(root, member("join", check_mode=True), "--node-ip=10.0.0.9 --x=y").membership()
    assert (predicted["changed"], ran) == (True, [])
    assert '"--node-ip=192.168.253.131 --x=y"' in predicted["diff"]["after"]
    assert member("join").membership()["changed"] is True
    assert (root / "kubeadm-flags.env").read_text() == 'KUBELET_KUBEADM_ARGS="--node-ip=192.168.253.131 --x=y"\n'
    assert ran == [["systemctl", "restart", "kubelet"]]
    assert member("join").membership()["changed"] is False
    assert len(ran) == 1


def test_a_control_plane_is_not_moved_to_another_network(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kubeadm.Kubeadm, "enable_kubelet", lambda _self: False)
    host = joined(root, member("init"), "--node-ip=10.0.0.9")
    (root / "kubernetes/manifests").mkdir()
    (root / "kubernetes/manifests/kube-apiserver.yaml").write_text("    - --advertise-address=10.0.0.9\n")
    assert host.membership()["changed"] is False
    assert "advertises 10.0.0.9, the plan says 192.168.253.129" in host.warnings[0]


def test_a_control_plane_of_two_families_advertises_the_first(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kubeadm.Kubeadm, "enable_kubelet", lambda _self: False)
    both = ["192.168.253.129", "fd00:253::129"]
    node = {**PLAN["hosts"]["m1"], "addresses": both}
    host = joined(root, member("init", configuration=init_documents(PLAN, node, {})), "--node-ip=1.2.3.4")
    (root / "kubernetes/manifests").mkdir()
    (root / "kubernetes/manifests/kube-apiserver.yaml").write_text("    - --advertise-address=192.168.253.129\n")
    monkeypatch.setattr(host, "command", lambda _words: (0, ""))
    assert host.membership()["changed"] is True
    assert f"--node-ip={','.join(both)}" in (root / "kubeadm-flags.env").read_text()


def test_answers_that_are_no_json_are_told(root: Path) -> None:
    with pytest.raises(kubeadm.KubeadmError, match="kubectl's answer is no JSON"):
        member().read_answer("Warning: x\n{}")


def test_an_authority_that_is_cut_short_is_nobodys(root: Path) -> None:
    text = "    certificate-authority-data: QUJDR\n"
    assert member("join", ca_certificate="ABC").same_authority(text) is False
