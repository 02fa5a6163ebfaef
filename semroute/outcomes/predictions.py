"""Predicted quality from a file, for outcomes that are read beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from semroute.categories.jsonl import json_rows
from semroute.categories.lines import file_lines
from semroute.categories.notes import Notes, Report, combined, shortened
from semroute.categories.rows import kind, query_text
from semroute.types import Matrix


@dataclass(frozen=True, slots=True)
class Predictions:
    """What a file predicts for ``n`` queries and ``m`` models.

    Attributes:
        quality: ``(n, m)`` float32 in 0..1.
        seen: ``n`` values: whether what predicts was trained on the query; None where the file does not tell.
    """

    quality: Matrix
    seen: tuple[bool | None, ...]

    @property
    def trained_on(self) -> int:
        """Queries that what predicts was trained on."""
        return self.seen.count(True)

    @property
    def not_told(self) -> int:
        """Queries of which the file does not tell."""
        return self.seen.count(None)


def read_predictions(path: Path | str, queries: Sequence[str], models: Sequence[str]) -> Predictions:
    """Read predicted quality from JSON Lines, as ``semroute predict --json`` writes them, a query a line::

        {"query": "...", "quality": {"small": 0.4, "large": 0.9}, "seen": false}

    ``seen`` tells whether what predicts was trained on the query, and may be left out. Other keys are ignored, as are
    queries and models that are not asked for. Lines are matched to queries by text without surrounding whitespace; of
    a query that stands twice the last line counts.

    Args:
        path: the file.
        queries: ``n`` texts.
        models: ``m`` names.

    Raises:
        DataError: the file cannot be used, or lacks a query or a model.
    """
    notes = Notes(Path(path))
    rows: dict[str, list[int]] = {}
    for row, text in enumerate(queries):
        rows.setdefault(text, []).append(row)
    predicted = np.full((len(queries), len(models)), np.nan, np.float32)
    seen: list[bool | None] = [None] * len(queries)
    for number, line in json_rows(file_lines(notes.path, notes.problem), notes.problem):
        query = query_text(line, number, notes.problem)
        if query is not None and query in rows:
            cells = _cells(line.get("quality"), models, number, notes.problem)
            is_seen = line.get("seen")
            if is_seen is not None and not isinstance(is_seen, bool):
                notes.problem(f'"seen" must be true or false, not {kind(is_seen)}', number)
            elif cells is not None:
                predicted[rows[query]] = cells
                for row in rows[query]:
                    seen[row] = is_seen
    lacking = np.flatnonzero(np.isnan(predicted).any(axis=1))
    if len(lacking) and not notes.problems:
        first = shortened(queries[int(lacking[0])])
        notes.problem(f"lacks {len(lacking):,} of the {len(queries):,} queries, such as {first}; predict them too")
    if notes.problems:
        raise combined(notes.problems)
    return Predictions(predicted, tuple(seen))


def _cells(quality: object, models: Sequence[str], line: int, report: Report) -> list[float] | None:
    if not isinstance(quality, dict):
        report(f'"quality" must be an object with a number for each model, not {kind(quality)}', line)
        return None
    cells = []
    for model in models:
        value = quality.get(model)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
            said = kind(value) if not isinstance(value, int | float) or isinstance(value, bool) else f"{value:g}"
            report(f'"quality" must have a number from 0 to 1 for {shortened(model)}, not {said}', line)
            return None
        cells.append(float(value))
    return cells
