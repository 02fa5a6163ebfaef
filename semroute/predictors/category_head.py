"""Category head: logistic regression with one hidden layer."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from semroute.arrays import FEW_ROWS, read_npz
from semroute.types import Matrix


@dataclass(frozen=True)
class MlpHead:
    """Multinomial logistic regression on a vector and a ReLU layer over it.

    ``softmax(x @ direct + relu(x @ hidden + hidden_bias) @ output + output_bias)``

    Without hidden units, it is the regression alone.

    Attributes:
        hidden: ``(d, h)`` float32; the scale of the inputs is folded in.
        hidden_bias: ``(h,)`` float32.
        direct: ``(d, categories)`` float32.
        output: ``(h, categories)`` float32.
        output_bias: ``(categories,)`` float32.
    """

    hidden: Matrix
    hidden_bias: Matrix
    direct: Matrix
    output: Matrix
    output_bias: Matrix

    @property
    def kind(self) -> str:
        """Kind of the head in the artifact."""
        return "mlp"

    def probabilities(self, vectors: Matrix) -> Matrix:
        """Return ``(n, categories)`` float32 from ``(n, d)``; rows sum to 1."""
        if 1 < len(vectors) <= FEW_ROWS:
            return np.concatenate([self._probabilities(vector) for vector in vectors[:, None]])
        return self._probabilities(vectors)

    def _probabilities(self, vectors: Matrix) -> Matrix:
        active: Matrix = vectors @ self.hidden
        active += self.hidden_bias
        np.maximum(active, np.float32(0.0), out=active)
        logits: Matrix = active @ self.output
        logits += vectors @ self.direct
        logits += self.output_bias
        logits -= logits.max(axis=1, keepdims=True)
        np.exp(logits, out=logits)
        logits /= logits.sum(axis=1, keepdims=True)
        return logits

    def write(self, path: Path) -> None:
        """Write the arrays as an uncompressed ``.npz`` without pickle."""
        arrays = {field.name: getattr(self, field.name) for field in fields(self)}
        with path.open("wb") as file:
            np.savez(file, **arrays)

    @classmethod
    def read(cls, path: Path) -> MlpHead:
        """Read a head that :meth:`write` wrote.

        Raises:
            KeyError, ValueError: not such a file, or its arrays are of other types or shapes, or not finite.
            OSError: it cannot be read.
        """
        try:
            arrays = read_npz(path)
        except ValueError as error:
            raise ValueError(f"{path}: not the arrays of a head ({error})") from error
        head = cls(**{field.name: np.ascontiguousarray(arrays[field.name]) for field in fields(cls)})
        head._check(path)
        return head

    def _check(self, path: Path) -> None:
        if self.hidden.ndim != 2 or self.direct.ndim != 2:
            raise ValueError(f"{path}: not the arrays of a head (hidden and direct must have two axes)")
        (inputs, units), categories = self.hidden.shape, self.direct.shape[1]
        shapes = {
            "hidden_bias": (units,),
            "direct": (inputs, categories),
            "output": (units, categories),
            "output_bias": (categories,),
        }
        for field in fields(self):
            array = getattr(self, field.name)
            if array.dtype != np.float32 or array.shape != shapes.get(field.name, array.shape):
                actual = f"{field.name} is {array.dtype} {array.shape}"
                raise ValueError(f"{path}: the arrays of the head do not fit together ({actual})")
            if not np.isfinite(array).all():
                raise ValueError(f"{path}: {field.name} of the head holds a number that is not finite")
