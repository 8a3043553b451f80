# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the module does with files and sockets, with real ones. A whole host is reset on the lab."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ansible_collections.multinic.kubernetes.plugins.modules import node_reset

PATHS = {
    "KUBERNETES": "kubernetes",
    "APISERVER": "kubernetes/manifests/kube-apiserver.yaml",
    "STOPPED": "kubernetes/kube-apiserver.yaml.stopped",
    "MARKER": "state/member.json",
    "SYSCTLS_KEPT": "state/sysctls-before.json",
}


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, place in PATHS.items():
        monkeypatch.setattr(node_reset, name, tmp_path / place)
    (tmp_path / "kubernetes/manifests").mkdir(parents=True)
    (tmp_path / "state").mkdir()
    return tmp_path


def reset(check_mode: bool = False, **params: Any) -> node_reset.Reset:
    defaults = {"node_name": "m3", "address": "127.0.0.1", "port": 1, "timeout": 5, "bin_dir": "/usr/local/bin"}
    module: Any = SimpleNamespace(params={**defaults, **params}, check_mode=check_mode)
    return node_reset.Reset(module)


@pytest.fixture
def listener() -> socket.socket:
    return socket.create_server(("127.0.0.1", 0))


def test_a_host_that_is_another_node_is_left_alone(root: Path) -> None:
    (root / "state/member.json").write_text(json.dumps({"node_name": "other", "role": "worker"}))
    with pytest.raises(
        node_reset.ResetError, match=r"this host is the node other, not m3.*node_removal_node_name=other"
    ):
        reset().check_name()
    reset(node_name="other").check_name()


@pytest.mark.parametrize("text", ["", "{", "[]"])
def test_a_marker_that_tells_nothing_keeps_nobody_from_cleaning(root: Path, text: str) -> None:
    (root / "state/member.json").write_text(text)
    reset().check_name()


def test_the_api_server_is_waited_for_until_it_no_longer_listens(root: Path, listener: socket.socket) -> None:
    manifest = root / "kubernetes/manifests/kube-apiserver.yaml"
    manifest.write_text("static pod")
    closing = threading.Timer(1.0, listener.close)
    closing.start()
    began = time.monotonic()
    host = reset(port=listener.getsockname()[1])
    host.stop_apiserver()
    assert time.monotonic() - began >= 1.0
    assert not manifest.exists()
    assert (root / "kubernetes/kube-apiserver.yaml.stopped").read_text() == "static pod"
    again = reset(port=1)
    again.stop_apiserver()
    assert again.changes == []


def test_a_run_after_an_interruption_still_waits_for_the_api_server(root: Path, listener: socket.socket) -> None:
    stopped = root / "kubernetes/kube-apiserver.yaml.stopped"
    stopped.write_text("  - command:\n    - kube-apiserver\n    - --advertise-address=127.0.0.1\n")
    host = reset(address="", port=listener.getsockname()[1], timeout=1)
    with listener, pytest.raises(node_reset.ResetError, match="still listens"):
        host.stop_apiserver()
    assert host.changes == []


def test_a_proxy_on_the_loopback_address_is_not_taken_for_the_api_server(root: Path, listener: socket.socket) -> None:
    manifest = root / "kubernetes/manifests/kube-apiserver.yaml"
    manifest.write_text("  - command:\n    - kube-apiserver\n    - --advertise-address=127.0.0.9\n")
    with listener:
        reset(address="", port=listener.getsockname()[1]).stop_apiserver()
    assert not manifest.exists()


def test_an_api_server_that_goes_on_is_told_with_the_way_back(root: Path, listener: socket.socket) -> None:
    (root / "kubernetes/manifests/kube-apiserver.yaml").write_text("static pod")
    with listener, pytest.raises(node_reset.ResetError, match=r"still listens 1 s after.*mv .*stopped"):
        reset(port=listener.getsockname()[1], timeout=1).stop_apiserver()


def test_check_mode_takes_nothing_away(root: Path) -> None:
    manifest = root / "kubernetes/manifests/kube-apiserver.yaml"
    manifest.write_text("static pod")
    host = reset(check_mode=True)
    host.stop_apiserver()
    assert host.changes == ["take the API server's static pod away"]
    assert manifest.exists()


@pytest.mark.parametrize(
    ("made", "had"), [("kubernetes/pki/etcd", True), ("kubernetes/pki", False)], ids=["control plane", "worker"]
)
def test_only_a_control_planes_etcd_is_the_clusters(root: Path, made: str, had: bool) -> None:
    (root / made).mkdir(parents=True)
    assert reset().had_etcd is had


def test_a_file_of_others_keeps_its_mode_when_ours_goes(root: Path) -> None:
    path = root / "hosts"
    path.write_text("127.0.0.1 localhost\n# BEGIN multinic node\n1.2.3.4 m1\n# END multinic node\n")
    path.chmod(0o640)
    host = reset()
    assert host.edit(path, node_reset.core.without_blocks)
    assert path.read_text() == "127.0.0.1 localhost\n"
    assert path.stat().st_mode & 0o777 == 0o640
    assert not host.edit(path, node_reset.core.without_blocks)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount")
def test_a_folder_that_is_a_disk_of_its_own_is_emptied_and_stays(root: Path) -> None:
    folder = root / "etcd"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "none", str(folder)], check=True)
    try:
        (folder / "member/snap").mkdir(parents=True)
        (folder / "member/snap/db").write_text("")
        (folder / "link").symlink_to("/etc/passwd")
        assert not node_reset.is_empty_mount(folder)
        node_reset.remove(folder)
        assert node_reset.is_empty_mount(folder)
    finally:
        subprocess.run(["umount", str(folder)], check=True)
    assert not node_reset.is_empty_mount(folder)
    node_reset.remove(folder)
    assert not folder.exists()


def test_what_could_not_be_removed_is_told_and_the_rest_is_done(root: Path) -> None:
    host = reset()
    host.do("remove the interface nobody", host.finish, "ip", "link", "delete", "nobody0")
    assert host.changes == ["remove the interface nobody"]
    (told,) = host.warnings
    assert told.startswith("'ip link delete nobody0' ended with 1: ") and "run again" in told


def test_parameters_are_set_again_before_the_file_goes_that_tells_them(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a run after an interruption would not know them any more."""
    began: list[str] = []

    def interrupted() -> None:
        began.append("files")
        raise KeyboardInterrupt

    host = reset()
    for step in ("kubeadm", "units", "containers", "network"):
        monkeypatch.setattr(host, step, lambda: None)
    monkeypatch.setattr(host, "kernel", lambda: began.append("kernel"))
    monkeypatch.setattr(host, "files", interrupted)
    with pytest.raises(KeyboardInterrupt):
        host.reset()
    assert began == ["kernel", "files"]
