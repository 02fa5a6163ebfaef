"""What a policy would have done, from outcomes that know only the models that another policy tried.

Replaying such a log as if it knew all is biased: the model that was asked was chosen for that query. With the
probability with which each known answer came to be known, the estimates here are unbiased:

* IPS, inverse propensity score: Horvitz and Thompson, JASA, 1952; for policies Strehl et al., "Learning from Logged
  Implicit Exploration Data", NeurIPS 2010, https://arxiv.org/abs/1003.0120.
* SNIPS, self-normalised: Swaminathan and Joachims, NeurIPS 2015. A little biased in small samples, less variance.
* DR, doubly robust: Dudík, Langford and Li, "Doubly Robust Policy Evaluation and Learning", ICML 2011,
  https://arxiv.org/abs/1103.4601. Unbiased if the probabilities or the predictions are right; least variance.

The probability of an answer is that it is known at all (of a log with one model a query, that the model was chosen); it
must be above 0 for every model that the judged policy may choose.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from semroute.errors import InputError
from semroute.evaluate.baselines import EvaluationData, out_of_fold, task_table
from semroute.evaluate.metrics import Totals
from semroute.evaluate.replay import Fold
from semroute.outcomes.costs import Costs
from semroute.outcomes.files import check_judged, judging_remedy
from semroute.outcomes.table import OutcomeTable, numbered
from semroute.types import Matrix
from semroute.types.protocols import Doubles

# Whether a log can tell what models would have done that it did not ask: what its probabilities must add up to.
#
# A row weighs ``1 / probability`` for a model whose answer is known, and 0 for any other. Where the model was drawn
# with
# the probabilities that are told, these weights are 1 on average, whatever the queries and the answers are (Swaminathan
# and Joachims, "The Self-Normalized Estimator for Counterfactual Learning", NeurIPS 2015, section 3); where they are
# not,
# the estimates of :mod:`semroute.evaluate.offpolicy` are of nothing.

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


Group = NDArray[np.int64] | None


@dataclass(frozen=True, slots=True)
class OffPolicyEstimate:
    """A policy's mean quality (or cost) and how sure it is.

    Attributes:
        value: the estimate.
        error: its standard error, with queries of one group counted as one.
        matched: queries whose chosen model's answer is known.
        mean_weight: mean of the weights; near 1 where the probabilities are right.
    """

    value: float
    error: float
    matched: int
    mean_weight: float


def ips(reward: Matrix, probability: Matrix, choice: NDArray[np.int64], group: Group = None) -> OffPolicyEstimate:
    """``mean of known * reward / probability`` over the chosen cells.

    Args:
        reward: ``(n, m)`` quality or cost, NaN where it is not known.
        probability: ``(n, m)`` in (0, 1], that the cell is known; only read where it is.
        choice: ``(n,)`` the models that the judged policy chooses.
        group: ``(n,)`` of each query: those that say the same are one draw; None where every query is its own.
    """
    weight, chosen = _chosen(reward, probability, choice)
    return _estimate(weight * chosen, weight, group)


def snips(reward: Matrix, probability: Matrix, choice: NDArray[np.int64], group: Group = None) -> OffPolicyEstimate:
    """``sum of weight * reward / sum of weights``, with ``weight = known / probability``; arguments as of :func:`ips`.

    NaN where no chosen cell is known.
    """
    weight, chosen = _chosen(reward, probability, choice)
    if not weight.any():
        return OffPolicyEstimate(float("nan"), float("nan"), 0, 0.0)
    value = float((weight * chosen).sum() / weight.sum())
    # The ratio's linearisation: Owen, "Monte Carlo theory, methods and examples", 2013, section 9.2.
    part = weight * (chosen - value) / weight.mean()
    return OffPolicyEstimate(value, Totals.of(part, group).error, int((weight > 0).sum()), float(weight.mean()))


def doubly_robust(
    reward: Matrix, probability: Matrix, choice: NDArray[np.int64], predicted: Matrix, group: Group = None
) -> OffPolicyEstimate:
    """``mean of predicted + known * (reward - predicted) / probability`` over the chosen cells.

    Args:
        reward: as of :func:`ips`.
        probability: as of :func:`ips`.
        choice: as of :func:`ips`.
        predicted: ``(n, m)`` of every cell, from what was not fitted on the row itself.
        group: as of :func:`ips`.
    """
    weight, _ = _chosen(reward, probability, choice)
    completed = completed_by_prediction(reward, probability, predicted)
    return _estimate(_pick(completed, choice), weight, group)


def completed_by_prediction(reward: Matrix, probability: Matrix, predicted: Matrix) -> Matrix:
    """``(n, m)`` float32 with every cell filled, so that the mean over any policy's choices is its doubly robust value.

    ``predicted + known * (reward - predicted) / probability``; single cells may lie outside of 0..1. The arguments are
    those of :func:`doubly_robust`.
    """
    known = np.isfinite(reward)
    weight = np.where(known, 1 / np.where(known, probability, 1), 0)
    return (predicted + weight * (np.where(known, reward, 0) - predicted)).astype(np.float32)


def _chosen(reward: Matrix, probability: Matrix, choice: NDArray[np.int64]) -> tuple[Doubles, Doubles]:
    """``(n,)`` weight of each row, 0 where its chosen cell is not known, and ``(n,)`` reward, 0 there."""
    picked, chance = _pick(reward, choice), _pick(probability, choice)
    known = np.isfinite(picked)
    return np.where(known, 1 / np.where(known, chance, 1), 0), np.where(known, picked, 0)


def _pick(cells: Matrix, choice: NDArray[np.int64]) -> Doubles:
    return np.take_along_axis(cells, choice[:, None], axis=1)[:, 0].astype(np.float64)


def _estimate(parts: Doubles, weight: Doubles, group: Group) -> OffPolicyEstimate:
    mean_weight = float(weight.mean()) if len(weight) else 0.0
    value = float(parts.mean()) if len(parts) else float("nan")
    return OffPolicyEstimate(value, Totals.of(parts, group).error, int((weight > 0).sum()), mean_weight)


# Rows that do not know every model: left out, or completed by the doubly robust estimate, and which of the two.

Method: TypeAlias = Literal["complete rows", "doubly robust"]


@dataclass(frozen=True, slots=True)
class Selected:
    """The rows that a comparison is made on.

    Attributes:
        table: those rows.
        rows: ``(len(table),)`` their numbers in the table they come from.
        method: "complete rows" where each of them knows every model.
        left_out: rows that were left out.
        warnings: why the figures mean less than they seem to, a sentence each.
    """

    table: OutcomeTable
    rows: NDArray[np.int64]
    method: Method
    left_out: int
    warnings: tuple[str, ...] = ()


def select(table: OutcomeTable) -> Selected:
    """The complete rows and, where there are some, those that tell the probability of each answer that they know.

    Where the probabilities cannot be those of the log (:func:`~semroute.evaluate.offpolicy.doubts`), there are no
    estimates either, and the complete rows are taken, with a warning.

    Raises:
        InputError: no row can be used, or nobody has judged the answers.
    """
    check_judged(table)
    complete = table.is_complete
    every = np.arange(len(table))
    if complete.all() and len(table):
        return Selected(table, every, "complete rows", 0)
    known = np.isfinite(table.quality)
    told = known.any(axis=1) & (np.isfinite(table.probability) | ~known).all(axis=1)
    if (told & ~complete).any():
        return _estimable(table, np.flatnonzero(told | complete))
    rows = np.flatnonzero(complete)
    if not len(rows):
        raise InputError(
            f"none of the {len(table):,} queries has the quality of all {len(table.models)} models; "
            f"{judging_remedy(table)}ask the missing models too, name fewer with --models, or give each outcome the "
            '"probability" with which it was chosen'
        )
    return Selected(table.take(rows), rows, "complete rows", len(table) - len(rows))


def _estimable(table: OutcomeTable, rows: NDArray[np.int64]) -> Selected:
    """The rows, where estimates can be made from them; else the complete ones.

    Raises:
        InputError: neither can be used.
    """
    picked = table.take(rows)
    found = doubts(picked, probabilities(picked))
    if not found.refused:
        # Few of them, as after a model that failed, change little; many show in the mean weights of the rest.
        untold = int(np.isfinite(table.quality).any(axis=1).sum()) - len(rows)
        more = (f"{untold:,} rows lack a model and a probability, and are left out of the estimates",) if untold else ()
        return Selected(picked, rows, "doubly robust", len(table) - len(rows), found.warned + more)
    why = "; ".join(found.refused)
    rows = np.flatnonzero(table.is_complete)
    if not len(rows):
        raise InputError(
            f"what the outcomes lack cannot be estimated: {why}; log a time in which a share of the queries is drawn "
            "(trial.share) and export that alone (--since), correct the probabilities, ask all models of some queries "
            "(semroute collect), or leave the model out with --models"
        )
    warning = f"rows that lack a model tell nothing, and only complete ones are used: {why}"
    return Selected(table.take(rows), rows, "complete rows", len(table) - len(rows), (warning,))


def complete(costs: Costs, method: Method, folds: Sequence[Fold]) -> tuple[Matrix, Matrix]:
    """``(n, m)`` quality and cost with which a replay is exact, or in the mean over queries unbiased.

    Of the doubly robust estimate the predictions are the model's mean quality and mean cost in the task, over what is
    known in other folds. A cost that the outcomes tell of every call stays as it is: nothing of it has to be estimated.
    """
    table = costs.table
    if method == "complete rows":
        return table.quality, table.cost
    known = np.isfinite(table.quality)
    quality = _estimated(table, table.quality, folds)
    if costs.told == table.cost.size:
        return quality, table.cost
    # Only what was paid. A cost that was reckoned for an answer that nobody has is a guess from those that were asked
    # for, and a prediction that knows the row's own cost would leave nothing to correct: the estimate would be that of
    # the queries that the model was asked, and biased where these are the short ones.
    return quality, _estimated(table, np.where(known, table.cost, np.nan).astype(np.float32), folds)


def _estimated(table: OutcomeTable, cells: Matrix, folds: Sequence[Fold]) -> Matrix:
    """``(n, m)`` cells of which some are NaN, completed by the doubly robust estimate."""
    predicted = out_of_fold(task_table, EvaluationData(table.queries, table.tasks, None, cells), folds)
    return completed_by_prediction(cells, probabilities(table), predicted)


def probabilities(table: OutcomeTable) -> Matrix:
    """``(n, m)`` probability that a cell is known; 1 in a complete row that tells none."""
    return np.where(np.isfinite(table.probability), table.probability, 1).astype(np.float32)


def on_rows(costs: Costs, table: OutcomeTable) -> Costs:
    """The costs for another table of the same models, such as some of the rows."""
    return replace(costs, table=table)
