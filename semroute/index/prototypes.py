"""Prototype index: similarity of a query to each category.

The prototypes of all categories are in one FAISS index.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from semroute import forks
from semroute.arrays import FEW_ROWS
from semroute.index.faiss_file import read_vectors
from semroute.types import Matrix

if TYPE_CHECKING:
    import faiss

APPROXIMATE_FROM = 10_000
"""Number of prototypes from which an inverted file is used.

Exact search of fewer costs about 0.2 ms a query (``scripts/bench_semantic.py``)."""

PROBED_LISTS = 32
NEIGHBOURS = 256
"""Number of prototypes that an approximate search returns; a category with none among them gets an upper bound."""

BLOCK = 400_000
"""Matrix elements in one product with a single vector.

From 460,800 on OpenBLAS splits it among threads, and then waits a scheduler's time slice (8 ms) for the other thread
where the cores are busy; one thread takes 0.02 ms for 768 rows of 384."""


class PrototypeIndex:
    """Centroids on the unit sphere, grouped by category.

    Up to :data:`APPROXIMATE_FROM` prototypes similarities are exact: one product of matrices and a maximum per group
    take half the time of a FAISS search that returns every row, since nothing has to be sorted. FAISS is imported only
    for larger indexes, and to write the file.

    Args:
        vectors: ``(n, d)`` unit rows, grouped by category in ascending order, or a FAISS index of inner products over
            such rows, which makes similarities approximate.
        counts: number of prototypes of each category, in the same order; every one at least 1.

    Raises:
        ValueError: the counts do not add up to the rows, or one is below 1.
    """

    def __init__(self, vectors: Matrix | faiss.Index, counts: Sequence[int]) -> None:
        self._rows: Matrix | None = None
        self._index: faiss.Index | None = None
        if isinstance(vectors, np.ndarray):
            # Copied: in a file rows lie unaligned, so that every product would copy them first.
            self._rows = np.array(vectors, dtype=np.float32, order="C")
            total, self.dimensions = self._rows.shape
        else:
            self._index, total, self.dimensions = vectors, int(vectors.ntotal), int(vectors.d)
        if sum(counts) != total or min(counts, default=0) < 1:
            raise ValueError(f"{total} prototypes do not fall into groups of {list(counts)[:8]}")
        self.counts = tuple(counts)
        self._owners: NDArray[np.int64] = np.repeat(np.arange(len(counts)), counts)
        self._starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
        forks.in_child(self, PrototypeIndex._after_fork)

    @classmethod
    def build(cls, prototypes: Matrix, counts: Sequence[int]) -> PrototypeIndex:
        """Build an index of prototypes, exact or approximate by their number.

        ``prototypes`` are ``(n, d)`` float32 unit rows, grouped by category.
        """
        count, dimensions = prototypes.shape
        if count < APPROXIMATE_FROM:
            return cls(prototypes, counts)
        import faiss

        lists = int(2 * np.sqrt(count))
        index = _inverted_file(faiss.IndexFlatIP(dimensions), lists)
        sample = np.random.default_rng(0).permutation(count)[: lists * 40]
        index.train(prototypes[sample])
        index.add(np.ascontiguousarray(prototypes, dtype=np.float32))
        return cls(index, counts)

    @property
    def exact(self) -> bool:
        """True if similarities are exact."""
        return self._rows is not None

    def similarities(self, vectors: Matrix) -> Matrix:
        """Return the cosine of each query to each category's nearest prototype.

        Args:
            vectors: ``(n, d)`` float32 unit rows.

        Returns:
            ``(n, categories)`` float32. Where the index is approximate, a category that is not among the nearest
            prototypes gets the lowest similarity that was found, which is an upper bound of its own.
        """
        if self._rows is not None:
            is_few = len(vectors) <= FEW_ROWS
            cosines = _products_by_row(vectors, self._rows) if is_few else vectors @ self._rows.T
            return np.maximum.reduceat(cosines, self._starts, axis=1)
        assert self._index is not None  # exactly one of the two is set
        nearest, prototype_numbers = self._index.search(vectors, min(NEIGHBOURS, self._index.ntotal))
        nearest[prototype_numbers < 0] = -1.0
        best = np.repeat(nearest.min(axis=1, keepdims=True), len(self.counts), axis=1)
        np.maximum.at(best, (np.arange(len(vectors))[:, None], self._owners[prototype_numbers]), nearest)
        return best

    def _after_fork(self) -> None:
        # OpenMP keeps a team of threads for each thread that has used it; the one that forks would wait for its own.
        if "faiss" in sys.modules:
            import faiss

            faiss.omp_set_num_threads(1)

    def centroids(self) -> Matrix:
        """Return the mean direction of each category's prototypes.

        ``(categories, d)`` float32 unit rows.
        """
        rows = self._rows
        if rows is None:
            assert self._index is not None  # exactly one of the two is set
            rows = self._index.reconstruct_n(0, self._index.ntotal)
        sums = np.add.reduceat(rows, self._starts, axis=0)
        return np.asarray(sums / np.linalg.norm(sums, axis=1, keepdims=True), np.float32)

    def write(self, path: Path) -> None:
        """Write the FAISS index to ``path``.

        Raises:
            OSError: it cannot be written.
        """
        import faiss

        index = self._index
        if index is None:
            assert self._rows is not None  # exactly one of the two is set
            index = faiss.IndexFlatIP(self.dimensions)
            index.add(self._rows)
        try:
            faiss.write_index(index, str(path))
        except RuntimeError as error:  # FAISS raises this on a full disk
            raise OSError(f"{path}: {error}") from error

    @classmethod
    def read(cls, path: Path, counts: Sequence[int]) -> PrototypeIndex:
        """Read an index that :meth:`write` wrote.

        The file is parsed by :func:`~semroute.index.faiss_file.read_vectors`.

        Raises:
            OSError: it cannot be read.
            ValueError: it is another file, or the counts do not fit it.
        """
        stored = read_vectors(path)
        if stored.centres is None:
            return cls(stored.rows, counts)
        import faiss

        # Adding the rows restores the lists: each vector belongs to the nearest centre.
        quantizer = faiss.IndexFlatIP(stored.rows.shape[1])
        quantizer.add(stored.centres)
        index = _inverted_file(quantizer, len(stored.centres))
        index.is_trained = True
        index.add(stored.rows)
        return cls(index, counts)


def _inverted_file(quantizer: faiss.Index, lists: int) -> faiss.Index:
    import faiss

    index = faiss.IndexIVFFlat(quantizer, quantizer.d, lists, faiss.METRIC_INNER_PRODUCT)
    index.nprobe = PROBED_LISTS
    return index


def _products_by_row(vectors: Matrix, rows: Matrix) -> Matrix:
    """Compute ``vectors @ rows.T`` for few vectors, on the caller's thread.

    See :data:`BLOCK` and :data:`~semroute.arrays.FEW_ROWS`.
    """
    products = np.empty((len(vectors), len(rows)), dtype=np.float32)
    size = max(1, BLOCK // rows.shape[1])
    for start in range(0, len(rows), size):
        block = rows[start : start + size]
        for vector, product in zip(vectors, products, strict=True):
            np.dot(block, vector, out=product[start : start + size])
    return products
