# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Asking on a card whether somebody has an address, and listening to who speaks VRRP there, but not for ever.

This module util is PRIVATE to the collection. It is what the module network_probe does with sockets; what the packets
look like is in _claims.
"""

from __future__ import annotations

import select
import socket
import struct
import time
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Optional

from ansible_collections.multinic.kubernetes.plugins.module_utils import _claims
from ansible_collections.multinic.kubernetes.plugins.module_utils._packets import mac_bytes
from ansible_collections.multinic.kubernetes.plugins.module_utils._wire import ETHERNET_CARD, Arp, attach

SOL_PACKET = 263
ADD_MEMBERSHIP, MULTICAST = 1, 0  # PACKET_ADD_MEMBERSHIP, PACKET_MR_MULTICAST
ANSWERS_SECONDS = 0.5
ADVERTS_SECONDS = 1.3  # VRRP's adverts come every second, unless somebody has told them otherwise


class Claim:
    """Who answers for one address on a card, and whose adverts of its family pass there."""

    def __init__(self, address: str, interface: str) -> None:
        self.address, self.interface = address, interface
        self.family = ip_address(address).version
        self.began = time.monotonic()
        kind = _claims.IPV4 if self.family == 4 else _claims.IPV6
        folder = Path("/sys/class/net") / interface
        try:
            self.mac = (folder / "address").read_text(encoding="ascii").strip()
            self.index = socket.if_nametoindex(interface)
            ethernet = (folder / "type").read_text(encoding="ascii").strip() == ETHERNET_CARD
        except OSError:
            ethernet = False
        self.adverts = listening(interface, kind, _claims.VRRP) if ethernet else None
        self.arp = Arp(address, interface) if self.family == 4 else None
        self.answers = listening(interface, kind, _claims.ICMPV6) if ethernet and self.family == 6 else None
        if self.adverts is not None:
            # A card passes on only the groups that it was told; other hosts' adverts are of one that nobody here is in.
            group = mac_bytes(_claims.ADVERTS_GO_TO[self.family])
            wish = struct.pack("iHH8s", self.index, MULTICAST, len(group), group)
            self.adverts.setsockopt(SOL_PACKET, ADD_MEMBERSHIP, wish)
        self.ask()

    def ask(self) -> None:
        if self.arp is not None:
            self.arp.ask()
        elif self.answers is not None:
            try:
                self.answers.send(_claims.neighbour_probe(self.mac, self.address))
            except OSError:
                return

    def finish(self) -> dict[str, Any]:
        """The hardware addresses that answered for the address, and the adverts that came, once enough time has passed."""
        if self.arp is not None:
            macs = self.arp.finish(ANSWERS_SECONDS).get(self.address) or []
        else:
            self.ask()
            frames = received(self.answers, self.began + ANSWERS_SECONDS)
            told = [_claims.neighbour_answer(frame) for frame in frames]
            macs = [found.mac for found in told if found is not None and found.address == str(ip_address(self.address))]
        frames = received(self.adverts, self.began + ADVERTS_SECONDS)
        adverts = [advert for advert in map(_claims.advert, frames) if advert is not None]
        return {
            "address": self.address,
            "interface": self.interface,
            "macs": sorted(set(macs)),
            "adverts": [advert._asdict() for advert in sorted(set(adverts))],
        }


def listening(interface: str, kind: int, protocol: int) -> Optional[socket.socket]:
    """All of one protocol that a card receives; nothing where the kernel has no packet sockets."""
    try:
        sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(kind))
        attach(sock, _claims.only(kind, protocol))
        sock.bind((interface, kind))
    except OSError:
        return None
    sock.setblocking(False)
    return sock


def received(sock: Optional[socket.socket], until: float) -> list[bytes]:
    """What others sent until that time. The socket is closed."""
    frames: list[bytes] = []
    if sock is None:
        return frames
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    while True:
        left = until - time.monotonic()
        if not poll.poll(max(left * 1000, 0)) and left <= 0:
            break
        try:
            frame, sender = sock.recvfrom(2048)
        except OSError:
            continue
        if sender[2] != socket.PACKET_OUTGOING:
            frames.append(frame)
        if left <= 0:
            break
    sock.close()
    return frames
