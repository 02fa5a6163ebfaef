"""What a call is expected to cost before it is made: the decision must not know the length of the answer."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from semroute.evaluate.replay.folds import Fold
from semroute.learn.queries.costs import asked_tokens, call_costs
from semroute.outcomes.costs import Costs
from semroute.types import Matrix


def expected_costs(costs: Costs, folds: Sequence[Fold]) -> Matrix:
    """``(n, m)`` float32 USD: each row from the training rows of its fold; NaN for rows that no fold tests.

    As a trained classifier expects them (:func:`~semroute.learn.queries.costs.call_costs`), by model and task.
    """
    table = costs.table
    asked = asked_tokens(table.queries)
    expected = np.full(table.cost.shape, np.nan, np.float32)
    for fold in folds:
        known = call_costs(costs, asked, fold.train)
        expected[fold.test] = known.expected(asked[fold.test], [table.tasks[row] for row in fold.test.tolist()])
    return expected
