# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The sample leaves no host and no network out."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.multinic.kubernetes.plugins.module_utils._sampling import ALL_PAIRS, LEAST, sample, sampled


def names(count: int) -> list[str]:
    return [f"host{number}" for number in range(count)]


@pytest.mark.parametrize("count", [1, 2, 9, ALL_PAIRS])
def test_all_pairs_are_tried_while_there_are_few(count: int) -> None:
    groups = dict.fromkeys(names(count), "10.0.0.0/24")
    assert not sampled(count)
    for name in groups:
        assert sample(groups, name) == sorted(set(groups) - {name})


@st.composite
def clusters(draw: st.DrawFn) -> dict[str, str]:
    """More hosts than all pairs are tried of, in groups of any sizes."""
    count = draw(st.integers(ALL_PAIRS + 1, ALL_PAIRS + 90))
    subnets = draw(st.integers(1, 40))
    choices = draw(st.lists(st.integers(0, subnets - 1), min_size=count, max_size=count))
    return {name: f"10.0.{choice}.0/24" for name, choice in zip(names(count), choices)}


@settings(max_examples=40, deadline=None)
@given(clusters(), st.randoms(use_true_random=False))
def test_the_sample_touches_every_host_and_every_pair_of_groups(groups: dict[str, str], random: Random) -> None:
    tries = {name: sample(groups, name) for name in groups}
    tried = Counter(other for some in tries.values() for other in some)
    for name, some in tries.items():
        assert name not in some
        assert len(set(some)) == len(some)
        assert len(some) >= LEAST
        assert tried[name] >= LEAST
    sizes = Counter(groups.values())
    wanted = {(one, other) for one in sizes for other in sizes if one != other or sizes[one] > 1}
    assert {(groups[name], groups[other]) for name, some in tries.items() for other in some} == wanted
    shuffled = list(groups.items())
    random.shuffle(shuffled)
    assert all(sample(dict(shuffled), name) == some for name, some in list(tries.items())[:20])


def test_the_sample_grows_slowly_with_the_hosts() -> None:
    groups = {name: f"10.0.{number % 20}.0/24" for number, name in enumerate(names(2000))}
    assert max(len(sample(groups, name)) for name in list(groups)[::37]) <= LEAST + 1
