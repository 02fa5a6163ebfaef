"""What trains a head, by the conventions of scikit-learn: the constructor stores, ``fit`` returns self, ``head_`` is
what came of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

from semroute.heads.queries.head import Quality, QueryHead
from semroute.heads.queries.inputs import QueryInputs

Known = NDArray[np.float64]
"""``(n, m)`` quality, NaN where it is not known; each model is known somewhere."""


class Estimator(Protocol):
    """Trains one head."""

    @property
    def head_(self) -> QueryHead:
        """What was trained last."""
        ...

    def fit(self, inputs: QueryInputs, quality: Known) -> Self:
        """Train on ``n`` queries and the ``(n, m)`` quality of the answers to them."""
        ...


def out_of_fold(
    make: Estimator, inputs: QueryInputs, quality: Known, train: NDArray[np.int64], test: NDArray[np.int64]
) -> Quality:
    """``(len(test), m)`` predictions by what was fitted on other rows."""
    return make.fit(inputs.take(train), quality[train]).head_.predict(inputs.take(test))


def group_by_missingness(quality: Known) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Columns that are known in the same rows, with these rows: they can be fitted at once.

    In complete outcomes these are all models; a model that joined later stands alone.
    """
    known = np.isfinite(quality)
    patterns, group = np.unique(known.T, axis=0, return_inverse=True)
    for number, pattern in enumerate(patterns):
        yield np.flatnonzero(group.reshape(-1) == number), np.flatnonzero(pattern)
