from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from semroute.index import BothScores
from semroute.index.scoring import answers, margin_score

SCORES = st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0])


def matrix(rows: list[list[float]]) -> NDArray[np.float32]:
    return np.array(rows, dtype=np.float32)


@st.composite
def both(draw: st.DrawFn) -> BothScores:
    shape = draw(st.integers(1, 6)), draw(st.integers(1, 4))
    return BothScores(
        draw(arrays(np.float32, shape, elements=SCORES)), draw(arrays(np.float32, shape, elements=SCORES))
    )


def test_sureness_is_the_best_score_and_its_lead() -> None:
    np.testing.assert_allclose(margin_score(matrix([[0.75, 0.5, 0.0], [0.25, 0.25, 0.25]])), [1.0, 0.25])
    np.testing.assert_allclose(margin_score(matrix([[0.5]])), [1.5])


@pytest.mark.parametrize(
    ("bar", "threshold", "answered"),
    [(1.0, 0.75, True), (1.0, 0.76, False), (1.001, 0.0, False), (-np.inf, 0.75, True), (np.inf, 0.0, False)],
)
def test_the_first_stage_answers_when_it_is_sure_and_its_best_reaches_its_own_threshold(
    bar: float, threshold: float, answered: bool
) -> None:
    assert answers(matrix([[0.5, 0.75]]), np.array([9.0, threshold]), bar).tolist() == [answered]


def test_each_query_may_have_thresholds_and_a_bar_of_its_own() -> None:
    scores = matrix([[0.75, 0.5], [0.75, 0.5], [0.75, 0.5]])
    thresholds = np.array([[0.75, 9.0], [0.8, 0.0], [0.0, 0.0]])
    assert answers(scores, thresholds, np.array([1.0, 1.0, 1.1])).tolist() == [True, False, False]


@pytest.mark.slow
@given(both(), st.lists(SCORES, min_size=4, max_size=4), st.floats(-0.5, 2.5))
@settings(deadline=None, max_examples=80)
def test_every_row_is_that_of_one_stage_and_only_the_second_rejects(
    scores: BothScores, thresholds: list[float], bar: float
) -> None:
    assert scores.first is not None
    needed = np.array(thresholds[: scores.second.shape[1]])
    answered, rows = scores.answered(needed, bar), scores.scores(needed, bar)
    for row, by_first in enumerate(answered):
        source = scores.first if by_first else scores.second
        np.testing.assert_array_equal(rows[row], source[row])
        if by_first:
            assert rows[row].max() >= needed[rows[row].argmax()]
            assert margin_score(rows[[row]])[0] >= bar


@pytest.mark.slow
@given(both(), SCORES, st.floats(-0.5, 2.5))
@settings(deadline=None, max_examples=80)
def test_the_strongest_rows_are_accepted_exactly_when_serving_accepts_at_a_common_threshold(
    scores: BothScores, threshold: float, bar: float
) -> None:
    needed = np.full(scores.second.shape[1], threshold)
    served = scores.scores(needed, bar).max(axis=1) >= threshold
    np.testing.assert_array_equal(scores.strongest(bar).max(axis=1) >= threshold, served)


def test_without_a_first_stage_all_rows_are_the_seconds() -> None:
    second = matrix([[0.75, 0.5], [0.0, 0.25]])
    alone = BothScores(None, second)
    thresholds = np.zeros(2)
    assert not alone.answered(thresholds, -np.inf).any()
    np.testing.assert_array_equal(alone.scores(thresholds, -np.inf), second)
    np.testing.assert_array_equal(alone.strongest(-np.inf), second)
    np.testing.assert_array_equal(alone[np.array([False, True])].second, second[1:])
