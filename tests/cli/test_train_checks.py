from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from cli.runner import run
from predictors.answer_quality.answer_heads import made

from semroute.cli.main import main
from semroute.predictors.answer_quality import read_classifier
from semroute.testing import FakeProvider, answer


@pytest.fixture
def outcomes() -> Path:
    rows = made(160, logprobs=True, noise=0.0)
    path = Path("outcomes.jsonl")
    with path.open("w") as file:
        for query, text, told, good in zip(rows.queries, rows.answers, rows.logprobs, rows.acceptable, strict=True):
            cell = {"quality": float(good), "response": text, "logprobs": list(told)}
            file.write(json.dumps({"query": query, "outcomes": {"small": cell}}) + "\n")
    return path


@pytest.mark.slow
def test_a_classifier_is_trained_reported_and_written(outcomes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    shown = run("train-checks", str(outcomes), "--out", "checks", "--folds", "3")
    assert shown.exit_code == 0
    assert max(map(len, shown.stdout.splitlines())) <= 80
    assert "shape, words, tokens" in shown.stdout
    assert "quality: checks" in shown.stderr
    assert read_classifier(Path("checks")).blocks == ("shape", "words", "tokens")


@pytest.mark.slow
def test_the_threshold_keeps_a_share_of_right_answers(outcomes: Path) -> None:
    told = json.loads(
        run(
            "train-checks", str(outcomes), "--out", "c", "--folds", "3", "--right", "0.9", "--block", "shape", "--json"
        ).stdout
    )
    (at,) = [one for one in told["validation"]["thresholds"] if one["threshold"] == told["threshold"]]
    assert at["right"]["value"] >= 0.9
    assert read_classifier(Path("c")).threshold == told["threshold"]
    assert told["trained"]["answers"] == 160


@pytest.mark.slow
def test_what_cannot_be_trained_on_is_said(outcomes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    few = Path("few.jsonl")
    few.write_text("\n".join(outcomes.read_text().splitlines()[:10]))
    assert main(["train-checks", str(few), "--out", "c"]) == 2
    assert "at least 20 are needed" in capsys.readouterr().err
    plain = Path("plain.jsonl")
    rows = [json.loads(line) for line in outcomes.read_text().splitlines()]
    for row in rows:
        del row["outcomes"]["small"]["logprobs"]
    plain.write_text("\n".join(map(json.dumps, rows)))
    assert main(["train-checks", str(plain), "--out", "c", "--block", "tokens"]) == 2
    assert "tells log probabilities" in capsys.readouterr().err
    rows[2]["outcomes"]["small"]["logprobs"] = [0.5]
    plain.write_text("\n".join(map(json.dumps, rows)))
    assert main(["train-checks", str(plain), "--out", "c"]) == 2
    assert "plain.jsonl:3" in capsys.readouterr().err
    assert not Path("c").exists()


@pytest.mark.slow
def test_a_cascade_asks_the_classifier(outcomes: Path, routing_index: Path) -> None:
    assert main(["train-checks", str(outcomes), "--out", "checks", "--folds", "3", "--block", "shape"]) == 0
    with FakeProvider() as provider:
        config: dict[str, Any] = {
            "deployments": [
                {
                    "name": f"{model}-1",
                    "model": model,
                    "base_url": provider.base_url,
                    "price": {"input": 1, "output": 1},
                }
                for model in ("small", "large")
            ],
            "cascade": {"tiers": ["small", "large"], "accept": {"quality": "checks"}},
            "categories": {name: {"models": ["small", "large"]} for name in ("code", "cooking", "law")},
            "index": str(routing_index),
        }
        Path("semroute.yaml").write_text(yaml.safe_dump(config))
        provider.script(answer("That is 12 + 30 = 62."), answer("That is 12 + 30 = 42."))
        told = json.loads(run("ask", "--json", "what is 12 and 30 together?").stdout)
    assert told["tier"] == 1
    verdicts = [[(check["check"], check["accepted"]) for check in trial["checks"]] for trial in told["trials"]]
    assert verdicts == [[("format", True), ("quality", False)], [("format", True), ("quality", True)]]


@pytest.mark.slow
def test_a_classifier_that_is_not_there_stops_the_start(
    routing_index: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("semroute.yaml").write_text(
        yaml.safe_dump({"index": str(routing_index), "cascade": {"tiers": ["small"], "accept": {"quality": "no"}}})
    )
    assert main(["route", "what is 12 and 30 together?"]) != 0
    assert "semroute train-checks" in capsys.readouterr().err
