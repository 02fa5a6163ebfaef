"""A model that judges everything."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from semroute.errors import DispatchError, InputError

if TYPE_CHECKING:
    from semroute.cli.label_rows import LabelingSession
    from semroute.cli.label_told import JudgeRun
    from semroute.dispatch import Dispatcher
    from semroute.types import ModelClient


def judge_all(
    sheet: LabelingSession, judge: str, limit: int | None, max_usd: float | None, config_path: Path | None
) -> JudgeRun:
    """Let a model grade the answers of every query that is left, row by row.

    It ends early where the budget does, and where none of the first replies holds a grade.

    Raises:
        InputError: the judge cannot be called.
        DispatchError: it stopped answering; what it judged is kept.
    """
    from semroute import bridge
    from semroute.cli.label_told import JudgeRun
    from semroute.config import load_config
    from semroute.dispatch import Dispatcher
    from semroute.texts.nearest import did_you_mean

    config = load_config(config_path)
    members = config.members(judge)
    if not any(deployment.model in members for deployment in config.deployments):
        placed = dict.fromkeys([*config.groups, *(deployment.model for deployment in config.deployments)])
        fix = did_you_mean(judge, placed) or "add one to semroute.yaml"
        raise InputError(f'no deployment serves the judge "{judge}"; {fix}')
    specs = [config.models[name] for name in members if name in config.models]
    as_json = bool(specs) and all("json_schema" in (spec.capabilities or ()) for spec in specs)
    rows = sheet.rows if limit is None else sheet.rows[:limit]
    wanted = sum(len(sheet.models_of(row)) for row in rows)
    told = JudgeRun(judge, as_json, wanted, max_usd, sheet.has_rows_of(_name(judge)))
    bridge.run(_judge(sheet, rows, told, Dispatcher(config)))
    return told


async def _judge(sheet: LabelingSession, rows: Sequence[int], told: JudgeRun, dispatcher: Dispatcher) -> None:
    from semroute.cli.console import print_warning
    from semroute.cli.progress import progress_bars
    from semroute.dispatch import Constraints
    from semroute.router.calling import ConstrainedClient

    caller = ConstrainedClient(dispatcher, Constraints())
    try:
        with progress_bars() as progress:
            for done, row in enumerate(rows):
                if told.max_usd is not None and not told.allows(await _ahead(sheet, row, told, caller)):
                    break
                await _judge_row(sheet, row, told, caller)
                if told.is_hopeless:
                    told.stopped_by = "no readable grade"
                    break
                progress("judging", done + 1, len(rows))
    except DispatchError:
        print_warning(f"{told.judged:,} answers were judged before {told.judge} stopped answering, and are kept")
        raise
    finally:
        await dispatcher.close()


async def _judge_row(sheet: LabelingSession, row: int, told: JudgeRun, caller: ModelClient) -> None:
    """Have the answers of a row graded, and keep the grades."""
    import asyncio

    from semroute.learn.labelling.grading import grade

    models, query = sheet.models_of(row), sheet.query(row)
    asked = (grade(query, sheet.answer(row, model), told.judge, caller, as_json=told.as_json) for model in models)
    grades = await asyncio.gather(*asked)
    for one in grades:
        told.add(one)
    marks = {model: one.value for model, one in zip(models, grades, strict=True) if one.value is not None}
    if marks:
        sheet.append(row, marks, judged_by=_name(told.judge))


def _name(judge: str) -> str:
    """How the file names a judge."""
    return f"model: {judge}"


async def _ahead(sheet: LabelingSession, row: int, told: JudgeRun, caller: ModelClient) -> float:
    """USD that judging a row is expected to cost at most.

    Raises:
        InputError: the judge's price is not known.
    """
    from semroute.learn.labelling.grading import grading_request

    total = 0.0
    for model in sheet.models_of(row):
        request = grading_request(sheet.query(row), sheet.answer(row, model), as_json=told.as_json)
        outlook = await caller.outlook(request, (told.judge,))
        if outlook.usd is None and outlook.closed is None:
            raise InputError(f'the price of "{told.judge}" is not known, so no budget can be kept; give it a price')
        total += outlook.usd or 0.0
    return total
