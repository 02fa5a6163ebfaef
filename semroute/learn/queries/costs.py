"""What calls are expected to cost, from what they did cost."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from semroute.heads.queries.costs import CallCosts
from semroute.outcomes.costs import Costs
from semroute.outcomes.groups import group_means, numbered

if TYPE_CHECKING:
    from semroute.config import Price


def call_costs(costs: Costs, prices: Mapping[str, Price]) -> CallCosts:
    """Mean output tokens and mean cost of each model, over all tasks and in each; prices where they are known."""
    table = costs.table
    tasks, task = numbered(table.tasks)
    models = len(table.models)
    empty = CallCosts(
        table.models, tuple(tasks), np.full((2, models), np.nan), *_both(table.output_tokens, table.cost, task)
    )
    return empty.with_prices(prices)


def _both(
    tokens: NDArray[np.float32], cost: NDArray[np.float32], task: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    count = int(task.max()) + 1 if len(task) else 0
    whole = np.zeros(len(task), np.int64)
    found = [np.vstack([group_means(values, whole, 1), group_means(values, task, count)]) for values in (tokens, cost)]
    return found[0], found[1]
