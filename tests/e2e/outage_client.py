# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Asks an API server every 50 ms, whatever has become of the request before, and writes down what came of each.

Runs on a host of the lab: ``python3 outage_client.py ADDRESS FILE [SECONDS]``, until it is told to stop. ADDRESS may be
a name, which is looked up for each request; SECONDS is another period. Each request has its own thread and its own
connection, so one that hangs keeps no other back. A line of FILE is: when it began (seconds, as the host's clock says),
how long it took, and nothing or what went wrong.
"""

from __future__ import annotations

import http.client
import signal
import socket
import ssl
import sys
import threading
import time
from typing import Any

PERIOD = 0.05
TIMEOUT = 2.0
NAME = "apiserver.cluster.local"


class Connection(http.client.HTTPSConnection):
    """The certificate is checked for the API server's name, whatever address it is asked at."""

    def __init__(self, address: str, context: ssl.SSLContext, give_up: float) -> None:
        super().__init__(address, 6443, context=context)
        self.tls = context
        self.give_up = give_up

    def left(self) -> float:
        return max(0.001, self.give_up - time.monotonic())

    def connect(self) -> None:
        plain = socket.create_connection((self.host, self.port), timeout=self.left())
        plain.settimeout(self.left())
        self.sock = self.tls.wrap_socket(plain, server_hostname=NAME)
        self.sock.settimeout(self.left())


def ask(address: str, context: ssl.SSLContext) -> str:
    """Nothing, or what went wrong. The whole request has TIMEOUT seconds."""
    connection = Connection(address, context, time.monotonic() + TIMEOUT)
    try:
        connection.request("GET", "/version")
        answer = connection.getresponse()
        answer.read()
        return "" if answer.status == 200 else f"status {answer.status}"
    except (OSError, http.client.HTTPException) as error:
        return f"{type(error).__name__}: {error}"
    finally:
        connection.close()


def main() -> None:
    address, path = sys.argv[1:3]
    period = float(sys.argv[3]) if len(sys.argv) > 3 else PERIOD
    context = ssl.create_default_context(cafile="/etc/kubernetes/pki/ca.crt")
    over = threading.Event()

    def stop(*_arguments: Any) -> None:
        over.set()

    signal.signal(signal.SIGTERM, stop)
    lock = threading.Lock()
    with open(path, "w", encoding="utf-8", buffering=1) as results:

        def one() -> None:
            began, started = time.time(), time.monotonic()
            trouble = ask(address, context)
            line = f"{began:.3f} {time.monotonic() - started:.3f} {' '.join(trouble.split())}\n"
            with lock:
                results.write(line)

        due = time.monotonic()
        threads: list[threading.Thread] = []
        while not over.is_set():
            thread = threading.Thread(target=one)
            thread.start()
            threads = [*(other for other in threads if other.is_alive()), thread]
            due += period
            over.wait(max(0.0, due - time.monotonic()))
        for thread in threads:
            thread.join()


if __name__ == "__main__":
    main()
