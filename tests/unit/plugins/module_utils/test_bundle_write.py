# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import socket
import tarfile
from pathlib import Path

import pytest

from ansible_collections.multinic.kubernetes.plugins.module_utils._bundle import Manifest, Missing, Part, parse_manifest
from ansible_collections.multinic.kubernetes.plugins.module_utils._bundle_write import (
    Entry,
    ImageConfig,
    file_sha256,
    image_config,
    timestamp,
    tree_entries,
    with_folders,
    write_bundle,
    write_docker_archive,
    write_layer,
)

EPOCH = 1610544489


def program(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_folders_come_before_what_lies_in_them() -> None:
    names = [entry.name for entry in with_folders([Entry("usr/local/bin/x", source=Path("x")), Entry("tmp", 0o1777)])]
    assert names == ["tmp", "usr", "usr/local", "usr/local/bin", "usr/local/bin/x"]


def test_a_tree_is_read_with_modes_and_links_but_without_sockets(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "usr/sbin").mkdir(parents=True)
    tool = program(root / "usr/sbin", "tool", "x")
    tool.chmod(0o750)
    (root / "usr/sbin/alias").symlink_to("tool")
    (root / "lib").symlink_to("usr/lib")
    listener = socket.socket(socket.AF_UNIX)
    here = Path.cwd()
    os.chdir(root)
    try:
        listener.bind("socket")
    finally:
        os.chdir(here)
        listener.close()
    found = {entry.name: entry for entry in tree_entries(root)}
    assert set(found) == {"usr", "usr/sbin", "usr/sbin/tool", "usr/sbin/alias", "lib"}
    assert found["usr/sbin/tool"].mode == 0o750
    assert found["usr/sbin/alias"].target == "tool"
    assert found["lib"].target == "usr/lib"
    assert found["usr"].folder


def layer_of(folder: Path, entries: list[Entry]) -> tuple[bytes, str]:
    stream = io.BytesIO()
    diff_id = write_layer(stream, entries, EPOCH)
    return stream.getvalue(), diff_id


def test_a_layer_is_the_same_bytes_whatever_the_day_and_the_order(tmp_path: Path) -> None:
    one, two = program(tmp_path, "one", "1"), program(tmp_path, "two", "22")
    entries = [Entry("bin/one", source=one), Entry("bin/two", 0o700, source=two), Entry("bin/1", target="one")]
    first, diff_id = layer_of(tmp_path, entries)
    os.utime(one, (1, 1))
    assert layer_of(tmp_path, entries[::-1]) == (first, diff_id)
    assert diff_id == hashlib.sha256(first).hexdigest()
    with tarfile.open(fileobj=io.BytesIO(first)) as archive:
        members = {member.name: member for member in archive}
    assert list(members) == ["bin", "bin/1", "bin/one", "bin/two"]
    assert {(member.uid, member.gid, member.mtime, member.uname) for member in members.values()} == {(0, 0, EPOCH, "")}
    assert (members["bin/two"].mode, members["bin/two"].size) == (0o700, 2)
    assert members["bin/1"].linkname == "one"


def test_a_docker_archive_names_its_layer_by_its_true_digest(tmp_path: Path) -> None:
    layer = tmp_path / "layer.tar"
    with layer.open("wb") as stream:
        diff_id = write_layer(stream, [Entry("pause", source=program(tmp_path, "p", "x"))], EPOCH)
    config = image_config(ImageConfig(entrypoint=("/pause",), labels={"a": "b"}), diff_id, "amd64", EPOCH)
    target = io.BytesIO()
    write_docker_archive(target, layer, diff_id, config, ["k8s.gcr.io/pause:3.2"], EPOCH)
    with tarfile.open(fileobj=io.BytesIO(target.getvalue())) as archive:
        contents = {member.name: archive.extractfile(member).read() for member in archive}  # type: ignore[union-attr]
    (described,) = json.loads(contents["manifest.json"])
    assert described["RepoTags"] == ["k8s.gcr.io/pause:3.2"]
    assert described["Config"] == f"{hashlib.sha256(contents[described['Config']]).hexdigest()}.json"
    (layer_name,) = described["Layers"]
    read = json.loads(contents[described["Config"]])
    assert read["rootfs"]["diff_ids"] == [f"sha256:{hashlib.sha256(contents[layer_name]).hexdigest()}"]
    assert read["config"]["Entrypoint"] == ["/pause"]
    assert "/usr/local/bin" in read["config"]["Env"][0]
    assert (read["architecture"], read["os"], read["created"]) == ("amd64", "linux", "2021-01-13T13:28:09Z")


def test_an_image_without_entrypoint_has_none() -> None:
    assert json.loads(image_config(ImageConfig(), "0" * 64, "amd64", 0))["config"]["Entrypoint"] is None


def bundle_of(folder: Path) -> tuple[Manifest, dict[str, Path]]:
    parts: list[Part] = []
    sources: dict[str, Path] = {}
    for name in ("kubelet", "kubectl", "kubeadm"):
        source = program(folder, name, name * 1000)
        path = f"bin/{name}"
        parts.append(Part(path, file_sha256(source), source.stat().st_size, "0755", "binary", origin="Bäume"))
        sources[path] = source
    pause = "k8s.gcr.io/pause:3.2"
    missing = (Missing(pause, "brought by the hosts"),)
    manifest = Manifest("v1.20.2", "amd64", timestamp(EPOCH), "k8s.gcr.io", pause, (pause,), tuple(parts), missing)
    return parse_manifest(manifest.as_dict()), sources


@pytest.mark.parametrize("level", [1, 9])
def test_a_bundle_is_the_same_bytes_whatever_the_day(tmp_path: Path, level: int) -> None:
    manifest, sources = bundle_of(tmp_path)
    first, second = io.BytesIO(), io.BytesIO()
    sha256, size = write_bundle(first, manifest, sources, EPOCH, level)
    os.utime(sources["bin/kubeadm"], (1, 1))
    write_bundle(second, manifest, sources, EPOCH, level)
    assert first.getvalue() == second.getvalue()
    assert (sha256, size) == (hashlib.sha256(first.getvalue()).hexdigest(), len(first.getvalue()))


def test_a_bundle_begins_with_its_manifest(tmp_path: Path) -> None:
    manifest, sources = bundle_of(tmp_path)
    stream = io.BytesIO()
    write_bundle(stream, manifest, sources, EPOCH, 4)
    with tarfile.open(fileobj=io.BytesIO(gzip.decompress(stream.getvalue())), mode="r:") as archive:
        members = archive.getmembers()
        assert [member.name for member in members] == ["manifest.json", "bin/kubeadm", "bin/kubectl", "bin/kubelet"]
        assert parse_manifest(json.load(archive.extractfile(members[0]))) == manifest  # type: ignore[arg-type]
        content = archive.extractfile(members[1])
        assert content is not None
        assert content.read() == b"kubeadm" * 1000
    assert {member.mode for member in members[1:]} == {0o755}
    assert {(member.uid, member.gid, member.uname, member.mtime) for member in members} == {(0, 0, "", EPOCH)}


def test_a_part_that_has_shrunk_is_not_packed(tmp_path: Path) -> None:
    manifest, sources = bundle_of(tmp_path)
    sources["bin/kubeadm"].write_text("short", encoding="utf-8")
    with pytest.raises(OSError, match="unexpected end of data"):
        write_bundle(io.BytesIO(), manifest, sources, EPOCH, 1)
