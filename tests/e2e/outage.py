# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How many requests fail, and for how long, as a client on a host of the lab sees it while something happens."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness import Lab

PERIOD = 0.05
FOLDER = "/run/outage"


@dataclass(frozen=True)
class Request:
    """One request: when it began, how long it took (seconds), and what went wrong, or nothing."""

    began: float
    took: float
    trouble: str = ""


def parsed(text: str) -> list[Request]:
    """The client's file, in the order in which the requests began."""
    rows = [line.split(" ", 2) for line in text.splitlines() if line.count(" ") >= 2]
    return sorted(
        (Request(float(began), float(took), trouble.strip()) for began, took, trouble in rows),
        key=lambda request: request.began,
    )


def outage(requests: Sequence[Request], since: float = 0.0) -> dict[str, Any]:
    """What failed from a moment on: how many, for how long, whether it was over before the end, and the slowest answer."""
    counted = [request for request in requests if request.began >= since]
    if not counted:
        raise ValueError("there was no request to judge by")
    bad = [request for request in counted if request.trouble]
    good = [request for request in counted if not request.trouble]
    result: dict[str, Any] = {
        "requests": len(counted),
        "failed": len(bad),
        "gap_seconds": 0.0,
        "over": not counted[-1].trouble,
        "slowest_seconds": round(max((request.took for request in good), default=0.0), 2),
    }
    if bad:
        begin = since or bad[0].began
        after = next((request.began for request in counted if request.began > bad[-1].began), bad[-1].began + PERIOD)
        result["gap_seconds"] = round(after - begin, 2)
        troubles = [request.trouble for request in bad]
        result["troubles"] = {trouble: troubles.count(trouble) for trouble in sorted(set(troubles))}
    return result


def copied(lab: Lab, host: str, program: Path) -> str:
    """Put a program on a host; returns where."""
    encoded = base64.b64encode(program.read_bytes()).decode()
    lab.run(host, f"mkdir -p {FOLDER}; echo {encoded} | base64 -d > {FOLDER}/{program.name}")
    return f"{FOLDER}/{program.name}"


class Asking:
    """A client on a host that asks an address, or what a name leads to, every 50 ms, from now until it is ended."""

    def __init__(self, lab: Lab, host: str, address: str, period: float = PERIOD) -> None:
        self.lab, self.host = lab, host
        self.unit, self.path = f"outage-{address}", f"{FOLDER}/{address}.txt"
        program = copied(lab, host, Path(__file__).with_name("outage_client.py"))
        lab.run(host, f"systemd-run -q --collect --unit={self.unit} python3 {program} {address} {self.path} {period}")

    def end(self) -> list[Request]:
        """Stop it, and read what came of each request."""
        return parsed(self.lab.run(self.host, f"systemctl stop {self.unit}; cat {self.path}"))
