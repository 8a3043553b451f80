# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module util is **PRIVATE** to the collection.

"""Which image archives of a bundle a host has to import. Pure: nothing is run here."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ansible_collections.multinic.kubernetes.plugins.module_utils._bundle import Manifest


class ImagesError(ValueError):
    """The images can't be imported; the message says why and what to do."""


@dataclass(frozen=True)
class Archive:
    """An archive of the bundle and the images in it that the host lacks."""

    path: str
    size: int
    missing: tuple[str, ...]


def normalised(reference: str) -> str:
    """The full name that containerd gives an image."""
    first, slash, rest = reference.partition("/")
    if not slash:
        return f"docker.io/library/{reference}"
    if "." not in first and ":" not in first and first != "localhost":
        return f"docker.io/{first}/{rest}"
    return reference


def archives_to_import(manifest: Manifest, roles: Sequence[str], present: Iterable[str]) -> list[Archive]:
    """The archives for these roles with at least one image the host lacks, largest first so that parallel work ends together."""
    have = set(present)
    archives = []
    for part in manifest.parts:
        if part.kind != "image" or (roles and not set(part.roles) & set(roles)):
            continue
        missing = tuple(reference for reference in part.images if normalised(reference) not in have)
        if missing:
            archives.append(Archive(part.path, part.size, missing))
    return sorted(archives, key=lambda archive: (-archive.size, archive.path))


def difference(archives: Iterable[Archive]) -> dict[str, str]:
    """The diff of one import."""
    names = sorted(name for archive in archives for name in archive.missing)
    return {
        "before_header": "images",
        "after_header": "images",
        "before": "".join(f"{name} (absent)\n" for name in names),
        "after": "".join(f"{name}\n" for name in names),
    }
