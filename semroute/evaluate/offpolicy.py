"""Off-policy evaluation: estimate a policy from another policy's outcomes.

Replaying a log with one model a query as if it were complete is biased: the model was chosen for that query. With the
propensity of each known answer, the estimates here are unbiased:
* IPS, inverse propensity score: Horvitz and Thompson, JASA, 1952; for policies Strehl et al., "Learning from Logged
  Implicit Exploration Data", NeurIPS 2010, https://arxiv.org/abs/1003.0120.
* SNIPS, self-normalised: Swaminathan and Joachims, NeurIPS 2015. A little biased in small samples, less variance.
* DR, doubly robust: Dudík, Langford and Li, "Doubly Robust Policy Evaluation and Learning", ICML 2011,
  https://arxiv.org/abs/1103.4601. Unbiased if the probabilities or the predictions are right; least variance.

The propensity of an answer is the probability that it is known at all (of a log with one model a query, that the model
was chosen); it must be above 0 for every model that the evaluated policy may choose.
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

# Propensity checks: whether a log's propensities can support estimates for models that it did not ask.
#
# A row weighs ``1 / probability`` for a model whose answer is known, and 0 for any other. Where the model was drawn
# with the logged propensities, these weights are 1 on average, whatever the queries and the answers are (Swaminathan
# and Joachims, "The Self-Normalized Estimator for Counterfactual Learning", NeurIPS 2015, section 3); where they were
# not, the estimates of :mod:`semroute.evaluate.offpolicy` are meaningless.

SIGNIFICANT_ERRORS = 3.0
"""Standard errors from 1 at which a mean weight is significantly off: by chance, one in 370 is as far."""

MAX_MEAN_WEIGHT = 1.5
"""A significantly off mean weight above this, or below its inverse, rules out estimates. Of models that a fixed rule
chose between, one has a mean weight of 1/2 at most."""

MAX_EXCLUDED = 0.05
"""Share of the rows on which a model may have had no chance. The other rows hold no information on these, so the
estimate is off by up to as much."""

MIN_ANSWERS = 30
"""Distinct queries with a known answer below which the spread of so skewed a mean cannot be estimated."""

MIN_EFFECTIVE = 50
"""Effective number of answers below which a few large weights decide the estimate."""

_ROUNDING = 1e-5
"""Tolerance of probabilities, which are float32."""


@dataclass(frozen=True, slots=True)
class PropensityFindings:
    """Results of the propensity checks, a sentence each.

    Attributes:
        refused: reasons why no estimate is possible.
        warned: reasons why estimates are less certain than they seem.
    """

    refused: tuple[str, ...]
    warned: tuple[str, ...]


def check_propensities(table: OutcomeTable, probability: Matrix) -> PropensityFindings:
    """Check the propensities of incomplete rows.

    Args:
        table: ``n`` rows and ``m`` models; a model is known where its quality is.
        probability: ``(n, m)`` in (0, 1], the propensity of a known model; only read where it is known.
    """
    names, query = numbered(table.queries)
    # Where one model was certain to be asked, the models without an answer had no chance of being drawn.
    is_certain = np.isfinite(table.quality) & (probability >= 1)
    has_certain = is_certain.any(axis=1) & ~table.is_complete
    refused: list[str] = []
    warned: list[str] = []
    for column, model in enumerate(table.models):
        known = np.isfinite(table.quality[:, column])
        if known.all() and (probability[:, column] >= 1).all():
            continue
        asked = len(np.unique(query[known]))
        mean, error = _mean_weight(np.where(known, 1 / probability[:, column], 0), query)
        fault = _fault(known, probability[known, column], asked, len(names))
        excluded = float((has_certain & ~known).mean())
        if fault is not None:
            refused.append(f'"{model}" {fault}')
        elif excluded:
            findings = refused if excluded > MAX_EXCLUDED else warned
            findings.append(
                f'"{model}" could not be drawn on {excluded:.1%} of the rows: another model was certain there'
            )
        elif abs(mean - 1) > SIGNIFICANT_ERRORS * error + _ROUNDING:
            findings = refused if not 1 / MAX_MEAN_WEIGHT <= mean <= MAX_MEAN_WEIGHT else warned
            findings.append(
                f'"{model}" was not chosen with the recorded probabilities: its mean weight is {mean:.2f} '
                f"(standard error {error:.2f}) and must be 1"
            )
        elif asked < MIN_ANSWERS:
            warned.append(f'"{model}" has answers to {asked} queries only: its intervals are too narrow')
        elif (effective := _effective(np.where(known, 1 / probability[:, column], 0), query)) < MIN_EFFECTIVE:
            warned.append(
                f'"{model}" has answers worth {effective:.0f} equally likely ones: its intervals are too narrow below '
                f"{MIN_EFFECTIVE}"
            )
    return PropensityFindings(tuple(refused), tuple(warned))


def _fault(known: NDArray[np.bool_], probability: Matrix, asked: int, queries: int) -> str | None:
    """Return a fault of the propensities that needs no statistics, or None.

    Too few answers, or answers without any variation, have no usable standard error.
    """
    if asked < 2:
        return f"has answers to {asked} of {queries:,} queries"
    if not known.all() and (probability >= 1).all():
        missing = int((~known).sum())
        return (
            f"was chosen by a fixed rule: its probability is 1 where it answered, and {missing:,} of {len(known):,} "
            "rows have no answer of it"
        )
    return None


def _effective(weight: NDArray[np.floating], query: NDArray[np.int64]) -> float:
    """Return the effective sample size, (sum of weights)² / sum of squares.

    Source: L. Kish, "Survey Sampling", 1965.

    Rows of one query count as one.
    """
    sums = np.bincount(query, weights=weight)
    return float(sums.sum() ** 2 / max(np.square(sums).sum(), 1e-300))


def _mean_weight(weight: NDArray[np.floating], query: NDArray[np.int64]) -> tuple[float, float]:
    """Return the mean over rows and its standard error.

    Rows of one query may share a draw, so they are counted as one.
    """
    mean = float(weight.mean(dtype=np.float64))
    sums = np.bincount(query, weights=weight - mean)
    count = len(sums)
    spread = float((sums**2).sum()) * count / max(1, count - 1)
    return mean, float(np.sqrt(spread)) / len(weight)


Group = NDArray[np.int64] | None


@dataclass(frozen=True, slots=True)
class OffPolicyEstimate:
    """Estimate of a policy's mean quality (or cost) with its standard error.

    Attributes:
        value: the estimate.
        error: its standard error, with queries of one group counted as one.
        matched: queries whose chosen model's answer is known.
        mean_weight: mean of the weights; near 1 where the propensities are right.
    """

    value: float
    error: float
    matched: int
    mean_weight: float


def ips(reward: Matrix, probability: Matrix, choice: NDArray[np.int64], group: Group = None) -> OffPolicyEstimate:
    """Return the IPS estimate, ``mean of known * reward / probability``.

    Args:
        reward: ``(n, m)`` quality or cost, NaN where it is not known.
        probability: ``(n, m)`` in (0, 1], that the cell is known; only read where it is.
        choice: ``(n,)`` the models that the evaluated policy chooses.
        group: ``(n,)`` duplicate group of each query, which is one draw; None where every query is its own.
    """
    weight, chosen = _chosen_cells(reward, probability, choice)
    return _estimate(weight * chosen, weight, group)


def snips(reward: Matrix, probability: Matrix, choice: NDArray[np.int64], group: Group = None) -> OffPolicyEstimate:
    """Return the SNIPS estimate, ``sum of weight * reward / sum of weights``.

    ``weight = known / probability``; arguments as of :func:`ips`. NaN where no chosen cell is known.
    """
    weight, chosen = _chosen_cells(reward, probability, choice)
    if not weight.any():
        return OffPolicyEstimate(float("nan"), float("nan"), 0, 0.0)
    value = float((weight * chosen).sum() / weight.sum())
    # Linearisation of the ratio: Owen, "Monte Carlo theory, methods and examples", 2013, section 9.2.
    part = weight * (chosen - value) / weight.mean()
    return OffPolicyEstimate(value, Totals.of(part, group).error, int((weight > 0).sum()), float(weight.mean()))


def doubly_robust(
    reward: Matrix, probability: Matrix, choice: NDArray[np.int64], predicted: Matrix, group: Group = None
) -> OffPolicyEstimate:
    """Return the doubly robust estimate over the chosen cells.

    ``mean of predicted + known * (reward - predicted) / probability``.

    Args:
        reward: as of :func:`ips`.
        probability: as of :func:`ips`.
        choice: as of :func:`ips`.
        predicted: ``(n, m)`` of every cell, by a model that was not fitted on the row itself.
        group: as of :func:`ips`.
    """
    weight, _ = _chosen_cells(reward, probability, choice)
    completed = completed_by_prediction(reward, probability, predicted)
    return _estimate(_pick(completed, choice), weight, group)


def completed_by_prediction(reward: Matrix, probability: Matrix, predicted: Matrix) -> Matrix:
    """Impute every cell by the doubly robust estimate.

    ``predicted + known * (reward - predicted) / probability``, ``(n, m)`` float32: the mean over any policy's choices
    is its doubly robust value, but single cells may lie outside of 0..1. The arguments are those of
    :func:`doubly_robust`.
    """
    known = np.isfinite(reward)
    weight = np.where(known, 1 / np.where(known, probability, 1), 0)
    return (predicted + weight * (np.where(known, reward, 0) - predicted)).astype(np.float32)


def _chosen_cells(reward: Matrix, probability: Matrix, choice: NDArray[np.int64]) -> tuple[Doubles, Doubles]:
    """Return ``(n,)`` weight and ``(n,)`` reward of the chosen cells.

    Both are 0 where the cell is not known.
    """
    chosen, propensity = _pick(reward, choice), _pick(probability, choice)
    known = np.isfinite(chosen)
    return np.where(known, 1 / np.where(known, propensity, 1), 0), np.where(known, chosen, 0)


def _pick(cells: Matrix, choice: NDArray[np.int64]) -> Doubles:
    return np.take_along_axis(cells, choice[:, None], axis=1)[:, 0].astype(np.float64)


def _estimate(parts: Doubles, weight: Doubles, group: Group) -> OffPolicyEstimate:
    mean_weight = float(weight.mean()) if len(weight) else 0.0
    value = float(parts.mean()) if len(parts) else float("nan")
    return OffPolicyEstimate(value, Totals.of(parts, group).error, int((weight > 0).sum()), mean_weight)


# Incomplete rows: left out, or imputed by the doubly robust estimate, and the choice between the two.

Method: TypeAlias = Literal["complete rows", "doubly robust"]


@dataclass(frozen=True, slots=True)
class Selected:
    """Rows selected for a comparison.

    Attributes:
        table: those rows.
        rows: ``(len(table),)`` their numbers in the table they come from.
        method: "complete rows" where every row has an answer of every model.
        left_out: rows that were left out.
        warnings: limits of the figures, a sentence each.
    """

    table: OutcomeTable
    rows: NDArray[np.int64]
    method: Method
    left_out: int
    warnings: tuple[str, ...] = ()


def select(table: OutcomeTable) -> Selected:
    """Select the complete rows, and incomplete ones with known propensities.

    Where :func:`~semroute.evaluate.offpolicy.check_propensities` refuses the propensities, only the complete rows are
    selected, with a warning.

    Raises:
        InputError: no row can be used, or no answer was judged.
    """
    check_judged(table)
    complete = table.is_complete
    if complete.all() and len(table):
        return Selected(table, np.arange(len(table)), "complete rows", 0)
    known = np.isfinite(table.quality)
    has_propensities = known.any(axis=1) & (np.isfinite(table.probability) | ~known).all(axis=1)
    if (has_propensities & ~complete).any():
        return _estimable(table, np.flatnonzero(has_propensities | complete))
    rows = np.flatnonzero(complete)
    if not len(rows):
        raise InputError(
            f"none of the {len(table):,} queries has the quality of all {len(table.models)} models; "
            f"{judging_remedy(table)}ask the missing models too, name fewer with --models, or give each outcome the "
            '"probability" with which it was chosen'
        )
    return Selected(table.take(rows), rows, "complete rows", len(table) - len(rows))


def _estimable(table: OutcomeTable, rows: NDArray[np.int64]) -> Selected:
    """Return the rows for estimates, or the complete ones if there are none.

    Raises:
        InputError: neither can be used.
    """
    taken = table.take(rows)
    findings = check_propensities(taken, probabilities(taken))
    if not findings.refused:
        # Few of them, as after a model that failed, change little; many show in the mean weights of the rest.
        without_propensity = int(np.isfinite(table.quality).any(axis=1).sum()) - len(rows)
        notes: tuple[str, ...] = ()
        if without_propensity:
            notes = (f"{without_propensity:,} rows have a missing model and no probability: they are not used",)
        return Selected(taken, rows, "doubly robust", len(table) - len(rows), findings.warned + notes)
    reasons = "; ".join(findings.refused)
    rows = np.flatnonzero(table.is_complete)
    if not len(rows):
        raise InputError(
            f"the missing answers cannot be estimated: {reasons}; log a period in which a share of the queries is "
            "drawn (trial.share) and export it alone (--since), correct the probabilities, ask all models some queries "
            "(semroute collect), or leave the model out with --models"
        )
    warning = f"only complete ones are used, since the other rows allow no estimate: {reasons}"
    return Selected(table.take(rows), rows, "complete rows", len(table) - len(rows), (warning,))


def complete(costs: Costs, method: Method, folds: Sequence[Fold]) -> tuple[Matrix, Matrix]:
    """Return ``(n, m)`` quality and cost for replay, missing cells imputed.

    Replay is exact on them, or unbiased in the mean over queries. Predictions of the doubly robust estimate are the
    model's mean quality and mean cost in the task, over the known cells of other folds. Costs that were recorded for
    every call are used as they are.
    """
    table = costs.table
    if method == "complete rows":
        return table.quality, table.cost
    known = np.isfinite(table.quality)
    quality = _estimated(table, table.quality, folds)
    if costs.told == table.cost.size:
        return quality, table.cost
    # Only costs that were paid: the cost of a missing answer is itself a prediction from the queries that the model
    # was asked, which leaves no residual to correct, and is biased where those queries are short.
    return quality, _estimated(table, np.where(known, table.cost, np.nan).astype(np.float32), folds)


def _estimated(table: OutcomeTable, cells: Matrix, folds: Sequence[Fold]) -> Matrix:
    """Impute the NaN cells of ``(n, m)`` by the doubly robust estimate."""
    predicted = out_of_fold(task_table, EvaluationData(table.queries, table.tasks, None, cells), folds)
    return completed_by_prediction(cells, probabilities(table), predicted)


def probabilities(table: OutcomeTable) -> Matrix:
    """Return the ``(n, m)`` probability that a cell is known.

    1 in a complete row without propensities.
    """
    return np.where(np.isfinite(table.probability), table.probability, 1).astype(np.float32)


def on_rows(costs: Costs, table: OutcomeTable) -> Costs:
    """Return the costs for another table of the same models, such as a subset."""
    return replace(costs, table=table)
