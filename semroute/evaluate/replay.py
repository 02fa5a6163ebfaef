"""Replay policies and cascades over outcomes; folds and expected costs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from semroute.catalog import estimate_query_tokens
from semroute.errors import InputError
from semroute.evaluate.duplicates import shared
from semroute.evaluate.metrics import Resampling
from semroute.outcomes.costs import Costs
from semroute.outcomes.table import Floats, OutcomeTable, group_means, numbered
from semroute.predictors.query_quality import CallCosts, Numbers
from semroute.types import Matrix
from semroute.types.protocols import Doubles, Indices

# A policy as choices: a model for each query, from predicted quality, expected cost and the value of quality.
#
# With quality worth ``value`` USD per +1.0, the model with the highest ``value * quality - cost`` is chosen (Hu et al.,
# RouterBench, 2024: willingness to pay). From 0, where only cost counts, to infinity, where only quality does, the
# value draws the policy's curve.

CostMatrix = NDArray[np.float32] | NDArray[np.float64]
POINTS = 41
"""Number of values on a curve, including both ends."""

_SAMPLE = 20_000
_CHUNK = 65_536
_HALVINGS = 40


def choose(predicted: Matrix, expected_cost: CostMatrix, value: float) -> NDArray[np.int64]:
    """Choose a model for each query, ``(n,)``.

    Of models whose worth is equal, the cheaper is chosen, then the first.

    Args:
        predicted: ``(n, m)`` predicted quality.
        expected_cost: ``(n, m)`` USD.
        value: USD per +1.0 of quality, 0 to infinity.
    """
    choice = np.empty(len(predicted), np.int64)
    for start in range(0, len(predicted), _CHUNK):
        rows = slice(start, start + _CHUNK)
        choice[rows] = _choose(predicted[rows].astype(np.float64), expected_cost[rows].astype(np.float64), value)
    return choice


def _choose(predicted: NDArray[np.float64], cost: NDArray[np.float64], value: float) -> NDArray[np.int64]:
    utility = predicted if np.isinf(value) else value * predicted - cost
    best = utility.max(axis=1, keepdims=True)
    return np.asarray(np.where(utility == best, cost, np.inf).argmin(axis=1))


def value_within(predicted: Matrix, expected_cost: CostMatrix, budget: float) -> float | None:
    """Return the highest value whose expected mean cost is within ``budget``.

    The budget is in USD a query. Higher values never choose cheaper models, so it is found by bisection. None where
    even the cheapest models are too expensive.
    """

    def spent(value: float) -> float:
        choice = choose(predicted, expected_cost, value)
        return float(np.take_along_axis(expected_cost, choice[:, None], axis=1).mean(dtype=np.float64))

    if spent(0.0) > budget:
        return None
    if spent(np.inf) <= budget:
        return float(np.inf)
    switches = values(predicted, expected_cost)[1:-1]
    low, high = 0.0, float(switches[-1]) * 2.0 if len(switches) else 1.0
    while spent(high) <= budget:
        low, high = high, high * 2.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2.0
        low, high = (middle, high) if spent(middle) <= budget else (low, middle)
    return low


def values(predicted: Matrix, expected_cost: CostMatrix, points: int = POINTS, *, seed: int = 0) -> NDArray[np.float64]:
    """Return ``(points,)`` values at which equally many choices change.

    They run from 0 to infinity. A query changes from one model to a better, more expensive one at
    ``(difference of cost) / (difference of quality)``; the values are quantiles of these over a sample of queries and
    all pairs of models. Where no query ever changes, only the two ends are returned.
    """
    rows = np.random.default_rng(seed).permutation(len(predicted))[:_SAMPLE]
    quality, cost = predicted[rows].astype(np.float64), expected_cost[rows].astype(np.float64)
    ratios = []
    for current in range(quality.shape[1]):
        quality_gain = quality - quality[:, [current]]
        cost_increase = cost - cost[:, [current]]
        changes = (quality_gain > 0) & (cost_increase > 0)
        ratios.append(cost_increase[changes] / quality_gain[changes])
    switches = np.concatenate(ratios) if ratios else np.zeros(0)
    if not len(switches):
        return np.array([0.0, np.inf])
    inner = np.unique(np.quantile(switches, np.linspace(0, 1, points - 2)))
    return np.concatenate([[0.0], inner[inner > 0], [np.inf]])


# Quality-cost curve of a policy: mean quality and cost at each of its parameters, on all rows and on every resample.


@dataclass(frozen=True, slots=True)
class Curve:
    """Points of a policy's quality-cost curve.

    The first row of ``quality`` and ``cost`` is for all queries, then one for each resample.

    Attributes:
        parameters: ``(k,)`` parameter of each point; of a policy that has none, one NaN.
        quality: ``(1 + resamples, k)`` mean quality.
        cost: ``(1 + resamples, k)`` mean USD a query.
        shares: ``(k, m)`` share of queries that each model answers.
    """

    parameters: NDArray[np.float64]
    quality: Doubles
    cost: Doubles
    shares: Doubles


def replay(table: Doubles | Matrix, choice: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return ``(n,)`` the chosen cell of each row of ``(n, m)``."""
    return np.take_along_axis(table, choice[:, None], axis=1)[:, 0].astype(np.float64)


def replayed_curve(
    quality: Matrix,
    cost: Matrix,
    choices: Iterable[tuple[float, NDArray[np.int64]]],
    resampling: Resampling,
) -> Curve:
    """Replay a policy's choices, one parameter at a time to save memory.

    Args:
        quality: ``(n, m)`` of every model's answer to every query.
        cost: ``(n, m)`` USD.
        choices: each parameter with its ``(n,)`` choices.
        resampling: of the ``n`` rows.
    """
    parameters, sums, shares = [], [], []
    for parameter, choice in choices:
        outcomes = np.column_stack([replay(quality, choice), replay(cost, choice)])
        parameters.append(parameter)
        sums.append(resampling.batch_sums(outcomes))
        shares.append(np.bincount(choice, minlength=quality.shape[1]) / max(len(choice), 1))
    stacked = np.stack(sums, axis=-1)
    counts = resampling.resampled(resampling.batch_counts[:, None])
    return Curve(
        parameters=np.array(parameters),
        quality=resampling.resampled(stacked[:, 0]) / counts,
        cost=resampling.resampled(stacked[:, 1]) / counts,
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
    """Replay the choices of :func:`choose` over a grid of values."""
    choices = ((float(value), choose(predicted, expected_cost, float(value))) for value in grid)
    return replayed_curve(quality, cost, choices, resampling)


def stops(scores: Matrix, thresholds: Sequence[float]) -> NDArray[np.int64]:
    """Return ``(n,)`` the tier whose answer is accepted.

    Args:
        scores: ``(n, tiers - 1)`` score of the answer of each tier but the last, which is always accepted.
        thresholds: of each tier but the last; an answer is accepted where its score is at least that.
    """
    accepted = scores >= np.asarray(thresholds, scores.dtype)
    return np.asarray(np.where(accepted.any(axis=1), accepted.argmax(axis=1), scores.shape[1]))


def replay_cascade(
    quality: Matrix, cost: Matrix, tiers: Sequence[int], stop: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Replay a cascade.

    Returns:
        ``(n,)`` quality of the accepted answer, and ``(n,)`` USD of it and of all rejected ones before it.

    Args:
        quality: ``(n, m)`` of every model.
        cost: ``(n, m)`` USD.
        tiers: columns of the models, in the order in which they are tried.
        stop: ``(n,)`` as of :func:`stops`.
    """
    spent = np.cumsum(cost[:, list(tiers)], axis=1, dtype=np.float64)
    column = stop[:, None]
    answered = np.take_along_axis(quality[:, list(tiers)], column, axis=1)[:, 0]
    return answered.astype(np.float64), np.take_along_axis(spent, column, axis=1)[:, 0]


def cascade_curve(
    quality: Matrix,
    cost: Matrix,
    tiers: Sequence[int],
    scores: Matrix,
    thresholds: Sequence[float],
    resampling: Resampling,
) -> Curve:
    """Replay a cascade over thresholds that all tiers share.

    The ``parameters`` of the curve are the thresholds.

    Args:
        quality: ``(n, m)`` of every model.
        cost: ``(n, m)`` USD.
        tiers: columns of the models, in the order in which they are tried.
        scores: ``(n, tiers - 1)`` as of :func:`stops`.
        thresholds: the parameters, in any order; minus infinity accepts every first answer.
        resampling: of the ``n`` rows.
    """
    sums, shares = [], []
    for threshold in thresholds:
        stop = stops(scores, [threshold] * scores.shape[1])
        sums.append(resampling.batch_sums(np.column_stack(replay_cascade(quality, cost, tiers, stop))))
        answers = np.asarray(tiers)[stop]
        shares.append(np.bincount(answers, minlength=quality.shape[1]) / max(len(stop), 1))
    stacked = np.stack(sums, axis=-1)
    counts = resampling.resampled(resampling.batch_counts[:, None])
    return Curve(
        parameters=np.asarray(thresholds, np.float64),
        quality=resampling.resampled(stacked[:, 0]) / counts,
        cost=resampling.resampled(stacked[:, 1]) / counts,
        shares=np.array(shares),
    )


# Splits of queries into rows to fit on and rows to evaluate on.


@dataclass(frozen=True, slots=True)
class Fold:
    """One split into training and test rows.

    Attributes:
        train: row numbers to fit on; none of them duplicates a test row.
        test: row numbers to evaluate on.
    """

    train: Indices
    test: Indices


def k_folds(group: Indices, k: int, *, seed: int) -> list[Fold]:
    """Split the rows into ``k`` folds, each row in one test part.

    Rows of one group are in the same part. Groups are shuffled and cut into ``k`` parts of equal numbers of rows, to
    within a group.

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
    """Split into at most ``k`` folds that leave whole tasks out.

    Training rows that duplicate a test row of another task are left out. Tasks are dealt out in turn, in an order drawn
    with ``seed``.

    Raises:
        InputError: fewer than two tasks.
    """
    names, task = numbered(tasks)
    if len(names) < 2:
        raise InputError('leaving tasks out takes at least two tasks; give the outcomes a "task"')
    k = min(k, len(names))
    fold_of_task = np.random.default_rng(seed).permutation(len(names)) % k
    return [
        Fold(fold.train[~shared(group, fold.train, fold.test)], fold.test) for fold in _folds(fold_of_task[task], k)
    ]


def _folds(number: Indices, k: int) -> list[Fold]:
    folds = [Fold(np.flatnonzero(number != fold), np.flatnonzero(number == fold)) for fold in range(k)]
    return [fold for fold in folds if len(fold.test)]


# Expected costs of calls, from past costs.

Tokens = NDArray[np.int64]


def asked_tokens(queries: Sequence[str]) -> Tokens:
    """Return ``(n,)`` input tokens of each query as the router estimates them."""
    return np.fromiter(map(estimate_query_tokens, queries), np.int64, len(queries))


def table_tokens(table: OutcomeTable) -> Tokens:
    """Return the ``(n,)`` tokens of the rows' requests, as the router counts.

    The text of a conversation's row is its last ask alone, while the request holds all turns and the results of tools:
    there the counted tokens of the call stand for the estimate. By those of the text, a token of it would seem to cost
    what a hundred of the conversation do, and the router would charge the whole conversation at that rate.
    """
    tokens = asked_tokens(table.queries)
    if table.signals is None:
        return tokens
    is_known = np.isfinite(table.input_tokens)
    counts = is_known.sum(axis=1)
    counted = np.where(is_known, table.input_tokens, 0.0).sum(axis=1) / np.maximum(counts, 1)
    is_counted = np.array([bool(signals) for signals in table.signals]) & (counts > 0)
    return np.where(is_counted, np.rint(counted), tokens).astype(np.int64)


def call_costs(costs: Costs, estimated: Tokens | None = None, rows: Tokens | None = None) -> CallCosts:
    """Estimate costs by model and task whose mean is that of the rows.

    The means agree even without token counts: the cost of the calls minus that of their input, divided by the price of
    output, is taken as the mean number of output tokens. From these, costs follow a change of prices.

    Args:
        costs: of ``n`` rows.
        estimated: ``(n,)`` :func:`table_tokens` of them; None estimates them.
        rows: numbers of the rows to train on; None for all.
    """
    table, selected = costs.table, slice(None) if rows is None else rows
    estimated = table_tokens(table)[selected] if estimated is None else estimated[selected]
    tasks, task = numbered(table.tasks)
    task, cost = task[selected], table.cost[selected]
    scale = _scale(table.input_tokens[selected], estimated)
    mean_cost = _means(cost, task, len(tasks))
    output_cost = _means(cost - estimated[:, None] * (scale * np.nan_to_num(costs.price[0])), task, len(tasks))
    output_tokens = _means(table.output_tokens[selected], task, len(tasks))
    is_sold = costs.price[1] > 0
    tokens = np.where(is_sold, output_cost / np.where(is_sold, costs.price[1], 1.0), output_tokens)
    return CallCosts(table.models, tuple(tasks), costs.price, scale, tokens, mean_cost, *_effort_shares(table))


MIN_OF_EFFORT = 30
"""Fewest answers of a model at an effort by which its costs are told."""


def _effort_shares(table: OutcomeTable) -> tuple[tuple[str, ...], Numbers]:
    """Return efforts with enough answers, and their ``(e, m)`` length shares.

    A share is relative to the model's mean output tokens.
    """
    known = [one for one in table.efforts if one.answers >= MIN_OF_EFFORT and one.model in table.models]
    efforts = tuple(dict.fromkeys(one.effort for one in known))
    shares = np.ones((len(efforts), len(table.models)))
    for one in known:
        shares[efforts.index(one.effort), table.models.index(one.model)] = one.share
    return efforts, shares


def _scale(counted: Floats, estimated: Tokens) -> Numbers:
    """Return ``(m,)`` ratios of counted to estimated tokens.

    A model without counted tokens gets the ratio over all models, and without any it is 1.
    """
    is_known = np.isfinite(counted)
    sums = np.where(is_known, counted, 0).sum(axis=0, dtype=np.float64)
    estimated_sums = np.where(is_known, estimated[:, None], 0).sum(axis=0, dtype=np.float64)
    overall = sums.sum() / estimated_sums.sum() if estimated_sums.sum() else 1.0
    return np.where(estimated_sums > 0, sums / np.maximum(estimated_sums, 1.0), overall)


def _means(values: NDArray[np.floating], task: NDArray[np.int64], count: int) -> Numbers:
    """Return ``(1 + t, m)`` means over all tasks and in each."""
    overall = np.zeros(len(task), np.int64)
    return np.vstack([group_means(values, overall, 1), group_means(values, task, count)])


# Expected cost of a call before it is made: the length of the answer must not enter the decision.


def expected_costs(costs: Costs, folds: Sequence[Fold]) -> Matrix:
    """Return ``(n, m)`` float32 USD, estimated out of fold.

    NaN for rows that are in no test part. By model and input tokens, as a trained classifier expects them of a query
    whose task it does not know (:func:`~semroute.evaluate.replay.call_costs`).
    """
    table = costs.table
    input_tokens = table_tokens(table)
    expected = np.full(table.cost.shape, np.nan, np.float32)
    for fold in folds:
        expected_by_task = call_costs(costs, input_tokens, fold.train)
        # Without tasks: the router does not know a query's task.
        expected[fold.test] = expected_by_task.expected(input_tokens[fold.test])
    return expected
