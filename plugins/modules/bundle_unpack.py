#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: bundle_unpack
short_description: Unpacks a checked bundle on a host
version_added: "1.0.0"
author:
  - multinic.kubernetes contributors (@multinic)
description:
  - Checks the sha256 of the whole archive before anything is unpacked, then unpacks it below O(root) and checks the sha256
    of every part on the way. Members that are no plain files, that would leave the folder, that come twice or that
    the manifest does not name are refused.
  - The new version appears at once, by a rename, and C(current) points to it. An interrupted run leaves nothing that
    looks complete; the next one clears it away.
  - With O(prepare) nothing is unpacked. The module says whether the archive is needed, checks the space it will take and
    makes the folder into which it may be sent.
extends_documentation_fragment:
  - multinic.kubernetes._attributes
  - multinic.kubernetes._bundle
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
seealso:
  - module: multinic.kubernetes.bundle_deploy
options:
  archive:
    description: The archive on the host. Not needed when the bundle is already unpacked.
    type: path
  sha256:
    description: The sha256 the archive must have, which is also the name of its folder.
    type: str
    required: true
  remove_archive:
    description: Remove the archive once it is unpacked.
    type: bool
    default: false
  prepare:
    description: Only say whether the archive is needed, and make room for it.
    type: bool
    default: false
  receiver:
    description: With O(prepare), the user who will send the archive. By default the one who called sudo or doas.
    type: str
  archive_size:
    description: With O(prepare), the size of the archive in bytes.
    type: int
    default: 0
  unpacked_size:
    description: With O(prepare), the size of all wanted parts in bytes.
    type: int
    default: 0
"""

EXAMPLES = r"""
- name: The bundle is unpacked
  multinic.kubernetes.bundle_unpack:
    archive: /root/kubernetes-v1.20.2-debian12-amd64.tar.gz
    sha256: 0f343b0931126a20f133d67c2b018a3b5e0a7c1f2a7d6b8f8a7a5c1d3b2e4f60
    roles: [control_plane]
"""

RETURN = r"""
path:
  description: The folder of the unpacked bundle.
  returned: success
  type: str
  sample: /var/lib/multinic/bundle/0f343b0931126a20f133d67c2b018a3b5e0a7c1f2a7d6b8f8a7a5c1d3b2e4f60
needed:
  description: Whether the archive has to be sent.
  returned: success
  type: bool
  sample: false
incoming:
  description: Where the archive has to be put.
  returned: when O(prepare) and it is needed
  type: str
  sample: /var/lib/multinic/bundle/.incoming-x7k2p9q4/bundle.tar.gz
kubernetes_version:
  description: The version of Kubernetes in the bundle.
  returned: when it is unpacked
  type: str
  sample: v1.20.2
removed:
  description: Folders of older bundles that were removed.
  returned: success
  type: list
  elements: str
  sample: []
"""

import contextlib
import fcntl
import hashlib
import io
import json
import os
import pwd
import shutil
import tarfile
import tempfile
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Optional

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.multinic.kubernetes.plugins.module_utils import _unpack as core
from ansible_collections.multinic.kubernetes.plugins.module_utils._bundle import (
    MANIFEST_MAX_SIZE,
    MANIFEST_NAME,
    BundleError,
    Manifest,
    Member,
    MemberCheck,
    Part,
    parse_manifest,
)

# Small enough that what is inflated at one go (four of them) comes from memory that the process keeps. From larger pieces,
# which malloc maps anew each time, unpacking one bundle takes 80,000 page faults.
CHUNK = 1 << 15
LOCK_SECONDS = 300

ARGUMENT_SPEC: dict[str, Any] = {
    "archive": {"type": "path"},
    "sha256": {"type": "str", "required": True},
    **core.PLACE_OPTIONS,
    "remove_archive": {"type": "bool", "default": False},
    "prepare": {"type": "bool", "default": False},
    "receiver": {"type": "str"},
    "archive_size": {"type": "int", "default": 0},
    "unpacked_size": {"type": "int", "default": 0},
}


class GunzipReader(io.RawIOBase):
    """A gzip stream, read in steps: several times faster than the standard library's own reader."""

    def __init__(self, stream: IO[bytes]) -> None:
        super().__init__()
        self._stream = stream
        self._inflate = zlib.decompressobj(wbits=31)
        self._ready = memoryview(b"")

    def readable(self) -> bool:
        return True

    def _more(self) -> bool:
        """One more step of output; false at the end of the archive."""
        while not self._ready:
            block = self._inflate.unconsumed_tail
            if self._inflate.eof:
                block = self._inflate.unused_data or self._stream.read(CHUNK)
                if not block:
                    return False
                self._inflate = zlib.decompressobj(wbits=31)
            elif not block:
                block = self._stream.read(CHUNK)
                if not block:
                    raise EOFError("the archive ends in the middle of its compressed data")
            self._ready = memoryview(self._inflate.decompress(block, 4 * CHUNK))
        return True

    def read(self, size: int = -1) -> bytes:
        parts, wanted = [], size
        while wanted != 0 and self._more():
            part = self._ready[: wanted if wanted > 0 else None]
            self._ready = self._ready[len(part) :]
            parts.append(part)
            wanted -= len(part) if wanted > 0 else 0
        return b"".join(parts)


class Store:
    """The folder of unpacked bundles on this host."""

    def __init__(self, root: str) -> None:
        self.root = Path(root)

    def situation(self, sha256: str, roles: list[str]) -> core.Situation:
        if not self.root.is_dir():
            return core.Situation()
        link = self.root / core.CURRENT
        current = link.readlink().name if link.is_symlink() else ""
        return core.Situation(current, self.complete(sha256, roles))

    def entries(self) -> list[core.Entry]:
        """What lies below the root; an archive's age is told by its last write."""
        found = []
        for path in self.root.iterdir():
            partial = (path / core.PARTIAL).is_file()
            archive = path / (core.PARTIAL if partial else core.ARCHIVE)
            with contextlib.suppress(OSError):  # another run has just removed it
                changed = (archive if archive.is_file() else path).lstat().st_mtime
                found.append(core.Entry(path.name, changed, partial))
        return found

    def manifest(self, sha256: str) -> Optional[Manifest]:
        path = self.root / sha256 / MANIFEST_NAME
        try:
            return parse_manifest(json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError):
            return None

    def complete(self, sha256: str, roles: list[str]) -> bool:
        manifest = self.manifest(sha256)
        if manifest is None:
            return False
        sizes: dict[str, int] = {}
        for part in manifest.parts:
            with contextlib.suppress(OSError):
                sizes[part.path] = (self.root / sha256 / part.path).stat().st_size
        return not core.incomplete(manifest, roles, sizes)

    def make_root(self) -> None:
        """The root and what is missing above it, to be passed through whatever the umask; what was there is left alone."""
        missing = [folder for folder in (self.root, *self.root.parents) if not folder.exists()]
        self.root.mkdir(parents=True, exist_ok=True)
        for folder in missing:
            folder.chmod(0o755)

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """One run at a time, even if an earlier one lost its controller and still works."""
        self.make_root()
        with (self.root / core.LOCK).open("w", encoding="utf-8") as stream:
            deadline = time.monotonic() + LOCK_SECONDS
            while True:
                try:
                    fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > deadline:
                        raise core.UnpackError(
                            f"{self.root} is in use by another run since {LOCK_SECONDS} s. Let it end, or end it, "
                            "then run again."
                        ) from None
                    time.sleep(0.2)
            yield

    def prepare(self, archive_size: int, unpacked_size: int, receiver: Optional[str]) -> Path:
        """Room for the archive, in a new folder into which only the receiver can write."""
        self.remove(core.leftovers(self.entries(), time.time()))
        status = os.statvfs(self.root)
        problem = core.space_problem(str(self.root), status.f_bavail * status.f_frsize, archive_size + unpacked_size)
        if problem:
            raise core.UnpackError(problem)
        uid, gids = receiver_ids(receiver)
        states = [(str(above), above.stat()) for above in (self.root, *self.root.parents)]
        folders = [(path, state.st_uid, state.st_gid, state.st_mode) for path, state in states]
        problem = core.passage_problem(folders, uid, gids, str(self.root))
        if problem:
            raise core.UnpackError(problem)
        folder = Path(tempfile.mkdtemp(prefix=f"{core.INCOMING}-", dir=self.root))
        os.chown(folder, uid, gids[0])
        return folder / core.ARCHIVE

    def unpack(self, archive: Path, sha256: str, roles: list[str]) -> Manifest:
        new = self.root / f"{core.UNPACKING}-{os.getpid()}"
        new.mkdir(mode=0o755)
        try:
            with archive.open("rb") as stream:
                found = sha256_of(stream)
                if found != sha256:
                    raise core.UnpackError(
                        f"{archive} has sha256 {found}, but {sha256} was expected: it is damaged or another file. "
                        "Nothing was unpacked."
                    )
                stream.seek(0)
                manifest = unpack_members(stream, new, roles)
            final = self.root / sha256
            if final.exists():
                old = self.root / f"{core.UNPACKING}-{os.getpid()}-old"
                final.rename(old)
            new.rename(final)
        except BaseException:
            shutil.rmtree(new, ignore_errors=True)
            raise
        return manifest

    def point(self, sha256: str) -> None:
        link = self.root / core.CURRENT
        new = link.with_name(f"{core.UNPACKING}-{core.CURRENT}")
        new.unlink(missing_ok=True)
        new.symlink_to(sha256)
        new.replace(link)

    def discard(self, archive: Path) -> None:
        """The archive, and the folder that was made for it."""
        archive.unlink(missing_ok=True)
        if archive.parent.parent == self.root and archive.parent.name.startswith(core.INCOMING):
            self.remove([archive.parent.name])

    def remove(self, names: list[str]) -> None:
        for name in names:
            path = self.root / name
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)


def receiver_ids(receiver: Optional[str]) -> tuple[int, list[int]]:
    """The account that sends the archive, and its groups, its own first."""
    names = (receiver, os.environ.get("SUDO_USER"), os.environ.get("DOAS_USER"))
    for name in names:
        if name:
            with contextlib.suppress(KeyError):
                account = pwd.getpwnam(name)
                others = [gid for gid in os.getgrouplist(name, account.pw_gid) if gid != account.pw_gid]
                return account.pw_uid, [account.pw_gid, *others]
    return os.geteuid(), [os.getegid()]


def sha256_of(stream: IO[bytes]) -> str:
    digest = hashlib.sha256()
    for chunk in iter(lambda: stream.read(CHUNK), b""):
        digest.update(chunk)
    return digest.hexdigest()


def unpack_members(stream: IO[bytes], folder: Path, roles: list[str]) -> Manifest:
    """Every member into the folder, each judged before and checked while it is written."""
    with tarfile.open(fileobj=GunzipReader(stream), mode="r|", bufsize=CHUNK) as archive:
        first = archive.next()
        if first is None or first.name != MANIFEST_NAME or not first.isreg() or first.size > MANIFEST_MAX_SIZE:
            raise BundleError(f"the archive does not begin with {MANIFEST_NAME}: it is no bundle of this collection")
        text = contents(archive, first).read()
        manifest = parse_manifest(json.loads(text))
        check = MemberCheck(manifest)
        # Not `for member in archive`, which would begin again with the manifest.
        for member in iter(archive.next, None):
            part = check.part(Member(member.name, member.isreg(), member.size))
            if core.wanted(part, roles):
                write_part(contents(archive, member), folder / part.path, part)
        check.finish()
    # Written last, when all else is on the disk: a folder with a manifest has all its parts, after a power loss too.
    os.sync()
    with (folder / MANIFEST_NAME).open("wb") as written:
        written.write(text)
        written.flush()
        os.fsync(written.fileno())
    return manifest


def contents(archive: tarfile.TarFile, member: tarfile.TarInfo) -> IO[bytes]:
    stream = archive.extractfile(member)
    if stream is None:
        raise BundleError(f"archive member {member.name!r}: is no plain file")
    return stream


def write_part(source: IO[bytes], path: Path, part: Part) -> None:
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    digest = hashlib.sha256()
    with path.open("xb", buffering=0) as stream:
        for chunk in iter(lambda: source.read(CHUNK), b""):
            digest.update(chunk)
            stream.write(chunk)
    if digest.hexdigest() != part.sha256:
        raise BundleError(f"part {part.path!r}: has sha256 {digest.hexdigest()}, but the manifest says {part.sha256}")
    path.chmod(int(part.mode, 8))


def deploy(module: AnsibleModule) -> dict[str, Any]:
    params = module.params
    sha256, roles = params["sha256"].lower(), params["roles"]
    if not core.is_sha256(sha256):
        raise core.UnpackError(f"sha256 is {params['sha256']!r}, not 64 hexadecimal digits")
    store = Store(params["root"])
    found = store.situation(sha256, roles)
    result: dict[str, Any] = {
        "changed": not found.ready(sha256),
        "path": str(store.root / sha256),
        "needed": not found.complete,
        "removed": [],
        "diff": [] if found.ready(sha256) else [core.difference(found, sha256)],
    }
    if found.ready(sha256) or module.check_mode:
        return result
    if params["prepare"]:
        if not found.complete:
            with store.lock():
                incoming = store.prepare(params["archive_size"], params["unpacked_size"], params["receiver"])
            return {**result, "incoming": str(incoming)}
    elif not found.complete and not params["archive"]:
        raise core.UnpackError(f"the bundle {sha256} is not unpacked below {store.root}, and no archive is given")
    with store.lock():
        try:
            if not store.complete(sha256, roles):
                store.unpack(Path(params["archive"]), sha256, roles)
            store.point(sha256)
        finally:
            if params["remove_archive"] and params["archive"]:
                store.discard(Path(params["archive"]))
        result["removed"] = core.obsolete(store.entries(), sha256, params["keep"], time.time())
        store.remove(result["removed"])
    manifest = store.manifest(sha256)
    result["needed"] = False
    result["kubernetes_version"] = manifest.kubernetes_version if manifest else ""
    return result


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    try:
        result = deploy(module)
    except (core.UnpackError, BundleError) as exc:
        module.fail_json(msg=str(exc))
    except (OSError, tarfile.TarError, zlib.error, EOFError, ValueError) as exc:
        module.fail_json(msg=f"the bundle could not be unpacked below {module.params['root']}: {exc}")
    module.exit_json(**result)


if __name__ == "__main__":
    main()
