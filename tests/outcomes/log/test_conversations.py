"""Signals of a conversation and the effort of calls in the log, its exports, and rows to train on."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from outcomes.log.outcome_rows import LARGE, answer, decision, outcome
from sqlalchemy import create_engine, text

from semroute.config import Log
from semroute.outcomes.files import read_outcomes
from semroute.outcomes.log import open_log
from semroute.outcomes.log.reader import as_dict, as_labelled, write_jsonl, write_parquet
from semroute.types import Outcome

SIGNALS = {"turns": 2, "tool_loop": 5, "repeated_calls": 3, "plan_mode": True}


def plain(query: str, signals: dict[str, Any], effort: str | None) -> Outcome:
    """Return an answer of one call, without a cascade."""
    attempt = replace(LARGE, effort=effort)
    completion = answer("eight minutes", "large", attempt)
    return replace(
        outcome(query), decision=decision(query), completion=completion, attempts=(attempt,), signals=signals
    )


def test_signals_and_efforts_come_back_from_either_database(url: str) -> None:
    with open_log(Log(url=url), {}) as log:
        log.record(plain("again", SIGNALS, "high"))
        log.record(plain("once", {}, None))
        log.flush()
        loop, once = sorted(log.outcomes(), key=lambda one: one.query or "")
    assert (loop.signals, [call.effort for call in loop.calls]) == (SIGNALS, [None, "high"])
    assert loop.signals["plan_mode"] is True
    assert (once.signals, [call.effort for call in once.calls]) == ({}, [None, None])


def test_a_plain_log_does_not_grow(tmp_path: Path) -> None:
    address = f"sqlite:///{tmp_path}/log.db"
    with open_log(Log(url=address), {}) as log:
        log.record(plain("once", {}, None))
        log.flush()
        (once,) = log.outcomes()
    with create_engine(address).connect() as connection:
        assert set(json.loads(connection.execute(text("SELECT details FROM outcomes")).scalar_one())) == {
            "categories", "steps_ms", "opinions",
        }  # fmt: skip
    assert "signals" not in as_dict(once)


def test_the_same_ask_within_a_tool_loop_is_a_row_for_each_state_of_the_loop(tmp_path: Path) -> None:
    path, states = tmp_path / "outcomes.jsonl", ({}, {"turns": 1, "tool_loop": 1}, {"turns": 1, "tool_loop": 2})
    with open_log(Log(url=f"sqlite:///{tmp_path}/log.db"), {}) as log:
        for number, signals in enumerate((*states, states[1])):
            log.record(plain("fix the test", signals, None))
            log.flush()
            log.judge("last", number / 4)
        found = list(log.outcomes())
    assert write_jsonl(filter(None, map(as_labelled, found)), path) == 4
    assert "signals" not in json.loads(path.read_text().splitlines()[0])
    table = read_outcomes(path)
    assert table.signals == [*states]
    assert table.quality[:, 0].tolist() == [0.0, pytest.approx((0.25 + 0.75) / 2), 0.5]
    assert write_parquet(found, tmp_path / "x.parquet") == 4
