"""``semroute train-checks``: a classifier of answers, from judged ones."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from semroute.cli.options import NameChoice, NumberRange, json_option

if TYPE_CHECKING:
    from semroute.cli.tables import DataTable
    from semroute.learn.answers.rows import JudgedAnswers
    from semroute.learn.answers.training import Trained
    from semroute.learn.answers.validation import Validation

_FILE = click.Path(path_type=Path)
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
    from semroute.cli.console import print_json, print_note, print_warning, stdout
    from semroute.cli.progress import progress_bars
    from semroute.heads.answers import write_classifier
    from semroute.heads.answers.folder import FOLDER
    from semroute.learn.answers.rows import judged_answers
    from semroute.learn.answers.training import train
    from semroute.learn.answers.validation import Validation, training_report
    from semroute.outcomes.files import read_outcomes

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
    from semroute.learn.answers.training import with_threshold
    from semroute.learn.answers.validation import threshold_for

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
    from semroute.evaluate.report.words import percent

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
