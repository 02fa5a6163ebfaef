from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from semroute.evaluate.rejection import FALSE_REJECTIONS, rejection_curve
from semroute.evaluate.routing import OUT_OF_SCOPE, ScoredQueries


def scored(best: list[float], labels: list[int]) -> ScoredQueries:
    scores = np.column_stack([best, np.zeros(len(best))]).astype(np.float32)
    return ScoredQueries(("a", "b"), scores, np.ones(len(best)), np.array(labels))


def test_separable_queries_are_all_caught_without_a_loss() -> None:
    points = rejection_curve(scored([0.9] * 10 + [0.2] * 5, [0] * 10 + [OUT_OF_SCOPE] * 5), np.array([0.5, 0.5]))
    assert len(points) == len(FALSE_REJECTIONS)
    assert all(point.oos_recall == 1.0 and point.false_rejection == 0.0 for point in points)


def test_without_either_kind_there_is_no_curve() -> None:
    assert rejection_curve(scored([0.9], [0]), np.array([0.5, 0.5])) == ()
    assert rejection_curve(scored([0.9], [OUT_OF_SCOPE]), np.array([0.5, 0.5])) == ()


@given(st.lists(st.tuples(st.floats(0.01, 1), st.sampled_from([0, OUT_OF_SCOPE])), min_size=2, max_size=60))
def test_no_point_loses_more_than_wanted_and_more_lost_is_more_caught(rows: list[tuple[float, int]]) -> None:
    best, labels = zip(*rows, strict=True)
    points = rejection_curve(scored(list(best), list(labels)), np.array([0.3, 0.6]))
    for point, wanted in zip(points, FALSE_REJECTIONS, strict=False):
        assert point.false_rejection <= wanted + 1e-9
    recalls = [point.oos_recall for point in points]
    assert recalls == sorted(recalls)
