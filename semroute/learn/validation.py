"""Held-out scores: how a build knows what its choices are worth before it makes them on all examples."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from semroute.heads import MlpHead
from semroute.index.prototypes import PrototypeIndex
from semroute.inference.graph import available_cores
from semroute.learn.head_training import HeadPlan, one_blas_thread, train_heads
from semroute.learn.near_twins import group_means
from semroute.learn.prototypes import category_prototypes
from semroute.types import Matrix
from semroute.types.progress import Progress

FOLDS = 5
ONE_SPLIT_FROM = 6_000
"""Groups of examples from which one held-out fifth is as good as five folds: its standard error is below .5 points."""

PROTOTYPE_CHOICES = (1, 2, 4, 8, 16, 32, 64)


@dataclass(frozen=True, slots=True)
class Split:
    """Rows to fit on and rows to hold out."""

    fit: NDArray[np.int64]
    held: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class HeldOut:
    """Scores of held-out groups of examples, by models that were fitted without them; a group has one row, its mean.

    Attributes:
        labels: ``(m,)`` true category of each held-out group.
        similarities: per number of prototypes, ``(m, categories)``.
        probabilities: ``(m, categories)`` of the head; None when no head is trained.
        groups: ``(m,)`` number of each held-out group.
        head: a head that was trained beside the others, on all groups; None when no head is trained.
    """

    labels: NDArray[np.int64]
    similarities: dict[int, Matrix]
    probabilities: Matrix | None
    groups: NDArray[np.int64] | None = None
    head: MlpHead | None = None


def splits(labels: NDArray[np.int64], groups: NDArray[np.int64] | None = None, *, seed: int) -> list[Split]:
    """Stratified folds; the only group of a category is never held out, since nothing else stands for it.

    Five folds, or one held-out fifth from :data:`ONE_SPLIT_FROM` groups on.

    Args:
        labels: ``(n,)`` category numbers from 0.
        groups: ``(n,)`` group of each example, held out together; None takes every example for itself.
        seed: of the order.
    """
    random = np.random.default_rng(seed)
    groups = np.arange(len(labels)) if groups is None else groups
    _, first, own = np.unique(groups, return_index=True, return_inverse=True)
    fold = np.full(len(first), -1, dtype=np.int64)
    for category in range(int(labels.max()) + 1):
        # In the order of their first examples, so that without twins the folds are those of the examples.
        members = np.flatnonzero(labels[first] == category)
        members = random.permutation(members[np.argsort(first[members])])
        if len(members) > 1:
            fold[members] = (np.arange(len(members)) + category) % FOLDS
    numbers = range(1) if len(first) >= ONE_SPLIT_FROM else range(FOLDS)
    fold = fold[own]
    found = [Split(np.flatnonzero(fold != number), np.flatnonzero(fold == number)) for number in numbers]
    return [split for split in found if len(split.held)]


def held_out_scores(
    vectors: Matrix,
    labels: NDArray[np.int64],
    plan: Sequence[Split],
    *,
    groups: NDArray[np.int64] | None = None,
    head: HeadPlan | None,
    seed: int,
    progress: Progress = lambda step, done, total: None,
) -> HeldOut:
    """Fit prototypes of every choice, and the head, on each split, and score what it held out.

    The head of all examples is trained with those of the splits, so that no core waits for the last of them.

    Args:
        vectors: ``(n, d)`` unit rows.
        labels: ``(n,)`` category numbers from 0.
        plan: the splits.
        groups: ``(n,)`` group of each example, which counts as one; None takes every example for itself.
        head: settings of the head, or None for none.
        seed: of k-means.
        progress: called with the splits done and their total.
    """
    groups = np.arange(len(labels)) if groups is None else groups
    data = [group_means(vectors[split.fit], labels[split.fit], groups[split.fit]) for split in plan]
    choices = prototype_choices(group_means(vectors, labels, groups)[1])

    def similarities(split: Split, rows: Matrix, owners: NDArray[np.int64]) -> list[Matrix]:
        found = []
        for choice in choices:
            prototypes, counts = category_prototypes(rows, owners, choice, seed=seed)
            index = PrototypeIndex.build(prototypes, counts)
            found.append(mean_by_group(index.similarities(vectors[split.held]), groups[split.held]))
        return found

    with one_blas_thread(), ThreadPoolExecutor(min(available_cores(), len(plan))) as pool:
        by_split = list(pool.map(similarities, plan, *zip(*data, strict=True)))
    progress("validating", 0, len(plan))
    probabilities, whole = None, None
    if head is not None:
        everything = group_means(vectors, labels, groups)
        *heads, whole = train_heads(
            [*data, everything],
            int(labels.max()) + 1,
            head,
            lambda done: progress("validating", min(done, len(plan)), len(plan)),
        )
        tried = [trained.probabilities(vectors[split.held]) for trained, split in zip(heads, plan, strict=True)]
        probabilities = np.concatenate(
            [mean_by_group(found, groups[split.held]) for found, split in zip(tried, plan, strict=True)]
        )
    return HeldOut(
        labels=np.concatenate([_first_of_each(labels[split.held], groups[split.held]) for split in plan]),
        similarities={
            choice: np.concatenate(parts) for choice, parts in zip(choices, zip(*by_split, strict=True), strict=True)
        },
        probabilities=probabilities,
        groups=np.concatenate([np.unique(groups[split.held]) for split in plan]),
        head=whole,
    )


def mean_by_group(scores: Matrix, groups: NDArray[np.int64]) -> Matrix:
    """Mean scores of each group, in ascending order of the groups; those of its mean vector would be too high."""
    _, own, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    if len(sizes) == len(scores):
        return scores[np.argsort(own)]
    sums = np.zeros((len(sizes), scores.shape[1]), dtype=np.float64)
    np.add.at(sums, own, scores)
    return np.asarray(sums / sizes[:, None], dtype=np.float32)


def _first_of_each(labels: NDArray[np.int64], groups: NDArray[np.int64]) -> NDArray[np.int64]:
    return labels[np.unique(groups, return_index=True)[1]]


def prototype_choices(labels: NDArray[np.int64]) -> list[int]:
    """Numbers of prototypes worth trying: those that the largest category can fill with three examples each."""
    largest = int(np.bincount(labels).max())
    return [choice for choice in PROTOTYPE_CHOICES if choice == 1 or choice * 3 <= largest]
