"""Outcomes made up for the tests of a comparison."""

from __future__ import annotations

import numpy as np

from semroute.outcomes.costs import Costs, with_costs
from semroute.outcomes.table import OutcomeTable, TableBuilder

MODELS = ("small", "large")
PRICE = (0.001, 0.010)


def made_up(n: int = 600, *, seed: int = 0) -> tuple[Costs, np.ndarray, np.ndarray]:
    """Queries of two topics and three tasks: ``small`` is best at the first topic and fails at the second.

    Returns:
        The outcomes, ``(n, 32)`` vectors that tell the topic, and ``(n, 2)`` the true probability of a good answer.
    """
    random = np.random.default_rng(seed)
    topic = random.integers(0, 2, n)
    chance = np.column_stack([np.where(topic, 0.2, 0.98), np.full(n, 0.9)])
    good = random.random((n, 2)) < chance
    builder = TableBuilder()
    for row in range(n):
        place = builder.row(f"query {row} " + "long " * int(random.integers(1, 9)), f"task {row % 3}")
        for model, price, quality in zip(MODELS, PRICE, good[row], strict=True):
            builder.add(place, model, {"quality": float(quality), "cost_usd": price}, None)
    vectors = np.zeros((n, 32))  # enough of them that no two queries of a topic say the same
    vectors[np.arange(n), topic] = 1
    vectors += random.normal(0, 0.1, vectors.shape)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return with_costs(builder.table(), {}), vectors.astype(np.float32), chance.astype(np.float32)


def logged(table: OutcomeTable, *, seed: int = 0) -> OutcomeTable:
    """The same outcomes as a log tells them that asks one model of each query, the larger one of long queries."""
    from dataclasses import replace

    random = np.random.default_rng(seed)
    length = np.array([len(query) for query in table.queries], np.float64)
    large = np.clip(length / length.max(), 0.15, 0.85)
    asked = random.random(len(table)) < large
    known = np.column_stack([~asked, asked])
    chance = np.column_stack([1 - large, large])
    return replace(
        table,
        quality=np.where(known, table.quality, np.nan).astype(np.float32),
        probability=np.where(known, chance, np.nan).astype(np.float32),
    )
