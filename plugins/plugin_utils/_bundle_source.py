# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This plugin util is **PRIVATE** to the collection.

"""The one place that knows where a bundle comes from: a path on the controller, or a URL kept in the cache."""

from __future__ import annotations

import fcntl
import hashlib
import os
import tempfile
import typing as t
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.error import URLError
from urllib.parse import urlsplit

from ansible.module_utils.urls import open_url

from ansible_collections.multinic.kubernetes.plugins.module_utils._bundle import BundleError, parse_checksum
from ansible_collections.multinic.kubernetes.plugins.plugin_utils._bundle_file import check_sha256, expected_sha256

DEFAULT_CACHE = "/var/cache/multinic-kubernetes"
TIMEOUT_SECONDS = 30
CHUNK = 1 << 20


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
                _fetch(url, path, expected)
    except URLError as exc:
        raise BundleError(f"{url} could not be downloaded: {exc.reason}") from exc
    except OSError as exc:
        raise BundleError(f"{url} could not be downloaded to {path}: {exc.strerror or exc}") from exc


def _fetch(url: str, path: Path, expected: str) -> None:
    digest = hashlib.sha256()
    handle, name = tempfile.mkstemp(prefix=".download-", dir=path.parent)
    new = Path(name)
    try:
        with os.fdopen(handle, "wb") as stream:
            response = open_url(url, timeout=TIMEOUT_SECONDS)
            announced = response.headers.get("Content-Length")
            for chunk in iter(lambda: response.read(CHUNK), b""):
                digest.update(chunk)
                stream.write(chunk)
        size = new.stat().st_size
        if announced is not None and size != int(announced):
            raise BundleError(f"{url} broke off after {size} of {announced} bytes")
        if digest.hexdigest() != expected:
            raise BundleError(
                f"{url} has sha256 {digest.hexdigest()}, but bundle_sha256 is {expected}: it is damaged or another file"
            )
        new.chmod(0o644)
        new.replace(path)
    finally:
        new.unlink(missing_ok=True)
