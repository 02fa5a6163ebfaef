"""Predictions for whole tasks that were left out, against prompt length.

Each part of the tasks is one trial of a classifier on kinds of queries that it has never seen. Figures are taken within
a part and averaged over the parts, since the means of the training rows differ between them; intervals draw tasks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from harness.outcomes import plain_setting
from harness.report import head, row, with_interval
from semroute.evaluate.baselines import EvaluationData, cluster_table, lengths
from semroute.evaluate.baselines import prompt_length as fitted_length
from semroute.evaluate.curves import aurocs, calibration_errors, strong_share_curves
from semroute.evaluate.duplicates import duplicates
from semroute.evaluate.metrics import Resampling, interval, perfect_calibration_error, ratio, trapezoid
from semroute.evaluate.replay import Fold, task_folds
from semroute.learn.estimators import TrainingRows
from semroute.learn.query_quality import train_queries
from semroute.outcomes.table import OutcomeTable, numbered
from semroute.types import Matrix

Doubles = NDArray[np.float64]

PAIRS = {
    "mmlu": ("mixtral-8x7b", "gpt-4-1106-preview"),
    "mmlu_pro": ("Meta-Llama-3_1-8B-Instruct", "gemini-1.5-pro-002"),
    "zeroeval": ("gpt-4o-mini-2024-07-18", "gpt-4o-2024-08-06"),
}
"""Small and strong model of the files that have tasks of one kind of question each."""

BEFORE, NOW = "classifier, near stack alone", "classifier"
LENGTH = "prompt length, the longer to the strong"
GOOD = 0.5


@dataclass(frozen=True, slots=True)
class Scores:
    """Scores of a policy for ``n`` queries.

    Attributes:
        small: the higher, the more likely the small model is right.
        gain: the higher, the sooner the strong model is asked.
        quality: ``(n, 2)`` predicted quality of both; None for a policy without one.
    """

    small: Doubles
    gain: Doubles
    quality: Doubles | None = None

    @classmethod
    def of(cls, quality: Matrix | Doubles) -> Scores:
        """Take the scores from predicted quality."""
        exact = quality.astype(np.float64)
        return cls(exact[:, 0], exact[:, 1] - exact[:, 0], exact)


def new_kinds(
    name: str, table: OutcomeTable, vectors: Matrix, *, parts: int, resamples: int, seed: int
) -> Iterator[str]:
    """Yield Markdown on tasks that were never seen.

    Args:
        name: one of :data:`PAIRS`.
        table: its outcomes.
        vectors: of its queries.
        parts: maximum number of parts that the tasks are left out in.
        resamples: of the tasks.
        seed: of all draws.
    """
    pair = table.with_models(PAIRS[name])
    group = duplicates(pair.queries, vectors).group
    folds = task_folds(pair.tasks, group, parts, seed=seed)
    names, task = numbered(pair.tasks)
    quality = pair.quality.astype(np.float64)
    resampling = Resampling.draw(len(pair), seed=seed, resamples=resamples, group=task)
    scores: dict[str, list[Scores]] = {}
    for fold in folds:
        for policy, one in _policies(pair, vectors, fold, seed).items():
            scores.setdefault(policy, []).append(one)
    yield f"### {name}: {PAIRS[name][0]} or {PAIRS[name][1]}, {len(names)} tasks, left out in {len(folds)} parts\n"
    yield from head("policy", "small is right, AUROC", "strong is needed, AUROC", "APGR", "ECE", "ECE if perfect")
    for policy, of_parts in scores.items():
        yield row(policy, *_figures(of_parts, folds, quality, resampling))
    yield ""


def _policies(table: OutcomeTable, vectors: Matrix, fold: Fold, seed: int) -> Mapping[str, Scores]:
    """Return the scores of each policy for the test rows of a fold."""
    train, test = fold.train, fold.test
    data = EvaluationData(table.queries, table.tasks, vectors, table.quality, seed)
    longer = np.log1p(lengths([table.queries[line] for line in test.tolist()]))
    drawn = np.random.default_rng(seed).random(len(test))
    setting = plain_setting(table.models, vectors.shape[1])
    rows = TrainingRows.of(
        [table.queries[line] for line in train.tolist()], vectors[train], table.quality[train].astype(np.float64),
        table.models, setting.categories, [table.tasks[line] for line in train.tolist()],
    )  # fmt: skip
    classifier = train_queries(rows, setting, seed=seed).classifier
    asked = [table.queries[line] for line in test.tolist()], vectors[test]
    return {
        NOW: Scores.of(classifier.predict(*asked)),
        BEFORE: Scores.of(replace(classifier, novelty=None).predict(*asked)),
        LENGTH: Scores(-longer, longer),
        "prompt length, fitted": Scores.of(fitted_length(data, train, test)),
        "cluster table": Scores.of(cluster_table(data, train, test)),
        "random order": Scores(drawn, -drawn),
    }


def _figures(scores: list[Scores], folds: list[Fold], quality: Doubles, resampling: Resampling) -> Iterator[str]:
    """Yield the cells of a policy's row."""
    parts = [Resampling(resampling.batch[fold.test], resampling.weights) for fold in folds]
    truths = [quality[fold.test] for fold in folds]
    counts = np.column_stack([part.resampled(part.batch_counts[:, None])[:, 0] for part in parts])

    def mean(columns: list[Doubles]) -> str:
        values = np.column_stack(columns)
        weights = np.where(np.isfinite(values), counts, 0.0)
        return with_interval(interval(ratio((np.nan_to_num(values) * weights).sum(axis=1), weights.sum(axis=1))))

    every = list(zip(parts, scores, truths, strict=True))
    yield mean([aurocs(part, one.small, truth[:, 0] >= GOOD) for part, one, truth in every])
    yield mean([aurocs(part, one.gain, truth[:, 1] > truth[:, 0]) for part, one, truth in every])
    curves = [strong_share_curves(part, one.gain, truth[:, 0], truth[:, 1]) for part, one, truth in every]
    won = np.column_stack([trapezoid(*curve) - curve[1][:, 0] for curve in curves])
    gaps = np.column_stack([curve[1][:, -1] - curve[1][:, 0] for curve in curves])
    yield with_interval(interval(ratio((won * counts).sum(axis=1), (gaps * counts).sum(axis=1))))
    known = [(part, one.quality, truth) for part, one, truth in every if one.quality is not None]
    if not known:
        yield from ("", "")
        return
    errors = [
        np.mean([calibration_errors(part, told[:, model], truth[:, model]) for model in (0, 1)], axis=0)
        for part, told, truth in known
    ]
    yield mean(errors)
    perfect = [np.mean([perfect_calibration_error(column) for column in told.T]) for _, told, _ in known]
    yield f"{np.average(perfect, weights=counts[0]):.3f}"
