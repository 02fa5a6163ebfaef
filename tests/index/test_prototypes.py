from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from semroute.index import PrototypeIndex, prototypes
from semroute.types import Matrix


def unit(count: int, dimensions: int = 8, seed: int = 0) -> Matrix:
    rows = np.random.default_rng(seed).normal(size=(count, dimensions)).astype(np.float32)
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), dtype=np.float32)


def brute_force(vectors: Matrix, rows: Matrix, counts: list[int]) -> Matrix:
    groups = np.split(rows, np.cumsum(counts)[:-1])
    return np.column_stack([(vectors @ group.T).max(axis=1) for group in groups])


@given(st.lists(st.integers(1, 5), min_size=1, max_size=6), st.integers(0, 4), st.integers(0, 99))
@settings(deadline=None, max_examples=40)
def test_similarities_are_those_of_brute_force(counts: list[int], queries: int, seed: int) -> None:
    rows, vectors = unit(sum(counts), seed=seed), unit(queries, seed=seed + 1)
    index = PrototypeIndex.build(rows, counts)
    assert index.exact
    found = index.similarities(vectors)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, brute_force(vectors, rows, counts), atol=1e-6)


def test_the_order_of_the_categories_does_not_matter() -> None:
    rows, counts, vectors = unit(9), [2, 3, 4], unit(20, seed=1)
    straight = PrototypeIndex.build(rows, counts).similarities(vectors)
    turned = PrototypeIndex.build(np.concatenate([rows[5:], rows[:2], rows[2:5]]), [4, 2, 3]).similarities(vectors)
    np.testing.assert_allclose(turned, straight[:, [2, 0, 1]], atol=1e-6)


@pytest.mark.parametrize("counts", [[2, 3], [2, 3, 5], [4, 0], [5, -1], []])
def test_counts_that_do_not_fit_the_rows_are_refused(counts: list[int]) -> None:
    with pytest.raises(ValueError, match="4 prototypes do not fall into groups"):
        PrototypeIndex.build(unit(4), counts)


@pytest.mark.parametrize("approximate", [False, True])
def test_an_index_reads_as_it_was_written(tmp_path: Path, approximate: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prototypes, "APPROXIMATE_FROM", 100 if approximate else 1000)
    index = PrototypeIndex.build(unit(400), [100] * 4)
    index.write(tmp_path / "prototypes.faiss")
    read = PrototypeIndex.read(tmp_path / "prototypes.faiss", [100] * 4)
    assert (read.exact, read.counts, read.dimensions) == (not approximate, (100,) * 4, 8)
    np.testing.assert_array_equal(read.similarities(unit(9, seed=1)), index.similarities(unit(9, seed=1)))


def test_an_approximate_index_agrees_on_the_best_category(monkeypatch: pytest.MonkeyPatch) -> None:
    centres = unit(20, 32)
    rows = np.repeat(centres, 100, axis=0) + 0.15 * unit(2000, 32, seed=1)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    vectors = centres[np.arange(400) % 20] + 0.6 * unit(400, 32, seed=2)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    exact = PrototypeIndex.build(rows, [100] * 20).similarities(vectors)
    monkeypatch.setattr(prototypes, "APPROXIMATE_FROM", 2000)
    monkeypatch.setattr(prototypes, "NEIGHBOURS", 64)
    index = PrototypeIndex.build(rows, [100] * 20)
    assert not index.exact
    found = index.similarities(vectors)
    assert (found.argmax(axis=1) == exact.argmax(axis=1)).mean() >= 0.98
    assert np.all(found.max(axis=1) <= exact.max(axis=1) + 1e-6)
    # A category that was not found has the lowest similarity that was: no more than that of the best.
    assert np.all(found <= found.max(axis=1, keepdims=True))


def test_what_is_no_faiss_index_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "prototypes.faiss").write_bytes(b"not an index at all")
    with pytest.raises(ValueError, match="b'not ' stands where"):
        PrototypeIndex.read(tmp_path / "prototypes.faiss", [1])


def test_a_folder_that_is_not_there_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"prototypes\.faiss"):
        PrototypeIndex.build(unit(2), [1, 1]).write(tmp_path / "missing" / "prototypes.faiss")
