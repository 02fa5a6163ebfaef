"""The curve of a policy: mean quality and cost at each of its parameters, on all rows and on every resample."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from semroute.evaluate.curves.bootstrap import Resampling
from semroute.evaluate.replay.choices import choose
from semroute.types import Matrix
from semroute.types.vectors import Doubles


@dataclass(frozen=True, slots=True)
class Curve:
    """A policy's points; the first row of ``quality`` and ``cost`` is for all queries, then one for each resample.

    Attributes:
        parameters: ``(k,)`` what draws the curve; of a policy that has none, one NaN.
        quality: ``(1 + resamples, k)`` mean quality.
        cost: ``(1 + resamples, k)`` mean USD a query.
        shares: ``(k, m)`` share of queries that each model answers.
    """

    parameters: NDArray[np.float64]
    quality: Doubles
    cost: Doubles
    shares: Doubles


def replay(table: Doubles | Matrix, choice: NDArray[np.int64]) -> NDArray[np.float64]:
    """``(n,)`` the chosen cell of each row of ``(n, m)``."""
    return np.take_along_axis(table, choice[:, None], axis=1)[:, 0].astype(np.float64)


def replayed_curve(
    quality: Matrix,
    cost: Matrix,
    choices: Iterable[tuple[float, NDArray[np.int64]]],
    resampling: Resampling,
) -> Curve:
    """Replay a policy's choices, one parameter after the other, so that no more than one is held.

    Args:
        quality: ``(n, m)`` of every model's answer to every query.
        cost: ``(n, m)`` USD.
        choices: each parameter with the ``(n,)`` choices that it leads to.
        resampling: of the ``n`` rows.
    """
    parameters, sums, shares = [], [], []
    for parameter, choice in choices:
        picked = np.column_stack([replay(quality, choice), replay(cost, choice)])
        parameters.append(parameter)
        sums.append(resampling.batch_sums(picked))
        shares.append(np.bincount(choice, minlength=quality.shape[1]) / max(len(choice), 1))
    both = np.stack(sums, axis=-1)
    counts = resampling.resampled(resampling.batch_counts[:, None])
    return Curve(
        parameters=np.array(parameters),
        quality=resampling.resampled(both[:, 0]) / counts,
        cost=resampling.resampled(both[:, 1]) / counts,
        shares=np.array(shares),
    )


def tradeoff_curve(
    quality: Matrix,
    cost: Matrix,
    predicted: Matrix,
    expected_cost: Matrix,
    grid: NDArray[np.float64],
    resampling: Resampling,
) -> Curve:
    """The curve that :func:`~semroute.evaluate.replay.choices.choose` draws over a grid of values."""
    choices = ((float(value), choose(predicted, expected_cost, float(value))) for value in grid)
    return replayed_curve(quality, cost, choices, resampling)
