"""What predicts how well models will do, and what counts tokens."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, TypeAlias, runtime_checkable

from semroute.types.vectors import Matrix

TokenCounter: TypeAlias = Callable[[Sequence[str]], Sequence[int]]
"""Texts to the number of tokens of each."""


@runtime_checkable
class QualityPredictor(Protocol):
    """Predicts the quality of every model's answer before any model is asked."""

    @property
    def models(self) -> tuple[str, ...]:
        """The models, in the order of the columns that :meth:`predict` gives."""
        ...

    @property
    def needs_vectors(self) -> bool:
        """Whether :meth:`predict` looks at vectors; else they may have no columns."""
        ...

    def predict(self, texts: Sequence[str], vectors: Matrix) -> Matrix:
        """``(n, models)`` float32 in 0..1 from ``n`` texts and their ``(n, d)`` unit vectors."""
        ...
