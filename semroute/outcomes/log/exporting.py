"""Outcomes as files for other programs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from semroute.extras import require
from semroute.types import TRIAL, LoggedOutcome
from semroute.whole import atomic_write, json_line

PORTION = 2000
"""Outcomes of a row group of Parquet."""


def as_dict(outcome: LoggedOutcome) -> dict[str, Any]:
    """An outcome as JSON-ready values; the time as ISO 8601."""
    return {**asdict(outcome), "at": outcome.at.isoformat(timespec="milliseconds")}


def as_labelled(outcome: LoggedOutcome) -> dict[str, Any] | None:
    """An outcome in the format that policies are trained and judged on; None where it has no query, answer or quality.

    The judged answer's model has the feedback as its quality. Models whose answers nobody judged have none, and are
    left out: a check's verdict is an opinion of ours and not a quality.

    Its ``probability`` is that with which the model was chosen (:func:`model_probability`).
    """
    if outcome.query is None or outcome.model is None or outcome.feedback is None:
        return None
    calls = [call for call in outcome.calls if call.model == outcome.model and call.tier == outcome.tier]
    costs = [call.cost_usd for call in calls if call.cost_usd is not None]
    known = {
        "quality": outcome.feedback,
        "cost_usd": sum(costs) if costs else None,
        "input_tokens": outcome.input_tokens,
        "output_tokens": outcome.output_tokens,
        "latency_ms": calls[-1].latency_ms if calls else None,
        "response": outcome.answer,
        "probability": model_probability(outcome),
        "logprobs": next((trial.logprobs for trial in outcome.trials if trial.tier == outcome.tier), None),
    }
    told = {key: value for key, value in known.items() if value is not None}
    task = {} if outcome.category is None else {"task": outcome.category}
    return {"query": outcome.query, **task, "outcomes": {outcome.model: told}}


def model_probability(outcome: LoggedOutcome) -> float | None:
    """With what probability the model of the answer was chosen; None where it is not known.

    1 without a trial: the same query and configuration give the same decision. With one it is what the router has
    noted. Not known is that of an answer that came after another model had failed or been rejected, from a model of a
    group, or from one that the caller had pinned during a trial.
    """
    if outcome.tier is not None or outcome.candidates[:1] != (outcome.model,):
        return None
    said = next((opinion for opinion in outcome.opinions if opinion.get("strategy") == TRIAL), None)
    if said is None:
        return 1.0
    draw = said.get("draw")
    noted = draw.get("probability") if isinstance(draw, dict) else None
    return noted if isinstance(noted, float) and 0 < noted <= 1 else None


def write_jsonl(rows: Iterable[Mapping[str, Any]], path: Path) -> int:
    """A line for each row; the file appears whole or not at all. How many there were."""
    count = 0
    with atomic_write(path) as part, part.open("w", encoding="utf-8") as file:
        for row in rows:
            file.write(json_line(row) + "\n")
            count += 1
    return count


def write_parquet(outcomes: Iterable[LoggedOutcome], path: Path) -> int:
    """A row for each outcome; what is nested is a column of JSON text. The file appears whole or not at all.

    Raises:
        MissingExtraError: the extra "parquet" is not installed.
    """
    arrow = require("pyarrow", what="writing Parquet", extra="parquet")
    parquet = require("pyarrow.parquet", what="writing Parquet", extra="parquet")
    text, number, count, flag = arrow.string(), arrow.float64(), arrow.int64(), arrow.bool_()
    kinds = {
        "id": text, "at": arrow.timestamp("us", tz="UTC"), "query": text, "query_hash": text, "category": text,
        "strategy": text, "is_fallback": flag, "score": number, "threshold": number, "confidence": number,
        "reason": text, "candidates": text, "model": text, "deployment": text, "tier": count, "accepted": flag,
        "escalated": flag, "latency_ms": number, "decide_ms": number, "first_token_ms": number, "input_tokens": count,
        "output_tokens": count, "cost_usd": number, "cost_estimated": flag, "baseline_model": text,
        "baseline_usd": number, "error_kind": text, "error": text, "answer": text, "feedback": number,
        "metadata": text, "categories": text, "opinions": text, "steps_ms": text, "calls": text, "checks": text,
        "trials": text,
    }  # fmt: skip
    schema = arrow.schema(list(kinds.items()))
    written = 0
    with atomic_write(path) as part, parquet.ParquetWriter(part, schema) as writer:
        for portion in _portions(outcomes):
            rows = [_flat(outcome) for outcome in portion]
            writer.write_table(arrow.Table.from_pylist(rows, schema=schema))
            written += len(rows)
    return written


def _flat(outcome: LoggedOutcome) -> dict[str, Any]:
    row = asdict(outcome)
    return {
        key: json.dumps(value, ensure_ascii=False) if isinstance(value, list | tuple | dict) else value
        for key, value in row.items()
    }


def _portions(outcomes: Iterable[LoggedOutcome]) -> Iterator[list[LoggedOutcome]]:
    portion: list[LoggedOutcome] = []
    for outcome in outcomes:
        portion.append(outcome)
        if len(portion) == PORTION:
            yield portion
            portion = []
    if portion:
        yield portion
