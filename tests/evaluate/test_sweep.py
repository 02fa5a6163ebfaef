from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from semroute.evaluate.routing import OUT_OF_SCOPE, ScoredQueries, SweepPoint, evaluate, recommend, sweep

SCORES = np.array([[0.9, 0.1], [0.2, 0.8], [0.7, 0.6], [0.3, 0.1], [0.2, 0.1], [0.1, 0.6]], dtype=np.float32)
LABELS = np.array([0, 1, 1, 0, OUT_OF_SCOPE, OUT_OF_SCOPE])
CASE = ScoredQueries(("art", "code"), SCORES, np.full(6, 0.5), LABELS)


def test_a_point_by_hand() -> None:
    (point,) = sweep(CASE, np.array([0.5]))
    assert point == SweepPoint(
        threshold=0.5, coverage=0.75, accuracy_accepted=0.5, oos_caught=0.5, accuracy=pytest.approx(0.5)
    )


def test_a_sweep_point_equals_evaluate_at_its_threshold() -> None:
    for threshold in np.linspace(-1, 1, 21):
        (point,) = sweep(CASE, np.array([threshold]))
        found = evaluate(CASE, np.array([threshold, threshold]))
        assert found.false_rejection is not None
        assert (point.coverage, point.oos_caught) == (pytest.approx(1 - found.false_rejection), found.oos_recall)
        assert point.accuracy == pytest.approx(found.accuracy)


def test_coverage_falls_and_rejection_rises_with_the_threshold() -> None:
    points = sweep(CASE, np.linspace(-1, 1.1, 30))
    assert all(a.coverage >= b.coverage for a, b in pairwise(points))
    assert [point.oos_caught for point in points] == sorted(point.oos_caught or 0 for point in points)
    assert (points[0].coverage, points[-1].coverage, points[-1].oos_caught) == (1.0, 0.0, 1.0)
    assert points[-1].accuracy_accepted == 1.0


def test_the_lowest_threshold_that_catches_enough_is_recommended() -> None:
    points = sweep(CASE, np.array([0.0, 0.25, 0.5, 0.65, 0.95]))
    assert recommend(points, 0.5).threshold == 0.25
    assert recommend(points, 0.9).threshold == 0.65


def test_the_best_threshold_is_recommended_if_none_meets_the_target() -> None:
    assert recommend(sweep(CASE, np.array([0.0, 0.25, 0.5])), 0.9).threshold == 0.25


def test_without_out_of_scope_queries_the_most_accurate_is_recommended() -> None:
    inside = ScoredQueries(CASE.categories, SCORES[:4], np.full(4, 0.5), LABELS[:4])
    assert recommend(sweep(inside, np.array([0.0, 0.2, 0.5, 0.95])), 0.9).threshold == 0.0


def test_a_sweep_over_out_of_scope_queries_alone_covers_nothing() -> None:
    outside = ScoredQueries(CASE.categories, SCORES[4:], np.full(2, 0.5), LABELS[4:])
    assert [point.coverage for point in sweep(outside, np.array([0.0]))] == [0.0]
