"""Whether a log can tell what models would have done that it did not ask: what its probabilities must add up to.

A row weighs ``1 / probability`` for a model whose answer is known, and 0 for any other. Where the model was drawn with
the probabilities that are told, these weights are 1 on average, whatever the queries and the answers are (Swaminathan
and Joachims, "The Self-Normalized Estimator for Counterfactual Learning", NeurIPS 2015, section 3); where they are not,
the estimates of :mod:`semroute.evaluate.offpolicy` are of nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from semroute.outcomes.groups import numbered
from semroute.outcomes.table import OutcomeTable
from semroute.types import Matrix

FAR = 3.0
"""Standard errors from 1 at which a mean weight is no accident: one in 370 is as far."""

MOST_OFF = 1.5
"""A mean weight that far is above this, or below its inverse, leaves nothing to estimate from. Of models that a fixed
rule chose between, one has a mean weight of 1/2 at most."""

MOST_SETTLED = 0.05
"""Share of the rows on which a model may have had no chance. Of what it would do there the others tell nothing, so that
the whole is off by up to as much."""

FEW = 30
"""Different queries with a known answer below which the spread of so skewed a mean is itself not known."""

_ROUNDING = 1e-5
"""Probabilities are float32."""


@dataclass(frozen=True, slots=True)
class Doubts:
    """What speaks against estimates, a sentence each.

    Attributes:
        refused: why there can be none.
        warned: why they are less certain than they seem.
    """

    refused: tuple[str, ...]
    warned: tuple[str, ...]


def doubts(table: OutcomeTable, probability: Matrix) -> Doubts:
    """What speaks against estimates from rows that lack models.

    Args:
        table: ``n`` rows and ``m`` models; a model is known where its quality is.
        probability: ``(n, m)`` in (0, 1], with which a model came to be known; only read where it is.
    """
    names, query = numbered(table.queries)
    # Where a model is known for certain and others are not known at all, these had no chance.
    sure = np.isfinite(table.quality) & (probability >= 1)
    settled = sure.any(axis=1) & ~table.is_complete
    refused: list[str] = []
    warned: list[str] = []
    for column, model in enumerate(table.models):
        known = np.isfinite(table.quality[:, column])
        if known.all() and (probability[:, column] >= 1).all():
            continue
        asked = len(np.unique(query[known]))
        mean, error = _mean_weight(np.where(known, 1 / probability[:, column], 0), query)
        fault = _fault(known, probability[known, column], asked, len(names))
        never = float((settled & ~known).mean())
        if fault is not None:
            refused.append(f'"{model}" {fault}')
        elif never:
            off = refused if never > MOST_SETTLED else warned
            off.append(f'"{model}" could not be drawn on {never:.1%} of the rows: another was certain there')
        elif abs(mean - 1) > FAR * error + _ROUNDING:
            off = refused if not 1 / MOST_OFF <= mean <= MOST_OFF else warned
            off.append(
                f'"{model}" was not chosen with the probabilities that are told: its mean weight is {mean:.2f} '
                f"(standard error {error:.2f}) and must be 1"
            )
        elif asked < FEW:
            warned.append(f'"{model}" is known for {asked} queries only: its intervals are too narrow')
    return Doubts(tuple(refused), tuple(warned))


def _fault(known: NDArray[np.bool_], probability: Matrix, asked: int, queries: int) -> str | None:
    """What needs no statistics to be seen; a few rows of it would leave a standard error of 0, or a wide one."""
    if asked < 2:
        return f"is known for {asked} of {queries:,} queries"
    if not known.all() and (probability >= 1).all():
        lacking = int((~known).sum())
        return (
            f"was chosen by a fixed rule: its probability is 1 where it is known, and {lacking:,} of {len(known):,} "
            "rows lack it"
        )
    return None


def _mean_weight(weight: NDArray[np.floating], query: NDArray[np.int64]) -> tuple[float, float]:
    """The mean over rows and its standard error; rows of the same query may share a draw, and count as one."""
    mean = float(weight.mean(dtype=np.float64))
    sums = np.bincount(query, weights=weight - mean)
    count = len(sums)
    spread = float((sums**2).sum()) * count / max(1, count - 1)
    return mean, float(np.sqrt(spread)) / len(weight)
