# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module util is **PRIVATE** to the collection.

"""What a bundle is: its manifest, and what may stand in its archive. Pure: no file is opened here."""

from __future__ import annotations

import re
import typing as t
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields

SCHEMA = 1
MANIFEST_NAME = "manifest.json"
MANIFEST_MAX_SIZE = 4 * 1024 * 1024

KINDS = ("binary", "image", "package", "manifest")
ROLES = ("control_plane", "worker")
REQUIRED_BINARIES = ("bin/kubeadm", "bin/kubelet", "bin/kubectl")

# Where a part of each kind lies in the archive.
_PLACES: dict[str, re.Pattern[str]] = {
    "binary": re.compile(r"bin/[^/]+"),
    "image": re.compile(r"images/[^/]+\.tar"),
    "package": re.compile(r"packages/[a-z0-9][a-z0-9.-]*/[^/]+"),
    "manifest": re.compile(r"manifests/.+"),
}
_COMPONENT = re.compile(r"[A-Za-z0-9_+~][A-Za-z0-9._+~:%@-]*")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_MODE = re.compile(r"0[0-7]{3}")
_VERSION = re.compile(r"v[0-9]+\.[0-9]+\.[0-9]+(-[0-9A-Za-z.-]+)?")
_DISTRIBUTION = re.compile(r"[a-z]+-[0-9][0-9.]*")
_REFERENCE = re.compile(r"[a-z0-9][a-z0-9._-]*(:[0-9]+)?(/[a-z0-9][a-z0-9._-]*)*:[A-Za-z0-9_][A-Za-z0-9._-]*")


class BundleError(ValueError):
    """The bundle can't be used. Says everything that is wrong with it, not only the first thing."""

    def __init__(self, problems: str | Sequence[str]) -> None:
        self.problems: tuple[str, ...] = (problems,) if isinstance(problems, str) else tuple(problems)
        super().__init__("; ".join(self.problems))


@dataclass(frozen=True)
class Part:
    """One file of the bundle."""

    path: str
    sha256: str
    size: int
    mode: str
    kind: str
    images: tuple[str, ...] = ()
    roles: tuple[str, ...] = ()
    distribution: str = ""
    package: str = ""
    version: str = ""
    origin: str = ""
    licence: str = ""


@dataclass(frozen=True)
class Missing:
    """Something that a complete bundle would hold and this one does not."""

    name: str
    reason: str


@dataclass(frozen=True)
class Manifest:
    """The first member of a bundle: what the others are."""

    kubernetes_version: str
    architecture: str
    created: str
    image_repository: str
    pause_image: str
    images_required: tuple[str, ...]
    parts: tuple[Part, ...]
    missing: tuple[Missing, ...] = ()
    schema: int = SCHEMA

    def as_dict(self) -> dict[str, t.Any]:
        """Plain lists and dictionaries, as they stand in manifest.json."""
        return t.cast("dict[str, t.Any]", _plain(asdict(self)))


@dataclass(frozen=True)
class Member:
    """What a tar header says about one member of the archive."""

    name: str
    regular: bool
    size: int


def _plain(value: t.Any) -> t.Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value


def path_problem(path: str) -> str:
    """Why this name may not be unpacked below a folder; empty if it may."""
    if not path:
        return "is empty"
    if len(path) > 255:
        return "is longer than 255 characters"
    if path.startswith("/"):
        return "is absolute"
    for component in path.split("/"):
        if component in ("", ".", ".."):
            return f"has the component '{component}'"
        if not _COMPONENT.fullmatch(component):
            return f"has the component {component!r}, which is no plain file name"
    return ""


class _Reader:
    """Reads untrusted JSON, and remembers everything that is wrong with it."""

    def __init__(self) -> None:
        self.problems: list[str] = []

    def fault(self, where: str, what: str) -> None:
        self.problems.append(f"{where} {what}")

    def known(self, data: Mapping[str, t.Any], kind: type, where: str) -> None:
        unknown = sorted(set(map(str, data)) - {item.name for item in fields(kind)})
        if unknown:
            self.fault(where, f"has unknown fields: {', '.join(unknown)}")

    def text(self, data: Mapping[str, t.Any], key: str, where: str, needed: bool = True) -> str:
        value = data.get(key, "")
        if not isinstance(value, str):
            self.fault(f"{where}.{key}", f"is a {type(value).__name__}, not a string")
            return ""
        if needed and not value:
            self.fault(f"{where}.{key}", "is missing")
        return value

    def texts(self, data: Mapping[str, t.Any], key: str, where: str) -> tuple[str, ...]:
        value = data.get(key, [])
        if not isinstance(value, (list, tuple)) or not all(isinstance(item, str) for item in value):
            self.fault(f"{where}.{key}", "is not a list of strings")
            return ()
        return tuple(value)

    def whole(self, data: Mapping[str, t.Any], key: str, where: str) -> int:
        value = data.get(key)
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            self.fault(f"{where}.{key}", f"is {value!r}, not a size in bytes")
            return 0
        return value

    def items(self, data: Mapping[str, t.Any], key: str, where: str) -> list[Mapping[str, t.Any]]:
        value = data.get(key, [])
        if not isinstance(value, (list, tuple)) or not all(isinstance(item, Mapping) for item in value):
            self.fault(f"{where}.{key}", "is not a list of objects")
            return []
        return list(value)


def _part(reader: _Reader, data: Mapping[str, t.Any], where: str) -> Part:
    part = Part(
        path=reader.text(data, "path", where),
        sha256=reader.text(data, "sha256", where),
        size=reader.whole(data, "size", where),
        mode=reader.text(data, "mode", where),
        kind=reader.text(data, "kind", where),
        images=reader.texts(data, "images", where),
        roles=reader.texts(data, "roles", where),
        **{
            key: reader.text(data, key, where, needed=False)
            for key in ("distribution", "package", "version", "origin", "licence")
        },
    )
    reader.known(data, Part, where)
    if part.path:
        where = f"part {part.path!r}:"
    for problem in _part_problems(part):
        reader.fault(where, problem)
    return part


def _part_problems(part: Part) -> t.Iterator[str]:
    problem = path_problem(part.path)
    if part.path and problem:
        yield f"the path {problem}"
    if part.sha256 and not _SHA256.fullmatch(part.sha256):
        yield f"sha256 is {part.sha256!r}, not 64 hexadecimal digits in lower case"
    if part.mode and not _MODE.fullmatch(part.mode):
        yield f"mode is {part.mode!r}, not like 0644 or 0755"
    if part.kind not in KINDS:
        yield f"kind is {part.kind!r}, not one of {', '.join(KINDS)}"
    elif not problem and not _PLACES[part.kind].fullmatch(part.path):
        yield f"is not where a part of kind {part.kind} lies ({_PLACES[part.kind].pattern})"
    if part.kind == "image":
        if not part.images:
            yield "names no image"
        for reference in part.images:
            if not _REFERENCE.fullmatch(reference):
                yield f"has the image reference {reference!r}, not like registry/name:tag"
        unknown = sorted(set(part.roles) - set(ROLES))
        if unknown or not part.roles:
            yield f"roles are {list(part.roles)!r}, not some of {', '.join(ROLES)}"
    if part.kind == "package":
        if not part.package or not part.version:
            yield "names no package and version"
        if not _DISTRIBUTION.fullmatch(part.distribution):
            yield f"distribution is {part.distribution!r}, not like debian-12"
        elif not part.path.startswith(f"packages/{part.distribution}/"):
            yield f"is not below packages/{part.distribution}/"


def _twice(items: Iterable[str]) -> list[str]:
    return sorted(item for item, count in Counter(items).items() if count > 1)


def _cross_problems(manifest: Manifest) -> t.Iterator[str]:
    for path in _twice(part.path for part in manifest.parts):
        yield f"part {path!r}: stands in the manifest more than once"
    for reference in _twice(reference for part in manifest.parts for reference in part.images):
        yield f"image {reference!r}: is in more than one part"
    packages = (f"{part.distribution}/{part.package}" for part in manifest.parts if part.kind == "package")
    for package in _twice(packages):
        yield f"package {package!r}: is in more than one part"
    paths = {part.path for part in manifest.parts}
    for path in REQUIRED_BINARIES:
        if path not in paths:
            yield f"part {path!r}: is not in the bundle"
    have = {reference for part in manifest.parts for reference in part.images}
    have.update(item.name for item in manifest.missing)
    for reference in manifest.images_required:
        if reference not in have:
            yield f"image {reference!r}: is required, but neither in a part nor named in 'missing'"
    if manifest.pause_image and manifest.pause_image not in manifest.images_required:
        yield f"manifest.pause_image is {manifest.pause_image!r}, which is none of the required images"


def parse_manifest(data: t.Any) -> Manifest:
    """The manifest, or one BundleError with all that is wrong with it."""
    if not isinstance(data, Mapping):
        raise BundleError("the manifest is not an object")
    if data.get("schema") != SCHEMA:
        raise BundleError(
            f"the manifest has schema {data.get('schema')!r}; this version of the collection reads {SCHEMA}"
        )
    reader = _Reader()
    reader.known(data, Manifest, "manifest")
    parts = tuple(
        _part(reader, item, f"manifest.parts[{index}]")
        for index, item in enumerate(reader.items(data, "parts", "manifest"))
    )
    missing: list[Missing] = []
    for index, item in enumerate(reader.items(data, "missing", "manifest")):
        where = f"manifest.missing[{index}]"
        reader.known(item, Missing, where)
        missing.append(Missing(reader.text(item, "name", where), reader.text(item, "reason", where)))
    manifest = Manifest(
        kubernetes_version=reader.text(data, "kubernetes_version", "manifest"),
        architecture=reader.text(data, "architecture", "manifest"),
        created=reader.text(data, "created", "manifest"),
        image_repository=reader.text(data, "image_repository", "manifest"),
        pause_image=reader.text(data, "pause_image", "manifest"),
        images_required=reader.texts(data, "images_required", "manifest"),
        parts=parts,
        missing=tuple(missing),
    )
    if manifest.kubernetes_version and not _VERSION.fullmatch(manifest.kubernetes_version):
        reader.fault("manifest.kubernetes_version", f"is {manifest.kubernetes_version!r}, not like v1.20.2")
    reader.problems.extend(_cross_problems(manifest))
    if reader.problems:
        raise BundleError(reader.problems)
    return manifest


@dataclass
class MemberCheck:
    """Judges the members of an archive one by one, in their order, before each is written to a disk."""

    manifest: Manifest
    seen: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._parts = {part.path: part for part in self.manifest.parts}

    def part(self, member: Member) -> Part:
        """The part that this member is, or a BundleError if it may not be unpacked."""
        problem = path_problem(member.name)
        if problem:
            raise BundleError(f"archive member {member.name!r}: the name {problem}")
        if not member.regular:
            raise BundleError(f"archive member {member.name!r}: is a link, a folder or a device, not a plain file")
        if member.name in self.seen:
            raise BundleError(f"archive member {member.name!r}: is in the archive more than once")
        part = self._parts.get(member.name)
        if part is None:
            raise BundleError(f"archive member {member.name!r}: is not in the manifest")
        if member.size != part.size:
            raise BundleError(
                f"archive member {member.name!r}: has {member.size} bytes, but the manifest says {part.size}"
            )
        self.seen.add(member.name)
        return part

    def finish(self) -> None:
        """After the last member: every part was there, or a BundleError."""
        absent = sorted(set(self._parts) - self.seen)
        if absent:
            raise BundleError([f"part {path!r}: is in the manifest but not in the archive" for path in absent])


def parse_checksum(text: str, where: str) -> str:
    """The sha256 in the text of a checksum file, which is as sha256sum writes it or the bare number."""
    words = text.split()
    if not words or not _SHA256.fullmatch(words[0].lower()):
        raise BundleError(f"{where} holds no sha256 (64 hexadecimal digits)")
    return words[0].lower()


def checksum_line(sha256: str, name: str) -> str:
    """A line that `sha256sum --check` understands."""
    return f"{sha256}  {name}\n"
