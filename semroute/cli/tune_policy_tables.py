"""What came of a tuning, for people and as JSON."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rich.text import Text

from semroute.cli.tables import DataTable, figures, percent, plain_table
from semroute.evaluate.plain import finite

if TYPE_CHECKING:
    from semroute.cli.tune_policy_inputs import Tuning
    from semroute.evaluate.curves.bootstrap import Interval
    from semroute.learn.policy.search import Point
    from semroute.learn.policy.summary import Figures

_BOUND = (
    "fixed sequence testing on the held-out rows (Learn then Test), each test by betting for the long run and by "
    "Student's prediction bound for the queries ahead; queries that say the same count as one"
)
_MOST_ALIKE = 0.02
"""Share of one group of queries that say the same above which the promise says so."""
_BUDGET = "approximate: no query is taken to cost more than the dearest of these outcomes"


def bound_words(found: Tuning) -> str | None:
    """What the promise rests on; None where none is made."""
    if found.goal.value is not None:
        return None
    return f"{_BOUND}; {_BUDGET}" if found.goal.max_cost is not None else _BOUND


def headline(found: Tuning) -> str:
    """What the policy is, in a line or two."""
    said = goal_words(found)
    chosen = found.tuned.chosen
    assert chosen is not None
    return f"{said}\n{point_words(chosen, found.models)}"


def goal_words(found: Tuning) -> str:
    """What was wanted, and how sure one is of it."""
    goal, promise = found.goal, found.promise
    sure = f"with {promise.confidence:.0%} confidence over the next {promise.ahead:,} queries"
    if goal.min_quality is not None:
        return f"at least {goal.min_quality:.1%} of the quality of {found.models[found.tuned.strongest]}, {sure}"
    if goal.max_cost is not None:
        return f"at most USD {goal.max_cost:.4g} a query, {sure}"
    return f"quality is worth USD {goal.value:.4g} for +1.0"


def point_words(point: Point, models: tuple[str, ...]) -> str:
    """A policy in words."""
    from semroute.learn.policy.families import ByCategory, ByClassifier, ByClassifierAndCascade, SingleModels

    if isinstance(point.family, SingleModels):
        return f"always {models[point.parameter]}"
    if isinstance(point.family, ByClassifier):
        return f"the classifier, with quality worth {_worth(point.parameter)}"
    if isinstance(point.family, ByCategory):
        ways = "; ".join(dict.fromkeys(way.words(models) for way in point.parameter.choice))
        moved = f", thresholds moved by {point.parameter.offset:+.2g}" if point.parameter.offset else ""
        return f"a model or cascade for each category ({ways}){moved}"
    if isinstance(point.family, ByClassifierAndCascade):
        value, threshold = point.parameter
        return f"{point.family.name}: quality worth {_worth(value)}, accepting from {threshold:.2f}"
    return f"{point.family.name}, accepting from {point.parameter:.2f}"


def _worth(value: float) -> str:
    return f"USD {value:.4g} for +1.0" if math.isfinite(value) else "everything"


def tuning_tables(found: Tuning) -> Iterator[DataTable | Text]:
    """The choice, what each part adds, and how it was found."""
    summary, chosen = found.summary, found.tuned.chosen
    assert chosen is not None
    assert summary.chosen is not None
    assert summary.promised is not None
    yield figures(
        wanted=goal_words(found),
        chosen=point_words(chosen, found.models),
        quality=f"{_share(summary.chosen.of_strongest)} of that of {found.models[found.tuned.strongest]}, and in the "
        f"queries ahead at least {summary.promised:.1%}",
        saved=_saved(summary.chosen.saved),
    )
    yield _table(found)
    left = f"; {found.left_out:,} queries lack a model and were left out" if found.left_out else ""
    different = found.prepared.held.different
    of_them = f", {different:,} of them different" if different < summary.held_rows else ""
    yield Text(
        f"tuned on {summary.tuning_rows:,} queries; all figures on {summary.held_rows:,} others{of_them}, "
        f"with 95% intervals{left}",
        style="dim",
    )
    alike = found.prepared.held.most_alike
    if alike > _MOST_ALIKE:
        yield Text(
            f"warning: one query and what says the same make up {alike:.1%} of the rows that test; the promise holds "
            "for queries as different as most of these, and not where other single queries become as frequent",
            style="yellow",
        )
    bound = bound_words(found)
    yield Text("nothing is promised" if bound is None else f"the promise by {bound}", style="dim")
    if len(summary.parts) > 1:
        yield Text(
            "the kind of policy is chosen on the rows that it is tuned on, so that one test suffices: on the others "
            "another kind may come out cheaper",
            style="dim",
        )
    if found.costs is not None:
        yield Text(found.costs, style="dim")


def _table(found: Tuning) -> DataTable:
    table = plain_table("USD for 1,000", "quality", "of strongest", "saved", first="policy")

    def row(name: str, of: Figures | None, *, style: str = "") -> None:
        cells = ["not reachable", "", "", ""] if of is None else _cells(of)
        table.add_row(Text(name), *cells, style=style)

    row(f"always {found.models[found.tuned.strongest]}", found.summary.strongest)
    row("chosen", found.summary.chosen, style="bold")
    for name, of in found.summary.parts.items():
        row(f"  with {name} only" if name == "one model" else f"  one model or {name}", of)
    row("most quality per dollar", found.summary.densest_figures)
    return table


def _cells(of: Figures) -> list[str]:
    return [
        f"{1000 * of.cost.value:.4f}",
        percent(of.quality.value),
        percent(of.of_strongest.value),
        percent(of.saved.value),
    ]


def _share(figure: Interval) -> str:
    return f"{percent(figure.value)} ({percent(figure.low)} to {percent(figure.high)})"


def _saved(figure: Interval) -> str:
    """A share of what the strongest model costs; it is NaN where that is nothing."""
    return "nothing, for it costs nothing" if math.isnan(figure.value) else f"{_share(figure)} of its cost"


def tuning_dict(found: Tuning) -> dict[str, Any]:
    """JSON-ready."""
    summary, chosen = found.summary, found.tuned.chosen
    part = found.prepared.tuning
    return {
        "goal": asdict(found.goal),
        "confidence": found.promise.confidence,
        "ahead": found.promise.ahead,
        "bound": bound_words(found),
        "costs": found.costs,
        "models": list(found.models),
        "strongest": found.models[found.tuned.strongest],
        "chosen": None if chosen is None else point_words(chosen, found.models),
        "config": None if chosen is None else finite(dict(chosen.family.config(chosen.parameter))),
        "figures": None if summary.chosen is None else finite(asdict(summary.chosen)),
        "promised": summary.promised,
        "always_strongest": finite(asdict(summary.strongest)),
        "most_quality_per_dollar": {
            "policy": point_words(summary.densest, found.models), **_plain(summary.densest_figures)
        },
        "baseline": None if found.baseline is None else found.baseline.to_dict(),
        "parts": {name: None if of is None else _plain(of) for name, of in summary.parts.items()},
        "tuned_on": {
            "queries": summary.tuning_rows,
            "tested_on": summary.held_rows,
            "different": found.prepared.held.different,
            "largest_share_alike": found.prepared.held.most_alike,
            "left_out": found.left_out,
            "mean_quality": dict(zip(found.models, part.quality.mean(axis=0, dtype="float64").tolist(), strict=True)),
            "mean_cost_usd": dict(zip(found.models, part.cost.mean(axis=0, dtype="float64").tolist(), strict=True)),
        },
    }  # fmt: skip


def _plain(of: Figures) -> dict[str, Any]:
    found = finite(asdict(of))
    assert isinstance(found, dict)
    return found
