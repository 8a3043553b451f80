# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import functools
import hashlib
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from ansible_collections.multinic.kubernetes.plugins.module_utils._bundle import BundleError
from ansible_collections.multinic.kubernetes.plugins.plugin_utils import _bundle_source as source

CONTENT = b"bundle" * 1000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Handler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it
        pass


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    folder = tmp_path / "served"
    folder.mkdir()
    (folder / "b.tar.gz").write_bytes(CONTENT)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", folder
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_local_bundle_is_checked_against_the_file_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "b.tar.gz"
    path.write_bytes(CONTENT)
    (tmp_path / "b.tar.gz.sha256").write_text(f"{SHA256}  b.tar.gz\n")
    assert source.locate(str(path)) == source.LocalBundle(path, SHA256)
    path.write_bytes(b"other")
    with pytest.raises(BundleError, match="damaged or another file"):
        source.locate(str(path))


@pytest.mark.parametrize(
    ("bundle", "message"),
    [
        ("", "bundle is not set"),
        ("/nowhere/b.tar.gz", "no file on the controller"),
        ("http://127.0.0.1/b.tar.gz", "bundle_sha256 must be set"),
    ],
)
def test_errors_name_the_variable(bundle: str, message: str) -> None:
    with pytest.raises(BundleError, match=message):
        source.locate(bundle)


def test_a_url_is_downloaded_once_into_the_cache(served: tuple[str, Path], tmp_path: Path) -> None:
    url, folder = served
    first = source.locate(f"{url}/b.tar.gz", SHA256, cache=tmp_path / "cache")
    assert first.path.read_bytes() == CONTENT
    assert first.path.parent == tmp_path / "cache" / "downloads"
    (folder / "b.tar.gz").unlink()
    assert source.locate(f"{url}/b.tar.gz", SHA256, cache=tmp_path / "cache") == first


@pytest.mark.parametrize(("name", "message"), [("b.tar.gz", "has sha256"), ("none.tar.gz", "could not be downloaded")])
def test_a_bad_download_leaves_nothing_that_looks_good(
    served: tuple[str, Path], tmp_path: Path, name: str, message: str
) -> None:
    with pytest.raises(BundleError, match=message):
        source.locate(f"{served[0]}/{name}", "0" * 64, cache=tmp_path / "cache")
    remains = [path.name for path in (tmp_path / "cache" / "downloads").iterdir()]
    assert [name for name in remains if not name.endswith(".lock")] == []


def test_a_damaged_file_in_the_cache_is_noticed(served: tuple[str, Path], tmp_path: Path) -> None:
    url = f"{served[0]}/b.tar.gz"
    source.locate(url, SHA256, cache=tmp_path).path.write_bytes(b"damaged")
    with pytest.raises(BundleError, match="damaged or another file"):
        source.locate(url, SHA256, cache=tmp_path)
