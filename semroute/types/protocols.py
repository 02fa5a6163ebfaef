"""Protocols between layers: model clients, encoders, scorers, predictors."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeAlias, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from semroute.types.chat import Completion, Delta, Request
from semroute.types.decision import Decision


@dataclass(frozen=True, slots=True)
class CallEstimate:
    """Estimate of calling a candidate now: price, latency, availability.

    Attributes:
        usd: expected charge of its cheapest open endpoint, with the longest answer; None where no price is known.
        expected_s: median latency of its fastest open endpoint; None where it was not measured yet.
        closed: why none of its endpoints can be called now; None where one can.
        wait_s: seconds until one may be called; None where none is closed or no waiting helps.
    """

    usd: float | None = None
    expected_s: float | None = None
    closed: str | None = None
    wait_s: float | None = None


OnDelta: TypeAlias = Callable[[Delta], Awaitable[None]]
"""Callback for the pieces of a streamed answer; the call goes on when it returns."""


class ModelClient(Protocol):
    """Client that calls models within the limits of one request.

    Limits are regions, a price ceiling and the like. Strategies and checks lie below dispatch and are handed one.
    ``candidates`` are models and groups in the order in which they are to be tried; every method raises a
    :class:`~semroute.errors.DispatchError` that carries the attempts.
    """

    async def complete(
        self,
        request: Request,
        candidates: Sequence[str],
        *,
        deadline_s: float | None = None,
        reserve_s: float = 0.0,
        total_usd: float | None = None,
        on_delta: OnDelta | None = None,
    ) -> Completion:
        """Return the whole answer, within ``deadline_s`` seconds.

        A model that stays silent leaves ``reserve_s`` of them to other calls.

        The attempts together may be expected to cost ``total_usd`` at most; None does not bound them. With
        ``on_delta`` the answer is streamed: it gets the pieces as they arrive.
        """
        ...

    async def estimate(self, request: Request, candidates: Sequence[str]) -> CallEstimate:
        """Return the estimate of a call now, without making one."""
        ...


# Vectors, encoders, classifiers and category scorers.

Matrix: TypeAlias = NDArray[np.float32]
"""Row-major ``(n, d)`` float32; rows are unit length where they are embeddings."""
Doubles: TypeAlias = NDArray[np.float64]
Indices: TypeAlias = NDArray[np.int64]
"""Row numbers, or class numbers."""

Progress: TypeAlias = Callable[[str, int, int], None]
"""Callback with the name of a step, the items done, and the total."""

Revision: TypeAlias = Callable[[Decision], Decision]
"""Revision of a routing decision before it is answered."""

StepProgress: TypeAlias = Callable[[int, int], None]
"""Callback with the items done of one step, and the total."""


def silent(step: str, done: int, total: int) -> None:
    """Show nothing: the :data:`Progress` of a caller that waits in silence."""


@runtime_checkable
class Encoder(Protocol):
    """Encoder of texts to unit-length vectors.

    ``fingerprint`` changes whenever the same text could get another vector; ``name`` is for people.
    """

    @property
    def name(self) -> str: ...

    @property
    def fingerprint(self) -> str: ...

    @property
    def dimensions(self) -> int: ...

    def encode(self, texts: Sequence[str]) -> Matrix:
        """Embed texts of any length (truncated by tokens).

        The result is ``(len(texts), dimensions)`` with unit rows.
        """
        ...


class Head(Protocol):
    """Trained classifier of vectors."""

    @property
    def kind(self) -> str:
        """Kind of the classifier in the artifact."""
        ...

    def probabilities(self, vectors: Matrix) -> Matrix:
        """Return category probabilities of vectors; rows sum to 1.

        From ``(n, d)`` unit vectors to ``(n, categories)`` float32.
        """
        ...

    def write(self, path: Path) -> None:
        """Write its arrays to ``path``, without pickle."""
        ...


class CategoryScorer(Protocol):
    """Scorer of categories, with calibrated confidence in the best one."""

    def scores(self, vectors: Matrix) -> Matrix:
        """Return ``(n, categories)`` float32 scores of ``(n, d)`` unit vectors."""
        ...

    def confidence(self, scores: Matrix) -> NDArray[np.float64]:
        """Return the probability that each row's best category is right.

        The shape is ``(n,)``; the probability is conditional on the query being in scope.
        """
        ...


# Quality predictors and token counters.

TokenCounter: TypeAlias = Callable[[Sequence[str]], Sequence[int]]
"""Function from texts to the token count of each."""


@runtime_checkable
class QualityPredictor(Protocol):
    """Predictor of every model's answer quality before any model is called."""

    @property
    def models(self) -> tuple[str, ...]:
        """Models in the order of :meth:`predict`'s columns."""
        ...

    @property
    def needs_vectors(self) -> bool:
        """True if :meth:`predict` uses vectors; else they may have no columns."""
        ...

    def predict(self, texts: Sequence[str], vectors: Matrix) -> Matrix:
        """Predict the quality of every model's answer to every query.

        The result is ``(n, models)`` float32 in 0..1, from ``n`` texts and their ``(n, d)`` unit vectors.
        """
        ...


@runtime_checkable
class NoveltyPredictor(QualityPredictor, Protocol):
    """Predictor that also marks queries unlike those that it was trained on."""

    def assess(self, texts: Sequence[str], vectors: Matrix) -> tuple[Matrix, NDArray[np.bool_] | None]:
        """Predict as :meth:`predict` does, with an ``(n,)`` mask of novelty.

        It marks the queries unlike the training queries.

        The mask is None where that is not known.
        """
        ...


@runtime_checkable
class SignalPredictor(QualityPredictor, Protocol):
    """Predictor that also takes the signals of the queries' conversations."""

    @property
    def needs_signals(self) -> bool:
        """True if :meth:`assess` uses signals."""
        ...

    def assess(
        self, texts: Sequence[str], vectors: Matrix, signals: Sequence[Mapping[str, float]] | None = None
    ) -> tuple[Matrix, NDArray[np.bool_] | None]:
        """Predict with the signals of each text's conversation.

        See :class:`NoveltyPredictor`.
        """
        ...


# Trained judge of answers, for cascades.


class AnswerScorer(Protocol):
    """Estimator of the probability that an answer is acceptable. Thread-safe."""

    @property
    def threshold(self) -> float:
        """Default acceptance threshold on the probability."""
        ...

    @property
    def wants_logprobs(self) -> bool:
        """True if it uses log probabilities of tokens."""
        ...

    def probability(self, query: str, answer: str, logprobs: Sequence[float] = ()) -> float:
        """Return the probability that ``answer`` is acceptable, 0 to 1.

        ``logprobs`` are those of its tokens, where there are any.
        """
        ...
