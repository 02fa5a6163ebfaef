from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from semroute.evaluate.metrics import Resampling
from semroute.evaluate.replay import cascade_curve, replay_cascade, stops

QUALITY = np.array([[0.2, 0.5, 1.0], [0.9, 0.1, 0.8]], np.float32)
COST = np.array([[1.0, 2.0, 8.0], [1.0, 4.0, 8.0]], np.float32)
SCORES = np.array([[0.3, 0.4], [0.7, 0.1]], np.float32)


def test_a_cascade_stops_at_the_first_accepted_tier() -> None:
    assert stops(SCORES, [0.5, 0.4]).tolist() == [1, 0]
    assert stops(SCORES, [0.8, 0.8]).tolist() == [2, 2]
    assert stops(SCORES, [0.3, 0.0]).tolist() == [0, 0]


def test_rejected_answers_are_paid_for() -> None:
    quality, cost = replay_cascade(QUALITY, COST, [0, 1, 2], np.array([1, 2]))
    np.testing.assert_allclose(quality, [0.5, 0.8])
    np.testing.assert_allclose(cost, [3.0, 13.0])


def test_tiers_are_models_in_any_order() -> None:
    quality, cost = replay_cascade(QUALITY, COST, [2, 0], np.array([0, 1]))
    np.testing.assert_allclose(quality, [1.0, 0.9])
    np.testing.assert_allclose(cost, [8.0, 9.0])


def test_a_curve_runs_from_the_first_tier_to_the_last() -> None:
    resampling = Resampling.draw(2, seed=0, resamples=5)
    curve = cascade_curve(QUALITY, COST, [0, 1, 2], SCORES, [-np.inf, 0.5, np.inf], resampling)
    np.testing.assert_allclose(curve.quality[0], [0.55, 0.95, 0.9], rtol=1e-6)
    np.testing.assert_allclose(curve.cost[0], [1.0, 6.0, 12.0])
    assert curve.shares.tolist() == [[1, 0, 0], [0.5, 0, 0.5], [0, 0, 1]]


@pytest.mark.slow
@given(arrays.arrays(np.float32, (6, 2), elements=st.floats(0, 1, width=32)), st.floats(0, 1), st.floats(0, 1))
def test_a_higher_threshold_never_costs_less(scores: np.ndarray, one: float, other: float) -> None:
    low, high = sorted((one, other))
    cost = np.random.default_rng(0).random((6, 3)).astype(np.float32)
    spent = [replay_cascade(cost, cost, [0, 1, 2], stops(scores, [bar] * 2))[1] for bar in (low, high)]
    assert (spent[0] <= spent[1] + 1e-9).all()
