"""What validation chooses: prototypes per category, the share of the head, and the calibrations."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from semroute.evaluate.metrics import accuracy
from semroute.index import BothScores
from semroute.index.scoring import Calibration, best_and_margin, blend
from semroute.index.stages import margin_score
from semroute.learn.validation import HeldOut
from semroute.types import Matrix

WEIGHTS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5)
"""Shares of the head that are tried. Above a half the score says more about which category than about whether any."""

FEWEST_FOR_CALIBRATION = 100
"""In-scope queries below which a calibration that is there already is the better one."""

STRENGTH = 100.0
"""Weight of the data beside the pull towards zero in a calibration."""
MOST_STEPS = 100

USUAL_WEIGHT = 0.5
USUAL_CLUSTER = 10
"""Share of the head, and examples per prototype, that did well on the validation rows of CLINC150 with 10 and with 150
categories alike."""

USUAL_ASK_BAR = 0.8
"""Bar of a question beside a pasted text where nothing was held out, and the value that equals are drawn to."""


@dataclass(frozen=True, slots=True)
class ScoringChoice:
    """Prototypes per category, share of the head, and the held-out scores ``(m, categories)`` that they give."""

    prototypes: int
    weight: float
    scores: Matrix


def choose(held: HeldOut, examples_per_category: float) -> ScoringChoice:
    """The usual choice among those whose accuracy is within half a standard error of the best one's.

    Where several are alike, accuracy would leave it to chance, and the number of prototypes and the similarity's share
    still matter for telling out-of-scope queries apart. The head gets no share only where it does harm.

    Args:
        held: held-out scores of every number of prototypes, and of the head.
        examples_per_category: of the typical category.
    """
    tried = {(count, weight): _scores(held, count, weight) for count in held.similarities for weight in _weights(held)}
    reached = {pair: accuracy(scores, held.labels) for pair, scores in tried.items()}
    best = max(reached.values())
    tolerance = 0.5 * math.sqrt(best * (1 - best) / len(held.labels))
    usual = max(1.0, examples_per_category / USUAL_CLUSTER)
    count, weight = min(
        (pair for pair, value in reached.items() if value >= best - tolerance),
        key=lambda pair: (abs(pair[1] - USUAL_WEIGHT), abs(math.log(pair[0] / usual)), pair),
    )
    return ScoringChoice(count, weight, tried[count, weight])


def ask_bar(held: Matrix, labels: NDArray[np.int64], vague: Matrix) -> float:
    """Choose the sureness from which a question decides in place of the text that was pasted beside it.

    The bar is where the share of held-out examples that decide, rightly, is furthest above the share of questions that
    say nothing of their own and would decide all the same.

    Args:
        held: ``(m, categories)`` held-out scores of examples.
        labels: ``(m,)`` their categories.
        vague: ``(n, categories)`` scores of :data:`~semroute.texts.vague.VAGUE_ASKS`.
    """
    good = margin_score(held)[held.argmax(axis=1) == labels]
    empty = margin_score(vague)
    bars = np.linspace(0.5, 1.1, 25)
    gained = [float((good >= bar).sum() / len(labels) - (empty >= bar).mean()) for bar in bars]
    near = np.flatnonzero(np.array(gained) >= max(gained) - 0.02)
    return float(bars[near[np.argmin(np.abs(bars[near] - USUAL_ASK_BAR))]])


def _weights(held: HeldOut) -> tuple[float, ...]:
    return (0.0,) if held.probabilities is None else WEIGHTS


def _scores(held: HeldOut, count: int, weight: float) -> Matrix:
    similarities = held.similarities[count]
    return similarities if held.probabilities is None else blend(similarities, held.probabilities, weight)


def calibrate(scores: Matrix, labels: NDArray[np.int64]) -> Calibration:
    """Fit the probability that the best category is right, on scores of examples that the model did not see.

    Targets are smoothed as Platt does, ``(n+ + 1) / (n+ + 2)`` and ``1 / (n- + 2)``, so that a set without a single
    mistake does not give certainty.
    """
    best, margin = best_and_margin(scores)
    right = scores.argmax(axis=1) == labels
    target = np.where(right, (right.sum() + 1) / (right.sum() + 2), 1 / ((~right).sum() + 2))
    bias, score, margin_share = _logistic(np.column_stack([np.ones_like(best), best, margin]), target)
    return Calibration(bias=bias, score=score, margin=margin_share)


def _logistic(inputs: NDArray[np.float64], target: NDArray[np.float64]) -> list[float]:
    """Fit a logistic regression by Newton's method; the first column is that of the bias.

    Minimises ``STRENGTH * cross-entropy + |weights|² / 2``, the bias free, as scikit-learn does, whose import alone
    takes longer than a small index.
    """
    free = np.ones(inputs.shape[1])
    free[0] = 0.0

    def loss(weights: NDArray[np.float64]) -> float:
        logits = inputs @ weights
        return float(STRENGTH * (np.logaddexp(0.0, logits) - target * logits).sum() + (free * weights**2).sum() / 2)

    weights = np.zeros(inputs.shape[1])
    reached = loss(weights)
    for _ in range(MOST_STEPS):
        chance = 1 / (1 + np.exp(-np.clip(inputs @ weights, -500, 500)))
        slope = STRENGTH * inputs.T @ (chance - target) + free * weights
        curve = STRENGTH * (inputs * (chance * (1 - chance))[:, None]).T @ inputs + np.diag(free + 1e-9)
        step = np.linalg.solve(curve, slope)
        share = 1.0
        while (lower := loss(weights - share * step)) > reached and share > 1e-6:
            share /= 2
        if lower > reached:
            break
        weights = weights - share * step
        if reached - lower <= 1e-10 * abs(reached):
            break
        reached = lower
    return [float(weight) for weight in weights]


@dataclass(frozen=True, slots=True)
class Calibrations:
    """The calibration of each stage; ``first`` is None where the index has no first stage."""

    first: Calibration | None
    second: Calibration

    def confidence(self, both: BothScores, answered: NDArray[np.bool_]) -> NDArray[np.float64]:
        """``(n,)`` confidence in the scores of the stage that answers; ``answered`` says where it is the first."""
        confidence = self.second.confidence(both.second)
        if self.first is None or both.first is None:
            return confidence
        return np.where(answered, self.first.confidence(both.first), confidence)

    def refitted(self, both: BothScores, labels: NDArray[np.int64], answered: NDArray[np.bool_]) -> Calibrations:
        """Each fitted anew on the in-scope queries that its stage answers, where they are enough.

        What is left to the second stage is harder than queries at large: fitted on all, it would be too confident.
        """
        first, second = self.first, self.second
        if np.count_nonzero(~answered) >= FEWEST_FOR_CALIBRATION:
            second = calibrate(both.second[~answered], labels[~answered])
        if both.first is not None and np.count_nonzero(answered) >= FEWEST_FOR_CALIBRATION:
            first = calibrate(both.first[answered], labels[answered])
        return Calibrations(first, second)
