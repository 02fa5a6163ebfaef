from __future__ import annotations

import numpy as np
import pytest

from semroute.index import BothScores, Calibration
from semroute.index.scoring import best_and_margin
from semroute.learn.fit import (
    MIN_FOR_CALIBRATION,
    USUAL_ASK_BAR,
    USUAL_WEIGHT,
    WEIGHTS,
    Calibrations,
    HeldOut,
    ask_bar,
    calibrate,
    choose,
)
from semroute.types import Matrix

LABELS = np.array([0, 1] * 50)
GOOD = np.where(np.arange(2) == LABELS[:, None], 0.9, 0.1).astype(np.float32)
BAD = GOOD[:, ::-1].copy()


def held(similarities: dict[int, Matrix], probabilities: Matrix | None = None) -> HeldOut:
    return HeldOut(LABELS, similarities, probabilities)


def test_the_number_of_prototypes_that_classifies_best_is_chosen() -> None:
    found = choose(held({1: BAD, 2: GOOD, 4: BAD}), 40)
    assert (found.prototypes, found.weight) == (2, 0.0)
    np.testing.assert_array_equal(found.scores, GOOD)


def test_ties_go_to_the_default_number_of_prototypes() -> None:
    equal = {1: GOOD, 2: GOOD, 4: GOOD, 8: GOOD}
    assert [choose(held(equal), size).prototypes for size in (2, 20, 45, 10_000)] == [1, 2, 4, 8]


def test_a_harmless_head_gets_the_default_weight() -> None:
    assert choose(held({1: GOOD}, GOOD), 10).weight == USUAL_WEIGHT


def test_a_harmful_head_gets_less_weight_and_a_misleading_one_none() -> None:
    assert choose(held({1: GOOD}, np.clip(BAD * 3, 0, 3)), 10).weight < USUAL_WEIGHT
    assert choose(held({1: GOOD}, BAD * 100), 10).weight == 0.0


def test_a_helpful_head_gets_the_weight_that_it_needs() -> None:
    weak = np.where(np.arange(2) == LABELS[:, None], 0.1, 0.8).astype(np.float32)
    found = choose(held({1: weak}, GOOD), 10)
    assert found.weight == max(WEIGHTS)
    np.testing.assert_allclose(found.scores, 0.5 * weak + 0.5 * GOOD, atol=1e-6)


def test_a_difference_within_the_noise_does_not_move_the_choice() -> None:
    nearly = GOOD.copy()
    nearly[:30] = BAD[:30]
    better = GOOD.copy()
    better[:29] = BAD[:29]
    assert choose(held({1: nearly, 8: better}), 10).prototypes == 1


def test_zero_mistakes_do_not_give_certainty() -> None:
    confidence = calibrate(GOOD, LABELS).confidence(GOOD)
    assert np.all((confidence > 0.9) & (confidence < 0.999))
    few = calibrate(GOOD[:4], LABELS[:4]).confidence(GOOD[:4])
    assert np.all((few > 0.5) & (few < 0.9))


def test_zero_hits_do_not_give_zero_confidence() -> None:
    confidence = calibrate(BAD, LABELS).confidence(BAD)
    assert np.all((confidence > 0.001) & (confidence < 0.1))


def test_confidence_is_the_share_of_right_answers_at_that_score() -> None:
    random = np.random.default_rng(0)
    best = random.uniform(0.2, 1.0, size=4000)
    scores = np.column_stack([best, np.zeros(4000)]).astype(np.float32)
    labels = (random.uniform(size=4000) > best).astype(np.int64)  # right with the probability of the score
    calibration = calibrate(scores, labels)
    asked = np.array([[0.3, 0.0], [0.6, 0.0], [0.9, 0.0]], dtype=np.float32)
    np.testing.assert_allclose(calibration.confidence(asked), [0.3, 0.6, 0.9], atol=0.06)


def test_one_category_alone_is_calibrated() -> None:
    found = calibrate(np.full((10, 1), 0.8, np.float32), np.zeros(10, np.int64))
    assert found.confidence(np.array([[0.8]], np.float32))[0] == pytest.approx(11 / 12, abs=0.03)


BEFORE = Calibrations(Calibration(0.0, 1.0, 1.0), Calibration(1.0, 0.0, 0.0))


def test_a_query_has_the_confidence_of_the_stage_that_answers_it() -> None:
    both, answered = BothScores(GOOD, BAD), LABELS == 0
    assert BEFORE.first is not None
    found = BEFORE.confidence(both, answered)
    np.testing.assert_array_equal(found[answered], BEFORE.first.confidence(GOOD)[answered])
    np.testing.assert_array_equal(found[~answered], BEFORE.second.confidence(BAD)[~answered])
    alone = Calibrations(None, BEFORE.second).confidence(BothScores(None, BAD), answered)
    np.testing.assert_array_equal(alone, BEFORE.second.confidence(BAD))


def test_each_stage_is_calibrated_on_its_own_queries_where_they_are_enough() -> None:
    labels = np.tile(LABELS, 3)
    # The first stage is right where it answers, the second one wrong where it does.
    both = BothScores(np.tile(GOOD, (3, 1)), np.tile(BAD, (3, 1)))
    answered = np.arange(300) < 300 - MIN_FOR_CALIBRATION
    found = BEFORE.refitted(both, labels, answered)
    assert found.first is not None
    assert found.first.confidence(GOOD).min() > 0.9
    assert found.second.confidence(BAD).max() < 0.1
    few = BEFORE.refitted(both, labels, np.arange(300) < MIN_FOR_CALIBRATION - 1)
    assert few.first == BEFORE.first
    assert few.second != BEFORE.second
    assert BEFORE.refitted(both, labels, np.arange(300) > MIN_FOR_CALIBRATION - 2).second == BEFORE.second


def test_the_ask_bar_separates_examples_from_vague_questions() -> None:
    random = np.random.default_rng(0)
    good = random.uniform(0.9, 1.2, 200)
    empty = random.uniform(0.3, 0.6, 16)
    scores, vague = (np.column_stack([half / 2 + 0.2, np.full(len(half), 0.2)]) for half in (good, empty))
    bar = ask_bar(scores.astype(np.float32), np.zeros(200, np.int64), vague.astype(np.float32))
    assert 0.6 <= bar <= 0.9
    assert bar == pytest.approx(USUAL_ASK_BAR, abs=0.03)


def test_the_ask_bar_rises_if_vague_questions_score_high() -> None:
    good = np.column_stack([np.linspace(0.6, 0.9, 100), np.zeros(100)]).astype(np.float32)  # sureness 1.2 to 1.8
    vague = np.column_stack([np.linspace(0.4, 0.49, 16), np.zeros(16)]).astype(np.float32)  # .8 to .98
    assert ask_bar(good, np.zeros(100, np.int64), vague) >= 0.975


@pytest.mark.parametrize(("rows", "categories"), [(3000, 12), (40, 5), (10, 2), (8, 1)])
def test_a_calibration_is_that_of_scikit_learn(rows: int, categories: int) -> None:
    linear = pytest.importorskip("sklearn.linear_model")
    random = np.random.default_rng(rows)
    scores = random.random((rows, categories)).astype(np.float32)
    labels = np.where(random.random(rows) < 0.8, scores.argmax(axis=1), random.integers(categories, size=rows))
    best, margin = best_and_margin(scores)
    right = scores.argmax(axis=1) == labels
    target = np.where(right, (right.sum() + 1) / (right.sum() + 2), 1 / ((~right).sum() + 2))
    inputs = np.column_stack([best, margin])
    model = linear.LogisticRegression(C=100.0, max_iter=5000, tol=1e-10)
    weights = np.concatenate([target, 1 - target])
    model.fit(np.concatenate([inputs, inputs]), np.repeat([1, 0], rows), sample_weight=weights)
    found = calibrate(scores, labels)
    expected = [model.intercept_[0], *model.coef_[0]]
    np.testing.assert_allclose([found.bias, found.score, found.margin], expected, atol=2e-3)
