"""Compare policies over public outcomes.

These are RouteLLM's pair on MMLU and GSM8K, and nine open models over 14 tasks.

    python scripts/bench_policy.py --data DIR [--out results.md] [--only mmlu] [--folds 5] [--new-kinds] [--vectors DIR]

DIR holds ``routellm/mmlu.jsonl`` and ``routellm/gsm8k.jsonl`` (github.com/lm-sys/RouteLLM, Apache-2.0),
``llmrouter/nine_models.jsonl`` (github.com/ulab-uiuc/LLMRouter, MIT) and ``prices.yaml``, in semroute's format for
outcomes. Everything that is fitted is evaluated out-of-fold, and on whole tasks that were left out. The classifier is
trained anew on every fold. Costs rest on tokens that are counted with the built-in encoder's tokenizer, or where a file
holds no responses on the same length for every model. Last, for a pair of models of MMLU, MMLU-Pro and ZeroEval
(``mmlu_pro/outcomes.jsonl``, github.com/TIGER-AI-Lab/MMLU-Pro, and ``zeroeval/outcomes.jsonl``,
github.com/WildEval/ZeroEval, both Apache-2.0): what predictions for whole tasks that were left out are worth against
prompt length (``--new-kinds`` for that alone). About ten minutes on two cores, most of it training; ``--vectors`` keeps
the vectors.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import click
import numpy as np
from harness.new_kinds import PAIRS, new_kinds
from harness.outcomes import FILES, embedded, plain_setting, read_costs
from harness.report import DATA, OUT, VECTORS, head, publish, row, seed_and_resamples, with_interval

from semroute.evaluate.baselines import BaselinePredictor, fitted
from semroute.evaluate.comparison import run_study
from semroute.evaluate.comparison_results import ComparisonPlan, Policies, Study
from semroute.learn.estimators import TrainingRows
from semroute.learn.query_quality import train_queries
from semroute.outcomes.costs import Costs
from semroute.types import Matrix, QualityPredictor


def _classifier(queries: Sequence[str], vectors: Matrix, quality: Matrix) -> QualityPredictor:
    """Return a classifier as ``semroute train`` makes it.

    Models have numbers for names.
    """
    models = tuple(map(str, range(quality.shape[1])))
    setting = plain_setting(models, vectors.shape[1])
    rows = TrainingRows.of(queries, vectors, quality.astype(np.float64), models, setting.categories)
    return train_queries(rows, setting).classifier


CONTENDERS: dict[str, BaselinePredictor] = {"classifier": fitted(_classifier)}
"""Trained policies by name, each fitted on the training rows of every fold."""

ALONE = {"nine": 14}
"""Files whose tasks are left out one by one; those of the other files form as many groups as there are folds."""

PUBLISHED = {"mmlu": 0.603, "gsm8k": 0.622}
"""Best APGR of RouteLLM's own routers (https://arxiv.org/abs/2406.18665), which were trained on other queries."""


@click.command()
@DATA
@click.option("--only", type=click.Choice(list(FILES)), multiple=True, help="These files only.")
@click.option("--folds", type=click.IntRange(2), default=5, show_default=True)
@click.option("--new-kinds", "alone", is_flag=True, help="Only the predictions for tasks that were left out.")
@seed_and_resamples
@VECTORS
@OUT
def main(
    data: Path,
    only: tuple[str, ...],
    folds: int,
    alone: bool,
    resamples: int,
    seed: int,
    vectors: Path | None,
    out: Path | None,
) -> None:
    """Compare the policies on every file, and print Markdown."""
    plan = ComparisonPlan(folds=folds, resamples=resamples, seed=seed)
    with TemporaryDirectory() as scratch:
        store = Path(scratch) if vectors is None else vectors
        store.mkdir(parents=True, exist_ok=True)
        publish((line for name in only or FILES for line in _file(name, data, store, plan, alone)), out)


def _file(name: str, data: Path, store: Path, plan: ComparisonPlan, alone: bool) -> Iterator[str]:
    costs, encoding = read_costs(data, name)
    table = costs.table
    vectors = embedded(encoding, table, name, store)
    if not alone:
        yield from _studies(name, costs, vectors, plan)
    if name in PAIRS:
        yield from new_kinds(name, table, vectors, parts=plan.folds, resamples=plan.resamples, seed=plan.seed)


def _studies(name: str, costs: Costs, vectors: Matrix, plan: ComparisonPlan) -> Iterator[str]:
    table, policies = costs.table, Policies(contenders=CONTENDERS)
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
    yield f"{study.controls.halves.sentence()}\n"
    best = f"quality {with_interval(study.best_quality)}, USD {1000 * study.best_cost.value:.4f} for 1,000"
    zero, mixing = with_interval(study.zero_aiq), with_interval(study.mixing_aiq)
    yield f"Best single model: {best}; AIQ of the zero router {zero}, of random mixing {mixing}.\n"
    yield from head("policy", "AIQ", "less zero router", "by quality alone", "best point", "cost saved", "arena")
    for policy in study.policies:
        of = policy.figures
        figures = (of.aiq, of.aiq_gain, of.full_gain, of.perf_gain, of.cost_save, of.arena)
        yield row(policy.name, *map(with_interval, figures))
    yield ""
    yield from head(f"{study.controls.policy} and its controls", "quality", "USD for 1,000", "policy less control")
    for control in study.controls.rows:
        margin = "" if control.margin is None else with_interval(control.margin, "+")
        yield row(control.name, with_interval(control.quality), f"{1000 * control.cost.value:.4f}", margin)
    yield ""
    if study.roles.pair is not None:
        yield from head("policy", "APGR", "over length", "CPT(20%)", "CPT(50%)", "CPT(80%)")
        for policy in study.policies:
            if policy.pair is not None:
                gain = "" if policy.pair.apgr_gain is None else with_interval(policy.pair.apgr_gain)
                cpt = map(with_interval, policy.pair.cpt.values())
                yield row(policy.name, with_interval(policy.pair.apgr), gain, *cpt)
        if published is not None:
            yield f"| RouteLLM's best, published, trained out of domain | {published:.3f} | | | | |"
        yield ""


if __name__ == "__main__":
    main()
