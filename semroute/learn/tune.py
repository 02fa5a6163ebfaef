"""Tune thresholds and calibration of an artifact (``semroute tune``)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from semroute.data.examples import LabelledQuery
from semroute.errors import DataError
from semroute.evaluate.routing import OUT_OF_SCOPE, Evaluation, Mistake, ScoredQueries, evaluate, mistakes
from semroute.index import Artifact, BothScores, FirstStage
from semroute.learn.artifact import with_thresholds
from semroute.learn.fit import Calibrations
from semroute.learn.thresholds import RejectionTarget, thresholds_for
from semroute.text.names import known_names
from semroute.types import CategoryScorer, Encoder

FOLDS = 5


@dataclass(frozen=True, slots=True)
class TuneReport:
    """Result of tuning an artifact with labelled queries.

    Attributes:
        artifact: with the new thresholds, or as it was when nothing was written.
        before: the labelled queries under the old thresholds and calibration.
        after: under new ones, each query evaluated out of fold (5 folds).
        thresholds: per category, the old and the new one.
        pinned: categories whose threshold the category file sets; they are left alone.
        calibrated: True if a calibration was refitted.
        mistakes: the queries that are wrong in ``after``.
    """

    artifact: Artifact
    before: Evaluation
    after: Evaluation
    thresholds: dict[str, tuple[float, float]]
    pinned: tuple[str, ...]
    calibrated: bool
    mistakes: tuple[Mistake, ...] = ()


def label_numbers(
    rows: Sequence[LabelledQuery], categories: Sequence[str], path: Path | None = None
) -> NDArray[np.int64]:
    """Return ``(n,)`` category numbers; None is out of scope.

    That is :data:`~semroute.evaluate.routing.OUT_OF_SCOPE`. A word for "out of scope" is a category where
    ``categories`` has one of that name.

    Raises:
        DataError: a label is not in the index.
    """
    number = {name: index for index, name in enumerate(categories)}
    labels = [row.category or (row.written if row.written in number else None) for row in rows]
    unknown = sorted({label for label in labels if label is not None and label not in number})
    if unknown:
        raise DataError(
            f'the index has no category "{unknown[0]}"; {known_categories(unknown[0], categories)}', path=path
        )
    return np.array([OUT_OF_SCOPE if label is None else number[label] for label in labels], dtype=np.int64)


def known_categories(name: str, categories: Sequence[str]) -> str:
    """Return a hint at known categories, for a message about an unknown one.

    It lists some of the names, and suggests a similar one if there is any.
    """
    return known_names(name, categories, "it has")


def tune_artifact(
    artifact: Artifact,
    encoder: Encoder,
    scorer: CategoryScorer,
    rows: Sequence[LabelledQuery],
    target: RejectionTarget,
    *,
    first: FirstStage | None = None,
    seed: int = 0,
    write: bool = True,
) -> TuneReport:
    """Choose thresholds for ``target`` and write them into the artifact.

    The bar of a first stage stays.

    Args:
        artifact: the index.
        encoder: its encoder.
        scorer: its scorer.
        rows: labelled queries that are not among the examples.
        target: target of the thresholds.
        first: its first stage, if any.
        seed: of the folds in which the effect is measured.
        write: False only reports.

    Raises:
        DataError: no rows, or a label is not in the index.
        ArtifactError: it cannot be written.
        ValueError: ``first`` is missing, or the artifact has none.
    """
    if not rows:
        raise DataError("no labelled queries to tune on")
    if (first is None) != (artifact.manifest.first_stage is None):
        raise ValueError("an artifact is tuned together with its own first stage")
    names = tuple(artifact.manifest.categories)
    labels = label_numbers(rows, names)
    queries = [row.query for row in rows]
    stage_scores = BothScores(
        None if first is None else first.scorer.scores(first.encoder.encode(queries)),
        scorer.scores(encoder.encode(queries)),
    )
    fit = _fitter(artifact, target, np.inf if first is None else first.bar)
    old_thresholds, pinned, calibrations = fit.old, fit.pinned, fit.calibrations
    before = evaluate(fit.scored(names, stage_scores, labels, old_thresholds, calibrations), old_thresholds)
    after, mistakes_after = _cross_fitted(fit, names, stage_scores, labels, seed)
    thresholds, fitted = fit(stage_scores, labels)
    if write:
        artifact = _written(artifact, thresholds, pinned, fitted, labels)
    return TuneReport(
        artifact=artifact,
        before=before,
        after=after,
        thresholds={name: (float(a), float(b)) for name, a, b in zip(names, old_thresholds, thresholds, strict=True)},
        pinned=tuple(name for name, fixed in zip(names, pinned, strict=True) if fixed),
        calibrated=fitted != calibrations,
        mistakes=mistakes_after,
    )


def _written(
    artifact: Artifact,
    thresholds: NDArray[np.float64],
    pinned: NDArray[np.bool_],
    fitted: Calibrations,
    labels: NDArray[np.int64],
) -> Artifact:
    """Write the thresholds that are not pinned, and the calibrations."""
    source = "out-of-scope" if np.any(labels == OUT_OF_SCOPE) else "in-scope"
    entry = artifact.manifest.first_stage
    names = artifact.manifest.categories
    changed = {name: float(value) for name, value, fixed in zip(names, thresholds, pinned, strict=True) if not fixed}
    if entry is not None and fitted.first is not None:
        entry = replace(entry, calibration=fitted.first)
    return with_thresholds(artifact, changed, source, calibration=fitted.second, first_stage=entry)


@dataclass(frozen=True, slots=True)
class _Fitter:
    target: RejectionTarget
    old: NDArray[np.float64]
    pinned: NDArray[np.bool_]
    calibrations: Calibrations
    bar: float

    def __call__(self, stage_scores: BothScores, labels: NDArray[np.int64]) -> tuple[NDArray[np.float64], Calibrations]:
        fitted = thresholds_for(stage_scores.strongest(self.bar), labels, self.target)
        thresholds = np.where(self.pinned, self.old, fitted)
        in_scope = labels != OUT_OF_SCOPE
        answered = stage_scores.answered(thresholds, self.bar)
        return thresholds, self.calibrations.refitted(stage_scores[in_scope], labels[in_scope], answered[in_scope])

    def scored(
        self,
        names: tuple[str, ...],
        stage_scores: BothScores,
        labels: NDArray[np.int64],
        thresholds: NDArray[np.float64],
        calibrations: Calibrations,
    ) -> ScoredQueries:
        """Return the queries as served with these thresholds."""
        confidence = calibrations.confidence(stage_scores, stage_scores.answered(thresholds, self.bar))
        return ScoredQueries(names, stage_scores.scores(thresholds, self.bar), confidence, labels)


def _fitter(artifact: Artifact, target: RejectionTarget, bar: float) -> _Fitter:
    """Start from the artifact's own thresholds and calibrations."""
    entry, categories = artifact.manifest.first_stage, artifact.manifest.categories.values()
    old = np.array([category.threshold for category in categories])
    pinned = np.array([category.threshold_from == "file" for category in categories])
    calibrations = Calibrations(None if entry is None else entry.calibration, artifact.manifest.calibration)
    return _Fitter(target, old, pinned, calibrations, bar)


def _cross_fitted(
    fit: _Fitter, names: tuple[str, ...], stage_scores: BothScores, labels: NDArray[np.int64], seed: int
) -> tuple[Evaluation, tuple[Mistake, ...]]:
    fold = np.random.default_rng(seed).permutation(len(labels)) % FOLDS
    thresholds = np.tile(fit.old, (len(labels), 1))
    confidence = fit.scored(names, stage_scores, labels, fit.old, fit.calibrations).confidence
    for number in range(FOLDS):
        in_fold = fold == number
        if in_fold.any() and not in_fold.all():
            thresholds[in_fold], calibrations = fit(stage_scores[~in_fold], labels[~in_fold])
            confidence[in_fold] = fit.scored(
                names, stage_scores[in_fold], labels[in_fold], thresholds[in_fold], calibrations
            ).confidence
    scored = ScoredQueries(names, stage_scores.scores(thresholds, fit.bar), confidence, labels)
    return evaluate(scored, thresholds), mistakes(scored, thresholds)
