from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from semroute.evaluate.metrics import (
    accuracy,
    auroc,
    confusion,
    expected_calibration_error,
    mean_interval,
    perfect_calibration_error,
    precision_recall_f1,
    wilson_interval,
)

COARSE = st.lists(st.sampled_from([-1.0, 0.0, 0.25, 0.5, 1.0]), min_size=1, max_size=12)
MODEST = settings(deadline=None, max_examples=50)


def test_accuracy_by_hand() -> None:
    scores = np.array([[0.9, 0.1], [0.2, 0.8], [0.7, 0.3]], dtype=np.float32)
    assert accuracy(scores, np.array([0, 1, 1])) == pytest.approx(2 / 3)
    assert accuracy(np.zeros((0, 2), np.float32), np.zeros(0, np.int64)) == 0.0


def test_means_of_zeros_and_ones_have_the_interval_of_a_share() -> None:
    found = mean_interval([1.0] * 20, low=0, high=1)
    assert found is not None
    assert (found.low, found.high) == wilson_interval(20, 20)
    assert found.low < 0.9, "twenty good answers do not prove that all are"
    graded = mean_interval([0.5, 1.0, 0.5, 1.0], low=0, high=1)
    assert graded is not None
    assert graded.high <= 1


@pytest.mark.parametrize("rows", [50, 500, 5000])
def test_perfect_calibration_shows_an_error_that_falls_with_the_rows(rows: int) -> None:
    random = np.random.default_rng(1)
    confidence = random.uniform(0.5, 1.0, rows)
    shown = [expected_calibration_error(confidence, random.random(rows) < confidence) for _ in range(100)]
    assert perfect_calibration_error(confidence) == pytest.approx(np.mean(shown), rel=0.1)
    assert perfect_calibration_error(np.zeros(0)) == 0.0


def test_auroc_by_hand() -> None:
    # Of the four pairs two are in order, one is a tie and one is not.
    assert auroc(np.array([0.9, 0.4]), np.array([0.4, 0.5])) == 0.625
    assert auroc(np.array([1.0]), np.array([0.0])) == 1.0
    assert auroc(np.array([]), np.array([0.5])) is None
    assert auroc(np.array([0.5]), np.array([])) is None


@pytest.mark.slow
@given(COARSE, COARSE)
@MODEST
def test_auroc_is_that_of_scikit_learn(positive: list[float], negative: list[float]) -> None:
    from sklearn.metrics import roc_auc_score

    labels = [1] * len(positive) + [0] * len(negative)
    expected = roc_auc_score(labels, positive + negative)
    assert auroc(np.array(positive), np.array(negative)) == pytest.approx(expected)


def test_ece_by_hand() -> None:
    # Two bins of four: (0.6, 0.7) with one of two right is off by 0.15; (0.9, 1.0) with both right by 0.05.
    confidence, right = np.array([0.6, 0.7, 0.9, 1.0]), np.array([True, False, True, True])
    assert expected_calibration_error(confidence, right, bins=4) == pytest.approx(0.5 * 0.15 + 0.5 * 0.05)


def test_ece_at_its_ends() -> None:
    assert expected_calibration_error(np.zeros(0), np.zeros(0, np.bool_)) == 0.0
    assert expected_calibration_error(np.ones(3), np.ones(3, np.bool_)) == 0.0
    assert expected_calibration_error(np.ones(3), np.zeros(3, np.bool_)) == 1.0
    assert expected_calibration_error(np.full(4, 0.75), np.array([True, True, True, False])) == 0.0


@pytest.mark.slow
@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=30))
@MODEST
def test_ece_is_the_sum_over_bins_done_slowly(rows: list[tuple[float, bool]]) -> None:
    bins: dict[int, list[tuple[float, bool]]] = {}
    for sure, right in rows:
        bins.setdefault(min(int(sure * 15), 14), []).append((sure, right))
    expected = sum(
        len(inside) / len(rows) * abs(np.mean([r for _, r in inside]) - np.mean([c for c, _ in inside]))
        for inside in bins.values()
    )
    found = expected_calibration_error(np.array([c for c, _ in rows]), np.array([r for _, r in rows]))
    assert found == pytest.approx(expected, abs=1e-9)


@pytest.mark.slow
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=30))
@MODEST
def test_precision_recall_and_f1_are_those_of_scikit_learn(rows: list[tuple[int, int]]) -> None:
    from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

    true, predicted = (np.array(side) for side in zip(*rows, strict=True))
    matrix = confusion(true, predicted, 4)
    np.testing.assert_array_equal(matrix, confusion_matrix(true, predicted, labels=range(4)))
    expected = precision_recall_fscore_support(true, predicted, labels=range(4), zero_division=0)
    np.testing.assert_allclose(precision_recall_f1(matrix), np.column_stack(expected[:3]))


def test_the_wilson_interval_of_known_cases() -> None:
    assert wilson_interval(5, 10) == pytest.approx((0.2366, 0.7634), abs=1e-4)
    assert wilson_interval(0, 10) == pytest.approx((0.0, 0.2775), abs=1e-4)
    assert wilson_interval(10, 10) == pytest.approx((0.7225, 1.0), abs=1e-4)
    assert wilson_interval(0, 0) == (0.0, 1.0)
