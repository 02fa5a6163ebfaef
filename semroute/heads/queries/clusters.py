"""A table of mean quality by cluster of queries."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np

from semroute.heads.queries.head import Arrays, Quality
from semroute.heads.queries.inputs import QueryInputs
from semroute.types import Matrix


@dataclass(frozen=True)
class ClusterHead:
    """The mean of several tables, each over its own clusters: a query at the edge of one is inside another.

    Attributes:
        centroids: ``(r, c, d)`` float32 unit rows.
        table: ``(r, c, m)`` float32 mean quality of each cluster, mixed with the overall mean.
    """

    centroids: Matrix
    table: Matrix

    kind: ClassVar[str] = "clusters"
    needs_vectors: ClassVar[bool] = True

    def predict(self, inputs: QueryInputs) -> Quality:
        """``(n, m)`` predicted quality."""
        found = np.zeros((len(inputs), self.table.shape[2]))
        for centroids, table in zip(self.centroids, self.table, strict=True):
            found += table[(inputs.vectors @ centroids.T).argmax(axis=1)]
        return found / len(self.table)

    def arrays(self) -> Arrays:
        """Everything that it is made of, by name."""
        return {"centroids": self.centroids, "table": self.table}

    @classmethod
    def from_arrays(cls, arrays: Arrays) -> Self:
        """The head of these arrays."""
        centroids, table = (np.asarray(arrays[name], np.float32) for name in ("centroids", "table"))
        if centroids.shape[:2] != table.shape[:2]:
            raise ValueError("clusters and their table do not fit together")
        return cls(centroids, table)
