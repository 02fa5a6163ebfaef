"""A model call for those who must not know how calls are made."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeAlias, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from semroute.types.chat import Completion, Delta, Request


@dataclass(frozen=True, slots=True)
class CallEstimate:
    """What calling a candidate now would mean.

    Attributes:
        usd: what its cheapest open place is expected to charge, with the longest answer; None where no price is known.
        expected_s: median time that its fastest open place takes; None where it was not measured yet.
        closed: why no place of it can be called now; None where one can.
        wait_s: seconds until one may be called; None where none is closed or no waiting helps.
    """

    usd: float | None = None
    expected_s: float | None = None
    closed: str | None = None
    wait_s: float | None = None


class ModelClient(Protocol):
    """Calls models within the limits of one request (regions, price ceiling and the like), whoever asks.

    What decides or checks lies below dispatch and is handed one. ``candidates`` are models and groups in the order in
    which they are to be tried; every method raises a :class:`~semroute.errors.DispatchError` that carries the attempts.
    """

    async def complete(
        self,
        request: Request,
        candidates: Sequence[str],
        *,
        deadline_s: float | None = None,
        reserve_s: float = 0.0,
        total_usd: float | None = None,
    ) -> Completion:
        """The whole answer, within ``deadline_s`` seconds, of which silence leaves ``reserve_s`` to other calls.

        The attempts together may be expected to cost ``total_usd`` at most; None does not bound them.
        """
        ...

    def stream(
        self,
        request: Request,
        candidates: Sequence[str],
        *,
        deadline_s: float | None = None,
        reserve_s: float = 0.0,
        total_usd: float | None = None,
    ) -> AsyncGenerator[Delta | Completion]:
        """The answer as it arrives, within the same; the completion comes last."""
        ...

    async def outlook(self, request: Request, candidates: Sequence[str]) -> CallEstimate:
        """What a call would mean now; makes none."""
        ...


# Vectors, and what makes and scores them.

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


# What predicts how well models will do, and what counts tokens.

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


# A trained judge of answers, as a cascade sees it.


class AnswerScorer(Protocol):
    """Tells how probable it is that an answer is acceptable. Safe to share between threads."""

    @property
    def threshold(self) -> float:
        """Probability from which an answer should be accepted, unless the configuration says otherwise."""
        ...

    @property
    def wants_logprobs(self) -> bool:
        """Whether log probabilities of tokens help it."""
        ...

    def probability(self, query: str, answer: str, logprobs: Sequence[float] = ()) -> float:
        """The probability that ``answer`` is acceptable, 0 to 1; ``logprobs`` of its tokens, where there are any."""
        ...
