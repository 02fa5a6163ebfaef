"""From vectors and labels to everything that scores a query."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from semroute.evaluate.metrics import accuracy, expected_calibration_error
from semroute.evaluate.semantic import decide
from semroute.heads import MlpHead
from semroute.index.prototypes import PrototypeIndex
from semroute.index.scoring import Calibration, Scorer
from semroute.learn.choices import calibrate, choose
from semroute.learn.head_training import HeadPlan
from semroute.learn.near_twins import group_means
from semroute.learn.prototypes import category_prototypes
from semroute.learn.thresholds import FALSE_REJECTION, thresholds_for_false_rejection
from semroute.learn.validation import Split, held_out_scores, splits
from semroute.types import Matrix
from semroute.types.progress import Progress

UNVALIDATED_THRESHOLD = 0.4
MANY_CATEGORIES = 100
FEW_EXAMPLES = 10
"""Categories from which on, and examples of the typical one below which, no head is trained: its time grows with the
categories, and with 4 or 8 examples of each of the 150 intents of CLINC150 it cost a point of accuracy on test rows."""

UNVALIDATED_CALIBRATION = Calibration(bias=-3.0, score=6.0, margin=6.0)
"""For indexes so small that no example can be held out: typical values of MiniLM on short questions."""


@dataclass(frozen=True, slots=True)
class HeldOutScores:
    """Held-out scores ``(m, categories)`` of the choice that was made, and the true categories ``(m,)``.

    A row is a group of examples that say nearly the same.
    """

    scores: Matrix
    labels: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Fitted:
    """A scorer with thresholds ``(categories,)`` and the report of how they came about (JSON-ready).

    ``held`` is None where too few examples allowed to hold any out; its rows are those of the plan's splits in order,
    whatever the vectors. ``groups`` names the group of examples that each of them stands for.
    """

    scorer: Scorer
    thresholds: NDArray[np.float64]
    report: dict[str, Any]
    held: HeldOutScores | None = None
    groups: NDArray[np.int64] | None = None


def fit(
    vectors: Matrix,
    labels: NDArray[np.int64],
    *,
    groups: NDArray[np.int64] | None = None,
    head: bool = True,
    plan: Sequence[Split] | None = None,
    seed: int = 0,
    progress: Progress = lambda step, done, total: None,
) -> Fitted:
    """Choose by validation, then fit on all examples.

    Args:
        vectors: ``(n, d)`` unit rows.
        labels: ``(n,)`` category numbers from 0, each present.
        groups: ``(n,)`` the group of each example (:func:`~semroute.learn.near_twins.near_twins`): held out as one,
            and of one weight. None takes every example for itself.
        head: whether a head may be used; validation may still give it no share.
        plan: what to hold out; None splits by :func:`~semroute.learn.validation.splits`. An encoder that was tuned on
            a part of the examples names the other part here. A group that lies in both parts is not held out.
        seed: of everything drawn.
        progress: called with a step's name, what is done and the total.
    """
    groups = np.arange(len(labels)) if groups is None else groups
    plan = splits(labels, groups, seed=seed) if plan is None else _whole_groups(plan, groups)
    rows, owners = group_means(vectors, labels, groups)
    if not plan:
        return _unvalidated(rows, owners, seed)
    typical, left_out = float(np.median(np.bincount(owners))), _head_left_out(owners) if head else None
    settings = HeadPlan(seed=seed) if head and int(labels.max()) > 0 and left_out is None else None
    held = held_out_scores(vectors, labels, plan, groups=groups, head=settings, seed=seed, progress=progress)
    choice = choose(held, typical)

    progress("fitting", 0, 1)
    prototypes, counts = category_prototypes(rows, owners, choice.prototypes, seed=seed)
    progress("fitting", 1, 1)
    report = {
        "groups": len(owners),
        "held_out": len(held.labels),
        "splits": len(plan),
        "seed": seed,
        "prototypes_per_category": choice.prototypes,
        "accuracy_by_prototypes": {str(k): accuracy(s, held.labels) for k, s in held.similarities.items()},
        "head_weight": choice.weight,
        "accuracy_of_head": None if held.probabilities is None else accuracy(held.probabilities, held.labels),
        **({} if left_out is None else {"head_left_out": left_out}),
    }
    trained = held.head if choice.weight > 0 else None
    scorer = _scorer(prototypes, counts, trained, choice.weight, UNVALIDATED_CALIBRATION)
    return concluded(scorer, report, HeldOutScores(choice.scores, held.labels), held.groups)


def concluded(scorer: Scorer, report: dict[str, Any], held: HeldOutScores, groups: NDArray[np.int64] | None) -> Fitted:
    """Complete a fit by what follows from held-out scores: thresholds, calibration, and the report's figures.

    Args:
        scorer: its calibration is replaced.
        report: what is known without the scores.
        held: held-out scores of the scorer's kind.
        groups: ``(m,)`` what the rows of ``held`` stand for.
    """
    calibration = calibrate(held.scores, held.labels)
    thresholds = thresholds_for_false_rejection(held.scores, FALSE_REJECTION, held.labels)
    thresholds = _capped_unseen(thresholds, held.labels, scorer.weight)
    report = {**report, **_measured(held.scores, held.labels, thresholds, calibration)}
    return Fitted(replace(scorer, calibration=calibration), thresholds, report, held, groups)


def _head_left_out(owners: NDArray[np.int64]) -> str | None:
    """Say why no head is trained; None where one is."""
    sizes = np.bincount(owners)
    typical = float(np.median(sizes))
    if len(sizes) < MANY_CATEGORIES or typical >= FEW_EXAMPLES:
        return None
    return f"{len(sizes)} categories with {typical:g} different examples each"


def _whole_groups(plan: Sequence[Split], groups: NDArray[np.int64]) -> list[Split]:
    """Leave out of each held-out part what also stands in the fitted part, by a near twin."""
    found = [Split(split.fit, split.held[~np.isin(groups[split.held], groups[split.fit])]) for split in plan]
    return [split for split in found if len(split.held)]


def _capped_unseen(thresholds: NDArray[np.float64], labels: NDArray[np.int64], weight: float) -> NDArray[np.float64]:
    """Cap the thresholds of categories of which nothing was held out: other categories' scores prove nothing of them.

    The cap is the typical cosine with a head's share of probability at the level of chance.
    """
    cap = (1 - weight) * UNVALIDATED_THRESHOLD + weight / len(thresholds)
    unseen = np.bincount(labels, minlength=len(thresholds)) == 0
    return np.where(unseen, np.minimum(thresholds, cap), thresholds)


def _measured(
    scores: Matrix, labels: NDArray[np.int64], thresholds: NDArray[np.float64], calibration: Calibration
) -> dict[str, float]:
    right = scores.argmax(axis=1) == labels
    return {
        "accuracy_in_scope": accuracy(scores, labels),
        "false_rejection": float(1 - decide(scores, thresholds)[1].mean()),
        "ece": expected_calibration_error(calibration.confidence(scores), right),
    }


def _unvalidated(vectors: Matrix, labels: NDArray[np.int64], seed: int) -> Fitted:
    prototypes, counts = category_prototypes(vectors, labels, 1, seed=seed)
    report = {
        "groups": len(labels),
        "held_out": 0,
        "splits": 0,
        "seed": seed,
        "prototypes_per_category": 1,
        "head_weight": 0.0,
    }
    scorer = _scorer(prototypes, counts, None, 0.0, UNVALIDATED_CALIBRATION)
    return Fitted(scorer, np.full(len(counts), UNVALIDATED_THRESHOLD), report)


def _scorer(
    prototypes: Matrix, counts: list[int], head: MlpHead | None, weight: float, calibration: Calibration
) -> Scorer:
    return Scorer(PrototypeIndex.build(prototypes, counts), head, weight, calibration)
