from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from semroute.errors import InputError
from semroute.outcomes.files import check_judged, judging_remedy, read_outcomes
from semroute.outcomes.table import OutcomeTable


def table(tmp_path: Path, *rows: dict[str, dict[str, Any]], keep_responses: bool = False) -> OutcomeTable:
    path = tmp_path / "outcomes.jsonl"
    lines = (json.dumps({"query": f"query {number}", "outcomes": cells}) for number, cells in enumerate(rows))
    path.write_text("".join(f"{line}\n" for line in lines))
    return read_outcomes(path, keep_responses=keep_responses)


def test_a_table_without_quality_names_the_judging_command(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"outcomes of 2 queries hold no quality.*semroute label"):
        check_judged(table(tmp_path, {"a": {"quality": None}}, {"b": {"quality": None}}))
    check_judged(table(tmp_path, {"a": {"quality": None}}, {"b": {"quality": 0}}))


@pytest.mark.parametrize("told", [{"cost_usd": 0}, {"input_tokens": 3}, {"output_tokens": 0}, {"latency_ms": 1}])
def test_unjudged_answers_are_counted(tmp_path: Path, told: dict[str, int]) -> None:
    found = table(tmp_path, {"a": {"quality": None, **told}, "b": {"quality": 1, **told}}, {"a": {"quality": 1}})
    assert judging_remedy(found) == "judge the 1 answers that have no quality yet (semroute label), "


def test_answers_are_matched_by_text_and_missing_ones_not_counted(tmp_path: Path) -> None:
    unjudged = {"a": {"quality": None, "response": "x"}, "b": {"quality": 1}}
    assert "the 1 answers" in judging_remedy(table(tmp_path, unjudged, keep_responses=True))
    assert judging_remedy(table(tmp_path, {"a": {"quality": 1}}, {"b": {"quality": 1}}, keep_responses=True)) == ""
