"""Fit the classifier: the settings by cross-validation, the probabilities calibrated on rows that were left out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from semroute.errors import InputError
from semroute.extras import require
from semroute.heads.answers.classifier import AnswerClassifier, feature_names, no_words
from semroute.heads.answers.words import BUCKETS
from semroute.learn.answers.matrix import Features, Scaling
from semroute.learn.answers.rows import JudgedAnswers
from semroute.types.vectors import Indices

Vector = NDArray[np.float64]

PENALTIES = (0.02, 0.05, 0.2, 1.0)
"""Inverse strengths of the L2 penalty, as scikit-learn's ``C``."""
WORD_WEIGHTS = (2.0, 5.0)
"""What the hashed words count beside the dense features: the larger, the less the penalty keeps them down."""
WHAT = "training a classifier"


@dataclass(frozen=True, slots=True)
class Settings:
    """Chosen by cross-validation."""

    penalty: float
    word_weight: float


@dataclass(frozen=True, slots=True)
class Trained:
    """A classifier, and what it says of each training row when that row was left out.

    Attributes:
        classifier: fitted on all rows.
        settings: what was chosen.
        left_out: ``(n,)`` float64 probabilities; settings and the two numbers of the calibration were chosen on the
            same rows, so figures made of them are a little too good.
    """

    classifier: AnswerClassifier
    settings: Settings
    left_out: Vector


@dataclass(frozen=True, slots=True)
class _Fit:
    """A regression before it becomes arrays of a classifier."""

    scaling: Scaling
    coefficients: Vector
    bias: float

    def score(self, features: Features, rows: Indices, word_weight: float) -> Vector:
        return np.asarray(self.scaling.inputs(features, rows, word_weight) @ self.coefficients + self.bias)


def train(
    rows: JudgedAnswers,
    blocks: Sequence[str],
    *,
    folds: int = 5,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Trained:
    """Train on judged answers.

    The same rows, blocks and seed give the same classifier.

    Raises:
        InputError: no blocks, or fewer different queries of a kind than folds.
        MissingExtraError: the extra "build" is not installed.
    """
    if not blocks:
        raise InputError("a classifier needs at least one of the blocks shape, words, tokens")
    features, labels = Features.of(rows, blocks), rows.acceptable.astype(np.int64)
    splits = list(_splits(rows, folds, seed))
    tried = list(product(PENALTIES, WORD_WEIGHTS if features.words is not None else (1.0,)))
    best: tuple[float, Settings, Vector] | None = None
    for done, (penalty, word_weight) in enumerate(tried):
        settings, scores = Settings(penalty, word_weight), np.zeros(len(rows))
        for fitted_on, left_out in splits:
            scores[left_out] = _fit(features, labels, fitted_on, settings).score(features, left_out, word_weight)
        loss = float(np.logaddexp(0.0, np.where(labels == 1, -scores, scores)).mean())
        if best is None or loss < best[0]:
            best = loss, settings, scores
        if progress is not None:
            progress(done + 1, len(tried))
    assert best is not None
    _, settings, scores = best
    slope, shift = _calibration(scores, labels)
    fit = _fit(features, labels, np.arange(len(rows)), settings)
    classifier = _classifier(fit, features.blocks, settings, slope, shift)
    return Trained(classifier, settings, 1.0 / (1.0 + np.exp(-np.clip(slope * scores + shift, -40.0, 40.0))))


def with_threshold(trained: Trained, threshold: float) -> Trained:
    """The same with another threshold."""
    return replace(trained, classifier=replace(trained.classifier, threshold=threshold))


def _splits(rows: JudgedAnswers, folds: int, seed: int) -> Iterator[tuple[Indices, Indices]]:
    selection = require("sklearn.model_selection", what=WHAT, extra="build")
    if len(np.unique(rows.group)) < folds:
        raise InputError(f"{len(np.unique(rows.group))} different queries cannot be split into {folds} folds")
    splitter = selection.StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    yield from splitter.split(np.zeros(len(rows)), rows.acceptable, rows.group)


def _fit(features: Features, labels: NDArray[np.int64], rows: Indices, settings: Settings) -> _Fit:
    linear = require("sklearn.linear_model", what=WHAT, extra="build")
    scaling = Scaling.of(features.dense[rows])
    model: Any = linear.LogisticRegression(C=settings.penalty, max_iter=5000)
    model.fit(scaling.inputs(features, rows, settings.word_weight), labels[rows])
    return _Fit(scaling, np.asarray(model.coef_[0], np.float64), float(model.intercept_[0]))


def _calibration(scores: Vector, labels: NDArray[np.int64]) -> tuple[float, float]:
    """Slope and shift (Platt, 1999) of scores that were made without the row; a penalty makes scores too timid.

    The slope is kept above 0, so that a better score is never a lower probability.
    """
    linear = require("sklearn.linear_model", what=WHAT, extra="build")
    # Nearly no penalty: two numbers from hundreds of rows need none.
    model = linear.LogisticRegression(C=1e6).fit(scores[:, None], labels)
    slope = float(model.coef_[0, 0])
    return (slope, float(model.intercept_[0])) if slope > 0 else (1.0, 0.0)


def _classifier(fit: _Fit, blocks: tuple[str, ...], settings: Settings, slope: float, shift: float) -> AnswerClassifier:
    width = len(feature_names(blocks))
    words = fit.coefficients[width:] * settings.word_weight * slope
    return AnswerClassifier(
        blocks=blocks,
        mean=fit.scaling.mean,
        scale=fit.scaling.scale,
        weights=fit.coefficients[:width] * slope,
        answer_words=words[:BUCKETS] if len(words) else no_words(),
        query_words=words[BUCKETS:] if len(words) else no_words(),
        bias=fit.bias * slope + shift,
    )
