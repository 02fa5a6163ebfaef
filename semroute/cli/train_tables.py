"""What came of a training, for people."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from rich.text import Text

from semroute.cli.tables import DataTable, figures, number, percent, plain_table

if TYPE_CHECKING:
    from semroute.cli.train_inputs import TrainInputs
    from semroute.learn.queries.rows import TrainingRows
    from semroute.learn.queries.training import TrainedQueries
    from semroute.learn.queries.value import Worth


def show_training(trained: TrainedQueries, inputs: TrainInputs, worth: Worth | None, costs: str | None) -> None:
    """Print it all; ``costs`` is what these rest on where they were estimated."""
    from semroute.cli.console import print_note, stdout

    for part in _training_tables(trained, inputs.rows, worth, inputs.left_out):
        stdout().print(part)
        stdout().print()
    if costs is not None:
        print_note(f"* {costs}")


def _training_tables(
    trained: TrainedQueries, rows: TrainingRows, worth: Worth | None, left_out: int
) -> Iterator[DataTable | Text]:
    """Heads, models, and what the choices are worth; all on queries that were left out."""
    yield _heads(trained, len(rows.queries))
    yield _models(trained, rows)
    if worth is not None:
        yield _worth(worth)
    judged = "each of them" if len(trained.judged) == len(rows.queries) else f"{len(trained.judged):,} of them"
    note = f"{len(rows.queries):,} queries; all figures on {judged}, by heads, weights and calibration fitted on others"
    yield Text(note + (f"; {left_out:,} more were not used" if left_out else ""), style="dim")


def _heads(trained: TrainedQueries, queries: int) -> DataTable:
    table = plain_table("squared error", "weight", first="head")
    for name, loss in trained.stack.losses.items():
        weight = trained.stack.weights.get(name)
        is_chosen = name == trained.stack.chosen
        table.add_row(f"{name} *" if is_chosen else name, number(loss, 4), "" if weight is None else number(weight, 2))
    caption = "* chosen; the smaller the error the better"
    if trained.compared < queries:
        caption += f"; errors on {trained.compared:,} queries that the tuned encoder has not seen, weights from all"
    table.caption = caption
    return table


def _models(trained: TrainedQueries, rows: TrainingRows) -> DataTable:
    from semroute.learn.queries.report import model_figures

    table = plain_table("known", "quality", "AUROC", "calibration error (ECE)", first="model")
    for model, of in model_figures(trained, rows).items():
        table.add_row(Text(model), f"{of.known:,}", percent(of.mean), number(of.auroc), number(of.ece))
    return table


def _worth(worth: Worth) -> DataTable:
    value = "quality alone counts" if worth.value == float("inf") else f"USD {worth.value:.4g} for +1.0 of quality"
    single, ours = (
        f"quality {quality:.1%} at USD {1000 * cost:.4f} for 1,000 queries"
        for quality, cost in ((worth.single_quality, worth.single_cost), (worth.quality, worth.cost))
    )
    share = f" ({worth.cost / worth.single_cost:.0%} of its cost)" if worth.single_cost > 0 else ""
    worse = worth.quality < worth.single_quality
    return figures(
        best_single_model=single,
        choices_of_the_classifier=ours + share,
        value_that_gives_them=f"{value}, which it takes unless told otherwise",
        **({"note": "no value makes its choices as good as the best single model; this is the best"} if worse else {}),
    )
