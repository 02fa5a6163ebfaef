"""How good predicted qualities are in themselves, whatever is decided with them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from semroute.evaluate.curves.bootstrap import Interval, Resampling, interval
from semroute.evaluate.curves.resampled import aurocs, calibration_errors
from semroute.types import Matrix


@dataclass(frozen=True, slots=True)
class PredictionFigures:
    """Predictions for one model.

    Attributes:
        auroc: probability that an answer of quality 0.5 or more was predicted better than one below; NaN where there is
            one kind only.
        ece: calibration error over 15 bins.
    """

    auroc: Interval
    ece: Interval


def prediction_figures(
    predicted: Matrix, quality: Matrix, models: Sequence[str], resampling: Resampling
) -> dict[str, PredictionFigures]:
    """The figures of every model, from ``(n, m)`` predictions and qualities."""
    found = {}
    for column, model in enumerate(models):
        guess, truth = np.clip(predicted[:, column], 0, 1), quality[:, column]
        found[model] = PredictionFigures(
            auroc=interval(aurocs(resampling, guess, truth >= 0.5)),
            ece=interval(calibration_errors(resampling, guess, truth)),
        )
    return found
