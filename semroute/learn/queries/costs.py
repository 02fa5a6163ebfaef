"""What calls are expected to cost, from what they did cost."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from semroute.catalog import estimate_query_tokens
from semroute.heads.queries.costs import CallCosts, Numbers
from semroute.outcomes.costs import Costs
from semroute.outcomes.groups import group_means, numbered
from semroute.outcomes.table import Floats

Tokens = NDArray[np.int64]


def asked_tokens(queries: Sequence[str]) -> Tokens:
    """``(n,)`` input tokens of each query as the router estimates them when it decides."""
    return np.fromiter(map(estimate_query_tokens, queries), np.int64, len(queries))


def call_costs(costs: Costs, asked: Tokens | None = None, rows: Tokens | None = None) -> CallCosts:
    """Expected costs whose mean over the rows is what these did cost, by model and task.

    That holds whoever counted the tokens, and where costs are told without any: what the calls cost beyond their
    input, at the price of output, is what counts as mean output. Costs follow from there when prices change.

    Args:
        costs: of ``n`` rows.
        asked: ``(n,)`` :func:`asked_tokens` of their queries; None estimates them.
        rows: numbers of those to train on; None for all.
    """
    table, own = costs.table, slice(None) if rows is None else rows
    asked = asked_tokens(table.queries)[own] if asked is None else asked[own]
    tasks, task = numbered(table.tasks)
    task, cost = task[own], table.cost[own]
    scale = _scale(table.input_tokens[own], asked)
    flat = _means(cost, task, len(tasks))
    beyond = _means(cost - asked[:, None] * (scale * np.nan_to_num(costs.price[0])), task, len(tasks))
    told = _means(table.output_tokens[own], task, len(tasks))
    is_sold = costs.price[1] > 0
    tokens = np.where(is_sold, beyond / np.where(is_sold, costs.price[1], 1.0), told)
    return CallCosts(table.models, tuple(tasks), costs.price, scale, tokens, flat)


def _scale(told: Floats, asked: Tokens) -> Numbers:
    """``(m,)`` told over estimated tokens in the rows that tell them; over all models for one without, else 1."""
    is_known = np.isfinite(told)
    sums = np.where(is_known, told, 0).sum(axis=0, dtype=np.float64)
    estimated = np.where(is_known, asked[:, None], 0).sum(axis=0, dtype=np.float64)
    overall = sums.sum() / estimated.sum() if estimated.sum() else 1.0
    return np.where(estimated > 0, sums / np.maximum(estimated, 1.0), overall)


def _means(values: NDArray[np.floating], task: NDArray[np.int64], count: int) -> Numbers:
    """``(1 + t, m)`` means over all tasks and in each."""
    whole = np.zeros(len(task), np.int64)
    return np.vstack([group_means(values, whole, 1), group_means(values, task, count)])
