"""How far a model that judged agrees with a person: on the random sample, and on all that both judged."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from semroute.errors import InputError

if TYPE_CHECKING:
    from rich.console import Group

    from semroute.cli.label_rows import LabelingSession
    from semroute.cli.tables import DataTable
    from semroute.learn.labelling.sample import Answer
    from semroute.outcomes.table import OutcomeTable


def check_golden(golden: Path, sheet: LabelingSession) -> None:
    """Refuse, before a judge is paid, what its judgements could not be compared with.

    Raises:
        InputError: the file cannot be used, is that of the judge, or shares no answer with what is judged.
    """
    from semroute.outcomes.files import read_outcomes

    if golden.resolve() == sheet.out.resolve():
        raise InputError(f"{golden}: is what a person judged; name another file for the judge's with --out")
    by_person = _marks(read_outcomes(golden))
    if not by_person:
        raise InputError(f"{golden}: holds no judged answer; judge some by hand (semroute label without --judge)")
    if by_person.keys().isdisjoint(sheet.answers()):
        raise InputError(
            f"{golden}: shares no answer (query, task and model) with the outcomes; name those that it was judged from"
        )


def agreement_dict(judged: Path, golden: Path) -> dict[str, Any] | None:
    """How far the judge agrees with a person on the answers that both have judged: of the same query, task and model.

    ``random_sample`` is the same on those of the random sample alone, which tells of all queries; None where the file
    tells none. The whole is None where the two share no answer yet.

    Raises:
        InputError: a file cannot be used.
    """
    from dataclasses import asdict

    from semroute.evaluate.plain import finite
    from semroute.learn.labelling.agreement import agreement
    from semroute.outcomes.files import read_outcomes

    by_judge, by_person = _marks(read_outcomes(judged)), _marks(read_outcomes(golden))
    both = sorted(by_judge.keys() & by_person.keys())
    if not both:
        return None
    sample = _sample(golden)
    sampled = [answer for answer in both if answer in sample]

    def compared(answers: Sequence[Answer]) -> dict[str, Any]:
        said, truth = (np.array([marks[answer] for answer in answers]) for marks in (by_judge, by_person))
        found = finite(asdict(agreement(said, truth)))
        assert isinstance(found, dict)
        return found

    return {**compared(both), "random_sample": compared(sampled) if sampled else None}


def _marks(table: OutcomeTable) -> dict[Answer, float]:
    """The quality of every judged answer."""
    keys = zip(table.queries, table.tasks, table.quality.tolist(), strict=True)
    return {
        (query, task, model): quality
        for query, task, row in keys
        for model, quality in zip(table.models, row, strict=True)
        if math.isfinite(quality)
    }


def _sample(golden: Path) -> frozenset[Answer]:
    """The answers of the random sample; none where the file does not tell it."""
    from semroute.categories.jsonl import json_rows
    from semroute.categories.lines import file_lines
    from semroute.categories.notes import stop_at_first
    from semroute.learn.labelling.sample import random_sample

    if golden.suffix.lower() != ".jsonl":
        return frozenset()
    report = stop_at_first(golden)
    return random_sample([row for _, row in json_rows(file_lines(golden, report), report)]) or frozenset()


def agreement_shown(compared: dict[str, Any]) -> Group:
    """The agreement for people, of the random sample first."""
    from rich.console import Group
    from rich.text import Text

    sample = compared["random_sample"]
    first = (
        (Text("no random sample in the golden file: the agreement may be another on all queries", style="yellow"),)
        if sample is None
        else (Text("on the random sample, which tells of all queries", style="bold"), _agreement_table(sample))
    )
    return Group(
        *first, Text("on all that both judged, the hard ones among them", style="bold"), _agreement_table(compared)
    )


def _agreement_table(compared: dict[str, Any]) -> DataTable:
    from semroute.cli.tables import figures, number

    def rate(name: str) -> str:
        of = compared[name]
        return (
            f"{of['value']:.1%} ({of['low']:.1%} to {of['high']:.1%}) of {of['n']:,}" if of["n"] else "none to tell by"
        )

    return figures(
        same_as_the_person=rate("same"),
        kappa=number(compared["kappa"], 2),
        bad_ones_called_good=rate("too_kind"),
        good_ones_called_bad=rate("too_strict"),
    )
