"""``semroute train``: a classifier of queries, from outcomes."""

from __future__ import annotations

from pathlib import Path

import click

from semroute.cli.options import (
    HEADS,
    config_option,
    heads_option,
    index_option,
    json_option,
    models_option,
    prices_option,
    seed_option,
    vectors_option,
)

MOST = 50_000
_FILE = click.Path(path_type=Path)


@click.command()
@click.argument("outcomes", nargs=-1, required=True, type=_FILE)
@click.option("--out", type=_FILE, metavar="DIR", required=True, help="Folder to write the classifier to.")
@prices_option
@models_option
@heads_option
@click.option("--most", type=click.IntRange(50), default=MOST, show_default=True, help="Queries to train on, drawn.")
@click.option("--folds", type=click.IntRange(2), default=3, show_default=True, help="Parts to cross-validate with.")
@seed_option
@vectors_option
@index_option
@config_option
@json_option
def train(
    outcomes: tuple[Path, ...],
    out: Path,
    prices: Path | None,
    models: tuple[str, ...] | None,
    heads: tuple[str, ...],
    most: int,
    folds: int,
    seed: int,
    vectors: Path | None,
    index: Path | None,
    config_path: Path | None,
    as_json: bool,
) -> None:
    """Train a classifier that predicts how good each model's answer to a query will be.

    OUTCOMES are .jsonl, .csv or .parquet files that tell how good answers were, such as "semroute log export
    --outcomes" writes; not every query needs every model. Without --prices the prices of semroute.yaml are taken; a
    cost that the outcomes tell is kept. Several kinds of heads are fitted, and weighed on queries that they were not
    fitted on.
    """
    from dataclasses import replace

    from semroute.cli.console import print_json, print_note, print_warning, stdout
    from semroute.cli.encoding import Encoding
    from semroute.cli.progress import progress_bars
    from semroute.cli.train_inputs import TrainSource, gather
    from semroute.cli.train_tables import training_tables
    from semroute.heads.queries import write_query_classifier
    from semroute.learn.queries.report import training_report
    from semroute.learn.queries.training import estimators, train_queries

    with progress_bars() as progress:
        source = TrainSource(outcomes, prices, models, most, seed, vectors)
        inputs = gather(source, Encoding(index, config_path), config_path, progress)
        tried = {name: made for name, made in estimators(seed).items() if name in (heads or HEADS)}
        trained = train_queries(
            inputs.rows, inputs.setting, heads=tried, folds=folds, seed=seed,
            progress=lambda done, total: progress("training", done, total),
        )  # fmt: skip
        worth = inputs.worth(trained)
    for finding in inputs.costs.table.findings:
        print_warning(str(finding))
    classifier = trained.classifier if worth is None else replace(trained.classifier, value=worth.value)
    report = training_report(trained, inputs.rows, worth, seed=seed)
    write_query_classifier(classifier, out, report=report)
    if as_json:
        print_json({"classifier": str(out), "left_out_queries": inputs.left_out, **report})
        return
    for part in training_tables(trained, inputs.rows, worth, inputs.left_out):
        stdout().print(part)
        stdout().print()
    print_note(f"wrote {out}; in semroute.yaml: classifier: {{folder: {out}}}")
