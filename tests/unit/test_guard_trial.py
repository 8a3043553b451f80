# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "e2e"))

guard_trial, guard_faults = importlib.import_module("guard_trial"), importlib.import_module("guard_faults")

MEMORY = {"pid": "7", "rss": 14_000_000, "pss": 9_000_000, "current": 8_000_000, "peak": 9_000_000}


def found(*took: tuple[str, float, str], **after: Any) -> dict[str, Any]:
    return {"took": took, "before": MEMORY, "after": {**MEMORY, **after}}


def test_a_good_trial_has_nothing_against_it() -> None:
    assert guard_trial.judged(found(("table flushed", 1.2, ""), ("route deleted, IPv6", 0.3, "")), 3) == []


@pytest.mark.parametrize(
    ("trial", "told"),
    [
        (found(("table flushed", 3.01, "")), "table flushed: healed after 3.01 s"),
        (found(("table flushed", 2.0, "servers")), "table flushed: servers after 2.0 s"),
        (found(pid="8"), "the guard itself was started again"),
        (found(rss=15_000_001), "the guard had 14000000 bytes and has 15000001"),
        (found(current=20_000_001), "the guard has 14000000 bytes, its unit is charged 20000001"),
        (found(current=0), "the guard has 14000000 bytes, its unit is charged 0"),
    ],
)
def test_what_was_not_as_promised_is_told(trial: dict[str, Any], told: str) -> None:
    assert guard_trial.judged(trial, 3) == [told]


WAY = {"vip": "fd00::2", "source": "fd00:1::1", "other": "fd00:1::9", "servers": ["fd00:1::1"]}
TABLE = "-A -t [fd00::2]:6443 -s rr\n-a -t [fd00::2]:6443 -r [fd00:1::1]:6443 -m -w 1\n"


@pytest.mark.parametrize(
    ("route", "table", "told"),
    [
        ("local fd00::2 from :: dev lo table local src fd00:1::1 metric 1024", TABLE, ""),
        ("local fd00::2 from :: dev lo table local src fd00:1::9 metric 1024", TABLE, "route"),
        ("fd00::2 from :: via fd00::9 dev ens32 src fd00:1::1 metric 1024", TABLE, "route"),
        ("local fd00::2 from :: dev lo src fd00:1::1", "", "virtual server"),
        ("local fd00::2 from :: dev lo src fd00:1::1", TABLE.splitlines()[0], "servers"),
        ("local fd00::2 from :: dev lo src fd00:1::1", TABLE.replace("-m -w 1", "-g -w 0"), "servers"),
    ],
)
def test_a_way_is_right_only_if_all_of_it_is(
    monkeypatch: pytest.MonkeyPatch, route: str, table: str, told: str
) -> None:
    monkeypatch.setattr(guard_faults, "out", lambda *_words: route)
    assert guard_faults.Way(**WAY).wrong([line.split() for line in table.splitlines()]) == told


def test_each_family_has_its_own_faults() -> None:
    ways = [guard_faults.Way(**WAY), guard_faults.Way("10.0.0.2", "10.1.0.1", "10.1.0.9", ["10.1.0.1"])]
    names = {name for way in ways for name in way.faults()}
    assert len(names) + len(guard_faults.COMMON) == 17
    assert ways[0].faults()["server removed, IPv6"] == [
        "ipvsadm",
        "-d",
        "-t",
        "[fd00::2]:6443",
        "-r",
        "[fd00:1::1]:6443",
    ]
