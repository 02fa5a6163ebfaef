from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from predictors.answer_quality.answer_heads import made

from semroute.errors import InputError
from semroute.evaluate.metrics import auroc
from semroute.learn.answer_quality import (
    JudgedAnswers,
    Scaling,
    Validation,
    at_threshold,
    judged_answers,
    threshold_for,
    train,
)
from semroute.outcomes.files import read_outcomes

pytestmark = pytest.mark.slow


def test_the_serving_classifier_predicts_as_in_training() -> None:
    rows = made(160, noise=0.2)
    trained = train(rows, ("shape", "words"), folds=4)
    said = [trained.classifier.probability(*one) for one in zip(rows.queries, rows.answers, strict=True)]
    good, bad = np.array(said)[rows.acceptable], np.array(said)[~rows.acceptable]
    left_out = trained.left_out
    assert (auroc(good, bad) or 0) > 0.75
    assert (auroc(left_out[rows.acceptable], left_out[~rows.acceptable]) or 0) > 0.7
    # Calibrated: the mean probability is the share of acceptable answers.
    assert left_out.mean() == pytest.approx(rows.acceptable.mean(), abs=0.01)


def test_the_same_rows_and_seed_give_the_same_classifier() -> None:
    first, second = (train(made(80), ("shape",), folds=2, seed=3).classifier for _ in range(2))
    assert np.array_equal(first.weights, second.weights)
    assert first.bias == second.bias


def test_log_probabilities_alone_make_a_learned_confidence() -> None:
    trained = train(made(160, logprobs=True), ("tokens",), folds=4)
    assert trained.classifier.probability("q", "a", [-0.05] * 20) > 0.8
    assert trained.classifier.probability("q", "a", [-1.2] * 20) < 0.2


def test_labels_without_a_reason_are_not_learned() -> None:
    rows = made(200)
    shuffled = replace(rows, acceptable=np.random.default_rng(0).permutation(rows.acceptable))
    trained = train(shuffled, ("shape", "words"), folds=5)
    area = auroc(trained.left_out[shuffled.acceptable], trained.left_out[~shuffled.acceptable])
    assert 0.35 < (area or 0) < 0.65


def test_answers_to_one_query_are_on_one_side_of_every_split() -> None:
    # Two answers to each query whose label only the query's own number tells: seen once, it would be known.
    queries = [f"riddle {'abcdefghijklmnopqrstuvwxyz'[n % 26] * (n // 26 + 2)}" for n in range(100) for _ in range(2)]
    good = np.random.default_rng(1).random(100) < 0.5
    rows = JudgedAnswers(queries, ["yes"] * 200, [[]] * 200, np.repeat(good, 2), np.repeat(np.arange(100), 2))
    trained = train(rows, ("words",), folds=5)
    area = auroc(trained.left_out[rows.acceptable], trained.left_out[~rows.acceptable])
    assert (area or 1) < 0.7


def test_unknown_features_do_not_move_the_scaling() -> None:
    found = Scaling.of(np.array([[1.0, np.nan], [3.0, np.nan], [np.nan, np.nan]]))
    assert found.mean.tolist() == [2.0, 0.0]
    assert found.scale.tolist() == [1.0, 1.0]


def test_no_blocks_and_too_few_queries_are_refused() -> None:
    with pytest.raises(InputError, match="at least one of the blocks"):
        train(made(60), ())
    with pytest.raises(InputError, match="cannot be split"):
        train(replace(made(60), group=np.arange(60) % 3), ("shape",), folds=5)


def test_a_threshold_is_the_lowest_that_is_shown_to_keep_the_share_of_right_answers() -> None:
    said = np.repeat([0.9, 0.7, 0.5, 0.3], 25)
    good = np.concatenate([np.ones(25), np.ones(20), np.zeros(5), np.ones(10), np.zeros(15), np.zeros(25)]) > 0
    assert threshold_for(said, good, 0.8) == 0.7  # 45 of 50: at least 81%
    assert threshold_for(said, good, 0.9) == 0.9  # 25 of 25: at least 90%
    assert threshold_for(said, good, 0.95) is None
    assert threshold_for(said, good, 0.5) == 0.5  # 55 of 75; 55 of 100 may be 47%
    assert threshold_for(said, np.zeros(100, bool), 0.5) is None
    assert threshold_for(said[:10], good[:10], 0.5) is None, "ten accepted answers say nothing"
    at = at_threshold(said, good, 0.7)
    assert (at.accepted.value, at.right.value, at.caught.value) == (0.5, 0.9, 40 / 45)


def test_validation_figures_match_the_truth() -> None:
    rows = made(120)
    trained = train(rows, ("shape",), folds=3)
    found = Validation.of(trained, rows)
    assert found.n == 120
    assert found.auroc == auroc(trained.left_out[rows.acceptable], trained.left_out[~rows.acceptable])
    assert {at.threshold for at in found.thresholds} >= {0.5}


def test_judged_answers_are_read_from_outcomes(tmp_path: Path) -> None:
    path = tmp_path / "o.jsonl"
    line = (
        '{{"query": "Q{n}", "outcomes": {{"small": {{"quality": {q}, "response": "a{n}", "logprobs": [-0.1, -{n}]}}}}}}'
    )
    unjudged = '{"query": "x", "outcomes": {"small": {"quality": null, "response": "y"}, "large": {"quality": 1}}}'
    path.write_text("\n".join([line.format(n=n, q=n % 2) for n in range(50)] + [unjudged]))
    table = read_outcomes(path, keep_responses=True)
    rows = judged_answers(table, ["small"], 0.5)
    assert len(rows) == 50
    assert rows.acceptable.sum() == 25
    assert list(rows.logprobs[3]) == pytest.approx([-0.1, -3.0])
    with pytest.raises(InputError, match="0 of 50 judged answers of small are acceptable"):
        judged_answers(read_outcomes(_all_bad(tmp_path), keep_responses=True), ["small"], 0.5)
    with pytest.raises(InputError, match='no model "medium"'):
        judged_answers(table, ["medium"], 0.5)


def _all_bad(folder: Path) -> Path:
    path = folder / "bad.jsonl"
    line = '{{"query": "Q{n}", "outcomes": {{"small": {{"quality": 0, "response": "a"}}}}}}'
    path.write_text("\n".join(line.format(n=n) for n in range(50)))
    return path
