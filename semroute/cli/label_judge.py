"""A model that judges everything."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from semroute.errors import DispatchError, InputError

if TYPE_CHECKING:
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
