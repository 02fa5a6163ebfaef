"""A logistic head with one hidden layer beside the direct path."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from semroute.types import Matrix


@dataclass(frozen=True)
class MlpHead:
    """Multinomial logistic regression on a vector and on one hidden layer of rectified units over it.

    ``softmax(x @ direct + relu(x @ hidden + hidden_bias) @ output + output_bias)``

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
        """What the artifact calls it."""
        return "mlp"

    def probabilities(self, vectors: Matrix) -> Matrix:
        """``(n, categories)`` float32 from ``(n, d)``; rows sum to 1."""
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
        """Read what :meth:`write` wrote.

        Raises:
            KeyError, ValueError: not such a file.
        """
        # NumPy would leave a damaged file open.
        with path.open("rb") as file:
            try:
                with np.load(file, allow_pickle=False) as arrays:
                    return cls(**{field.name: np.ascontiguousarray(arrays[field.name]) for field in fields(cls)})
            except (BadZipFile, EOFError, TypeError) as error:
                raise ValueError(f"{path}: not the arrays of a head ({error})") from error
