"""Our figures beside those that the authors' own programs gave for the same points.

RouteLLM: ``generate_results`` of ``routellm/evals/evaluate.py``, package routellm 0.2.0 from PyPI, given every point of
the curve. RouterBench: ``calc_AIQ`` of ``evaluation/AIQ.py`` in github.com/withmartian/routerbench at 30e0925. Both ran
once, with numpy 1.26, on the points that are drawn here.
"""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from semroute.evaluate.curves import aiq, apgr, cpt, hull, strong_share_curve

RECOVERED = (0.2, 0.5, 0.8)


def answers() -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Score, weak and strong quality of 40 queries."""
    random = np.random.default_rng(7)
    weak, strong = (random.random(40) < 0.5).astype(float), (random.random(40) < 0.8).astype(float)
    return np.round(random.random(40), 3), weak, strong


@pytest.mark.parametrize(
    ("never_worse", "area", "shares"),
    [(False, 0.406944444444, (44.50, 58.75, 65.50)), (True, 0.394166666667, (42.50, 61.25, 77.50))],
)
def test_apgr_and_cpt_are_those_of_routellm(never_worse: bool, area: float, shares: tuple[float, ...]) -> None:
    score, weak, strong = answers()
    curve = strong_share_curve(score, weak, np.maximum(weak, strong) if never_worse else strong)
    assert apgr(*curve) == pytest.approx(area, abs=1e-11)
    assert [float(100 * cpt(*curve, part)) for part in RECOVERED] == pytest.approx(shares, abs=0.005)


def points(k: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Cost and quality of ``k`` policies, of the numbers that came in turn for 3, 5, 8 and 20."""
    random = np.random.default_rng(11)
    for count in (3, 5, 8, 20):
        drawn = np.round(np.column_stack([random.random(count) * 4 + 1, random.random(count)]), 3)
        if count == k:
            return drawn[:, 0], drawn[:, 1]
    raise AssertionError(k)


def theirs(cost: NDArray[np.float64], quality: NDArray[np.float64]) -> float:
    """AIQ over the range that RouterBench takes, divided by what it divides by."""
    low, high = float(cost.min()), float(cost.max())
    return aiq(cost, quality, low, high) * (high - low) / high


@pytest.mark.parametrize(("k", "figure"), [(3, 0.2658021139166178), (8, 0.42312652315190896)])
def test_aiq_equals_routerbench_if_the_most_expensive_policy_is_the_best(k: int, figure: float) -> None:
    cost, quality = points(k)
    assert hull(cost, quality)[0][-1] == cost.max()
    assert theirs(cost, quality) == pytest.approx(figure, abs=1e-12)


@pytest.mark.parametrize(("k", "figure"), [(5, 0.3366003634894992), (20, 0.2602422208663819)])
def test_aiq_extends_the_hull_level_beyond_the_best_policy(k: int, figure: float) -> None:
    # Their paper's hull never falls. Their program compares each point with the one before it only, and follows dearer
    # and worse policies down.
    cost, quality = points(k)
    assert hull(cost, quality)[0][-1] < cost.max()
    assert theirs(cost, quality) > figure
