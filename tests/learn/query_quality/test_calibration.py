from __future__ import annotations

import numpy as np
import pytest

from semroute.evaluate.metrics import expected_calibration_error
from semroute.learn.stacking import calibration, cross_calibrated
from semroute.predictors.quality_heads import calibrated

N = 4000


def drawn(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """True probabilities, and whether it was so."""
    random = np.random.default_rng(seed)
    chance = random.uniform(0.05, 0.95, (N, 1))
    return chance, (random.random((N, 1)) < chance).astype(np.float64)


def test_calibration_corrects_shrunken_predictions() -> None:
    chance, quality = drawn()
    timid = 0.5 + (chance - 0.5) / 3
    slope, shift = calibration(timid, quality)
    assert slope[0] > 1.5
    said = calibrated(timid, slope, shift)
    assert expected_calibration_error(said[:, 0], quality[:, 0]) < 0.03
    assert expected_calibration_error(timid[:, 0], quality[:, 0]) > 0.1


def test_fractional_quality_counts_in_proportion() -> None:
    chance, _ = drawn()
    slope, shift = calibration(chance, chance)
    assert slope[0] == pytest.approx(1.0, abs=0.02)
    assert shift[0] == pytest.approx(0.0, abs=0.02)


def test_constant_and_reversed_models_are_not_calibrated() -> None:
    chance, quality = drawn()
    raw = np.hstack([chance, chance])
    slope, shift = calibration(raw, np.hstack([np.ones((N, 1)), 1.0 - quality]))
    assert slope.tolist() == [1.0, 1.0]
    assert shift.tolist() == [0.0, 0.0]


@pytest.mark.slow
def test_rows_are_calibrated_by_what_was_fitted_on_others() -> None:
    chance, quality = drawn()
    fold = np.arange(N) % 2
    quality[fold == 1] = 1.0  # always good in this part: what was fitted there alone says nothing of the other
    found = cross_calibrated(0.5 + (chance - 0.5) / 3, quality, fold)
    even = calibration((0.5 + (chance - 0.5) / 3)[fold == 0], quality[fold == 0])
    np.testing.assert_allclose(found[fold == 1], calibrated((0.5 + (chance - 0.5) / 3)[fold == 1], *even))
    np.testing.assert_allclose(found[fold == 0], (0.5 + (chance - 0.5) / 3)[fold == 0])


def test_unknown_cells_do_not_count() -> None:
    chance, quality = drawn()
    holes = np.where(np.arange(N)[:, None] % 2 == 0, np.nan, quality)
    assert calibration(chance, holes)[0][0] == pytest.approx(calibration(chance[1::2], quality[1::2])[0][0])
