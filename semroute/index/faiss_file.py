"""Bounds-checked reader of FAISS index files, without FAISS.

FAISS allocates whatever size a file claims, even one of 45 bytes. Two kinds are read, those that
:class:`~semroute.index.prototypes.PrototypeIndex` writes: ``IndexFlatIP`` and ``IndexIVFFlat`` over it.
Little-endian, as written by ``faiss/impl/index_write.cpp``:
https://github.com/facebookresearch/faiss/blob/main/faiss/impl/index_write.cpp
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from semroute.types import Matrix

MAX_DIMENSIONS = 1 << 16
_FLAT, _INVERTED, _ARRAY_LISTS, _FULL, _SPARSE = b"IxFI", b"IwFl", b"ilar", b"full", b"sprs"
_INNER_PRODUCT = 0


@dataclass(frozen=True, slots=True)
class FaissVectors:
    """Vectors of a FAISS file.

    Attributes:
        rows: ``(n, d)`` float32 vectors in the order in which they were added.
        centres: ``(lists, d)`` float32, of the inverted file; None where the index is flat.
    """

    rows: Matrix
    centres: Matrix | None


@dataclass(slots=True)
class _Header:
    dimensions: int
    count: int


class _Content:
    """Cursor over a file's bytes, with bounds checks.

    Reading beyond the end is a ValueError, before anything is allocated.
    """

    def __init__(self, raw: bytes) -> None:
        self._raw = memoryview(raw)
        self._at = 0

    def require(self, size: int) -> None:
        if not 0 <= size <= len(self._raw) - self._at:
            raise ValueError(f"{size:,} bytes are claimed where {len(self._raw) - self._at:,} are left")

    def take(self, size: int) -> memoryview:
        self.require(size)
        self._at += size
        return self._raw[self._at - size : self._at]

    def number(self, kind: str) -> int:
        value = struct.unpack(f"<{kind}", self.take(struct.calcsize(f"<{kind}")))[0]
        assert isinstance(value, int | bool)
        return int(value)

    def expect(self, *tags: bytes) -> bytes:
        actual = bytes(self.take(4))
        if actual not in tags:
            raise ValueError(f"{actual!r} stands where {' or '.join(map(repr, tags))} is expected")
        return actual

    def floats(self, count: int, dimensions: int) -> Matrix:
        return np.frombuffer(self.take(4 * count * dimensions), "<f4").reshape(count, dimensions)

    def integers(self, count: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        return np.frombuffer(self.take(8 * count), "<i8")

    def end(self) -> None:
        if self._at != len(self._raw):
            raise ValueError(f"{len(self._raw) - self._at:,} bytes are left over")


def read_vectors(path: Path) -> FaissVectors:
    """Read the vectors of a FAISS file.

    Raises:
        OSError: it cannot be read.
        ValueError: it is neither of the two kinds, sizes in it do not fit its length, or a vector is not finite.
    """
    content = _Content(path.read_bytes())
    kind = content.expect(_FLAT, _INVERTED)
    vectors = FaissVectors(_flat(content), None) if kind == _FLAT else _inverted(content)
    content.end()
    if not np.isfinite(vectors.rows).all() or (vectors.centres is not None and not np.isfinite(vectors.centres).all()):
        raise ValueError("a vector is not finite")
    return vectors


def _header(content: _Content) -> _Header:
    dimensions, count, _, _, is_trained, metric = (content.number(kind) for kind in ("i", "q", "q", "q", "?", "i"))
    if not 1 <= dimensions <= MAX_DIMENSIONS or count < 0 or not is_trained or metric != _INNER_PRODUCT:
        raise ValueError("not a trained index of inner products")
    return _Header(dimensions, count)


def _flat(content: _Content) -> Matrix:
    header = _header(content)
    if content.number("Q") != header.count * header.dimensions:
        raise ValueError(f"not {header.count:,} vectors of {header.dimensions} dimensions")
    return content.floats(header.count, header.dimensions)


def _inverted(content: _Content) -> FaissVectors:
    header = _header(content)
    lists, _ = content.number("Q"), content.number("Q")
    content.expect(_FLAT)
    centres = _flat(content)
    if centres.shape != (lists, header.dimensions):
        raise ValueError("its lists do not match its quantizer")
    # No direct map from ids to positions: one byte for its kind, and an empty list.
    if content.number("b") != 0 or content.number("Q") != 0:
        raise ValueError("it has a direct map, which semroute never writes")
    content.expect(_ARRAY_LISTS)
    if (content.number("Q"), content.number("Q")) != (lists, 4 * header.dimensions):
        raise ValueError("its lists are of another number or width")
    sizes = _sizes(content, lists)
    if int(sizes.sum()) != header.count:
        raise ValueError("its lists do not hold all of its vectors")
    content.require(header.count * (4 * header.dimensions + 8))
    rows = np.empty((header.count, header.dimensions), np.float32)
    is_there = np.zeros(header.count, np.bool_)
    for size in sizes[sizes > 0].tolist():
        vectors, row_numbers = content.floats(size, header.dimensions), content.integers(size)
        if not ((row_numbers >= 0) & (row_numbers < header.count)).all():
            raise ValueError("the number of a vector exceeds the number of vectors")
        rows[row_numbers], is_there[row_numbers] = vectors, True
    if not is_there.all():
        raise ValueError("a vector occurs twice")
    return FaissVectors(rows, centres)


def _sizes(content: _Content, lists: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Return the number of vectors in each list, ``(lists,)``.

    A sparse file stores only lists that are not empty.
    """
    if content.expect(_FULL, _SPARSE) == _FULL:
        if content.number("Q") != lists:
            raise ValueError("its lists are of another number")
        sizes = content.integers(lists)
    else:
        pairs = content.integers(content.number("Q")).reshape(-1, 2)
        sizes = np.zeros(lists, np.int64)
        if len(pairs) and not (
            pairs[:, 0].min() >= 0 and pairs[:, 0].max() < lists and (np.diff(pairs[:, 0]) > 0).all()
        ):
            raise ValueError("its lists are not in order")
        sizes[pairs[:, 0]] = pairs[:, 1]
    if len(sizes) and (sizes.min() < 0 or sizes.max() > 1 << 40):
        raise ValueError("a list has no such size")
    return sizes
