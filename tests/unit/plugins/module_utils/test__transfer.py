# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.multinic.kubernetes.plugins.module_utils import _transfer
from ansible_collections.multinic.kubernetes.plugins.module_utils._chunks import MIB, mask
from ansible_collections.multinic.kubernetes.plugins.module_utils._transfer import FAILED, Ledger, megabytes

NAMES = [f"host{number}" for number in range(8)]


def ledger(chunks: int = 40, hosts: int = 4, have: int = 0) -> Ledger:
    made = Ledger.new([MIB] * chunks, NAMES[:hosts], 0.0)
    for name in NAMES[:hosts]:
        made.report(name, have)
    return made


def test_the_text_form_says_all() -> None:
    made = ledger()
    made.take("host0", 1.0)
    made.carried("host0", 4 * MIB, 2.0)
    made.report("host1", 0b1011)
    made.fail("host2")
    again = Ledger.read(made.text())
    assert again == made
    assert again.hosts["host1"].have == 0b1011 and again.leases and again.sent == 4 * MIB


def test_nobody_is_sent_what_another_has_or_is_being_sent() -> None:
    made = ledger(chunks=10)
    made.report("host3", mask([0, 1]))
    first = made.take("host0", 0.0)
    second = made.take("host1", 0.0)
    assert first == [2, 3, 4, 5] and second == [6, 7, 8, 9]
    assert made.take("host2", 0.0) == []
    assert made.take("host3", 0.0) == []


def test_what_takes_too_long_is_taken_over_from_its_end() -> None:
    made = ledger(chunks=4)
    assert made.take("host0", 0.0) == [0, 1, 2, 3]
    assert made.take("host1", _transfer.LEAST_PATIENCE - 0.1) == []
    made.report("host0", mask([0]))
    taken = made.take("host1", _transfer.LEAST_PATIENCE)
    assert taken == [3, 2, 1]
    assert made.take("host2", _transfer.LEAST_PATIENCE) == []


def test_what_was_on_its_way_to_one_that_failed_goes_to_another() -> None:
    made = ledger(chunks=4)
    made.report("host3", mask([0]))
    assert made.take("host0", 0.0) == [1, 2, 3]
    made.fail("host0")
    made.fail("host3")
    assert made.take("host1", 0.1) == [0, 1, 2, 3]


def test_few_feed_at_once_and_a_place_becomes_free() -> None:
    made = ledger(chunks=100, hosts=8)
    fed = [name for name in NAMES if made.take(name, 0.0)]
    assert fed == NAMES[: _transfer.MOST_FEEDERS]
    made.fail(NAMES[0])
    assert made.take(NAMES[7], 0.0)


def test_one_that_nobody_reaches_is_sent_all() -> None:
    made = ledger(chunks=4)
    made.report("host1", mask(range(4)))
    assert made.take("host0", 0.0) == []
    assert made.take("host0", 0.0, alone=True) == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("rate", "chunks"),
    [(0.0, 4), (0.1 * MIB, 1), (2.0 * MIB, 8), (100.0 * MIB, 16)],
    ids=["new", "slow", "fair", "fast"],
)
def test_a_call_sends_what_its_host_takes_in_some_seconds(rate: float, chunks: int) -> None:
    made = ledger(chunks=1000)
    made.hosts["host0"].rate = rate
    assert len(made.take("host0", 0.0)) == chunks
    made = ledger(chunks=1000, hosts=1)
    made.hosts["host0"].rate = 100.0 * MIB
    assert len(made.take("host0", 0.0)) == 64


@pytest.mark.parametrize(
    ("have", "now", "begins"),
    [
        ([0, 0], 0.5, False),
        ([0, 0], 1.0, True),
        ([0, 0, 0], 0.1, True),
        ([0, 0b1], 7.9, False),
        ([0, 0, 0, 0b1], 1.0, False),
        ([0, 0b1], 8.0, True),
        ([0b1] * 6, 0.1, True),
    ],
)
def test_when_the_first_chunk_may_go(have: list[int], now: float, begins: bool) -> None:
    made = Ledger.new([1] * 4, NAMES[:6], 0.0)
    for name, bits in zip(NAMES, have):
        made.report(name, bits)
    assert made.may_begin(now, at_once=50) is begins
    # Where only so few are worked on at once, nobody waits for more.
    assert made.may_begin(now, at_once=len(have))


def test_a_few_start_first() -> None:
    made = Ledger.new([1] * 4, NAMES, 0.0)
    started = [name for name in NAMES if made.may_start(name, 0.0)]
    assert started == NAMES[: _transfer.FRESH_HOSTS]
    assert all(made.may_start(name, _transfer.HEAD_START_SECONDS) for name in NAMES)
    for name in started:
        made.report(name, 0)
    assert all(made.may_start(name, 0.1) for name in NAMES)


def test_the_line_is_for_a_person() -> None:
    made = ledger(chunks=4, hosts=4)
    made.report("host0", mask(range(4)))
    made.report("host1", mask([0, 1]))
    made.fail("host3")
    made.carried("host0", 4 * MIB, 1.0)
    assert made.line(_transfer.LINE_SECONDS - 0.1) == ""
    assert made.line(_transfer.LINE_SECONDS) == (
        "50 % of all hosts' bytes, 4.2 MB sent by the controller at 0.8 MB/s, 1 of 4 hosts done, 1 failed"
    )
    assert made.line(_transfer.LINE_SECONDS + 1) == ""
    assert megabytes(123456789) == "123 MB"


@st.composite
def runs(draw: st.DrawFn) -> tuple[int, dict[str, float], dict[str, int]]:
    """Chunks, the rate of each host's way in, and after how many calls a host dies."""
    hosts = draw(st.integers(1, 8))
    rates = {name: draw(st.floats(0.05, 50.0)) * MIB for name in NAMES[:hosts]}
    dies = {name: draw(st.integers(0, 5)) for name in draw(st.sets(st.sampled_from(NAMES[:hosts]), max_size=hosts - 1))}
    return draw(st.integers(1, 150)), rates, dies


@given(runs())
@settings(max_examples=60, deadline=None)
def test_all_is_sent_and_hardly_anything_twice(run: tuple[int, dict[str, float], dict[str, int]]) -> None:
    """Workers as they are, with a clock of their own; hosts pass on at once what they have, when a call ends."""
    chunks, rates, dies = run
    made = ledger(chunks, len(rates))
    free_at = dict.fromkeys(rates, 0.0)
    calls: Counter[str] = Counter()
    sent: Counter[int] = Counter()
    pending: dict[str, list[int]] = {}
    lost: list[int] = []
    for _step in range(5000):
        name = min(free_at, key=lambda one: (free_at[one], one))
        now = free_at[name]
        have = made.held()
        for index in pending.pop(name, []):
            have |= 1 << index
        if calls[name] == dies.get(name, -1):
            made.fail(name)
            del free_at[name]
            continue
        for other, host in made.hosts.items():
            if host.state != FAILED and (other == name or other in free_at):
                made.report(other, have)
        if made.over():
            break
        batch = made.take(name, now)
        calls[name] += 1
        if batch:
            size = len(batch) * MIB
            assert size <= (_transfer.MOST_ALONE if len(rates) == 1 else _transfer.MOST_BATCH) or len(free_at) == 1
            sent.update(batch)
            if calls[name] == dies.get(name, -1):
                lost += batch
            else:
                pending[name] = batch
            free_at[name] = now + size / rates[name]
            made.carried(name, size, size / rates[name])
        else:
            made.rest(name)
            free_at[name] = now + 1.0
    assert made.over()
    assert set(sent) == set(range(chunks))
    slow = max(rates.values()) > 10 * min(rates.values())
    if not slow and min(rates.values()) > MIB:
        assert sum(sent.values()) <= chunks + len(lost)
