"""A model that judges everything, and how far it agrees with a person."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from semroute.errors import DispatchError, InputError

if TYPE_CHECKING:
    from rich.table import Table

    from semroute.cli.label_rows import Sheet
    from semroute.dispatch import Dispatcher
    from semroute.types import Caller


def judge_all(
    sheet: Sheet, judge: str, limit: int | None, max_usd: float | None, config_path: Path | None
) -> dict[str, Any]:
    """Let a model grade the answers of every query that is left, row by row.

    Raises:
        InputError: the judge cannot be called.
        DispatchError: it stopped answering; what it judged is kept.
    """
    from semroute import bridge
    from semroute.config import load_config
    from semroute.dispatch import Dispatcher

    config = load_config(config_path)
    members = config.members(judge)
    if not any(deployment.model in members for deployment in config.deployments):
        raise InputError(f'no deployment serves the judge "{judge}"; add one to semroute.yaml')
    specs = [config.models[name] for name in members if name in config.models]
    as_json = bool(specs) and all("json_schema" in (spec.capabilities or ()) for spec in specs)
    return bridge.run(_judge(sheet, judge, limit, max_usd, Dispatcher(config), as_json))


async def _judge(
    sheet: Sheet, judge: str, limit: int | None, max_usd: float | None, dispatcher: Dispatcher, as_json: bool
) -> dict[str, Any]:
    import asyncio

    from semroute.cli.console import print_warning
    from semroute.cli.progress import progress_bars
    from semroute.dispatch import Constraints
    from semroute.learn.labelling.grading import grade
    from semroute.router.calling import BoundCaller

    caller = BoundCaller(dispatcher, Constraints())
    rows = sheet.rows if limit is None else sheet.rows[:limit]
    judged, ungraded, spent = 0, 0, 0.0
    try:
        with progress_bars() as progress:
            for done, row in enumerate(rows):
                models = sheet.models_of(row)
                if max_usd is not None and spent + await _ahead(sheet, row, judge, caller, as_json) > max_usd:
                    break
                grades = await asyncio.gather(
                    *(
                        grade(sheet.query(row), sheet.answer(row, model), judge, caller, as_json=as_json)
                        for model in models
                    )
                )
                spent += sum(usd for _, usd in grades)
                marks = {model: said for model, (said, _) in zip(models, grades, strict=True) if said is not None}
                ungraded += len(models) - len(marks)
                judged += len(marks)
                if marks:
                    sheet.keep(row, marks, judged_by=f"model: {judge}")
                progress("judging", done + 1, len(rows))
    except DispatchError:
        print_warning(f"{judged:,} answers were judged before {judge} stopped answering, and are kept")
        raise
    finally:
        await dispatcher.close()
    return {"path": str(sheet.out), "judge": judge, "judged": judged, "without_grade": ungraded, "spent_usd": spent}


async def _ahead(sheet: Sheet, row: int, judge: str, caller: Caller, as_json: bool) -> float:
    """USD that judging a row is expected to cost at most.

    Raises:
        InputError: the judge's price is not known.
    """
    from semroute.learn.labelling.grading import grading_request

    total = 0.0
    for model in sheet.models_of(row):
        request = grading_request(sheet.query(row), sheet.answer(row, model), as_json=as_json)
        outlook = await caller.outlook(request, (judge,))
        if outlook.usd is None and outlook.closed is None:
            raise InputError(f'the price of "{judge}" is not known, so no budget can be kept; give it a price')
        total += outlook.usd or 0.0
    return total


def agreement_dict(sheet: Sheet, golden: Path) -> dict[str, Any]:
    """How far the judge agrees with a person on the answers that both have judged: of the same query, task and model.

    Raises:
        InputError: a file cannot be used, or they share no answer.
    """
    from dataclasses import asdict

    from semroute.evaluate.plain import finite
    from semroute.learn.labelling.agreement import agreement
    from semroute.outcomes.files import read_outcomes

    by_judge, by_person = read_outcomes(sheet.out), read_outcomes(golden)
    places = {key: row for row, key in enumerate(zip(by_judge.queries, by_judge.tasks, strict=True))}
    said, truth = [], []
    for row, key in enumerate(zip(by_person.queries, by_person.tasks, strict=True)):
        for column, model in enumerate(by_person.models):
            if key in places and model in by_judge.models:
                one = by_judge.quality[places[key], by_judge.models.index(model)]
                other = by_person.quality[row, column]
                if np.isfinite(one) and np.isfinite(other):
                    said.append(float(one))
                    truth.append(float(other))
    if not said:
        raise InputError(f"{golden}: shares no judged answer (query, task and model) with {sheet.out}")
    found = finite(asdict(agreement(np.array(said), np.array(truth))))
    assert isinstance(found, dict)
    return found


def agreement_table(compared: dict[str, Any]) -> Table:
    """The agreement for people."""
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
