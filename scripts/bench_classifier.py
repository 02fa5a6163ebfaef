"""Measure the classifier of queries: training, decisions, features.

    python scripts/bench_classifier.py --data DIR [--vectors DIR] [--out classifier.md]

DIR is that of ``scripts/bench_policy.py``, which documents its sources. Training: ``semroute train`` on 5,000 rows of
MMLU, from text to the folder, in a process of its own. Decision: ``Router.route`` of short queries, one after the
other, with that classifier as the only strategy; and all steps except the encoder. Worth: the forest alone on MMLU, 5
folds and whole subjects left out in 5 groups, without each block, with the paired difference of APGR to all of them. A
new model: one of nine is known for 300 queries only; its prediction error is compared with that where all are known.
About ten minutes on two cores; ``--vectors`` keeps the vectors.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory

import click
import numpy as np
from harness.outcomes import FILES, pair_apgr, read_inputs
from harness.processes import semroute
from harness.report import DATA, OUT, VECTORS, head, publish, row, with_interval

from semroute.config import Config
from semroute.evaluate.duplicates import duplicates
from semroute.evaluate.metrics import Resampling, interval
from semroute.evaluate.replay import Fold, k_folds, task_folds
from semroute.learn.estimators import ForestEstimator, out_of_fold
from semroute.learn.stacking import squared_error
from semroute.predictors.query_features import BLOCKS, FEATURES, QueryInputs
from semroute.router import Router

ROWS = 5_000
KNOWN = 300
QUERIES = (
    "what is the capital of france", "write a haiku about rain", "how do I reverse a list in python",
    "is aspirin safe with ibuprofen", "summarise the plot of hamlet", "what is 17 times 23",
)  # fmt: skip


@click.command()
@DATA
@click.option("--rounds", type=click.IntRange(1), default=100, show_default=True, help="Of the queries.")
@VECTORS
@OUT
def main(data: Path, rounds: int, vectors: Path | None, out: Path | None) -> None:
    """Measure, and print Markdown."""
    publish(chain(_speed(data, rounds), _worth(data, vectors), _new_model(data, vectors)), out)


def _speed(data: Path, rounds: int) -> Iterator[str]:
    with TemporaryDirectory() as scratch:
        rows, folder = Path(scratch) / "rows.jsonl", Path(scratch) / "classifier"
        with (data / FILES["mmlu"]).open(encoding="utf-8") as file:
            rows.write_text("".join(line for line, _ in zip(file, range(ROWS), strict=False)), encoding="utf-8")
        trained_s = semroute("train", rows, "--prices", data / "prices.yaml", "--out", folder, "--json").wall
        config = Config.model_validate({"strategies": ["classifier"], "classifier": str(folder)})
        router = Router.load(config=config)
        whole, own = _decisions(router, rounds)
    yield from head("figure", "value", "goal")
    yield f"| training on {ROWS:,} rows, from text | {trained_s:.0f} s | 120 s |"
    yield f"| decision p50, p99 | {np.quantile(whole, 0.5):.2f}, {np.quantile(whole, 0.99):.2f} ms | 3 ms |"
    yield f"| of it the classifier p50, p99 | {np.quantile(own, 0.5):.2f}, {np.quantile(own, 0.99):.2f} ms | |"
    yield ""


def _decisions(router: Router, rounds: int) -> tuple[list[float], list[float]]:
    """Return milliseconds of whole decisions, and of the classifier's step."""
    whole, own = [], []
    for number in range(-5, rounds):
        for query in QUERIES:
            # New queries, since the router caches vectors.
            decision = router.route(f"{query} {number}")
            if number >= 0:
                whole.append(decision.elapsed_ms)
                own.append(decision.steps_ms["classifier"])
    return whole, own


def _worth(data: Path, vectors: Path | None) -> Iterator[str]:
    table, inputs = read_inputs(data, "mmlu", vectors)
    quality = table.quality.astype(np.float64)
    group = duplicates(table.queries, inputs.vectors).group
    splits = (k_folds(group, 5, seed=0), task_folds(table.tasks, group, 5, seed=0))
    resampling = Resampling.draw(len(table), seed=0, group=group)
    whole = [_apgrs(inputs, quality, folds, resampling) for folds in splits]
    yield from head("features", "APGR, 5 folds", "APGR, subjects never seen")
    yield row("all", *(with_interval(interval(figures)) for figures in whole))
    for block in (*BLOCKS, "vectors"):
        less = [_apgrs(_without(inputs, block), quality, folds, resampling) for folds in splits]
        differences = [interval(figures - of_all) for figures, of_all in zip(less, whole, strict=True)]
        yield row(f"without {block}", *(with_interval(one, "+") for one in differences))
    alone = _without(inputs, *BLOCKS)
    yield row("vectors alone", *(with_interval(interval(_apgrs(alone, quality, f, resampling))) for f in splits))
    yield ""


def _without(inputs: QueryInputs, *blocks: str) -> QueryInputs:
    """Return the inputs with uninformative features.

    They keep their columns, since a share of columns is drawn for each split.
    """
    features, vectors = inputs.features.copy(), inputs.vectors
    for column, name in enumerate(FEATURES):
        if name.split(":")[0] in blocks:
            features[:, column] = 0.0
    return QueryInputs(
        np.zeros_like(vectors) + vectors[:1] if "vectors" in blocks else vectors, features, inputs.queries
    )


def _apgrs(
    inputs: QueryInputs,
    quality: np.ndarray[tuple[int, int], np.dtype[np.float64]],
    folds: Sequence[Fold],
    by: Resampling,
) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    predicted = np.zeros(quality.shape)
    for fold in folds:
        predicted[fold.test] = out_of_fold(ForestEstimator(), inputs, quality, fold.train, fold.test)
    return pair_apgr(predicted, quality, by)


def _new_model(data: Path, vectors: Path | None) -> Iterator[str]:
    table, inputs = read_inputs(data, "nine", vectors)
    quality = table.quality.astype(np.float64)
    folds = k_folds(duplicates(table.queries, inputs.vectors).group, 5, seed=0)
    random = np.random.default_rng(0)
    yield f"| model that joins | error, known everywhere | known for {KNOWN} queries | its mean alone |"
    yield "| --- | --- | --- | --- |"
    for column, model in enumerate(table.models):
        errors = []
        for fold in folds:
            few = quality.copy()
            few[random.permutation(fold.train)[KNOWN:], column] = np.nan
            truth = quality[fold.test, column : column + 1]
            said = [
                out_of_fold(ForestEstimator(), inputs, known[:, [column]], rows, fold.test)
                for known in (quality, few)
                for rows in [fold.train[np.isfinite(known[fold.train, column])]]
            ]
            mean = np.full(truth.shape, np.nanmean(few[fold.train, column]))
            errors.append([squared_error(one, truth) for one in (*said, mean)])
        yield f"| {model} | {' | '.join(f'{value:.4f}' for value in np.mean(errors, axis=0))} |"
    yield ""


if __name__ == "__main__":
    main()
