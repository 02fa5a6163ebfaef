"""Held-out scores: how a build knows what its choices are worth before it makes them on all examples."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from semroute.index.prototypes import PrototypeIndex
from semroute.learn.head_training import HeadPlan, train_heads
from semroute.learn.prototypes import category_prototypes
from semroute.types import Matrix

FOLDS = 5
ONE_SPLIT_FROM = 6_000
"""Examples from which one held-out fifth is as good as five folds: its standard error is below half a point."""

PROTOTYPE_CHOICES = (1, 2, 4, 8, 16, 32, 64)
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Split:
    """Rows to fit on and rows to hold out."""

    fit: NDArray[np.int64]
    held: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class HeldOut:
    """What models fitted without an example say of it.

    Attributes:
        labels: ``(m,)`` true category of each held-out example.
        similarities: per number of prototypes, ``(m, categories)``.
        probabilities: ``(m, categories)`` of the head; None when no head is trained.
    """

    labels: NDArray[np.int64]
    similarities: dict[int, Matrix]
    probabilities: Matrix | None


def splits(labels: NDArray[np.int64], *, seed: int) -> list[Split]:
    """Stratified folds; a single example of a category is never held out, since nothing else stands for it.

    Five folds, or one held-out fifth from :data:`ONE_SPLIT_FROM` examples on.
    """
    random = np.random.default_rng(seed)
    fold = np.full(len(labels), -1, dtype=np.int64)
    for category in range(int(labels.max()) + 1):
        rows = random.permutation(np.flatnonzero(labels == category))
        if len(rows) > 1:
            fold[rows] = (np.arange(len(rows)) + category) % FOLDS
    numbers = range(1) if len(labels) >= ONE_SPLIT_FROM else range(FOLDS)
    found = [Split(np.flatnonzero(fold != number), np.flatnonzero(fold == number)) for number in numbers]
    return [split for split in found if len(split.held)]


def held_out_scores(
    vectors: Matrix,
    labels: NDArray[np.int64],
    plan: Sequence[Split],
    *,
    head: HeadPlan | None,
    seed: int,
    progress: Progress = lambda step, done, total: None,
) -> HeldOut:
    """Fit prototypes of every choice, and the head, on each split, and score what it held out.

    Args:
        vectors: ``(n, d)`` unit rows.
        labels: ``(n,)`` category numbers from 0.
        plan: the splits.
        head: settings of the head, or None for none.
        seed: of k-means.
        progress: called with the splits done and their total.
    """
    choices = prototype_choices(labels)
    similarities: dict[int, list[Matrix]] = {choice: [] for choice in choices}
    for split in plan:
        for choice in choices:
            prototypes, counts = category_prototypes(vectors[split.fit], labels[split.fit], choice, seed=seed)
            index = PrototypeIndex.build(prototypes, counts)
            similarities[choice].append(index.similarities(vectors[split.held]))
    progress("validating", 0, len(plan))
    return HeldOut(
        labels=np.concatenate([labels[split.held] for split in plan]),
        similarities={choice: np.concatenate(parts) for choice, parts in similarities.items()},
        probabilities=None if head is None else _head_probabilities(vectors, labels, plan, head, progress),
    )


def _head_probabilities(
    vectors: Matrix, labels: NDArray[np.int64], plan: Sequence[Split], head: HeadPlan, progress: Progress
) -> Matrix:
    data = [(vectors[split.fit], labels[split.fit]) for split in plan]
    heads = train_heads(data, int(labels.max()) + 1, head, lambda done: progress("validating", done, len(plan)))
    return np.concatenate(
        [trained.probabilities(vectors[split.held]) for trained, split in zip(heads, plan, strict=True)]
    )


def prototype_choices(labels: NDArray[np.int64]) -> list[int]:
    """Numbers of prototypes worth trying: those that the largest category can fill with three examples each."""
    largest = int(np.bincount(labels).max())
    return [choice for choice in PROTOTYPE_CHOICES if choice == 1 or choice * 3 <= largest]
