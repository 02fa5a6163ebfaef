from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from semroute.config import Config
from semroute.encoders.static import StaticEncoder
from semroute.errors import InputError
from semroute.outcomes.files import read_outcomes
from semroute.testing import FakeProvider, answer
from semroute.workflows.judging import check_golden, judge_agreement, judge_answers
from semroute.workflows.labeling import LabelingSession, labeling_session, open_session
from semroute.workflows.workspace import Workspace


@pytest.fixture
def collected() -> Path:
    rows = [
        {
            "query": f"question {number}",
            "task": "t",
            "outcomes": {
                "small": {"quality": None, "cost_usd": 0.001, "response": f"small says {number}"},
                "large": {"quality": None, "cost_usd": 0.01, "response": f"large answers {number} at length"},
            },
        }
        for number in range(6)
    ]
    path = Path("collected.jsonl")
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def written(path: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(path).read_text().splitlines()]


def label_all(session: LabelingSession, workspace: Workspace, quality: float) -> int:
    picks = session.picks(workspace)
    for pick in picks:
        session.append(pick.row, dict.fromkeys(session.models_of(pick.row), quality), judged_by="human", pick=pick)
    return len(picks)


@pytest.fixture
def workspace(static_encoder: StaticEncoder) -> Workspace:
    return Workspace(None, Config(), encoder=static_encoder)


def test_a_session_goes_on_where_the_last_one_stopped(collected: Path, workspace: Workspace) -> None:
    with labeling_session([collected], Path("golden.jsonl")) as session:
        first, second, *_ = session.picks(workspace)
        for pick in (first, second):
            session.append(pick.row, {"small": 1.0, "large": 0.0}, judged_by="human", pick=pick)
        session.undo()
        result = session.result(1)
    assert result.to_dict()["judged"] == 1
    (row,) = written("golden.jsonl")
    assert row["query"] == session.query(first.row)
    assert row["outcomes"]["small"] == {
        "quality": 1.0,
        "cost_usd": 0.001,
        "response": session.answer(first.row, "small"),
    }
    again = open_session([collected], Path("golden.jsonl"))
    assert len(again.rows) == 5
    assert first.row not in again.rows


def test_another_seed_or_other_outcomes_are_refused(collected: Path, workspace: Workspace) -> None:
    label_all(open_session([collected], Path("golden.jsonl")), workspace, 1.0)
    with pytest.raises(InputError, match="another --seed"):
        open_session([collected], Path("golden.jsonl")).picks(workspace, seed=1)
    with pytest.raises(InputError, match="is what is judged"):
        open_session([collected], collected)


def test_the_same_ask_in_another_state_of_its_tools_is_labelled_by_itself(collected: Path) -> None:
    rows = written("collected.jsonl")[:1]
    states = [{}, {"turns": 1, "tool_loop": 2}, {"turns": 1, "tool_loop": 3}]
    collected.write_text("".join(json.dumps({**rows[0], "signals": state}) + "\n" for state in states))
    session = open_session([collected], Path("golden.jsonl"))
    assert session.rows == [0, 1, 2]
    session.append(1, {"small": 1.0, "large": 0.0}, judged_by="human")
    (row,) = written("golden.jsonl")
    assert row["signals"] == states[1]
    again = open_session([collected], Path("golden.jsonl"))
    assert again.rows == [0, 2]
    assert read_outcomes("golden.jsonl").signals == [states[1]]


@pytest.mark.slow
def test_a_judge_grades_every_answer_and_is_compared_with_a_person(
    collected: Path, workspace: Workspace, deployed: Config, provider: FakeProvider
) -> None:
    label_all(open_session([collected], Path("golden.jsonl")), workspace, 1.0)
    provider.script(*[answer("9")] * 12)
    steps = list[tuple[str, int, int]]()
    with labeling_session([collected], Path("judged.jsonl")) as session:
        made = judge_answers(
            session, "large", deployed, golden=Path("golden.jsonl"), progress=lambda *step: steps.append(step)
        )
    assert steps[-1] == ("judging", 6, 6)
    found = json.loads(json.dumps(made.to_dict(), allow_nan=False))
    assert (found["judged"], found["without_grade"], found["stopped_by"]) == (12, 0, None)
    assert found["agreement"]["same"]["value"] == 1.0
    assert found["agreement"]["kappa"] is None, "both call every answer good"
    assert {row["judged_by"] for row in written("judged.jsonl")} == {"model: large"}
    assert judge_agreement(Path("judged.jsonl"), Path("golden.jsonl")) == made.agreement


def test_a_judge_keeps_to_its_budget(collected: Path, deployed: Config, provider: FakeProvider) -> None:
    made = judge_answers(open_session([collected], Path("judged.jsonl")), "large", deployed, max_usd=1e-9)
    assert (made.run.stopped_by, made.run.judged, made.run.has_failed) == ("budget", 0, True)
    assert "12 answers were not judged" in made.run.problems()[0]
    assert provider.requests == []


@pytest.mark.slow
def test_a_judge_without_any_readable_grade_is_given_up(
    collected: Path, deployed: Config, provider: FakeProvider
) -> None:
    provider.script(*[answer("fine")] * 12)
    made = judge_answers(open_session([collected], Path("judged.jsonl")), "large", deployed)
    assert made.run.stopped_by == "no readable grade"
    assert len(provider.requests) < 12
    assert not made.path.exists()


def test_an_unusable_judge_or_golden_set_is_refused_before_it_is_paid(
    collected: Path, deployed: Config, provider: FakeProvider
) -> None:
    session = open_session([collected], Path("judged.jsonl"))
    with pytest.raises(InputError, match='no deployment serves the judge "larg"; did you mean "large"'):
        judge_answers(session, "larg", deployed)
    with pytest.raises(InputError, match="is what a person judged"):
        check_golden(Path("judged.jsonl"), session)
    with pytest.raises(InputError, match="holds no judged answer"):
        judge_answers(session, "large", deployed, golden=collected)
    assert provider.requests == []
