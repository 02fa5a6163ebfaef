"""A decision on the terminal: a panel for one, a line for each of many."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.text import Text

from semroute.categories.notes import shortened
from semroute.cli.layout import Column
from semroute.cli.tables import DataTable, RowPrinter, number
from semroute.types import total_cost

if TYPE_CHECKING:
    from semroute.router.explain import NearestExample
    from semroute.types import Decision, StrategyResult

WIDEST = 110
"""Columns that the panel takes at most: longer lines are hard to read."""


def decision_panel(decision: Decision, nearest: Sequence[NearestExample]) -> RenderableType:
    """Everything of a decision that a person wants to see."""
    colour = "yellow" if decision.is_fallback else "green"
    title = Text(decision.category or _uncategorised(decision), style=f"bold {colour}")
    body: list[RenderableType] = [_facts(decision, colour)]
    if nearest and decision.categories:  # else the examples had no part in it
        best = decision.categories[0].category
        body += [Text(), Text("nearest examples", style="bold"), _examples(nearest, best)]
    return Panel(Group(*body), title=title, title_align="left", border_style=colour, width=None, expand=False)


def decision_rows(categories: Iterable[str], models: Iterable[str]) -> RowPrinter:
    """Return what prints a decision a row: category, model, score, confidence and the start of the query.

    Args:
        categories: names that may come.
        models: names that may come.
    """
    columns = (
        Column("category", "name"),
        Column("model", "name"),
        Column("score"),
        Column("confidence"),
        Column("query", "excerpt"),
    )
    return RowPrinter(*columns, likely=([*categories, "(fallback)"], models, ["0.000"], ["100%"]))


def print_decision(rows: RowPrinter, decision: Decision) -> None:
    """Print a decision as a row."""
    category = decision.category or ("(fallback)" if decision.is_fallback else f"({decision.strategy})")
    confidence = "-" if decision.confidence is None else f"{decision.confidence:.0%}"
    rows.print(category, decision.model, number(decision.score), confidence, rows.excerpt(decision.query))


def _uncategorised(decision: Decision) -> str:
    return "no category: fallback" if decision.is_fallback else f"no category: decided by {decision.strategy}"


def _facts(decision: Decision, colour: str) -> DataTable:
    columns = Column("", "label", "dim"), Column("", "words", most=WIDEST - 20)
    table = DataTable(*columns, has_header=False)
    table.add_row("query", Text(shortened(decision.query, 240)))
    table.add_row("model", Text.assemble((decision.model, "bold"), *_then(decision.candidates[1:])))
    if decision.cascade:
        tiers = (" or ".join(tier) for tier in decision.cascade)
        table.add_row("cascade", Text.assemble(", then ".join(tiers), ("  where an answer is not accepted", "dim")))
    if decision.categories:
        _add_scores(table, decision, colour)
    # Where semantic routing alone was asked, the lines above say it all.
    for opinion in decision.opinions if [said.strategy for said in decision.opinions] != ["semantic"] else ():
        table.add_row(opinion.strategy, _said(opinion))
    steps = ", ".join(f"{step} {spent:.2f}" for step, spent in decision.steps_ms.items())
    table.add_row("time", Text.assemble(f"{decision.elapsed_ms:.2f} ms", (f"  ({steps})", "dim")))
    return table


def _said(opinion: StrategyResult) -> Text:
    style = {"decided": "green", "narrowed": "cyan"}.get(opinion.kind, "")
    cost = total_cost(opinion.attempts)
    paid = [] if cost is None else [(f"  {'about ' if cost.estimated else ''}{cost.usd:.6f} USD", "dim")]
    left = f" to {', '.join(opinion.candidates)}" if opinion.kind == "narrowed" else ""
    return Text.assemble((opinion.kind + left, style), (f"  {opinion.reason}", "dim"), *paid)


def _add_scores(table: DataTable, decision: Decision, colour: str) -> None:
    best = decision.categories[0]
    sign = "<" if best.score < best.threshold else "≥"
    bar = (f"{best.threshold:.3f}", (" threshold", "dim"))
    table.add_row("best", Text.assemble((best.category, colour), f"  {best.score:.3f} {sign} ", *bar))
    if len(decision.categories) > 1:
        second = decision.categories[1]
        lead = best.score - second.score
        table.add_row(
            "runner-up", Text.assemble(second.category, f"  {second.score:.3f}", (f"  {lead:.3f} behind", "dim"))
        )
    if decision.confidence is not None:
        table.add_row("confidence", Text.assemble(f"{decision.confidence:.1%}", ("  if it is in scope", "dim")))


def _then(models: Sequence[str]) -> list[tuple[str, str]]:
    return [(f"  then {', '.join(models)}", "dim")] if models else []


def _examples(nearest: Sequence[NearestExample], best: str) -> DataTable:
    columns = Column("similarity"), Column("category", "name"), Column("example", "words", most=WIDEST - 30)
    table = DataTable(*columns)
    for example in nearest:
        style = "green" if example.category == best else "yellow"
        table.add_row(f"{example.similarity:.3f}", Text(example.category, style=style), shortened(example.query, 120))
    return table
