from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from evaluate.study_outcomes import logged, made_up

from semroute.config import Price
from semroute.errors import InputError
from semroute.evaluate.metrics import Resampling, interval
from semroute.evaluate.offpolicy import complete, probabilities, select
from semroute.evaluate.replay import k_folds
from semroute.outcomes.costs import Costs, with_costs
from semroute.outcomes.table import TableBuilder


def test_complete_rows_are_all_selected() -> None:
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


def test_incomplete_rows_without_a_probability_are_left_out_of_estimates_and_counted() -> None:
    table = logged(made_up(40)[0].table)
    quality = table.quality.copy()
    quality[0] = 1.0
    probability = table.probability.copy()
    probability[[0, 3]] = np.nan
    selected = select(replace(table, quality=quality, probability=probability))
    assert (selected.method, selected.left_out) == ("doubly robust", 1)
    assert selected.rows.tolist() == [row for row in range(40) if row != 3]
    assert selected.warnings[-1] == "1 rows have a missing model and no probability: they are not used"


def test_rows_without_any_answer_are_left_out_of_estimates() -> None:
    table = logged(made_up(12)[0].table)
    quality = table.quality.copy()
    quality[4] = np.nan
    selected = select(replace(table, quality=quality))
    assert (selected.method, selected.left_out, len(selected.table)) == ("doubly robust", 1, 11)


def test_without_usable_rows_the_error_names_the_remedy() -> None:
    table = made_up(12)[0].table
    quality = table.quality.copy()
    quality[::2, 0] = np.nan
    quality[1::2, 1] = np.nan
    with pytest.raises(InputError, match=r'none of the 12 queries has the quality of all 2 models.*"probability"'):
        select(replace(table, quality=quality))


def test_complete_rows_are_returned_unchanged() -> None:
    costs, _, _ = made_up(20)
    quality, cost = complete(costs, "complete rows", k_folds(np.arange(20), 4, seed=0))
    assert quality is costs.table.quality
    assert cost is costs.table.cost


@pytest.mark.slow
def test_imputed_cells_have_the_true_means() -> None:
    costs, _, _ = made_up(20_000)
    known = logged(costs.table)
    quality, cost = complete(replace(costs, table=known), "doubly robust", k_folds(np.arange(20_000), 5, seed=0))
    np.testing.assert_allclose(quality.mean(axis=0), costs.table.quality.mean(axis=0), atol=0.02)
    np.testing.assert_allclose(cost.mean(axis=0), costs.table.cost.mean(axis=0), rtol=1e-4)


def _logged_by_length(n: int, seed: int) -> tuple[Costs, np.ndarray]:
    """A log that asks the larger model mostly where its answer is short, and tells the tokens of the answer alone.

    Returns:
        The outcomes, and ``(n, 2)`` the true USD of every call.
    """
    random = np.random.default_rng(seed)
    is_long = random.random(n) < 0.5
    tokens = np.column_stack([np.where(is_long, 5.0, 1.0), np.where(is_long, 18.0, 2.0)]) + random.random((n, 2)) - 0.5
    large = np.where(is_long, 0.15, 0.85)
    asked = (random.random(n) < large).astype(int)
    builder = TableBuilder()
    for row in range(n):
        model = ("small", "large")[asked[row]]
        chance = float(np.where(asked[row], large[row], 1 - large[row]))
        numbers = {"quality": float(random.random() < 0.8), "input_tokens": 0.0, "probability": chance}
        builder.add(
            builder.row(f"query {row}", ""), model, numbers | {"output_tokens": float(tokens[row, asked[row]])}, None
        )
    table = builder.table().with_models(("small", "large"))
    price = Price(input=0.0, output=1e6)
    return with_costs(table, {"small": price, "large": price}, lambda texts: [0] * len(texts)), tokens


@pytest.mark.slow
def test_cost_is_unbiased_if_the_logged_choice_depends_on_it() -> None:
    covered = []
    for seed in range(60):
        costs, truth = _logged_by_length(400, seed)
        _, cost = complete(costs, "doubly robust", k_folds(np.arange(400), 5, seed=0))
        # Asked mostly where it is short, the mean of what was paid is far from the truth.
        paid = np.nanmean(np.where(np.isfinite(costs.table.quality), costs.table.cost, np.nan), axis=0)
        assert paid[1] < 6 < truth.mean(axis=0)[1]
        means = Resampling.draw(400, seed=seed, resamples=400).means(cost)
        found = [interval(column) for column in means.T]
        # The true mean over all queries that might come.
        covered.append([of.low <= mean <= of.high for of, mean in zip(found, (3.0, 10.0), strict=True)])
    # 95% of 60 is 57; fewer than 51 come with probability 0.0005.
    assert (np.sum(covered, axis=0) >= 51).all(), np.mean(covered, axis=0)


def test_the_cost_of_a_row_is_predicted_without_the_row() -> None:
    costs, _ = _logged_by_length(400, 1)
    folds = k_folds(np.arange(400), 5, seed=0)
    _, before = complete(costs, "doubly robust", folds)
    row, model = np.argwhere(np.isfinite(costs.table.quality))[7]
    dearer = costs.table.cost.copy()
    dearer[row, model] += 1.0
    _, after = complete(replace(costs, table=replace(costs.table, cost=dearer)), "doubly robust", folds)
    weight = 1 / costs.table.probability[row, model]
    assert after[row, model] - before[row, model] == pytest.approx(weight, rel=1e-3)


def test_recorded_costs_are_kept_unchanged() -> None:
    costs, _, _ = made_up(300)
    known = logged(costs.table)
    dear = replace(known, cost=(known.cost * np.arange(1, 301)[:, None]).astype(np.float32))
    _, cost = complete(replace(costs, table=dear), "doubly robust", k_folds(np.arange(300), 5, seed=0))
    np.testing.assert_array_equal(cost, dear.cost)


def test_a_complete_row_without_probabilities_is_certain() -> None:
    table = made_up(3)[0].table
    assert probabilities(table).tolist() == [[1, 1]] * 3
