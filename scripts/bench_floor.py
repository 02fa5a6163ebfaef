"""Measure how often a tuned policy keeps its floor on unseen queries.

    python scripts/bench_floor.py --data DIR [--file mmlu] [--splits 200] [--plot floor.png] [--out floor.md]

DIR is that of ``scripts/bench_policy.py``, which documents its sources. For every split half of the queries is drawn at
random. On them ``semroute tune-policy --min-quality 0.95`` does what it does for a user: it trains the classifier on a
part, orders policies by that part, and tests the floor on the rest, for as many queries to come as the other half has.
The policy is then replayed on the other half, which nothing of this has seen: the floor is kept where its mean quality
is at least 0.95 times that of the strongest model there. At 95% confidence 190 of 200 are promised; the splits share
their rows, so that the count is not a binomial one. GSM8K has answers, so that cascades with a trained check are among
the policies there. About a quarter of an hour on two cores, most of it training (``--heads`` trains fewer kinds). The
plot has a point for each split.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
from floor_bench.plot import plot
from harness.outcomes import FILES, embedded, read_costs
from harness.report import DATA, OUT, VECTORS, head, publish

from semroute.evaluate.replay import duplicates
from semroute.evaluate.risk import Promise
from semroute.index import BothScores
from semroute.learn.policy.prepare import PolicyInputs, prepare, split, unseen_data
from semroute.learn.policy.search import Goal, families, strongest_model, tune
from semroute.learn.query_quality import estimators
from semroute.outcomes.costs import read_prices
from semroute.predictors.query_features import QueryInputs


@dataclass(frozen=True, slots=True)
class Round:
    """Result of one split.

    Attributes:
        ratio: quality on the unseen half, as a fraction of the strongest model's there.
        saved: share of the strongest model's cost there.
        family: family of the policy.
    """

    ratio: float
    saved: float
    family: str


@click.command()
@DATA
@click.option("--file", "name", type=click.Choice(list(FILES)), default="mmlu", show_default=True)
@click.option("--splits", type=click.IntRange(1), default=200, show_default=True)
@click.option("--min-quality", type=click.FloatRange(0, min_open=True), default=0.95, show_default=True)
@click.option("--confidence", type=click.FloatRange(0.5, 1, max_open=True), default=0.95, show_default=True)
@click.option("--heads", default=",".join(estimators()), show_default=True, help="Kinds that are trained.")
@VECTORS
@click.option("--plot", "picture", type=click.Path(dir_okay=False, path_type=Path), help="Draw the splits.")
@OUT
def main(
    data: Path, name: str, splits: int, min_quality: float, confidence: float, heads: str, vectors: Path | None,
    picture: Path | None, out: Path | None,
) -> None:  # fmt: skip
    """Tune on one half, look at the other, and print Markdown."""
    material = _material(data, name, vectors)
    rounds = []
    for seed in range(splits):
        rounds.append(_round(material, min_quality, confidence, heads.split(","), seed))
        click.echo(f"{seed} {rounds[-1].ratio:.4f} {rounds[-1].saved:.3f}", err=True)
    publish(_lines(rounds, name, len(material.costs.table), min_quality, confidence), out)
    if picture is not None:
        plot([one.ratio for one in rounds], [one.saved for one in rounds], min_quality, picture)


def _material(data: Path, name: str, folder: Path | None) -> PolicyInputs:
    costs, encoding = read_costs(data, name, responses=True)
    queries, prices = costs.table.queries, read_prices(data / "prices.yaml")
    vectors = embedded(encoding, costs.table, name, folder)
    nothing = np.zeros((0, vectors.shape[1]), np.float32)
    inputs = QueryInputs.of(queries, vectors, nothing)
    group = duplicates(queries, vectors).group
    no_scores = BothScores(None, np.zeros((len(queries), 0), np.float32))
    return PolicyInputs(costs, group, inputs, no_scores, prices, "", nothing)


def _round(material: PolicyInputs, floor: float, confidence: float, heads: list[str], seed: int) -> Round:
    table = material.costs.table
    order = np.random.default_rng(seed).permutation(len(table))
    own, unseen = np.sort(order[: len(order) // 2]), order[len(order) // 2 :]
    _, group = np.unique(material.group[own], return_inverse=True)
    tuning, held = split(group, 0.5, seed)
    tried = {name: made for name, made in estimators(seed).items() if name in heads}
    prepared = prepare(material, own[tuning], own[held], heads=tried, seed=seed)
    known = families(table.models, prepared, (), np.zeros(0), np.inf, "policy")
    strongest = strongest_model(prepared.tuning)
    found = tune(known, prepared, Goal(min_quality=floor), strongest, Promise(confidence, len(unseen))).chosen
    assert found is not None  # the strongest model alone keeps a floor below 1
    part = unseen_data(material, unseen, prepared.classifier, prepared.checks)
    played = found.play(part)
    single = part.quality[:, strongest].mean(dtype=np.float64), part.cost[:, strongest].mean(dtype=np.float64)
    ratio, saved = float(played.quality.mean() / single[0]), float(1.0 - played.cost.mean() / single[1])
    return Round(ratio, saved, found.family.name)


def _lines(rounds: list[Round], name: str, queries: int, floor: float, confidence: float) -> Iterator[str]:
    ratios, saved = (np.array([getattr(one, field) for one in rounds]) for field in ("ratio", "saved"))
    kept = int((ratios >= floor).sum())
    low, high = np.quantile(saved, [0.025, 0.975])
    yield f"{name}: {queries:,} queries, {len(rounds)} random halves, floor {floor:g} at {confidence:.0%} confidence.\n"
    yield from head("figure", "value")
    yield f"| floor kept on the unseen half | {kept} of {len(rounds)} ({kept / len(rounds):.1%}) |"
    yield f"| quality there, of the strongest model's: mean, lowest | {ratios.mean():.1%}, {ratios.min():.1%} |"
    spread = f"{saved.mean():.1%}, {low:.1%} to {high:.1%}"
    yield f"| cost saved against always the strongest: mean, 95% of splits | {spread} |"
    yield f"| splits in which nothing was saved | {int((saved <= 0).sum())} |"
    chosen = Counter(one.family for one in rounds).most_common()
    yield f"| policies chosen | {', '.join(f'{family} {count}' for family, count in chosen)} |"


if __name__ == "__main__":
    main()
