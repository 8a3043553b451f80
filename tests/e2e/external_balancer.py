# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A balancer that somebody else runs: a plain haproxy in a network namespace, with an address on a lab's network.

The program is the one of the bundle, unpacked. Neither the lab nor the collection knows of it.
"""

from __future__ import annotations

import os
import subprocess
import tarfile
from collections.abc import Iterable
from pathlib import Path

from harness import CACHE, Lab, wait_until

# What of the bundle's packages haproxy needs that not every Debian has.
PACKAGES = ("haproxy_", "liblua5.3-0_", "libopentracing")
CONFIG = """\
global
    maxconn 1000

defaults
    mode tcp
    timeout connect 1s
    timeout client 1h
    timeout server 1h
    retries 3
    option redispatch 1

frontend api
    bind {address}:6443
    default_backend control_planes

backend control_planes
    balance roundrobin
    option httpchk GET /readyz
    default-server check check-ssl verify none inter 1s fall 2 rise 1 on-marked-down shutdown-sessions
{servers}
"""


def run(*command: str, environment: dict[str, str] | None = None) -> str:
    done = subprocess.run(
        command, check=False, stdin=subprocess.DEVNULL, capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}{done.stderr}"
    return done.stdout


class ExternalBalancer:
    """The balancer's host, which is on a lab's network until it is removed; its haproxy runs from start() to stop()."""

    def __init__(self, lab: Lab, network: str, address: str, prefix: int, folder: Path) -> None:
        self.address, self.folder = address, folder
        # As _lab names a lab's namespace and its bridges.
        switch, bridge = f"multinic-{lab.name}", f"br-{network}"
        self.space = f"{switch}-balancer"
        self.process: subprocess.Popen[bytes] | None = None
        port = "balancer"
        run("ip", "netns", "add", self.space)
        try:
            run("ip", "-n", self.space, "link", "set", "lo", "up")
            card = ("peer", "name", "eth0", "netns", self.space)
            run("ip", "-n", switch, "link", "add", port, "type", "veth", *card)
            run("ip", "-n", switch, "link", "set", port, "master", bridge, "up")
            run("ip", "-n", self.space, "address", "add", f"{address}/{prefix}", "dev", "eth0")
            run("ip", "-n", self.space, "link", "set", "eth0", "up")
        except BaseException:
            self.remove()
            raise

    def program(self) -> Path:
        """haproxy and its libraries, out of the bundle."""
        root = self.folder / "root"
        if not root.exists():
            with tarfile.open(CACHE / "bundle" / "lab.tar.gz") as bundle:
                for part in bundle:
                    name = Path(part.name).name
                    if name.endswith(".deb") and name.startswith(PACKAGES):
                        stream = bundle.extractfile(part)
                        assert stream is not None
                        package = self.folder / name
                        package.write_bytes(stream.read())
                        run("dpkg-deb", "--extract", str(package), str(root))
        return root

    def start(self, servers: Iterable[str]) -> None:
        """Balance to the API servers at these addresses, and check them."""
        assert self.process is None
        root = self.program()
        lines = "\n".join(f"    server {address} {address}:6443" for address in servers)
        config = self.folder / "haproxy.conf"
        config.write_text(CONFIG.format(address=self.address, servers=lines), encoding="utf-8")
        inside = ["ip", "netns", "exec", self.space]
        libraries = ":".join(str(path) for path in sorted((root / "usr/lib").glob("*-linux-gnu")))
        self.process = subprocess.Popen(
            [*inside, str(root / "usr/sbin/haproxy"), "-db", "-f", str(config)],
            stdin=subprocess.DEVNULL,
            stdout=(self.folder / "haproxy.log").open("ab"),
            stderr=subprocess.STDOUT,
            env={**os.environ, "LD_LIBRARY_PATH": libraries},
        )
        wait_until(lambda: "6443" in run(*inside, "ss", "-Hltn"), 10, "the external balancer listens")

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def remove(self) -> None:
        self.stop()
        # Its card's other end goes with it.
        run("ip", "netns", "delete", self.space)
