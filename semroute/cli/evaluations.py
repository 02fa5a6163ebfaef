"""The tables of ``semroute evaluate``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.text import Text

from semroute.cli.layout import Column
from semroute.cli.tables import DataTable, figures, number, percent, plain_table

if TYPE_CHECKING:
    from semroute.evaluate.semantic import Evaluation
    from semroute.router.measure import Measurement

MOST_COLUMNS = 15
"""Categories up to which a confusion matrix fits a terminal; beyond, its worst cells are listed."""
WORST = 15
REJECTED = "out of scope"


def category_figures(evaluation: Evaluation) -> DataTable:
    """Precision, recall and F1 of each category, thresholds applied."""
    table = plain_table("precision", "recall", "F1", "queries")
    for name, row in evaluation.per_category.items():
        shares = (percent(row[key]) if row["n"] else "-" for key in ("precision", "recall", "f1"))
        table.add_row(Text(name, style="cyan"), *shares, f"{row['n']:,}")
    return table


def confusion_table(evaluation: Evaluation) -> RenderableType:
    """The confusion matrix, or where it is too wide for a terminal the most frequent mistakes."""
    if len(evaluation.per_category) > MOST_COLUMNS:
        return _worst(evaluation)
    names = [*evaluation.per_category, REJECTED]
    numbers = (Column(str(place)) for place in range(1, len(names)))
    table = DataTable(Column("true / decided", "name"), *numbers, Column("-"), narrow=_worst(evaluation))
    for row, (name, counts) in enumerate(zip(names, evaluation.confusion, strict=True)):
        mark = f"{row + 1:>2} " if name is not REJECTED else " - "
        table.add_row(Text(mark + name), *(_cell(count, row == column) for column, count in enumerate(counts)))
    return table


def headline(measured: Measurement) -> DataTable:
    """The figures for all queries together."""
    evaluation, latency = measured.evaluation, measured.latency
    low, high = evaluation.accuracy_interval
    answered = measured.answered_first
    first = {} if answered is None else {"first_stage": f"answers {percent(answered)} of all queries"}
    return figures(
        queries=f"{evaluation.n:,}",
        accuracy=f"{percent(evaluation.accuracy)}  (95% interval {percent(low)} to {percent(high)}; with thresholds)",
        accuracy_in_scope=f"{percent(evaluation.accuracy_in_scope)}  (best category, before any threshold)",
        out_of_scope=f"AUROC {number(evaluation.oos_auroc)}, {percent(evaluation.oos_recall)} rejected",
        false_rejection=percent(evaluation.false_rejection),
        calibration_error=f"{number(evaluation.ece)}  (ECE, 15 bins)",
        time_per_query=f"p50 {latency.p50:.2f} ms, p99 {latency.p99:.2f} ms  (over {latency.n:,} queries)",
        **first,
    )


def _cell(count: int, is_right: bool) -> Text:
    if count == 0:
        return Text("·", style="dim")
    return Text(str(count), style="green" if is_right else "red")


def _worst(evaluation: Evaluation) -> RenderableType:
    names = [*evaluation.per_category, REJECTED]
    mistakes = [
        (count, names[row], names[column])
        for row, counts in enumerate(evaluation.confusion)
        for column, count in enumerate(counts)
        if count and row != column
    ]
    mistakes.sort(key=lambda mistake: -mistake[0])
    table = DataTable(Column("queries"), Column("of", "name"), Column("go to", "name"))
    for count, true, decided in mistakes[:WORST]:
        table.add_row(f"{count:,}", Text(true, style="cyan"), Text(decided, style="red"))
    rest = len(mistakes) - WORST
    note = Text(f"… and {rest:,} other kinds of mistake; --json has the whole matrix" if rest > 0 else "", style="dim")
    return Group(Text("most frequent mistakes", style="bold"), table, note)
