"""Train and validate the classifier of answer quality."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from semroute._optional import require
from semroute.errors import InputError
from semroute.evaluate.metrics import Rate, auroc, expected_calibration_error, finite, perfect_calibration_error
from semroute.evaluate.risk import last_kept
from semroute.outcomes.files import check_judged, judging_remedy
from semroute.outcomes.table import OutcomeTable, numbered
from semroute.predictors.answer_quality import BUCKETS, CUT, AnswerClassifier, dense, feature_names, hashed, no_words
from semroute.types.protocols import Indices

# Judged answers as training data.

MIN_OF_A_KIND = 20
"""Minimum number of answers of each kind, acceptable and not, to train on."""


@dataclass(frozen=True, slots=True)
class JudgedAnswers:
    """``n`` judged answers.

    Attributes:
        queries, answers: texts.
        logprobs: of the answers' tokens; empty where they are not known.
        acceptable: ``(n,)`` bool.
        group: ``(n,)`` int64; answers to the same text are in one group, and on one side of every split.
    """

    queries: list[str]
    answers: list[str]
    logprobs: list[Sequence[float]]
    acceptable: NDArray[np.bool_]
    group: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.queries)

    def take(self, rows: NDArray[np.int64]) -> JudgedAnswers:
        """Return the answers of some rows, by number."""
        numbers = rows.tolist()
        return JudgedAnswers(
            [self.queries[row] for row in numbers],
            [self.answers[row] for row in numbers],
            [self.logprobs[row] for row in numbers],
            self.acceptable[rows],
            self.group[rows],
        )


def judged_answers(table: OutcomeTable, models: Sequence[str], accept: float) -> JudgedAnswers:
    """Return the judged answers of some models, with text and quality.

    An answer is acceptable from a quality of ``accept`` on.

    Raises:
        InputError: a model is unknown, there are too few answers of a kind, or no answer was judged.
    """
    chosen = table.with_models(models)
    check_judged(chosen)
    queries, answers, logprobs, quality = [], [], [], []
    responses = chosen.responses or []
    logprobs_of = chosen.logprobs or [(None,) * len(models)] * len(responses)
    for row, texts in enumerate(responses):
        for column, text in enumerate(texts):
            if text is not None and np.isfinite(chosen.quality[row, column]):
                queries.append(chosen.queries[row])
                answers.append(text)
                logprobs.append(logprobs_of[row][column] or ())
                quality.append(float(chosen.quality[row, column]))
    acceptable = np.array(quality) >= accept
    acceptable_count = int(acceptable.sum())
    for count, kind in ((acceptable_count, "acceptable"), (len(quality) - acceptable_count, "not acceptable")):
        if count < MIN_OF_A_KIND:
            names = ", ".join(models)
            raise InputError(
                f"{count} of {len(quality):,} judged answers of {names} are {kind}, and at least {MIN_OF_A_KIND} are "
                f'needed: {judging_remedy(chosen)}give more outcomes with "response" and "quality", or another '
                f"--accept than {accept:g}"
            )
    _, group = numbered([query.casefold() for query in queries])
    return JudgedAnswers(queries, answers, logprobs, acceptable, group)


MATRIX_NEEDS = "training a classifier of answers"


@dataclass(frozen=True, slots=True)
class Features:
    """Feature matrix of ``n`` answers.

    Attributes:
        blocks: names of the feature blocks.
        dense: ``(n, f)`` float64, NaN where a feature is not known.
        words: ``(n, 2 * buckets)`` sparse, those of the answer first; None without the block ``words``.
    """

    blocks: tuple[str, ...]
    dense: NDArray[np.float64]
    words: Any

    @classmethod
    def of(cls, rows: JudgedAnswers, blocks: Sequence[str]) -> Features:
        """Compute the features of answers."""
        answered = zip(rows.queries, rows.answers, rows.logprobs, strict=True)
        width = len(feature_names(blocks))
        matrix = np.array([dense(blocks, *answer) for answer in answered], np.float64).reshape(len(rows), width)
        return cls(tuple(blocks), matrix, _words(rows) if "words" in blocks else None)


@dataclass(frozen=True, slots=True)
class Scaling:
    """Means and standard deviations of dense training features.

    0 and 1 if unknown.
    """

    mean: NDArray[np.float64]
    scale: NDArray[np.float64]

    @classmethod
    def of(cls, matrix: NDArray[np.float64]) -> Scaling:
        """Compute the scaling of ``(n, f)`` features, ignoring unknown ones."""
        known = np.isfinite(matrix)
        counts = np.maximum(known.sum(axis=0), 1)
        mean = np.where(known, matrix, 0.0).sum(axis=0) / counts
        deviation = np.sqrt((np.where(known, matrix - mean, 0.0) ** 2).sum(axis=0) / counts)
        return cls(mean, np.where(deviation > 1e-9, deviation, 1.0))

    def inputs(self, features: Features, rows: NDArray[np.int64], word_weight: float) -> Any:
        """Return ``(len(rows), f + 2 * buckets)`` sparse inputs of the regression."""
        sparse = require("scipy.sparse", what=MATRIX_NEEDS, extra="build")
        scaled = np.clip((features.dense[rows] - self.mean) / self.scale, -CUT, CUT)
        scaled_sparse = sparse.csr_matrix(np.nan_to_num(scaled, nan=0.0))
        return (
            scaled_sparse
            if features.words is None
            else sparse.hstack([scaled_sparse, features.words[rows] * word_weight]).tocsr()
        )


def _words(rows: JudgedAnswers) -> Any:
    csr_matrix = require("scipy.sparse", what=MATRIX_NEEDS, extra="build").csr_matrix
    starts, columns, values = [0], [], []
    for query, answer in zip(rows.queries, rows.answers, strict=True):
        for text, offset in ((answer, 0), (query, BUCKETS)):
            buckets, weights = hashed(text)
            columns.append(buckets + offset)
            values.append(weights)
        starts.append(starts[-1] + len(columns[-1]) + len(columns[-2]))
    return csr_matrix((np.concatenate(values), np.concatenate(columns), starts), shape=(len(rows), 2 * BUCKETS))


# Fit the classifier: settings by cross-validation, probabilities calibrated out of fold.


PENALTIES = (0.02, 0.05, 0.2, 1.0)
"""Inverse strengths of the L2 penalty, as scikit-learn's ``C``."""
WORD_WEIGHTS = (2.0, 5.0)
"""Weights of the hashed words against the dense features: the larger, the less the penalty shrinks them."""
WHAT = "training a classifier"


@dataclass(frozen=True, slots=True)
class Settings:
    """Hyperparameters chosen by cross-validation."""

    penalty: float
    word_weight: float


@dataclass(frozen=True, slots=True)
class Trained:
    """A trained classifier with its out-of-fold probabilities.

    Attributes:
        classifier: fitted on all rows.
        settings: the chosen hyperparameters.
        left_out: ``(n,)`` float64 out-of-fold probabilities; settings and the two numbers of the calibration were
            chosen on the same rows, so figures computed from them are slightly optimistic.
    """

    classifier: AnswerClassifier
    settings: Settings
    left_out: Vector


@dataclass(frozen=True, slots=True)
class _Fit:
    """A fitted regression, before its conversion to arrays of a classifier."""

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
    grid = list(product(PENALTIES, WORD_WEIGHTS if features.words is not None else (1.0,)))
    best: tuple[float, Settings, Vector] | None = None
    for step, (penalty, word_weight) in enumerate(grid):
        settings, scores = Settings(penalty, word_weight), np.zeros(len(rows))
        for fitted_on, left_out in splits:
            scores[left_out] = _fit(features, labels, fitted_on, settings).score(features, left_out, word_weight)
        loss = float(np.logaddexp(0.0, np.where(labels == 1, -scores, scores)).mean())
        if best is None or loss < best[0]:
            best = loss, settings, scores
        if progress is not None:
            progress(step + 1, len(grid))
    assert best is not None
    _, settings, scores = best
    slope, shift = _calibration(scores, labels)
    fit = _fit(features, labels, np.arange(len(rows)), settings)
    classifier = _classifier(fit, features.blocks, settings, slope, shift)
    return Trained(classifier, settings, 1.0 / (1.0 + np.exp(-np.clip(slope * scores + shift, -40.0, 40.0))))


def with_threshold(trained: Trained, threshold: float) -> Trained:
    """Return the same classifier with another threshold."""
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
    """Return Platt slope and shift (1999) of out-of-fold scores.

    A penalty shrinks scores towards the middle. The slope is kept above 0, so that a better score is never a lower
    probability.
    """
    linear = require("sklearn.linear_model", what=WHAT, extra="build")
    # Almost no penalty: two parameters from hundreds of rows need none.
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


# Out-of-fold validation of a classifier of answers.

Vector = NDArray[np.float64]
_ONE_SIDED = 1.645
STEPS = 20
"""Thresholds that are tried for a precision."""
THRESHOLDS = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


@dataclass(frozen=True, slots=True)
class AtThreshold:
    """Acceptance figures at one threshold.

    Attributes:
        threshold: probability from which answers are accepted.
        accepted: share of all answers.
        right: precision: share of acceptable ones among the accepted.
        caught: share of the unacceptable answers that are rejected.
    """

    threshold: float
    accepted: Rate
    right: Rate
    caught: Rate


@dataclass(frozen=True, slots=True)
class Validation:
    """Out-of-fold figures of a classifier of answers.

    Attributes:
        n: answers.
        acceptable: share of acceptable ones.
        auroc: probability that an acceptable answer gets a higher probability than an unacceptable one.
        ece: calibration error, 15 bins.
        perfect_ece: calibration error that perfect calibration would show on as many answers.
        thresholds: acceptance figures at several thresholds.
    """

    n: int
    acceptable: Rate
    auroc: float
    ece: float
    perfect_ece: float
    thresholds: tuple[AtThreshold, ...]

    @classmethod
    def of(cls, trained: Trained, rows: JudgedAnswers) -> Validation:
        """Compute the figures of a training on its rows."""
        predicted, acceptable = trained.left_out, rows.acceptable
        area = auroc(predicted[acceptable], predicted[~acceptable])
        levels = sorted({*THRESHOLDS, trained.classifier.threshold})
        return cls(
            n=len(rows),
            acceptable=Rate.of(int(acceptable.sum()), len(rows)),
            auroc=0.5 if area is None else area,
            ece=expected_calibration_error(predicted, acceptable),
            perfect_ece=perfect_calibration_error(predicted),
            thresholds=tuple(at_threshold(predicted, acceptable, level) for level in levels),
        )


def at_threshold(probability: Vector, acceptable: NDArray[np.bool_], threshold: float) -> AtThreshold:
    """Return the acceptance figures at a threshold.

    ``probability`` are ``(n,)`` probabilities, and ``acceptable`` the labels.
    """
    accepted = probability >= threshold
    return AtThreshold(
        threshold,
        Rate.of(int(accepted.sum()), len(probability)),
        Rate.of(int((accepted & acceptable).sum()), int(accepted.sum())),
        Rate.of(int((~accepted & ~acceptable).sum()), int((~acceptable).sum())),
    )


def threshold_for(probability: Vector, acceptable: NDArray[np.bool_], precision: float) -> float | None:
    """Return the lowest threshold shown to reach at least ``precision``.

    The precision is the share of acceptable answers among the accepted; it is shown where the lower end of its
    one-sided 95% interval (Wilson) reaches it, for the share itself would be too high every other time. Lower
    thresholds accept more answers, so this is the cheapest; None where no threshold reaches it. At least 20 answers
    must be accepted: a share of fewer is not reliable.

    Thresholds are tested as policies are, from the highest down until one fails (fixed sequence testing,
    :func:`~semroute.evaluate.risk.last_kept`), so that having many of them permits no more error than one. They accept
    another twentieth of the answers each.
    """
    order = np.argsort(-probability, kind="stable")
    ordered, hits = probability[order], np.cumsum(acceptable[order])
    counts = np.arange(1, len(probability) + 1)
    # A threshold accepts all answers of equal probability, or none of them.
    is_last = np.append(ordered[1:] != ordered[:-1], True)
    share, shift = hits / counts, _ONE_SIDED**2 / counts
    spread = np.sqrt(share * (1 - share) / counts + shift / (4 * counts))
    shown = (share + shift / 2 - _ONE_SIDED * spread) / (1 + shift)
    fewest = max(20, math.ceil(_ONE_SIDED**2 * precision / max(1.0 - precision, 1e-9)))  # if all of them are right
    wanted = np.unique(np.ceil(np.linspace(0.0, 1.0, STEPS + 1)[1:] * len(counts)).astype(np.int64))
    ends = np.flatnonzero(is_last)
    tried = np.unique(ends[np.searchsorted(ends, wanted[wanted >= fewest] - 1)])
    last = last_kept((position, bool(shown[position] >= precision)) for position in tried.tolist())
    return None if last is None else float(ordered[last])


def training_report(
    trained: Trained, rows: JudgedAnswers, validation: Validation, *, models: Sequence[str], accept: float, seed: int
) -> dict[str, object]:
    """Return the training report that the artifact stores, JSON-ready."""
    import semroute

    digest = hashlib.sha256()
    for query, answer, is_acceptable in zip(rows.queries, rows.answers, rows.acceptable.tolist(), strict=True):
        digest.update(f"{len(query)}:{query}{len(answer)}:{answer}{is_acceptable:d}".encode("utf-8", "surrogatepass"))
    return {
        "trained": {
            "semroute": semroute.__version__,
            "models": list(models),
            "acceptable_from": accept,
            "answers": len(rows),
            "with_logprobs": sum(map(bool, rows.logprobs)),
            "data_sha256": digest.hexdigest(),
            "seed": seed,
            "settings": asdict(trained.settings),
        },
        "validation": finite(asdict(validation)),
    }
