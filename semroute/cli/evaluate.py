"""``semroute evaluate``: an index against labelled queries."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from semroute.cli.mistakes import errors_option
from semroute.cli.options import (
    config_option,
    index_option,
    json_option,
    label_names_option,
    label_option,
    text_option,
)

if TYPE_CHECKING:
    from semroute.evaluate.semantic import Evaluation
    from semroute.router.measure import Measurement


@click.command()
@click.argument("labelled", type=click.Path(path_type=Path))
@index_option
@config_option
@json_option
@errors_option
@text_option
@label_option
@label_names_option
def evaluate(
    labelled: Path,
    index: Path | None,
    config_path: Path | None,
    as_json: bool,
    errors: Path | None,
    text: str | None,
    label: str | None,
    names: Path | None,
) -> None:
    """Measure an index on labelled queries.

    LABELLED is a file with "query" and "category", or any that "semroute import" reads; null, none or oos stand for
    out of scope. Use queries that are not among the examples. Queries that went wrong are listed. The time is that of
    single queries, without the cache of vectors.
    """
    from semroute.categories.importing import ImportOptions, read_queries
    from semroute.cli.console import print_json, print_warning
    from semroute.cli.mistakes import SHOWN, mistake_dicts, print_errors, write_errors
    from semroute.cli.progress import progress_bars
    from semroute.cli.routers import open_router
    from semroute.router.measure import measure

    asked = None if text is None and label is None and names is None else ImportOptions(text, label, names)
    rows = read_queries(labelled, asked, lambda finding: print_warning(str(finding)))
    router = open_router(index, config_path)
    with progress_bars() as progress:
        measured = measure(router, rows, path=labelled, progress=progress)
    wrong = measured.mistakes if as_json or errors is not None else measured.mistakes[:SHOWN]
    listed = mistake_dicts(wrong, rows, router.live.artifact, router.live.encoder)
    if as_json:
        print_json({**as_dict(measured), "errors": listed})
    else:
        _print(measured)
        print_errors(listed, len(measured.mistakes))
    if errors is not None:
        write_errors(errors, listed)


def as_dict(measured: Measurement) -> dict[str, object]:
    """A measurement as JSON-ready values."""
    latency = measured.latency
    return {
        **evaluation_dict(measured.evaluation),
        "answered_first": measured.answered_first,
        "latency_ms": {"p50": latency.p50, "p99": latency.p99, "n": latency.n},
    }


def evaluation_dict(evaluation: Evaluation) -> dict[str, object]:
    """An evaluation as JSON-ready values; ``confusion`` has a last row and column for out of scope."""
    return {
        "n": evaluation.n,
        "accuracy": evaluation.accuracy,
        "accuracy_interval": list(evaluation.accuracy_interval),
        "accuracy_in_scope": evaluation.accuracy_in_scope,
        "oos_auroc": evaluation.oos_auroc,
        "oos_recall": evaluation.oos_recall,
        "false_rejection": evaluation.false_rejection,
        "ece": evaluation.ece,
        "per_category": {name: dict(figures) for name, figures in evaluation.per_category.items()},
        "confusion": [list(row) for row in evaluation.confusion],
    }


def _print(measured: Measurement) -> None:
    from semroute.cli.console import stdout
    from semroute.cli.evaluations import category_figures, confusion_table, headline

    console = stdout()
    console.print(category_figures(measured.evaluation))
    console.print()
    console.print(confusion_table(measured.evaluation))
    console.print()
    console.print(headline(measured))
