"""The tables of ``semroute evaluate-policy``, within 80 columns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.text import Text

from semroute.cli.policy_headline import headline, legend, usd
from semroute.cli.tables import DataTable, number, percent, plain_table

if TYPE_CHECKING:
    from semroute.evaluate.curves.bootstrap import Interval
    from semroute.evaluate.study.results import PolicyResult, Study

MOST_TASKS = 12
_DASH = Text("-", style="dim")


def comparison(
    study: Study, unseen: Study | None, notes: Sequence[str], warnings: Sequence[str] = ()
) -> Iterator[RenderableType]:
    """Every part of what is shown, in order."""
    if warnings:
        yield Group(*(Text(f"warning: {warning}", style="yellow") for warning in warnings))
    yield headline(study)
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
    """Each model's quality and cost, and what it is called here."""
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
    if study.roles.pair is not None:
        weak, strong = (study.models[column] for column in study.roles.pair)
        yield Text(f"\nshare of calls of {strong}, the rest at {weak} (RouteLLM)", style="bold")
        yield pair_table(study)
    subject = study.subject
    yield Text(f"\npredictions of {subject.name}", style="bold")
    yield predictions_table(subject)


def policies_table(study: Study) -> Group:
    """The curve of each policy against the single models."""
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
    of_best = Text("** against the best single model; cost saved at its quality", style="dim")
    return Group(table, of_zero, of_best)


def pair_table(study: Study) -> DataTable:
    """The figures of RouteLLM."""
    table = _intervals("APGR", "over length", "CPT 20%", "CPT 50%", "CPT 80%")
    for policy in study.policies:
        pair = policy.pair
        if pair is not None:
            gain = _DASH if pair.apgr_gain is None else _cell(pair.apgr_gain, sign=True)
            table.add_row(_name(policy), _cell(pair.apgr), gain, *(_cell(at, share=True) for at in pair.cpt.values()))
    return table


def predictions_table(policy: PolicyResult) -> DataTable:
    """How good a policy's predictions are for each model."""
    table = plain_table("AUROC", "95% interval", "ECE", "95% interval", first="model")
    for model, of in policy.predictions.items():
        cells = [text for figure in (of.auroc, of.ece) for text in (_number(figure), _span(figure))]
        table.add_row(Text(model, style="cyan"), *cells)
    return table


def tasks_table(policy: PolicyResult) -> RenderableType:
    """A policy's figures by task, at the point that is as good as the best single model."""
    table = plain_table("queries", "quality", "best single", "difference", "+-95%", "cost, %", first="task")
    for of in policy.tasks[:MOST_TASKS]:
        cost = percent(of.cost / of.best_cost) if of.best_cost > 0 else "-"
        difference = f"{of.quality - of.best_quality:+.3f}"
        cells = f"{of.quality:.3f}", f"{of.best_quality:.3f}", difference, number(1.96 * of.error), cost
        table.add_row(Text(of.task or "(none)", style="cyan"), f"{of.n:,}", *cells)
    rest = len(policy.tasks) - MOST_TASKS
    title = Text(f"{policy.name} by task, at the best single model's quality; cost in % of its", style="bold")
    note = Text(f"... and {rest:,} more; --json and --html have all" if rest > 0 else "", style="dim")
    return Group(title, table, note)


def estimates_table(policy: PolicyResult) -> RenderableType:
    """The off-policy estimates of a policy's quality."""
    table = plain_table("quality", "standard error", "queries matched", "mean weight", first="estimate")
    for name, of in policy.estimates.items():
        table.add_row(name, number(of.value), number(of.error), f"{of.matched:,}", number(of.mean_weight, 2))
    title = Text(f"{policy.name}: estimates from incomplete rows (a mean weight far from 1 is a warning)", style="bold")
    return Group(title, table)


def _intervals(*columns: str) -> DataTable:
    """Where an interval has no room in a line, it is cut at its comma."""
    return plain_table(*columns, first="policy")


def _name(policy: PolicyResult) -> Text:
    return Text(policy.name, style="bold cyan" if policy.is_subject else "cyan")


def _cell(figure: Interval, *, sign: bool = False, share: bool = False) -> Text:
    """A figure above its interval."""
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
    """The interval as short as can be, to stand below its figure: ``.742, .778``, or ``73.5, 80.5`` in percent."""
    if figure.value != figure.value:
        return "-"
    plus = "+" if sign else ""
    ends = (figure.low, figure.high)
    if share:
        return ", ".join(f"{100 * end:{plus}.1f}" for end in ends)
    return ", ".join(f"{end:{plus}.3f}".replace("0.", ".", 1) for end in ends)
