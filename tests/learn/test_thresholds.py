from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from semroute.evaluate.routing import decide
from semroute.learn.thresholds import PRIOR, thresholds_for_false_rejection, thresholds_for_recall
from semroute.types import Matrix


def scores_of(categories: st.SearchStrategy[int]) -> st.SearchStrategy[Matrix]:
    shape = st.tuples(st.integers(1, 40), categories)
    elements = st.floats(-1, 1, width=32, allow_subnormal=False) | st.sampled_from([0.0, 0.5, 1.0])
    return arrays(np.float32, shape, elements=elements)


SCORES = scores_of(st.integers(1, 4))
SHARES = st.floats(0.01, 1.0)
MODEST = settings(deadline=None, max_examples=100)


def rejected(scores: Matrix, thresholds: np.ndarray) -> float:
    return float(1 - decide(scores, thresholds)[1].mean())


@pytest.mark.slow
@given(SCORES, SHARES)
@example(np.array([[0.5]], dtype=np.float32), 0.9)  # a shift of next to nothing must not be rounded away
@example(np.array([[2.0**-126], [1.0]], dtype=np.float32), 0.5)
@MODEST
def test_the_target_is_reached_on_what_it_was_fitted_on(scores: Matrix, target: float) -> None:
    thresholds = thresholds_for_recall(scores, target)
    assert thresholds.shape == (scores.shape[1],)
    assert thresholds.dtype == np.float64
    assert rejected(scores, thresholds) >= target - 1e-9


@pytest.mark.slow
@given(scores_of(st.just(1)), st.lists(SHARES, min_size=2, max_size=5))
@MODEST
def test_a_higher_target_never_lowers_the_threshold(scores: Matrix, targets: list[float]) -> None:
    found = [thresholds_for_recall(scores, target)[0] for target in sorted(targets)]
    assert all(low <= high + 1e-12 for low, high in pairwise(found))


def test_rejections_do_not_exceed_the_target() -> None:
    scores = np.random.default_rng(0).uniform(size=(1000, 5)).astype(np.float32)
    for target in (0.5, 0.9, 0.95):
        assert rejected(scores, thresholds_for_recall(scores, target)) == pytest.approx(target, abs=0.002)


def test_a_category_with_many_high_scorers_gets_the_higher_threshold() -> None:
    random = np.random.default_rng(0)
    low = np.column_stack([random.uniform(0.1, 0.3, 300), np.zeros(300)])
    high = np.column_stack([np.zeros(300), random.uniform(0.6, 0.8, 300)])
    scores = np.concatenate([low, high]).astype(np.float32)
    first, second = thresholds_for_recall(scores, 0.9)
    assert first < 0.45 < second
    assert rejected(scores, np.array([first, second])) == pytest.approx(0.9, abs=0.01)


@pytest.mark.slow
@given(scores_of(st.just(1)), st.lists(st.floats(0, 1), min_size=2, max_size=4))
@MODEST
def test_the_threshold_of_one_category_rises_with_the_target(scores: Matrix, shares: list[float]) -> None:
    found = [thresholds_for_false_rejection(scores, share)[0] for share in sorted(shares)]
    assert all(low <= high + 1e-12 for low, high in pairwise(found))


# A category's threshold may fall a little where another's rises much, since all are lowered together.
FALLS = np.array([[0, 0], [0.5, 1], [0, 0.5]] + [[0.5, 0.5]] * 15, dtype=np.float32)


@pytest.mark.slow
@given(SCORES, st.lists(st.floats(0, 1), min_size=2, max_size=4))
@example(FALLS, [0.0, 0.03125])
@MODEST
def test_some_threshold_rises_with_the_target_or_all_stay(scores: Matrix, shares: list[float]) -> None:
    found = [thresholds_for_false_rejection(scores, share) for share in sorted(shares)]
    assert all(np.max(high - low) >= -1e-12 for low, high in pairwise(found))


def test_the_share_of_rejected_queries_in_scope_is_the_one_asked_for() -> None:
    scores = np.random.default_rng(0).uniform(size=(2000, 4)).astype(np.float32)
    assert rejected(scores, thresholds_for_false_rejection(scores, 0.02)) == pytest.approx(0.02, abs=0.003)
    assert rejected(scores, thresholds_for_false_rejection(scores, 0.0)) == 0.0


def test_few_queries_of_a_category_take_its_mean_and_the_deviations_of_all_by_hand() -> None:
    # 30 queries land in the first category at 0.5, and 10 in the second at 1.0; nothing deviates.
    scores = np.array([[0.5, 0.0]] * PRIOR + [[0.0, 1.0]] * 10, dtype=np.float32)
    first, second = thresholds_for_false_rejection(scores, 0.5)
    assert first == pytest.approx(0.5)
    location = (10 * 1.0 + 0.75) / 11
    assert second == pytest.approx(10 / 40 * 1.0 + 30 / 40 * location)


@pytest.mark.parametrize("many", [20, 300, 3000])
def test_a_small_category_keeps_its_own_threshold_beside_a_big_one(many: int) -> None:
    random = np.random.default_rng(0)
    big = np.column_stack([random.normal(0.9, 0.01, many), np.zeros(many)])
    small = np.column_stack([np.zeros(3), [0.5, 0.55, 0.6]])
    scores = np.concatenate([big, small]).astype(np.float32)
    first, second = thresholds_for_false_rejection(scores, 0.03, np.repeat([0, 1], [many, 3]))
    assert first > 0.85
    assert second <= 0.51


def test_no_threshold_rejects_more_of_its_own_category_than_its_evidence_supports() -> None:
    random = np.random.default_rng(0)
    labels = np.repeat([0, 1, 2], [400, 12, 5])
    scores = np.full((len(labels), 3), 0.1)
    scores[np.arange(len(labels)), labels] = random.uniform(np.array([0.8, 0.4, 0.3])[labels], 0.95)
    thresholds = thresholds_for_false_rejection(scores.astype(np.float32), 0.03, labels)
    for category, own in enumerate(scores[labels == number, number] for number in range(3)):
        assert (own < thresholds[category]).sum() <= max(1, 0.05 * len(own))


def test_a_category_without_assigned_queries_takes_the_overall_quantile() -> None:
    scores = np.array([[0.5, 0.0], [0.75, 0.0]], dtype=np.float32)
    assert thresholds_for_false_rejection(scores, 0.5)[1] == pytest.approx(0.625)
