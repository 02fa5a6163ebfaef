"""Compare policies over public outcomes.

These are RouteLLM's pair on MMLU and GSM8K, and nine open models over 14 tasks.

    python scripts/bench_policy.py --data DIR [--out results.md] [--only mmlu] [--folds 5] [--vectors DIR]

DIR holds ``routellm/mmlu.jsonl`` and ``routellm/gsm8k.jsonl`` (github.com/lm-sys/RouteLLM, Apache-2.0),
``llmrouter/nine_models.jsonl`` (github.com/ulab-uiuc/LLMRouter, MIT) and ``prices.yaml``, in semroute's format for
outcomes. Everything that is fitted is evaluated out-of-fold, and on whole tasks that were left out. The classifier is
trained anew on every fold. Costs rest on tokens that are counted with the built-in encoder's tokenizer, or where a file
holds no responses on the same length for every model. About ten minutes on two cores, most of it training;
``--vectors`` keeps the vectors.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import click
import numpy as np

from semroute.evaluate.baselines import BaselinePredictor, fitted
from semroute.evaluate.comparison import run_study
from semroute.evaluate.comparison_results import ComparisonPlan, Policies, Study
from semroute.evaluate.metrics import Interval
from semroute.learn.estimators import TrainingRows
from semroute.learn.query_quality import Setting, train_queries
from semroute.outcomes.costs import read_prices, with_costs
from semroute.outcomes.files import read_outcomes
from semroute.predictors.query_quality import CallCosts
from semroute.types import Matrix, QualityPredictor
from semroute.workflows.workspace import Workspace


def _classifier(queries: Sequence[str], vectors: Matrix, quality: Matrix) -> QualityPredictor:
    """Return a classifier as ``semroute train`` makes it.

    Models have numbers for names.
    """
    models = tuple(map(str, range(quality.shape[1])))
    nothing = CallCosts(models, (), np.zeros((2, len(models))), np.ones(len(models)), *np.zeros((2, 1, len(models))))
    setting = Setting("", nothing, np.zeros((0, vectors.shape[1]), np.float32))
    rows = TrainingRows.of(queries, vectors, quality.astype(np.float64), models, setting.categories)
    return train_queries(rows, setting).classifier


CONTENDERS: dict[str, BaselinePredictor] = {"classifier": fitted(_classifier)}
"""Trained policies by name, each fitted on the training rows of every fold."""

FILES = {"mmlu": "routellm/mmlu.jsonl", "gsm8k": "routellm/gsm8k.jsonl", "nine": "llmrouter/nine_models.jsonl"}
ALONE = {"nine": 14}
"""Files whose tasks are left out one by one; those of the other files form as many groups as there are folds."""

PUBLISHED = {"mmlu": 0.603, "gsm8k": 0.622}
"""Best APGR of RouteLLM's own routers (https://arxiv.org/abs/2406.18665), which were trained on other queries."""


@click.command()
@click.option("--data", type=click.Path(exists=True, file_okay=False, path_type=Path), required=True)
@click.option("--only", type=click.Choice(list(FILES)), multiple=True, help="These files only.")
@click.option("--folds", type=click.IntRange(2), default=5, show_default=True)
@click.option("--resamples", type=click.IntRange(100), default=1000, show_default=True)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option("--vectors", type=click.Path(file_okay=False, path_type=Path), help="Folder that keeps vectors.")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Write the tables here too.")
def main(
    data: Path, only: tuple[str, ...], folds: int, resamples: int, seed: int, vectors: Path | None, out: Path | None
) -> None:
    """Compare the policies on every file, and print Markdown."""
    plan = ComparisonPlan(folds=folds, resamples=resamples, seed=seed)
    lines: list[str] = []
    with TemporaryDirectory() as scratch:
        store = Path(scratch) if vectors is None else vectors
        store.mkdir(parents=True, exist_ok=True)
        for name in only or FILES:
            for line in _file(name, data, store, plan):
                click.echo(line)
                lines.append(line)
    if out is not None:
        out.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _file(name: str, data: Path, store: Path, plan: ComparisonPlan) -> Iterator[str]:
    encoding = Workspace()
    table = read_outcomes(data / FILES[name], count=encoding.count)
    costs = with_costs(table, read_prices(data / "prices.yaml"), encoding.count)
    vectors = encoding.vectors(table.queries, store / f"{name}.npz", lambda *_: None)
    policies = Policies(contenders=CONTENDERS)
    yield f"## {name}: {len(table):,} queries, {len(table.models)} models, {plan.folds} folds\n"
    cells = table.cost.size
    yield (
        f"Costs: {costs.counted / cells:.0%} of the calls from counted tokens, {costs.averaged / cells:.0%} with mean "
        f"output, {costs.assumed / cells:.0%} with an assumed length. {plan.resamples:,} paired resamples, 95%.\n"
    )
    yield from _tables(run_study(costs, policies, plan, vectors=vectors), PUBLISHED.get(name))
    if len(set(table.tasks)) > 1:
        unseen = replace(plan, leave_tasks_out=True, folds=ALONE.get(name, plan.folds))
        yield f"### {name}: tasks that were never seen, left out in {unseen.folds} groups\n"
        yield from _tables(run_study(costs, policies, unseen, vectors=vectors), None)


def _tables(study: Study, published: float | None) -> Iterator[str]:
    single = f"Best single model: quality {_text(study.best_quality)}, USD {1000 * study.best_cost.value:.4f} for 1,000"
    yield f"{single}; AIQ of the zero router {_text(study.zero_aiq)}, of random mixing {_text(study.mixing_aiq)}.\n"
    yield "| policy | AIQ | less zero router | by quality alone | best point | cost saved | arena |"
    yield "| --- | --- | --- | --- | --- | --- | --- |"
    for policy in study.policies:
        of = policy.figures
        figures = (of.aiq, of.aiq_gain, of.full_gain, of.perf_gain, of.cost_save, of.arena)
        yield f"| {policy.name} | {' | '.join(map(_text, figures))} |"
    yield ""
    if study.roles.pair is not None:
        yield "| policy | APGR | over length | CPT(20%) | CPT(50%) | CPT(80%) |"
        yield "| --- | --- | --- | --- | --- | --- |"
        for policy in study.policies:
            if policy.pair is not None:
                gain = "" if policy.pair.apgr_gain is None else _text(policy.pair.apgr_gain)
                yield f"| {policy.name} | {_text(policy.pair.apgr)} | {gain} | {_cpt(policy.pair.cpt.values())} |"
        if published is not None:
            yield f"| RouteLLM's best, published, trained out of domain | {published:.3f} | | | | |"
        yield ""


def _cpt(figures: Iterable[Interval]) -> str:
    return " | ".join(map(_text, figures))


def _text(figure: Interval) -> str:
    if figure.value != figure.value:
        return "-"
    return f"{figure.value:.3f} ({figure.low:.3f} to {figure.high:.3f})"


if __name__ == "__main__":
    main()
