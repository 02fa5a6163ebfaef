"""Fit the scorer of an index by validation: prototypes, head, calibration."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from semroute.encoders.onnx import available_cores
from semroute.evaluate.metrics import accuracy, expected_calibration_error
from semroute.evaluate.routing import decide
from semroute.index import BothScores
from semroute.index.prototypes import PrototypeIndex
from semroute.index.scoring import Calibration, Scorer, best_and_margin, blend, margin_score
from semroute.learn.category_head import HeadPlan, one_blas_thread, train_heads
from semroute.learn.near_twins import group_means
from semroute.learn.thresholds import (
    FALSE_REJECTION,
    FALSE_REJECTION_WITH_BACKGROUND,
    thresholds_for_false_rejection,
)
from semroute.predictors.category_head import MlpHead
from semroute.types import Matrix
from semroute.types.protocols import Progress, silent

# Prototypes of each category: spherical k-means within the category.

PER_PROTOTYPE = 3
"""Minimum number of examples per prototype of a category."""


def spherical_kmeans(vectors: Matrix, count: int, *, seed: int) -> Matrix:
    """Return ``count`` unit centroids of unit ``vectors`` ``(n, d)``.

    They are those of k-means under the cosine: Dhillon and Modha, "Concept decompositions for large sparse text data
    using clustering", Machine Learning, 2001.
    """
    count = min(count, len(vectors))
    if count == 1:
        return _unit(vectors.mean(axis=0, keepdims=True))
    kmeans = faiss.Kmeans(
        vectors.shape[1], count, niter=20, spherical=True, seed=seed, min_points_per_centroid=1, verbose=False
    )
    kmeans.train(np.ascontiguousarray(vectors))
    return _unit(np.asarray(kmeans.centroids, dtype=np.float32))


def category_prototypes(
    vectors: Matrix, labels: NDArray[np.int64], per_category: int, *, seed: int
) -> tuple[Matrix, list[int]]:
    """Fit the prototypes of all categories, on the caller's thread alone.

    A category has some hundred examples: a second thread costs more than it gains, and where other work keeps the cores
    busy, threads that spin while they wait make it forty times slower.

    Args:
        vectors: ``(n, d)`` unit rows.
        labels: ``(n,)`` category numbers from 0, each present.
        per_category: prototypes wanted; a category with few examples gets fewer.
        seed: of k-means.

    Returns:
        ``(prototypes, d)`` unit rows grouped by category, and the counts.
    """
    categories = int(labels.max()) + 1
    members = np.split(np.argsort(labels, kind="stable"), np.cumsum(np.bincount(labels))[:-1])
    parts = []
    with one_thread():
        for category in range(categories):
            rows = vectors[members[category]]
            parts.append(spherical_kmeans(rows, max(1, min(per_category, len(rows) // PER_PROTOTYPE)), seed=seed))
    return np.concatenate(parts), [len(part) for part in parts]


@contextmanager
def one_thread() -> Iterator[None]:
    """Limit FAISS to the caller's thread.

    Other threads keep their own setting.
    """
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)


def _unit(rows: Matrix) -> Matrix:
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(rows / np.where(norms == 0, 1, norms), dtype=np.float32)


# Held-out scores: a build validates its choices before it fits them on all examples.

FOLDS = 5
ONE_SPLIT_FROM = 6_000
"""Groups of examples from which one held-out fifth is as good as five folds: its standard error is below .5 points."""

PROTOTYPE_CHOICES = (1, 2, 4, 8, 16, 32, 64)


@dataclass(frozen=True, slots=True)
class Split:
    """Rows to fit on and rows to hold out."""

    fit: NDArray[np.int64]
    held: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class HeldOut:
    """Held-out scores by group of near-duplicate examples.

    Each group is one row, the mean of its examples. The models were fitted without the held-out groups.

    Attributes:
        labels: ``(m,)`` true category of each held-out group.
        similarities: per number of prototypes, ``(m, categories)``.
        probabilities: ``(m, categories)`` of the head; None when no head is trained.
        groups: ``(m,)`` number of each held-out group.
        head: a head that was trained with the others, on all groups; None when no head is trained.
    """

    labels: NDArray[np.int64]
    similarities: dict[int, Matrix]
    probabilities: Matrix | None
    groups: NDArray[np.int64] | None = None
    head: MlpHead | None = None


def splits(labels: NDArray[np.int64], groups: NDArray[np.int64] | None = None, *, seed: int) -> list[Split]:
    """Return stratified folds of groups.

    Five folds, or one held-out fifth from :data:`ONE_SPLIT_FROM` groups on. The only group of a category is never held
    out, since nothing else represents it.

    Args:
        labels: ``(n,)`` category numbers from 0.
        groups: ``(n,)`` group of each example, held out together; None makes each example its own group.
        seed: of the order.
    """
    random = np.random.default_rng(seed)
    groups = np.arange(len(labels)) if groups is None else groups
    _, first, group_of_row = np.unique(groups, return_index=True, return_inverse=True)
    fold = np.full(len(first), -1, dtype=np.int64)
    for category in range(int(labels.max()) + 1):
        # In the order of their first examples, so that without near-duplicates the folds are those of the examples.
        members = np.flatnonzero(labels[first] == category)
        members = random.permutation(members[np.argsort(first[members])])
        if len(members) > 1:
            fold[members] = (np.arange(len(members)) + category) % FOLDS
    numbers = range(1) if len(first) >= ONE_SPLIT_FROM else range(FOLDS)
    fold = fold[group_of_row]
    plan = [Split(np.flatnonzero(fold != number), np.flatnonzero(fold == number)) for number in numbers]
    return [split for split in plan if len(split.held)]


def held_out_scores(
    vectors: Matrix,
    labels: NDArray[np.int64],
    plan: Sequence[Split],
    *,
    groups: NDArray[np.int64] | None = None,
    head: HeadPlan | None,
    seed: int,
    progress: Progress = silent,
) -> HeldOut:
    """Fit prototypes and head on each split, and score its held-out rows.

    Every number of prototypes is tried.

    The head of all examples is trained with those of the splits, so that no core waits for the last of them.

    Args:
        vectors: ``(n, d)`` unit rows.
        labels: ``(n,)`` category numbers from 0.
        plan: the splits.
        groups: ``(n,)`` group of each example, which counts as one; None makes each example its own group.
        head: settings of the head, or None for none.
        seed: of k-means.
        progress: called with the splits done and their total.
    """
    groups = np.arange(len(labels)) if groups is None else groups
    data = [group_means(vectors[split.fit], labels[split.fit], groups[split.fit]) for split in plan]
    choices = prototype_choices(group_means(vectors, labels, groups)[1])

    def similarities(split: Split, rows: Matrix, category_of_row: NDArray[np.int64]) -> list[Matrix]:
        similarities_of_split = []
        for choice in choices:
            prototypes, counts = category_prototypes(rows, category_of_row, choice, seed=seed)
            index = PrototypeIndex.build(prototypes, counts)
            similarities_of_split.append(mean_by_group(index.similarities(vectors[split.held]), groups[split.held]))
        return similarities_of_split

    with one_blas_thread(), ThreadPoolExecutor(min(available_cores(), len(plan))) as pool:
        by_split = list(pool.map(similarities, plan, *zip(*data, strict=True)))
    progress("validating", 0, len(plan))
    probabilities, final_head = None, None
    if head is not None:
        everything = group_means(vectors, labels, groups)
        probabilities, final_head = _held_out_probabilities([*data, everything], vectors, groups, plan, head, progress)
    return HeldOut(
        labels=np.concatenate([_first_of_each(labels[split.held], groups[split.held]) for split in plan]),
        similarities={
            choice: np.concatenate(parts) for choice, parts in zip(choices, zip(*by_split, strict=True), strict=True)
        },
        probabilities=probabilities,
        groups=np.concatenate([np.unique(groups[split.held]) for split in plan]),
        head=final_head,
    )


def _held_out_probabilities(
    data: Sequence[tuple[Matrix, NDArray[np.int64]]],
    vectors: Matrix,
    groups: NDArray[np.int64],
    plan: Sequence[Split],
    head: HeadPlan,
    progress: Progress,
) -> tuple[Matrix, MlpHead]:
    """Train the head on ``data``, one set per split and then all examples.

    Returns:
        Probabilities of the held-out groups, split after split, and the head of all examples.
    """
    categories = int(data[-1][1].max()) + 1
    *heads, whole = train_heads(
        data, categories, head, lambda done: progress("validating", min(done, len(plan)), len(plan))
    )
    tried = [
        mean_by_group(trained.probabilities(vectors[split.held]), groups[split.held])
        for trained, split in zip(heads, plan, strict=True)
    ]
    return np.concatenate(tried), whole


def mean_by_group(scores: Matrix, groups: NDArray[np.int64]) -> Matrix:
    """Return mean scores of each group, groups ascending.

    The scores of a group's mean vector would be too high.
    """
    _, group_of_row, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    if len(sizes) == len(scores):
        return scores[np.argsort(group_of_row)]
    sums = np.zeros((len(sizes), scores.shape[1]), dtype=np.float64)
    np.add.at(sums, group_of_row, scores)
    return np.asarray(sums / sizes[:, None], dtype=np.float32)


def _first_of_each(labels: NDArray[np.int64], groups: NDArray[np.int64]) -> NDArray[np.int64]:
    return labels[np.unique(groups, return_index=True)[1]]


def prototype_choices(labels: NDArray[np.int64]) -> list[int]:
    """Return the numbers of prototypes to try.

    They are limited to three examples per prototype in the largest category.
    """
    largest = int(np.bincount(labels).max())
    return [choice for choice in PROTOTYPE_CHOICES if choice == 1 or choice * 3 <= largest]


# Chosen by validation: prototypes per category, the weight of the head, and the calibrations.

WEIGHTS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5)
"""Weights of the head to try. Above a half the score separates the categories better than it rejects queries."""

MIN_FOR_CALIBRATION = 100
"""In-scope queries below which an existing calibration is kept."""

STRENGTH = 100.0
"""Weight of the data against the regularisation of a calibration."""
MAX_STEPS = 100

USUAL_WEIGHT = 0.5
USUAL_CLUSTER = 10
"""Default weight of the head, and examples per prototype: both did well on the validation rows of CLINC150 with 10 and
with 150 categories."""

USUAL_ASK_BAR = 0.8
"""Default bar of a question with a pasted text where nothing was held out, and the value that ties are resolved to."""


@dataclass(frozen=True, slots=True)
class ScoringChoice:
    """Chosen prototypes per category and weight of the head.

    ``scores`` are the held-out ones ``(m, categories)``.
    """

    prototypes: int
    weight: float
    scores: Matrix


def choose(held_out: HeldOut, examples_per_category: float) -> ScoringChoice:
    """Choose the nearly best settings that are nearest to the defaults.

    Nearly best is an accuracy within half a standard error of the best one. Among these, accuracy would leave the
    choice to chance, but the number of prototypes and the weight of the similarity still matter for separating
    out-of-scope queries. The head gets no weight only where it does harm.

    Args:
        held_out: held-out scores of every number of prototypes, and of the head.
        examples_per_category: of the typical category.
    """
    scores_of = {
        (count, weight): _scores(held_out, count, weight)
        for count in held_out.similarities
        for weight in _weights(held_out)
    }
    accuracy_of = {pair: accuracy(scores, held_out.labels) for pair, scores in scores_of.items()}
    best = max(accuracy_of.values())
    tolerance = 0.5 * math.sqrt(best * (1 - best) / len(held_out.labels))
    default_count = max(1.0, examples_per_category / USUAL_CLUSTER)
    count, weight = min(
        (pair for pair, value in accuracy_of.items() if value >= best - tolerance),
        key=lambda pair: (abs(pair[1] - USUAL_WEIGHT), abs(math.log(pair[0] / default_count)), pair),
    )
    return ScoringChoice(count, weight, scores_of[count, weight])


def ask_bar(held_scores: Matrix, labels: NDArray[np.int64], vague: Matrix) -> float:
    """Choose the margin score from which a question outranks the pasted text.

    The bar maximises the share of held-out examples that decide correctly minus the share of vague questions that would
    decide as well.

    Args:
        held_scores: ``(m, categories)`` held-out scores of examples.
        labels: ``(m,)`` their categories.
        vague: ``(n, categories)`` scores of :data:`~semroute.text.asks.VAGUE_ASKS`.
    """
    margins = margin_score(held_scores)[held_scores.argmax(axis=1) == labels]
    empty = margin_score(vague)
    candidates = np.linspace(0.5, 1.1, 25)
    gain = [float((margins >= candidate).sum() / len(labels) - (empty >= candidate).mean()) for candidate in candidates]
    nearly_best = np.flatnonzero(np.array(gain) >= max(gain) - 0.02)
    return float(candidates[nearly_best[np.argmin(np.abs(candidates[nearly_best] - USUAL_ASK_BAR))]])


def _weights(held_out: HeldOut) -> tuple[float, ...]:
    return (0.0,) if held_out.probabilities is None else WEIGHTS


def _scores(held_out: HeldOut, count: int, weight: float) -> Matrix:
    similarities = held_out.similarities[count]
    return similarities if held_out.probabilities is None else blend(similarities, held_out.probabilities, weight)


def calibrate(scores: Matrix, labels: NDArray[np.int64]) -> Calibration:
    """Fit the probability that the best category is right, on held-out scores.

    Targets are smoothed as in Platt, ``(n+ + 1) / (n+ + 2)`` and ``1 / (n- + 2)``, so that a set without a single
    mistake does not give certainty.
    """
    best, margin = best_and_margin(scores)
    is_correct = scores.argmax(axis=1) == labels
    target = np.where(is_correct, (is_correct.sum() + 1) / (is_correct.sum() + 2), 1 / ((~is_correct).sum() + 2))
    bias, score, margin_share = _logistic(np.column_stack([np.ones_like(best), best, margin]), target)
    return Calibration(bias=bias, score=score, margin=margin_share)


def _logistic(inputs: NDArray[np.float64], target: NDArray[np.float64]) -> list[float]:
    """Fit a logistic regression by Newton's method; column 0 is the bias.

    Minimises ``STRENGTH * cross-entropy + |weights|² / 2``, the bias free, as scikit-learn does; the import of
    scikit-learn alone takes longer than a small index.
    """
    is_free = np.ones(inputs.shape[1])
    is_free[0] = 0.0

    def loss(weights: NDArray[np.float64]) -> float:
        logits = inputs @ weights
        return float(STRENGTH * (np.logaddexp(0.0, logits) - target * logits).sum() + (is_free * weights**2).sum() / 2)

    weights = np.zeros(inputs.shape[1])
    current = loss(weights)
    for _ in range(MAX_STEPS):
        chance = 1 / (1 + np.exp(-np.clip(inputs @ weights, -500, 500)))
        slope = STRENGTH * inputs.T @ (chance - target) + is_free * weights
        curve = STRENGTH * (inputs * (chance * (1 - chance))[:, None]).T @ inputs + np.diag(is_free + 1e-9)
        step = np.linalg.solve(curve, slope)
        share = 1.0
        while (lower := loss(weights - share * step)) > current and share > 1e-6:
            share /= 2
        if lower > current:
            break
        weights = weights - share * step
        if current - lower <= 1e-10 * abs(current):
            break
        current = lower
    return [float(weight) for weight in weights]


@dataclass(frozen=True, slots=True)
class Calibrations:
    """Calibration of each stage; ``first`` is None without a first stage."""

    first: Calibration | None
    second: Calibration

    def confidence(self, stage_scores: BothScores, answered: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Return the ``(n,)`` confidence of the answering stage.

        It is the first stage where ``answered`` is True.
        """
        confidence = self.second.confidence(stage_scores.second)
        if self.first is None or stage_scores.first is None:
            return confidence
        return np.where(answered, self.first.confidence(stage_scores.first), confidence)

    def refitted(
        self, stage_scores: BothScores, labels: NDArray[np.int64], answered: NDArray[np.bool_]
    ) -> Calibrations:
        """Refit each on the in-scope queries that its stage answers, if enough.

        The queries left to the second stage are harder than average: fitted on all, it would be overconfident.
        """
        first, second = self.first, self.second
        if np.count_nonzero(~answered) >= MIN_FOR_CALIBRATION:
            second = calibrate(stage_scores.second[~answered], labels[~answered])
        if stage_scores.first is not None and np.count_nonzero(answered) >= MIN_FOR_CALIBRATION:
            first = calibrate(stage_scores.first[answered], labels[answered])
        return Calibrations(first, second)


UNVALIDATED_THRESHOLD = 0.4
MANY_CATEGORIES = 100
FEW_EXAMPLES = 10
"""Number of categories from which, and examples of the typical one up to which, the head is a logistic regression: the
time of one with a hidden layer grows with the categories, and with 4 or 8 examples of each of the 150 intents of
CLINC150 it cost a point of accuracy on test rows. With 10 and the names the logistic one is .3 points better on
validation rows."""

UNVALIDATED_CALIBRATION = Calibration(bias=-3.0, score=6.0, margin=6.0)
"""Calibration of indexes too small to hold out examples: typical values of MiniLM on short questions."""


@dataclass(frozen=True, slots=True)
class HeldOutScores:
    """Held-out scores ``(m, categories)`` and true categories ``(m,)``.

    The scores are those of the choice that was made.

    A row is a group of near-duplicate examples.
    """

    scores: Matrix
    labels: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Fitted:
    """Fitted scorer with thresholds ``(categories,)`` and JSON-ready report.

    ``held`` is None where there are too few examples to hold any out; its rows are those of the plan's splits in order,
    whatever the vectors. ``groups`` holds the group of examples that each of them represents.
    """

    scorer: Scorer
    thresholds: NDArray[np.float64]
    report: dict[str, Any]
    held: HeldOutScores | None = None
    groups: NDArray[np.int64] | None = None


@dataclass(frozen=True, slots=True)
class FitOptions:
    """Settings of a fit, the same for all of its parts.

    Attributes:
        head: whether a head may be used; validation may still give it no weight.
        plan: splits to hold out; None splits by :func:`~semroute.learn.fit.splits`. An encoder that was tuned on
            a part of the examples names the other part here. A group that lies in both parts is not held out.
        seed: of everything drawn.
        progress: called with a step's name, the number done and the total.
    """

    head: bool = True
    plan: Sequence[Split] | None = None
    seed: int = 0
    progress: Progress = silent

    def splits(self, labels: NDArray[np.int64], groups: NDArray[np.int64]) -> list[Split]:
        """Return the splits of ``(n,)`` examples with these groups."""
        return splits(labels, groups, seed=self.seed) if self.plan is None else usable_plan(self.plan, groups)


USUAL_OPTIONS = FitOptions()


def fit(
    vectors: Matrix,
    labels: NDArray[np.int64],
    *,
    groups: NDArray[np.int64] | None = None,
    names: int = 0,
    options: FitOptions = USUAL_OPTIONS,
) -> Fitted:
    """Choose by validation, then fit on all examples.

    Args:
        vectors: ``(n, d)`` unit rows.
        labels: ``(n,)`` category numbers from 0, each present.
        groups: ``(n,)`` the group of each example (:func:`~semroute.learn.near_twins.near_twins`): held out together,
            with the weight of one. None makes each example its own group.
        names: groups with the highest numbers that are no examples, but say what a category is; the plan of
            ``options`` holds none of them out, and no figure counts them.
        options: settings.
    """
    groups = np.arange(len(labels)) if groups is None else groups
    plan, seed, progress = options.splits(labels, groups), options.seed, options.progress
    rows, category_of_group = group_means(vectors, labels, groups)
    sizes = np.bincount(category_of_group[: len(category_of_group) - names])
    typical = float(np.median(sizes))
    if not plan:
        return _unvalidated(rows, category_of_group, sizes, seed)
    settings = _head_plan(sizes, seed) if options.head and int(labels.max()) > 0 else None
    held_out = held_out_scores(vectors, labels, plan, groups=groups, head=settings, seed=seed, progress=progress)
    choice = choose(held_out, typical)

    progress("fitting", 0, 1)
    prototypes, counts = category_prototypes(rows, category_of_group, choice.prototypes, seed=seed)
    progress("fitting", 1, 1)
    report = {
        "groups": int(sizes.sum()),
        **_few(sizes),
        "held_out": len(held_out.labels),
        "splits": len(plan),
        "seed": seed,
        "prototypes_per_category": choice.prototypes,
        "accuracy_by_prototypes": {str(k): accuracy(s, held_out.labels) for k, s in held_out.similarities.items()},
        "head_weight": choice.weight,
        "accuracy_of_head": None
        if held_out.probabilities is None
        else accuracy(held_out.probabilities, held_out.labels),
        "logistic_head": settings is not None and settings.hidden == 0,
    }
    trained = held_out.head if choice.weight > 0 else None
    scorer = _scorer(prototypes, counts, trained, choice.weight, UNVALIDATED_CALIBRATION)
    return complete_fit(scorer, report, HeldOutScores(choice.scores, held_out.labels), held_out.groups)


def complete_fit(
    scorer: Scorer, report: dict[str, Any], held_out: HeldOutScores, groups: NDArray[np.int64] | None
) -> Fitted:
    """Complete a fit with thresholds, calibration and held-out figures.

    Args:
        scorer: its calibration is replaced.
        report: entries that do not depend on the scores.
        held_out: held-out scores of the scorer's kind.
        groups: ``(m,)`` groups that the rows of ``held_out`` represent.
    """
    calibration = calibrate(held_out.scores, held_out.labels)
    target = FALSE_REJECTION_WITH_BACKGROUND if scorer.background_weight else FALSE_REJECTION
    thresholds = thresholds_for_false_rejection(held_out.scores, target, held_out.labels)
    thresholds = _capped_unseen(thresholds, held_out.labels, scorer)
    report = {**report, **_measured(held_out.scores, held_out.labels, thresholds, calibration)}
    return Fitted(replace(scorer, calibration=calibration), thresholds, report, held_out, groups)


def _few(sizes: NDArray[np.int64]) -> dict[str, float]:
    """Return a note of few examples in the typical category; "" with enough."""
    typical = float(np.median(sizes))
    return {"few_examples": typical} if typical <= FEW_EXAMPLES else {}


def _head_plan(sizes: NDArray[np.int64], seed: int) -> HeadPlan:
    """Return the settings of the head for categories with ``sizes`` examples."""
    if len(sizes) >= MANY_CATEGORIES and float(np.median(sizes)) <= FEW_EXAMPLES:
        return HeadPlan(hidden=0, seed=seed)
    return HeadPlan(seed=seed)


def usable_plan(plan: Sequence[Split], groups: NDArray[np.int64]) -> list[Split]:
    """Return splits without held-out near-duplicates of the fitted part."""
    plan_of_groups = [Split(split.fit, split.held[~np.isin(groups[split.held], groups[split.fit])]) for split in plan]
    return [split for split in plan_of_groups if len(split.held)]


def _capped_unseen(thresholds: NDArray[np.float64], labels: NDArray[np.int64], scorer: Scorer) -> NDArray[np.float64]:
    """Cap the thresholds of categories without held-out examples.

    Other categories' scores are no evidence for them. The cap is the typical cosine, with the head's probability at the
    level of chance, and the background head's between both.
    """
    cap = (1 - scorer.weight) * UNVALIDATED_THRESHOLD + scorer.weight / len(thresholds)
    cap = (1 - scorer.background_weight) * cap + scorer.background_weight / 2
    unseen = np.bincount(labels, minlength=len(thresholds)) == 0
    return np.where(unseen, np.minimum(thresholds, cap), thresholds)


def _measured(
    scores: Matrix, labels: NDArray[np.int64], thresholds: NDArray[np.float64], calibration: Calibration
) -> dict[str, float]:
    is_correct = scores.argmax(axis=1) == labels
    return {
        "accuracy_in_scope": accuracy(scores, labels),
        "false_rejection": float(1 - decide(scores, thresholds)[1].mean()),
        "ece": expected_calibration_error(calibration.confidence(scores), is_correct),
    }


def _unvalidated(vectors: Matrix, labels: NDArray[np.int64], sizes: NDArray[np.int64], seed: int) -> Fitted:
    """Fit prototypes alone, without validation.

    With an example or two a head knows no more, and the guesses below are for cosines.
    """
    prototypes, counts = category_prototypes(vectors, labels, 1, seed=seed)
    report = {
        "groups": int(sizes.sum()),
        **_few(sizes),
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
