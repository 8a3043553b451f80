# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module util is **PRIVATE** to the collection.

"""The lab as it runs on this machine: namespace, processes, disks, secrets. No Ansible."""

from __future__ import annotations

import ctypes
import fcntl
import io
import os
import secrets
import select
import shutil
import signal
import socket
import struct
import subprocess
import tarfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from ansible_collections.multinic.kubernetes.plugins.module_utils import _lab

NAMESPACES = Path("/run/netns")
MCONSOLE_MAGIC = 0xCAFEBABE
MCONSOLE_VERSION = 2
MCONSOLE_LIMIT = 512
USER_ID = 1000


class RunError(RuntimeError):
    """Something on this machine did not work."""


@dataclass(frozen=True)
class Paths:
    """Where one lab keeps what."""

    cache: Path
    lab: str

    @property
    def folder(self) -> Path:
        return self.cache / "labs" / self.lab

    @property
    def plan(self) -> Path:
        return self.folder / "state.json"

    @property
    def kernel_root(self) -> Path:
        return self.cache / "uml"

    @property
    def base_folder(self) -> Path:
        return self.cache / "base"

    def guest(self, name: str) -> Path:
        return self.folder / "guests" / name

    def console(self, name: str) -> Path:
        return self.guest(name) / "console.log"


def run(command: Sequence[str], check: bool = True) -> subprocess.CompletedProcess[str]:
    """Runs a tool of this machine; a failure becomes RunError with the tool's own words."""
    try:
        done = subprocess.run(list(command), stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    except FileNotFoundError as exc:
        raise RunError(f"{command[0]} is not installed on this machine") from exc
    if check and done.returncode:
        raise RunError(f"'{' '.join(command)}' failed with code {done.returncode}: {done.stderr.strip()}")
    return done


@contextmanager
def lock(paths: Paths) -> Iterator[None]:
    """One change of a lab at a time. The lock lies beside the folder, since the folder may be removed."""
    paths.folder.parent.mkdir(parents=True, exist_ok=True)
    with (paths.folder.parent / f".{paths.lab}.lock").open("w", encoding="utf-8") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def write(path: Path, content: str, mode: int = 0o644) -> bool:
    """Writes a file as a whole or not at all; tells whether it differed."""
    if path.exists() and path.read_text(encoding="utf-8") == content:
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.new")
    with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "w", encoding="utf-8") as handle:
        handle.write(content)
    beside.replace(path)
    return True


def load_plan(paths: Paths) -> Optional[_lab.Lab]:
    """The plan that the networks were made from, if the lab is there."""
    try:
        return _lab.load(paths.plan.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None


# ---- namespace and devices


def namespace_exists(lab: str) -> bool:
    """A file that nothing is mounted on is left from before a reboot of the machine."""
    path = NAMESPACES / _lab.namespace(lab)
    return path.exists() and os.path.ismount(path)


def make_namespace(lab: str) -> None:
    name = _lab.namespace(lab)
    (NAMESPACES / name).unlink(missing_ok=True)
    run(["ip", "netns", "add", name])


def remove_namespace(lab: str) -> bool:
    path = NAMESPACES / _lab.namespace(lab)
    if namespace_exists(lab):
        for device in observe(lab):
            run(["ip", "-n", _lab.namespace(lab), "link", "delete", device.name], check=False)
        run(["ip", "netns", "delete", _lab.namespace(lab)])
        return True
    if path.exists():
        path.unlink()
        return True
    return False


def observe(lab: str) -> list[_lab.Device]:
    """The devices of the lab's namespace."""
    name = _lab.namespace(lab)
    links = run(["ip", "-n", name, "-details", "-json", "address", "show"]).stdout
    qdiscs = run(["tc", "-n", name, "-json", "qdisc", "show"]).stdout
    return _lab.observed(links, qdiscs)


def in_namespace(lab: str, commands: Iterable[Sequence[str]]) -> None:
    """Carries out C(ip) and C(tc) commands in the lab's namespace."""
    for command in commands:
        run([command[0], "-n", _lab.namespace(lab), *command[1:]])


def set_sysctls(lab: str) -> bool:
    """Namespace settings; tells whether any differed."""
    words = []
    for name, value in _lab.NAMESPACE_SYSCTLS.items():
        path = f"/proc/sys/{name}"
        words.append(
            f'test ! -w {path} || test "$(cat {path})" = {value} || {{ echo {value} > {path}; echo changed; }}'
        )
    return bool(run(["ip", "netns", "exec", _lab.namespace(lab), "sh", "-c", "\n".join(words)]).stdout)


def enter_namespace(lab: str) -> None:
    """Moves this process's sockets into the lab's namespace, for good."""
    libc = ctypes.CDLL(None, use_errno=True)
    with (NAMESPACES / _lab.namespace(lab)).open(encoding="utf-8") as handle:
        if libc.setns(handle.fileno(), 0x40000000):
            raise RunError(f"the namespace of lab {lab} cannot be entered: {os.strerror(ctypes.get_errno())}")


def drop_connections(lab: str, addresses: Iterable[str]) -> None:
    """Ends this machine's connections to guests that went away, which would otherwise hang until they time out."""
    for address in addresses:
        run(["ip", "netns", "exec", _lab.namespace(lab), "ss", "--kill", "--tcp", "dst", address], check=False)


# ---- processes


@dataclass(frozen=True)
class Process:
    """One process of a guest."""

    pid: int
    session: int
    state: str


def processes(paths: Paths) -> dict[str, list[Process]]:
    """All living processes of the lab's guests, found without any record that could be out of date.

    A guest's processes live in the kernel's private root and share a session. At least one of them shows the
    kernel's command line, which names lab and guest.
    """
    root = str(paths.kernel_root.resolve())
    marker = f"lab.name={paths.lab}".encode()
    members: dict[int, list[Process]] = {}
    names: dict[int, str] = {}
    for entry in os.scandir("/proc"):
        if not entry.name.isdigit():
            continue
        try:
            if os.readlink(f"/proc/{entry.name}/root") != root:
                continue
            stat = Path(f"/proc/{entry.name}/stat").read_text(encoding="utf-8", errors="replace")
            words = Path(f"/proc/{entry.name}/cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        fields = stat.rpartition(")")[2].split()
        if fields[0] in ("Z", "X"):
            continue
        process = Process(int(entry.name), int(fields[3]), fields[0])
        members.setdefault(process.session, []).append(process)
        if marker in words:
            for word in words:
                if word.startswith(b"umid="):
                    names[process.session] = word[5:].decode()
    result: dict[str, list[Process]] = {}
    for session, name in names.items():
        result.setdefault(name, []).extend(members[session])
    return result


def guest_state(found: Sequence[Process]) -> str:
    """V(running), V(frozen) or V(stopped)."""
    if not found:
        return "stopped"
    return "frozen" if all(process.state in ("T", "t") for process in found) else "running"


def send(paths: Paths, name: str, number: signal.Signals) -> None:
    """Sends a signal to every process of a guest, until no process is left that had not got it."""
    reached: set[int] = set()
    while True:
        todo = [process.pid for process in processes(paths).get(name, []) if process.pid not in reached]
        if not todo:
            return
        for pid in todo:
            reached.add(pid)
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                continue


def kill(paths: Paths, name: str, timeout: float = 20) -> None:
    """Power loss: returns when no process of the guest is left."""
    deadline = time.monotonic() + timeout
    while processes(paths).get(name):
        if time.monotonic() > deadline:
            raise RunError(f"guest {name} still has processes {timeout:.0f} s after it was killed")
        send(paths, name, signal.SIGKILL)
        time.sleep(0.02)


def wait_stopped(paths: Paths, names: Iterable[str], timeout: float) -> list[str]:
    """Waits until the guests have ended; returns those that have not."""
    waiting = set(names)
    deadline = time.monotonic() + timeout
    while waiting and time.monotonic() < deadline:
        waiting &= set(processes(paths))
        if waiting:
            time.sleep(0.1)
    return sorted(waiting)


def press_power_button(paths: Paths, name: str) -> None:
    """Asks the guest to shut down, through its kernel's management console.

    The console's answer could not reach this process, which is in another network namespace, so none is awaited:
    that the guest ends is the answer.
    """
    # Socket paths are short by law; a path through the folder's descriptor is short wherever the cache lies.
    descriptor = os.open(paths.folder / "umid" / name, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
            packet = struct.pack(f"=III{MCONSOLE_LIMIT}s", MCONSOLE_MAGIC, MCONSOLE_VERSION, 3, b"cad")
            channel.sendto(packet, f"/proc/self/fd/{descriptor}/mconsole")
    finally:
        os.close(descriptor)


# ---- disks, secrets, identity


def make_key(path: Path, comment: str) -> None:
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", str(path)])


def make_secrets(paths: Paths, lab: _lab.Lab) -> bool:
    """Key pair, password, host keys and ssh's files of the lab; tells whether any was missing."""
    changed = False
    if not (paths.folder / "id_ed25519").exists():
        make_key(paths.folder / "id_ed25519", f"lab {lab.name}")
        changed = True
    if not (paths.folder / "password").exists():
        changed = write(paths.folder / "password", secrets.token_urlsafe(18), 0o600)
    public = {}
    for guest in lab.guests:
        key = paths.guest(guest.name) / "ssh_host_ed25519_key"
        if not key.exists():
            make_key(key, guest.name)
            changed = True
        public[guest.name] = key.with_name(f"{key.name}.pub").read_text(encoding="utf-8")
    changed = write(paths.folder / "known_hosts", _lab.known_hosts(lab, public)) or changed
    return write(paths.folder / "ssh_config", _lab.ssh_config(lab, str(paths.folder))) or changed


def _guest_files(paths: Paths, guest: _lab.Guest) -> list[_lab.File]:
    found = _lab.Secrets(
        host_key=(paths.guest(guest.name) / "ssh_host_ed25519_key").read_text(encoding="utf-8"),
        authorized_key=(paths.folder / "id_ed25519.pub").read_text(encoding="utf-8"),
        password=(paths.folder / "password").read_text(encoding="utf-8").strip(),
    )
    return _lab.guest_files(guest, found, USER_ID)


def guest_identity(paths: Paths, guest: _lab.Guest) -> str:
    """What names the guest's own files on its kernel's command line."""
    return _lab.identity(_guest_files(paths, guest))


def write_identity(paths: Paths, guest: _lab.Guest) -> str:
    """Puts the guest's own files on its second disk and returns what names them on the command line."""
    folder = paths.guest(guest.name)
    files = _guest_files(paths, guest)
    with os.fdopen(os.open(folder / "identity.tar", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as handle:
        with tarfile.open(fileobj=handle, mode="w", format=tarfile.USTAR_FORMAT) as archive:
            ssh = tarfile.TarInfo("home/lab/.ssh")
            ssh.type, ssh.mode, ssh.uid, ssh.gid = tarfile.DIRTYPE, 0o700, USER_ID, USER_ID
            archive.addfile(ssh)
            for file in files:
                content = file.content.encode()
                info = tarfile.TarInfo(file.path)
                info.size, info.mode, info.uid, info.gid = len(content), file.mode, file.user, file.user
                archive.addfile(info, io.BytesIO(content))
    return _lab.identity(files)


def remove_disk(paths: Paths, name: str) -> bool:
    disk = paths.guest(name) / "disk.cow"
    if disk.exists():
        disk.unlink()
        return True
    return False


def start(paths: Paths, lab: _lab.Lab, guest: _lab.Guest, processor: int, base_image: str) -> subprocess.Popen[bytes]:
    """Starts a guest's kernel as the leader of a session of its own."""
    arguments = _lab.kernel_arguments(lab.name, guest, base_image, write_identity(paths, guest))
    command = _lab.start_command(
        lab, guest, processor, str(paths.kernel_root), str(paths.folder), str(paths.base_folder), arguments
    )
    shutil.rmtree(paths.folder / "umid" / guest.name, ignore_errors=True)
    (paths.folder / "umid").mkdir(mode=0o700, exist_ok=True)
    write(paths.folder / "kernel", _lab.KERNEL, 0o755)
    with paths.console(guest.name).open("ab") as console:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=console,
            stderr=subprocess.STDOUT,
            cwd="/",
            start_new_session=True,
            close_fds=True,
        )


def wait_launched(paths: Paths, started: dict[str, subprocess.Popen[bytes]], timeout: float = 20) -> None:
    """Returns once every kernel runs; a start that failed becomes RunError with its last words."""
    deadline = time.monotonic() + timeout
    waiting = set(started)
    while waiting:
        ended = sorted(name for name in waiting if started[name].poll() is not None)
        for name in ended or (sorted(waiting) if time.monotonic() > deadline else []):
            raise RunError(
                f"guest {name} could not be started; the end of {paths.console(name)}:\n{console_tail(paths, name)}"
            )
        waiting -= set(processes(paths))
        time.sleep(0.02)


def runs_with(paths: Paths, name: str, arguments: Sequence[str]) -> bool:
    """Whether the guest's kernel was started with exactly these arguments, and in the lab's present namespace."""
    try:
        here = (NAMESPACES / _lab.namespace(paths.lab)).stat()
    except FileNotFoundError:
        return False
    wanted = [argument.encode() for argument in arguments]
    for process in processes(paths).get(name, []):
        try:
            words = Path(f"/proc/{process.pid}/cmdline").read_bytes().rstrip(b"\0").split(b"\0")
            there = os.stat(f"/proc/{process.pid}/ns/net")
        except OSError:
            continue
        if words[1:] == wanted and os.path.samestat(here, there):
            return True
    return False


def console_tail(paths: Paths, name: str, lines: int = 15) -> str:
    try:
        with paths.console(name).open("rb") as handle:
            handle.seek(max(0, handle.seek(0, os.SEEK_END) - 8192))
            return "\n".join(handle.read().decode(errors="replace").splitlines()[-lines:])
    except OSError:
        return ""


# ---- waiting for ssh


def wait_ssh(paths: Paths, guests: Sequence[_lab.Guest], timeout: float) -> dict[str, float]:
    """Waits until every guest's sshd says its name; seconds by guest. Enters the lab's namespace for good."""
    enter_namespace(paths.lab)
    began = time.monotonic()
    waiting = {guest.name: guest.ssh_address for guest in guests}
    ready: dict[str, float] = {}
    while waiting:
        for name in _answering(waiting):
            ready[name] = round(time.monotonic() - began, 1)
            del waiting[name]
        dead = sorted(set(waiting) - set(processes(paths)))
        late = sorted(waiting) if time.monotonic() - began > timeout else []
        for name in dead or late:
            why = "ended while it booted" if dead else f"did not answer ssh at {waiting[name]} within {timeout:.0f} s"
            raise RunError(f"guest {name} {why}; the end of {paths.console(name)}:\n{console_tail(paths, name)}")
    return ready


def _answering(addresses: dict[str, str]) -> list[str]:
    """The guests whose sshd answers within a moment."""
    channels: dict[socket.socket, str] = {}
    answering = []
    try:
        for name, address in addresses.items():
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            channel = socket.socket(family, socket.SOCK_STREAM)
            channel.setblocking(False)
            channel.connect_ex((address, 22))
            channels[channel] = name
        deadline = time.monotonic() + 1
        open_ones = dict(channels)
        while open_ones and time.monotonic() < deadline:
            readable, _writable, _broken = select.select(list(open_ones), [], [], 0.2)
            for channel in readable:
                name = open_ones.pop(channel)
                try:
                    if channel.recv(8).startswith(b"SSH-"):
                        answering.append(name)
                except OSError:
                    continue
            if answering:
                break
        if open_ones.keys() != channels.keys() and not answering:
            time.sleep(0.2)
    finally:
        for channel in channels:
            channel.close()
    return answering
