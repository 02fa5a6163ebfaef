"""The classifier of queries as it serves: heads, their weights, and the calibration of each model."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from semroute.heads.queries.costs import CallCosts
from semroute.heads.queries.head import Quality, QueryHead
from semroute.heads.queries.inputs import QueryInputs
from semroute.heads.queries.seen import Hashes, hashes
from semroute.types import Matrix

SURE = 0.005
"""Raw predictions are cut to this much from 0 and 1 before they are calibrated."""


@dataclass(frozen=True)
class QueryClassifier:
    """Predicts the quality of every model's answer before any is asked
    (a :class:`~semroute.types.QualityPredictor`).

    ``prior + sum of weight * (head - prior)`` over the heads, then ``1 / (1 + exp(-(slope * logit + shift)))``.

    Attributes:
        models: ``m`` names.
        prior: ``(m,)`` mean quality of the training rows.
        heads: what predicts; all of them see the same inputs.
        weights: ``(h,)``, at least 0.
        slope, shift: ``(m,)`` of the calibration (Platt, "Probabilistic outputs for support vector machines", 1999).
        categories: ``(c, d)`` unit rows whose similarity is a feature; may have no rows.
        encoder: fingerprint of the encoder whose vectors it was trained on.
        costs: what calls are expected to cost.
        value: USD that +1.0 of quality is worth unless somebody says otherwise; infinity where only quality counts.
        seen: ``(s,)`` hashes of the queries that it was trained on; None where an older artifact does not tell.
    """

    models: tuple[str, ...]
    prior: NDArray[np.float64]
    heads: tuple[QueryHead, ...]
    weights: NDArray[np.float64]
    slope: NDArray[np.float64]
    shift: NDArray[np.float64]
    categories: Matrix
    encoder: str
    costs: CallCosts
    value: float = math.inf
    seen: Hashes | None = None

    @property
    def needs_vectors(self) -> bool:
        """Whether any head looks at vectors; else those that :meth:`predict` is given count for nothing."""
        return any(head.needs_vectors for head in self.heads)

    def has_seen(self, texts: Sequence[str]) -> NDArray[np.bool_] | None:
        """``(n,)`` whether it was trained on a text, but for case and whitespace; None where that is not known."""
        return None if self.seen is None else np.isin(hashes(texts), self.seen)

    def predict(self, texts: Sequence[str], vectors: Matrix) -> Matrix:
        """``(n, m)`` float32 in 0..1 from ``n`` texts and their ``(n, d)`` unit vectors."""
        needed = self.needs_vectors
        return self.predict_inputs(
            QueryInputs.of(texts, vectors, self.categories) if needed else QueryInputs.of_texts(texts)
        )

    def predict_inputs(self, inputs: QueryInputs) -> Matrix:
        """The same from inputs that are there already, with the similarity to these categories."""
        raw = stacked([head.predict(inputs) for head in self.heads], self.prior, self.weights)
        return calibrated(raw, self.slope, self.shift).astype(np.float32)


def stacked(predictions: Sequence[Quality], prior: NDArray[np.float64], weights: NDArray[np.float64]) -> Quality:
    """``(n, m)`` the heads' predictions weighed, as distances from the prior."""
    found = np.zeros_like(predictions[0])
    for weight, predicted in zip(weights.tolist(), predictions, strict=True):
        found += weight * (predicted - prior)
    return found + prior


def logits(quality: Quality) -> Quality:
    """``log(p / (1 - p))`` of predictions, which are first cut to ``SURE .. 1 - SURE``."""
    sure = np.clip(quality, SURE, 1.0 - SURE)
    return np.asarray(np.log(sure / (1.0 - sure)))


def calibrated(raw: Quality, slope: NDArray[np.float64], shift: NDArray[np.float64]) -> Quality:
    """``(n, m)`` probabilities in 0..1."""
    return np.asarray(1.0 / (1.0 + np.exp(-(slope * logits(raw) + shift))))
