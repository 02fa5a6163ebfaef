"""Novelty of a query: distance from the training queries, and its effect.

Random left-out rows flatter a classifier: each has near relatives in training. A query of a new kind has none, and what
heads and calibration are worth there is validated on whole tasks, or clusters of vectors, that were left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

import faiss
import numpy as np
from numpy.typing import NDArray

from semroute.predictors.quality_heads import Arrays, Quality, calibrated, stacked
from semroute.types import Matrix

Doubles = NDArray[np.float64]

NEAREST = 5
"""Number of nearest training queries whose mean distance counts."""
LONGEST = 2.0
"""Log lengths from the mean at which the length rule stops: about a seventh and seven times the mean length."""
WITHIN = 0.5
"""Largest share of the unseen stack within the limit: few kinds may make it too cautious (MMLU-Pro)."""
_WIDTH = 1e-6
_STACK = ("weights", "slope", "shift")


def log_lengths(queries: Sequence[str]) -> Doubles:
    """Return ``(n,)`` logarithms of one plus the characters of each query."""
    return np.log1p(np.fromiter(map(len, queries), np.float64, len(queries)))


def length_column(lengths: Doubles, mean_length: float, prior: Doubles) -> Quality:
    """Return the ``(n, m)`` deviation by the length rule, for weight 1.

    Errors of all models grow by the same factor, so that a weaker model loses more and longer queries go to the
    stronger one. It is the rule that is left where nothing else carries over.
    """
    return -np.clip(lengths - mean_length, -LONGEST, LONGEST)[:, None] * (1.0 - prior)


@dataclass(frozen=True)
class UnseenStack:
    """Weights and calibration of the heads for queries of a new kind.

    ``prior + sum of weight * (head - prior) + length weight * length``, then calibrated.

    Attributes:
        weights: ``(h,)`` of the heads, at least 0.
        slope, shift: ``(m,)`` of the calibration.
        length: mean log length of the training queries, and the weight of the length rule.
    """

    weights: Doubles
    slope: Doubles
    shift: Doubles
    length: tuple[float, float]

    def predict(self, predictions: Sequence[Quality], prior: Doubles, lengths: Doubles) -> Quality:
        """Return ``(n, m)`` calibrated quality from heads and lengths.

        For the lengths see :func:`log_lengths`.
        """
        mean_length, weight = self.length
        raw = stacked(predictions, prior, self.weights) + weight * length_column(lengths, mean_length, prior)
        return calibrated(raw, self.slope, self.shift)


@dataclass(frozen=True)
class Novelty:
    """Distance from the training queries, and the stack for distant ones.

    Attributes:
        references: ``(r, d)`` float16 unit rows: training queries, or a sample of them.
        near: distance up to which the stack for near queries answers alone.
        far: distance from which both have the same weight; in between that of the unseen stack grows.
        limit: distance beyond which a query is unlike the training queries, and the unseen stack answers alone.
        unseen: the stack for queries of a new kind.
        takes_over: False where that stack did not predict kinds that were left out better; it then answers nothing,
            and distance only marks a query.
    """

    references: NDArray[np.float16]
    near: float
    far: float
    limit: float
    unseen: UnseenStack
    takes_over: bool = True
    _index: Any = field(init=False, repr=False, compare=False)

    PREFIX: ClassVar[str] = "novelty."

    def __post_init__(self) -> None:
        index = faiss.IndexFlatIP(self.references.shape[1])
        index.add(np.ascontiguousarray(self.references, np.float32))
        object.__setattr__(self, "_index", index)

    def distances(self, vectors: Matrix) -> Doubles:
        """Return ``(n,)`` one minus the mean cosine of the nearest references."""
        if not len(vectors):
            return np.zeros(0)
        cosines, _ = self._index.search(np.ascontiguousarray(vectors), min(NEAREST, len(self.references)))
        return np.asarray(1.0 - cosines.mean(axis=1, dtype=np.float64))

    def share(self, distances: Doubles) -> Doubles:
        """Return ``(n,)`` the share of the unseen stack in a prediction."""
        if not self.takes_over:
            return np.zeros(len(distances))
        grown = np.clip((distances - self.near) / max(self.far - self.near, _WIDTH), 0.0, 1.0)
        return np.asarray(np.where(distances > self.limit, 1.0, WITHIN * grown))

    def arrays(self) -> Arrays:
        """Return the arrays, by name."""
        named = {name: getattr(self.unseen, name) for name in _STACK}
        named["scalars"] = np.array([self.near, self.far, self.limit, *self.unseen.length, self.takes_over])
        named["references"] = self.references
        return {f"{self.PREFIX}{name}": values for name, values in named.items()}

    @classmethod
    def from_arrays(cls, arrays: Arrays, *, heads: int, models: int, dimensions: int) -> Self | None:
        """Build it from a classifier's arrays; None for older artifacts.

        Raises:
            KeyError, ValueError: the arrays are not those of a novelty.
        """
        own = {name.removeprefix(cls.PREFIX): v for name, v in arrays.items() if name.startswith(cls.PREFIX)}
        if not own:
            return None
        references = np.asarray(own["references"], np.float16)
        numbers = {name: np.asarray(own[name], np.float64) for name in ("scalars", *_STACK)}
        sizes = {"scalars": 6, "weights": heads, "slope": models, "shift": models}
        if any(numbers[name].shape != (size,) for name, size in sizes.items()):
            raise ValueError("the arrays of the novelty are of the wrong sizes")
        if references.ndim != 2 or not len(references) or references.shape[1] != dimensions:
            raise ValueError("the references of the novelty are not vectors of the encoder")
        if not np.isfinite(references).all() or not all(np.isfinite(values).all() for values in numbers.values()):
            raise ValueError("the novelty holds a number that is not finite")
        near, far, limit, mean_length, weight, takes_over = numbers["scalars"].tolist()
        stack = UnseenStack(numbers["weights"], numbers["slope"], numbers["shift"], (mean_length, weight))
        return cls(references, near, far, limit, stack, bool(takes_over))
