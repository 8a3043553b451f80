# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A file as a list of chunks, each known by its sha256, so that only those travel which are missing.

This module util is PRIVATE to the collection. It is pure: no I/O, no Ansible, standard library only.

Where a chunk ends is told by the content alone (content-defined chunking): behind a mark of three bytes, which stands
once in a megabyte of compressed data. So a file that had bytes put in or taken out has the same chunks as before but
for those around the change. A rolling hash would do the same for data of any kind, at a hundred times the cost.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

KIB, MIB = 1 << 10, 1 << 20
LEAST, MOST = 256 * KIB, 4 * MIB
MARK = re.compile(rb"\xa5\x5a[\x00-\x0f]")
_MARK_SIZE = 3
_RECORD = 36  # bytes of a chunk in the text form: its sha256 and its size
_MOST_CHUNKS = 1 << 20


class ChunkError(ValueError):
    """This is no list of chunks; the message says why."""


@dataclass(frozen=True)
class Chunk:
    """A piece of a file: its place, its size in bytes and its sha256."""

    offset: int
    size: int
    digest: bytes


class Cutter:
    """Cuts a file that comes in blocks of any size into chunks of LEAST to MOST bytes; the last may be shorter."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, block: bytes) -> Iterator[bytes]:
        """The chunks that are whole now."""
        data = self._rest + block if self._rest else block
        start = 0
        while len(data) - start >= MOST:
            end = start + _length(data, start)
            yield data[start:end]
            start = end
        self._rest = data[start:]

    def finish(self) -> Iterator[bytes]:
        """What is left at the end of the file."""
        data, start = self._rest, 0
        self._rest = b""
        while start < len(data):
            end = start + _length(data, start)
            yield data[start:end]
            start = end


def _length(data: bytes, start: int) -> int:
    """How long the chunk is that begins here: to the first mark behind LEAST bytes, MOST at most."""
    end = min(start + MOST, len(data))
    if end - start <= LEAST:
        return end - start
    found = MARK.search(data, start + LEAST - _MARK_SIZE, end)
    return (found.end() if found else end) - start


@dataclass(frozen=True)
class ChunkList:
    """All chunks of a file in their order, and the sha256 of the whole, in hexadecimal."""

    sha256: str
    chunks: tuple[Chunk, ...]

    @property
    def size(self) -> int:
        return self.chunks[-1].offset + self.chunks[-1].size if self.chunks else 0

    def text(self) -> str:
        """The list in few characters, as read_chunks() takes it."""
        records = (chunk.digest + chunk.size.to_bytes(4, "big") for chunk in self.chunks)
        return base64.b64encode(b"".join(records)).decode("ascii")


def list_chunks(blocks: Iterable[bytes]) -> ChunkList:
    """The list of a file that comes in blocks."""
    whole, cutter, chunks, offset = hashlib.sha256(), Cutter(), [], 0

    def pieces(pool: ThreadPoolExecutor) -> Iterator[bytes]:
        for block in blocks:
            # Beside the chunks' own sha256, on another processor: Python lets others work while it hashes.
            hashed = pool.submit(whole.update, block)
            yield from cutter.feed(block)
            hashed.result()
        yield from cutter.finish()

    with ThreadPoolExecutor(1) as threads:
        for piece in pieces(threads):
            chunks.append(Chunk(offset, len(piece), hashlib.sha256(piece).digest()))
            offset += len(piece)
    return ChunkList(whole.hexdigest(), tuple(chunks))


def read_chunks(sha256: str, text: str) -> ChunkList:
    """A list from its text form. ChunkError: it is none."""
    try:
        data = base64.b64decode(text.encode("ascii"), validate=True)
    except (UnicodeEncodeError, binascii.Error) as exc:
        raise ChunkError(f"the list of chunks is no base64: {exc}") from exc
    if len(data) % _RECORD or len(data) // _RECORD > _MOST_CHUNKS:
        raise ChunkError(f"the list of chunks has {len(data)} bytes, which is no number of records of {_RECORD}")
    chunks: list[Chunk] = []
    offset = 0
    for start in range(0, len(data), _RECORD):
        size = int.from_bytes(data[start + 32 : start + _RECORD], "big")
        if not 0 < size <= MOST:
            raise ChunkError(f"chunk {len(chunks)} has {size} bytes, not 1 to {MOST}")
        chunks.append(Chunk(offset, size, data[start : start + 32]))
        offset += size
    return ChunkList(sha256, tuple(chunks))


def mask(indices: Iterable[int]) -> int:
    """A set of chunks as a number with a bit for each."""
    bits = 0
    for index in indices:
        bits |= 1 << index
    return bits


def unmask(bits: int) -> list[int]:
    """The chunks of such a number, in their order."""
    text = bin(bits)[:1:-1]
    found, at = [], text.find("1")
    while at >= 0:
        found.append(at)
        at = text.find("1", at + 1)
    return found


def size_of(chunks: Sequence[Chunk], bits: int) -> int:
    """How many bytes these chunks have in all."""
    return sum(chunks[index].size for index in unmask(bits))
