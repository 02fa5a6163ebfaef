"""The mean quality among the training queries that are nearest to a query."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

import faiss
import numpy as np
from numpy.typing import NDArray

from semroute.heads.queries.head import Arrays, Quality
from semroute.heads.queries.inputs import QueryInputs
from semroute.types import Matrix

PRIOR = 5.0
"""Neighbours of the overall mean that are mixed in."""

_CHUNK = 4096


@dataclass(frozen=True)
class NeighbourHead:
    """k nearest neighbours by cosine, searched exactly in FAISS.

    Attributes:
        vectors: ``(n, d)`` float16 unit rows of the training queries: half the room, and cosines true to 1e-3.
        quality: ``(n, m)`` float32 of their answers, NaN where it is not known.
        prior: ``(m,)`` float64 mean quality.
        k: neighbours that count.
    """

    vectors: NDArray[np.float16]
    quality: Matrix
    prior: NDArray[np.float64]
    k: int
    _index: Any = field(init=False, repr=False, compare=False)

    kind: ClassVar[str] = "neighbours"
    needs_vectors: ClassVar[bool] = True

    def __post_init__(self) -> None:
        index = faiss.IndexFlatIP(self.vectors.shape[1])
        index.add(np.ascontiguousarray(self.vectors, np.float32))
        object.__setattr__(self, "_index", index)

    def predict(self, inputs: QueryInputs) -> Quality:
        """``(n, m)`` predicted quality."""
        chunks = [self._of(inputs.vectors[start : start + _CHUNK]) for start in range(0, len(inputs), _CHUNK)]
        return np.concatenate(chunks) if chunks else np.zeros((0, self.quality.shape[1]))

    def _of(self, vectors: Matrix) -> Quality:
        _, rows = self._index.search(np.ascontiguousarray(vectors), min(self.k, len(self.vectors)))
        near = self.quality[rows].astype(np.float64)
        known = np.isfinite(near)
        sums, counts = np.where(known, near, 0.0).sum(axis=1), known.sum(axis=1)
        return np.asarray((sums + PRIOR * self.prior) / (counts + PRIOR))

    def arrays(self) -> Arrays:
        """Everything that it is made of, by name."""
        return {"vectors": self.vectors, "quality": self.quality, "prior": self.prior, "k": np.array(self.k)}

    @classmethod
    def from_arrays(cls, arrays: Arrays) -> Self:
        """The head of these arrays."""
        vectors, quality = np.asarray(arrays["vectors"], np.float16), np.asarray(arrays["quality"], np.float32)
        k = int(arrays["k"])
        if {vectors.ndim, quality.ndim} != {2} or not 0 < len(vectors) == len(quality) or k < 1:
            raise ValueError("neighbours and their quality do not fit together")
        return cls(vectors, quality, np.asarray(arrays["prior"], np.float64), k)
