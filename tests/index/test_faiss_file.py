from __future__ import annotations

import struct
from pathlib import Path

import faiss
import numpy as np
import pytest

from semroute.index.faiss_file import read_vectors
from semroute.index.prototypes import APPROXIMATE_FROM, PrototypeIndex
from semroute.types import Matrix


def rows(count: int, dimensions: int = 4) -> Matrix:
    drawn = np.random.default_rng(count).standard_normal((count, dimensions)).astype(np.float32)
    unit: Matrix = drawn / np.linalg.norm(drawn, axis=1, keepdims=True)
    return unit


@pytest.fixture(scope="module")
def inverted(tmp_path_factory: pytest.TempPathFactory) -> tuple[PrototypeIndex, Path]:
    index = PrototypeIndex.build(rows(APPROXIMATE_FROM), [APPROXIMATE_FROM - 10, 10])
    path = tmp_path_factory.mktemp("inverted") / "prototypes.faiss"
    index.write(path)
    return index, path


def test_the_rows_of_a_flat_index_come_back(tmp_path: Path) -> None:
    path = tmp_path / "prototypes.faiss"
    PrototypeIndex.build(rows(7), [3, 4]).write(path)
    np.testing.assert_array_equal(read_vectors(path).rows, rows(7))
    assert read_vectors(path).centres is None


def test_an_inverted_file_is_made_again_as_it_was(inverted: tuple[PrototypeIndex, Path], tmp_path: Path) -> None:
    index, path = inverted
    again = PrototypeIndex.read(path, index.counts)
    assert not again.exact
    np.testing.assert_array_equal(again.similarities(rows(200)), index.similarities(rows(200)))
    np.testing.assert_array_equal(again.centroids(), index.centroids())
    again.write(tmp_path / "again.faiss")
    assert (tmp_path / "again.faiss").read_bytes() == path.read_bytes()


def test_other_kinds_of_index_are_refused(tmp_path: Path) -> None:
    made = [
        faiss.IndexFlatL2(4),
        faiss.IndexHNSWFlat(4, 8),
        faiss.IndexScalarQuantizer(4, faiss.ScalarQuantizer.QT_8bit),
    ]
    for index in made:
        index.train(rows(50))
        index.add(rows(50))
        faiss.write_index(index, str(tmp_path / "other.faiss"))
        with pytest.raises(ValueError, match="stands where b'IxFI' or b'IwFl' is expected"):
            read_vectors(tmp_path / "other.faiss")


def header(dimensions: int = 4, count: int = 2, trained: bool = True, metric: int = 0) -> bytes:
    return b"IxFI" + struct.pack("<iqqq?i", dimensions, count, 0, 0, trained, metric)


@pytest.mark.parametrize(
    "content",
    [
        header(count=1 << 40) + struct.pack("<Q", 1 << 42),
        header(count=-1) + struct.pack("<Q", 0),
        header(dimensions=1 << 30) + struct.pack("<Q", 1 << 31),
        header(dimensions=0) + struct.pack("<Q", 0),
        header() + struct.pack("<Q", 1 << 63),
        header() + struct.pack("<Q", 9) + bytes(36),
        header() + struct.pack("<Q", 8) + bytes(33),
        header() + struct.pack("<Q", 8) + bytes(31),
        header(trained=False) + struct.pack("<Q", 8) + bytes(32),
        header(metric=1) + struct.pack("<Q", 8) + bytes(32),
        header() + struct.pack("<Q", 8) + np.full(8, np.nan, np.float32).tobytes(),
        header()[:20],
    ],
)
def test_sizes_that_do_not_fit_the_file_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "prototypes.faiss"
    path.write_bytes(header() + struct.pack("<Q", 8) + rows(2).tobytes())
    assert read_vectors(path).rows.shape == (2, 4)
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"claimed|trained|vectors|finite|left over"):
        read_vectors(path)


@pytest.mark.slow
def test_an_inverted_file_of_which_anything_was_changed_is_read_or_refused(
    inverted: tuple[PrototypeIndex, Path], tmp_path: Path
) -> None:
    content = inverted[1].read_bytes()
    random, path = np.random.default_rng(0), tmp_path / "prototypes.faiss"
    refused = 0
    tail = content.index(b"ilar")
    for start in (0, tail, len(content) - 4000):
        for _ in range(60):
            changed = bytearray(content)
            place = start + int(random.integers(120))
            size = [1 << 62, 1 << 31, -1, 0][int(random.integers(4))]
            changed[place : place + 8] = size.to_bytes(8, "little", signed=True)
            path.write_bytes(changed[: len(content)])
            try:
                PrototypeIndex.read(path, inverted[0].counts)
            except ValueError:
                refused += 1
    assert refused > 60
