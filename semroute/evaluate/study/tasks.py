"""A policy's figures by task."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from semroute.evaluate.risk.units import Totals
from semroute.outcomes.groups import numbered


@dataclass(frozen=True, slots=True)
class TaskFigures:
    """A task.

    Attributes:
        task: its name; the empty string for queries without one.
        n: queries.
        quality: the policy's mean quality.
        cost: its mean USD a query.
        best_quality: the best single model's mean quality.
        best_cost: its mean USD a query.
        error: standard error of the difference in quality, query by query, with those that say the same counted as
            one; NaN for one query.
    """

    task: str
    n: int
    quality: float
    cost: float
    best_quality: float
    best_cost: float
    error: float


def task_figures(
    tasks: Sequence[str],
    policy: Sequence[NDArray[np.float64]],
    single: Sequence[NDArray[np.float64]],
    group: NDArray[np.int64] | None = None,
) -> tuple[TaskFigures, ...]:
    """The figures of every task, most queries first.

    Args:
        tasks: ``n`` names.
        policy: ``(n,)`` quality and ``(n,)`` USD of the policy.
        single: the same of the best single model.
        group: ``(n,)`` of each query; None where every query is its own.
    """
    names, task = numbered(tasks)
    counts = np.bincount(task, minlength=len(names))
    means = [np.bincount(task, weights=cells, minlength=len(names)) / counts for cells in (*policy, *single)]
    difference = policy[0] - single[0]
    by_task = np.split(np.argsort(task, kind="stable"), np.cumsum(counts)[:-1])
    errors = [Totals.of(difference[own], None if group is None else group[own]).error for own in by_task]
    rows = zip(names, counts.tolist(), *(mean.tolist() for mean in means), errors, strict=True)
    found = [TaskFigures(*row) for row in rows]
    return tuple(sorted(found, key=lambda figures: (-figures.n, figures.task)))
