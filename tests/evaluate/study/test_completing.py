from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from evaluate.study.outcomes import logged, made_up

from semroute.errors import InputError
from semroute.evaluate.replay.folds import k_folds
from semroute.evaluate.study.completing import complete, probabilities, select


def test_rows_that_are_all_complete_are_all_taken() -> None:
    table = made_up(12)[0].table
    selected = select(table)
    assert (selected.method, selected.left_out, len(selected.table)) == ("complete rows", 0, 12)


def test_incomplete_rows_without_probabilities_are_left_out() -> None:
    table = made_up(12)[0].table
    quality = table.quality.copy()
    quality[[2, 5], 1] = np.nan
    selected = select(replace(table, quality=quality))
    assert (selected.method, selected.left_out) == ("complete rows", 2)
    assert selected.rows.tolist() == [0, 1, 3, 4, 6, 7, 8, 9, 10, 11]
    assert selected.table.queries == [table.queries[row] for row in selected.rows]


def test_one_answer_without_its_probability_is_enough_to_leave_incomplete_rows_out() -> None:
    table = logged(made_up(12)[0].table)
    quality = table.quality.copy()
    quality[0] = 1.0
    probability = table.probability.copy()
    probability[3] = np.nan
    selected = select(replace(table, quality=quality, probability=probability))
    assert (selected.method, selected.rows.tolist()) == ("complete rows", [0])


def test_rows_that_know_no_model_are_left_out_of_estimates() -> None:
    table = logged(made_up(12)[0].table)
    quality = table.quality.copy()
    quality[4] = np.nan
    selected = select(replace(table, quality=quality))
    assert (selected.method, selected.left_out, len(selected.table)) == ("doubly robust", 1, 11)


def test_without_a_row_that_can_be_used_the_fix_is_named() -> None:
    table = made_up(12)[0].table
    quality = table.quality.copy()
    quality[::2, 0] = np.nan
    quality[1::2, 1] = np.nan
    with pytest.raises(InputError, match=r'none of the 12 queries has the quality of all 2 models.*"probability"'):
        select(replace(table, quality=quality))


def test_complete_rows_are_as_they_are() -> None:
    costs, _, _ = made_up(20)
    quality, cost = complete(costs, "complete rows", k_folds(np.arange(20), 4, seed=0))
    assert quality is costs.table.quality
    assert cost is costs.table.cost


def test_completed_cells_have_the_true_means() -> None:
    costs, _, _ = made_up(20_000)
    known = logged(costs.table)
    quality, cost = complete(replace(costs, table=known), "doubly robust", k_folds(np.arange(20_000), 5, seed=0))
    np.testing.assert_allclose(quality.mean(axis=0), costs.table.quality.mean(axis=0), atol=0.02)
    np.testing.assert_allclose(cost.mean(axis=0), costs.table.cost.mean(axis=0), rtol=1e-4)


def test_a_complete_row_without_probabilities_is_certain() -> None:
    table = made_up(3)[0].table
    assert probabilities(table).tolist() == [[1, 1]] * 3
