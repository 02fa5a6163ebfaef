from __future__ import annotations

import faiss
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from semroute.learn.fit import PER_PROTOTYPE, category_prototypes, spherical_kmeans
from semroute.types import Matrix


def unit(count: int, seed: int = 0) -> Matrix:
    rows = np.random.default_rng(seed).normal(size=(count, 6)).astype(np.float32)
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), dtype=np.float32)


def test_one_centroid_is_the_direction_of_the_mean() -> None:
    found = spherical_kmeans(np.eye(2, dtype=np.float32), 1, seed=0)
    np.testing.assert_allclose(found, [[np.sqrt(0.5), np.sqrt(0.5)]], atol=1e-6)


def test_separate_clusters_get_a_centroid_each() -> None:
    axes = np.eye(6, dtype=np.float32)[:3]
    rows = np.repeat(axes, 5, axis=0) + 0.05 * unit(15)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    found = spherical_kmeans(rows, 3, seed=0)
    assert np.all((found @ axes.T).max(axis=0) > 0.99)


def test_opposite_vectors_cancel_without_a_division_by_zero() -> None:
    rows = np.array([[1, 0], [-1, 0]], dtype=np.float32)
    np.testing.assert_array_equal(spherical_kmeans(rows, 1, seed=0), [[0, 0]])


@pytest.mark.slow
@given(st.lists(st.integers(1, 14), min_size=1, max_size=5), st.integers(1, 5), st.integers(0, 3))
@settings(deadline=None, max_examples=40)
def test_prototypes_are_unit_rows_grouped_by_category(sizes: list[int], wanted: int, seed: int) -> None:
    labels = np.repeat(np.arange(len(sizes)), sizes)
    rows = unit(len(labels), seed)
    found, counts = category_prototypes(rows, labels, wanted, seed=seed)
    assert counts == [max(1, min(wanted, size // PER_PROTOTYPE)) for size in sizes]
    assert found.shape == (sum(counts), 6)
    assert found.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1.0, atol=1e-5)
    again, _ = category_prototypes(rows, labels, wanted, seed=seed)
    np.testing.assert_array_equal(found, again)


@pytest.mark.filterwarnings("error")
def test_equal_vectors_give_usable_prototypes() -> None:
    rows = np.repeat(unit(1), 9, axis=0)
    found, counts = category_prototypes(rows, np.zeros(9, np.int64), 3, seed=0)
    assert counts == [3]
    assert np.isfinite(found).all()
    assert (found @ rows[0]).max() == pytest.approx(1.0, abs=1e-5)


def test_faiss_keeps_to_one_thread_and_its_setting_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[int] = []
    train = faiss.Kmeans.train

    def watched(self: faiss.Kmeans, rows: Matrix) -> float:
        threads.append(faiss.omp_get_max_threads())
        found: float = train(self, rows)
        return found

    monkeypatch.setattr(faiss.Kmeans, "train", watched)
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(2)
    try:
        category_prototypes(unit(12), np.zeros(12, np.int64), 4, seed=0)
        assert threads == [1]
        assert faiss.omp_get_max_threads() == 2
    finally:
        faiss.omp_set_num_threads(before)
