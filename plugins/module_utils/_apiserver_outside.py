# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module util is **PRIVATE** to the collection.

"""Tells the keepalived of the API's outside address whether this host's own API server may have requests.

It is a program of its own, installed on control planes: ``apiserver_outside.py ADDRESS PORT PATH FILE``. Several times a
second it asks the API server, and writes into the file what keepalived adds to the host's priority, which keepalived reads
by inotify. The certificate is not looked at: nothing is entrusted to the answer but where the address is.
"""

from __future__ import annotations

import os
import socket
import ssl
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

READY, UNREADY = 0, -150
# keepalived takes no part at all with this. A host whose API server never was ready has nothing to serve, and a new
# control plane's peers may not know it yet.
NEVER = -254

INTERVAL = 0.7  # seconds between two checks
RETRY = 0.2  # seconds until a bad answer is asked for again
PATIENCE = 1.2  # seconds that an answer may take
GOOD, BAD = 2, 2  # so many answers in a row change the verdict; silence does at once


@dataclass(frozen=True)
class Answer:
    """Of one check: whether the API server is ready, whether it was silent, and what it said."""

    ready: bool
    silent: bool = False
    told: str = ""


@dataclass
class Verdict:
    """What the answers so far amount to."""

    value: int = NEVER
    good: int = 0
    bad: int = 0

    def hear(self, answer: Answer) -> bool:
        """Take an answer in; whether that changed the value."""
        before = self.value
        if answer.ready:
            self.good, self.bad = self.good + 1, 0
            if self.good >= GOOD:
                self.value = READY
        else:
            self.good, self.bad = 0, self.bad + 1
            if self.value == READY and (answer.silent or self.bad >= BAD):
                self.value = UNREADY
        return self.value != before

    @property
    def pause(self) -> float:
        """Seconds until the next check: a bad answer that has changed nothing yet is soon asked for again."""
        return RETRY if self.value == READY and self.bad else INTERVAL


def ask(address: str, port: int, path: str, patience: float = PATIENCE) -> Answer:
    """Ask the API server on this host, in so many seconds for all of it."""
    end = time.monotonic() + patience
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    request = f"GET {path} HTTP/1.0\r\n\r\n".encode()
    line = b""
    try:
        with socket.create_connection((address, port), timeout=patience) as plain:
            plain.settimeout(max(end - time.monotonic(), 0.05))
            with context.wrap_socket(plain) as stream:
                stream.sendall(request)
                while b"\n" not in line:
                    stream.settimeout(max(end - time.monotonic(), 0.05))
                    part = stream.recv(256)
                    if not part:
                        break
                    line += part
    except (socket.timeout, TimeoutError):
        return Answer(ready=False, silent=True, told=f"no answer within {patience:g} s")
    except (OSError, ValueError) as problem:
        return Answer(ready=False, told=str(problem))
    said = line.split(b"\n", 1)[0].decode("ascii", "replace").strip()
    return Answer(ready=" 200" in said, told=said or "it closed the connection")


def read(path: str) -> int:
    """What the file says; that the API server never was ready, where it says nothing."""
    try:
        with open(path, encoding="ascii") as handle:
            return int(handle.read().strip())
    except (OSError, ValueError):
        return NEVER


def write(path: str, value: int) -> bool:
    """Whether the file could be written. In its place: keepalived watches the file that is there."""
    try:
        with open(path, "w", encoding="ascii") as handle:
            handle.write(f"{value}\n")
    except OSError:
        return False
    return True


def tell_systemd(message: str) -> None:
    """Show systemd that this program goes on, if it asks for that."""
    where = os.environ.get("NOTIFY_SOCKET", "")
    if not where:
        return
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
            notify.sendto(message.encode(), "\0" + where[1:] if where.startswith("@") else where)
    except OSError:
        return


def watch(look: Callable[[], Answer], path: str, rounds: int | None = None) -> None:
    """Look for ever, or so many rounds."""
    verdict = Verdict(read(path))
    written: int | None = verdict.value
    while rounds is None or rounds > 0:
        answer = look()
        if verdict.hear(answer):
            ready = verdict.value == READY
            sys.stdout.write(f"the API server of this host is {'ready' if ready else 'not ready: ' + answer.told}\n")
            sys.stdout.flush()
        # keepalived makes the file, with its own beginning, whenever it starts without one.
        if written != verdict.value or read(path) != verdict.value:
            written = verdict.value if write(path, verdict.value) else None
        tell_systemd("WATCHDOG=1")
        time.sleep(verdict.pause)
        rounds = None if rounds is None else rounds - 1


def main(arguments: list[str]) -> int:
    if len(arguments) != 4:
        sys.stderr.write("usage: apiserver_outside.py ADDRESS PORT PATH FILE\n")
        return 2
    address, port, path, file = arguments
    watch(lambda: ask(address, int(port), path), file)
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
