from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from semroute.evaluate.curves import (
    apgr,
    aurocs,
    calibration_errors,
    cpt,
    steps,
    strong_share_curve,
    strong_share_curves,
)
from semroute.evaluate.metrics import Resampling, auroc, bootstrap, expected_calibration_error, interval


def _pair(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    score = random.random(n)
    return score, (random.random(n) < 0.6).astype(float), (random.random(n) < 0.6 + 0.3 * score).astype(float)


@pytest.mark.slow
@given(st.lists(st.integers(0, 9), min_size=1, max_size=40), st.integers(1, 6))
def test_steps_keep_the_order_and_equal_scores_together(scores: list[int], most: int) -> None:
    score = np.array(scores, np.float64)
    step = steps(score, most)
    assert step.max() < most
    assert set(step.tolist()) == set(range(int(step.max()) + 1))
    order = np.argsort(-score, kind="stable")
    assert (np.diff(step[order]) >= 0).all()
    for value in set(scores):
        assert len(set(step[score == value].tolist())) == 1


@pytest.mark.slow
def test_few_queries_give_the_exact_curve() -> None:
    score, weak, strong = _pair(500)
    shares, qualities = strong_share_curves(Resampling.draw(500, seed=0), score, weak, strong)
    share, quality = strong_share_curve(score, weak, strong)
    np.testing.assert_allclose(shares[0], share)
    np.testing.assert_allclose(qualities[0], quality)


@pytest.mark.slow
def test_many_queries_give_the_curve_to_some_millionths() -> None:
    score, weak, strong = _pair(100_000)
    found = apgr(*strong_share_curves(Resampling.draw(len(score), seed=0, resamples=2), score, weak, strong))
    assert found[0] == pytest.approx(float(apgr(*strong_share_curve(score, weak, strong))), abs=1e-5)


@pytest.mark.slow
def test_the_intervals_are_those_of_resampling_row_by_row() -> None:
    score, weak, strong = _pair(800)

    def curve(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return strong_share_curve(score[rows], weak[rows], strong[rows])

    curves = strong_share_curves(Resampling.draw(800, seed=0), score, weak, strong)
    for fast, slow in (
        (interval(apgr(*curves)), bootstrap(lambda rows: float(apgr(*curve(rows))), 800, seed=1)),
        (interval(cpt(*curves, 0.5)), bootstrap(lambda rows: float(cpt(*curve(rows), 0.5)), 800, seed=1)),
    ):
        assert fast.value == pytest.approx(slow.value)
        assert fast.low == pytest.approx(slow.low, abs=0.03)
        assert fast.high == pytest.approx(slow.high, abs=0.03)


def test_auroc_and_calibration_error_are_those_of_the_plain_functions() -> None:
    score, _, strong = _pair(700)
    score = np.round(score, 2)
    is_right = strong > 0.5
    resampling = Resampling.draw(700, seed=0)
    found = interval(aurocs(resampling, score, is_right))
    assert found.value == pytest.approx(auroc(score[is_right], score[~is_right]))
    assert found.low < found.value < found.high
    errors = interval(calibration_errors(resampling, score, strong))
    assert errors.value == pytest.approx(expected_calibration_error(score, is_right))


def test_one_class_only_has_no_auroc() -> None:
    resampling = Resampling.draw(5, seed=0, resamples=10)
    assert np.isnan(aurocs(resampling, np.arange(5.0), np.ones(5, np.bool_))).all()
