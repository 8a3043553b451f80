# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module util is **PRIVATE** to the collection.

"""Which versions of a bundle lie on a host, which one is complete, what has to go. Pure: no file is opened here."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ansible_collections.multinic.kubernetes.plugins.module_utils._bundle import Manifest, Part

ROOT = "/var/lib/multinic/bundle"
CURRENT = "current"
LOCK = ".lock"
INCOMING = ".incoming"
UNPACKING = ".unpacking"
ARCHIVE = "bundle.tar.gz"
# An archive that nobody has written to for so long was left by a run that is no more.
INCOMING_SECONDS = 600
# What an interrupted transfer has left is gone on with, so it stays longer.
PARTIAL = f".{ARCHIVE}.partial"
PARTIAL_SECONDS = 24 * 3600
# Room that has to stay on the file system beyond what is written.
RESERVE = 256 * 1024 * 1024

# What bundle_deploy and bundle_unpack both ask for; documented in the fragment _bundle.
PLACE_OPTIONS: dict[str, Any] = {
    "root": {"type": "path", "default": ROOT},
    "roles": {"type": "list", "elements": "str", "choices": ["control_plane", "worker"], "default": []},
    "keep": {"type": "int", "default": 1},
}

_SHA256 = re.compile(r"[0-9a-f]{64}")


class UnpackError(ValueError):
    """The bundle can't be brought to this host; the message says why and what to do."""


@dataclass(frozen=True)
class Entry:
    """One thing below the root: its name and when it was last changed."""

    name: str
    changed: float = 0.0
    partial: bool = False  # it holds an archive that has not come in full


@dataclass(frozen=True)
class Situation:
    """What was found below the root for one wanted bundle."""

    current: str = ""
    complete: bool = False

    def ready(self, sha256: str) -> bool:
        return self.complete and self.current == sha256


def is_sha256(text: str) -> bool:
    return bool(_SHA256.fullmatch(text))


def wanted(part: Part, roles: Sequence[str]) -> bool:
    """Whether a host with these roles needs the part. Only images are meant for certain roles."""
    return part.kind != "image" or not roles or bool(set(part.roles) & set(roles))


def wanted_parts(manifest: Manifest, roles: Sequence[str]) -> list[Part]:
    return [part for part in manifest.parts if wanted(part, roles)]


def incomplete(manifest: Manifest, roles: Sequence[str], sizes: Mapping[str, int]) -> list[str]:
    """Parts this host needs that are not there in full; after a power loss a file may be shorter than it was."""
    return [part.path for part in wanted_parts(manifest, roles) if sizes.get(part.path) != part.size]


def obsolete(entries: Iterable[Entry], sha256: str, keep: int, now: float) -> list[str]:
    """Names below the root to remove once `sha256` is current: all but the newest `keep` others, and what was left over.

    Archives that another run may still be sending are left alone.
    """
    versions = sorted(
        (entry for entry in entries if is_sha256(entry.name) and entry.name != sha256),
        key=lambda entry: (entry.changed, entry.name),
        reverse=True,
    )
    return [entry.name for entry in versions[keep:]] + leftovers(entries, now)


def leftovers(entries: Iterable[Entry], now: float) -> list[str]:
    """What runs that are no more have left. Whoever asks holds the lock, so nobody else is unpacking."""
    return sorted(
        entry.name
        for entry in entries
        if entry.name.startswith(UNPACKING)
        or (
            entry.name.startswith(INCOMING)
            and entry.changed < now - (PARTIAL_SECONDS if entry.partial else INCOMING_SECONDS)
        )
    )


def space_problem(host_folder: str, free: int, needed: int) -> str:
    """Why the bundle does not fit; empty if it does."""
    if free >= needed + RESERVE:
        return ""
    mib = 1024 * 1024
    return (
        f"the bundle needs {(needed + RESERVE) // mib} MiB on the file system of {host_folder} (of which "
        f"{RESERVE // mib} MiB stay free), found {free // mib} MiB. Free some space there, or let it lie elsewhere "
        "with bundle_root."
    )


def passage_problem(folders: Iterable[tuple[str, int, int, int]], uid: int, gids: Collection[int], root: str) -> str:
    """Why an account can't pass through these folders, each with owner, group and mode; empty if it can."""
    if uid == 0:
        return ""
    for path, owner, group, mode in folders:
        bit = 0o100 if uid == owner else 0o010 if group in gids else 0o001
        if not mode & bit:
            return (
                f"the archive is sent to {root} by the user with the number {uid}, who may not pass through {path} "
                f"(mode {mode & 0o7777:04o}). Choose another bundle_root, such as {ROOT}, or let others pass (chmod o+x)."
            )
    return ""


def difference(before: Situation, sha256: str) -> dict[str, str]:
    """The diff of one deployment: which bundle is current."""
    shown = f"current bundle: {before.current or 'none'}\n"
    if before.current == sha256 and not before.complete:
        shown = f"current bundle: {sha256} (incomplete)\n"
    return {"before": shown, "after": f"current bundle: {sha256}\n"}
