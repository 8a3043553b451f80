# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is sent, and what answers say."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.multinic.kubernetes.plugins.module_utils import _packets


@given(
    family=st.sampled_from([4, 6]),
    identifier=st.integers(0, 65535),
    sequence=st.integers(0, 65535),
    size=st.integers(64, 9000),
)
def test_a_request_has_its_size_and_its_answer_is_known(family: int, identifier: int, sequence: int, size: int) -> None:
    request = _packets.echo_request(family, identifier, sequence, size)
    assert len(request) == size - _packets.IP_HEADER[family]
    if family == 4:
        assert _packets.checksum(request) == 0
    reply = bytes([_packets.ECHO_REPLY[family]]) + request[1:]
    packet = (b"\x46" + bytes(23) if family == 4 else b"") + reply  # an IPv4 header with options
    assert _packets.echo_sequence(family, identifier, packet) == sequence
    assert _packets.echo_sequence(family, identifier ^ 1, packet) is None
    assert _packets.echo_sequence(family, identifier, packet[:5]) is None


def test_a_request_of_ours_is_not_taken_for_an_answer() -> None:
    request = _packets.echo_request(6, 7, 1, 64)
    assert _packets.echo_sequence(6, 7, request) is None
    assert struct.unpack("!B", request[:1]) == (128,)


def test_smaller_steps() -> None:
    assert _packets.smaller_steps(1500) == [1492, 1480, 1460, 1450, 1420, 1400, 1280, 576]


def quoted(request: bytes, mtu: int) -> bytes:
    """A router's "fragmentation needed" with the beginning of our packet."""
    inner = b"\x45" + bytes(19) + request[:8]
    return b"\x45" + bytes(19) + struct.pack("!BBHHH", 3, 4, 0, 0, mtu) + inner


def test_a_router_that_tells_its_mtu_is_understood() -> None:
    request = _packets.echo_request(4, 7, 3, 1500)
    assert _packets.too_big(4, 7, quoted(request, 1400)) == (3, 1400)
    assert _packets.too_big(4, 8, quoted(request, 1400)) is None, "of another's packet"
    assert _packets.too_big(4, 7, b"\x45" + bytes(19) + request) is None
    assert _packets.too_big(4, 7, b"") is None
    request6 = _packets.echo_request(6, 7, 3, 1500)
    told = struct.pack("!BBHI", 2, 0, 0, 1280) + bytes(40) + request6[:100]
    assert _packets.too_big(6, 7, told) == (3, 1280)


@given(st.integers(64, 9000), st.integers(64, 9001))
def test_the_search_ends_at_the_largest_size_that_passes(limit: int, size: int) -> None:
    passes, fails = 64, max(size, limit + 1)
    rounds, tried = 0, _packets.smaller_steps(fails)
    while tried:
        passes = max([passes, *(step for step in tried if step <= limit)])
        fails = min([fails, *(step for step in tried if step > limit)])
        tried = _packets.between(passes, fails)
        assert len(tried) <= _packets.AT_ONCE
        assert all(passes < step < fails for step in tried)
        rounds += 1
        assert rounds <= 6
    assert (passes, fails) == (limit, limit + 1)


def test_arp_asks_for_an_address_without_giving_one() -> None:
    frame = _packets.arp_probe("52:54:00:00:20:81", "192.168.253.129")
    assert frame[:14].hex() == "ffffffffffff5254000020810806"
    assert frame[28:32] == bytes(4), "nobody learns an address from it"
    assert frame[38:42] == bytes([192, 168, 253, 129])
    assert _packets.arp_answer(frame) is None


def test_arp_answers_tell_who_has_the_address() -> None:
    reply = bytes.fromhex(
        "525400002081 525400000099 0806 0001 0800 06 04 0002 525400000099 c0a8fd81 525400002081 00000000"
    )
    assert _packets.arp_answer(reply) == ("192.168.253.129", "52:54:00:00:00:99")
    assert _packets.arp_answer(reply[:30]) is None


@pytest.mark.parametrize(
    ("data", "icmp", "of_a_firewall"),
    [
        ((111, 2, 3, 3), True, False),  # port unreachable
        ((113, 2, 3, 10), True, True),  # host prohibited, firewalld's
        ((113, 2, 3, 1), True, False),  # no neighbour answered
        ((90, 1, 0, 0), False, False),  # the kernel's own
        ((111, 3, 1, 4), True, False),
        ((13, 3, 1, 1), True, True),
    ],
)
def test_complaints(data: tuple[int, int, int, int], icmp: bool, of_a_firewall: bool) -> None:
    complaint = _packets.complaint(struct.pack("=IBBBBII", *data, 0, 0, 0))
    assert (complaint.icmp, complaint.of_a_firewall) == (icmp, of_a_firewall)
