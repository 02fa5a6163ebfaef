from __future__ import annotations

import json
from pathlib import Path

import pytest

from semroute.errors import InputError
from semroute.evaluate.replay import asked_tokens, call_costs
from semroute.learn.estimators import usable_rows
from semroute.outcomes.costs import with_costs
from semroute.outcomes.files import read_outcomes
from semroute.outcomes.table import OutcomeTable


def table(tmp_path: Path, n: int, late: int = 0, lost: int = 0) -> OutcomeTable:
    """``n`` queries with two models; the first ``late`` lack the second model, the last ``lost`` lack both."""
    path = tmp_path / "outcomes.jsonl"
    with path.open("w") as file:
        for i in range(n):
            outcomes = {
                "a": {"quality": None if i >= n - lost else 1.0, "output_tokens": 10 + i % 2 * 10, "input_tokens": 5},
                "b": {"quality": None if i < late or i >= n - lost else 0.0, "cost_usd": 0.5},
            }
            row = {"query": f"query {i}", "task": "odd" if i % 2 else "even", "outcomes": outcomes}
            file.write(json.dumps(row) + "\n")
    return read_outcomes(path)


def test_rows_that_know_nothing_are_left_out(tmp_path: Path) -> None:
    found = usable_rows(table(tmp_path, 80, lost=10), max_rows=1000, seed=0)
    assert found.rows.tolist() == list(range(70))
    assert found.left_out == 10


def test_too_many_rows_are_sampled_by_the_seed(tmp_path: Path) -> None:
    whole = table(tmp_path, 200)
    one, other = (usable_rows(whole, max_rows=100, seed=seed).rows.tolist() for seed in (0, 1))
    assert len(one) == len(set(one)) == 100
    assert one != other
    assert one == usable_rows(whole, max_rows=100, seed=0).rows.tolist()


def test_ten_rows_are_too_few(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="10 queries have the quality of an answer, and at least 50"):
        usable_rows(table(tmp_path, 10), max_rows=1000, seed=0)


def test_a_model_with_too_few_answers_is_named_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r'"b" is known for 20 queries.*--models a'):
        usable_rows(table(tmp_path, 60, late=40), max_rows=1000, seed=0)


def test_calls_are_expected_to_cost_what_they_did(tmp_path: Path) -> None:
    from semroute.config import Price

    costs = with_costs(table(tmp_path, 60), {"a": Price(input=1, output=2)}, len)  # type: ignore[arg-type]
    found = call_costs(costs)
    asked = asked_tokens(["query 1"])
    assert found.tasks == ("even", "odd")
    assert found.expected(asked, ["odd"])[0].tolist() == pytest.approx([5e-6 + 40e-6, 0.5], rel=0.02)
    assert found.expected(asked)[0].tolist() == pytest.approx([5e-6 + 30e-6, 0.5], rel=0.02)
