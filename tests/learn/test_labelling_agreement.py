from __future__ import annotations

import numpy as np
import pytest

from semroute.learn.labelling import agreement


def test_the_result_matches_a_hand_computation() -> None:
    # 40 both good, 30 both bad, 20 that the first alone calls good, 10 that the second alone does.
    first = np.array([1.0] * 40 + [0.0] * 30 + [0.9] * 20 + [0.2] * 10)
    second = np.array([1.0] * 40 + [0.0] * 30 + [0.0] * 20 + [0.5] * 10)
    found = agreement(first, second)
    assert found.same.value == pytest.approx(0.7)
    # Chance: 0.6 * 0.5 + 0.4 * 0.5 = 0.5.
    assert found.kappa == pytest.approx((0.7 - 0.5) / 0.5)
    assert (found.too_kind.hits, found.too_kind.n) == (20, 50)
    assert (found.too_strict.hits, found.too_strict.n) == (10, 50)


def test_constant_labels_have_no_kappa() -> None:
    assert agreement(np.ones(5), np.ones(5)).kappa is None
    assert agreement(np.ones(0), np.ones(0)).kappa is None
