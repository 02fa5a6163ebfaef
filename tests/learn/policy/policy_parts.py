"""Parts on which a cheap model fails at some queries, and everything that could tell it does."""

from __future__ import annotations

import numpy as np

from semroute.index import BothScores
from semroute.learn.policy.families import PolicyData

MODELS = ("small", "large")


def part(n: int, *, seed: int = 0, skill: float = 1.0) -> PolicyData:
    """``n`` rows of two categories; the small model fails at half of the second and at a few of the first.

    ``skill`` of the rows have predictions and checks that know the truth; the others are guessed.
    """
    random = np.random.default_rng(seed)
    category = random.integers(0, 2, n)
    fails = random.random(n) < np.where(category == 1, 0.6, 0.05)
    large = (random.random(n) < 0.95).astype(np.float32)
    quality = np.column_stack([1.0 - fails, large]).astype(np.float32)
    known = random.random(n) < skill
    said = np.where(known, np.where(fails, 0.1, 0.95), 0.6)
    cost = np.tile(np.array([0.001, 0.02], np.float32), (n, 1))
    scores = np.where(np.arange(2) == category[:, None], 0.8, 0.1).astype(np.float32)
    predicted = np.column_stack([said, np.full(n, 0.95)]).astype(np.float32)
    return PolicyData(quality, cost, predicted, cost, BothScores(None, scores), {0: said}, np.arange(n))
