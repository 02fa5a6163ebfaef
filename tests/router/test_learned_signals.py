"""What the log keeps of a conversation's tools is what a classifier learns from, and what a decision is made by."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from semroute.config import Config
from semroute.outcomes.files import read_outcomes
from semroute.outcomes.log import OutcomeLog, open_log
from semroute.outcomes.log.reader import as_labelled, write_jsonl
from semroute.predictors.query_features import SIGNALS, QueryInputs, signal_matrix
from semroute.predictors.query_quality import read_query_classifier
from semroute.router import Router
from semroute.router.query import routable_text
from semroute.strategies.base import Pool, RoutingContext
from semroute.strategies.classifier import ClassifierStrategy
from semroute.testing import FakeProvider
from semroute.types import Matrix, Request, Tool
from semroute.workflows.predict import predict_quality
from semroute.workflows.train import TrainPlan, TrainSource, train_query_classifier
from semroute.workflows.workspace import Workspace

SUBJECTS = ("parser", "index", "cache", "queue", "login page", "invoice", "search box", "timer", "upload", "menu")
VERBS = ("fix the failing test of", "explain the error in", "make a faster", "rename every use of", "write notes on")
ASKS = [f"{verb} the {subject}" for subject in SUBJECTS for verb in VERBS]
HELD_OUT = [f"{verb} the {subject}" for subject in ("router", "clock", "basket") for verb in VERBS]
TOOL = Tool("run", parameters={"type": "object"})
STUCK, GETS_ON = 4, 0
"""Equal tool calls at the end of a conversation in which the small model fails, and in which it does not."""


def conversation(ask: str, repeated: int, **more: Any) -> Request:
    """Return an agent's request after four tool calls, of which the last ones are the same."""
    messages: list[dict[str, Any]] = [{"role": "user", "content": ask}]
    for number in range(4):
        arguments = "again" if number >= 4 - repeated else f"step {number}"
        call = {"id": f"c{number}", "type": "function", "function": {"name": "run", "arguments": f'"{arguments}"'}}
        messages += [
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": f"c{number}", "content": f"result of {arguments}"},
        ]
    return Request(tuple(messages), tools=(TOOL,), **more)


def configured(provider: FakeProvider, tmp_path: Path, **sections: Any) -> Config:
    prices = {"small": 0.1, "large": 10.0}
    places = [
        {"name": f"{model}-1", "model": model, "base_url": provider.base_url, "price": {"input": usd, "output": usd}}
        for model, usd in prices.items()
    ]
    # Without the built-in rule, which would send a stuck conversation up whatever was learned.
    more = {"log": {"url": f"sqlite:///{tmp_path}/log.db"}, "on_stall": "ignore", **sections}
    return Config.model_validate({"deployments": places, **more})


@pytest.fixture
def log(provider: FakeProvider, tmp_path: Path) -> Iterator[OutcomeLog]:
    with open_log(configured(provider, tmp_path).log, {}) as opened:
        yield opened


def labelled(log: OutcomeLog, path: Path) -> Path:
    write_jsonl(filter(None, map(as_labelled, log.outcomes())), path)
    return path


def without_signals(path: Path) -> Path:
    """Return the same rows as a log from before there were signals wrote them."""
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    stripped = path.with_name("stripped.jsonl")
    stripped.write_text("".join(json.dumps({k: v for k, v in row.items() if k != "signals"}) + "\n" for row in rows))
    return stripped


def right(router: Router) -> float:
    """Return the share of the held-out conversations that go to the cheapest model that gets on."""
    due = {STUCK: "large", GETS_ON: "small"}
    found = [router.route(conversation(ask, state)).model == model for ask in HELD_OUT for state, model in due.items()]
    return float(np.mean(found))


@pytest.mark.slow
def test_a_classifier_learns_from_the_log_that_a_stuck_tool_loop_needs_the_large_model(
    routing_index: Path, provider: FakeProvider, log: OutcomeLog, tmp_path: Path
) -> None:
    with Router.load(routing_index, config=configured(provider, tmp_path), log=log) as router:
        for number, ask in enumerate(ASKS):
            for state in (STUCK, GETS_ON):
                for model in ("small", "large"):
                    answered = router.complete(conversation(ask, state), model=model)
                    log.flush()
                    is_good = model == "large" or state == GETS_ON
                    log.judge(answered.outcome_id or "", float(is_good) if number % 10 else 0.5)
    rows, workspace = labelled(log, tmp_path / "rows.jsonl"), Workspace(routing_index)
    shares, reports = dict[str, float](), dict[str, Any]()
    for name, path in {"with": rows, "without": without_signals(rows)}.items():
        folder = tmp_path / name
        reports[name] = train_query_classifier(TrainSource([path]), folder, workspace, TrainPlan(("forest",))).report
        # The double counts fewer tokens than a conversation has, so that the value found from its costs is too low.
        sections = {"strategies": ["classifier"], "classifier": {"folder": str(folder), "value": 0.02}}
        with Router.load(routing_index, config=configured(provider, tmp_path, **sections), log=False) as router:
            shares[name] = right(router)
            reason = router.route(conversation(HELD_OUT[0], STUCK)).reason
            assert ("of a conversation with 1 turn, tool loop 4, repeated calls 4" in reason) is (name == "with")
    assert shares["with"] >= 0.9
    assert shares["without"] == 0.5, "the text is the same in both states, and the decision too"
    assert read_query_classifier(tmp_path / "with").signals == SIGNALS
    assert reports["with"]["trained"]["with_signals"] == len(ASKS) * 2
    assert not read_query_classifier(tmp_path / "without").signals
    assert "with_signals" not in reports["without"]["trained"]

    asked = tmp_path / "asked.jsonl"
    states = {STUCK: {"turns": 1, "tool_loop": 4, "repeated_calls": 4}, GETS_ON: {"turns": 1, "tool_loop": 4}}
    lines = [{"query": ask, "signals": states[state]} for ask in HELD_OUT for state in states]
    lines += [{"query": list(conversation(ask, state).messages)} for ask in HELD_OUT for state in states]
    asked.write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = list(predict_quality(asked, tmp_path / "with", workspace))
    half = len(found) // 2
    assert [one.signals for one in found[:half]] == [one.signals for one in found[half:]] == [
        *states.values()
    ] * len(HELD_OUT)  # fmt: skip
    assert [one.quality for one in found[:half]] == [one.quality for one in found[half:]]
    assert found[0].to_dict()["signals"] == states[STUCK]
    assert found[0].quality["small"] < found[1].quality["small"] - 0.3


class Recording:
    """Predictor that notes what it is asked with."""

    models = ("small", "large")
    needs_vectors = False
    needs_signals = True

    def __init__(self) -> None:
        self.asked: tuple[Sequence[str], Sequence[Any]] = ((), ())

    def predict(self, texts: Sequence[str], vectors: Matrix) -> Matrix:
        return self.assess(texts, vectors)[0]

    def assess(
        self, texts: Sequence[str], vectors: Matrix, signals: Sequence[Any] | None = None
    ) -> tuple[Matrix, None]:
        assert signals is not None
        self.asked = texts, signals
        return np.zeros((len(texts), 2), np.float32), None


@pytest.mark.slow
def test_a_decision_sees_the_features_that_training_reads_from_the_log(
    routing_index: Path, provider: FakeProvider, log: OutcomeLog, tmp_path: Path
) -> None:
    ask = {"role": "user", "content": "what is a vector index?"}
    planning = {"role": "user", "content": "<system-reminder>\nPlan mode is active.</system-reminder>"}
    failed = {"role": "tool", "tool_call_id": "c3", "content": "Error: no such file"}
    stuck = conversation(ASKS[0], STUCK)
    requests = [
        Request((ask,)), Request((ask, {"role": "assistant", "content": "one"}, {"role": "user", "content": ASKS[1]})),
        stuck, conversation(ASKS[2], GETS_ON), replace(stuck, messages=(*stuck.messages, planning)),
        replace(stuck, messages=(*stuck.messages[:-1], failed)), Request((ask, planning), tools=(TOOL,)),
        Request((ask,), tools=(TOOL,)),
    ]  # fmt: skip
    with Router.load(routing_index, config=configured(provider, tmp_path), log=log) as router:
        for request in requests:
            router.complete(request, model="small")
            log.flush()
            log.judge("last", 1.0)
    predictor = Recording()
    strategy = ClassifierStrategy(
        predictor, lambda found: np.zeros((len(found), 2)), Pool(lambda name: (name,), predictor.models),
        predictor.models, 1.0,
    )  # fmt: skip
    strategy.decide([RoutingContext(routable_text(one.messages), one, ("small",)) for one in requests])
    texts, signals = predictor.asked
    table = read_outcomes(labelled(log, tmp_path / "rows.jsonl"))
    assert table.signals is not None
    nothing = np.zeros((0, 0), np.float32)
    # Two single turns with the same text are one row of the file.
    unique = list(range(len(requests) - 1))
    vectors = np.zeros((len(unique), 0), np.float32)
    read = QueryInputs.of(table.queries, vectors, nothing, table.signals)
    seen = QueryInputs.of([texts[row] for row in unique], vectors, nothing, [signals[row] for row in unique])
    assert table.queries == seen.queries
    assert np.array_equal(read.features, seen.features)
    assert not signal_matrix(signals)[[0, -1]].any(), "a single turn has zeros, with tools or without"
    assert signal_matrix(signals)[1:-1].any(axis=1).all()
