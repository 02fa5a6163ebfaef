"""Thresholds and calibration of an existing artifact from labelled queries; ``semroute tune``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from semroute.categories import LabelledQuery
from semroute.errors import DataError
from semroute.evaluate.semantic import OUT_OF_SCOPE, Evaluation, Scored, evaluate
from semroute.index import Artifact, Calibration
from semroute.learn.build import with_thresholds
from semroute.learn.choices import calibrate
from semroute.learn.fit import FALSE_REJECTION
from semroute.learn.thresholds import thresholds_for_false_rejection, thresholds_for_recall
from semroute.types import CategoryScorer, Encoder, Matrix

FOLDS = 5
FEWEST_FOR_CALIBRATION = 100
"""In-scope queries below which the build's own calibration is the better one."""


@dataclass(frozen=True, slots=True)
class Target:
    """What thresholds aim at.

    Attributes:
        oos_recall: share of out-of-scope queries to reject, where there are labelled ones.
        false_rejection: share of in-scope queries to reject, where there are none.
    """

    oos_recall: float = 0.9
    false_rejection: float = FALSE_REJECTION


@dataclass(frozen=True, slots=True)
class TuneReport:
    """What tuning changed.

    Attributes:
        artifact: with the new thresholds, or as it was when nothing was written.
        before: the labelled queries under the old thresholds and calibration.
        after: under new ones, each query judged by thresholds and calibration fitted without it (5 folds).
        thresholds: per category, the old and the new one.
        pinned: categories whose threshold the category file names; they are left alone.
        calibrated: whether the calibration was fitted anew.
    """

    artifact: Artifact
    before: Evaluation
    after: Evaluation
    thresholds: dict[str, tuple[float, float]]
    pinned: tuple[str, ...]
    calibrated: bool


def label_numbers(
    rows: Sequence[LabelledQuery], categories: Sequence[str], path: Path | None = None
) -> NDArray[np.int64]:
    """``(n,)`` category numbers, :data:`~semroute.evaluate.semantic.OUT_OF_SCOPE` for None.

    Raises:
        DataError: a label that the index lacks.
    """
    number = {name: index for index, name in enumerate(categories)}
    unknown = sorted({row.category for row in rows if row.category is not None and row.category not in number})
    if unknown:
        raise DataError(
            f'the index has no category "{unknown[0]}"; it has {", ".join(categories[:20])}'
            + (", …" if len(categories) > 20 else ""),
            path=path,
        )
    return np.array([OUT_OF_SCOPE if row.category is None else number[row.category] for row in rows], dtype=np.int64)


def tune_artifact(
    artifact: Artifact,
    encoder: Encoder,
    scorer: CategoryScorer,
    rows: Sequence[LabelledQuery],
    target: Target,
    *,
    seed: int = 0,
    write: bool = True,
) -> TuneReport:
    """Choose thresholds for ``target`` and write them into the artifact.

    Args:
        artifact: the index.
        encoder: its encoder.
        scorer: its scorer.
        rows: labelled queries that are not among the examples.
        target: what the thresholds aim at.
        seed: of the folds in which the effect is measured.
        write: False only reports.

    Raises:
        DataError: no rows, or a label that the index lacks.
        ArtifactError: it cannot be written.
    """
    if not rows:
        raise DataError("no labelled queries to tune on")
    entries = artifact.manifest.categories
    names = tuple(entries)
    labels = label_numbers(rows, names)
    scores = scorer.scores(encoder.encode([row.query for row in rows]))
    old = np.array([entry.threshold for entry in entries.values()])
    pinned = np.array([entry.threshold_from == "file" for entry in entries.values()])
    fit = _Fitter(target, old, pinned, artifact.manifest.calibration)
    before = evaluate(Scored(names, scores, fit.calibration.confidence(scores), labels), old)
    after = _cross_fitted(fit, names, scores, labels, seed)
    thresholds, calibration = fit(scores, labels)
    if write:
        source = "out-of-scope" if np.any(labels == OUT_OF_SCOPE) else "in-scope"
        changed = {
            name: float(value) for name, value, fixed in zip(names, thresholds, pinned, strict=True) if not fixed
        }
        artifact = with_thresholds(artifact, changed, source, calibration=calibration)
    return TuneReport(
        artifact=artifact,
        before=before,
        after=after,
        thresholds={name: (float(a), float(b)) for name, a, b in zip(names, old, thresholds, strict=True)},
        pinned=tuple(name for name, fixed in zip(names, pinned, strict=True) if fixed),
        calibrated=calibration != fit.calibration,
    )


@dataclass(frozen=True, slots=True)
class _Fitter:
    target: Target
    old: NDArray[np.float64]
    pinned: NDArray[np.bool_]
    calibration: Calibration

    def __call__(self, scores: Matrix, labels: NDArray[np.int64]) -> tuple[NDArray[np.float64], Calibration]:
        outside = labels == OUT_OF_SCOPE
        if outside.any():
            found = thresholds_for_recall(scores[outside], self.target.oos_recall)
        else:
            found = thresholds_for_false_rejection(scores, self.target.false_rejection)
        calibration = self.calibration
        if (~outside).sum() >= FEWEST_FOR_CALIBRATION:
            calibration = calibrate(scores[~outside], labels[~outside])
        return np.where(self.pinned, self.old, found), calibration


def _cross_fitted(
    fit: _Fitter, names: tuple[str, ...], scores: Matrix, labels: NDArray[np.int64], seed: int
) -> Evaluation:
    fold = np.random.default_rng(seed).permutation(len(labels)) % FOLDS
    thresholds = np.tile(fit.old, (len(labels), 1))
    confidence = fit.calibration.confidence(scores)
    for number in range(FOLDS):
        held = fold == number
        if held.any() and not held.all():
            thresholds[held], calibration = fit(scores[~held], labels[~held])
            confidence[held] = calibration.confidence(scores[held])
    return evaluate(Scored(names, scores, confidence, labels), thresholds)
