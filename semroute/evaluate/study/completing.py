"""Rows that do not know every model: left out, or completed by the doubly robust estimate, and which of the two."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from semroute.errors import InputError
from semroute.evaluate.offpolicy import completed_by_prediction
from semroute.evaluate.replay.contenders import EvaluationData, out_of_fold, task_table
from semroute.evaluate.replay.folds import Fold
from semroute.evaluate.study.weights import doubts
from semroute.outcomes.costs import Costs
from semroute.outcomes.judging import check_judged, judging_remedy
from semroute.outcomes.table import OutcomeTable
from semroute.types import Matrix

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

    Where the probabilities cannot be those of the log (:func:`~semroute.evaluate.study.weights.doubts`), there are no
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
