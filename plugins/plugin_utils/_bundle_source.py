# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This plugin util is **PRIVATE** to the collection.

"""The one place that knows where a bundle comes from: a path on the controller, or a URL kept in the cache."""

from __future__ import annotations

import fcntl
import hashlib
import os
import time
import typing as t
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path, PurePosixPath
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit

from ansible.module_utils.urls import open_url

from ansible_collections.multinic.kubernetes.plugins.module_utils._bundle import BundleError, parse_checksum
from ansible_collections.multinic.kubernetes.plugins.plugin_utils._bundle_file import check_sha256, expected_sha256

DEFAULT_CACHE = "/var/cache/multinic-kubernetes"
TIMEOUT_SECONDS = 30
CHUNK = 1 << 20
TRIES = 5
PARTIAL_CONTENT, RANGE_NOT_SATISFIABLE = 206, 416


class BrokenOffError(OSError):
    """A download ended before its end."""


@dataclass(frozen=True)
class LocalBundle:
    """A bundle on the controller, and the sha256 it must have."""

    path: Path
    sha256: str


def cache_folder(environment: t.Optional[t.Mapping[str, str]] = None) -> Path:
    return Path((os.environ if environment is None else environment).get("MULTINIC_CACHE") or DEFAULT_CACHE)


def is_url(bundle: str) -> bool:
    return urlsplit(bundle).scheme in ("http", "https")


def download_path(url: str, sha256: str, cache: Path) -> Path:
    """Where a downloaded bundle lies: its name holds its sha256, so another bundle of the same name is no trouble."""
    name = PurePosixPath(urlsplit(url).path).name or "bundle.tar.gz"
    return cache / "downloads" / f"{sha256[:16]}-{name}"


def locate(bundle: str, sha256: str = "", cache: Path | None = None, verify: bool = True) -> LocalBundle:
    """The bundle as a file of the controller; a URL is downloaded once. With `verify` its sha256 has been checked."""
    if not bundle:
        raise BundleError("bundle is not set: give the path or the URL of a bundle")
    if is_url(bundle):
        if not sha256:
            raise BundleError(f"bundle is the URL {bundle}, so bundle_sha256 must be set too")
        expected = parse_checksum(sha256, "bundle_sha256")
        path = download_path(bundle, expected, cache or cache_folder())
        if not path.exists():
            _download(bundle, path, expected)
        elif verify:
            check_sha256(path, expected)
        return LocalBundle(path, expected)
    path = Path(bundle).expanduser()
    if not path.is_file():
        raise BundleError(f"bundle is {bundle}, which is no file on the controller")
    return LocalBundle(path, check_sha256(path, sha256) if verify else expected_sha256(path, sha256))


def _download(url: str, path: Path, expected: str) -> None:
    """Into a temporary file, checked on the way, then put in place; concurrent calls download once."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.with_name(f".{path.name}.lock").open("w", encoding="utf-8") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not path.exists():
                _fetch_all(url, path, expected)
    except URLError as exc:
        raise BundleError(f"{url} could not be downloaded: {exc.reason}") from exc
    except (BrokenOffError, HTTPException) as exc:
        raise BundleError(f"{url} could not be downloaded: {getattr(exc, 'strerror', '') or exc}") from exc
    except OSError as exc:
        raise BundleError(f"{url} could not be downloaded to {path}: {exc.strerror or exc}") from exc


def _fetch_all(url: str, path: Path, expected: str) -> None:
    """The whole file. What was downloaded before, in this run or an earlier one, is gone on with."""
    new = path.with_name(f".{path.name}.download")
    for attempt in range(1, TRIES + 1):
        before = new.stat().st_size if new.exists() else 0
        try:
            digest = _fetch(url, new)
        except (OSError, HTTPException):
            # What broke off is tried again, what never came is not.
            size = new.stat().st_size
            if not size:
                new.unlink()
            if attempt == TRIES or size <= before:
                raise
            time.sleep(attempt)
            continue
        if digest == expected:
            new.chmod(0o644)
            new.replace(path)
            return
        new.unlink()
        if not before:
            raise BundleError(
                f"{url} has sha256 {digest}, but bundle_sha256 is {expected}: it is damaged or another file"
            )
        # What was there came from another file, so from the start once more.
    raise BundleError(f"{url} could not be downloaded: what was downloaded never had the sha256 {expected}")


def _fetch(url: str, new: Path) -> str:
    """Goes on with a download; the sha256 of all that is there at its end. OSError: it broke off, and what came is kept."""
    digest = hashlib.sha256()
    with new.open("a+b") as stream:
        stream.seek(0)
        for chunk in iter(lambda: stream.read(CHUNK), b""):
            digest.update(chunk)
        size = stream.tell()
        headers = {"Accept-Encoding": "identity", **({"Range": f"bytes={size}-"} if size else {})}
        try:
            response = open_url(url, timeout=TIMEOUT_SECONDS, headers=headers)
        except HTTPError as problem:
            if not size or problem.code != RANGE_NOT_SATISFIABLE:
                raise
            response = None  # all of it is there already, or the file is another one now
        if response is not None:
            if response.status != PARTIAL_CONTENT:
                stream.truncate(0)
                digest, size = hashlib.sha256(), 0
            announced = response.headers.get("Content-Length")
            end = None if announced is None else size + int(announced)
            for chunk in iter(lambda: response.read(CHUNK), b""):
                digest.update(chunk)
                stream.write(chunk)
                size += len(chunk)
            if end is not None and size < end:
                raise BrokenOffError(0, f"it broke off after {size} of {end} bytes")
    return digest.hexdigest()
