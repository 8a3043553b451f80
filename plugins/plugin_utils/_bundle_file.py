# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This plugin util is **PRIVATE** to the collection.

"""Looks into a bundle on the controller, without unpacking it."""

from __future__ import annotations

import hashlib
import json
import tarfile
import typing as t
import zlib
from pathlib import Path

from ansible_collections.multinic.kubernetes.plugins.module_utils._bundle import (
    MANIFEST_MAX_SIZE,
    MANIFEST_NAME,
    BundleError,
    parse_checksum,
    parse_manifest,
)

__all__ = ["BundleError", "check_sha256", "expected_sha256", "read_manifest", "sha256_of"]


def read_manifest(path: str | Path) -> dict[str, t.Any]:
    """The validated manifest of a bundle. Reads only the archive's beginning, however large it is."""
    try:
        with tarfile.open(path, mode="r|gz") as archive:
            first = archive.next()
            if first is None or first.name != MANIFEST_NAME or not first.isreg():
                raise BundleError(f"{path} does not begin with {MANIFEST_NAME}: it is no bundle of this collection")
            if first.size > MANIFEST_MAX_SIZE:
                raise BundleError(f"{path}: {MANIFEST_NAME} has {first.size} bytes, more than {MANIFEST_MAX_SIZE}")
            stream = archive.extractfile(first)
            data = json.loads(stream.read() if stream else b"")
    except OSError as exc:
        raise BundleError(f"{path} can't be read: {exc.strerror or exc}") from exc
    except (tarfile.TarError, EOFError, zlib.error) as exc:
        raise BundleError(f"{path} is no tar.gz archive: {exc}") from exc
    except UnicodeDecodeError as exc:
        raise BundleError(f"{path}: {MANIFEST_NAME} is not UTF-8") from exc
    except json.JSONDecodeError as exc:
        raise BundleError(f"{path}: {MANIFEST_NAME} is no JSON: {exc}") from exc
    try:
        return parse_manifest(data).as_dict()
    except BundleError as exc:
        raise BundleError([f"{path}: {problem}" for problem in exc.problems]) from exc


def sha256_of(path: str | Path) -> str:
    """The sha256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    try:
        with open(path, "rb") as stream:
            for chunk in iter(lambda: stream.read(1 << 20), b""):
                digest.update(chunk)
    except OSError as exc:
        raise BundleError(f"{path} can't be read: {exc.strerror or exc}") from exc
    return digest.hexdigest()


def expected_sha256(path: str | Path, given: str = "") -> str:
    """The sha256 that the bundle must have: the one given, else the one in `<bundle>.sha256` beside it."""
    if given:
        return parse_checksum(given, "bundle_sha256")
    beside = Path(f"{path}.sha256")
    try:
        return parse_checksum(beside.read_text(encoding="utf-8"), str(beside))
    except OSError as exc:
        raise BundleError(
            f"bundle_sha256 is not set and {beside} can't be read ({exc.strerror or exc}): give one of them"
        ) from exc
    except UnicodeDecodeError as exc:
        raise BundleError(f"{beside} holds no sha256 (64 hexadecimal digits)") from exc


def check_sha256(path: str | Path, given: str = "") -> str:
    """The bundle's sha256, once it is what it must be; a BundleError otherwise."""
    expected = expected_sha256(path, given)
    found = sha256_of(path)
    if found != expected:
        raise BundleError(f"{path} has sha256 {found}, but {expected} was expected: it is damaged or another file")
    return found
