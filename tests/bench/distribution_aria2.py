# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The same file to the same hosts by BitTorrent, for ``distribution.py --aria2``: Debian's aria2, with what it needs.

aria2 has no tracker, so there is a small one here, which tells the hosts each other's cluster addresses and that of the
controller. The controller seeds in one of two ways: as a peer that has all, or, as a web seed, by HTTP. The hosts' aria2
is started in their namespaces, without Ansible and ssh, and the description of the file is there before: aria2's time
has no part for these, ours has.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from preflight import CONTROLLER, EXTERNAL, INTERNAL, run

PIECE = 1 << 20
PORT, TRACKER, WEB = 6881, 6969, 8080
PACKAGES = ("aria2", "libaria2-0", "libc-ares2", "libssh2-1")
COMMON = (
    "--enable-dht=false --enable-dht6=false --bt-enable-lpd=false --enable-peer-exchange=true --file-allocation=none "
    f"--listen-port={PORT} --seed-time=10 --seed-ratio=0.0 --bt-max-peers=0 --summary-interval=0 --console-log-level=error"
).split()


def bencode(value: Any) -> bytes:
    if isinstance(value, int):
        return b"i%de" % value
    if isinstance(value, str):
        value = value.encode()
    if isinstance(value, bytes):
        return b"%d:%s" % (len(value), value)
    if isinstance(value, list):
        return b"l" + b"".join(map(bencode, value)) + b"e"
    return b"d" + b"".join(bencode(key) + bencode(value[key]) for key in sorted(value)) + b"e"


def torrent(source: Path, web: bool) -> bytes:
    pieces = []
    with source.open("rb") as stream:
        for piece in iter(lambda: stream.read(PIECE), b""):
            pieces.append(hashlib.sha1(piece, usedforsecurity=False).digest())  # BitTorrent's own
    info = {
        "length": source.stat().st_size,
        "name": source.name,
        "piece length": PIECE,
        "pieces": b"".join(pieces),
        "private": 0,
    }
    made: dict[str, Any] = {"announce": f"http://{CONTROLLER}:{TRACKER}/announce", "info": info}
    if web:
        made["url-list"] = [f"http://{CONTROLLER}:{WEB}/{source.name}"]
    return bencode(made)


class Tracker(BaseHTTPRequestHandler):
    """Tells each host the others at their cluster addresses, whatever address it asks from."""

    hosts = 0
    seeds = True

    def do_GET(self) -> None:
        asked = parse_qs(urlsplit(self.path).query, encoding="latin-1")
        number = int(IPv4Address(self.client_address[0])) - int(EXTERNAL)
        peers = b""
        if self.client_address[0] != CONTROLLER and asked.get("event") != ["stopped"]:
            others = [INTERNAL + other for other in range(self.hosts) if other != number]
            addresses = [*others, *([IPv4Address(CONTROLLER)] if self.seeds else [])]
            peers = b"".join(address.packed + PORT.to_bytes(2, "big") for address in addresses)
        answer = bencode({"interval": 60, "min interval": 5, "complete": 1, "incomplete": self.hosts, "peers": peers})
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  the base class names it
        pass


class Web(BaseHTTPRequestHandler):
    """One file, in the ranges that are asked for."""

    protocol_version = "HTTP/1.1"
    source = Path()

    def do_GET(self) -> None:
        size = self.source.stat().st_size
        found = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        start, end = (int(found[1]), int(found[2] or size - 1)) if found else (0, size - 1)
        self.send_response(206 if found else 200)
        self.send_header("Content-Length", str(end + 1 - start))
        self.send_header("Accept-Ranges", "bytes")
        if found:
            self.send_header("Content-Range", f"bytes {start}-{end}/{size}")
        self.end_headers()
        self.wfile.flush()
        with self.source.open("rb") as stream, contextlib.suppress(ConnectionError):  # aria2 takes what it wants
            while start <= end:
                start += os.sendfile(self.connection.fileno(), stream.fileno(), start, min(PIECE, end + 1 - start))

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  the base class names it
        pass


def serve(handler: type[BaseHTTPRequestHandler], port: int) -> ThreadingHTTPServer:
    server = ThreadingHTTPServer((CONTROLLER, port), handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def aria2(folder: Path) -> tuple[Path, Path]:
    """The program and the folder of its libraries, unpacked and not installed."""
    packages = folder / "aria2"
    if not packages.exists():
        packages.mkdir()
        done = subprocess.run(
            ["apt-get", "-q", "-o", "APT::Sandbox::User=root", "download", *PACKAGES],
            cwd=packages,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        for package in packages.glob("*.deb"):
            run("dpkg-deb", "--extract", str(package), str(packages))
    return packages / "usr/bin/aria2c", packages / "usr/lib/x86_64-linux-gnu"


def download(folder: Path, source: Path, places: Mapping[int, Path], web: bool, limit: float) -> float:
    """Seconds until the file is whole at all places, which are folders by the process whose namespaces are the host's."""
    program, libraries = aria2(folder)
    environment = {**os.environ, "LD_LIBRARY_PATH": str(libraries)}
    described = folder / "file.torrent"
    described.write_bytes(torrent(source, web))
    done = folder / "done"
    done.write_text('#!/bin/sh\ntouch "${3%/*}/done"\n', encoding="utf-8")
    done.chmod(0o755)
    Tracker.hosts, Tracker.seeds, Web.source = len(places), not web, source
    servers = [serve(Tracker, TRACKER), *([serve(Web, WEB)] if web else [])]
    processes = []

    def start(before: list[str], place: Path, *more: str) -> None:
        command = [*before, str(program), f"--dir={place}", *COMMON, *more, str(described)]
        with (place.parent / f"{place.name}.log").open("w", encoding="utf-8") as log:
            processes.append(
                subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
            )

    try:
        if not web:
            start([], source.parent, "--check-integrity=true", "--bt-seed-unverified=true")
            time.sleep(3)
        began = time.monotonic()
        for pid, place in places.items():
            start(["nsenter", "--net", f"--target={pid}"], place, f"--on-bt-download-complete={done}")
        while not all((place / "done").exists() for place in places.values()):
            assert time.monotonic() - began < limit, f"aria2 takes more than {limit} s"
            time.sleep(0.05)
        return time.monotonic() - began
    finally:
        for process in processes:
            process.send_signal(signal.SIGTERM)
        for process in processes:
            try:
                process.wait(timeout=5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        for server in servers:
            server.shutdown()
            server.server_close()
