# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import itertools
from itertools import permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.multinic.kubernetes.plugins.module_utils import _swarm
from ansible_collections.multinic.kubernetes.plugins.module_utils._swarm import Header, ProtocolError, Swarm

SHA = "ab" * 32


@given(
    st.integers(0, 255), st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1), st.lists(st.integers(1, 9), max_size=5)
)
def test_a_header_is_sound_or_refused(kind: int, number: int, length: int, sizes: list[int]) -> None:
    data = _swarm.HEADER.pack(kind, number, length)
    try:
        header = Header.read(data, sizes)
    except ProtocolError:
        return
    assert _swarm.HELLO <= header.kind <= _swarm.STOP
    if header.kind == _swarm.CHUNK:
        assert header.length == sizes[header.number]
    else:
        assert header.length <= _swarm.SMALL_FRAME


@pytest.mark.parametrize(
    ("kind", "number", "length"),
    [(_swarm.CHUNK, 0, 8), (_swarm.CHUNK, 1, 7), (_swarm.ASK, 2, 0), (0, 0, 0), (99, 0, 0), (_swarm.HAVE, 0, 1 << 23)],
)
def test_what_may_not_come(kind: int, number: int, length: int) -> None:
    with pytest.raises(ProtocolError):
        Header.read(_swarm.HEADER.pack(kind, number, length), [7, 8])


def test_have() -> None:
    sent = _swarm.have_frame([3, 0, 7])
    header = Header.read(sent[: _swarm.HEADER.size], [])
    assert (header.kind, header.length) == (_swarm.HAVE, 12)
    assert _swarm.read_have(sent[_swarm.HEADER.size :], 8) == [3, 0, 7]
    for payload, chunks in ((b"123", 8), (b"\0\0\0\x08", 8)):
        with pytest.raises(ProtocolError):
            _swarm.read_have(payload, chunks)


def test_a_proof_is_good_for_one_connection_one_role_and_one_file() -> None:
    said = [
        (key, role, nonces, sha, caller, called)
        for key in (b"k" * 32, b"l" * 32)
        for role in (b"caller", b"called")
        for nonces in (b"1" * 64, b"2" * 64)
        for sha in (SHA, "cd" * 32)
        for caller, called in ((0, 1), (1, 0))
    ]
    proofs = [_swarm.proof(*one) for one in said]
    assert len(set(proofs)) == len(said)
    assert _swarm.proven(proofs[0], _swarm.proof(*said[0]))
    assert not _swarm.proven(proofs[0], proofs[1])


@given(st.integers(1, 200))
@settings(max_examples=20, deadline=None)
def test_neighbours_are_mutual_few_and_reach_all(hosts: int) -> None:
    around = [_swarm.neighbours(place, hosts) for place in range(hosts)]
    for place, others in enumerate(around):
        assert place not in others
        assert all(place in around[other] for other in others)
        # Exactly one of the two calls.
        assert all(sum(_swarm.calls(*pair) for pair in permutations((place, other))) == 1 for other in others)
        assert len(others) < max(_swarm.ALL_NEIGHBOURS, 2 * hosts.bit_length() + 1)
    reached, new, steps = {0}, {0}, 0
    while new:
        new = {other for place in new for other in around[place]} - reached
        reached |= new
        steps += bool(new)
    assert len(reached) == hosts and steps <= hosts.bit_length()


def test_the_rarest_comes_first_and_from_nobody_twice() -> None:
    swarm = Swarm(3, [])
    for key, has in ((1, [0, 1, 2]), (2, [0, 1]), (3, [0])):
        swarm.join(key)
        swarm.told(key, has)
    assert swarm.next(1, 0) == 2
    assert swarm.next(2, 0) == 1
    assert swarm.next(3, 0) == 0
    assert [swarm.next(key, 1) for key in (1, 2, 3)] == [None] * 3


def test_what_is_late_is_asked_of_another() -> None:
    swarm = Swarm(1, [])
    for key in (1, 2, 3):
        swarm.join(key)
        swarm.told(key, [0])
    assert swarm.next(1, 0) == 0
    assert swarm.next(2, _swarm.LATE_SECONDS - 0.1) is None
    assert swarm.next(1, _swarm.LATE_SECONDS) is None
    assert swarm.next(2, _swarm.LATE_SECONDS) == 0
    assert swarm.next(3, _swarm.LATE_SECONDS * 3) is None
    swarm.answered(2, 0)
    assert swarm.arrived(0) and not swarm.arrived(0)
    swarm.answered(1, 0)


def test_what_was_asked_of_the_dead_is_asked_of_others() -> None:
    swarm = Swarm(2, [])
    for key in (1, 2):
        swarm.join(key)
        swarm.told(key, [0])
    assert swarm.next(1, 0) == 0
    swarm.leave(1)
    assert swarm.next(2, 0) == 0
    assert swarm.unavailable() == [1]
    swarm.answered(2, 0, useless=True)
    assert swarm.unavailable() == [0, 1]


def test_what_nobody_asked_for_is_refused() -> None:
    swarm = Swarm(1, [])
    swarm.join(1)
    with pytest.raises(ProtocolError):
        swarm.answered(1, 0)


@st.composite
def worlds(draw: st.DrawFn) -> tuple[int, list[set[int]], list[tuple[int, int]]]:
    """Hosts with some chunks each, and who of them dies after how many steps."""
    chunks, hosts = draw(st.integers(1, 12)), draw(st.integers(2, 26))
    have = [draw(st.sets(st.integers(0, chunks - 1))) for _host in range(hosts)]
    deaths = draw(st.lists(st.tuples(st.integers(0, 30), st.integers(0, hosts - 1)), max_size=hosts // 3))
    return chunks, have, deaths


@given(worlds())
@settings(max_examples=30, deadline=None)
def test_all_that_live_get_all_that_the_living_have(world: tuple[int, list[set[int]], list[tuple[int, int]]]) -> None:
    chunks, have, deaths = world
    hosts = len(have)
    swarms = {place: Swarm(chunks, have[place], place) for place in range(hosts)}
    for place, swarm in swarms.items():
        for other in _swarm.neighbours(place, hosts):
            swarm.join(other)
            swarm.told(other, have[other])
    sent = 0
    for step in itertools.count():
        for when, dead in deaths:
            if when == step and dead in swarms:
                del swarms[dead]
                for swarm in swarms.values():
                    swarm.leave(dead)
        moved = False
        for place, swarm in swarms.items():
            for other in list(swarm.neighbours):
                index = swarm.next(other, step)
                if index is None:
                    continue
                assert index not in swarm.have and index in swarms[other].have
                moved = True
                sent += 1
                swarm.answered(other, index)
                assert swarm.arrived(index)
                for third in swarm.neighbours:
                    swarms[third].told(place, [index])
        if not moved and all(when <= step for when, _dead in deaths):
            break
    assert sent <= chunks * hosts
    # With all hosts as neighbours no cluster falls apart; what anybody has, all have.
    if hosts <= _swarm.ALL_NEIGHBOURS and swarms:
        everything = set.union(*(swarm.have for swarm in swarms.values()))
        for swarm in swarms.values():
            assert swarm.have == everything
            assert set(swarm.unavailable()) == set(range(chunks)) - everything
