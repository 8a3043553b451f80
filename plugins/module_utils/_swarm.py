# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What hosts that pass the chunks of a file to each other say, whom they say it to, and which chunk each asks for next.

This module util is PRIVATE to the collection. It is pure: no I/O, no Ansible, standard library only. The sockets are in
_peer. Everybody pulls: a host tells its neighbours which chunks it has, and they ask for what they want, a chunk at a
time. So a slow host takes what it can, a dead one is asked nothing, and neither holds anybody up.
"""

from __future__ import annotations

import hashlib
import hmac
import random
import struct
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Optional

# Who proves what: the one that was called sends a nonce, the caller answers with a nonce and a proof, and is proved to.
HELLO, PROOF, WELCOME = 1, 2, 3
# Between neighbours: chunks I have; give me this one; here it is; I have it not.
HAVE, ASK, CHUNK, NOT_HAD = 4, 5, 6, 7
# From the controller: tell how far you are, at the latest after so long; the answer; end now.
WAIT, STATE, STOP = 8, 9, 10

HEADER = struct.Struct(">BII")  # kind, number (of a chunk or a host), bytes that follow
NONCE = 32
ALL_NEIGHBOURS = 20
WINDOW = 2  # chunks asked of one neighbour at once: while one comes, the next is on its way
MOST_ASKED = 16  # of all neighbours together, which bounds the memory
LATE_SECONDS = 4.0  # a chunk asked so long ago may be asked of another neighbour too
LOOKED_AT = 64
SMALL_FRAME = 1 << 22


class ProtocolError(ValueError):
    """The other end does not keep to the protocol; the connection is of no more use."""


@dataclass(frozen=True)
class Header:
    """What stands before each frame."""

    kind: int
    number: int
    length: int

    @classmethod
    def read(cls, data: bytes, chunk_sizes: Sequence[int]) -> Header:
        """A header that may come. A chunk has its size, and nothing else is large. ProtocolError: it is none."""
        kind, number, length = HEADER.unpack(data)
        if kind in (ASK, CHUNK, NOT_HAD) and number >= len(chunk_sizes):
            raise ProtocolError(f"chunk {number} of {len(chunk_sizes)}")
        if kind == CHUNK and length != chunk_sizes[number]:
            raise ProtocolError(f"chunk {number} with {length} bytes instead of {chunk_sizes[number]}")
        if not HELLO <= kind <= STOP or (kind != CHUNK and length > SMALL_FRAME):
            raise ProtocolError(f"a frame of kind {kind} with {length} bytes")
        return cls(kind, number, length)


def frame(kind: int, number: int = 0, payload: bytes = b"") -> bytes:
    return HEADER.pack(kind, number, len(payload)) + payload


def have_frame(indices: Collection[int]) -> bytes:
    return frame(HAVE, len(indices), struct.pack(f">{len(indices)}I", *indices))


def read_have(payload: bytes, chunks: int) -> list[int]:
    """The chunks that somebody has. ProtocolError: there are no such."""
    if len(payload) % 4:
        raise ProtocolError("a list of chunks that breaks off")
    indices = list(struct.unpack(f">{len(payload) // 4}I", payload))
    if indices and max(indices) >= chunks:
        raise ProtocolError(f"chunk {max(indices)} of {chunks}")
    return indices


def proof(key: bytes, role: bytes, nonces: bytes, sha256: str, caller: int, called: int) -> bytes:
    """Shows that one has the key of this transfer, to this end of this connection, and in this role."""
    said = role + nonces + bytes.fromhex(sha256) + struct.pack(">II", caller, called)
    return hmac.new(key, said, hashlib.sha256).digest()


def proven(given: bytes, wanted: bytes) -> bool:
    return hmac.compare_digest(given, wanted)


def neighbours(place: int, hosts: int) -> list[int]:
    """Whom the host at this place speaks with: all, or in a large cluster those one, two, four … places away.

    Being neighbours is mutual. Any two hosts are at most about log2(hosts) steps apart, and no host has many neighbours.
    """
    if hosts <= ALL_NEIGHBOURS:
        return [other for other in range(hosts) if other != place]
    found: set[int] = set()
    step = 1
    while step < hosts:
        found.update(((place + step) % hosts, (place - step) % hosts))
        step *= 2
    return sorted(found - {place})


def calls(place: int, other: int) -> bool:
    """Whether this one of two neighbours is the one that connects. Half of its neighbours each, as near as can be."""
    return (place < other) == ((place + other) % 2 == 0)


@dataclass
class Neighbour:
    """What is known of one host that we are connected with."""

    useful: set[int] = field(default_factory=set)  # it has them, and we have not
    has: int = 0
    asked: dict[int, float] = field(default_factory=dict)


class Swarm:
    """Which chunks we have, which our neighbours have, and what has been asked of whom. Times are seconds of one clock."""

    def __init__(self, chunks: int, have: Iterable[int], seed: int = 0) -> None:
        self.chunks = chunks
        self.have = set(have)
        self.missing = set(range(chunks)) - self.have
        self.neighbours: dict[int, Neighbour] = {}
        self._holders = [0] * chunks
        self._asked: dict[int, int] = {}  # how many neighbours were asked for a chunk that has not come
        self._order = random.Random(seed)  # noqa: S311  not for secrets: hosts shall not all ask for the same chunk

    @property
    def complete(self) -> bool:
        return not self.missing

    def join(self, key: int) -> None:
        self.neighbours[key] = Neighbour()

    def leave(self, key: int) -> None:
        """The connection is gone, and with it what was asked through it."""
        gone = self.neighbours.pop(key, None)
        if gone is None:
            return
        for index in gone.useful:
            self._holders[index] -= 1
        for index in gone.asked:
            self._answered(index)

    def told(self, key: int, indices: Iterable[int]) -> None:
        """A neighbour says that it has these."""
        it = self.neighbours[key]
        for index in indices:
            it.has += 1
            if index in self.missing and index not in it.useful:
                it.useful.add(index)
                self._holders[index] += 1

    def has_all(self, key: int) -> bool:
        return self.neighbours[key].has >= self.chunks

    def next(self, key: int, now: float) -> Optional[int]:
        """What to ask this neighbour for now: the rarest that nobody was asked for, or at the end one that is late."""
        it = self.neighbours[key]
        if len(it.asked) >= WINDOW or sum(self._asked.values()) >= MOST_ASKED or not it.useful:
            return None
        fresh = [index for index in it.useful if index not in self._asked]
        if fresh:
            looked_at = fresh if len(fresh) <= LOOKED_AT else self._order.sample(fresh, LOOKED_AT)
            index = min(looked_at, key=lambda one: (self._holders[one], self._order.random()))
        else:
            late = [one for one in it.useful if self._asked[one] == 1 and one not in it.asked and self._late(one, now)]
            if not late:
                return None
            index = self._order.choice(late)
        it.asked[index] = now
        self._asked[index] = self._asked.get(index, 0) + 1
        return index

    def _late(self, index: int, now: float) -> bool:
        return all(now - it.asked[index] >= LATE_SECONDS for it in self.neighbours.values() if index in it.asked)

    def _answered(self, index: int) -> None:
        left = self._asked.get(index, 0) - 1
        if left > 0:
            self._asked[index] = left
        else:
            self._asked.pop(index, None)

    def answered(self, key: int, index: int, useless: bool = False) -> None:
        """A neighbour has sent what it was asked for, or can't (useless). ProtocolError: it was not asked."""
        it = self.neighbours[key]
        if it.asked.pop(index, None) is None:
            raise ProtocolError(f"chunk {index}, which nobody asked it for")
        self._answered(index)
        if useless and index in it.useful:
            it.useful.discard(index)
            self._holders[index] -= 1

    def arrived(self, index: int) -> bool:
        """A chunk is here, checked. False: it was already."""
        if index not in self.missing:
            return False
        self.missing.discard(index)
        self.have.add(index)
        for it in self.neighbours.values():
            it.useful.discard(index)
        self._holders[index] = 0
        return True

    def unavailable(self) -> list[int]:
        """What is missing, and no neighbour has."""
        return sorted(index for index in self.missing if not self._holders[index])
