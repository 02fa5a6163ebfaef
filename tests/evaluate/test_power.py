from __future__ import annotations

import numpy as np
import pytest

from semroute.evaluate.metrics import outcomes_needed, outcomes_to_detect


def test_the_result_matches_a_hand_computation() -> None:
    # Half of the queries differ by +0.5, half by -0.5: s is 0.5 (to n - 1), so n = (1.96 * 0.5 / 0.01)^2.
    difference = np.tile([0.5, -0.5], 50_000)
    assert outcomes_needed(difference, 0.01) == pytest.approx(9604, abs=2)
    assert outcomes_to_detect(difference, 0.01) == pytest.approx((1.96 + 0.8416) ** 2 * 2500, abs=3)


def test_policies_that_never_differ_need_one_query() -> None:
    assert outcomes_needed(np.zeros(10), 0.01) == 1
    assert outcomes_needed(np.array([0.3]), 0.01) == 1


def test_the_sample_size_gives_the_wanted_interval() -> None:
    random = np.random.default_rng(0)
    pilot = random.choice([-1.0, 0.0, 1.0], 2000, p=[0.05, 0.8, 0.15])
    n = outcomes_needed(pilot, 0.02)
    widths = [1.96 * random.choice([-1.0, 0.0, 1.0], n, p=[0.05, 0.8, 0.15]).std() / np.sqrt(n) for _ in range(50)]
    assert np.mean(widths) == pytest.approx(0.02, rel=0.06)


def test_the_sample_size_detects_the_effect_with_the_stated_power() -> None:
    random = np.random.default_rng(0)
    n = outcomes_to_detect(random.normal(0, 1, 5000), 0.2)
    found = [abs(sample.mean() / sample.std() * np.sqrt(n)) > 1.96 for sample in random.normal(0.2, 1, (400, n))]
    assert np.mean(found) == pytest.approx(0.8, abs=0.07)
