"""Outcomes that a classifier can learn from: the small model fails at sums, and at one of the topics."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from semroute.predictors.query_quality import CallCosts
from semroute.types import Matrix

MODELS = ("small", "large")
DIMENSIONS = 8


@dataclass(frozen=True)
class Made:
    """``n`` queries with vectors and ``(n, 2)`` quality."""

    queries: list[str]
    vectors: Matrix
    quality: NDArray[np.float64]


def made(n: int, *, seed: int = 0, noise: float = 0.1) -> Made:
    """Queries of four topics, every other one a sum; ``noise`` of the small model's answers are drawn at random."""
    random = np.random.default_rng(seed)
    topics = np.eye(4, DIMENSIONS)
    topic = random.integers(0, 4, n)
    vectors = topics[topic] + random.normal(0, 0.15, (n, DIMENSIONS))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    is_sum = random.random(n) < 0.5
    fails = is_sum | (topic == 3)
    drawn = random.random(n) < noise
    small = np.where(drawn, random.random(n) < 0.5, ~fails)
    large = random.random(n) < 0.9
    words = ("cats", "ships", "stars", "taxes")
    queries = [
        f"Calculate {a} + {a * 3} = x^2 about {words[t]} number {i}"
        if s
        else f"Tell me about {words[t]}, please, {i} times"
        for i, (t, s, a) in enumerate(
            zip(topic.tolist(), is_sum.tolist(), random.integers(1, 99, n).tolist(), strict=True)
        )
    ]
    return Made(queries, vectors.astype(np.float32), np.column_stack([small, large]).astype(np.float64))


def costs_of(models: tuple[str, ...] = MODELS) -> CallCosts:
    """A dollar a million tokens for the first model, ten times as much for each that follows; 100 tokens of output."""
    price = np.array([[10.0**place / 1e6 for place in range(len(models))]] * 2)
    row = np.full((1, len(models)), 100.0)
    return CallCosts(models, (), price, np.ones(len(models)), row, row * 0.0)


def no_categories() -> Matrix:
    """For a classifier that knows no categories."""
    return np.zeros((0, DIMENSIONS), np.float32)
