"""Nearest neighbours: nothing is fitted, the rows are kept."""

from __future__ import annotations

from typing import Self

import numpy as np

from semroute.heads.queries.inputs import QueryInputs
from semroute.heads.queries.neighbours import NeighbourHead
from semroute.learn.queries.estimator import Known


class NeighbourEstimator:
    """k nearest neighbours by cosine.

    Args:
        k: neighbours that count.
        most: rows that are kept, drawn at random where there are more.
        seed: of the draw.
    """

    def __init__(self, k: int = 50, most: int = 100_000, seed: int = 0) -> None:
        self.k = k
        self.most = most
        self.seed = seed

    def fit(self, inputs: QueryInputs, quality: Known) -> Self:
        """Train on ``n`` queries and the ``(n, m)`` quality of the answers to them."""
        rows = np.sort(np.random.default_rng(self.seed).permutation(len(inputs))[: self.most])
        self.head_ = NeighbourHead(
            inputs.vectors[rows].astype(np.float16),
            quality[rows].astype(np.float32),
            np.asarray(np.nanmean(quality, axis=0)),
            min(self.k, len(rows)),
        )
        return self
