# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How long a large file takes to one host and to many: ``make bench-distribution``.

Each host is a network, host name and mount namespace of this machine with an sshd of its own and two cards, whose speed is
limited in both directions: the external one, by which Ansible gets in, and the internal one, the cluster's, 1 Gbit/s each.
The controller has a card in the external network only, of 200 Mbit/s. The files lie in memory, and are removed after each
measurement. What is timed is a whole ``ansible-playbook``, from its start to its end, and each host's file is compared
afterwards. All of it is gone when the run ends, also after a failure.

The last line printed is JSON. Seconds: one (a single host), all16, copy16 (ansible.builtin.copy), wire (what the
controller's card needs for the bytes of the file alone); by_n tells seconds and MB for 1, 4, 16 and 64 hosts. With
``--aria2 16`` so many hosts get the file by BitTorrent too, and ``aria2`` tells seconds and the bytes the controller sent.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import distribution_aria2
import preflight
from namespaces import unshared
from preflight import CONTROLLER, EXTERNAL, GATEWAY, HOST, INSIDE, INTERNAL, inventory, room_for_neighbours, run, sshd

UPLINK, CARD = "200mbit", "1gbit"
UPLINK_BYTES = 200e6 / 8
MB = 1_000_000
SPARE = 2500 * MB
ARIA2_LIMIT = 400.0  # seconds
SFTP_SERVERS = ("/usr/lib/openssh/sftp-server", "/usr/libexec/openssh/sftp-server")

SSHD = """Port 22
ListenAddress {address}
HostKey {folder}/host_key
PidFile none
AuthorizedKeysFile {folder}/key.pub
PermitRootLogin prohibit-password
StrictModes no
UsePAM no
MaxStartups 200
MaxSessions 50
Subsystem sftp {sftp}
"""
TRANSFER = """
- hosts: all
  gather_facts: false
  tasks:
    - multinic.kubernetes.bundle_transfer:
        src: "{{ file }}"
        sha256: "{{ file_sha256 }}"
        dest: "{{ data }}/{{ inventory_hostname }}/file"
        addresses: "{{ addresses }}"
"""
COPY = """
- hosts: all
  gather_facts: false
  tasks:
    - ansible.builtin.copy:
        src: "{{ file }}"
        dest: "{{ data }}/{{ inventory_hostname }}/file"
        mode: "0644"
"""


def shaped(card: str, rate: str, space: str = "") -> None:
    """A card that sends no faster."""
    inside = ["nsenter", "--net", f"--target={space}"] if space else []
    run(*inside, "tc", "qdisc", "add", "dev", card, "root", "tbf", *f"rate {rate} burst 256k limit 4m".split())


def plug(bridge: str, end: str, card: str, space: str, rates: tuple[str, str]) -> None:
    """A card in a space, at a bridge; with the speed at which it sends, and that at which it is sent to."""
    where = ["netns", space] if space else []
    run("ip", "link", "add", end, "type", "veth", "peer", "name", card, *where)
    run("ip", "link", "set", end, "master", bridge, "up")
    shaped(card, rates[0], space)
    shaped(end, rates[1])


def boot(folder: Path, name: str, number: int, server: Path) -> subprocess.Popen[bytes]:
    sftp = next((path for path in SFTP_SERVERS if Path(path).exists()), "internal-sftp")
    values = {
        "sshd": server,
        "name": name,
        "folder": folder,
        "machine_id": f"{number:032x}",
        "uuid": f"00000000-0000-4000-8000-{number:012x}",
        "internal": INTERNAL + number,
        "external": EXTERNAL + number,
        "gateway": GATEWAY,
        "address": EXTERNAL + number,
        "sftp": sftp,
    }
    (folder / f"{name}.conf").write_text(SSHD.format(**values), encoding="utf-8")
    process = unshared(HOST.format(**values))
    plug("internal", f"i{number}", "ens32", str(process.pid), (CARD, CARD))
    plug("external", f"e{number}", "ens33", str(process.pid), (CARD, CARD))
    return process


class Lan:
    """The controller, its network and some hosts."""

    def __init__(self, folder: Path, hosts: int) -> None:
        self.folder = folder
        self.names = [f"host{number:03d}" for number in range(hosts)]
        self.data = folder / "data"
        self.data.mkdir()
        run("mount", "-t", "tmpfs", "-o", "size=95%", "tmpfs", str(self.data))
        run("mount", "-t", "tmpfs", "tmpfs", "/run")
        Path("/run/sshd").mkdir()
        for name in ("key", "host_key"):
            run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name))
        run("ip", "link", "set", "lo", "up")
        for bridge in ("internal", "external"):
            run("ip", "link", "add", bridge, "type", "bridge")
            run("ip", "link", "set", bridge, "up")
        plug("external", "controller", "ens33", "", (UPLINK, UPLINK))
        run("ip", "link", "set", "ens33", "up")
        run("ip", "address", "add", f"{CONTROLLER}/16", "dev", "ens33")
        server = sshd(folder)
        self.hosts = [boot(folder, name, number, server) for number, name in enumerate(self.names)]
        self.inventory = inventory(folder, self.names)
        self.file = folder / "data" / "source"
        self.sha256 = ""

    def make_file(self, size: int) -> None:
        digest = hashlib.sha256()
        with self.file.open("wb") as stream:
            for start in range(0, size, MB):
                block = os.urandom(min(MB, size - start))
                digest.update(block)
                stream.write(block)
        self.sha256 = digest.hexdigest()

    def clear(self, names: Sequence[str]) -> None:
        for name in names:
            shutil.rmtree(self.data / name, ignore_errors=True)  # none at first; one that stays fails mkdir
            (self.data / name).mkdir()

    def sent(self) -> int:
        """Bytes, with all headers."""
        (card,) = json.loads(run("ip", "-s", "-j", "link", "show", "ens33"))
        return int(card["stats64"]["tx"]["bytes"])

    def play(self, text: str, hosts: int, verbose: bool = False) -> tuple[float, int]:
        """Runs a playbook for so many hosts; the seconds it took and the bytes the controller's card sent."""
        names = self.names[:hosts]
        self.clear(names)
        book = self.folder / "play.yml"
        book.write_text(text, encoding="utf-8")
        given = {
            "file": str(self.file),
            "file_sha256": self.sha256,
            "data": str(self.data),
            "addresses": {name: str(INTERNAL + number) for number, name in enumerate(names)},
        }
        extra = self.folder / "extra.json"
        extra.write_text(json.dumps(given), encoding="utf-8")
        before = self.sent()
        command = [
            "ansible-playbook",
            str(book),
            "-i",
            str(self.inventory),
            "-e",
            f"@{extra}",
            "--limit",
            ",".join(names),
        ]
        taken, code, output = preflight.ansible(*command, *(["-v"] if verbose else []))
        sent = self.sent() - before
        assert code == 0, output[-5000:]
        for line in output.splitlines():
            if "bytes, " in line or "plain copy" in line or "again" in line or verbose:
                print(f"    {line.strip()}", flush=True)
        self.compare(names, "file")
        return taken, sent

    def compare(self, names: Sequence[str], file: str) -> None:
        """All of them have the file; then it is removed."""
        for name in names:
            with (self.data / name / file).open("rb") as stream:
                assert hashlib.file_digest(stream, "sha256").hexdigest() == self.sha256, f"{name} has another file"
        self.clear(names)

    def torrent(self, hosts: int, web: bool) -> tuple[float, int]:
        """The same by BitTorrent."""
        names = self.names[:hosts]
        self.clear(names)
        before = self.sent()
        places = {process.pid: self.data / name for process, name in zip(self.hosts, names)}
        taken = distribution_aria2.download(self.folder, self.file, places, web, ARIA2_LIMIT)
        sent = self.sent() - before
        self.compare(names, self.file.name)
        return taken, sent


def available() -> int:
    for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return 0


def told(what: str, taken: float, sent: int) -> None:
    print(f"{what}: {taken:.1f} s, the controller sent {sent / MB:.0f} MB", flush=True)


def measure(lan: Lan, arguments: argparse.Namespace) -> dict[str, Any]:
    size = arguments.size * MB
    lan.make_file(size)
    wire = size / UPLINK_BYTES
    print(f"{len(lan.names)} hosts run; {arguments.size} MB take {wire:.1f} s on the controller's wire", flush=True)
    ping, code, output = preflight.ansible("ansible", "all", "-i", str(lan.inventory), "-m", "ansible.builtin.ping")
    assert code == 0, output[-2000:]
    print(f"ansible all -m ping: {ping:.1f} s", flush=True)
    by_n: dict[str, dict[str, float]] = {}
    for count in arguments.hosts:
        most = (available() - SPARE) // (count + 1)
        here = size
        if most < size:
            here = max(most // (25 * MB), 1) * 25 * MB
            print(f"memory holds {here // MB} MB for each of {count} hosts and no more", flush=True)
            lan.make_file(here)
        taken, sent = lan.play(TRANSFER, count, arguments.verbose)
        told(f"{count} hosts", taken, sent)
        by_n[str(count)] = {
            "seconds": round(taken, 1),
            "mb": here // MB,
            "wire": round(here / UPLINK_BYTES, 1),
            "sent_mb": round(sent / MB, 1),
        }
        if here != size:
            lan.make_file(size)
    result: dict[str, Any] = {"wire": round(wire, 1), "by_n": by_n, "ping": round(ping, 1)}
    if "1" in by_n and "16" in by_n:
        one, all16 = by_n["1"]["seconds"], by_n["16"]["seconds"]
        result.update(one=one, all16=all16, all16_to_one=round(all16 / one, 2), all16_to_wire=round(all16 / wire, 2))
    if arguments.copy:
        taken, sent = lan.play(COPY, 1)
        told("ansible.builtin.copy to 1 host", taken, sent)
        result["copy1"] = round(taken, 1)
        taken, sent = lan.play(COPY, arguments.copy)
        told(f"ansible.builtin.copy to {arguments.copy} hosts", taken, sent)
        result[f"copy{arguments.copy}"] = round(taken, 1)
    if arguments.aria2:
        result["aria2"] = {}
        for web, way in ((False, "peer"), (True, "web_seed")):
            taken, sent = lan.torrent(arguments.aria2, web)
            told(f"aria2 to {arguments.aria2} hosts ({way})", taken, sent)
            result["aria2"][way] = {"seconds": round(taken, 1), "sent_mb": round(sent / MB, 1)}
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=textwrap.dedent(__doc__ or ""))
    parser.add_argument("--hosts", type=int, nargs="+", default=[1, 4, 16, 64])
    parser.add_argument("--size", type=int, default=500, help="MB")
    parser.add_argument(
        "--copy", type=int, default=16, help="hosts that get the file by ansible.builtin.copy too; 0: none"
    )
    parser.add_argument("--aria2", type=int, default=0, help="hosts that get the file by BitTorrent too")
    parser.add_argument("--verbose", action="store_true")
    arguments = parser.parse_args()
    most = max([*arguments.hosts, arguments.copy, arguments.aria2])
    if not os.environ.get(INSIDE):
        with tempfile.TemporaryDirectory(prefix="multinic-bench-") as folder, room_for_neighbours(most):
            if arguments.aria2:
                distribution_aria2.aria2(Path(folder))  # from here, as the namespaces have no way out
            command = ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
            done = subprocess.run(
                [*command, sys.executable, *sys.argv], env={**os.environ, INSIDE: folder}, check=False
            )
        sys.exit(done.returncode)
    lan = Lan(Path(os.environ[INSIDE]), most)
    print(json.dumps(measure(lan, arguments)))


if __name__ == "__main__":
    main()
