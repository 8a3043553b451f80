# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs guard_faults.py on a host, for the end-to-end tests and molecule's, and judges what it found."""

from __future__ import annotations

import base64
import json
import shlex
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

PROGRAM = Path(__file__).with_name("guard_faults.py")
UNIT = "guard-faults"
MOST_MEMORY = 20e6
MOST_GROWTH = 1e6


def trial(shell: Callable[[str], str], rounds: int, ways: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What guard_faults.py found; shell runs a command on the host as root, and fails where that does.

    It does not hang on a connection, which may break in all that time.
    """
    encoded = base64.b64encode(PROGRAM.read_bytes()).decode()
    shell(f"rm -f /run/{UNIT}.*; echo {encoded} | base64 -d > /run/{UNIT}.py")
    shell("systemctl restart multinic-apiserver-guard && sleep 3")
    words = f"/run/{UNIT}.py {rounds} {shlex.quote(json.dumps(ways))}"
    # --wait would hang on the connection; a unit that failed is kept until it is asked.
    shell(
        f"systemctl reset-failed {UNIT} 2>/dev/null; systemd-run -q --unit={UNIT} "
        f"--property=StandardOutput=truncate:/run/{UNIT}.json --property=StandardError=truncate:/run/{UNIT}.err "
        f"python3 {words}"
    )
    deadline = time.monotonic() + 60 + 6 * rounds
    # Its status is not 0 for a unit that has ended, and it says so in words.
    while shell(f"systemctl is-active {UNIT} || true").strip() in ("active", "activating"):
        assert time.monotonic() < deadline, "the faults have not come to an end"
        time.sleep(1)
    told = shell(f"cat /run/{UNIT}.json")
    assert told, shell(f"cat /run/{UNIT}.err")
    shell(f"rm -f /run/{UNIT}.*")
    return dict(json.loads(told))


def judged(found: dict[str, Any], most_seconds: float) -> list[str]:
    """What of a trial was not as promised, one sentence each."""
    before, after = found["before"], found["after"]
    missed = [
        f"{name}: {f'{what} after' if what else 'healed after'} {seconds} s"
        for name, seconds, what in found["took"]
        if what or seconds > most_seconds
    ]
    if before["pid"] != after["pid"]:
        missed.append("the guard itself was started again")
    if max(after["rss"], after["current"]) > MOST_MEMORY or not after["current"]:
        missed.append(f"the guard has {after['rss']} bytes, its unit is charged {after['current']}")
    if after["rss"] - before["rss"] > MOST_GROWTH:
        missed.append(f"the guard had {before['rss']} bytes and has {after['rss']}")
    return missed


def told(found: dict[str, Any]) -> str:
    """The longest time of each fault, and the memory, for a person."""
    longest: dict[str, float] = defaultdict(float)
    for name, seconds, _what in found["took"]:
        longest[name] = max(longest[name], seconds)
    rows = "".join(f"\n  {seconds:5} s  {name}" for name, seconds in sorted(longest.items(), key=lambda row: -row[1]))
    return f"{len(found['took'])} faults; the longest of each:{rows}\nguard before {found['before']}\nguard after  {found['after']}"
