from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as parquet
import pytest
from outcomes.log.outcome_rows import outcome

from semroute.config import Log
from semroute.outcomes.files import read_outcomes
from semroute.outcomes.log import OutcomeLog, open_log
from semroute.outcomes.log.reader import as_dict, as_labelled, write_jsonl, write_parquet
from semroute.types import TokenLogprob


@pytest.fixture
def log(tmp_path: Path) -> Iterator[OutcomeLog]:
    section = Log(url=f"sqlite:///{tmp_path}/log.db", keep_days="forever", answers="full")
    with open_log(section, {}) as opened:
        for number in range(3):
            opened.record(outcome(f"query {number}", at=1_700_000_000.0 + number))
        opened.flush()
        opened.judge("last", 0.5)
        yield opened


def test_jsonl_has_every_value_under_its_kept_key(log: OutcomeLog, tmp_path: Path) -> None:
    assert write_jsonl(map(as_dict, log.outcomes()), tmp_path / "x.jsonl") == 3
    rows = [json.loads(line) for line in (tmp_path / "x.jsonl").read_text().splitlines()]
    assert [row["query"] for row in rows] == ["query 0", "query 1", "query 2"]
    assert rows[0]["at"] == "2023-11-14T22:13:20.000+00:00"
    assert rows[2]["feedback"] == 0.5
    assert [call["role"] for call in rows[0]["calls"]] == ["judge", "answer", "sample", "answer", "answer"]
    assert [tier["candidate"] for tier in rows[0]["trials"]] == ["small", "frontier"]
    assert "tiers" not in rows[0]


@pytest.mark.slow
def test_parquet_has_a_row_for_each_and_what_is_nested_as_json(log: OutcomeLog, tmp_path: Path) -> None:
    assert write_parquet(log.outcomes(), tmp_path / "x.parquet") == 3
    rows: list[dict[str, Any]] = parquet.read_table(tmp_path / "x.parquet").to_pylist()
    assert [row["cost_usd"] for row in rows] == pytest.approx([0.331] * 3)
    assert rows[0]["at"] == next(log.outcomes()).at
    assert json.loads(rows[0]["calls"])[1]["score"] == {"cost": 1.0, "total": 0.9}
    assert [tier["candidate"] for tier in json.loads(rows[0]["trials"])] == ["small", "frontier"]


def test_an_empty_log_makes_a_file_without_rows(tmp_path: Path) -> None:
    assert write_parquet(iter(()), tmp_path / "x.parquet") == 0
    assert parquet.read_table(tmp_path / "x.parquet").num_rows == 0


def test_judged_answers_become_rows_for_evaluation(log: OutcomeLog, tmp_path: Path) -> None:
    path = tmp_path / "outcomes.jsonl"
    assert write_jsonl(filter(None, map(as_labelled, log.outcomes())), path) == 1
    row = json.loads(path.read_text())
    assert (row["query"], row["task"]) == ("query 2", "cooking")
    assert row["outcomes"] == {
        "large": {"quality": 0.5, "cost_usd": 0.3, "input_tokens": 10, "output_tokens": 50, "latency_ms": 90.0,
                  "response": "eight minutes"}
    }  # fmt: skip
    assert list(read_outcomes(path).models) == ["large"]


@pytest.mark.slow
def test_exported_rows_hold_the_answers_log_probabilities(tmp_path: Path) -> None:
    made = outcome()
    assert made.completion is not None
    first, last = made.completion.tiers
    assert last.completion is not None
    told = replace(last.completion, logprobs=(TokenLogprob("eight", -0.123456), TokenLogprob(" minutes", -2.0)))
    made = replace(made, completion=replace(made.completion, tiers=(first, replace(last, completion=told))))
    for answers, logprobs in (("full", (-0.1235, -2.0)), ("none", None)):
        section = Log.model_validate({"url": f"sqlite:///{tmp_path}/{answers}.db", "answers": answers})
        with open_log(section, {}) as log:
            log.record(made)
            log.flush()
            log.judge("last", 1.0)
            (found,) = log.outcomes()
        assert found.tiers[1].logprobs == logprobs
        row = as_labelled(found)
        assert row is not None
        assert row["outcomes"]["large"].get("logprobs") == logprobs


def test_a_file_appears_whole_or_not_at_all(log: OutcomeLog, tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text("old")

    def broken() -> Iterator[dict[str, Any]]:
        yield {"a": 1}
        raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError):
        write_jsonl(broken(), path)
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir() if "x.jsonl" in entry.name] == ["x.jsonl"]


def test_an_exported_row_contains_no_line_separator(tmp_path: Path) -> None:
    assert write_jsonl([{"query": "a\x85b\u2028c"}, {"query": "d"}], tmp_path / "x.jsonl") == 2
    assert len((tmp_path / "x.jsonl").read_text(encoding="utf-8").splitlines()) == 2
