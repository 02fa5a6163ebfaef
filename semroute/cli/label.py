"""``semroute label``: judge answers, by hand or by a model, and say how far the two agree."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from semroute.cli.options import NumberRange, config_option, index_option, json_option, seed_option

if TYPE_CHECKING:
    from semroute.cli.label_rows import LabelingSession

_FILE = click.Path(path_type=Path)


@click.command()
@click.argument("outcomes", nargs=-1, required=True, type=_FILE)
@click.option("--out", type=_FILE, metavar="FILE.jsonl", required=True, help="Judged outcomes; what is there goes on.")
@click.option("--judge", metavar="MODEL", help="Let this model of semroute.yaml judge.")
@click.option("--golden", type=_FILE, metavar="FILE", help="With --judge: what a person judged, to compare with.")
@click.option("--limit", type=click.IntRange(1), metavar="N", help="Judge so many queries and stop.")
@click.option("--max-usd", type=NumberRange(0, min_open=True), metavar="USD", help="With --judge: the budget.")
@click.option("--classifier", type=_FILE, metavar="DIR", help="Prefer queries of which this classifier is not sure.")
@seed_option
@index_option
@config_option
@json_option
def label(
    outcomes: tuple[Path, ...],
    out: Path,
    judge: str | None,
    golden: Path | None,
    limit: int | None,
    max_usd: float | None,
    classifier: Path | None,
    seed: int,
    index: Path | None,
    config_path: Path | None,
    as_json: bool,
) -> None:
    """Judge answers: a golden set by hand, or everything by a model.

    OUTCOMES are files with responses, such as "semroute collect" writes. By hand: queries come in the order in which
    they are worth your time (answers disagree, the query is rare, a classifier is not sure), every other one at
    random. Only a random sample tells of all queries: the rows whose "draw" is at most the largest of a row that was
    "picked" at random, the hard ones among them included. Where the outcomes have grown, only rows with the last
    "drawn_from" tell how far that is. Answers stand in random order without their models' names; keys mark them. With
    --judge a model grades every answer, and --golden says how far it agrees with you, on the random sample and on all.
    Both go on where they stopped, answer by answer: what a model has answered since, and what was not graded, is still
    to be judged.
    """
    from semroute.cli.label_rows import read_sheet
    from semroute.cli.label_screen import MOST_ANSWERS
    from semroute.outcomes.appending import only_appender

    if judge is None and (golden is not None or max_usd is not None):
        raise click.UsageError("--golden and --max-usd go with --judge")
    with only_appender(out):
        sheet = read_sheet(outcomes, out, most=MOST_ANSWERS if judge is None else None)
        if judge is not None:
            _by_model(sheet, judge, golden, limit, max_usd, config_path, as_json=as_json)
        else:
            _by_hand(sheet, limit, classifier, index, config_path, seed, as_json=as_json)


def _by_hand(
    sheet: LabelingSession,
    limit: int | None,
    classifier: Path | None,
    index: Path | None,
    config_path: Path | None,
    seed: int,
    *,
    as_json: bool,
) -> None:
    """Let a person judge, and say what came of it."""
    from semroute.cli.console import print_json, print_note, print_warning
    from semroute.cli.label_hand import judge_by_hand

    judged, out = judge_by_hand(sheet, limit, classifier, index, config_path, seed), sheet.out
    sampled = sheet.sampled()
    if as_json:
        print_json({"path": str(out), "judged": judged, "random_sample": sampled})
        return
    if not out.exists():
        print_note(f"no query was judged, and {out} was not begun")
        return
    among = "" if sampled is None else f"; {sampled:,} of all there are a random sample"
    print_note(f"{judged:,} queries judged, in {out}{among}")
    if sampled is None:
        print_warning(f'{out} holds no random sample: a row tells no "draw"; begin a new file to have one')


def _by_model(
    sheet: LabelingSession,
    judge: str,
    golden: Path | None,
    limit: int | None,
    max_usd: float | None,
    config_path: Path | None,
    *,
    as_json: bool,
) -> None:
    """Let a model judge, and say what came of it.

    Raises:
        InputError: nothing was judged, though there was something to judge; or a file cannot be used.
    """
    from semroute.cli.console import print_json, print_note, print_warning, stdout
    from semroute.cli.label_agreement import agreement_dict, agreement_shown, check_golden
    from semroute.cli.label_judge import judge_all
    from semroute.errors import InputError

    if golden is not None:
        check_golden(golden, sheet)
    told = judge_all(sheet, judge, limit, max_usd, config_path)
    compared = None if golden is None or not sheet.out.exists() else agreement_dict(sheet.out, golden)
    if as_json:
        print_json({"path": str(sheet.out), **told.plain(), "agreement": compared})
    else:
        where = f", in {sheet.out}" if sheet.out.exists() else ""
        print_note(f"{judge} judged {told.judged:,} answers for USD {told.spent:.4f}{where}")
        if compared is not None:
            stdout().print(agreement_shown(compared))
    problems = told.problems()
    if told.has_failed:
        raise InputError(f"nothing was judged: {'; '.join(problems)}")
    for problem in problems:
        print_warning(problem)
    if golden is not None and compared is None:
        print_warning(f"{judge} judged none of the answers in {golden} yet, so that there is nothing to compare")
