# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module util is **PRIVATE** to the collection.

"""Writes the archives of a bundle: image layers, docker archives, and the bundle itself.

The same input gives the same bytes, on any day and for any user: names are sorted, times fixed, owners root.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import stat
import tarfile
import typing as t
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path

from ansible_collections.multinic.kubernetes.plugins.module_utils._bundle import MANIFEST_NAME, Manifest

_CHUNK = 1 << 20


@dataclass(frozen=True)
class Entry:
    """One file, folder or symbolic link of an image's file system."""

    name: str
    mode: int = 0o755
    source: Path | None = None
    target: str = ""

    @property
    def folder(self) -> bool:
        """Whether it is a folder."""
        return self.source is None and not self.target


@dataclass(frozen=True)
class ImageConfig:
    """What a container of an image starts with."""

    entrypoint: tuple[str, ...] = ()
    environment: tuple[str, ...] = ("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",)
    labels: Mapping[str, str] = field(default_factory=dict)


class _Hashed(io.RawIOBase):
    """Passes on what is written, and knows its sha256."""

    def __init__(self, stream: t.BinaryIO) -> None:
        self._stream = stream
        self._digest = hashlib.sha256()
        self._written = 0

    def write(self, data: t.Any) -> int:
        self._digest.update(data)
        self._written += len(data)
        self._stream.write(data)
        return len(data)

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._written

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()


def timestamp(epoch: int) -> str:
    """A moment as images and manifests write it."""
    return datetime.fromtimestamp(epoch, tz=timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def file_sha256(path: Path) -> str:
    """The sha256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        for chunk in iter(lambda: stream.read(_CHUNK), b""):
            digest.update(chunk)
    return digest.hexdigest()


def with_folders(entries: Iterable[Entry]) -> list[Entry]:
    """The entries in the order in which they can be unpacked, with the folders that lead to them."""
    found = {entry.name: entry for entry in entries}
    for name in list(found):
        parent = os.path.dirname(name)
        while parent and parent not in found:
            found[parent] = Entry(parent)
            parent = os.path.dirname(parent)
    return [found[name] for name in sorted(found)]


def tree_entries(root: Path) -> Iterator[Entry]:
    """All that lies below a folder. Devices and sockets are left out: no image needs them."""
    for folder, folders, files in os.walk(root):
        for name in folders + files:
            path = Path(folder, name)
            mode = path.lstat().st_mode
            inside = str(path.relative_to(root))
            if stat.S_ISLNK(mode):
                yield Entry(inside, 0o777, target=os.readlink(path))
            elif stat.S_ISDIR(mode):
                yield Entry(inside, stat.S_IMODE(mode))
            elif stat.S_ISREG(mode):
                yield Entry(inside, stat.S_IMODE(mode), source=path)


def _header(name: str, epoch: int, mode: int = 0o644, size: int = 0) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.mtime = epoch
    info.mode = mode
    info.size = size
    return info


def write_layer(stream: t.BinaryIO, entries: Iterable[Entry], epoch: int) -> str:
    """Writes one image layer; returns its sha256, which is its diff id."""
    hashed = _Hashed(stream)
    with tarfile.open(fileobj=t.cast("t.BinaryIO", hashed), mode="w", format=tarfile.GNU_FORMAT) as archive:
        for entry in with_folders(entries):
            info = _header(entry.name, epoch, entry.mode)
            if entry.folder:
                info.type = tarfile.DIRTYPE
                archive.addfile(info)
            elif entry.target:
                info.type = tarfile.SYMTYPE
                info.linkname = entry.target
                archive.addfile(info)
            elif entry.source is not None:
                with entry.source.open("rb") as content:
                    info.size = os.fstat(content.fileno()).st_size
                    archive.addfile(info, content)
    return hashed.sha256


def image_config(config: ImageConfig, diff_id: str, architecture: str, epoch: int) -> bytes:
    """The image's configuration, as the OCI image specification has it."""
    data: dict[str, t.Any] = {
        "architecture": architecture,
        "os": "linux",
        "created": timestamp(epoch),
        "config": {
            "Env": list(config.environment),
            "Entrypoint": list(config.entrypoint) or None,
            "WorkingDir": "/",
            "Labels": dict(config.labels),
        },
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{diff_id}"]},
        "history": [{"created": timestamp(epoch), "created_by": "multinic.kubernetes bundle_build"}],
    }
    return json.dumps(data, sort_keys=True, separators=(",", ":")).encode()


def write_docker_archive(
    stream: t.BinaryIO,
    layer: Path,
    diff_id: str,
    config: bytes,
    references: Sequence[str],
    epoch: int,
) -> None:
    """Writes an image of one layer as `docker save` does; `ctr images import` and `docker load` read it."""
    config_name = f"{hashlib.sha256(config).hexdigest()}.json"
    layer_name = f"{diff_id}/layer.tar"
    index = [{"Config": config_name, "RepoTags": list(references), "Layers": [layer_name]}]
    manifest = json.dumps(index, sort_keys=True, separators=(",", ":")).encode()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for name, data in (("manifest.json", manifest), (config_name, config)):
            archive.addfile(_header(name, epoch, size=len(data)), io.BytesIO(data))
        with layer.open("rb") as content:
            archive.addfile(_header(layer_name, epoch, size=layer.stat().st_size), content)


def manifest_json(manifest: Manifest) -> bytes:
    """The manifest as it stands in the archive."""
    return (json.dumps(manifest.as_dict(), indent=1, sort_keys=True, ensure_ascii=False) + "\n").encode()


def write_bundle(
    stream: t.BinaryIO, manifest: Manifest, sources: Mapping[str, Path], epoch: int, level: int
) -> tuple[str, int]:
    """Writes the bundle, its manifest first and its parts by name; returns its sha256 and size."""
    hashed = _Hashed(stream)
    target = t.cast("t.BinaryIO", hashed)
    data = manifest_json(manifest)
    with gzip.GzipFile(filename="", mode="wb", compresslevel=level, fileobj=target, mtime=epoch) as packed:
        with tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as archive:
            archive.addfile(_header(MANIFEST_NAME, epoch, size=len(data)), io.BytesIO(data))
            for part in sorted(manifest.parts, key=lambda item: item.path):
                with sources[part.path].open("rb") as content:
                    archive.addfile(_header(part.path, epoch, int(part.mode, 8), part.size), content)
    return hashed.sha256, hashed.tell()
