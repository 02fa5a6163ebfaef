"""Answers as a matrix of features."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from semroute.extras import require
from semroute.heads.answers.classifier import CUT, dense, feature_names
from semroute.heads.answers.words import BUCKETS, hashed
from semroute.learn.answers.rows import JudgedAnswers

WHAT = "training a classifier of answers"


@dataclass(frozen=True, slots=True)
class Features:
    """Of ``n`` answers.

    Attributes:
        blocks: which blocks these are.
        dense: ``(n, f)`` float64, NaN where a feature is not known.
        words: ``(n, 2 * buckets)`` sparse, those of the answer first; None without the block ``words``.
    """

    blocks: tuple[str, ...]
    dense: NDArray[np.float64]
    words: Any

    @classmethod
    def of(cls, rows: JudgedAnswers, blocks: Sequence[str]) -> Features:
        """The features of some answers."""
        told = zip(rows.queries, rows.answers, rows.logprobs, strict=True)
        width = len(feature_names(blocks))
        matrix = np.array([dense(blocks, *one) for one in told], np.float64).reshape(len(rows), width)
        return cls(tuple(blocks), matrix, _words(rows) if "words" in blocks else None)


@dataclass(frozen=True, slots=True)
class Scaling:
    """Means and standard deviations of the dense features of training rows; 0 and 1 where none is known."""

    mean: NDArray[np.float64]
    scale: NDArray[np.float64]

    @classmethod
    def of(cls, matrix: NDArray[np.float64]) -> Scaling:
        """Of ``(n, f)`` features, those that are not known left out."""
        known = np.isfinite(matrix)
        counts = np.maximum(known.sum(axis=0), 1)
        mean = np.where(known, matrix, 0.0).sum(axis=0) / counts
        deviation = np.sqrt((np.where(known, matrix - mean, 0.0) ** 2).sum(axis=0) / counts)
        return cls(mean, np.where(deviation > 1e-9, deviation, 1.0))

    def inputs(self, features: Features, rows: NDArray[np.int64], word_weight: float) -> Any:
        """``(len(rows), f + 2 * buckets)`` sparse inputs of the regression."""
        sparse = require("scipy.sparse", what=WHAT, extra="build")
        scaled = np.clip((features.dense[rows] - self.mean) / self.scale, -CUT, CUT)
        plain = sparse.csr_matrix(np.nan_to_num(scaled, nan=0.0))
        return plain if features.words is None else sparse.hstack([plain, features.words[rows] * word_weight]).tocsr()


def _words(rows: JudgedAnswers) -> Any:
    csr_matrix = require("scipy.sparse", what=WHAT, extra="build").csr_matrix
    starts, columns, values = [0], [], []
    for query, answer in zip(rows.queries, rows.answers, strict=True):
        for text, offset in ((answer, 0), (query, BUCKETS)):
            buckets, weights = hashed(text)
            columns.append(buckets + offset)
            values.append(weights)
        starts.append(starts[-1] + len(columns[-1]) + len(columns[-2]))
    return csr_matrix((np.concatenate(values), np.concatenate(columns), starts), shape=(len(rows), 2 * BUCKETS))
