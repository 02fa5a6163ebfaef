from __future__ import annotations

import json

import numpy as np
import pytest
from evaluate.study_outcomes import made_up
from hypothesis import given
from hypothesis import strategies as st

from semroute.evaluate.comparison import run_study
from semroute.evaluate.comparison_results import CLUSTERS, LENGTH, ORACLE, TASKS, ComparisonPlan, Policies, Study
from semroute.evaluate.controls import RANDOM, SHUFFLED, SINGLE, ControlFigures, HalfSplits, half_splits

PLAN = ComparisonPlan(resamples=200, points=15)


def _study(prediction: str) -> Study:
    costs, vectors, chance = made_up()
    predictions = {
        "truth": chance,
        "noise": np.random.default_rng(5).permutation(chance),
    }
    return run_study(costs, Policies(predictions={prediction: predictions[prediction]}), PLAN, vectors=vectors)


@pytest.fixture(scope="module")
def informed() -> Study:
    return _study("truth")


@pytest.fixture(scope="module")
def uninformed() -> Study:
    return _study("noise")


def _row(study: Study, name: str) -> ControlFigures:
    return next(row for row in study.controls.rows if row.name == name)


def test_every_control_stands_beside_the_policy(informed: Study) -> None:
    names = [row.name for row in informed.controls.rows]
    assert names == ["truth", SHUFFLED, RANDOM, SINGLE, LENGTH, TASKS, CLUSTERS, ORACLE]
    assert [row.margin is None for row in informed.controls.rows] == [True] + [False] * 7


def test_informed_choices_beat_their_own_shares_given_at_random(informed: Study) -> None:
    for name in (SHUFFLED, RANDOM, LENGTH, TASKS):
        margin = _row(informed, name).margin
        assert margin is not None
        assert margin.low > 0.1, name
    single = _row(informed, SINGLE)
    assert single.margin is not None
    assert single.margin.value > -0.02
    assert _row(informed, "truth").cost.value < 0.7 * single.cost.value


def test_uninformed_choices_gain_nothing_over_chance(uninformed: Study) -> None:
    for name in (SHUFFLED, RANDOM):
        margin = _row(uninformed, name).margin
        assert margin is not None
        assert margin.low < 0 < margin.high or abs(margin.value) < 0.01, name


def test_controls_cost_at_most_what_the_policy_costs(informed: Study) -> None:
    spent = _row(informed, "truth").cost.value
    assert _row(informed, SHUFFLED).cost.value == pytest.approx(spent, rel=1e-6)  # two models of constant price
    for name in (RANDOM, LENGTH, TASKS, CLUSTERS, ORACLE):
        assert _row(informed, name).cost.value <= spent * (1 + 1e-9), name
    margin = _row(informed, ORACLE).margin
    assert margin is not None
    assert margin.value <= 0


def test_the_sentence_names_saving_quality_and_splits_kept(informed: Study, uninformed: Study) -> None:
    halves = informed.controls.halves
    assert halves.splits == 200
    assert halves.kept <= halves.kept_floor == 200
    assert 0.3 < halves.saved < 0.55
    assert f"Saves {halves.saved:.0%} at {halves.of_single:.1%}" in halves.sentence()
    assert "200 of 200 splits kept 95%" in halves.sentence()
    # Predictions without information choose both models at random, at any value of quality.
    assert uninformed.controls.halves.kept_floor == 0
    shown = json.loads(json.dumps(informed.to_dict(), allow_nan=False))["controls"]
    assert shown["sentence"] == halves.sentence()
    assert set(shown["rows"]) == {row.name for row in informed.controls.rows}


def test_a_dearer_policy_and_a_free_model_are_put_into_words() -> None:
    assert HalfSplits(10, 9, 10, 0.95, 1.02, -0.25).sentence().startswith("Costs 25% more at 102.0%")
    assert HalfSplits(10, 9, 10, 0.95, 1.02, float("nan")).sentence().startswith("Reaches 102.0%")
    assert HalfSplits(10, 9, 10, 0.95, 1.0, -1e-9).sentence().startswith("Saves 0% at 100.0%")
    assert "nan" not in HalfSplits(10, 10, 10, 0.95, float("nan"), 0.0).sentence()
    one = np.ones((1, 2))
    assert half_splits(one, one, one, one, np.ones(1)).sentence().startswith("Too few different queries")


@given(st.integers(0, 2**32 - 1), st.integers(2, 12), st.integers(1, 5))
def test_single_models_as_points_keep_what_the_same_model_has(seed: int, batches: int, models: int) -> None:
    """The best model of a half is its cheapest point of that quality, so each half compares a model with itself."""
    random = np.random.default_rng(seed)
    quality, cost = random.random((batches, models)), random.random((batches, models)) + 0.1
    found = half_splits(quality, cost, quality, cost, np.ones(batches), splits=20, seed=seed)
    assert (found.kept, found.kept_floor) == (20, 20)
    assert found.of_single == pytest.approx(1.0)
    assert found.saved == pytest.approx(0.0, abs=1e-9)


def test_a_point_that_was_lucky_on_one_half_is_not_credited_on_it() -> None:
    """Of many points without merit the luckiest reaches the model on its half, and falls short on the other."""
    random = np.random.default_rng(3)
    model = np.full((400, 1), 0.6)
    points = (random.random((400, 40)) < 0.55).astype(float)
    price = np.ones((400, 40)) * 0.5
    found = half_splits(points, price, model, np.ones((400, 1)), np.ones(400))
    assert found.saved == pytest.approx(0.5)
    assert found.of_single < 0.97
    assert found.kept < 60
