"""What the heads look at: a query's text, its vector, and the features of the text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from semroute.heads.queries.features import feature_matrix
from semroute.types import Matrix
from semroute.types.vectors import Indices


@dataclass(frozen=True, slots=True)
class QueryInputs:
    """Of ``n`` queries.

    Attributes:
        vectors: ``(n, d)`` float32, unit rows.
        features: ``(n, f)`` float32: those of the text, then the similarity to each category that is known.
        queries: the texts.
    """

    vectors: Matrix
    features: Matrix
    queries: Sequence[str]

    def __len__(self) -> int:
        return len(self.queries)

    @classmethod
    def of(cls, queries: Sequence[str], vectors: Matrix, categories: Matrix) -> QueryInputs:
        """The inputs of some queries.

        Args:
            queries: ``n`` texts.
            vectors: ``(n, d)`` unit rows.
            categories: ``(c, d)`` unit rows, one for each category; none where there are no categories.
        """
        vectors = np.ascontiguousarray(vectors, np.float32)
        written = feature_matrix(queries)
        return cls(vectors, np.hstack([written, vectors @ categories.T]) if len(categories) else written, queries)

    @classmethod
    def of_texts(cls, queries: Sequence[str]) -> QueryInputs:
        """The inputs of heads that look at the text alone: without vectors and features."""
        nothing = np.zeros((len(queries), 0), np.float32)
        return cls(nothing, nothing, queries)

    def take(self, rows: Indices) -> QueryInputs:
        """Those of some rows."""
        return QueryInputs(self.vectors[rows], self.features[rows], [self.queries[row] for row in rows.tolist()])
