# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A file on its way to hosts in namespaces, with what may go wrong: who dies, what is damaged, cut, full or interrupted.

The action plugin, the module, the hosts' parts and their connections with each other are the real ones. Only ssh is not:
in its place Ansible calls a program that enters the host's namespaces, and passes data on no faster than the test says.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from machines import Lan, Machine, lan

from ansible_collections.multinic.kubernetes.plugins.module_utils import _swarm
from ansible_collections.multinic.kubernetes.plugins.module_utils._chunks import list_chunks

ROOT = Path(__file__).resolve().parents[2]
MB = 1_000_000
PORT = 8475
SECONDS = 60
# Called as ssh is, but enters a host; a byte rate is all that a slow way in is.
ENTER = """#!{python}
import json, os, subprocess, sys, threading, time
folder = {folder!r}
known = json.load(open(folder + "/hosts.json"))
host, command = sys.argv[-2:]
if host not in known["pids"]:
    sys.exit(0 if "ControlPersist" in sys.argv else "no such host")
if os.path.exists(folder + "/dead-" + host):
    sys.stderr.write("ssh: connect to host: no route to host")
    sys.exit(255)
inside = ["nsenter", "--net", "--mount", "--target", str(known["pids"][host]), "/bin/sh", "-c", command]
child = subprocess.Popen(inside, stdin=subprocess.PIPE, env={{"PATH": os.environ["PATH"], "HOME": "/root"}})
def pump():
    begun, done = time.monotonic(), 0
    while data := os.read(0, 65536):
        try:
            child.stdin.write(data)
            child.stdin.flush()
        except BrokenPipeError:
            return
        done += len(data)
        time.sleep(max(0, begun + done / known["rate"] - time.monotonic()))
    child.stdin.close()
threading.Thread(target=pump, daemon=True).start()
code = child.wait()
sys.stdout.flush()
os._exit(code)
"""
BOOK = """
- hosts: all
  gather_facts: false
  tasks:
    - multinic.kubernetes.bundle_transfer:
        src: {source}
        sha256: {sha256}
        dest: "{folder}/{{{{ inventory_hostname }}}}/file"
        addresses: {addresses}
      register: result
    - ansible.builtin.copy:
        content: "{{{{ result | to_json }}}}"
        dest: "{folder}/{{{{ inventory_hostname }}}}.result"
        mode: "0600"
      delegate_to: localhost
"""

BUNDLE_BOOK = """
- hosts: all
  gather_facts: false
  tasks:
    - ansible.builtin.set_fact:
        cluster_plan: {plan}
        cacheable: true
    - multinic.kubernetes.bundle_deploy:
        bundle: {source}
        sha256: {sha256}
        root: "{folder}/{{{{ inventory_hostname }}}}/bundle"
      register: result
""" + BOOK[BOOK.index("    - ansible.builtin.copy:") :]


@dataclass
class World:
    """Machines, a file, and a controller."""

    lan: Lan
    folder: Path
    source: Path
    rate: float = 20 * MB
    text: str = ""
    book: str = BOOK
    processes: list[subprocess.Popen[str]] = field(default_factory=list)

    @property
    def machines(self) -> list[Machine]:
        return self.lan.machines

    def place(self, machine: Machine) -> Path:
        return self.folder / machine.name

    def make_source(self, size: int, seed: int = 1) -> bytes:
        data = random.Random(seed).randbytes(size)  # noqa: S311  the same at each run
        self.source.write_bytes(data)
        return data

    def start(self, machines: list[Machine] | None = None) -> subprocess.Popen[str]:
        machines = machines or self.machines
        (self.folder / "hosts.json").write_text(
            json.dumps({"pids": {one.name: one.space.process.pid for one in self.machines}, "rate": self.rate}),
            encoding="utf-8",
        )
        enter = self.folder / "enter"
        enter.write_text(ENTER.format(python=sys.executable, folder=str(self.folder)), encoding="utf-8")
        enter.chmod(0o755)
        lines = ["localhost ansible_connection=local", "[hosts]", *(one.name for one in machines), "[hosts:vars]"]
        lines += [f"ansible_ssh_executable={enter}", f"ansible_python_interpreter={sys.executable}"]
        (self.folder / "hosts.ini").write_text("\n".join(lines) + "\n", encoding="utf-8")
        data = self.source.read_bytes()
        book = self.book.format(
            source=self.source,
            sha256=hashlib.sha256(data).hexdigest(),
            folder=self.folder,
            plan=json.dumps({"hosts": {one.name: {"address": one.address} for one in machines}}),
            addresses=json.dumps({one.name: one.address for one in machines}),
        )
        (self.folder / "play.yml").write_text(book.replace("hosts: all", "hosts: hosts"), encoding="utf-8")
        for one in machines:
            self.place(one).mkdir(exist_ok=True)
            (self.folder / f"{one.name}.result").unlink(missing_ok=True)
        command = ["ansible-playbook", str(self.folder / "play.yml"), "-i", str(self.folder / "hosts.ini")]
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env={**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_HOME": str(self.folder / "home")},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.processes.append(process)
        return process

    def finish(self, process: subprocess.Popen[str]) -> int:
        self.text, _none = process.communicate(timeout=SECONDS)
        return process.returncode

    def run(self, machines: list[Machine] | None = None) -> None:
        assert self.finish(self.start(machines)) == 0, self.text

    def result(self, machine: Machine) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.folder / f"{machine.name}.result").read_text(encoding="utf-8"))
        return found

    def fed(self, *but: Machine) -> int:
        return sum(self.result(one)["fed"] for one in self.machines if one not in but)

    def assert_all_have_it(self, *but: Machine) -> None:
        wanted = hashlib.sha256(self.source.read_bytes()).hexdigest()
        for one in self.machines:
            if one not in but:
                found = hashlib.sha256((self.place(one) / "file").read_bytes()).hexdigest()
                assert found == wanted, one.name

    def parts(self, machine: Machine) -> list[int]:
        """The processes of the host's part."""
        found = []
        for path in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):  # the process has ended
                where = os.readlink(path / "ns/net")
                if where == os.readlink(f"/proc/{machine.space.process.pid}/ns/net"):
                    files = [os.readlink(one) for one in (path / "fd").iterdir()]
                    if any(f"{self.place(machine)}/" in one and "file" in one for one in files):
                        found.append(int(path.name))
        return found

    def partial(self, machine: Machine) -> Path:
        return self.place(machine) / ".file.partial"

    def present(self) -> int:
        """Bytes of the file that at least one host has in its unfinished one."""
        chunks = list_chunks([self.source.read_bytes()]).chunks
        held = set()
        for one in self.machines:
            if self.partial(one).exists():
                data = self.partial(one).read_bytes()
                held |= {
                    chunk
                    for chunk in chunks
                    if hashlib.sha256(data[chunk.offset : chunk.offset + chunk.size]).digest() == chunk.digest
                }
        return sum(chunk.size for chunk in held)

    def until(self, true: Callable[[], Any], seconds: float = 60) -> None:
        end = time.monotonic() + seconds
        while not true():
            assert time.monotonic() < end, f"not within {seconds} s: {self.text}"
            time.sleep(0.1)

    def under_way(self, share: float = 0.3) -> None:
        """Waits until so much of the file is on the hosts."""
        self.until(lambda: self.present() > share * self.source.stat().st_size)

    def kill_controller(self) -> None:
        """Ansible and its workers, which are in sessions of their own, and what these have called."""
        mark = f"ANSIBLE_HOME={self.folder / 'home'}".encode()
        for path in Path("/proc").glob("[0-9]*/environ"):
            with contextlib.suppress(OSError):  # the process has ended
                if mark in path.read_bytes().split(b"\0"):
                    os.kill(int(path.parent.name), signal.SIGKILL)
        for process in self.processes:
            process.wait()

    def close(self) -> None:
        self.kill_controller()
        for machine in self.machines:
            for pid in self.parts(machine):
                with contextlib.suppress(ProcessLookupError):  # it has just ended by itself
                    os.kill(pid, signal.SIGKILL)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    shared = Path("/dev/shm") / f"multinic-transfer-{os.getpid()}"
    shared.mkdir(mode=0o700)
    try:
        with lan(4) as built:
            made = World(built, shared, shared / "source")
            try:
                yield made
            finally:
                made.close()
    finally:
        shutil.rmtree(shared)


def test_each_byte_leaves_the_controller_once(world: World) -> None:
    size = len(world.make_source(40 * MB))
    world.run()
    world.assert_all_have_it()
    assert world.fed() == size
    for one in world.machines:
        result = world.result(one)
        assert result["changed"] and result["fed"] + result["received"] == size and not result["damaged"]
    # All have all, so all parts end long before they would for idleness, and leave nothing.
    world.until(lambda: not any(world.parts(one) for one in world.machines), 10)
    assert [path.name for one in world.machines for path in world.place(one).iterdir()] == ["file"] * 4
    # Again: nothing is sent, nothing changes.
    world.run()
    assert not any(world.result(one)["changed"] for one in world.machines)
    assert world.fed() == 0


def test_a_new_version_costs_what_is_new_in_it(world: World) -> None:
    old = world.make_source(40 * MB)
    world.run()
    world.source.write_bytes(old[: 10 * MB] + b"something new" + old[10 * MB + 5 :])
    world.run()
    world.assert_all_have_it()
    assert 0 < world.fed() < 9 * MB


def test_a_host_that_comes_later_gets_all_from_the_others(world: World) -> None:
    world.make_source(20 * MB)
    world.run(world.machines[:3])
    world.run()
    world.assert_all_have_it()
    assert world.fed() == 0
    assert world.result(world.machines[3])["received"] == 20 * MB


def test_a_part_that_is_killed_is_started_again_and_the_others_go_on(world: World) -> None:
    size = len(world.make_source(60 * MB))
    world.rate = 4 * MB
    process = world.start()
    world.under_way()
    for pid in world.parts(world.machines[1]):
        os.kill(pid, signal.SIGKILL)
    assert world.finish(process) == 0, world.text
    world.assert_all_have_it()
    assert "host2: its part in passing the file around ended" in world.text
    assert world.present() == 0
    sent = world.fed()
    assert sent <= size * 1.05, sent / size


def test_a_host_that_dies_holds_nobody_up(world: World) -> None:
    size = len(world.make_source(60 * MB))
    world.rate = 4 * MB
    process = world.start()
    world.under_way()
    dead = world.machines[2]
    (world.folder / f"dead-{dead.name}").touch()
    dead.ip("link set ens32 down")
    for pid in world.parts(dead):
        os.kill(pid, signal.SIGKILL)
    assert world.finish(process) != 0
    world.assert_all_have_it(dead)
    assert not (world.place(dead) / "file").exists()
    assert re.search(rf"{dead.name}\s+: ok=0 .*unreachable=1", world.text), world.text
    # What the dead one had been sent and not passed on is sent once more, and it is not counted in the results.
    assert world.fed(dead) <= size


def test_what_is_damaged_is_noticed_and_fetched_again(world: World) -> None:
    world.make_source(60 * MB)
    world.rate = 4 * MB
    process = world.start()
    world.under_way(0.2)
    spoilt = world.machines[0]
    with world.partial(spoilt).open("r+b") as stream:
        # Every megabyte of what it has and passes on is another one now.
        for offset in range(0, 60 * MB, MB):
            stream.seek(offset)
            stream.write(b"damaged")
    assert world.finish(process) == 0, world.text
    world.assert_all_have_it()
    damaged = [world.result(one)["damaged"] for one in world.machines if one is not spoilt]
    assert sum(damaged) > 0 or "has sha256" in world.text


def test_a_host_without_room_is_told_of_and_the_others_go_on(world: World) -> None:
    world.make_source(40 * MB)
    full = world.machines[3]
    world.place(full).mkdir()
    full.space.run("mount", "-t", "tmpfs", "-o", "size=20m", "tmpfs", str(world.place(full)))
    assert world.finish(world.start()) != 0
    world.assert_all_have_it(full)
    assert "needs 38 MiB on the file system" in world.text
    assert not (world.place(full) / "file").exists()


@pytest.mark.slow
def test_a_link_that_is_cut_for_ten_seconds(world: World) -> None:
    size = len(world.make_source(80 * MB))
    world.rate = 2 * MB
    process = world.start()
    world.under_way(0.2)
    cut = world.machines[1]
    world.lan.switch.ip(f"link set i{cut.number} down")
    time.sleep(10)
    world.lan.switch.ip(f"link set i{cut.number} up")
    assert world.finish(process) == 0, world.text
    world.assert_all_have_it()
    assert world.fed() <= size * 1.05, world.fed() / size


def test_a_controller_that_is_killed_goes_on_where_it_was(world: World) -> None:
    size = len(world.make_source(60 * MB))
    world.rate = 4 * MB
    world.start()
    world.under_way()
    world.kill_controller()
    # What it had sent comes to its end in the hosts' parts, which are still there.
    there = world.present()
    world.run()
    world.assert_all_have_it()
    assert world.fed() <= size - there + 0.05 * size


def test_a_host_that_is_shut_off_gets_all_from_the_controller(world: World) -> None:
    size = len(world.make_source(20 * MB))
    shut = world.machines[0]
    shut.iptables(f"-A INPUT -i ens32 -p tcp --dport {PORT} -j DROP")
    shut.iptables(f"-A OUTPUT -o ens32 -p tcp --dport {PORT} -j DROP")
    world.run()
    world.assert_all_have_it()
    assert f"{shut.name} gets nothing from the other hosts (0 of 3" in world.text
    assert world.result(shut)["fed"] == size and world.result(shut)["received"] == 0


def bundle(path: Path, size: int) -> None:
    """A bundle that this collection takes, of so many bytes that can't be compressed."""
    random_bytes = random.Random(3).randbytes(size)  # noqa: S311  the same at each run
    contents = {"bin/kubeadm": b"kubeadm", "bin/kubectl": b"kubectl", "bin/kubelet": random_bytes}
    parts = [
        {
            "path": name,
            "sha256": hashlib.sha256(content).hexdigest(),
            "size": len(content),
            "mode": "0755",
            "kind": "binary",
        }
        for name, content in contents.items()
    ]
    manifest = {
        "schema": 1,
        "kubernetes_version": "v1.31.0",
        "architecture": "amd64",
        "created": "2024-01-01T00:00:00Z",
        "image_repository": "registry.k8s.io",
        "pause_image": "registry.k8s.io/pause:3.10",
        "images_required": ["registry.k8s.io/pause:3.10"],
        "parts": parts,
        "missing": [{"name": "registry.k8s.io/pause:3.10", "reason": "not for this test"}],
    }
    with tarfile.open(path, "w:gz", compresslevel=1) as archive:
        for name, content in {"manifest.json": json.dumps(manifest).encode(), **contents}.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))


def test_the_bundle_is_unpacked_on_all_hosts_also_after_an_interruption(world: World) -> None:
    bundle(world.source, 40 * MB)
    size = world.source.stat().st_size
    world.book = BUNDLE_BOOK
    world.rate = 3 * MB
    world.start()
    kept = "host*/bundle/.incoming-*/.bundle.tar.gz.partial"
    world.until(lambda: len(list(world.folder.glob(kept))) == 4)
    time.sleep(3)
    world.kill_controller()
    data = world.source.read_bytes()
    there = sum(
        any(path.read_bytes()[offset : offset + MB] == data[offset : offset + MB] for path in world.folder.glob(kept))
        for offset in range(0, size, MB)
    )
    assert 0 < there * MB < size
    world.run()
    assert "plain copy" not in world.text
    for one in world.machines:
        root = world.place(one) / "bundle"
        assert (root / "current" / "bin/kubelet").stat().st_size == 40 * MB
        # Neither the archive nor what was left of the first run is there any more.
        assert not list(root.glob(".incoming-*/*")), list(root.glob(".incoming-*/*"))
    # A megabyte of the count may be without the chunks at its ends.
    assert 0 < world.fed() <= size - there * MB + 0.1 * size


def test_who_is_no_host_of_the_inventory_gets_nothing(world: World) -> None:
    """Tried from a machine of the same network while the file is on its way."""
    world.make_source(60 * MB)
    world.rate = 3 * MB
    process = world.start(world.machines[:3])
    world.under_way(0.1)
    target, stranger, peer = world.machines[0], world.machines[3], world.machines[1]
    ask = (
        "import socket,sys\n"
        "s=socket.create_connection((sys.argv[1],int(sys.argv[2])),5,source_address=(sys.argv[3],0))\n"
        "s.settimeout(8)\n"
        "d=b''\n"
        "try:\n"
        "  d=s.recv(9+32) and b'hello'\n"
        "  if d: s.sendall(bytes.fromhex(sys.argv[4])); d+=s.recv(4096)\n"
        "except ConnectionError: pass\n"
        "print(d)\n"
    )
    proof = _swarm.frame(_swarm.PROOF, 1, bytes(64)) + _swarm.frame(_swarm.ASK, 0)

    def answer(machine: Machine, address: str) -> str:
        return machine.space.run(sys.executable, "-c", ask, target.address, str(PORT), address, proof.hex()).strip()

    assert answer(stranger, stranger.address) == "b''"
    # A host of the inventory, without the key.
    assert answer(peer, peer.address) == "b'hello'"
    with pytest.raises(AssertionError, match="refused"):
        peer.space.run(sys.executable, "-c", ask, target.outer, str(PORT), peer.outer, proof.hex())
    assert world.finish(process) == 0, world.text


def test_a_part_ends_by_itself(world: World) -> None:
    """The controller and the other host are gone: nobody tells it to."""
    world.make_source(4 * MB)
    one, two = world.machines[:2]
    chunks = list_chunks([world.source.read_bytes()])
    for deadline, idle in ((2, 60), (60, 2)):
        started = one.module(
            "bundle_peer",
            path=str(world.folder / "file"),
            sha256=chunks.sha256,
            chunks=chunks.text(),
            addresses=[one.address, two.address],
            place=0,
            port=PORT,
            key="00" * 32,
            idle=idle,
            deadline=deadline,
        )
        assert os.path.exists(f"/proc/{started['pid']}")
        assert one.space.run("ss", "-Hltn").split()[3] == f"{one.address}:{PORT}"
        world.until(lambda: not os.path.exists(f"/proc/{started['pid']}"), 6)  # noqa: B023
        assert one.space.run("ss", "-Hltn") == ""
