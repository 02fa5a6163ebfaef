"""The words of semroute as types; imports nothing of ours.

Values are frozen dataclasses. Protocols are what one layer asks of another, so that siblings need
not import each other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, TypeAlias, runtime_checkable

import numpy as np
from numpy.typing import NDArray

Matrix: TypeAlias = NDArray[np.float32]
"""Row-major ``(n, d)`` float32; rows are unit length where they are embeddings."""

Message: TypeAlias = Mapping[str, object]
"""One chat message, ``{"role": ..., "content": ...}``, in OpenAI's shape: content is text or a list of parts."""

Query: TypeAlias = "str | Sequence[Message]"
"""What the user asks: a string, or the messages of a conversation."""


@dataclass(frozen=True, slots=True)
class CategoryScore:
    """How well a query fits one category, and the score at which it counts as fitting."""

    category: str
    score: float
    threshold: float


@dataclass(frozen=True, slots=True)
class Decision:
    """Which category and models a query goes to, and why.

    Attributes:
        query: the routed text.
        category: the category, or None when nothing clears its threshold.
        model: the first of ``candidates``.
        score: score of the best category, whether or not it cleared its threshold.
        threshold: threshold of the best category.
        confidence: calibrated probability that the best category is the right one, given that the query is in scope.
        is_fallback: True when the general fallback models are used.
        categories: every category with score and threshold, best first; equal scores in alphabetical order.
        candidates: models in the order in which they are to be tried.
        strategy: name of the strategy that decided.
        reason: one sentence for a person.
        elapsed_ms: wall time of the decision, milliseconds.
        steps_ms: the same split by step, milliseconds.
    """

    query: str
    category: str | None
    model: str
    score: float
    threshold: float
    confidence: float
    is_fallback: bool
    categories: Sequence[CategoryScore]
    candidates: tuple[str, ...]
    strategy: str
    reason: str
    elapsed_ms: float
    steps_ms: Mapping[str, float] = field(default_factory=dict)

    def to_dict(self) -> dict[str, object]:
        """The decision as JSON-ready values."""
        return {
            "query": self.query,
            "category": self.category,
            "model": self.model,
            "score": self.score,
            "confidence": self.confidence,
            "threshold": self.threshold,
            "is_fallback": self.is_fallback,
            "categories": [
                {"category": c.category, "score": c.score, "threshold": c.threshold} for c in self.categories
            ],
            "candidates": list(self.candidates),
            "strategy": self.strategy,
            "reason": self.reason,
            "elapsed_ms": self.elapsed_ms,
            "steps_ms": dict(self.steps_ms),
        }


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


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one call as the provider counted them."""

    input_tokens: int
    output_tokens: int


@dataclass(frozen=True, slots=True)
class Attempt:
    """One call of one deployment, answered or not.

    ``latency_ms`` is wall time to the complete answer or to the error; ``error`` is the error's message.
    """

    deployment: str
    model: str
    latency_ms: float
    status: int | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked of a model: messages and the few settings that every provider has."""

    messages: tuple[Message, ...]
    max_tokens: int | None = None
    temperature: float | None = None


@dataclass(frozen=True, slots=True)
class Completion:
    """What a model answered.

    ``model`` is the logical model, ``upstream_model`` the name that the provider answered under; ``usage`` is None
    when the provider did not count.
    """

    text: str
    model: str
    deployment: str
    upstream_model: str
    finish_reason: str | None
    usage: Usage | None
    latency_ms: float
    attempts: tuple[Attempt, ...] = ()
    decision: Decision | None = None
