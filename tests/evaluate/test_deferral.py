from __future__ import annotations

import numpy as np
import pytest

from semroute.evaluate.curves import deferral_area, deferral_gain

DEFERRED, QUALITY = np.array([0.0, 0.5, 1.0]), np.array([0.4, 0.7, 0.8])


def test_the_result_matches_a_hand_computation() -> None:
    # (0.4 + 0.7) / 4 + (0.7 + 0.8) / 4; random deferral has 0.6.
    assert deferral_area(DEFERRED, QUALITY) == pytest.approx(0.65)
    assert deferral_gain(DEFERRED, QUALITY) == pytest.approx(0.65 / 0.6 - 1)


def test_random_deferral_gains_nothing() -> None:
    assert deferral_gain(np.array([0.0, 1.0]), np.array([0.4, 0.8])) == pytest.approx(0.0)
    assert np.isnan(deferral_gain(np.array([0.0, 1.0]), np.array([0.0, 0.0])))
