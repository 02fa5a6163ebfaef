"""A classifier takes the signals of conversations if, and only if, its training rows had some."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from predictors.query_quality.query_heads import MODELS, costs_of, made, no_categories

from semroute.errors import ArtifactError
from semroute.learn.estimators import ForestEstimator, LinearEstimator, TrainingRows
from semroute.learn.query_quality import Setting, TrainedQueries, data_fingerprint, train_queries
from semroute.predictors.query_features import signal_matrix
from semroute.predictors.query_quality import FOLDER, read_query_classifier, write_query_classifier
from semroute.storage import MANIFEST
from semroute.text.signals import NO_SIGNALS, SIGNALS, Signals

STUCK: Signals = {"turns": 1, "tool_loop": 6, "repeated_calls": 4}
DATA = made(240)
STATES = [STUCK if number % 2 else NO_SIGNALS for number in range(240)]


def rows_with(signals: list[Signals] | None) -> TrainingRows:
    """Outcomes in which the small model always fails in a stuck conversation."""
    quality = DATA.quality.copy()
    quality[1::2, 0] = 0.0
    return TrainingRows.of(DATA.queries, DATA.vectors, quality, MODELS, no_categories(), None, signals)


def trained(signals: list[Signals] | None) -> TrainedQueries:
    setting = Setting("print", costs_of(), no_categories())
    return train_queries(rows_with(signals), setting, heads={"forest": ForestEstimator(), "linear": LinearEstimator()})


@pytest.fixture(scope="module")
def taught() -> TrainedQueries:
    return trained(STATES)


@pytest.fixture(scope="module")
def plain() -> TrainedQueries:
    return trained(None)


@pytest.mark.slow
def test_the_signals_move_the_prediction_and_a_row_without_them_has_zeros(taught: TrainedQueries) -> None:
    asked, classifier = made(40, seed=1), taught.classifier
    given_none = classifier.predict(asked.queries, asked.vectors)
    stuck = classifier.predict(asked.queries, asked.vectors, [STUCK] * 40)
    assert np.array_equal(given_none, classifier.predict(asked.queries, asked.vectors, [NO_SIGNALS] * 40))
    assert stuck[:, 0].mean() < 0.2 < given_none[:, 0].mean()
    assert np.abs(stuck[:, 1] - given_none[:, 1]).mean() < 0.1


@pytest.mark.slow
def test_without_signals_in_training_nothing_changes(plain: TrainedQueries, tmp_path: Path) -> None:
    asked, classifier = made(40, seed=1), plain.classifier
    assert not classifier.needs_signals
    before = classifier.predict(asked.queries, asked.vectors)
    assert np.array_equal(before, classifier.predict(asked.queries, asked.vectors, [STUCK] * 40))
    write_query_classifier(classifier, tmp_path / "c", report={})
    assert "signals" not in FOLDER.manifest(tmp_path / "c")
    assert data_fingerprint(rows_with(None)) != data_fingerprint(rows_with(STATES))


def test_an_artifact_with_signals_is_read_back_and_one_with_others_is_refused(
    taught: TrainedQueries, tmp_path: Path
) -> None:
    asked, classifier = made(40, seed=1), taught.classifier
    write_query_classifier(classifier, tmp_path / "c", report={})
    again = read_query_classifier(tmp_path / "c")
    assert again.signals == SIGNALS
    assert again.needs_signals
    assert np.array_equal(
        again.predict(asked.queries, asked.vectors, [STUCK] * 40),
        classifier.predict(asked.queries, asked.vectors, [STUCK] * 40),
    )
    path = tmp_path / "c" / MANIFEST
    manifest = FOLDER.manifest(tmp_path / "c")
    path.write_text(json.dumps(manifest | {"signals": ["mood"]}))
    with pytest.raises(ArtifactError, match="other signals than this version's; train it again"):
        read_query_classifier(tmp_path / "c")


@given(st.lists(st.dictionaries(st.sampled_from(SIGNALS), st.integers(0, 10_000) | st.booleans()), max_size=5))
def test_the_features_of_signals_are_finite_and_zero_for_a_single_turn(signals: list[Signals]) -> None:
    found = signal_matrix(signals)
    assert found.shape == (len(signals), len(SIGNALS))
    assert np.isfinite(found).all()
    assert (found >= 0).all()
    assert not signal_matrix([NO_SIGNALS, {"turns": 1}]).any()
