# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import functools
import hashlib
import http.server
import threading
import typing
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


class Breaking(Handler):
    """Breaks off after a third of the file, until it was asked often enough; tells which ranges it was asked for."""

    asked: typing.ClassVar[list[str]] = []
    breaks = 2
    ranges = True

    def do_GET(self) -> None:
        start = 0
        wanted = self.headers.get("Range", "")
        type(self).asked.append(wanted)
        if wanted and self.ranges:
            start = int(wanted.removeprefix("bytes=").rstrip("-"))
            self.send_response(206)
        else:
            self.send_response(200)
        self.send_header("Content-Length", str(len(CONTENT) - start))
        self.end_headers()
        broken = len(self.asked) <= self.breaks
        self.wfile.write(CONTENT[start : start + len(CONTENT) // 3] if broken else CONTENT[start:])


@pytest.fixture
def breaking(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setattr(source.time, "sleep", lambda _seconds: None)
    monkeypatch.setattr(Breaking, "asked", [])
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Breaking)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/b.tar.gz"
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_download_that_breaks_off_is_gone_on_with(breaking: str, tmp_path: Path) -> None:
    assert source.locate(breaking, SHA256, cache=tmp_path).path.read_bytes() == CONTENT
    assert Breaking.asked == ["", "bytes=2000-", "bytes=4000-"]


def test_a_run_goes_on_with_the_download_of_an_earlier_one(
    breaking: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Breaking, "breaks", 1)
    monkeypatch.setattr(source, "TRIES", 1)
    with pytest.raises(BundleError, match="broke off after 2000 of 6000 bytes"):
        source.locate(breaking, SHA256, cache=tmp_path)
    assert source.locate(breaking, SHA256, cache=tmp_path).path.read_bytes() == CONTENT
    assert Breaking.asked == ["", "bytes=2000-"]


def test_a_server_without_ranges_sends_it_from_the_start(
    breaking: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Breaking, "ranges", False)
    monkeypatch.setattr(Breaking, "breaks", 1)
    assert source.locate(breaking, SHA256, cache=tmp_path).path.read_bytes() == CONTENT


def test_what_was_downloaded_of_another_file_is_thrown_away(
    breaking: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Breaking, "breaks", 0)
    path = source.download_path(breaking, SHA256, tmp_path)
    path.parent.mkdir(parents=True)
    path.with_name(f".{path.name}.download").write_bytes(b"another file")
    assert source.locate(breaking, SHA256, cache=tmp_path).path.read_bytes() == CONTENT
    assert Breaking.asked == ["bytes=12-", ""]


def test_a_proxy_is_asked(served: tuple[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server plays the proxy of a host that does not exist: it is asked for the whole URL."""
    asked: list[str] = []

    def translate(_self: Handler, path: str) -> str:
        asked.append(path)
        return str(served[1] / "b.tar.gz")

    monkeypatch.setattr(Handler, "translate_path", translate)
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", served[0])
    found = source.locate("http://bundles.invalid/b.tar.gz", SHA256, cache=tmp_path)
    assert found.path.read_bytes() == CONTENT and asked
