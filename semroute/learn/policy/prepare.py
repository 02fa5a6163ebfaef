"""Split outcomes into tuning and test rows, and train on the tuning rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from semroute.errors import InputError
from semroute.evaluate.replay import asked_tokens, call_costs
from semroute.index import BothScores
from semroute.learn.answer_quality import judged_answers, train
from semroute.learn.estimators import LEAST_QUERIES, Estimator, TrainingRows
from semroute.learn.policy.families import PolicyData
from semroute.learn.query_quality import Setting, train_queries
from semroute.outcomes.costs import Costs
from semroute.predictors.answer_quality import AnswerClassifier
from semroute.predictors.query_features import QueryInputs
from semroute.predictors.query_quality import QueryClassifier
from semroute.types import Matrix
from semroute.types.protocols import Indices, Progress

if TYPE_CHECKING:
    from semroute.config import Price


ACCEPTABLE = 0.5
"""Quality from which a cascade should accept an answer."""
_BLOCKS = ("shape", "words")


@dataclass(frozen=True, slots=True)
class PolicyInputs:
    """Inputs of policy tuning.

    Attributes:
        costs: complete outcomes with their costs.
        group: ``(n,)`` duplicate group of each row.
        inputs: vectors and features of the queries.
        scores: ``(n, c)`` of the categories, by each stage of the index; no columns where there are none.
        prices: of models.
        encoder: fingerprint of the encoder.
        categories: ``(c, d)`` unit rows for the classifier's features; may have no rows.
    """

    costs: Costs
    group: Indices
    inputs: QueryInputs
    scores: BothScores
    prices: Mapping[str, Price]
    encoder: str
    categories: Matrix


@dataclass(frozen=True, slots=True)
class PolicySplit:
    """Tuning and held-out rows, with the classifiers trained on the first.

    Attributes:
        tuning: rows that policies are created and ordered on.
        held: rows that promises are tested on, in random order.
        classifier: of queries.
        checks: classifiers of answers, by number of the model.
    """

    tuning: PolicyData
    held: PolicyData
    classifier: QueryClassifier
    checks: Mapping[int, AnswerClassifier] = field(default_factory=dict)


def split(group: Indices, share: float, seed: int) -> tuple[Indices, Indices]:
    """Split the rows into tuning rows and at most ``share`` held-out rows.

    Duplicates are on one side. Groups of them are held out in random order, each that still fits; one of more than
    ``share`` of the rows never is, and the promise does not cover it.

    Args:
        group: ``(n,)`` group of each row, from :func:`~semroute.evaluate.replay.duplicates`.
        share: of the rows, in 0..1.
        seed: of the draw.

    Returns:
        Tuning rows in their order, and held-out rows, group by group in random order.

    Raises:
        InputError: too few distinct queries for two parts.
    """
    sizes = np.bincount(group)
    order = np.random.default_rng(seed).permutation(len(sizes))
    is_held = np.zeros(len(sizes), np.bool_)
    room = share * len(group)
    for group_number in order.tolist():
        # One group that is too large must not keep the smaller ones after it from being held out.
        if sizes[group_number] <= room:
            is_held[group_number] = True
            room -= sizes[group_number]
    count = int(is_held.sum())
    if min(count, len(sizes) - count) < LEAST_QUERIES:
        raise InputError(
            f"{len(sizes)} different queries with the quality of every model give {len(sizes) - count} to tune on and "
            f"{count} to test on, and each part needs {LEAST_QUERIES}; give more outcomes"
        )
    # In random order: the betting test reads one after the other.
    place = np.random.default_rng(seed + 1).permutation(len(sizes))[group]
    held = np.flatnonzero(is_held[group])
    return np.flatnonzero(~is_held[group]), held[np.argsort(place[held], kind="stable")]


def prepare(
    material: PolicyInputs,
    tuning: Indices,
    held: Indices,
    *,
    heads: Mapping[str, Estimator] | None = None,
    seed: int = 0,
    progress: Progress = lambda step, done, total: None,
) -> PolicySplit:
    """Train on the tuning rows, and predict both parts, out of fold.

    Args:
        material: inputs of all rows.
        tuning: row numbers.
        held: row numbers.
        heads: of the classifier of queries; None tries all.
        seed: of all random draws.
        progress: called with the step, the number done and the total.
    """
    own = material.costs.table.take(tuning)
    calls = call_costs(_costs(material, tuning))
    rows = TrainingRows(own.queries, material.inputs.take(tuning), own.quality.astype(np.float64), own.models)
    setting = Setting(material.encoder, calls, material.categories)
    trained = train_queries(
        rows, setting, heads=heads, seed=seed, progress=lambda done, total: progress("training", done, total)
    )
    checks, said = _checks(material, tuning, seed, progress)
    return PolicySplit(
        tuning=_part(material, tuning, trained.left_out.astype(np.float32), trained.classifier, said),
        held=seen_anew(material, held, trained.classifier, checks),
        classifier=trained.classifier,
        checks=checks,
    )


def seen_anew(
    material: PolicyInputs, rows: Indices, classifier: QueryClassifier, checks: Mapping[int, AnswerClassifier]
) -> PolicyData:
    """Return rows that neither classifier was fitted on, with predictions."""
    table = material.costs.table
    predicted = classifier.predict_inputs(material.inputs.take(rows))
    acceptance = {}
    for number, check in checks.items():
        assert table.responses is not None  # the check was trained on some
        answers = [(table.queries[row], table.responses[row][number] or "") for row in rows.tolist()]
        acceptance[number] = np.array([check.probability(*one) for one in answers])
    return _part(material, rows, predicted, classifier, acceptance)


def _costs(material: PolicyInputs, rows: Indices) -> Costs:
    from semroute.evaluate.offpolicy import on_rows

    return on_rows(material.costs, material.costs.table.take(rows))


def _part(
    material: PolicyInputs,
    rows: Indices,
    predicted: Matrix,
    classifier: QueryClassifier,
    acceptance: Mapping[int, NDArray[np.float64]],
) -> PolicyData:
    table = material.costs.table.take(rows)
    # Without tasks: the router does not know a query's task.
    expected = classifier.costs.expected(asked_tokens(table.queries))
    group = material.group[rows]
    return PolicyData(table.quality, table.cost, predicted, expected, material.scores[rows], acceptance, group)


_Acceptance: TypeAlias = dict[int, NDArray[np.float64]]


def _checks(
    material: PolicyInputs, tuning: Indices, seed: int, progress: Progress
) -> tuple[dict[int, AnswerClassifier], _Acceptance]:
    """Train classifiers of the answers of all models but the most expensive.

    Models without recorded or enough judged answers are skipped. Returns the classifiers and their out-of-fold
    probabilities.
    """
    table = material.costs.table
    if table.responses is None:
        return {}, {}
    dearest = int(table.cost.mean(axis=0, dtype=np.float64).argmax())
    checks: dict[int, AnswerClassifier] = {}
    said: _Acceptance = {}
    told = [
        number
        for number in range(len(table.models))
        if number != dearest and all(answers[number] is not None for answers in table.responses)
    ]
    for done, number in enumerate(told):
        progress("checks", done, len(told))
        try:
            rows = judged_answers(table.take(tuning), [table.models[number]], ACCEPTABLE)
        except InputError:  # too few answers of a kind to train on
            continue
        trained = train(rows, _BLOCKS, seed=seed)
        checks[number], said[number] = trained.classifier, trained.left_out
    progress("checks", len(told), len(told))
    return checks, said
