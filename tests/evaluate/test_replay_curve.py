from __future__ import annotations

import numpy as np

from semroute.evaluate.metrics import Resampling
from semroute.evaluate.replay import choose, replay, replayed_curve, tradeoff_curve, values


def test_replay_returns_the_chosen_cells() -> None:
    assert replay(np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([1, 0])).tolist() == [2.0, 3.0]


def test_a_curve_is_the_mean_at_each_value() -> None:
    random = np.random.default_rng(0)
    quality, cost, predicted = (random.random((500, 3)).astype(np.float32) for _ in range(3))
    grid = values(predicted, cost, 9)
    curve = tradeoff_curve(quality, cost, predicted, cost, grid, Resampling.draw(500, seed=0, resamples=20))
    assert curve.quality.shape == curve.cost.shape == (21, len(grid))
    for place, value in enumerate(grid):
        choice = choose(predicted, cost, float(value))
        np.testing.assert_allclose(curve.quality[0, place], replay(quality, choice).mean())
        np.testing.assert_allclose(curve.cost[0, place], replay(cost, choice).mean())
        np.testing.assert_allclose(curve.shares[place], np.bincount(choice, minlength=3) / 500)
    assert (np.diff(curve.cost[0]) >= 0).all()


def test_a_policy_may_have_one_point() -> None:
    cells = np.array([[0.0, 1.0], [0.0, 0.5]], np.float32)
    choices = [(float("nan"), np.array([1, 1]))]
    curve = replayed_curve(cells, cells, choices, Resampling.draw(2, seed=0, resamples=5))
    assert curve.quality[0].tolist() == [0.75]
    assert curve.shares.tolist() == [[0.0, 1.0]]
