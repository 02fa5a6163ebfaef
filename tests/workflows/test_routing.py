from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from semroute.config import Config
from semroute.dispatch import Constraints
from semroute.errors import DataError, InputError, QueryError
from semroute.testing import FakeProvider, answer
from semroute.types import Decision
from semroute.workflows.answer import answer_query
from semroute.workflows.bill import BillSource, estimate_bill
from semroute.workflows.routing import NEAREST, RuleTest, explain_routing, route_file, trace_rules
from semroute.workflows.workspace import Workspace


@pytest.mark.slow
def test_a_decision_comes_with_its_nearest_examples(routing_index: Path) -> None:
    found = explain_routing(Workspace(routing_index).router(), "how do I boil an egg")
    value = json.loads(json.dumps(found.to_dict()))
    assert value["category"] == "cooking"
    assert len(value["nearest"]) == NEAREST
    assert value["nearest"][0] == pytest.approx(
        {"category": "cooking", "query": "how long do I boil an egg", "similarity": found.nearest[0].similarity}
    )


@pytest.mark.slow
@pytest.mark.parametrize("from_stdin", [False, True])
def test_rows_are_routed_in_order_and_a_bad_one_is_an_error_in_its_place(routing_index: Path, from_stdin: bool) -> None:
    rows = b'{"query": "boil an egg"}\n{"query": 7}\n{"query": "is my lease binding"}\n'
    Path("q.jsonl").write_bytes(rows)
    stdin = io.BytesIO(rows) if from_stdin else None
    router = Workspace(routing_index).router()
    found = list(route_file(router, Path("-" if from_stdin else "q.jsonl"), stdin=stdin))
    assert [query for query, _ in found] == ["boil an egg", None, "is my lease binding"]
    assert [one.category if isinstance(one, Decision) else one.line for _, one in found] == ["cooking", 2, "law"]


@pytest.mark.slow
def test_rules_are_traced_with_their_outcome(routing_index: Path) -> None:
    rules = [
        {"name": "cheap", "only": ["small", "coder"]},
        {"name": "egg", "when": {"keywords": ["egg"]}, "use": ["small"]},
    ]
    config = Config.model_validate({"rules": rules})
    router = Workspace(routing_index, config).router()
    ((line, found),) = trace_rules(router, [(1, "boil an egg")], file=None)
    assert line == 1
    assert isinstance(found, RuleTest)
    assert json.loads(json.dumps(found.to_dict()))["outcome"] == ('"egg" decides on small, within what "cheap" left')
    with pytest.raises(QueryError):
        list(trace_rules(router, [(1, " ")], file=None))
    ((line, error),) = trace_rules(router, [(3, " ")], file=Path("q.txt"))
    assert isinstance(error, DataError)
    assert (line, str(error)) == (3, "q.txt:3: the query is empty: give some text to route")


@pytest.mark.slow
def test_a_pinned_model_answers_without_an_index_and_a_routed_one_with_it(
    routing_index: Path, deployed: Config, provider: FakeProvider
) -> None:
    provider.script(answer("Eight minutes."), answer("Nine minutes."))
    pinned = answer_query("boil an egg", Workspace(None, deployed), Constraints(model="large"))
    assert (pinned.text, pinned.model) == ("Eight minutes.", "large")
    pieces = list[str]()
    routed = answer_query(
        "how do I boil an egg", Workspace(routing_index, deployed), Constraints(), stream=True, on_delta=pieces.append
    )
    assert "".join(pieces) == routed.text == "Nine minutes."
    value = json.loads(json.dumps(routed.to_dict()))
    assert (value["decision"]["category"], value["model"]) == ("cooking", "small")
    with Workspace(None, deployed).open_log() as log:
        assert [one.query for one in log.newest(5)] == ["boil an egg", "how do I boil an egg"]
    with pytest.raises(QueryError):
        answer_query(" ", Workspace(None, deployed), Constraints(model="large"))


def test_an_answer_that_is_not_to_be_logged_is_not(deployed: Config, provider: FakeProvider) -> None:
    provider.script(answer("Eight minutes."))
    answer_query("boil an egg", Workspace(None, deployed), Constraints(model="large"), is_logged=False)
    assert not Path(".semroute/log.db").exists()


@pytest.mark.slow
def test_a_bill_names_its_assumptions_and_what_could_not_be_read(routing_index: Path) -> None:
    Path("month.jsonl").write_text(
        '{"query": "how do I boil an egg"}\n{"query": 7}\n{"query": "is my lease binding"}\n'
    )
    Path("prices.yaml").write_text("small: [0.1, 0.4]\nlarge: [5, 15]\nnobodys: [1, 1]\n")
    source = BillSource(Path("month.jsonl"), now="large", prices=Path("prices.yaml"), per_month=1000)
    bill = estimate_bill(source, Workspace(routing_index, Config()))
    found = json.loads(json.dumps(bill.to_dict(), allow_nan=False))
    assert (found["rows"], found["unreadable"]["rows"]) == (2, 1)
    assert any("nobodys" in warning for warning in found["warnings"])
    assert any("--now" in sentence for sentence in found["assumed"])
    assert bill.estimate.now_usd > 0
    with pytest.raises(InputError, match="two tiers"):
        estimate_bill(BillSource(Path("month.jsonl"), cascade=("small",)), Workspace(routing_index, Config()))
    Path("none.jsonl").write_text("")
    with pytest.raises(DataError, match="holds no requests"):
        estimate_bill(BillSource(Path("none.jsonl")), Workspace(routing_index, Config()))
