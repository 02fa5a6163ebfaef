from __future__ import annotations

import numpy as np
import pytest

from semroute.evaluate.routing import OUT_OF_SCOPE, ScoredQueries, decide, evaluate

# Six queries: right, right, confused, in scope but rejected, out of scope and rejected, out of scope and accepted.
SCORES = np.array([[0.9, 0.1], [0.2, 0.8], [0.7, 0.6], [0.3, 0.1], [0.2, 0.1], [0.1, 0.6]], dtype=np.float32)
LABELS = np.array([0, 1, 1, 0, OUT_OF_SCOPE, OUT_OF_SCOPE])
CONFIDENCE = np.array([0.9, 0.9, 0.6, 0.5, 0.5, 0.5])
CASE = ScoredQueries(("art", "code"), SCORES, CONFIDENCE, LABELS)
THRESHOLDS = np.array([0.5, 0.5])


def test_the_figures_of_a_small_case_by_hand() -> None:
    found = evaluate(CASE, THRESHOLDS)
    assert found.n == 6
    assert found.accuracy == pytest.approx(3 / 6)
    assert found.accuracy_in_scope == pytest.approx(3 / 4)
    assert found.oos_auroc == pytest.approx(7 / 8)
    assert found.oos_recall == 0.5
    assert found.false_rejection == 0.25
    # bins of the four in scope: {0.9, 0.9} both right; {0.6} wrong; {0.5} right
    assert found.ece == pytest.approx((2 * 0.1 + 0.6 + 0.5) / 4)
    assert found.confusion == ((1, 0, 1), (1, 1, 0), (0, 1, 1))
    assert found.per_category["art"] == {"precision": 0.5, "recall": 0.5, "f1": 0.5, "n": 2}
    assert found.per_category["code"] == {"precision": 0.5, "recall": 0.5, "f1": 0.5, "n": 2}
    low, high = found.accuracy_interval
    assert 0 < low < 0.5 < high < 1


def test_a_rejected_winner_is_not_replaced() -> None:
    top, accepted = decide(np.array([[0.7, 0.6]], dtype=np.float32), np.array([0.9, 0.1]))
    assert (top.tolist(), accepted.tolist()) == ([0], [False])


def test_a_threshold_of_zero_is_a_threshold_and_is_reached_by_its_equal() -> None:
    _, accepted = decide(np.array([[-0.1], [0.0], [0.1]], dtype=np.float32), np.array([0.0]))
    assert accepted.tolist() == [False, True, True]


def test_thresholds_may_differ_by_query() -> None:
    thresholds = np.tile(THRESHOLDS, (6, 1))
    assert evaluate(CASE, thresholds) == evaluate(CASE, THRESHOLDS)
    thresholds[5] = 0.7
    assert evaluate(CASE, thresholds).oos_recall == 1.0


def test_out_of_scope_figures_are_none_without_such_queries() -> None:
    found = evaluate(ScoredQueries(("art", "code"), SCORES[:4], CONFIDENCE[:4], LABELS[:4]), THRESHOLDS)
    assert (found.oos_auroc, found.oos_recall) == (None, None)
    assert found.false_rejection == 0.25


def test_in_scope_figures_are_none_without_such_queries() -> None:
    found = evaluate(ScoredQueries(("art", "code"), SCORES[4:], CONFIDENCE[4:], LABELS[4:]), THRESHOLDS)
    assert (found.accuracy_in_scope, found.false_rejection, found.ece, found.oos_auroc) == (None, None, None, None)
    assert found.accuracy == 0.5


def test_no_queries_at_all_give_empty_figures() -> None:
    found = evaluate(ScoredQueries(("art", "code"), SCORES[:0], CONFIDENCE[:0], LABELS[:0]), THRESHOLDS)
    assert (found.n, found.accuracy, found.accuracy_interval) == (0, 0.0, (0.0, 1.0))
    assert found.per_category["art"]["n"] == 0
