"""The classifier as it serves: arrays, and numpy to multiply them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from semroute.heads.answers.shape import SHAPE, shape
from semroute.heads.answers.tokens import TOKENS, token_features
from semroute.heads.answers.words import BUCKETS, hashed

Vector = NDArray[np.float64]
NO_LOGPROBS: tuple[float, ...] = ()
CUT = 5.0
"""Standard deviations at which a feature is cut, so that no odd text is beyond all that was seen."""

BLOCKS = {"shape": SHAPE, "tokens": TOKENS}
"""Dense features by block; the third block, ``words``, is hashed."""


@dataclass(frozen=True)
class AnswerClassifier:
    """Logistic regression on the shape of query and answer, on their words, and on log probabilities of tokens.

    ``1 / (1 + exp(-(weights . clip((x - mean) / scale) + answer_words . h(answer) + query_words . h(query) + bias)))``

    Attributes:
        blocks: which of ``shape``, ``words`` and ``tokens`` it looks at, in this order.
        mean, scale, weights: ``(f,)`` float64 of the dense features; one that is not known counts as its mean.
        answer_words, query_words: ``(4096,)`` float64, zero without the block ``words``.
        bias: float; the calibration is folded into all of them.
        threshold: probability from which an answer should be accepted, unless the configuration says otherwise.
    """

    blocks: tuple[str, ...]
    mean: Vector
    scale: Vector
    weights: Vector
    answer_words: Vector
    query_words: Vector
    bias: float
    threshold: float = 0.5

    @property
    def wants_logprobs(self) -> bool:
        """Whether it looks at log probabilities of tokens; without them it judges by the rest."""
        return "tokens" in self.blocks

    def probability(self, query: str, answer: str, logprobs: Sequence[float] = NO_LOGPROBS) -> float:
        """The probability that the answer is acceptable, 0 to 1.

        Args:
            query: the routed text.
            answer: the model's.
            logprobs: of the answer's tokens, natural logarithms; empty where there are none.
        """
        score = self.bias + float(self.weights @ scaled(dense(self.blocks, query, answer, logprobs), self))
        if "words" in self.blocks:
            for text, words in ((answer, self.answer_words), (query, self.query_words)):
                buckets, weights = hashed(text)
                score += float(words[buckets] @ weights)
        # math.exp overflows beyond 709; 40 is beyond what a double can tell from certainty.
        return 1.0 / (1.0 + math.exp(-min(40.0, max(-40.0, score))))


def dense(blocks: Sequence[str], query: str, answer: str, logprobs: Sequence[float]) -> Vector:
    """``(f,)`` dense features of the blocks, in their order."""
    parts: list[float] = []
    if "shape" in blocks:
        parts += shape(query, answer).values()
    if "tokens" in blocks:
        parts += token_features(logprobs)
    return np.array(parts, dtype=np.float64)


def scaled(features: Vector, by: AnswerClassifier) -> Vector:
    """``(f,)`` or ``(n, f)`` features as standard deviations from their means, cut, unknown ones 0."""
    return np.nan_to_num(np.clip((features - by.mean) / by.scale, -CUT, CUT), nan=0.0)


def feature_names(blocks: Sequence[str]) -> tuple[str, ...]:
    """Names of the dense features of some blocks."""
    return tuple(name for block, names in BLOCKS.items() if block in blocks for name in names)


def no_words() -> Vector:
    """Weights of words for a classifier that looks at none."""
    return np.zeros(BUCKETS)
