"""Measure how often a tuned policy keeps its floor, and its saving.

The queries are unseen; the saving is a share of the possible one.

    python scripts/bench_floor.py --data DIR [--file mmlu] [--rows 1000] [--splits 200] [--plot FILE] [--out FILE]

DIR is that of ``scripts/bench_policy.py``, which documents its sources. For every split ``--rows`` of the queries are
drawn at random (half without it). On them ``semroute tune-policy --min-quality 0.95`` does what it does for a user: it
trains the classifiers, orders policies, and tests the floor by predictions that were not fitted on the row
(``--held-out`` keeps a share for the test instead). The floor is promised for as many queries as are left
(``--ahead``): a set of few rows cannot show the long run, since the rows left fall short where those drawn are too
good. The policy is then replayed on all other queries, which nothing of this has seen: the floor is kept where its
mean quality is at least 0.95 times that of the strongest model there. At 95% confidence 190 of 200 are promised; the
splits share their rows, so that the count is not a binomial one. "Possible" is the largest saving of any policy that
was tried and keeps the floor on the unseen queries, known only in hindsight. Where the file has answers, cascades with
a trained check are among the policies (``--no-answers`` leaves them out). The time goes into training (``--heads``
trains fewer kinds). The plot has a point for each split.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import click
import numpy as np
from floor_bench.plot import plot
from harness.outcomes import FILES, embedded, read_costs
from harness.report import DATA, OUT, VECTORS, head, publish

from semroute.evaluate.duplicates import duplicates
from semroute.evaluate.risk import Promise
from semroute.index import BothScores
from semroute.learn.policy.prepare import PolicyInputs, prepare, shuffled, split, unseen_data
from semroute.learn.policy.search import Goal, Point, families, strongest_model, tune
from semroute.learn.query_quality import estimators
from semroute.outcomes.costs import read_prices
from semroute.predictors.query_features import QueryInputs


@dataclass(frozen=True, slots=True)
class Round:
    """Result of one split.

    Attributes:
        ratio: quality on the unseen half, as a fraction of the strongest model's there.
        saved: share of the strongest model's cost there.
        possible: largest share of a policy that was tried and keeps the floor there.
        family: family of the policy.
    """

    ratio: float
    saved: float
    possible: float
    family: str


@dataclass(frozen=True, slots=True)
class Plan:
    """Settings of a tuning: rows, held-out share, floor, confidence, heads."""

    rows: int
    held_out: float | None
    floor: float
    confidence: float
    heads: tuple[str, ...]


@click.command()
@DATA
@click.option("--file", "name", type=click.Choice(list(FILES)), default="mmlu", show_default=True)
@click.option("--models", help="Names, separated by commas; all without it.")
@click.option("--rows", type=click.IntRange(60), help="Queries to tune on; half of them without it.")
@click.option("--held-out", type=click.FloatRange(0.1, 0.9), help="Share of them kept for the test alone.")
@click.option("--answers/--no-answers", default=True, show_default=True, help="Try cascades with a trained check.")
@click.option("--splits", type=click.IntRange(1), default=200, show_default=True)
@click.option("--min-quality", type=click.FloatRange(0, min_open=True), default=0.95, show_default=True)
@click.option("--confidence", type=click.FloatRange(0.5, 1, max_open=True), default=0.95, show_default=True)
@click.option("--heads", default=",".join(estimators()), show_default=True, help="Kinds that are trained.")
@VECTORS
@click.option("--plot", "picture", type=click.Path(dir_okay=False, path_type=Path), help="Draw the splits.")
@OUT
def main(
    data: Path, name: str, models: str | None, rows: int | None, held_out: float | None, answers: bool, splits: int,
    min_quality: float, confidence: float, heads: str, vectors: Path | None, picture: Path | None, out: Path | None,
) -> None:  # fmt: skip
    """Tune on some queries, look at the others, and print Markdown."""
    material = _material(data, name, vectors, None if models is None else models.split(","), answers=answers)
    plan = Plan(rows or len(material.costs.table) // 2, held_out, min_quality, confidence, tuple(heads.split(",")))
    rounds = []
    for seed in range(splits):
        rounds.append(_round(material, plan, seed))
        one = rounds[-1]
        click.echo(f"{seed} {one.ratio:.4f} {one.saved:.3f} of {one.possible:.3f} {one.family}", err=True)
    publish(_lines(rounds, name, len(material.costs.table), plan), out)
    if picture is not None:
        plot([one.ratio for one in rounds], [one.saved for one in rounds], min_quality, picture)


def _material(
    data: Path, name: str, folder: Path | None, models: Sequence[str] | None, *, answers: bool
) -> PolicyInputs:
    costs, encoding = read_costs(data, name, responses=True, models=models)
    if not answers:
        costs = replace(costs, table=replace(costs.table, responses=None))
    queries, prices = costs.table.queries, read_prices(data / "prices.yaml")
    vectors = embedded(encoding, costs.table, name, folder)
    nothing = np.zeros((0, vectors.shape[1]), np.float32)
    inputs = QueryInputs.of(queries, vectors, nothing)
    group = duplicates(queries, vectors).group
    no_scores = BothScores(None, np.zeros((len(queries), 0), np.float32))
    return PolicyInputs(costs, group, inputs, no_scores, prices, "", nothing)


def _round(material: PolicyInputs, plan: Plan, seed: int) -> Round:
    table = material.costs.table
    order = np.random.default_rng(seed).permutation(len(table))
    own, unseen = np.sort(order[: plan.rows]), order[plan.rows :]
    _, group = np.unique(material.group[own], return_inverse=True)
    tried = {name: made for name, made in estimators(seed).items() if name in plan.heads}
    if plan.held_out is None:
        prepared = prepare(material, own[shuffled(group, seed)], heads=tried, seed=seed)
    else:
        tuning, held = split(group, plan.held_out, seed)
        prepared = prepare(material, own[tuning], own[held], heads=tried, seed=seed)
    known = families(table.models, prepared, (), np.zeros(0), np.inf, "policy")
    strongest = strongest_model(prepared.tuning)
    found = tune(known, prepared, Goal(min_quality=plan.floor), strongest, Promise(plan.confidence, len(unseen)))
    assert found.chosen is not None  # the strongest model alone keeps a floor below 1
    part = unseen_data(material, unseen, prepared.classifier, prepared.checks)
    single = part.quality[:, strongest].mean(dtype=np.float64), part.cost[:, strongest].mean(dtype=np.float64)

    def figures(point: Point) -> tuple[float, float]:
        quality, cost = point.play(part).point
        return float(quality / single[0]), float(1.0 - cost / single[1])

    kept = (saved for ratio, saved in map(figures, found.points) if ratio >= plan.floor)
    return Round(*figures(found.chosen), max(kept, default=0.0), found.chosen.family.name)


def _lines(rounds: list[Round], name: str, queries: int, plan: Plan) -> Iterator[str]:
    ratios, saved, possible = (
        np.array([getattr(one, field) for one in rounds]) for field in ("ratio", "saved", "possible")
    )
    kept = int((ratios >= plan.floor).sum())
    low, high = np.quantile(saved, [0.025, 0.975])
    yield (
        f"**Saves {saved.mean():.0%} at {ratios.mean():.1%} of the quality; {kept} of {len(rounds)} splits kept the "
        f"floor of {plan.floor:g}.**\n"
    )
    yield (
        f"{name}: {queries:,} queries, {len(rounds)} random draws of {plan.rows:,} to tune on, {plan.confidence:.0%} "
        "confidence.\n"
    )
    yield from head("figure", "value")
    yield f"| floor kept on the unseen queries | {kept} of {len(rounds)} ({kept / len(rounds):.1%}) |"
    yield f"| quality there, of the strongest model's: mean, lowest | {ratios.mean():.1%}, {ratios.min():.1%} |"
    spread = f"{saved.mean():.1%}, {low:.1%} to {high:.1%}"
    yield f"| cost saved against always the strongest: mean, 95% of splits | {spread} |"
    share = saved.mean() / possible.mean() if possible.mean() > 0 else float("nan")
    yield f"| possible in hindsight with the policies tried; saved of it | {possible.mean():.1%}; {share:.0%} |"
    yield f"| splits in which nothing was saved | {int((saved <= 0).sum())} |"
    chosen = Counter(one.family for one in rounds).most_common()
    yield f"| policies chosen | {', '.join(f'{family} {count}' for family, count in chosen)} |"


if __name__ == "__main__":
    main()
