"""Prototypes of all categories in one FAISS index, and the similarity of a query to each category."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import faiss
import numpy as np
from numpy.typing import NDArray

from semroute.index.faiss_file import read_vectors
from semroute.types import Matrix

APPROXIMATE_FROM = 10_000
"""Prototypes from which an inverted file is used: exact, a query costs about 0.2 ms (``scripts/bench_semantic.py``)."""

PROBED_LISTS = 32
NEIGHBOURS = 256
"""Prototypes that an approximate search returns; a category without one among them gets an upper bound."""


class PrototypeIndex:
    """Centroids on the unit sphere, grouped by category.

    Up to :data:`APPROXIMATE_FROM` prototypes the index is ``IndexFlatIP`` and similarities are exact. Its rows are read
    where FAISS keeps them: one product of matrices and a maximum per group take half the time of a search that
    returns every row, since nothing has to be sorted.

    Args:
        index: a FAISS inner-product index over unit vectors, rows grouped by category in ascending order.
        counts: number of prototypes of each category, in the same order; every one at least 1.

    Raises:
        ValueError: the counts do not add up to the index's rows, or one is below 1.
    """

    def __init__(self, index: faiss.Index, counts: Sequence[int]) -> None:
        if sum(counts) != index.ntotal or min(counts, default=0) < 1:
            raise ValueError(f"{index.ntotal} prototypes do not fall into groups of {list(counts)[:8]}")
        self._index = index
        self.counts = tuple(counts)
        self.dimensions = int(index.d)
        self._owners: NDArray[np.int64] = np.repeat(np.arange(len(counts)), counts)
        self._starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
        self._rows = _rows(index)

    @classmethod
    def build(cls, prototypes: Matrix, counts: Sequence[int]) -> PrototypeIndex:
        """Index unit ``prototypes`` ``(n, d)`` float32, grouped by category; exact or approximate by their number."""
        count, dimensions = prototypes.shape
        if count < APPROXIMATE_FROM:
            index: faiss.Index = faiss.IndexFlatIP(dimensions)
        else:
            lists = int(2 * np.sqrt(count))
            index = _inverted_file(faiss.IndexFlatIP(dimensions), lists)
            sample = np.random.default_rng(0).permutation(count)[: lists * 40]
            index.train(prototypes[sample])
        index.add(np.ascontiguousarray(prototypes, dtype=np.float32))
        return cls(index, counts)

    @property
    def exact(self) -> bool:
        """Whether similarities are exact."""
        return self._rows is not None

    def similarities(self, vectors: Matrix) -> Matrix:
        """Cosine of each query to the nearest prototype of each category.

        Args:
            vectors: ``(n, d)`` float32 unit rows.

        Returns:
            ``(n, categories)`` float32. Where the index is approximate, a category that is not among the nearest
            prototypes gets the lowest similarity that was found, which is an upper bound of its own.
        """
        if self._rows is not None:
            cosines = _one_product(vectors, self._rows) if len(vectors) == 1 else vectors @ self._rows.T
            return np.maximum.reduceat(cosines, self._starts, axis=1)
        found, places = self._index.search(vectors, min(NEIGHBOURS, self._index.ntotal))
        found[places < 0] = -1.0
        best = np.repeat(found.min(axis=1, keepdims=True), len(self.counts), axis=1)
        np.maximum.at(best, (np.arange(len(vectors))[:, None], self._owners[places]), found)
        return best

    def centroids(self) -> Matrix:
        """``(categories, d)`` float32 unit rows: the mean direction of each category's prototypes."""
        rows = self._index.reconstruct_n(0, self._index.ntotal) if self._rows is None else self._rows
        sums = np.add.reduceat(rows, self._starts, axis=0)
        return np.asarray(sums / np.linalg.norm(sums, axis=1, keepdims=True), np.float32)

    def write(self, path: Path) -> None:
        """Write the FAISS index to ``path``.

        Raises:
            OSError: it cannot be written.
        """
        try:
            faiss.write_index(self._index, str(path))
        except RuntimeError as error:  # what FAISS makes of a full disk
            raise OSError(f"{path}: {error}") from error

    @classmethod
    def read(cls, path: Path, counts: Sequence[int]) -> PrototypeIndex:
        """Read what :meth:`write` wrote; see :func:`~semroute.index.faiss_file.read_vectors`.

        Raises:
            OSError: it cannot be read.
            ValueError: it is another file, or the counts do not fit it.
        """
        found = read_vectors(path)
        index: faiss.Index = faiss.IndexFlatIP(found.rows.shape[1])
        if found.centres is not None:
            # The lists are made again as they were: each vector belongs to the nearest centre.
            index.add(found.centres)
            index = _inverted_file(index, len(found.centres))
            index.is_trained = True
        index.add(found.rows)
        return cls(index, counts)


def _inverted_file(quantizer: faiss.Index, lists: int) -> faiss.Index:
    index = faiss.IndexIVFFlat(quantizer, quantizer.d, lists, faiss.METRIC_INNER_PRODUCT)
    index.nprobe = PROBED_LISTS
    return index


def _rows(index: faiss.Index) -> Matrix | None:
    """The rows of a flat index as FAISS holds them, not copied; None for any other index."""
    if not isinstance(index, faiss.IndexFlat):
        return None
    rows: Matrix = faiss.rev_swig_ptr(index.get_xb(), index.ntotal * index.d).reshape(index.ntotal, index.d)
    return rows


def _one_product(vector: Matrix, rows: Matrix) -> Matrix:
    """``vector @ rows.T`` for one row, on the caller's thread.

    BLAS shares a product of this size among threads from 460,800 numbers on, and then waits a scheduler's time slice
    (8 ms) for the other one where the cores are busy; alone it takes 0.02 ms for 1,200 rows.
    """
    vector = np.ascontiguousarray(vector, dtype=np.float32)
    product = np.empty((1, len(rows)), dtype=np.float32)
    pointers = (faiss.swig_ptr(array) for array in (product, vector, rows))
    faiss.fvec_inner_products_ny(*pointers, rows.shape[1], len(rows))  # type: ignore[attr-defined]
    return product
