from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from semroute.evaluate.curves import apgr, cpt, pgr, strong_share_curve

# Four queries: the strong model helps with the first and the third, harms with the fourth.
SCORE = np.array([0.9, 0.7, 0.4, 0.1])
WEAK = np.array([0.0, 1.0, 0.0, 1.0])
STRONG = np.array([1.0, 1.0, 1.0, 0.0])

_ROWS = st.lists(
    st.tuples(st.integers(0, 3), st.sampled_from([0.0, 0.5, 1.0]), st.sampled_from([0.0, 0.5, 1.0])),
    min_size=1,
    max_size=12,
)


def test_the_curve_by_hand() -> None:
    share, quality = strong_share_curve(SCORE, WEAK, STRONG)
    assert share.tolist() == [0.0, 0.25, 0.5, 0.75, 1.0]
    assert quality.tolist() == [0.5, 0.75, 0.75, 1.0, 0.75]


def test_the_metrics_by_hand() -> None:
    share, quality = strong_share_curve(SCORE, WEAK, STRONG)
    assert pgr(0.625, 0.5, 0.75) == 0.5
    # Trapezoids: (0.5 + 0.75) / 2, 0.75, (0.75 + 1) / 2 and (1 + 0.75) / 2, a quarter each, are 0.78125.
    assert apgr(share, quality) == pytest.approx((0.78125 - 0.5) / 0.25)
    assert cpt(share, quality, 0.5) == pytest.approx(0.125)
    assert cpt(share, quality, 1.0) == pytest.approx(0.25)


def test_queries_of_equal_score_are_taken_at_random() -> None:
    share, quality = strong_share_curve(np.array([1.0, 0.5, 0.5, 0.0]), WEAK, STRONG)
    assert share.tolist() == [0.0, 0.25, 0.75, 1.0]
    assert quality.tolist() == [0.5, 0.75, 1.0, 0.75]


def test_the_order_of_queries_of_equal_score_changes_nothing() -> None:
    tied = np.array([0.5, 0.5, 0.5, 0.5])
    for rows in ([0, 1, 2, 3], [3, 2, 1, 0], [2, 0, 3, 1]):
        share, quality = strong_share_curve(tied, WEAK[rows], STRONG[rows])
        assert share.tolist() == [0.0, 1.0]
        assert apgr(share, quality) == pytest.approx(0.5)
        assert cpt(share, quality, 0.3) == pytest.approx(0.3)


def test_without_a_gap_there_is_nothing_to_recover() -> None:
    for weak, strong in ((STRONG, WEAK), (WEAK, WEAK), (np.full(4, 0.1), np.full(4, 0.1))):
        share, quality = strong_share_curve(SCORE, weak, strong)
        assert np.isnan(apgr(share, quality))
        assert np.isnan(cpt(share, quality, 0.5))


@pytest.mark.slow
@given(_ROWS)
def test_the_curve_is_the_mean_over_every_order_of_ties(rows: list[tuple[int, float, float]]) -> None:
    score, weak, strong = (np.array(column, np.float64) for column in zip(*rows, strict=True))
    share, quality = strong_share_curve(score, weak, strong)
    for threshold in set(score.tolist()):
        chosen = np.where(score >= threshold, strong, weak)
        assert np.interp(np.mean(score >= threshold), share, quality) == pytest.approx(chosen.mean())
    assert (share[0], share[-1]) == (0.0, 1.0)
    assert quality[0] == pytest.approx(weak.mean())
    assert quality[-1] == pytest.approx(strong.mean())


@pytest.mark.slow
@given(_ROWS)
def test_a_perfect_score_is_at_least_as_good_as_any(rows: list[tuple[int, float, float]]) -> None:
    score, weak, strong = (np.array(column, np.float64) for column in zip(*rows, strict=True))
    if strong.mean() <= weak.mean():
        return
    best = apgr(*strong_share_curve(strong - weak, weak, strong))
    worst = apgr(*strong_share_curve(weak - strong, weak, strong))
    assert worst - 1e-9 <= apgr(*strong_share_curve(score, weak, strong)) <= best + 1e-9
    assert best + worst == pytest.approx(1.0)
