"""Vectors, and what makes and scores them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, TypeAlias, runtime_checkable

import numpy as np
from numpy.typing import NDArray

Matrix: TypeAlias = NDArray[np.float32]
"""Row-major ``(n, d)`` float32; rows are unit length where they are embeddings."""
Doubles: TypeAlias = NDArray[np.float64]
Indices: TypeAlias = NDArray[np.int64]
"""Numbers of rows, or of classes."""


@runtime_checkable
class Encoder(Protocol):
    """Text to unit-length vectors.

    ``fingerprint`` changes whenever the same text could get another vector; ``name`` is for people.
    """

    @property
    def name(self) -> str: ...

    @property
    def fingerprint(self) -> str: ...

    @property
    def dimensions(self) -> int: ...

    def encode(self, texts: Sequence[str]) -> Matrix:
        """Embed texts of any length (truncated by tokens); returns ``(len(texts), dimensions)``, unit rows."""
        ...


class Head(Protocol):
    """A trained classifier over vectors."""

    @property
    def kind(self) -> str:
        """What the artifact calls it."""
        ...

    def probabilities(self, vectors: Matrix) -> Matrix:
        """``(n, categories)`` float32 from ``(n, d)`` unit vectors; rows sum to 1."""
        ...

    def write(self, path: Path) -> None:
        """Write its arrays to ``path``, without pickle."""
        ...


class CategoryScorer(Protocol):
    """Scores of all categories, and how much the best of them can be trusted."""

    def scores(self, vectors: Matrix) -> Matrix:
        """``(n, categories)`` float32 scores of ``(n, d)`` unit vectors."""
        ...

    def confidence(self, scores: Matrix) -> NDArray[np.float64]:
        """``(n,)`` probability that the best category of each row is right, given that the query is in scope."""
        ...
