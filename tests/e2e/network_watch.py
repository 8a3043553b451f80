# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Watches a card and asks the API server all the time, from the first moment of a boot on.

Runs on a host of the lab: ``python3 network_watch.py CARD FOLDER NAME=ADDRESS …``, until it is told to stop. FOLDER/card
has a line for each change of the card: when (seconds, as the host's clock says), 1 or 0 for its carrier, its address or -.
FOLDER/NAME has a line for each request to ADDRESS, as of outage_client, which lies beside this program.
"""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import ssl
import struct
import sys
import threading
import time
from typing import Any, TextIO

from outage_client import ask

LOOK, PERIOD = 0.02, 0.1  # seconds
CA = "/etc/kubernetes/pki/ca.crt"
SIOCGIFADDR = 0x8915


def carrier(card: str) -> str:
    """1 where the card has a link; a card that is set down tells nothing."""
    try:
        with open(f"/sys/class/net/{card}/carrier", encoding="ascii") as stream:
            return stream.read().strip()
    except OSError:
        return "0"


def address(card: str, asker: socket.socket) -> str:
    """The card's first IPv4 address, or -."""
    try:
        told = fcntl.ioctl(asker.fileno(), SIOCGIFADDR, struct.pack("256s", card.encode()))
        return socket.inet_ntoa(told[20:24])
    except OSError:
        return "-"


def watch(card: str, path: str, over: threading.Event) -> None:
    before = ("", "")
    with open(path, "w", encoding="utf-8", buffering=1) as log, socket.socket(type=socket.SOCK_DGRAM) as asker:
        while not over.wait(LOOK):
            now = (carrier(card), address(card, asker))
            if now != before:
                log.write(f"{time.time():.3f} {now[0]} {now[1]}\n")
                before = now


def one(context: ssl.SSLContext, at: str, log: TextIO, lock: threading.Lock) -> None:
    began, started = time.time(), time.monotonic()
    trouble = ask(at, context)
    with lock:
        log.write(f"{began:.3f} {time.monotonic() - started:.3f} {' '.join(trouble.split())}\n")


def keep_asking(at: str, path: str, over: threading.Event) -> None:
    context = ssl.create_default_context(cafile=CA)
    lock = threading.Lock()
    due = time.monotonic()
    with open(path, "w", encoding="utf-8", buffering=1) as log:
        threads: list[threading.Thread] = []
        while not over.wait(max(0.0, due - time.monotonic())):
            thread = threading.Thread(target=one, args=(context, at, log, lock))
            thread.start()
            threads = [*(other for other in threads if other.is_alive()), thread]
            due = max(due + PERIOD, time.monotonic())
        for thread in threads:
            thread.join()


def main() -> None:
    card, folder, *targets = sys.argv[1:]
    over = threading.Event()

    def stop(*_arguments: Any) -> None:
        over.set()

    signal.signal(signal.SIGTERM, stop)
    os.makedirs(folder, exist_ok=True)
    jobs = [threading.Thread(target=watch, args=(card, f"{folder}/card", over))]
    for name, _equals, at in (target.partition("=") for target in targets):
        jobs.append(threading.Thread(target=keep_asking, args=(at, f"{folder}/{name}", over)))
    for job in jobs:
        job.start()
    for job in jobs:
        job.join()


if __name__ == "__main__":
    main()
