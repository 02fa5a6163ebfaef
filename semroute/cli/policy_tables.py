"""Tables and sentences of ``evaluate-policy`` and ``tune-policy``.

Tables fit 80 columns.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.text import Text

from semroute.cli.tables import DataTable, figures, number, percent, plain_table

if TYPE_CHECKING:
    from semroute.evaluate.comparison_results import PolicyResult, Study
    from semroute.evaluate.controls import ControlFigures
    from semroute.evaluate.metrics import Interval
    from semroute.learn.policy.search import Figures
    from semroute.workflows.tune_policy import Tuning


# Text around the tables of ``semroute evaluate-policy``: the comparison, and the meaning of its figures.


def study_headline(study: Study) -> DataTable:
    """Return policies and data compared, and the sample size needed."""
    from semroute.evaluate.duplicates import NEAR

    found = study.duplicates
    near = "not compared by vectors" if found.near is None else f"{found.near:,} with a vector within {NEAR}"
    mixing, zero = number(study.mixing_aiq.value), number(study.zero_aiq.value)
    return figures(
        queries=f"{study.n:,}, {len(study.models)} models, {study.plan.folds} folds, "
        f"{study.plan.resamples:,} paired resamples; 95% intervals",
        duplicates=f"{found.same_text:,} of equal text, {near}; kept on one side of every split",
        best_single=_best_single(study),
        random_mixing=f"AIQ {mixing} of cheapest and strongest, {zero} of all models as well as can be (zero router)",
        outcomes_needed=_needed(study),
    )


def usd(value: float) -> str:
    """Return USD per 1,000 queries, with enough digits to tell models apart."""
    return f"{value * 1000:,.4f}"


def legend(study: Study) -> Iterator[Text]:
    """Yield a short explanation of the figures."""
    words = "AIQ: mean quality over the range of costs; arena: quality and cheapness in one"
    if study.roles.pair is not None:
        words += (
            "; APGR: share of the quality gap between the two models that is recovered; CPT 50%: share of calls of the "
            "stronger that recovers half of it"
        )
    yield Text(f"{words}; -: not defined.", style="dim")
    yield Text("--html FILE explains every figure, and names its source.", style="dim")


def _best_single(study: Study) -> str:
    """Return the best single model's figures.

    They may differ from all in the table of models: it is chosen out-of-fold.
    """
    figures = f"quality {number(study.best_quality.value)}, USD {usd(study.best_cost.value)} for 1,000"
    shares = study.best_shares
    if len(shares) == 1:
        return f"{next(iter(shares))}, {figures}; chosen on other folds"
    chosen = ", ".join(f"{model} for {percent(share)}" for model, share in shares.items())
    best = max(study.models, key=lambda model: study.quality[model].value)
    return (
        f"{figures}: the best model of the other folds, chosen anew for each fold ({chosen} of the queries); the best "
        f"of the table, {best} at {number(study.quality[best].value)}, is known only afterwards"
    )


def _needed(study: Study) -> str:
    need, name = study.subject.needed, study.subject.name
    if need.for_interval is None or need.to_detect is None:
        return str(need.unknown)
    return (
        f"{need.for_interval:,} for an interval of +-{need.half_width:g} around {name} less best single in quality; "
        f"{need.to_detect:,} to detect {need.half_width:g} at 80% power"
    )


MOST_TASKS = 12
_DASH = Text("-", style="dim")


def comparison(
    study: Study, unseen: Study | None, notes: Sequence[str], warnings: Sequence[str] = ()
) -> Iterator[RenderableType]:
    """Yield every part of a comparison, in order."""
    if warnings:
        yield Group(*(Text(f"warning: {warning}", style="yellow") for warning in warnings))
    yield Text(study.controls.halves.sentence(), style="bold")
    yield study_headline(study)
    yield models_table(study)
    yield Group(*_policies(study, "queries that were not fitted on"))
    subject = study.subject
    if len(subject.tasks) > 1:
        yield tasks_table(subject)
    if subject.estimates:
        yield estimates_table(subject)
    if unseen is not None:
        yield Group(*_policies(unseen, "tasks that were never seen"))
    yield Group(*(Text(f"* {note}", style="dim") for note in notes))
    yield Group(*legend(study))


def models_table(study: Study) -> DataTable:
    """Return each model's quality and cost, and its label in the tables."""
    table = plain_table("quality", "95% interval", "USD for 1,000", first="model")
    table.add_column("role", style="dim")
    columns = {"cheapest": study.roles.cheapest, "strongest": study.roles.strongest}
    for column, model in enumerate(study.models):
        quality = study.quality[model]
        table.add_row(
            Text(model, style="cyan"),
            f"{quality.value:.3f}",
            f"{quality.low:.3f} to {quality.high:.3f}",
            usd(study.cost[model].value),
            ", ".join(name for name, own in columns.items() if own == column),
        )
    return table


def _policies(study: Study, on: str) -> Iterator[RenderableType]:
    yield Text(f"policies, on {on}", style="bold")
    yield policies_table(study)
    yield Text(f"\n{study.controls.policy} and its controls at the same cost", style="bold")
    yield controls_table(study)
    if study.roles.pair is not None:
        weak, strong = (study.models[column] for column in study.roles.pair)
        yield Text(f"\nshare of calls of {strong}, the rest at {weak} (RouteLLM)", style="bold")
        yield pair_table(study)
    subject = study.subject
    yield Text(f"\npredictions of {subject.name}", style="bold")
    yield predictions_table(subject)


def policies_table(study: Study) -> Group:
    """Return the curve of each policy against the single models."""
    table = _intervals("AIQ", "over zero*", "best point**", "cost saved**", "arena")
    for policy in study.policies:
        of = policy.figures
        table.add_row(
            _name(policy),
            _cell(of.aiq),
            _cell(of.aiq_gain, sign=True),
            _cell(of.perf_gain, sign=True, share=True),
            _cell(of.cost_save, share=True),
            _cell(of.arena),
        )
    of_zero = Text("* AIQ less the zero router's", style="dim")
    of_best = Text(
        "** against the best single model, at a point chosen in hindsight; the sentence on top is not", style="dim"
    )
    return Group(table, of_zero, of_best)


def controls_table(study: Study) -> Group:
    """Return the subject's figures with those of other choices of its cost."""
    table = _controls(study.controls.rows)
    note = (
        "the policy's point is chosen on other folds: the cheapest as good as the best single model; shuffled: its "
        "shares of models, given to queries at random; -: a control cannot cost so little"
    )
    return Group(table, Text(note, style="dim"))


def _controls(rows: Sequence[ControlFigures]) -> DataTable:
    table = plain_table("quality", "USD for 1,000", "policy less control", first="policy")
    for row in rows:
        margin = _DASH if row.margin is None else _cell(row.margin, sign=True)
        name = Text(row.name, style="bold cyan" if row.margin is None else "cyan")
        table.add_row(name, _cell(row.quality), number(row.cost.value * 1000, 4), margin)
    return table


def pair_table(study: Study) -> DataTable:
    """Return RouteLLM's figures for a pair of models."""
    table = _intervals("APGR", "over length", "CPT 20%", "CPT 50%", "CPT 80%")
    for policy in study.policies:
        pair = policy.pair
        if pair is not None:
            gain = _DASH if pair.apgr_gain is None else _cell(pair.apgr_gain, sign=True)
            table.add_row(_name(policy), _cell(pair.apgr), gain, *(_cell(at, share=True) for at in pair.cpt.values()))
    return table


def predictions_table(policy: PolicyResult) -> DataTable:
    """Return the accuracy of a policy's predictions for each model."""
    table = plain_table("AUROC", "95% interval", "ECE", "95% interval", first="model")
    for model, of in policy.predictions.items():
        cells = [text for figure in (of.auroc, of.ece) for text in (_number(figure), _span(figure))]
        table.add_row(Text(model, style="cyan"), *cells)
    return table


def tasks_table(policy: PolicyResult) -> RenderableType:
    """Return a policy's figures by task, matched to the best single model."""
    table = plain_table("queries", "quality", "best single", "difference", "+-95%", "cost, %", first="task")
    for of in policy.tasks[:MOST_TASKS]:
        cost = percent(of.cost / of.best_cost) if of.best_cost > 0 else "-"
        difference = f"{of.quality - of.best_quality:+.3f}"
        cells = f"{of.quality:.3f}", f"{of.best_quality:.3f}", difference, number(1.96 * of.error), cost
        table.add_row(Text(of.task or "(none)", style="cyan"), f"{of.n:,}", *cells)
    rest = len(policy.tasks) - MOST_TASKS
    title = Text(
        f"{policy.name} by task, at the best single model's quality as other folds find it; cost in % of its",
        style="bold",
    )
    note = Text(f"... and {rest:,} more; --json and --html have all" if rest > 0 else "", style="dim")
    return Group(title, table, note)


def estimates_table(policy: PolicyResult) -> RenderableType:
    """Return the off-policy estimates of a policy's quality."""
    table = plain_table("quality", "standard error", "queries matched", "mean weight", first="estimate")
    for name, of in policy.estimates.items():
        table.add_row(name, number(of.value), number(of.error), f"{of.matched:,}", number(of.mean_weight, 2))
    title = Text(f"{policy.name}: estimates from incomplete rows (a mean weight far from 1 is a warning)", style="bold")
    return Group(title, table)


def _intervals(*columns: str) -> DataTable:
    """Return a table whose intervals wrap at their comma."""
    return plain_table(*columns, first="policy")


def _name(policy: PolicyResult) -> Text:
    return Text(policy.name, style="bold cyan" if policy.is_subject else "cyan")


def _cell(figure: Interval, *, sign: bool = False, share: bool = False) -> Text:
    """Return a figure above its interval."""
    if figure.value != figure.value:
        return _DASH
    value = Text(_number(figure, sign=sign, share=share))
    return value.append("\n").append(_span(figure, sign=sign, share=share), style="dim")


def _number(figure: Interval, *, sign: bool = False, share: bool = False) -> str:
    if figure.value != figure.value:
        return "-"
    plus = "+" if sign else ""
    return f"{figure.value:{plus}.1%}" if share else f"{figure.value:{plus}.3f}"


def _span(figure: Interval, *, sign: bool = False, share: bool = False) -> str:
    """Return an interval in its shortest form: ``.742, .778``.

    In per cent it is ``73.5, 80.5``.
    """
    if figure.value != figure.value:
        return "-"
    plus = "+" if sign else ""
    ends = (figure.low, figure.high)
    if share:
        return ", ".join(f"{100 * end:{plus}.1f}" for end in ends)
    return ", ".join(f"{end:{plus}.3f}".replace("0.", ".", 1) for end in ends)


# Result of tuning a policy.

_SPLITS = (
    "in each split a policy is chosen on one random half of these rows, for as many queries as the other half has, and "
    "measured on that one; all rows together show more, and save more"
)
_CONTROLS = (
    "the tuned policy is chosen anew for each fold, on the other folds; shuffled: its calls, given to queries at "
    "random; the others at its cost; -: a control cannot cost so little"
)
_MOST_ALIKE = 0.02
"""Share of one group of near-duplicate queries above which the promise warns of it."""


def tuning_tables(found: Tuning) -> Iterator[DataTable | Text]:
    """Yield the choice, the effect of each part, and the search."""
    from semroute.workflows.tune_policy import SAME_MIX, point_in_words

    summary, chosen = found.summary, found.tuned.chosen
    assert chosen is not None
    assert summary.chosen is not None
    assert summary.promised is not None
    if found.controls is not None:
        yield Text(found.controls.sentence(), style="bold")
        yield Text(_SPLITS, style="dim")
    yield figures(
        wanted=found.goal_in_words(),
        chosen=point_in_words(chosen),
        quality=f"{_share(summary.chosen.of_strongest)} of that of {found.strongest}, and "
        f"{'in the long run' if found.promise.ahead is None else 'in the queries ahead'} at least "
        f"{summary.promised:.1%}",
        saved=_saved(summary.chosen.saved),
    )
    yield _table(found)
    if found.controls is not None:
        yield Text("tuned policy, chosen on other folds, and its controls at the same cost", style="bold")
        yield _controls(found.controls.rows)
        yield Text(_CONTROLS, style="dim")
    left = f"; {found.left_out:,} queries lack a model and were left out" if found.left_out else ""
    different = found.prepared.held.different
    of_them = f", {different:,} of them different" if different < summary.held_rows else ""
    crossed = found.prepared.is_cross_fitted
    rows = (
        f"tuned and tested on {summary.tuning_rows:,} queries{of_them}, by predictions not fitted on them; the rows "
        "chose the policy too, which flatters its figures a little"
        if crossed
        else f"tuned on {summary.tuning_rows:,} queries; all figures on {summary.held_rows:,} others{of_them}"
    )
    yield Text(f"{rows}, with 95% intervals{left}", style="dim")
    alike = found.prepared.held.most_alike
    if alike > _MOST_ALIKE:
        yield Text(
            f"warning: one query and what says the same make up {alike:.1%} of the rows that test; the promise holds "
            "for queries as different as most of these, and not where other single queries become as frequent",
            style="yellow",
        )
    bound = found.bound()
    yield Text("nothing is promised" if bound is None else f"the promise by {bound}; {SAME_MIX}", style="dim")
    if len(found.tuned.finalists) > 1:
        yield Text(
            f"{len(found.tuned.finalists)} kinds of policy won on parts of the rows; they share the error that is "
            "permitted, and the cheapest that passed is chosen",
            style="dim",
        )
    if found.costs is not None:
        yield Text(found.costs, style="dim")


def _table(found: Tuning) -> DataTable:
    table = plain_table("USD for 1,000", "quality", "of strongest", "saved", first="policy")

    def row(name: str, of: Figures | None, *, style: str = "") -> None:
        cells = ["not reachable", "", "", ""] if of is None else _cells(of)
        table.add_row(Text(name), *cells, style=style)

    row(f"always {found.strongest}", found.summary.strongest)
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
    """Return a share of the strongest model's cost; NaN if that cost is 0."""
    return "nothing, for it costs nothing" if math.isnan(figure.value) else f"{_share(figure)} of its cost"
