# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import hashlib
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.multinic.kubernetes.plugins.module_utils import _chunks
from ansible_collections.multinic.kubernetes.plugins.module_utils._chunks import (
    LEAST,
    MIB,
    MOST,
    Chunk,
    ChunkError,
    ChunkList,
    list_chunks,
    mask,
    read_chunks,
    size_of,
    unmask,
)

SEEDED = random.Random(5).randbytes(12 * MIB)  # noqa: S311  the same at each run


def digests(data: bytes) -> list[bytes]:
    return [chunk.digest for chunk in list_chunks([data]).chunks]


def test_the_chunks_are_the_file() -> None:
    found = list_chunks([SEEDED])
    assert found.size == len(SEEDED)
    assert found.sha256 == hashlib.sha256(SEEDED).hexdigest()
    end = 0
    for chunk in found.chunks:
        assert chunk.offset == end
        piece = SEEDED[chunk.offset : chunk.offset + chunk.size]
        assert chunk.digest == hashlib.sha256(piece).digest()
        end += chunk.size
    assert all(LEAST <= chunk.size <= MOST for chunk in found.chunks[:-1])
    assert len(SEEDED) / 3 / MIB < len(found.chunks) < len(SEEDED) * 2 / MIB


@given(st.lists(st.integers(1, 9 * MIB), max_size=8))
@settings(max_examples=10, deadline=None)
def test_how_the_file_comes_does_not_matter(sizes: list[int]) -> None:
    blocks, start = [], 0
    for size in sizes:
        blocks.append(SEEDED[start : start + size])
        start += size
    blocks.append(SEEDED[start:])
    assert list_chunks(blocks) == list_chunks([SEEDED])


@given(st.integers(0, len(SEEDED)), st.integers(0, MIB), st.binary(max_size=100))
@settings(max_examples=10, deadline=None)
def test_a_change_costs_the_chunks_around_it(at: int, removed: int, added: bytes) -> None:
    changed = SEEDED[:at] + added + SEEDED[at + removed :]
    new = set(digests(changed)) - set(digests(SEEDED))
    # Where the cuts differ they meet again at the first mark that both see.
    assert sum(chunk.size for chunk in list_chunks([changed]).chunks if chunk.digest in new) <= 4 * MOST


def test_zeros_are_cut_too() -> None:
    sizes = [chunk.size for chunk in list_chunks([bytes(9 * MIB)]).chunks]
    assert sizes == [MOST, MOST, MIB]


def test_an_empty_file_has_no_chunks() -> None:
    empty = list_chunks([])
    assert empty.chunks == () and empty.size == 0
    assert read_chunks(empty.sha256, empty.text()) == empty


@given(st.lists(st.tuples(st.binary(min_size=32, max_size=32), st.integers(1, MOST)), max_size=30))
def test_the_text_form_says_all(records: list[tuple[bytes, int]]) -> None:
    chunks, offset = [], 0
    for digest, size in records:
        chunks.append(Chunk(offset, size, digest))
        offset += size
    whole = ChunkList("0" * 64, tuple(chunks))
    assert read_chunks("0" * 64, whole.text()) == whole


@given(st.one_of(st.text(max_size=200), st.binary(max_size=200).map(lambda data: data.decode("latin-1"))))
def test_any_other_text_is_refused(text: str) -> None:
    try:
        found = read_chunks("0" * 64, text)
    except ChunkError:
        return
    assert found.text() == text


@pytest.mark.parametrize("size", [0, MOST + 1])
def test_impossible_sizes_are_refused(size: int) -> None:
    text = ChunkList("0" * 64, (Chunk(0, size, bytes(32)),)).text()
    with pytest.raises(ChunkError, match="chunk 0 has"):
        read_chunks("0" * 64, text)


@given(st.sets(st.integers(0, 300)))
def test_masks(indices: set[int]) -> None:
    assert unmask(mask(indices)) == sorted(indices)
    chunks = [Chunk(0, number + 1, b"") for number in range(301)]
    assert size_of(chunks, mask(indices)) == sum(index + 1 for index in indices)


def test_a_mark_that_lies_over_the_least_size_counts() -> None:
    data = bytearray(2 * MIB)
    data[LEAST - 1 : LEAST + 2] = b"\xa5\x5a\x01"
    assert list_chunks([bytes(data)]).chunks[0].size == LEAST + 2
    assert _chunks.MARK.search(bytes(data)) is not None
