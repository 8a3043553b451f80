# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import tarfile
import time
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.multinic.kubernetes.plugins.module_utils import _unpack as core
from ansible_collections.multinic.kubernetes.plugins.module_utils._bundle import BundleError
from ansible_collections.multinic.kubernetes.plugins.modules import bundle_unpack as module

PARTS: dict[str, tuple[bytes, dict[str, Any]]] = {
    "bin/kubeadm": (b"kubeadm", {"kind": "binary", "mode": "0755"}),
    "bin/kubelet": (b"kubelet" * 400_000, {"kind": "binary", "mode": "0755"}),
    "bin/kubectl": (b"kubectl", {"kind": "binary", "mode": "0755"}),
    "images/etcd.tar": (b"etcd", {"kind": "image", "images": ["k8s.gcr.io/etcd:3"], "roles": ["control_plane"]}),
    "images/proxy.tar": (b"proxy", {"kind": "image", "images": ["k8s.gcr.io/proxy:1"], "roles": ["worker"]}),
}


def manifest(**changes: Any) -> dict[str, Any]:
    parts = [
        {
            "path": path,
            "sha256": hashlib.sha256(content).hexdigest(),
            "size": len(content),
            "mode": "0644",
            **more,
        }
        for path, (content, more) in PARTS.items()
    ]
    return {
        "schema": 1,
        "kubernetes_version": "v1.20.2",
        "architecture": "amd64",
        "created": "2024-01-01T00:00:00Z",
        "image_repository": "k8s.gcr.io",
        "pause_image": "k8s.gcr.io/etcd:3",
        "images_required": ["k8s.gcr.io/etcd:3"],
        "parts": parts,
        "missing": [],
        **changes,
    }


def member(name: str, content: bytes = b"", **more: Any) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for key, value in more.items():
        setattr(info, key, value)
    return info, content


def members() -> list[tuple[tarfile.TarInfo, bytes]]:
    text = json.dumps(manifest()).encode()
    return [member("manifest.json", text), *(member(path, content) for path, (content, _more) in PARTS.items())]


def archive(path: Path, entries: list[tuple[tarfile.TarInfo, bytes]]) -> str:
    with tarfile.open(path, "w:gz") as tar:
        for info, content in entries:
            tar.addfile(info, io.BytesIO(content))
    return hashlib.sha256(path.read_bytes()).hexdigest()


def unpack(tmp_path: Path, entries: list[tuple[tarfile.TarInfo, bytes]], roles: list[str] | None = None) -> Path:
    path = tmp_path / "bundle.tar.gz"
    sha256 = archive(path, entries)
    store = module.Store(str(tmp_path / "root"))
    store.root.mkdir(exist_ok=True)
    store.unpack(path, sha256, roles or [])
    return store.root / sha256


def left_over(tmp_path: Path) -> list[str]:
    return sorted(str(path.relative_to(tmp_path)) for path in (tmp_path / "root").rglob("*"))


def test_a_good_bundle_is_unpacked_with_its_modes(tmp_path: Path) -> None:
    folder = unpack(tmp_path, members())
    for path, (content, more) in PARTS.items():
        assert (folder / path).read_bytes() == content
        assert (folder / path).stat().st_mode & 0o777 == int(more.get("mode", "0644"), 8)
    assert module.Store(str(tmp_path / "root")).complete(folder.name, [])


def test_images_of_other_roles_are_left_out_and_their_lack_is_noticed_when_the_role_grows(tmp_path: Path) -> None:
    folder = unpack(tmp_path, members(), ["worker"])
    store = module.Store(str(tmp_path / "root"))
    assert not (folder / "images/etcd.tar").exists()
    assert store.complete(folder.name, ["worker"])
    assert not store.complete(folder.name, ["worker", "control_plane"])


def test_a_file_cut_short_by_a_power_loss_is_noticed(tmp_path: Path) -> None:
    folder = unpack(tmp_path, members())
    os.truncate(folder / "bin/kubelet", 0)
    assert not module.Store(str(tmp_path / "root")).complete(folder.name, [])


def noise(size: int) -> bytes:
    """Bytes that do not compress, the same ones each time."""
    return b"".join(hashlib.sha256(str(number).encode()).digest() for number in range(size // 32 + 1))[:size]


def test_a_wrong_checksum_is_refused_before_anything_is_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "bundle.tar.gz"
    archive(path, members())
    store = module.Store(str(tmp_path / "root"))
    store.root.mkdir()
    with pytest.raises(core.UnpackError, match="Nothing was unpacked"):
        store.unpack(path, "0" * 64, [])
    assert left_over(tmp_path) == []


def changed(index: int, entry: tuple[tarfile.TarInfo, bytes]) -> list[tuple[tarfile.TarInfo, bytes]]:
    entries = members()
    entries[index] = entry
    return entries


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ([*members(), member("/etc/passwd", b"x")], "the name is absolute"),
        ([*members(), member("bin/../../x", b"x")], r"component '\.\.'"),
        ([*members(), member("bin/kubeadm", b"kubeadm")], "more than once"),
        ([*members(), member("bin/extra", b"x")], "is not in the manifest"),
        (
            changed(1, member("bin/kubeadm", type=tarfile.SYMTYPE, linkname="/etc/passwd")),
            "is a link, a folder or a device",
        ),
        (changed(1, member("bin/kubeadm", type=tarfile.LNKTYPE, linkname="/etc/passwd")), "is a link"),
        (changed(1, member("bin/kubeadm", type=tarfile.CHRTYPE)), "is a link, a folder or a device"),
        (changed(1, member("bin/kubeadm", b"KUBEADM")), "has sha256"),
        (changed(1, member("bin/kubeadm", b"longer than that")), "has 16 bytes"),
        (members()[:-1], "in the manifest but not in the archive"),
        (members()[1:], "does not begin with manifest.json"),
        ([member("manifest.json", b'{"schema": 2}')], "schema 2"),
    ],
)
def test_what_is_unsafe_or_wrong_is_refused_and_nothing_stays(
    tmp_path: Path, entries: list[tuple[tarfile.TarInfo, bytes]], message: str
) -> None:
    with pytest.raises(BundleError, match=message):
        unpack(tmp_path, entries)
    assert left_over(tmp_path) == []


def test_current_moves_in_one_step_and_old_versions_go(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    store = module.Store(str(root))
    names = [character * 64 for character in "abc"]
    for age, name in enumerate(names):
        (root / name).mkdir()
        os.utime(root / name, (1000 + age, 1000 + age))
        store.point(name)
    (root / f"{core.UNPACKING}-77").mkdir()
    assert store.situation(names[2], []).current == names[2]
    assert core.obsolete(store.entries(), names[2], 1, time.time()) == [names[0], f"{core.UNPACKING}-77"]
    store.remove(core.obsolete(store.entries(), names[2], 0, time.time()))
    assert sorted(path.name for path in root.iterdir()) == [names[2], core.CURRENT]


def test_two_runs_at_once_do_not_disturb_each_other(tmp_path: Path) -> None:
    sent = tmp_path / "sent.tar.gz"
    sha256 = archive(sent, members())
    root = tmp_path / "root"
    root.mkdir()
    store = module.Store(str(root))
    first, second = store.prepare(0, 0, None), store.prepare(0, 0, None)
    first.write_bytes(sent.read_bytes())
    second.write_bytes(sent.read_bytes()[:100])
    store.unpack(first, sha256, [])
    store.discard(first)
    assert core.obsolete(store.entries(), sha256, 0, time.time()) == []
    assert second.is_file()
    assert not first.parent.exists()


def test_an_archive_that_a_killed_run_left_goes(tmp_path: Path) -> None:
    store = module.Store(str(tmp_path))
    left = store.prepare(0, 0, None)
    left.write_bytes(b"half")
    os.utime(left, (1000, 1000))
    store.prepare(0, 0, None)
    assert not left.parent.exists()


def test_folders_of_others_keep_their_modes_and_new_ones_may_be_passed_through(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    old = os.umask(0o077)
    try:
        store = module.Store(str(tmp_path / "made/root"))
        with store.lock():
            store.prepare(0, 0, "root")
    finally:
        os.umask(old)
    modes = [path.stat().st_mode & 0o777 for path in (tmp_path, tmp_path / "made", tmp_path / "made/root")]
    assert modes == [0o700, 0o755, 0o755]


@pytest.mark.parametrize(
    ("mode", "account", "stopped"),
    [
        (0o700, (1000, [1000]), True),
        (0o711, (1000, [1000]), False),
        (0o710, (1000, [1000, 8]), False),
        (0o700, (0, [0]), False),
        (0o700, (7, [1000]), False),
    ],
)
def test_a_receiver_who_cannot_reach_the_folder_is_told(
    tmp_path: Path, mode: int, account: tuple[int, list[int]], stopped: bool
) -> None:
    folders = [(str(tmp_path), 7, 8, 0o040000 | mode), ("/", 0, 0, 0o040755)]
    problem = core.passage_problem(folders, *account, str(tmp_path / "root"))
    assert bool(problem) is stopped
    assert not stopped or f"{tmp_path} (mode 0700)" in problem


def test_the_manifest_comes_when_all_parts_are_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[str]] = []
    monkeypatch.setattr(os, "sync", lambda: seen.append(left_over(tmp_path)))
    folder = unpack(tmp_path, members())
    assert len(seen) == 1
    assert not [name for name in seen[0] if name.endswith("manifest.json")]
    assert len([name for name in seen[0] if "/bin/" in name]) == 3
    assert (folder / "manifest.json").is_file()


@pytest.mark.parametrize("size", [0, 1, 10, 5_000_000])
@pytest.mark.parametrize("step", [1000, 1 << 20, -1])
def test_the_reader_gives_what_was_compressed(size: int, step: int) -> None:
    data = noise(size // 2) + b"\0" * (size - size // 2)
    half = len(data) // 2
    stream = io.BytesIO(gzip.compress(data[:half]) + gzip.compress(data[half:]))
    reader = module.GunzipReader(stream)
    assert b"".join(iter(lambda: reader.read(step), b"")) == data


def test_a_truncated_archive_is_an_error() -> None:
    reader = module.GunzipReader(io.BytesIO(gzip.compress(noise(100_000))[:-50]))
    with pytest.raises(EOFError, match="in the middle"):
        reader.read()


@pytest.mark.parametrize(("free", "fits"), [(core.RESERVE + 10, True), (core.RESERVE + 9, False)])
def test_space(free: int, fits: bool) -> None:
    problem = core.space_problem("/var", free, 10)
    assert (problem == "") is fits
    assert fits or ("/var" in problem and "bundle_root" in problem)
