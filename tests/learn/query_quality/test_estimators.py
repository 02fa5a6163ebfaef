from __future__ import annotations

import numpy as np
import pytest
from predictors.query_quality.query_heads import MODELS, made, no_categories
from sklearn.ensemble import ExtraTreesRegressor, GradientBoostingRegressor

from semroute.learn.estimators import (
    BoostingEstimator,
    ClusterEstimator,
    Estimator,
    ForestEstimator,
    LinearEstimator,
    NeighbourEstimator,
    group_by_missingness,
    out_of_fold,
)
from semroute.learn.query_quality import estimators
from semroute.learn.stacking import squared_error
from semroute.predictors.quality_heads import tree_columns
from semroute.predictors.query_features import QueryInputs

EVERY = list(estimators().items())
N = 400


def given(n: int = N) -> tuple[QueryInputs, np.ndarray]:
    """Inputs and quality."""
    data = made(n)
    return QueryInputs.of(data.queries, data.vectors, no_categories()), data.quality


@pytest.mark.slow
@pytest.mark.parametrize(("name", "estimator"), EVERY, ids=[name for name, _ in EVERY])
def test_every_head_learns_more_than_the_mean(name: str, estimator: Estimator) -> None:
    inputs, quality = given()
    train, test = np.arange(300), np.arange(300, N)
    found = out_of_fold(estimator, inputs, quality, train, test)
    assert found.shape == (100, len(MODELS))
    by_mean = np.repeat(quality[train].mean(axis=0)[None], 100, axis=0)
    assert squared_error(found[:, :1], quality[test, :1]) < squared_error(by_mean[:, :1], quality[test, :1])


@pytest.mark.slow
@pytest.mark.parametrize(("name", "estimator"), EVERY, ids=[name for name, _ in EVERY])
def test_the_same_rows_give_the_same_head_and_a_model_that_is_known_in_part_is_learned_too(
    name: str, estimator: Estimator
) -> None:
    inputs, quality = given(200)
    quality = quality.copy()
    quality[60:, 1] = np.nan
    one, other = (estimator.fit(inputs, quality).head_.predict(inputs) for _ in range(2))
    np.testing.assert_array_equal(one, other)
    assert np.isfinite(one).all()
    assert estimator.fit(inputs, quality) is estimator


@pytest.mark.slow
@pytest.mark.parametrize(("name", "estimator"), EVERY, ids=[name for name, _ in EVERY])
def test_a_model_that_is_always_right_is_predicted_so(name: str, estimator: Estimator) -> None:
    inputs, quality = given(120)
    quality[:, 1] = 1.0
    np.testing.assert_allclose(estimator.fit(inputs, quality).head_.predict(inputs)[:, 1], 1.0, atol=1e-5)


@pytest.mark.slow
def test_a_forest_predicts_like_scikit_learn() -> None:
    inputs, quality = given(200)
    head = ForestEstimator(trees=20, leaf=3, directions=4, seed=3).fit(inputs, quality).head_
    columns = tree_columns(inputs, head.directions)
    forest = ExtraTreesRegressor(20, min_samples_leaf=3, max_features=0.25, random_state=3).fit(columns, quality)
    np.testing.assert_allclose(head.predict(inputs), forest.predict(columns), atol=1e-5)


@pytest.mark.slow
def test_boosting_predicts_like_scikit_learn() -> None:
    inputs, quality = given(200)
    head = BoostingEstimator(trees=15, directions=4, seed=3).fit(inputs, quality).head_
    columns = tree_columns(inputs, head.directions)
    for model in range(2):
        mean = quality[:, model].mean()
        boosting = GradientBoostingRegressor(
            n_estimators=15, learning_rate=0.06, max_depth=4, min_samples_leaf=20, subsample=0.5, max_features=16,
            random_state=3, init="zero",
        ).fit(columns, quality[:, model] - mean)  # fmt: skip
        np.testing.assert_allclose(head.predict(inputs)[:, model], boosting.predict(columns) + mean, atol=1e-5)


def test_of_many_rows_neighbours_keep_a_sample() -> None:
    inputs, quality = given(100)
    head = NeighbourEstimator(k=5, max_rows=30, seed=1).fit(inputs, quality).head_
    assert head.vectors.shape[0] == 30
    assert NeighbourEstimator(k=50).fit(inputs.take(np.arange(10)), quality[:10]).head_.k == 10


def test_few_rows_make_one_cluster() -> None:
    inputs, quality = given(20)
    head = ClusterEstimator(tables=2).fit(inputs, quality).head_
    assert head.centroids.shape[:2] == (2, 1)
    np.testing.assert_allclose(head.predict(inputs), np.repeat(quality.mean(axis=0)[None], 20, axis=0), rtol=1e-6)


def test_a_feature_that_never_changes_does_no_harm_to_a_line() -> None:
    inputs, quality = given(60)
    same = QueryInputs(inputs.vectors, np.ones((60, 3), np.float32), inputs.queries)
    assert np.isfinite(LinearEstimator().fit(same, quality).head_.predict(same)).all()


def test_models_that_are_known_in_the_same_rows_are_fitted_together() -> None:
    nan = np.nan
    quality = np.array([[1.0, nan, 0.0], [0.0, nan, 1.0], [1.0, 1.0, 1.0]])
    groups = [(models.tolist(), rows.tolist()) for models, rows in group_by_missingness(quality)]
    assert sorted(groups) == [([0, 2], [0, 1, 2]), ([1], [2])]
