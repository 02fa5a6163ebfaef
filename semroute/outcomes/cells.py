"""The values of one cell of a file of outcomes, checked."""

from __future__ import annotations

import math
from collections.abc import Mapping

from semroute.categories.notes import Report, shortened
from semroute.categories.rows import kind
from semroute.outcomes.building import NUMBERS

MOST = 1e12
"""No count of tokens, cost in USD or latency in milliseconds is above it."""

_LIMITS = {"quality": 1.0, "probability": 1.0}
_FIXES = {
    "quality": "scale it to that range",
    "probability": "write the share of queries that went to the model, above 0",
}


def cell_numbers(cell: Mapping[str, object], model: str, line: int, report: Report) -> dict[str, float | None] | None:
    """The numbers of a cell, None for those that are not known; None, and reports, where one cannot be used."""
    if "quality" not in cell:
        has = shortened(", ".join(cell))
        report(f'the outcome of {shortened(model)} has no "quality" (its keys: {has}); null says "not judged"', line)
        return None
    numbers: dict[str, float | None] = {}
    for name in NUMBERS:
        value = cell.get(name)
        problem = None if value is None else _problem(name, value)
        if problem:
            report(f'"{name}" of {shortened(model)} {problem}', line)
            return None
        numbers[name] = None if value is None else float(value)  # type: ignore[arg-type]  # _problem saw a number
    return numbers


def cell_response(cell: Mapping[str, object], model: str, line: int, report: Report) -> str | None:
    """The response of a cell, None where there is none; also, with a report, where it is no text."""
    response = cell.get("response")
    if response is None or isinstance(response, str):
        return response
    report(f'"response" of {shortened(model)} must be text, not {kind(response)}', line)
    return None


def cell_logprobs(cell: Mapping[str, object], model: str, line: int, report: Report) -> list[float] | None:
    """The log probabilities of a cell, None where there are none; also, with a report, where they are no such list."""
    values = cell.get("logprobs")
    if values is None:
        return None
    if isinstance(values, list) and all(_is_logprob(value) for value in values):
        return [min(0.0, float(value)) for value in values]
    report(f'"logprobs" of {shortened(model)} must be a list of natural logarithms of probabilities, 0 at most', line)
    return None


def _is_logprob(value: object) -> bool:
    # Servers round: a little above 0 is 0.
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and -MOST <= value <= 1e-3  # type: ignore[operator]  # it is a number


def _problem(name: str, value: object) -> str | None:
    most = _LIMITS.get(name, MOST)
    reach = f"a number from 0 to {most:g}" if name in _LIMITS else "a number from 0"
    if isinstance(value, bool) or not isinstance(value, int | float):
        what = shortened(value) if isinstance(value, str) else kind(value)
        return f"must be {reach}, not {what}"
    if not 0 <= value <= most:  # also what is not a number
        said = f"{value:g}" if isinstance(value, float) and math.isfinite(value) else str(value)[:20]
        return f"must be {reach}, not {said}; {_FIXES.get(name, 'correct it')}"
    if name == "probability" and value == 0:
        return f"must be above 0; {_FIXES[name]}"
    return None
