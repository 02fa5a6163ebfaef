"""``semroute predict``: each model's predicted quality, and the choice that follows from it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from semroute.cli.options import NumberRange, config_option, index_option, json_option, names_option

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from semroute.categories.queries import QueryRow
    from semroute.cli.encoding import Encoding
    from semroute.heads.queries import QueryClassifier
    from semroute.types import Matrix, Query

_FILE = click.Path(path_type=Path)


@click.command()
@click.argument("queries", type=click.Path(path_type=Path, allow_dash=True))
@click.option("--classifier", "folder", type=_FILE, metavar="DIR", required=True, help="From semroute train.")
@click.option("--prices", type=_FILE, metavar="FILE", help="Other prices than those it was trained with.")
@names_option("--models", "Choose among these only.")
@click.option("--value", type=NumberRange(0), metavar="USD", help="What +1.0 of quality is worth (or: inf).")
@click.option("--max-cost", type=NumberRange(0), metavar="USD", help="Most to spend a query, on average over all.")
@index_option
@config_option
@json_option
def predict(
    queries: Path,
    folder: Path,
    prices: Path | None,
    models: tuple[str, ...] | None,
    value: float | None,
    max_cost: float | None,
    index: Path | None,
    config_path: Path | None,
    as_json: bool,
) -> None:
    """Predict how good each model's answer to each query will be, and choose a model.

    QUERIES is a .jsonl, .csv or .txt file, or "-" for JSONL on standard input; a "task" in a row tells what answers
    cost there. The model with the highest value of quality less cost is chosen. With --max-cost the value is the
    highest that keeps to it on average over all rows; without either it is the one that training found. With --json
    "seen" tells whether the classifier was trained on the query: its prediction is no test then.
    """
    from semroute.cli.console import print_note
    from semroute.cli.encoding import Encoding
    from semroute.evaluate.replay.choices import choose
    from semroute.heads.queries import check_encoder, read_query_classifier

    if value is not None and max_cost is not None:
        raise click.UsageError("give --value or --max-cost, not both")
    classifier = read_query_classifier(folder)
    encoding = Encoding(index, config_path)
    check_encoder(classifier, encoding.encoder, folder)
    rows, texts = _read(queries)
    predicted = _predicted(classifier, texts, encoding)
    expected = _expected(classifier, rows, prices)
    kept = _columns(classifier, models)
    among = predicted[:, kept], expected[:, kept].astype("float32")
    worth = _value(classifier, value, max_cost, *among)
    choice = [kept[place] for place in choose(*among, worth).tolist()]
    seen = classifier.has_seen(texts)
    _print(classifier.models, [row.query for row in rows], predicted, expected, choice, seen, as_json)
    if seen is not None and seen.any():
        print_note(f"the classifier was trained on {int(seen.sum()):,} of the {len(rows):,} queries")


def _read(queries: Path) -> tuple[list[QueryRow], list[str]]:
    """Return the rows that can be routed, and their texts.

    Raises:
        DataError: there is none.
    """
    from semroute.categories.queries import iter_query_rows
    from semroute.cli.console import print_warning
    from semroute.errors import DataError, QueryError
    from semroute.router.text import routed_text

    rows, texts = [], []
    for row in iter_query_rows(queries):
        try:
            texts.append(routed_text(row.query))
        except QueryError as error:
            print_warning(f"{queries}:{row.line}: {error}; the row is left out")
        else:
            rows.append(row)
    if not rows:
        raise DataError("holds no queries", path=queries)
    return rows, texts


def _predicted(classifier: QueryClassifier, texts: list[str], encoding: Encoding) -> Matrix:
    """Return ``(n, models)`` predicted quality; texts are embedded only for a classifier that looks at vectors."""
    import numpy as np

    from semroute.cli.progress import progress_bars

    with progress_bars() as progress:
        nothing = np.zeros((len(texts), 0), np.float32)
        return classifier.predict(
            texts, encoding.vectors(texts, None, progress) if classifier.needs_vectors else nothing
        )


def _expected(classifier: QueryClassifier, rows: Sequence[QueryRow], prices: Path | None) -> NDArray[np.float64]:
    """Return ``(n, models)`` expected cost, USD."""
    from semroute.catalog import estimate_tokens
    from semroute.outcomes.prices import read_prices
    from semroute.router.text import as_messages
    from semroute.types import Request

    costs = classifier.costs if prices is None else classifier.costs.with_prices(read_prices(prices))
    asked = [estimate_tokens(Request(as_messages(row.query))) for row in rows]
    return costs.expected(asked, [row.task for row in rows])


def _columns(classifier: QueryClassifier, models: tuple[str, ...] | None) -> list[int]:
    from semroute.errors import InputError
    from semroute.texts.nearest import known_names

    if models is None:
        return list(range(len(classifier.models)))
    unknown = [name for name in models if name not in classifier.models]
    if unknown:
        known = known_names(unknown[0], classifier.models, "it knows")
        raise InputError(f'the classifier knows no model "{unknown[0]}"; {known}')
    return [classifier.models.index(name) for name in models]


def _value(
    classifier: QueryClassifier, value: float | None, max_cost: float | None, predicted: Matrix, expected: Matrix
) -> float:
    """What quality is worth.

    Raises:
        InputError: even the cheapest choices cost more than ``max_cost``.
    """
    from semroute.errors import InputError
    from semroute.evaluate.replay.choices import value_within

    if max_cost is None:
        return classifier.value if value is None else value
    found = value_within(predicted, expected, max_cost) if len(predicted) else 0.0
    if found is None:
        least = float(expected.min(axis=1).mean(dtype="float64"))
        raise InputError(f"not reachable: the cheapest models cost USD {least:.3g} a query, more than {max_cost:.3g}")
    return found


def _print(
    models: tuple[str, ...],
    queries: Sequence[Query],
    predicted: Matrix,
    expected: NDArray[np.float64],
    choice: Sequence[int],
    seen: NDArray[np.bool_] | None,
    as_json: bool,
) -> None:
    from semroute.cli.console import print_json
    from semroute.cli.layout import Column
    from semroute.cli.tables import RowPrinter

    columns = Column("model", "name"), Column("quality"), Column("cost, USD"), Column("query", "excerpt")
    printed = RowPrinter(*columns, likely=(models,))
    told = [{}] * len(queries) if seen is None else [{"seen": one} for one in seen.tolist()]
    rows = zip(queries, predicted.tolist(), expected.tolist(), choice, told, strict=True)
    for query, quality, cost, column, more in rows:
        if as_json:
            said = {name: round(value, 6) for name, value in zip(models, quality, strict=True)}
            print_json({"query": query, "quality": said, "model": models[column], "cost_usd": cost[column], **more})
        else:
            text = printed.excerpt(query) if isinstance(query, str) else "(a conversation)"
            printed.print(models[column], f"{quality[column]:.3f}", f"{cost[column]:.6f}", text)
