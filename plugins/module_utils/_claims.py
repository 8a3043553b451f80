# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether somebody has an address that the API is to have from outside, or its virtual router id: packets, and what they say.

This module util is PRIVATE to the collection. It is pure: no I/O, no Ansible, standard library only.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from ipaddress import IPv6Address, ip_address
from typing import NamedTuple, Optional

from ansible_collections.multinic.kubernetes.plugins.module_utils._packets import (
    ETHERNET,
    IP_HEADER,
    Neighbour,
    checksum,
    mac_bytes,
    mac_text,
)

IPV4, IPV6 = 0x0800, 0x86DD
VRRP, ICMPV6 = 112, 58
SOLICITATION, ADVERTISEMENT = 135, 136
HOPS = 255  # what may not have passed a router
ADVERT = 1
# Where VRRP's adverts go (224.0.0.18, ff02::12), as hardware addresses.
ADVERTS_GO_TO = {4: "01:00:5e:00:00:12", 6: "33:33:00:00:00:12"}


class Advert(NamedTuple):
    """What a VRRP router says: who it is, which virtual router it is one of, and in which version."""

    source: str
    router_id: int
    version: int


def neighbour_probe(mac: str, address: str) -> bytes:
    """ "Who has this IPv6 address", asked by one that has none itself (RFC 4862, 5.4.2): nobody learns anything from it."""
    target = ip_address(address).packed
    # The group of all addresses that end with the same 24 bits.
    group = IPv6Address("ff02::1:ff00:0").packed[:13] + target[13:]
    message = struct.pack("!BBHI", SOLICITATION, 0, 0, 0) + target
    nobody = bytes(16)
    total = checksum(nobody + group + struct.pack("!II", len(message), ICMPV6) + message)
    message = message[:2] + struct.pack("!H", total) + message[4:]
    header = struct.pack("!IHBB", 6 << 28, len(message), ICMPV6, HOPS) + nobody + group
    return b"\x33\x33" + group[12:] + mac_bytes(mac) + struct.pack("!H", IPV6) + header + message


def neighbour_answer(frame: bytes) -> Optional[Neighbour]:
    """Whose IPv6 address it is, with which hardware address; nothing for other frames.

    The hardware address is the one in the answer's option, else the frame's.
    """
    start = ETHERNET + IP_HEADER[6]
    if len(frame) < start + 24 or struct.unpack("!H", frame[12:14])[0] != IPV6:
        return None
    if (frame[ETHERNET + 6], frame[ETHERNET + 7], frame[start]) != (ICMPV6, HOPS, ADVERTISEMENT):
        return None
    target = str(IPv6Address(frame[start + 8 : start + 24]))
    option = frame[start + 24 : start + 32]
    mac = option[2:8] if len(option) == 8 and option[:2] == b"\x02\x01" else frame[6:12]
    return Neighbour(target, mac_text(mac))


def advert(frame: bytes) -> Optional[Advert]:
    """What VRRP said in a frame, of either version and family; nothing for other frames."""
    if len(frame) < ETHERNET + IP_HEADER[4] + 8:
        return None
    kind = struct.unpack("!H", frame[12:14])[0]
    packet = frame[ETHERNET:]
    if kind == IPV4 and packet[9] == VRRP:
        start, source = (packet[0] & 0x0F) * 4, str(ip_address(packet[12:16]))
    elif kind == IPV6 and len(packet) >= IP_HEADER[6] + 8 and packet[6] == VRRP:
        start, source = IP_HEADER[6], str(ip_address(packet[8:24]))
    else:
        return None
    message = packet[start : start + 8]
    if len(message) < 8 or message[0] & 0x0F != ADVERT:
        return None
    return Advert(source, message[1], message[0] >> 4)


def only(kind: int, protocol: int) -> bytes:
    """A socket filter (classic BPF) that lets only one protocol of IPv4 or IPv6 through, of whole Ethernet frames."""
    program: Sequence[tuple[int, int, int, int]] = (
        (0x28, 0, 0, 12),  # the frame's type
        (0x15, 0, 3, kind),
        (0x30, 0, 0, ETHERNET + (9 if kind == IPV4 else 6)),  # the packet's protocol
        (0x15, 0, 1, protocol),
        (0x06, 0, 0, 0xFFFF),  # take it
        (0x06, 0, 0, 0),  # drop it
    )
    return b"".join(struct.pack("HBBI", *step) for step in program)
