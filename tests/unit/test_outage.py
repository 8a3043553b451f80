# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest

sys.path[:0] = [str(Path(__file__).parents[1] / folder) for folder in ("bench", "e2e")]

failover, outage = importlib.import_module("failover"), importlib.import_module("outage")

LINES = (
    "1.000 0.010 \n1.100 2.000 TimeoutError: timed out\n1.050 0.020 \n1.150 0.300 \n1.200 0.001 refused\n1.250 0.010 \n"
)


def test_the_gap_runs_from_the_first_failure_to_the_first_request_after_the_last() -> None:
    found = outage.outage(outage.parsed(LINES))
    assert (found["requests"], found["failed"], found["gap_seconds"], found["over"]) == (6, 2, 0.15, True)
    assert found["slowest_seconds"] == 0.3
    assert found["troubles"] == {"TimeoutError: timed out": 1, "refused": 1}


def test_the_gap_counts_from_the_links_return() -> None:
    found = outage.outage(outage.parsed(LINES), since=1.12)
    assert (found["requests"], found["failed"], found["gap_seconds"]) == (3, 1, 0.13)


def test_what_never_ended_is_told() -> None:
    found = outage.outage(outage.parsed("1.0 0.1 \n2.0 2.0 refused\n"))
    assert (found["over"], found["gap_seconds"]) == (False, 0.05)
    assert failover.misses({"frozen": found}) == ["frozen: 0.05 s, and 3 s is the most"]


def test_nothing_asked_is_no_success() -> None:
    with pytest.raises(ValueError, match="no request"):
        outage.outage([])


def test_targets_that_were_missed_are_named() -> None:
    good = outage.outage(outage.parsed("1.0 0.1 \n"))
    assert failover.misses({"frozen": good, "stopped": good}) == []
    bad = {**good, "failed": 1, "gap_seconds": 3.1}
    assert failover.misses({"frozen": bad, "stopped": bad, "link_flap": bad}) == [
        "frozen: 3.1 s, and 3 s is the most",
        "link_flap: 3.1 s, and 2 s is the most",
        "stopped: 1 requests failed, and none may",
    ]
