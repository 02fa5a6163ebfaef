"""What an artifact keeps of its making: what it was trained on, and how good it is on rows that were left out."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np

from semroute.evaluate.metrics import auroc, expected_calibration_error
from semroute.evaluate.plain import finite
from semroute.learn.queries.rows import TrainingRows
from semroute.learn.queries.training import TrainedQueries
from semroute.learn.queries.value import Worth
from semroute.texts.digests import digest_of

GOOD = 0.5
"""Quality from which an answer counts as good for AUROC."""


@dataclass(frozen=True, slots=True)
class ModelFigures:
    """How well one model's quality is predicted, on rows that were left out.

    Attributes:
        known: rows where its quality is known.
        mean: mean quality; NaN where none is known.
        auroc: probability that a good answer was predicted better than a bad one; None where there is one kind only.
        ece: calibration error, 15 bins.
    """

    known: int
    mean: float
    auroc: float | None
    ece: float


def model_figures(trained: TrainedQueries, rows: TrainingRows) -> dict[str, ModelFigures]:
    """The figures of every model."""
    found = {}
    for column, model in enumerate(rows.models):
        quality = rows.quality[trained.judged, column]
        known = np.isfinite(quality)
        said, truth = trained.left_out[known, column], quality[known]
        good = truth >= GOOD
        found[model] = ModelFigures(
            known=int(known.sum()),
            mean=float(truth.mean()) if len(truth) else float("nan"),
            auroc=auroc(said[good], said[~good]),
            ece=expected_calibration_error(said, truth),
        )
    return found


def training_report(
    trained: TrainedQueries, rows: TrainingRows, worth: Worth | None, *, backbone: str | None = None, seed: int
) -> dict[str, object]:
    """JSON-ready; what is infinite is null. ``backbone`` names the encoder that was tuned, if any."""
    import semroute

    return {
        "trained": {
            "semroute": semroute.__version__,
            "queries": len(rows.queries),
            "data_sha256": data_fingerprint(rows),
            "judged_on": len(trained.judged),
            "fine_tuned": backbone,
            "seed": seed,
        },
        "validation": {
            "chosen": trained.stack.chosen,
            "weights": dict(trained.stack.weights),
            "squared_error": dict(trained.stack.losses),
            "squared_error_on": trained.compared,
            "models": finite({model: asdict(figures) for model, figures in model_figures(trained, rows).items()}),
            "worth": None if worth is None else finite(asdict(worth)),
        },
    }


def data_fingerprint(rows: TrainingRows) -> str:
    """SHA-256 of queries, models and quality, in hex."""
    return digest_of((*rows.models, *rows.queries), np.ascontiguousarray(rows.quality, np.float32).tobytes())
