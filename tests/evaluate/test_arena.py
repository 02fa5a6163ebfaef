from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from semroute.evaluate.curves import HIGHEST, LOWEST, arena_score

_SHARE = st.floats(0, 1)


def test_the_result_matches_a_hand_computation() -> None:
    # At the geometric mean of the arena's ends a policy is half cheap: 1.1 * 0.8 * 0.5 / (0.08 + 0.5).
    assert arena_score(0.8, np.sqrt(LOWEST * HIGHEST) / 1000) == pytest.approx(0.44 / 0.58)


@pytest.mark.parametrize(("quality", "per_thousand", "score"), [(0.1818, 0.0518, 0.1953), (0.7575, 0.125, 0.7505)])
def test_the_published_figures_of_routers(quality: float, per_thousand: float, score: float) -> None:
    # As the arena's own program printed them, with rounded quality and cost, for two routers handed in to it.
    assert arena_score(quality, per_thousand / 1000) == pytest.approx(score, abs=1.5e-4)


def test_costs_beyond_the_arenas_range_count_as_its_ends() -> None:
    assert arena_score(0.7, 0.0) == arena_score(0.7, LOWEST / 1000) == pytest.approx(1.1 * 0.7 / 1.07)
    assert arena_score(0.7, 1.0) == 0.0
    assert arena_score(0.0, 1.0) == 0.0


@pytest.mark.slow
@given(_SHARE, _SHARE, _SHARE)
def test_better_or_cheaper_never_scores_less(quality: float, better: float, cost: float) -> None:
    low, high = sorted((quality, better))
    assert arena_score(low, cost) <= arena_score(high, cost) + 1e-12
    assert arena_score(quality, cost) <= arena_score(quality, cost / 2) + 1e-12
    assert 0 <= arena_score(quality, cost) <= 1
