"""Splits of queries into what a policy is fitted on and what it is judged on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from semroute.errors import InputError
from semroute.evaluate.replay.duplicates import shared
from semroute.outcomes.groups import numbered
from semroute.types.vectors import Indices


@dataclass(frozen=True, slots=True)
class Fold:
    """One split.

    Attributes:
        train: row numbers to fit on; none of them says the same as a test row.
        test: row numbers to judge on.
    """

    train: Indices
    test: Indices


def k_folds(group: Indices, k: int, *, seed: int) -> list[Fold]:
    """``k`` splits, each row in one test part; rows of one group are in the same, so that none is in both parts.

    Groups stand in random order and are cut into ``k`` parts of equal numbers of rows, to within a group.

    Raises:
        InputError: fewer groups than folds.
    """
    sizes = np.bincount(group) if len(group) else np.zeros(0, np.int64)
    if len(sizes) < k:
        raise InputError(f"{len(sizes)} different queries cannot be split into {k} folds; ask for fewer folds")
    order = np.random.default_rng(seed).permutation(len(sizes))
    fold_of = np.empty(len(sizes), np.int64)
    fold_of[order] = (np.cumsum(sizes[order]) - 1) * k // len(group)
    return _folds(fold_of[group], k)


def task_folds(tasks: Sequence[str], group: Indices, k: int, *, seed: int) -> list[Fold]:
    """At most ``k`` splits that leave whole tasks out: some tasks are the test part, the others are fitted on.

    Training rows that say the same as a test row, under another task, are left out. Tasks are dealt out in turn, in an
    order that ``seed`` draws.

    Raises:
        InputError: fewer than two tasks.
    """
    names, task = numbered(tasks)
    if len(names) < 2:
        raise InputError('leaving tasks out takes at least two tasks; give the outcomes a "task"')
    k = min(k, len(names))
    turn = np.random.default_rng(seed).permutation(len(names)) % k
    return [Fold(fold.train[~shared(group, fold.train, fold.test)], fold.test) for fold in _folds(turn[task], k)]


def _folds(number: Indices, k: int) -> list[Fold]:
    folds = [Fold(np.flatnonzero(number != fold), np.flatnonzero(number == fold)) for fold in range(k)]
    return [fold for fold in folds if len(fold.test)]
