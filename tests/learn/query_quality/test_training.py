from __future__ import annotations

import numpy as np
import pytest
from predictors.query_quality.query_heads import MODELS, costs_of, made, no_categories

from semroute.errors import InputError
from semroute.learn.estimators import LinearEstimator, NeighbourEstimator, TrainingRows
from semroute.learn.query_quality import (
    Setting,
    TrainedQueries,
    data_fingerprint,
    matching_value,
    model_figures,
    train_queries,
    training_report,
)
from semroute.learn.stacking import squared_error

pytestmark = pytest.mark.slow

SETTING = Setting("print", costs_of(), no_categories())


def rows(n: int = 300, seed: int = 0) -> TrainingRows:
    """Rows to train on."""
    data = made(n, seed=seed)
    return TrainingRows.of(data.queries, data.vectors, data.quality, MODELS, no_categories())


@pytest.fixture(scope="module")
def trained() -> TrainedQueries:
    return train_queries(rows(), SETTING)


def test_out_of_fold_predictions_are_as_good_as_those_on_new_rows(trained: TrainedQueries) -> None:
    new = rows(600, seed=9)
    said = trained.classifier.predict(new.queries, new.inputs.vectors)
    ahead = squared_error(trained.left_out, rows().quality)
    assert squared_error(said, new.quality) == pytest.approx(ahead, abs=0.03)
    assert ahead < squared_error(np.repeat(rows().quality.mean(axis=0)[None], 300, axis=0), rows().quality) - 0.03


def test_the_same_rows_and_seed_give_the_same_classifier() -> None:
    data = rows(120)
    one, other = (
        train_queries(data, SETTING, seed=4).classifier.predict(data.queries, data.inputs.vectors) for _ in "ab"
    )
    np.testing.assert_array_equal(one, other)


def test_only_the_heads_that_are_asked_for_are_tried() -> None:
    found = train_queries(rows(120), SETTING, heads={"linear": LinearEstimator()})
    assert [head.kind for head in found.classifier.heads] == ["linear"]
    assert found.stack.chosen == "linear"


def test_a_new_model_joins_from_a_few_outcomes() -> None:
    data = rows(400)
    known = data.quality.copy()
    known[60:, 1] = np.nan  # the large model has joined late
    found = train_queries(TrainingRows(data.queries, data.inputs, known, MODELS), SETTING)
    said = found.classifier.predict(data.queries, data.inputs.vectors)
    assert abs(said[60:, 1].mean() - data.quality[60:, 1].mean()) < 0.1
    assert squared_error(said[60:, :1], data.quality[60:, :1]) < 0.15


def test_a_model_known_in_one_part_only_does_not_stop_the_training() -> None:
    data = rows(120)
    known = data.quality.copy()
    known[1:, 1] = np.nan
    heads = {"linear": LinearEstimator(), "neighbours": NeighbourEstimator()}
    found = train_queries(TrainingRows(data.queries, data.inputs, known, MODELS), SETTING, heads=heads)
    assert np.isfinite(found.classifier.predict(data.queries, data.inputs.vectors)).all()


def test_repetitions_of_one_query_cannot_be_split() -> None:
    data = rows(60)
    same = TrainingRows.of(
        ["the same"] * 60, np.repeat(data.inputs.vectors[:1], 60, axis=0), data.quality, MODELS, no_categories()
    )
    with pytest.raises(InputError, match="1 different queries cannot be split into 3 folds"):
        train_queries(same, SETTING)


def test_progress_runs_to_its_end() -> None:
    seen: list[tuple[int, int]] = []
    heads = {"linear": LinearEstimator()}
    train_queries(rows(60), SETTING, heads=heads, progress=lambda done, total: seen.append((done, total)))
    assert seen == sorted(seen)
    assert seen[-1] == (7, 7), "three folds, three parts of kinds left out, and all"


def test_the_report_holds_figures_of_every_model_and_the_stack(trained: TrainedQueries) -> None:
    data = rows()
    figures = model_figures(trained, data)
    assert figures["small"].auroc is not None
    assert figures["small"].auroc > 0.8
    assert figures["large"].known == 300
    assert figures["large"].ece < 0.1
    report = training_report(trained, data, None, seed=0)
    assert report["trained"]["queries"] == 300  # type: ignore[index]
    assert set(report["validation"]["squared_error"]) == {  # type: ignore[index]
        "linear", "neighbours", "clusters", "boosting", "forest", "stack",
    }  # fmt: skip
    assert data_fingerprint(data) != data_fingerprint(rows(seed=1))


def test_a_model_of_one_kind_of_answers_has_no_auroc() -> None:
    data = rows(60)
    data.quality[:, 1] = 1.0
    heads = {"linear": LinearEstimator()}
    assert model_figures(train_queries(data, SETTING, heads=heads), data)["large"].auroc is None


def test_the_matching_value_is_the_lowest_that_is_as_good_as_the_best_model_alone() -> None:
    quality = np.array([[1.0, 1.0], [1.0, 1.0], [0.0, 1.0], [0.0, 1.0]])
    cost = np.tile([1.0, 10.0], (4, 1))
    predicted = np.array([[0.9, 1.0], [0.9, 1.0], [0.1, 1.0], [0.1, 1.0]])
    found = matching_value(predicted, quality, cost, cost)
    assert found is not None
    assert (found.quality, found.cost, found.single_quality, found.single_cost) == (1.0, 5.5, 1.0, 10.0)
    assert 10 < found.value < 90, "above 10 USD the last two go to the large model, above 90 all do"


def test_the_matching_value_falls_back_to_the_best_and_ignores_incomplete_rows() -> None:
    quality = np.array([[1.0, 0.0], [1.0, 0.0], [np.nan, 1.0]])
    cost, wrong = np.tile([1.0, 10.0], (3, 1)), np.array([[0.1, 0.9], [0.8, 0.7], [0.5, 0.5]])
    found = matching_value(wrong, quality, cost, cost)
    assert found is not None
    assert found.rows == 2
    assert found.single_quality == 1.0
    assert found.quality == 1.0, "at a value of 0 all go to the cheap model, which is the best one here"
    assert matching_value(wrong[2:], quality[2:], cost[2:], cost[2:]) is None
