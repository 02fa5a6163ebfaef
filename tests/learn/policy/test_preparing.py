from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from predictors.query_quality.query_heads import MODELS, made, no_categories

from semroute.catalog import estimate_query_tokens
from semroute.config import Price
from semroute.errors import InputError
from semroute.index import BothScores
from semroute.learn.estimators import ForestEstimator, LinearEstimator
from semroute.learn.policy.prepare import PolicyInputs, prepare, shuffled, split
from semroute.outcomes.costs import with_costs
from semroute.outcomes.table import TableBuilder
from semroute.predictors.query_features import QueryInputs
from semroute.text.signals import NO_SIGNALS, SIGNALS, Signals

PRICES = {"small": Price(input=1, output=1), "large": Price(input=10, output=10)}


STUCK: Signals = {"turns": 1, "tool_loop": 6, "repeated_calls": 4}


def material(n: int = 240, *, answers: bool = False, conversations: bool = False) -> PolicyInputs:
    """Outcomes of queries; of ``conversations``, every other one is stuck, and the small model fails there."""
    data = made(n)
    builder = TableBuilder(keep_responses=True)
    for number, (query, quality) in enumerate(zip(data.queries, data.quality.tolist(), strict=True)):
        is_stuck = conversations and number % 2 == 1
        row = builder.row(query, "", signals=STUCK if is_stuck else NO_SIGNALS)
        for model, known in zip(MODELS, quality, strict=True):
            value = 0.0 if is_stuck and model == "small" else known
            numbers = {"quality": value, "input_tokens": 10.0, "output_tokens": 20.0}
            text = f"The answer is {number} + 1 = {number + (1 if value else 7)}." if answers else None
            builder.add(row, model, numbers, text)
    costs = with_costs(builder.table(), PRICES)
    inputs = QueryInputs.of(data.queries, data.vectors, no_categories(), costs.table.signals)
    return PolicyInputs(
        costs, np.arange(n), inputs, BothScores(None, np.zeros((n, 0), np.float32)), PRICES, "print", no_categories()
    )


def test_the_parts_share_no_row_and_no_duplicate() -> None:
    queries = [f"query {number // 2}" for number in range(400)]
    tuning, held = split(np.arange(400) // 2, 0.5, 0)
    assert sorted([*tuning, *held]) == list(range(400))
    assert not {queries[row] for row in tuning} & {queries[row] for row in held}
    assert 190 <= len(held) <= 200
    assert held.tolist() != sorted(held), "in random order"


@pytest.mark.parametrize("seed", range(5))
def test_a_group_that_is_too_large_to_be_held_does_not_keep_the_others_from_it(seed: int) -> None:
    tuning, held = split(np.maximum(np.arange(376) - 150, 0), 0.4, seed)
    assert len(held) == 150, "the share that was asked for"
    assert set(range(151)) <= set(tuning.tolist()), "151 rows are more than the share of 376"


@pytest.mark.slow
@given(st.lists(st.integers(1, 4), min_size=130, max_size=200), st.integers(0, 50))
def test_the_held_part_is_as_full_as_whole_groups_make_it(sizes: list[int], seed: int) -> None:
    group = np.repeat(np.arange(len(sizes)), sizes)
    tuning, held = split(group, 0.5, seed)
    assert sorted([*tuning, *held]) == list(range(len(group)))
    assert len(held) <= len(group) / 2
    left = set(group[tuning].tolist())
    assert not left & set(group[held].tolist())
    assert all(len(held) + sizes[number] > len(group) / 2 for number in left), "no group fits any more"
    assert (np.diff(group[held]) != 0).sum() == len(set(group[held].tolist())) - 1, "group by group"


def test_too_few_rows_for_two_parts_are_an_error() -> None:
    with pytest.raises(InputError, match="each part needs 50"):
        split(np.arange(80), 0.5, 0)


@pytest.mark.slow
def test_both_parts_are_predicted_out_of_fold() -> None:
    whole = material()
    rows = split(whole.group, 0.5, 0)
    found = prepare(whole, *rows, heads={"linear": LinearEstimator()})
    assert len(found.tuning) + len(found.held) == 240
    for part in (found.tuning, found.held):
        good = part.quality[:, 0] > 0.5
        assert part.predicted[good, 0].mean() > part.predicted[~good, 0].mean() + 0.2
        np.testing.assert_allclose(part.expected.mean(axis=0), [30e-6, 300e-6], rtol=0.02)
    asked = [estimate_query_tokens(whole.costs.table.queries[row]) for row in rows[1].tolist()]
    np.testing.assert_array_equal(found.held.expected, found.classifier.costs.expected(asked))
    again = found.classifier.predict_inputs(whole.inputs.take(rows[1]))
    np.testing.assert_array_equal(again, found.held.predicted)
    assert found.checks == {}


@pytest.mark.slow
def test_a_policys_classifier_takes_the_signals_of_conversations_too() -> None:
    whole = material(conversations=True)
    tuning, held = split(whole.group, 0.5, 0)
    found = prepare(whole, tuning, held, heads={"forest": ForestEstimator()})
    assert found.classifier.signals == SIGNALS
    stuck = held % 2 == 1
    assert found.held.predicted[stuck, 0].mean() < found.held.predicted[~stuck, 0].mean() - 0.2


@pytest.mark.slow
def test_without_held_out_rows_all_rows_tune_and_test_by_predictions_not_fitted_on_them() -> None:
    whole = material()
    rows = shuffled(whole.group, 0)
    found = prepare(whole, rows, heads={"linear": LinearEstimator()})
    assert found.is_cross_fitted
    assert len(found.held) == len(whole.group)
    served = found.classifier.predict_inputs(whole.inputs.take(rows))
    assert not np.allclose(served, found.held.predicted), "what is served was fitted on the row, the test was not"


@pytest.mark.slow
@given(st.lists(st.integers(1, 5), min_size=60, max_size=120), st.integers(0, 9))
def test_rows_are_shuffled_group_by_group(sizes: list[int], seed: int) -> None:
    group = np.repeat(np.arange(len(sizes)), sizes)
    rows = shuffled(group, seed)
    assert sorted(rows.tolist()) == list(range(len(group)))
    changes = np.flatnonzero(np.diff(group[rows]))
    assert len(changes) == len(sizes) - 1, "a group stays together"


def test_too_few_rows_to_test_are_an_error() -> None:
    with pytest.raises(InputError, match="a policy needs"):
        shuffled(np.arange(5), 0)


@pytest.mark.slow
def test_recorded_answers_of_the_cheaper_model_get_a_check() -> None:
    whole = material(answers=True)
    rows = split(whole.group, 0.5, 0)
    found = prepare(whole, *rows, heads={"linear": LinearEstimator()})
    assert set(found.checks) == {0}, "the dearest model's answers are never rejected"
    good = found.held.quality[:, 0] > 0.5
    assert found.held.acceptance[0][good].mean() > found.held.acceptance[0][~good].mean() + 0.5
