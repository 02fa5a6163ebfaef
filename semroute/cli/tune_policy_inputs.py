"""What ``semroute tune-policy`` reads and finds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from semroute.cli.encoding import Encoding
from semroute.errors import InputError
from semroute.types.progress import Progress

if TYPE_CHECKING:
    from semroute.evaluate.baseline import DriftBaseline
    from semroute.evaluate.risk.promise import Promise
    from semroute.learn.policy.preparing import PolicyInputs, PolicySplit
    from semroute.learn.policy.summary import Figures, Summary
    from semroute.learn.policy.tuning import Goal, Tuned

Spot = tuple[float, float]


@dataclass(frozen=True, slots=True)
class TuneSource:
    """What the command was told; names as its options."""

    outcomes: Sequence[Path]
    prices: Path | None
    models: tuple[str, ...] | None
    strongest: str | None
    heads: Sequence[str]
    held_out: float
    confidence: float
    ahead: int | None
    seed: int
    store: Path | None
    out: Path


@dataclass(frozen=True, slots=True)
class Tuning:
    """What came of it.

    Attributes:
        title: of the picture.
        models: names.
        goal: what was wanted.
        promise: how sure one is.
        prepared: both parts, and the classifiers.
        tuned: the choice.
        summary: its figures.
        left_out: queries that lack the quality of a model.
        baseline: what drift is told by; None without a choice.
        generation: name of the folder of its classifiers.
        costs: what they rest on where they were estimated.
    """

    title: str
    models: tuple[str, ...]
    goal: Goal
    promise: Promise
    prepared: PolicySplit
    tuned: Tuned
    summary: Summary
    left_out: int
    baseline: DriftBaseline | None
    generation: str
    costs: str | None

    @property
    def floor(self) -> float | None:
        """Quality that must be kept, on the rows that test it."""
        if self.goal.min_quality is None:
            return None
        return self.goal.min_quality * self.summary.strongest.quality.value

    def curves(self) -> dict[str, list[Spot]]:
        """Return the points that were tried by family, on the rows that test the promise.

        Floor and choice are measured there. On the rows that policies were tuned on the strongest model has another
        quality, so that a choice that keeps its floor would seem to miss it.
        """
        found: dict[str, list[Spot]] = {}
        for point in self.tuned.points:
            quality, cost = point.play(self.prepared.held).point
            found.setdefault(point.family.name, []).append((cost, quality))
        return found

    def marks(self) -> dict[str, Spot]:
        """Return the choice, the strongest model and the point of most quality per dollar, on the same rows."""
        of = self.summary
        chosen = {} if of.chosen is None else {"chosen": of.chosen}
        always = f"always {self.models[self.tuned.strongest]}"
        marks = {**chosen, always: of.strongest, "most quality per dollar": of.densest_figures}
        return {name: (figures.cost.value, figures.quality.value) for name, figures in marks.items()}

    def not_reachable(self) -> InputError:
        """Why there is no choice."""
        confidence = f"{self.promise.confidence:.0%} confidence"
        if self.goal.max_cost is not None:
            least = min(point.cost for point in self.tuned.points)
            said = f"the cheapest costs USD {least:.3g} a query, and USD {self.goal.max_cost:.3g} cannot be kept"
            return InputError(f"not reachable: {said} with {confidence}")
        best = max(point.quality for point in self.tuned.points)
        strongest = float(self.prepared.tuning.quality[:, self.tuned.strongest].mean())
        return InputError(
            f"not reachable: the best policy has {best / strongest:.1%} of the quality of "
            f"{self.models[self.tuned.strongest]} on the tuning rows, and {self.goal.min_quality:.1%} cannot be shown "
            f"with {confidence} on {len(self.prepared.held):,} others"
        )


def tuning(source: TuneSource, goal: Goal, index: Path | None, config_path: Path | None, progress: Progress) -> Tuning:
    """Read, train, search and test.

    Raises:
        InputError: a file cannot be used, or there is too little.
    """
    import semroute
    from semroute.evaluate.risk.promise import Promise
    from semroute.learn.policy.preparing import prepare, split
    from semroute.learn.policy.summary import summarise
    from semroute.learn.policy.tuning import families, strongest_model, tune
    from semroute.learn.policy.writing import generation
    from semroute.learn.queries.training import estimators

    encoding = Encoding(index, config_path)
    material, left_out = _material(source, encoding, config_path, progress)
    table = material.costs.table
    rows = split(material.group, source.held_out, source.seed)
    heads = {name: made for name, made in estimators(source.seed).items() if name in source.heads}
    prepared = prepare(material, *rows, heads=heads, seed=source.seed, progress=progress)
    strongest = _strongest(source.strongest, table.models)
    strongest = strongest_model(prepared.tuning) if strongest is None else strongest
    promise = Promise(source.confidence, source.ahead or len(table))
    made_of = (semroute.__version__, encoding.encoder.fingerprint, *source.heads, source.held_out, source.seed)
    own = generation(table, made_of)
    tried = families(table.models, prepared, *encoding.thresholds, encoding.bar, f"{source.out}/{own}")
    tuned = tune(tried, prepared, goal, strongest, promise)
    summary = summarise(tuned, prepared.tuning, prepared.held, promise, seed=source.seed)
    title = ", ".join(path.name for path in source.outcomes)
    costs = material.costs.words(encoding.tokenizer)
    baseline = None if summary.chosen is None else _baseline(material, encoding, summary.chosen)
    return Tuning(title, table.models, goal, promise, prepared, tuned, summary, left_out, baseline, own, costs)


def _baseline(material: PolicyInputs, encoding: Encoding, chosen: Figures) -> DriftBaseline:
    from semroute.evaluate.baseline import DriftBaseline
    from semroute.texts.same import normalize

    table = material.costs.table
    prices = {model: (price.input, price.output) for model, price in material.prices.items() if model in table.models}
    _, different = np.unique([normalize(query) for query in table.queries], return_index=True)
    names, thresholds = encoding.thresholds
    scores, below = encoding.best_of(material.scores.second[different], thresholds)
    return DriftBaseline.of(
        scores, below, chosen.quality, chosen.cost, prices,
        thresholds=dict(zip(names, thresholds.tolist(), strict=True)),
        index=encoding.index_fingerprint, at=datetime.now(UTC),
    )  # fmt: skip


def _material(
    source: TuneSource, encoding: Encoding, config_path: Path | None, progress: Progress
) -> tuple[PolicyInputs, int]:
    from semroute.cli.policy_inputs import known_prices
    from semroute.evaluate.replay.duplicates import duplicates
    from semroute.heads.queries.inputs import QueryInputs
    from semroute.learn.policy.preparing import PolicyInputs
    from semroute.outcomes.costs import with_costs
    from semroute.outcomes.files import read_outcomes
    from semroute.outcomes.judging import check_judged, judging_remedy

    prices = known_prices(source.prices, config_path)
    progress("reading", 0, 1)
    table = read_outcomes(source.outcomes, count=encoding.count, keep_responses=True)
    if source.models is not None:
        table = table.with_models(source.models)
    check_judged(table)
    complete = table.is_complete
    costs = with_costs(table.take(complete), prices, encoding.count)
    progress("reading", 1, 1)
    queries = costs.table.queries
    if not queries:
        raise InputError(
            f"none of the {len(table):,} queries has the quality of all {len(table.models)} models; "
            f"{judging_remedy(table)}ask the missing models too, or name fewer with --models"
        )
    vectors = encoding.vectors(queries, source.store, progress)
    inputs = QueryInputs.of(queries, vectors, encoding.categories)
    scores = encoding.both_scores(queries, vectors)
    group = duplicates(queries, vectors).group
    material = PolicyInputs(costs, group, inputs, scores, prices, encoding.encoder.fingerprint, encoding.categories)
    return material, int((~complete).sum())


def _strongest(name: str | None, models: Sequence[str]) -> int | None:
    if name is None:
        return None
    if name not in models:
        from semroute.texts.nearest import known_names

        raise InputError(f'no model "{name}" among the outcomes; {known_names(name, models, "they hold")}')
    return models.index(name)
