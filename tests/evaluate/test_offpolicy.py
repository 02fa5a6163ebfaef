from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from semroute.evaluate.offpolicy import OffPolicyEstimate, completed_by_prediction, doubly_robust, ips, snips

_NAN = float("nan")


def _logs(seed: int, n: int = 400) -> tuple[np.ndarray, ...]:
    """A log that mostly asks the strong model what is hard, and a policy that always asks it.

    True quality, what the log tells, probabilities, the policy's choices, guesses.
    """
    random = np.random.default_rng(seed)
    hard = random.random(n)
    truth = np.column_stack([1 - hard, 1 - hard / 2]) + random.normal(0, 0.05, (n, 2))
    strong = 0.1 + 0.8 * hard
    asked = random.random(n) < strong
    told = np.where(np.column_stack([~asked, asked]), truth, _NAN)
    probability = np.column_stack([1 - strong, strong])
    choice = np.ones(n, np.int64)
    return truth, told, probability, choice, np.full((n, 2), 0.5)


def test_the_result_matches_a_hand_computation() -> None:
    reward = np.array([[1.0, _NAN], [_NAN, 0.5], [_NAN, 0.0]])
    probability = np.array([[0.5, _NAN], [_NAN, 0.25], [_NAN, 0.5]])
    choice = np.array([0, 1, 0])
    assert ips(reward, probability, choice).value == pytest.approx((1 / 0.5 + 0.5 / 0.25) / 3)
    assert snips(reward, probability, choice).value == pytest.approx((1 / 0.5 + 0.5 / 0.25) / (2 + 4))
    guess = np.full((3, 2), 0.5)
    found = doubly_robust(reward, probability, choice, guess)
    assert found.value == pytest.approx(((0.5 + 0.5 / 0.5) + 0.5 + 0.5) / 3)
    assert (found.matched, found.mean_weight) == (2, pytest.approx(2.0))


@pytest.mark.parametrize("times", [2, 10])
def test_duplicates_do_not_narrow_an_estimate(times: int) -> None:
    _, told, probability, choice, guess = _logs(1)
    rows = told, probability, choice, guess, np.arange(len(choice))
    for once, repeated in zip(
        _estimates(*rows), _estimates(*(np.repeat(of, times, axis=0) for of in rows)), strict=True
    ):
        assert repeated.error == pytest.approx(once.error)
        assert repeated.value == pytest.approx(once.value)


def _estimates(
    told: np.ndarray, probability: np.ndarray, choice: np.ndarray, *rest: np.ndarray
) -> list[OffPolicyEstimate]:
    guess, group = rest
    robust = doubly_robust(told, probability, choice, guess, group)
    return [ips(told, probability, choice, group), snips(told, probability, choice, group), robust]


def test_on_complete_data_every_estimate_is_the_mean() -> None:
    reward = np.random.default_rng(0).random((50, 3))
    choice = np.arange(50) % 3
    ones = np.ones((50, 3))
    expected = reward[np.arange(50), choice].mean()
    for found in (
        ips(reward, ones, choice),
        snips(reward, ones, choice),
        doubly_robust(reward, ones, choice, ones * 0.3),
    ):
        assert found.value == pytest.approx(expected)
        assert found.matched == 50


@pytest.mark.slow
def test_estimates_are_unbiased_where_naive_replay_is_biased() -> None:
    naive, estimates, errors = [], {"ips": [], "snips": [], "dr": []}, []
    for seed in range(300):
        truth, told, probability, choice, guess = _logs(seed)
        target = truth[np.arange(len(truth)), choice].mean()
        matched = told[np.arange(len(told)), choice]
        naive.append(np.nanmean(matched) - target)
        estimates["ips"].append(ips(told, probability, choice).value - target)
        estimates["snips"].append(snips(told, probability, choice).value - target)
        found = doubly_robust(told, probability, choice, guess)
        estimates["dr"].append(found.value - target)
        errors.append(found.error)
    assert np.mean(naive) == pytest.approx(-0.067, abs=0.01)
    for name, gaps in estimates.items():
        assert abs(np.mean(gaps)) < 4 * np.std(gaps) / np.sqrt(300) + 1e-3, name
        assert abs(np.mean(gaps)) < abs(np.mean(naive)) / 5, name
    assert np.std(estimates["dr"]) < np.std(estimates["ips"])
    # The error covers the variance over queries too, which the target here shares.
    assert np.mean(errors) > np.std(estimates["dr"]) * 0.9


def test_good_predictions_save_the_estimate_from_wrong_probabilities() -> None:
    truth, told, probability, choice, _ = _logs(1, 20_000)
    target = truth[np.arange(len(truth)), choice].mean()
    wrong = np.clip(probability * 0.5, 0.05, 1)
    assert abs(ips(told, wrong, choice).value - target) > 0.2
    assert doubly_robust(told, wrong, choice, truth).value == pytest.approx(target, abs=1e-6)
    assert ips(told, wrong, choice).mean_weight == pytest.approx(2, abs=0.2)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 1000), st.integers(0, 1000))
def test_the_imputed_table_gives_every_policys_doubly_robust_value(seed: int, other: int) -> None:
    _, told, probability, _, guess = _logs(seed, 60)
    choice = np.random.default_rng(other).integers(0, 2, 60)
    completed = completed_by_prediction(told, probability, guess)
    assert completed[np.arange(60), choice].mean() == pytest.approx(
        doubly_robust(told, probability, choice, guess).value, abs=1e-5
    )


def test_without_any_matching_answer_there_is_no_self_normalised_estimate() -> None:
    found = snips(np.array([[_NAN, 1.0]]), np.array([[_NAN, 1.0]]), np.array([0]))
    assert np.isnan(found.value)
    assert found.matched == 0
