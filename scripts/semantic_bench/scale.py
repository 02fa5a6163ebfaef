"""Overhead of a decision by the number of prototypes and categories.

Measured without the encoder.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from semroute.index import PrototypeIndex, Scorer
from semroute.learn.category_head import HeadPlan
from semroute.predictors.category_head import MlpHead
from semroute.router import Router
from semroute.strategies import CategoryMatcher
from semroute.types import Matrix

PROTOTYPES = (10, 30, 100, 300, 1_000, 3_000, 9_999, 10_000, 100_000)
LARGEST = 1_000_000
CATEGORIES = (2, 5, 10, 20, 50, 100, 200, 500, 1_000)
FIXED_CATEGORIES, FIXED_PROTOTYPES = 10, 1_000
"""The fixed number while the other one changes."""

GOAL_MS = 0.1
"""Maximum overhead of a decision without the encoder, up to 1,000 prototypes."""

TEXTS = 200
ROUNDS = 5


@dataclass(frozen=True, slots=True)
class Cost:
    """Wall time of ``Router.route`` for a text with a cached vector.

    In milliseconds.
    """

    prototypes: int
    categories: int
    head: bool
    exact: bool
    p50: float
    p99: float


def measure_all(router: Router, texts: Sequence[str], *, largest: bool) -> dict[str, list[Cost]]:
    """Return overheads by the varied quantity.

    They are ``prototypes`` without a head, ``categories`` without and with one, and ``built`` as it is.
    """
    numbers = [*PROTOTYPES, *([LARGEST] if largest else [])]
    chosen = list(dict.fromkeys(texts))[:TEXTS]
    return {
        "built": [time_router(router, chosen)],
        "prototypes": [time_router(with_random(router, number, FIXED_CATEGORIES), chosen) for number in numbers],
        "categories": [time_router(with_random(router, FIXED_PROTOTYPES, number), chosen) for number in CATEGORIES],
        "categories_head": [
            time_router(with_random(router, FIXED_PROTOTYPES, number, head=True), chosen) for number in CATEGORIES
        ],
    }


def with_random(router: Router, prototypes: int, categories: int, *, head: bool = False) -> Router:
    """Return the router over random prototypes, with its own encoder.

    ``head`` adds a random head.
    """
    random = np.random.default_rng(0)
    dimensions = router.live.encoder.dimensions
    groups = np.diff(np.linspace(0, prototypes, categories + 1).astype(int))
    index = PrototypeIndex.build(random_units(random, prototypes, dimensions), groups.tolist())
    scorer = Scorer(
        index,
        random_head(random, dimensions, categories) if head else None,
        0.5 if head else 0.0,
        router.live.artifact.manifest.calibration,
    )
    names = tuple(f"category {number:04}" for number in range(categories))
    semantic = CategoryMatcher(names, np.full(categories, 0.4))
    models = dict.fromkeys(names, router.live.fallback)
    return Router(replace(router.live, scorer=scorer, first=None, semantic=semantic, models=models), router.config)


def random_units(random: np.random.Generator, count: int, dimensions: int) -> Matrix:
    """Return ``(count, dimensions)`` unit rows in random directions."""
    vectors = random.standard_normal((count, dimensions), dtype=np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors


def random_head(random: np.random.Generator, dimensions: int, categories: int) -> MlpHead:
    """Return a head of the size that a build trains."""
    hidden = HeadPlan().hidden

    def weights(*shape: int) -> Matrix:
        return random.standard_normal(shape, dtype=np.float32)

    return MlpHead(
        hidden=weights(dimensions, hidden),
        hidden_bias=weights(hidden),
        direct=weights(dimensions, categories),
        output=weights(hidden, categories),
        output_bias=weights(categories),
    )


def time_router(router: Router, texts: Sequence[str]) -> Cost:
    """Return the medians of the rounds' p50 and p99."""
    scorer = router.live.scorer
    assert isinstance(scorer, Scorer)
    router.route_many(list(texts))
    rounds = []
    for _ in range(ROUNDS):
        times = []
        for text in texts:
            start = time.perf_counter()
            router.route(text)
            times.append((time.perf_counter() - start) * 1000.0)
        rounds.append(np.percentile(times, [50, 99]))
    p50, p99 = np.median(rounds, axis=0)
    counts = scorer.prototypes.counts
    return Cost(sum(counts), len(counts), scorer.head is not None, scorer.prototypes.exact, float(p50), float(p99))
