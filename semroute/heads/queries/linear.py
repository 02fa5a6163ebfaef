"""A straight line for each model over vector and features."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from semroute.heads.queries.head import Arrays, Quality
from semroute.heads.queries.inputs import QueryInputs

CUT = 3.0
"""Standard deviations at which a feature is cut, so that no odd query is beyond all that was seen."""

VECTOR_WEIGHT = 20.0
"""What a vector's unit length counts beside one standard deviation of a feature, under the same penalty."""


@dataclass(frozen=True)
class LinearHead:
    """``weights . [20 vector, clip((features - mean) / scale)] + bias``.

    Attributes:
        mean, scale: ``(f,)`` float64 of the features.
        weights: ``(d + f, m)`` float64.
        bias: ``(m,)`` float64.
    """

    mean: NDArray[np.float64]
    scale: NDArray[np.float64]
    weights: NDArray[np.float64]
    bias: NDArray[np.float64]

    kind: ClassVar[str] = "linear"
    needs_vectors: ClassVar[bool] = True

    def predict(self, inputs: QueryInputs) -> Quality:
        """``(n, m)`` predicted quality."""
        return np.asarray(design_matrix(inputs, self.mean, self.scale) @ self.weights + self.bias)

    def arrays(self) -> Arrays:
        """Everything that it is made of, by name."""
        return {"mean": self.mean, "scale": self.scale, "weights": self.weights, "bias": self.bias}

    @classmethod
    def from_arrays(cls, arrays: Arrays) -> Self:
        """The head of these arrays."""
        return cls(*(np.asarray(arrays[name], np.float64) for name in ("mean", "scale", "weights", "bias")))


def design_matrix(inputs: QueryInputs, mean: NDArray[np.float64], scale: NDArray[np.float64]) -> NDArray[np.float64]:
    """``(n, d + f)`` what the line runs over."""
    standard = np.clip((inputs.features - mean) / scale, -CUT, CUT)
    return np.hstack([inputs.vectors * VECTOR_WEIGHT, standard])
