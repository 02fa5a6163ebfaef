"""Metrics over arrays, each with its formula and source."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64] | NDArray[np.float32]


def accuracy(scores: NDArray[np.float32], labels: NDArray[np.int64]) -> float:
    """Share of rows whose best category is the labelled one; 0 for no rows."""
    return float(np.mean(scores.argmax(axis=1) == labels)) if len(labels) else 0.0


def auroc(positive: Floats, negative: Floats) -> float | None:
    """Area under the ROC curve: the probability that a positive scores above a negative, ties counting half.

    The Mann-Whitney statistic, ``U / (n+ * n-)``; Hanley and McNeil, Radiology, 1982. None when either side is empty.
    """
    if len(positive) == 0 or len(negative) == 0:
        return None
    ordered = np.sort(np.asarray(negative, dtype=np.float64))
    values = np.asarray(positive, dtype=np.float64)
    below = np.searchsorted(ordered, values, side="left")
    not_above = np.searchsorted(ordered, values, side="right")
    return float((below + not_above).sum() / 2 / (len(values) * len(ordered)))


def expected_calibration_error(confidence: NDArray[np.float64], right: NDArray[np.bool_], bins: int = 15) -> float:
    """ECE over equal-width bins: ``sum over bins of |accuracy - mean confidence| * share of rows``; 0 for no rows.

    Naeini et al., AAAI 2015, with the bins of Guo et al., "On Calibration of Modern Neural Networks", ICML 2017.
    """
    if len(confidence) == 0:
        return 0.0
    place = np.clip((confidence * bins).astype(np.int64), 0, bins - 1)
    gap = np.bincount(place, weights=right.astype(np.float64) - confidence, minlength=bins)
    return float(np.abs(gap).sum() / len(confidence))


def confusion(true: NDArray[np.int64], predicted: NDArray[np.int64], classes: int) -> NDArray[np.int64]:
    """``(classes, classes)`` counts, rows the truth, columns the prediction."""
    flat = np.bincount(true * classes + predicted, minlength=classes * classes)
    return flat.reshape(classes, classes).astype(np.int64)


def precision_recall_f1(matrix: NDArray[np.int64]) -> NDArray[np.float64]:
    """``(classes, 3)`` precision, recall and F1 of a confusion matrix; 0 where a denominator is 0."""
    hit = np.diag(matrix).astype(np.float64)

    def share(parts: NDArray[np.float64], whole: NDArray[np.int64]) -> NDArray[np.float64]:
        return np.divide(parts, whole, out=np.zeros_like(parts), where=whole > 0)

    precision, recall = share(hit, matrix.sum(axis=0)), share(hit, matrix.sum(axis=1))
    total = precision + recall
    f1 = np.divide(2 * precision * recall, total, out=np.zeros_like(total), where=total > 0)
    return np.column_stack([precision, recall, f1])


def wilson_interval(hits: int, n: int, z: float = 1.96) -> tuple[float, float]:
    """95% interval of a proportion; Wilson, JASA, 1927. ``(0, 1)`` for no rows."""
    if n == 0:
        return 0.0, 1.0
    share, shift = hits / n, z * z / n
    middle = (share + shift / 2) / (1 + shift)
    half = z / (1 + shift) * float(np.sqrt(share * (1 - share) / n + shift / (4 * n)))
    return max(0.0, middle - half), min(1.0, middle + half)
