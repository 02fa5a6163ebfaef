"""How good a classifier of answers is, on rows that it was not fitted on."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from semroute.evaluate.metrics import auroc, expected_calibration_error
from semroute.evaluate.plain import finite
from semroute.evaluate.rate import Rate
from semroute.learn.answers.rows import JudgedAnswers
from semroute.learn.answers.training import Trained

Vector = NDArray[np.float64]
THRESHOLDS = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


@dataclass(frozen=True, slots=True)
class AtThreshold:
    """What a threshold does.

    Attributes:
        threshold: probability from which answers are accepted.
        accepted: share of all answers.
        right: share of acceptable ones among the accepted.
        caught: share of those that are not acceptable that are rejected.
    """

    threshold: float
    accepted: Rate
    right: Rate
    caught: Rate


@dataclass(frozen=True, slots=True)
class Validation:
    """Figures on left-out rows.

    Attributes:
        n: answers.
        acceptable: share of acceptable ones.
        auroc: probability that an acceptable answer is given more than one that is not.
        ece: calibration error, 15 bins.
        thresholds: what several thresholds do.
    """

    n: int
    acceptable: Rate
    auroc: float
    ece: float
    thresholds: tuple[AtThreshold, ...]

    @classmethod
    def of(cls, trained: Trained, rows: JudgedAnswers) -> Validation:
        """The figures of what was trained on some rows."""
        said, good = trained.left_out, rows.acceptable
        area = auroc(said[good], said[~good])
        levels = sorted({*THRESHOLDS, trained.classifier.threshold})
        return cls(
            n=len(rows),
            acceptable=Rate.of(int(good.sum()), len(rows)),
            auroc=0.5 if area is None else area,
            ece=expected_calibration_error(said, good),
            thresholds=tuple(at_threshold(said, good, level) for level in levels),
        )


def at_threshold(said: Vector, good: NDArray[np.bool_], threshold: float) -> AtThreshold:
    """What a threshold does to answers of which ``said`` is the probability and ``good`` the truth, both ``(n,)``."""
    taken = said >= threshold
    return AtThreshold(
        threshold,
        Rate.of(int(taken.sum()), len(said)),
        Rate.of(int((taken & good).sum()), int(taken.sum())),
        Rate.of(int((~taken & ~good).sum()), int((~good).sum())),
    )


def threshold_for(said: Vector, good: NDArray[np.bool_], right: float) -> float | None:
    """The lowest threshold at which the share of acceptable answers among the accepted is at least ``right``.

    Lower thresholds accept more answers, so this is the cheapest; None where no threshold reaches it. At least 20
    answers must be accepted, for a share of fewer says nothing.
    """
    order = np.argsort(-said, kind="stable")
    ordered, hits = said[order], np.cumsum(good[order])
    counts = np.arange(1, len(said) + 1)
    # A threshold takes all answers of equal probability, or none of them.
    is_last = np.append(ordered[1:] != ordered[:-1], True)
    reached = np.flatnonzero((hits / counts >= right) & (counts >= 20) & is_last)
    return float(ordered[reached[-1]]) if len(reached) else None


def training_report(
    trained: Trained, rows: JudgedAnswers, validation: Validation, *, models: Sequence[str], accept: float, seed: int
) -> dict[str, object]:
    """What the artifact keeps of its making, JSON-ready."""
    import semroute

    digest = hashlib.sha256()
    for query, answer, good in zip(rows.queries, rows.answers, rows.acceptable.tolist(), strict=True):
        digest.update(f"{len(query)}:{query}{len(answer)}:{answer}{good:d}".encode("utf-8", "surrogatepass"))
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
