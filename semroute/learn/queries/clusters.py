"""Tables of quality by cluster, over k-means in FAISS."""

from __future__ import annotations

from typing import Self

import faiss
import numpy as np

from semroute.heads.queries.clusters import ClusterHead
from semroute.heads.queries.inputs import QueryInputs
from semroute.learn.queries.estimator import Known
from semroute.outcomes.groups import group_sums


class ClusterEstimator:
    """Several tables, each over clusters that were begun elsewhere.

    Args:
        tables: how many.
        rows_per_cluster: training rows for each cluster.
        most: clusters of a table.
        prior: rows of the overall mean that each cluster's mean is mixed with.
        seed: of the first table; the others take the numbers after it.
    """

    def __init__(
        self, tables: int = 6, rows_per_cluster: int = 30, most: int = 150, prior: float = 10.0, seed: int = 0
    ) -> None:
        self.tables = tables
        self.rows_per_cluster = rows_per_cluster
        self.most = most
        self.prior = prior
        self.seed = seed

    def fit(self, inputs: QueryInputs, quality: Known) -> Self:
        """Train on ``n`` queries and the ``(n, m)`` quality of the answers to them."""
        count = int(np.clip(len(inputs) // self.rows_per_cluster, 1, self.most))
        overall = np.nanmean(quality, axis=0)
        centroids, tables = [], []
        for number in range(self.tables):
            found = _centroids(inputs, count, self.seed + number)
            cluster = (inputs.vectors @ found.T).argmax(axis=1)
            sums, counts = group_sums(quality, cluster, count)
            centroids.append(found)
            tables.append((sums + self.prior * overall) / (counts + self.prior))
        self.head_ = ClusterHead(np.stack(centroids), np.stack(tables).astype(np.float32))
        return self


def _centroids(inputs: QueryInputs, count: int, seed: int) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    # Spherical, as vectors are compared by cosine; FAISS warns of clusters with few points, and those are mixed.
    clusters = faiss.Kmeans(
        inputs.vectors.shape[1], count, niter=15, seed=seed, spherical=True, min_points_per_centroid=1
    )
    clusters.train(np.ascontiguousarray(inputs.vectors))
    return np.asarray(clusters.centroids, np.float32).reshape(count, -1)
