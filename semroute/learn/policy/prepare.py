"""Train the classifiers of a policy, and predict its rows.

By default every row does both, with predictions of classifiers that were not fitted on it, and the classifiers that
serve are fitted on all rows. A part may be held out for the test alone instead.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from semroute.errors import InputError
from semroute.evaluate.replay import call_costs, table_tokens
from semroute.index import BothScores
from semroute.learn.answer_quality import judged_answers, train
from semroute.learn.estimators import MIN_QUERIES, Estimator, TrainingRows
from semroute.learn.policy.agreement import agreement_of_pairs, pairs_to_compare
from semroute.learn.policy.families import PolicyData
from semroute.learn.query_quality import Setting, train_queries
from semroute.outcomes.costs import Costs
from semroute.predictors.answer_quality import AnswerClassifier
from semroute.predictors.query_features import QueryInputs
from semroute.predictors.query_quality import QueryClassifier
from semroute.types import Matrix
from semroute.types.protocols import Indices, Progress, silent

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
    """Rows to tune and test policies on, and the tuning rows' classifiers.

    Attributes:
        tuning: rows that policies are created and ordered on, with out-of-fold predictions.
        held: rows that promises are tested on, in random order; where none was held out, the tuning rows.
        classifier: of queries.
        checks: classifiers of answers, by number of the model.
    """

    tuning: PolicyData
    held: PolicyData
    classifier: QueryClassifier
    checks: Mapping[int, AnswerClassifier] = field(default_factory=dict)

    @property
    def is_cross_fitted(self) -> bool:
        """Return True if the tuning rows test too, predicted out of fold."""
        return self.held is self.tuning


def shuffled(group: Indices, seed: int) -> Indices:
    """Return all row numbers, group by group in random order.

    Args:
        group: ``(n,)`` group of each row, from :func:`~semroute.evaluate.replay.duplicates`.
        seed: of the draw.

    Raises:
        InputError: too few distinct queries.
    """
    groups = len(np.unique(group))
    if groups < MIN_QUERIES:
        raise InputError(
            f"{groups} different queries with the quality of every model; a policy needs {MIN_QUERIES}: give more "
            "outcomes"
        )
    order = np.random.default_rng(seed).permutation(int(group.max()) + 1)[group]
    return np.argsort(order, kind="stable")


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
    capacity = share * len(group)
    for group_number in order.tolist():
        # One group that is too large must not keep the smaller ones after it from being held out.
        if sizes[group_number] <= capacity:
            is_held[group_number] = True
            capacity -= sizes[group_number]
    count = int(is_held.sum())
    if min(count, len(sizes) - count) < MIN_QUERIES:
        raise InputError(
            f"{len(sizes)} different queries with the quality of every model leave {len(sizes) - count} to tune on and "
            f"{count} to test on, and each part needs {MIN_QUERIES}; give more outcomes"
        )
    order_of_row = np.random.default_rng(seed + 1).permutation(len(sizes))[group]
    held = np.flatnonzero(is_held[group])
    return np.flatnonzero(~is_held[group]), held[np.argsort(order_of_row[held], kind="stable")]


def prepare(
    policy_inputs: PolicyInputs,
    tuning: Indices,
    held_out: Indices | None = None,
    *,
    heads: Mapping[str, Estimator] | None = None,
    seed: int = 0,
    progress: Progress = silent,
) -> PolicySplit:
    """Train on the tuning rows, and predict both parts, out of fold.

    Args:
        policy_inputs: inputs of all rows.
        tuning: row numbers.
        held_out: row numbers; None tests on the tuning rows.
        heads: of the classifier of queries; None tries all.
        seed: of all random draws.
        progress: called with the step, the number done and the total.
    """
    tuning_table = policy_inputs.costs.table.take(tuning)
    calls = call_costs(_costs(policy_inputs, tuning))
    rows = TrainingRows(
        tuning_table.queries,
        policy_inputs.inputs.take(tuning),
        tuning_table.quality.astype(np.float64),
        tuning_table.models,
        tuning_table.tasks,
        tuning_table.signals,
    )
    setting = Setting(policy_inputs.encoder, calls, policy_inputs.categories)
    trained = train_queries(
        rows, setting, heads=heads, seed=seed, progress=lambda done, total: progress("training", done, total)
    )
    checks, acceptance = _checks(policy_inputs, tuning, seed, progress)
    part = _part(policy_inputs, tuning, trained.left_out.astype(np.float32), trained.classifier, acceptance)
    held = part if held_out is None else unseen_data(policy_inputs, held_out, trained.classifier, checks)
    return PolicySplit(part, held, trained.classifier, checks)


def unseen_data(
    policy_inputs: PolicyInputs, rows: Indices, classifier: QueryClassifier, checks: Mapping[int, AnswerClassifier]
) -> PolicyData:
    """Return rows that neither classifier was fitted on, with predictions."""
    table = policy_inputs.costs.table
    predicted = classifier.predict_inputs(policy_inputs.inputs.take(rows))
    acceptance = {}
    for number, check in checks.items():
        assert table.responses is not None  # the check was trained on some
        answers = [(table.queries[row], table.responses[row][number] or "") for row in rows.tolist()]
        acceptance[number] = np.array([check.probability(*answer) for answer in answers])
    return _part(policy_inputs, rows, predicted, classifier, acceptance)


def _costs(policy_inputs: PolicyInputs, rows: Indices) -> Costs:
    from semroute.evaluate.offpolicy import on_rows

    return on_rows(policy_inputs.costs, policy_inputs.costs.table.take(rows))


def _part(
    policy_inputs: PolicyInputs,
    rows: Indices,
    predicted: Matrix,
    classifier: QueryClassifier,
    acceptance: Mapping[int, NDArray[np.float64]],
) -> PolicyData:
    table = policy_inputs.costs.table.take(rows)
    # Without tasks: the router does not know a query's task.
    expected = classifier.costs.expected(table_tokens(table))
    group = policy_inputs.group[rows]
    scores = policy_inputs.scores[rows]
    # Pairs of all rows, so that all parts have the same.
    agreement = agreement_of_pairs(table, pairs_to_compare(policy_inputs.costs.table))
    return PolicyData(table.quality, table.cost, predicted, expected, scores, acceptance, group, agreement)


_Acceptance: TypeAlias = dict[int, NDArray[np.float64]]


def _checks(
    policy_inputs: PolicyInputs, tuning: Indices, seed: int, progress: Progress
) -> tuple[dict[int, AnswerClassifier], _Acceptance]:
    """Train classifiers of the answers of all models but the most expensive.

    Models without recorded or enough judged answers are skipped. Returns the classifiers and their out-of-fold
    probabilities.
    """
    table = policy_inputs.costs.table
    if table.responses is None:
        return {}, {}
    most_expensive = int(table.cost.mean(axis=0, dtype=np.float64).argmax())
    checks: dict[int, AnswerClassifier] = {}
    acceptance: _Acceptance = {}
    checked = [
        number
        for number in range(len(table.models))
        if number != most_expensive and all(answers[number] is not None for answers in table.responses)
    ]
    for step, number in enumerate(checked):
        progress("checks", step, len(checked))
        try:
            rows = judged_answers(table.take(tuning), [table.models[number]], ACCEPTABLE)
        except InputError:  # too few answers of a kind to train on
            continue
        trained = train(rows, _BLOCKS, seed=seed)
        checks[number], acceptance[number] = trained.classifier, trained.left_out
    progress("checks", len(checked), len(checked))
    return checks, acceptance
