from __future__ import annotations

import json
from pathlib import Path

import pytest

from semroute.config import Config
from semroute.errors import InputError
from semroute.outcomes.files import read_outcomes
from semroute.testing import FakeProvider
from semroute.workflows.collect import CollectPlan, collect_answers
from semroute.workflows.workspace import Workspace


@pytest.fixture
def queries() -> Path:
    path = Path("queries.jsonl")
    path.write_text(
        "".join(json.dumps({"query": f"query {number}"}) + "\n" for number in range(4)) + '{"query": " "}\n'
    )
    return path


def test_every_model_answers_and_a_second_run_asks_nothing_again(
    queries: Path, deployed: Config, provider: FakeProvider
) -> None:
    workspace, warnings, steps = Workspace(None, deployed), list[str](), list[tuple[str, int, int]]()
    made = collect_answers(
        Path("out.jsonl"), CollectPlan(10.0, queries), workspace, warn=warnings.append,
        progress=lambda *step: steps.append(step),
    )  # fmt: skip
    assert (made.asked, made.answers, made.waiting, made.failures) == (4, 8, 0, {})
    assert warnings == ["queries.jsonl:5: the query is empty: give some text to route; the row is left out"]
    assert steps[-1] == ("asking", 4, 4)
    assert len(read_outcomes(Path("out.jsonl"), keep_responses=True)) == 4
    assert json.loads(json.dumps(made.to_dict()))["models"] == ["small", "large"]
    again = collect_answers(Path("out.jsonl"), CollectPlan(10.0, queries), workspace)
    assert (again.asked, again.known_before) == (0, 4)
    assert len(provider.requests) == 8


def test_the_budget_ends_a_run_and_the_reason_is_told(queries: Path, deployed: Config, provider: FakeProvider) -> None:
    made = collect_answers(Path("out.jsonl"), CollectPlan(1e-9, queries), Workspace(None, deployed))
    assert (made.budget_is_spent, made.waiting, provider.requests) == (True, 4, [])
    assert made.ended_by is not None
    assert "would not cover the longest answers" in made.ended_by


def test_what_cannot_be_collected_is_an_error(queries: Path, deployed: Config) -> None:
    with pytest.raises(InputError, match='no deployment serves "tiny"'):
        collect_answers(Path("o.jsonl"), CollectPlan(1.0, queries, ("tiny",)), Workspace(None, deployed))
    with pytest.raises(InputError, match="no model can be called"):
        collect_answers(Path("o.jsonl"), CollectPlan(1.0, queries), Workspace(None, Config()))
    Path("none.jsonl").write_text("")
    with pytest.raises(InputError, match="no queries to ask"):
        collect_answers(Path("o.jsonl"), CollectPlan(1.0, Path("none.jsonl")), Workspace(None, deployed))
