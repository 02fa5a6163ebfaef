"""Training of classifiers from labelled outcomes.

Classifiers of queries predict the quality of each model's answer; classifiers of answers serve cascade checks.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from semroute.errors import InputError
from semroute.evaluate.duplicates import duplicates
from semroute.evaluate.replay import call_costs, choose, k_folds, replay, table_tokens
from semroute.learn.answer_quality import (
    JudgedAnswers,
    Trained,
    Validation,
    judged_answers,
    threshold_for,
    with_threshold,
)
from semroute.learn.answer_quality import train as train_answers
from semroute.learn.answer_quality import training_report as answer_report
from semroute.learn.estimators import TrainingRows, usable_rows
from semroute.learn.finetuning import FineTuning, TunedPart, tune_part
from semroute.learn.query_quality import (
    Setting,
    TrainedQueries,
    Worth,
    estimators,
    matching_value,
    train_queries,
    training_report,
)
from semroute.outcomes.costs import Costs, with_costs
from semroute.outcomes.files import read_outcomes
from semroute.predictors.answer_quality import FOLDER, write_classifier
from semroute.predictors.query_quality import check_classifier_folder, write_query_classifier
from semroute.types.protocols import Doubles, Indices, Progress, silent
from semroute.workflows.workspace import Warn, Workspace, unheard

MOST = 50_000
"""Default maximum number of queries to train on."""

BLOCKS = ("shape", "words", "tokens")
"""Feature blocks of a classifier of answers."""

TUNED = "tuned"
"""Name of the head that is a fine-tuned encoder."""


# Classifiers of queries.


@dataclass(frozen=True, slots=True)
class TrainSource:
    """Outcomes to train a classifier of queries on.

    Attributes:
        outcomes: files of outcomes.
        prices: file of prices; None takes those of the configuration.
        models: names; None takes all.
        most: maximum number of queries to train on; of more, a sample is drawn.
        seed: of the sample.
        store: file of cached vectors.
    """

    outcomes: Sequence[Path]
    prices: Path | None = None
    models: tuple[str, ...] | None = None
    most: int = MOST
    seed: int = 0
    store: Path | None = None


@dataclass(frozen=True, slots=True)
class TrainPlan:
    """Settings of a training run.

    Attributes:
        heads: names of heads to try; empty tries all.
        folds: parts to cross-validate with.
        seed: seed of everything drawn.
        backbone: encoder to fine-tune, a model's name or folder; None tunes none.
        epochs: passes of fine-tuning.
    """

    heads: tuple[str, ...] = ()
    folds: int = 3
    seed: int = 0
    backbone: str | None = None
    epochs: int = 2


PARTS = 5
"""Folds by which quality and cost of a value are measured."""
FEWEST = 40
"""Fewest different queries for these folds."""


@dataclass(frozen=True, slots=True)
class TrainInputs:
    """Training data, and the number of rows left out of it.

    Attributes:
        rows: queries, vectors and quality.
        setting: encoder, categories and expected costs.
        costs: costs of the rows.
        left_out: number of rows in the files that are not used.
    """

    rows: TrainingRows
    setting: Setting
    costs: Costs
    left_out: int

    def worth(self, trained: TrainedQueries) -> Worth | None:
        """Return the value at which the classifier matches the best single model.

        The value is that of all rows by out-of-fold predictions; its quality and cost are those of values that were
        chosen on other rows.
        """
        table, judged = self.costs.table, trained.judged
        # Without tasks: at routing time a query's task is unknown.
        expected = self.setting.costs.expected(table_tokens(table))[judged]
        quality, paid = self.rows.quality[judged], table.cost[judged].astype("float64")
        found = matching_value(trained.left_out, quality, paid, expected)
        if found is None:
            return None
        group = duplicates([table.queries[row] for row in np.asarray(judged).tolist()]).group
        return _cross_fitted(found, trained.left_out, quality, paid, expected, group)


def _cross_fitted(
    worth: Worth, predicted: Doubles, quality: Doubles, paid: Doubles, expected: Doubles, group: Indices
) -> Worth:
    """Return a value with the results of values chosen on other folds.

    So are the best single models of the comparison.

    With fewer than :data:`FEWEST` different queries it stays as it is.
    """
    rows = np.flatnonzero(np.isfinite(quality).all(axis=1))
    _, number = np.unique(group[rows], return_inverse=True)
    if number.max() + 1 < FEWEST:
        return worth
    sums = np.zeros(4)
    for fold in k_folds(number, PARTS, seed=0):
        own, other = rows[fold.train], rows[fold.test]
        found = matching_value(predicted[own], quality[own], paid[own], expected[own])
        assert found is not None  # the rows are complete
        choice = choose(predicted[other].astype(np.float32), expected[other].astype(np.float32), found.value)
        single = np.lexsort((paid[own].mean(axis=0), -quality[own].mean(axis=0)))[0]
        sums += [
            replay(quality[other], choice).sum(), replay(paid[other], choice).sum(),
            quality[other, single].sum(), paid[other, single].sum(),
        ]  # fmt: skip
    answered, spent, of_single, single_usd = (sums / len(rows)).tolist()
    return Worth(worth.value, answered, spent, of_single, single_usd, len(rows))


@dataclass(frozen=True, slots=True)
class QueryTraining:
    """Classifier of queries that was trained and written.

    Attributes:
        folder: where it was written.
        trained: the classifier with its out-of-fold predictions.
        inputs: its training data.
        worth: value of quality; None where no single model can be matched.
        costs: basis of estimated costs, a sentence; None where none was estimated.
        report: figures, as they are stored with the classifier.
    """

    folder: Path
    trained: TrainedQueries
    inputs: TrainInputs
    worth: Worth | None
    costs: str | None
    report: dict[str, object]

    def to_dict(self) -> dict[str, object]:
        """Return the result as JSON-ready values."""
        return {"classifier": str(self.folder), "left_out_queries": self.inputs.left_out, **self.report}


def read_train_inputs(source: TrainSource, workspace: Workspace, progress: Progress = silent) -> TrainInputs:
    """Read the files, and embed the queries.

    Raises:
        InputError: a file cannot be used, a model has neither price nor cost, or there is too little to train on.
    """
    prices = workspace.prices(source.prices)
    progress("reading", 0, 1)
    table = read_outcomes(source.outcomes, count=workspace.count)
    if source.models is not None:
        table = table.with_models(source.models)
    usable = usable_rows(table, max_rows=source.most, seed=source.seed)
    costs = with_costs(table.take(usable.rows), prices, workspace.count)
    progress("reading", 1, 1)
    table = costs.table
    vectors = workspace.vectors(table.queries, source.store, progress)
    rows = TrainingRows.of(
        table.queries, vectors, table.quality.astype("float64"), table.models, workspace.categories, table.tasks,
        table.signals,
    )  # fmt: skip
    setting = Setting(workspace.encoder.fingerprint, call_costs(costs), workspace.categories)
    return TrainInputs(rows, setting, costs, usable.left_out)


def train_query_classifier(
    source: TrainSource,
    out: Path,
    workspace: Workspace,
    plan: TrainPlan | None = None,
    *,
    progress: Progress = silent,
    warn: Warn = unheard,
) -> QueryTraining:
    """Train a classifier of queries, and write it.

    Args:
        source: outcomes to train on.
        out: folder to write the classifier to.
        workspace: index, configuration and encoder.
        plan: settings; None takes the defaults.
        progress: called with a step's name, the number done and the total.
        warn: receives findings in the files.

    Raises:
        InputError: a file or the folder cannot be used, or there is too little to train on.
    """
    plan = plan or TrainPlan()
    if TUNED in plan.heads and plan.backbone is None:
        raise InputError(f'the head "{TUNED}" needs a backbone to fine-tune')
    check_classifier_folder(out)
    # Files of a fine-tuned encoder are needed until the classifier is written.
    with ExitStack() as until_written:
        inputs = read_train_inputs(source, workspace, progress)
        tuned = _fine_tuned(plan, inputs, until_written, progress)
        tried = {name: head for name, head in estimators(plan.seed).items() if not plan.heads or name in plan.heads}
        trained = train_queries(
            inputs.rows, inputs.setting, heads=tried, tuned=tuned, folds=plan.folds, seed=plan.seed,
            progress=lambda done, total: progress("training", done, total),
        )  # fmt: skip
        worth = inputs.worth(trained)
        for finding in inputs.costs.table.findings:
            warn(str(finding))
        costs = inputs.costs.words(workspace.tokenizer)
        report = _write(out, trained, inputs, worth, plan, costs)
    return QueryTraining(out, trained, inputs, worth, costs, report)


def _fine_tuned(plan: TrainPlan, inputs: TrainInputs, until_written: ExitStack, progress: Progress) -> TunedPart | None:
    """Return the fine-tuned encoder, if requested.

    Its files are removed when ``until_written`` ends.
    """
    if plan.backbone is None:
        return None
    folder = Path(until_written.enter_context(TemporaryDirectory()))
    tuning = FineTuning(epochs=plan.epochs, seed=plan.seed)
    return tune_part(plan.backbone, inputs.rows, folder, tuning, lambda done, total: progress("tuning", done, total))


def _write(
    out: Path, trained: TrainedQueries, inputs: TrainInputs, worth: Worth | None, plan: TrainPlan, costs: str | None
) -> dict[str, object]:
    """Write the classifier and its report; return the report."""
    classifier = trained.classifier if worth is None else replace(trained.classifier, value=worth.value)
    report = {
        **training_report(trained, inputs.rows, worth, backbone=plan.backbone, seed=plan.seed),
        "costs": costs,
    }
    write_query_classifier(classifier, out, report=report)
    return report


# Classifiers of answers.


@dataclass(frozen=True, slots=True)
class AnswerTraining:
    """Classifier of answers that was trained and written.

    Attributes:
        folder: where it was written.
        trained: the classifier with its out-of-fold predictions.
        validation: its figures on labelled answers.
        report: figures, as they are stored with the classifier.
    """

    folder: Path
    trained: Trained
    validation: Validation
    report: dict[str, Any]

    def to_dict(self) -> dict[str, object]:
        """Return the result as JSON-ready values."""
        return {"classifier": str(self.folder), "threshold": self.trained.classifier.threshold, **self.report}


def train_answer_classifier(
    outcomes: Sequence[Path],
    out: Path,
    *,
    models: tuple[str, ...] = (),
    accept: float = 0.5,
    precision: float | None = None,
    blocks: tuple[str, ...] = (),
    folds: int = 5,
    seed: int = 0,
    progress: Progress = silent,
    warn: Warn = unheard,
) -> AnswerTraining:
    """Train a classifier of answers for the check ``quality``, and write it.

    Args:
        outcomes: files with responses and their quality.
        out: folder to write the classifier to.
        models: models whose answers are used; empty takes all.
        accept: quality from which an answer is acceptable.
        precision: share of the accepted answers that is to be acceptable; None leaves the threshold at 0.5.
        blocks: feature blocks, of :data:`BLOCKS`; empty takes those that the outcomes allow.
        folds: parts to cross-validate with.
        seed: seed of the split.
        progress: called with a step's name, the number done and the total.
        warn: receives findings in the files.

    Raises:
        InputError: a file or the folder cannot be used, or no threshold reaches ``precision``.
    """
    FOLDER.check(out)
    table = read_outcomes(list(outcomes), keep_responses=True)
    for finding in table.findings:
        warn(str(finding))
    chosen = models or table.models
    rows = judged_answers(table, chosen, accept)
    trained = train_answers(
        rows, _usable_blocks(blocks, rows), folds=folds, seed=seed,
        progress=lambda done, total: progress("train", done, total),
    )  # fmt: skip
    trained = _with_precision(trained, rows, precision)
    validation = Validation.of(trained, rows)
    report = answer_report(trained, rows, validation, models=chosen, accept=accept, seed=seed)
    write_classifier(trained.classifier, out, report=report)
    return AnswerTraining(out, trained, validation, report)


def _usable_blocks(blocks: tuple[str, ...], rows: JudgedAnswers) -> tuple[str, ...]:
    has_logprobs = any(rows.logprobs)
    if "tokens" in blocks and not has_logprobs:
        raise InputError('no outcome tells log probabilities: give responses their "logprobs", or leave out tokens')
    default = BLOCKS if has_logprobs else BLOCKS[:2]
    return tuple(block for block in BLOCKS if block in (blocks or default))


def _with_precision(trained: Trained, rows: JudgedAnswers, precision: float | None) -> Trained:
    """Set the threshold that reaches a precision."""
    if precision is None:
        return trained
    found = threshold_for(trained.left_out, rows.acceptable, precision)
    if found is None:
        raise InputError(
            f"not reachable: no threshold makes {precision:.1%} of the accepted answers acceptable; "
            f"without any check {rows.acceptable.mean():.1%} are"
        )
    return with_threshold(trained, found)
