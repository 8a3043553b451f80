# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.multinic.kubernetes.plugins.plugin_utils._bundle_file import (
    BundleError,
    check_sha256,
    read_manifest,
)

GOOD: dict[str, Any] = {
    "schema": 1,
    "kubernetes_version": "v1.20.2",
    "architecture": "amd64",
    "created": "2021-01-13T13:28:09Z",
    "image_repository": "k8s.gcr.io",
    "pause_image": "k8s.gcr.io/pause:3.2",
    "images_required": ["k8s.gcr.io/pause:3.2"],
    "parts": [
        {"path": f"bin/{name}", "sha256": "0" * 64, "size": 1, "mode": "0755", "kind": "binary"}
        for name in ("kubeadm", "kubelet", "kubectl")
    ],
    "missing": [{"name": "k8s.gcr.io/pause:3.2", "reason": "brought by the hosts"}],
}


def archive(path: Path, *members: tuple[str, bytes | None]) -> Path:
    with tarfile.open(path, "w:gz") as target:
        for name, data in members:
            info = tarfile.TarInfo(name)
            if data is None:
                info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
                target.addfile(info)
            else:
                info.size = len(data)
                target.addfile(info, io.BytesIO(data))
    return path


def text(data: Any) -> bytes:
    return json.dumps(data).encode()


def test_the_manifest_is_read(tmp_path: Path) -> None:
    path = archive(tmp_path / "b.tar.gz", ("manifest.json", text(GOOD)), ("bin/kubeadm", b"x"))
    manifest = read_manifest(path)
    assert manifest["kubernetes_version"] == "v1.20.2"
    assert [part["path"] for part in manifest["parts"]] == ["bin/kubeadm", "bin/kubelet", "bin/kubectl"]
    json.dumps(manifest)


def test_only_the_beginning_is_read(tmp_path: Path) -> None:
    path = archive(tmp_path / "b.tar.gz", ("manifest.json", text(GOOD)), ("bin/kubeadm", bytes(range(256)) * 4000))
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) - 200])
    assert read_manifest(path)["kubernetes_version"] == "v1.20.2"


@pytest.mark.parametrize(
    ("members", "told"),
    [
        ([], "does not begin with manifest.json"),
        ([("bin/kubeadm", b"x"), ("manifest.json", text(GOOD))], "does not begin with manifest.json"),
        ([("manifest.json", None)], "does not begin with manifest.json"),
        ([("manifest.json", b"{")], "is no JSON"),
        ([("manifest.json", b'{"a": "\xc3\x28"}')], "is not UTF-8"),
        ([("manifest.json", text({**GOOD, "schema": 9}))], "schema 9"),
        ([("manifest.json", b" " * (5 << 20))], "more than 4194304"),
    ],
)
def test_another_archive_is_told(tmp_path: Path, members: list[tuple[str, bytes | None]], told: str) -> None:
    path = archive(tmp_path / "b.tar.gz", *members)
    with pytest.raises(BundleError, match=told) as caught:
        read_manifest(path)
    assert str(path) in str(caught.value)


def test_every_fault_names_the_file(tmp_path: Path) -> None:
    path = archive(tmp_path / "b.tar.gz", ("manifest.json", text({**GOOD, "parts": []})))
    with pytest.raises(BundleError) as caught:
        read_manifest(path)
    assert len(caught.value.problems) == 3
    assert all(problem.startswith(f"{path}: ") for problem in caught.value.problems)


@pytest.mark.parametrize("content", [b"", b"no archive", gzip.compress(b"no tar" * 500)])
def test_no_archive_is_told(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "b.tar.gz"
    path.write_bytes(content)
    with pytest.raises(BundleError, match=r"b\.tar\.gz"):
        read_manifest(path)


def test_an_absent_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="can't be read: No such file"):
        read_manifest(tmp_path / "none.tar.gz")


def test_a_folder_is_told(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="can't be read"):
        read_manifest(tmp_path)


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    path = tmp_path / "b.tar.gz"
    path.write_bytes(b"content")
    return path


SHA = hashlib.sha256(b"content").hexdigest()


def test_the_given_checksum_counts_first(bundle: Path) -> None:
    Path(f"{bundle}.sha256").write_text("0" * 64, encoding="ascii")
    assert check_sha256(bundle, SHA.upper()) == SHA


def test_else_the_one_beside_the_bundle(bundle: Path) -> None:
    Path(f"{bundle}.sha256").write_text(f"{SHA}  b.tar.gz\n", encoding="ascii")
    assert check_sha256(bundle) == SHA


@pytest.mark.parametrize(
    ("given", "beside", "told"),
    [
        ("0" * 64, None, "is damaged or another file"),
        ("", "0" * 64, "is damaged or another file"),
        ("", None, "bundle_sha256 is not set and .* can't be read"),
        ("abc", None, "bundle_sha256 holds no sha256"),
        ("", "", "b.tar.gz.sha256 holds no sha256"),
    ],
)
def test_a_wrong_checksum_is_told(bundle: Path, given: str, beside: str | None, told: str) -> None:
    if beside is not None:
        Path(f"{bundle}.sha256").write_text(beside, encoding="ascii")
    with pytest.raises(BundleError, match=told):
        check_sha256(bundle, given)


def test_an_absent_bundle_is_told(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="can't be read"):
        check_sha256(tmp_path / "none", SHA)
