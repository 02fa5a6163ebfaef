"""The log probabilities of an answer's tokens, as numbers.

Quantiles tell more than the mean, which one long fluent answer can hide a wild guess in: Gupta et al., "Language Model
Cascades: Token-level uncertainty and beyond", ICLR 2024, https://arxiv.org/abs/2404.10136.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

QUANTILES = (0.0, 0.05, 0.1, 0.25, 0.5, 0.75)
LEAST = -20.0
"""Log probabilities below are cut: servers write a probability of 0 as a large negative number."""

TOKENS = (
    *(f"quantile {level:g}" for level in QUANTILES),
    "mean", "first", "last", "unlikely", "tokens", "no log probabilities",
)  # fmt: skip
"""Names of the features."""


def token_features(logprobs: Sequence[float]) -> list[float]:
    """Quantiles of the log probabilities, their mean, the first and last token's, the share of tokens below one half,
    and the logarithm of their number; NaN, but for the last that says so, where there are none.
    """
    if not len(logprobs):
        return [math.nan] * (len(TOKENS) - 1) + [1.0]
    values = np.clip(np.asarray(logprobs, np.float64), LEAST, 0.0)
    return [
        *map(float, np.quantile(values, QUANTILES)),
        float(values.mean()),
        float(values[0]),
        float(values[-1]),
        float((values < math.log(0.5)).mean()),
        math.log1p(len(values)),
        0.0,
    ]
