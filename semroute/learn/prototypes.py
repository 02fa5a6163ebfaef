"""Prototypes of each category: spherical k-means within the category."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import faiss
import numpy as np
from numpy.typing import NDArray

from semroute.types import Matrix

PER_PROTOTYPE = 3
"""A category gets no more prototypes than one per so many examples."""


def spherical_kmeans(vectors: Matrix, count: int, *, seed: int) -> Matrix:
    """``count`` unit centroids of unit ``vectors`` ``(n, d)``, by k-means under the cosine.

    Dhillon and Modha, "Concept decompositions for large sparse text data using clustering", Machine Learning, 2001.
    """
    count = min(count, len(vectors))
    if count == 1:
        return _unit(vectors.mean(axis=0, keepdims=True))
    kmeans = faiss.Kmeans(
        vectors.shape[1], count, niter=20, spherical=True, seed=seed, min_points_per_centroid=1, verbose=False
    )
    kmeans.train(np.ascontiguousarray(vectors))
    return _unit(np.asarray(kmeans.centroids, dtype=np.float32))


def category_prototypes(
    vectors: Matrix, labels: NDArray[np.int64], per_category: int, *, seed: int
) -> tuple[Matrix, list[int]]:
    """Prototypes of all categories and how many each has, on the caller's thread alone.

    A category has some hundred examples: a second thread costs more than it gains, and where other work keeps the cores
    busy, those that wait for it awake cost forty times as much.

    Args:
        vectors: ``(n, d)`` unit rows.
        labels: ``(n,)`` category numbers from 0, each present.
        per_category: prototypes wanted; a category with few examples gets fewer.
        seed: of k-means.

    Returns:
        ``(prototypes, d)`` unit rows grouped by category, and the counts.
    """
    categories = int(labels.max()) + 1
    members = np.split(np.argsort(labels, kind="stable"), np.cumsum(np.bincount(labels))[:-1])
    parts = []
    with one_thread():
        for category in range(categories):
            rows = vectors[members[category]]
            parts.append(spherical_kmeans(rows, max(1, min(per_category, len(rows) // PER_PROTOTYPE)), seed=seed))
    return np.concatenate(parts), [len(part) for part in parts]


@contextmanager
def one_thread() -> Iterator[None]:
    """Keep FAISS to the caller's thread; other threads keep their own setting."""
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)


def _unit(rows: Matrix) -> Matrix:
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(rows / np.where(norms == 0, 1, norms), dtype=np.float32)
