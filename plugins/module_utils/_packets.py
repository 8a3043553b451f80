# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The packets of the proof: what is sent, and what an answer says.

This module util is PRIVATE to the collection. It is pure: no I/O, no Ansible, standard library only.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from ipaddress import IPv4Address, ip_address
from typing import NamedTuple, Optional

IP_HEADER = {4: 20, 6: 40}
ICMP_HEADER = 8
ECHO_REQUEST = {4: 8, 6: 128}
ECHO_REPLY = {4: 0, 6: 129}
TOO_BIG = {4: (3, 4), 6: (2, 0)}  # type and code of "fragmentation needed" and "packet too big"
# By origin (2 ICMP, 3 ICMPv6) and type "destination unreachable": the codes of firewalls, "administratively prohibited".
UNREACHABLE = {(2, 3): (9, 10, 13), (3, 1): (1, 5, 6)}
SMALL = 64  # bytes of a packet that every network carries
STEPS = (9000, 8950, 8000, 4000, 1500, 1492, 1480, 1460, 1450, 1420, 1400, 1280, 576)
AT_ONCE = 7  # sizes that are tried in one round, once the steps have told where the limit is about

ARP = 0x0806
ARP_REQUEST, ARP_REPLY = 1, 2
ETHERNET = 14
BROADCAST = b"\xff" * 6
NTP_PORT = 123
NTP_REQUEST = b"\x23" + bytes(47)  # version 4, client


def echo_request(family: int, identifier: int, sequence: int, size: int) -> bytes:
    """An ICMP echo request that makes an IP packet of this size. The kernel itself fills in ICMPv6's checksum."""
    payload = bytes(max(size - IP_HEADER[family] - ICMP_HEADER, 0))
    header = struct.pack("!BBHHH", ECHO_REQUEST[family], 0, 0, identifier, sequence)
    total = 0 if family == 6 else checksum(header)  # zeros add nothing
    return struct.pack("!BBHHH", ECHO_REQUEST[family], 0, total, identifier, sequence) + payload


def echo_sequence(family: int, identifier: int, packet: bytes) -> Optional[int]:
    """The sequence number of an echo reply to us, else nothing. IPv4 raw sockets deliver the IP header too."""
    return _sequence(ECHO_REPLY[family], identifier, packet[_start(family, packet) :])


def _start(family: int, packet: bytes) -> int:
    return (packet[0] & 0x0F) * 4 if family == 4 and packet else 0


def _sequence(kind: int, identifier: int, message: bytes) -> Optional[int]:
    if len(message) < ICMP_HEADER:
        return None
    found, _code, _checksum, number, sequence = struct.unpack("!BBHHH", message[:ICMP_HEADER])
    return int(sequence) if found == kind and number == identifier else None


class TooBig(NamedTuple):
    """A router's complaint: which of our packets did not fit, and what would."""

    sequence: int
    mtu: int


def too_big(family: int, identifier: int, packet: bytes) -> Optional[TooBig]:
    """What "fragmentation needed" says of a request of ours, else nothing."""
    message = packet[_start(family, packet) :]
    if len(message) < ICMP_HEADER or (message[0], message[1]) != TOO_BIG[family]:
        return None
    (mtu,) = struct.unpack("!I" if family == 6 else "!xxH", message[4:8])
    quoted = message[ICMP_HEADER:]
    inner = quoted[_start(4, quoted) if family == 4 else IP_HEADER[6] :]
    sequence = _sequence(ECHO_REQUEST[family], identifier, inner)
    return None if sequence is None else TooBig(sequence, int(mtu))


def checksum(data: bytes) -> int:
    """The internet checksum (RFC 1071)."""
    if len(data) % 2:
        data += b"\0"
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def smaller_steps(size: int) -> list[int]:
    """Sizes to try first when the full one does not pass."""
    return [step for step in STEPS if SMALL < step < size] or between(SMALL, size)


def between(passes: int, fails: int) -> list[int]:
    """Sizes to try next, evenly spread between the largest that passes and the smallest that does not."""
    room = fails - passes - 1
    if room <= AT_ONCE:
        return list(range(passes + 1, fails))
    return [passes + (room + 1) * part // (AT_ONCE + 1) for part in range(1, AT_ONCE + 1)]


def arp_probe(mac: str, address: str) -> bytes:
    """ "Who has this address", asked by one that has none itself (RFC 5227): nobody learns anything from it."""
    hardware = mac_bytes(mac)
    return (
        BROADCAST
        + hardware
        + struct.pack("!HHHBBH", ARP, 1, 0x0800, 6, 4, ARP_REQUEST)
        + hardware
        + bytes(4)
        + bytes(6)
        + ip_address(address).packed
    )


class Neighbour(NamedTuple):
    address: str
    mac: str


def arp_answer(frame: bytes) -> Optional[Neighbour]:
    """Whose answer it is, with which hardware address; nothing for other frames."""
    if len(frame) < ETHERNET + 28 or struct.unpack("!HHHBBH", frame[12:22]) != (ARP, 1, 0x0800, 6, 4, ARP_REPLY):
        return None
    return Neighbour(str(IPv4Address(frame[28:32])), mac_text(frame[22:28]))


def mac_bytes(text: str) -> bytes:
    return bytes.fromhex(text.replace(":", ""))


def mac_text(data: bytes) -> str:
    return ":".join(f"{byte:02x}" for byte in data)


def only_arp_answers() -> bytes:
    """A socket filter (classic BPF) that lets only ARP answers through: those of others are many."""
    program: Sequence[tuple[int, int, int, int]] = (
        (0x28, 0, 0, 12),  # the frame's type
        (0x15, 0, 3, ARP),
        (0x28, 0, 0, 20),  # ARP's operation
        (0x15, 0, 1, ARP_REPLY),
        (0x06, 0, 0, 0xFFFF),  # take it
        (0x06, 0, 0, 0),  # drop it
    )
    return b"".join(struct.pack("HBBI", *step) for step in program)


def only_icmp(family: int) -> bytes:
    """A socket filter that lets only ICMP through, of packets without their link header."""
    offset, protocol = (9, 1) if family == 4 else (6, 58)
    program: Sequence[tuple[int, int, int, int]] = (
        (0x30, 0, 0, offset),
        (0x15, 0, 1, protocol),
        (0x06, 0, 0, 0xFFFF),
        (0x06, 0, 0, 0),
    )
    return b"".join(struct.pack("HBBI", *step) for step in program)


class Complaint(NamedTuple):
    """An entry of a socket's error queue: where it comes from, and the type and code of ICMP."""

    origin: int
    kind: int
    code: int

    @property
    def icmp(self) -> bool:
        """True for a message that came in, not an error of this host's own. A neighbour that is not there is one, too."""
        return (self.origin, self.kind) in UNREACHABLE

    @property
    def of_a_firewall(self) -> bool:
        """True for "prohibited" and the like, which no host without a firewall sends."""
        return self.code in UNREACHABLE.get((self.origin, self.kind), ())


def complaint(data: bytes) -> Complaint:
    """What the kernel says of an error (struct sock_extended_err)."""
    _errno, origin, kind, code = struct.unpack("=IBBB", data[:7])
    return Complaint(origin, kind, code)
