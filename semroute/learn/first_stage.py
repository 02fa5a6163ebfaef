"""Fit a first stage for an index, with the lowest harmless acceptance bar.

The stage is fitted like the index itself, and the bar is chosen on queries that neither stage was fitted on.
Out-of-scope queries among them limit wrong acceptances; without any, the least confident fifth, in which such queries
would lie, is left to the second stage.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from semroute.evaluate.metrics import accuracy
from semroute.evaluate.routing import OUT_OF_SCOPE, decide
from semroute.index import BothScores, FirstStage
from semroute.index.scoring import answers, margin_score
from semroute.learn.fit import USUAL_OPTIONS, Calibrations, FitOptions, Fitted, fit
from semroute.learn.thresholds import RejectionTarget, thresholds_for
from semroute.types import Encoder
from semroute.types.protocols import Doubles

MIN_ANSWERED = 0.2
"""Minimum share of the in-scope queries that a useful first stage answers."""
MAX_ANSWERED = 0.8
"""Maximum share that it may answer without out-of-scope queries to measure wrong acceptances."""
ALLOWED_SLIPS = 0.01
"""Share of the out-of-scope queries that it may accept although the second stage rejects them."""

Labels = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class ValidationRows:
    """Labelled queries outside the examples, and the target of thresholds.

    ``labels`` are ``(n,)`` category numbers, :data:`~semroute.evaluate.routing.OUT_OF_SCOPE` for none.
    """

    texts: Sequence[str]
    labels: Labels
    target: RejectionTarget


@dataclass(frozen=True, slots=True)
class FirstStagePlan:
    """Encoder and validation data of a first stage.

    Attributes:
        encoder: the cheap encoder.
        rows: queries to choose the bar on; None takes the held-out examples.
        floor: minimum of the bar, from an earlier choice against out-of-scope queries that are no longer available.
            None sets no such limit.
    """

    encoder: Encoder
    rows: ValidationRows | None = None
    floor: float | None = None


@dataclass(frozen=True, slots=True)
class FirstStageFit:
    """A fitted first stage.

    Attributes:
        stage: None where it does not pay.
        index: the index's own fit, with the calibration refitted on the queries that are left to it.
        report: rows that the bar was chosen on, and its effect there (JSON-ready).
        floor: the lowest bar that later choices without out-of-scope queries are allowed; None sets no limit.
    """

    stage: FirstStage | None
    index: Fitted
    report: dict[str, Any]
    floor: float | None = None


def fit_first_stage(
    plan: FirstStagePlan,
    texts: Sequence[str],
    labels: Labels,
    index: Fitted,
    encoder: Encoder,
    *,
    thresholds: Doubles,
    pinned: NDArray[np.bool_],
    groups: Labels | None = None,
    options: FitOptions = USUAL_OPTIONS,
) -> FirstStageFit:
    """Fit a first stage and choose its bar.

    Args:
        plan: its encoder, and the rows to choose the bar on.
        texts: the examples.
        labels: ``(n,)`` their categories.
        index: the index's own fit on them.
        encoder: the index's own; it embeds only the rows of ``plan``.
        thresholds: ``(categories,)`` minimum scores of the index.
        pinned: ``(categories,)`` True for thresholds that stay whatever the rows of ``plan``.
        groups: ``(n,)`` the groups of examples that ``index`` was fitted with.
        options: the settings of ``index``.
    """
    vectors = plan.encoder.encode(texts)
    stage_fit = fit(vectors, labels, groups=groups, options=options)
    unseen = _unseen_scores(plan, stage_fit, index, encoder)
    if unseen is None:
        return FirstStageFit(None, index, {"chosen_on": "nothing", "queries": 0, "answered": 0.0})
    stage_scores, held_labels = unseen
    if plan.rows is not None:
        thresholds = np.where(pinned, thresholds, thresholds_for(stage_scores.second, held_labels, plan.rows.target))
    bar = lowest_bar(stage_scores, held_labels, thresholds, plan.floor)
    report = {
        "chosen_on": "held-out" if plan.rows is None else "validation",
        **_measured(stage_scores, held_labels, thresholds, bar),
    }
    if report["answered"] < MIN_ANSWERED:
        return FirstStageFit(None, index, report)
    in_scope = held_labels != OUT_OF_SCOPE
    answered = stage_scores.answered(thresholds, bar)[in_scope]
    calibrations = Calibrations(stage_fit.scorer.calibration, index.scorer.calibration)
    calibrations = calibrations.refitted(stage_scores[in_scope], held_labels[in_scope], answered)
    assert calibrations.first is not None
    stage = FirstStage(plan.encoder, replace(stage_fit.scorer, calibration=calibrations.first), bar)
    return FirstStageFit(
        stage,
        replace(index, scorer=replace(index.scorer, calibration=calibrations.second)),
        report,
        floor=plan.floor if in_scope.all() else bar,
    )


def _unseen_scores(
    plan: FirstStagePlan, stage_fit: Fitted, index: Fitted, encoder: Encoder
) -> tuple[BothScores, Labels] | None:
    """Return both stages' scores of labelled queries unseen by either.

    None where there are none.
    """
    if plan.rows is not None:
        first, second = plan.encoder.encode(plan.rows.texts), encoder.encode(plan.rows.texts)
        return BothScores(stage_fit.scorer.scores(first), index.scorer.scores(second)), plan.rows.labels
    if stage_fit.held is None or index.held is None:
        return None
    return BothScores(stage_fit.held.scores, index.held.scores), stage_fit.held.labels


def lowest_bar(stage_scores: BothScores, labels: Labels, thresholds: Doubles, floor: float | None = None) -> float:
    """Return the lowest bar at which two stages are as accurate as the second.

    In-scope accuracy of both stages together is compared with that of the second alone.

    Args:
        stage_scores: scores of ``n`` labelled queries that neither stage was fitted on.
        labels: ``(n,)`` category numbers, :data:`~semroute.evaluate.routing.OUT_OF_SCOPE` for none.
        thresholds: ``(categories,)`` minimum scores.
        floor: minimum of the bar; None sets none.

    Returns:
        The bar; infinite where none is harmless.
    """
    assert stage_scores.first is not None
    in_scope = labels != OUT_OF_SCOPE
    is_accepted = answers(stage_scores.first, thresholds, -math.inf)
    margin = np.where(is_accepted, margin_score(stage_scores.first), -math.inf)
    accuracy_gain = (stage_scores.first.argmax(axis=1) == labels).astype(int) - (
        stage_scores.second.argmax(axis=1) == labels
    )
    order = np.argsort(-margin[in_scope], kind="stable")
    ranked, balance = margin[in_scope][order], np.cumsum(accuracy_gain[in_scope][order])
    if not in_scope.all():
        wrongly_accepted = margin[~in_scope & ~decide(stage_scores.second, thresholds)[1]]
        floor = _lowest_allowed(wrongly_accepted, int(ALLOWED_SLIPS * np.count_nonzero(~in_scope)))
    elif floor is None:
        floor = float(ranked[max(0, int(MAX_ANSWERED * len(ranked)) - 1)])
    # A bar lets in all queries of equal margin score: only the last of equal ones can be its position.
    is_last = np.append(ranked[1:] != ranked[:-1], True)[: len(ranked)]
    candidates = np.flatnonzero(is_last & (balance >= 0) & (ranked >= floor) & np.isfinite(ranked))
    return float(ranked[candidates[-1]]) if len(candidates) else math.inf


def _lowest_allowed(margins: Doubles, allowed: int) -> float:
    """Return the lowest bar that no more than ``allowed`` of these reach."""
    ranked = np.sort(margins)[::-1]
    return float(np.nextafter(ranked[allowed], np.inf)) if len(ranked) > allowed else -math.inf


def _measured(stage_scores: BothScores, labels: Labels, thresholds: Doubles, bar: float) -> dict[str, Any]:
    in_scope = labels != OUT_OF_SCOPE
    answered, accepted = stage_scores.answered(thresholds, bar), decide(stage_scores.second, thresholds)[1]
    return {
        "queries": len(labels),
        "answered": float(answered[in_scope].mean()) if in_scope.any() else 0.0,
        "accuracy_in_scope": accuracy(stage_scores.scores(thresholds, bar)[in_scope], labels[in_scope]),
        "accuracy_without": accuracy(stage_scores.second[in_scope], labels[in_scope]),
        "slips": None if in_scope.all() else float((answered & ~accepted)[~in_scope].mean()),
    }
