"""What a call is expected to cost before it is made: the decision must not know the length of the answer."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from semroute.evaluate.replay.folds import Fold
from semroute.outcomes.costs import Costs
from semroute.outcomes.groups import group_means, numbered
from semroute.types import Matrix


def expected_costs(costs: Costs, folds: Sequence[Fold]) -> Matrix:
    """``(n, m)`` float32 USD: each row from the training rows of its fold; NaN for rows that no fold tests.

    The input is known, ``input_tokens * input price``. What the output costs is the mean of ``cost - input cost`` over
    the training rows of the same model and task, or of the model for a task that has none. Where the price of input is
    not known the mean of the whole cost stands for both.
    """
    table = costs.table
    known = np.nan_to_num(table.input_tokens).astype(np.float64) * costs.input_price
    rest = table.cost - known
    names, task = numbered(table.tasks)
    expected = np.full(rest.shape, np.nan, np.float32)
    for fold in folds:
        means: NDArray[np.float64] = group_means(rest[fold.train], task[fold.train], len(names))
        expected[fold.test] = known[fold.test] + means[task[fold.test]]
    return expected
