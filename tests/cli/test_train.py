from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from cli.runner import run
from predictors.query_quality.query_heads import MODELS, made

from semroute.cli.console import HEADS as HEADS_OF_OPTION
from semroute.cli.main import main
from semroute.encoders.static import StaticEncoder
from semroute.learn.query_quality import estimators
from semroute.predictors.query_quality import read_query_classifier, write_query_classifier
from semroute.workflows.workspace import Workspace

pytestmark = pytest.mark.usefixtures("chosen_index")

HEADS = ("--head", "linear", "--head", "neighbours")


@pytest.fixture
def outcomes() -> Path:
    return written(Path("outcomes.jsonl"))


def written(path: Path, n: int = 160) -> Path:
    data = made(n, noise=0.0)
    with path.open("w") as file:
        for query, quality in zip(data.queries, data.quality.tolist(), strict=True):
            cells = {
                model: {"quality": value, "output_tokens": 50} for model, value in zip(MODELS, quality, strict=True)
            }
            file.write(json.dumps({"query": query, "task": query.split()[0], "outcomes": cells}) + "\n")
    return path


@pytest.fixture
def prices() -> Path:
    path = Path("prices.yaml")
    path.write_text("small: [0.1, 0.4]\nlarge: [5, 15]\n")
    return path


@pytest.mark.slow
def test_a_classifier_is_trained_shown_and_written(
    outcomes: Path, prices: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    shown = run("train", str(outcomes), "--prices", str(prices), "--out", "c")
    assert shown.exit_code == 0
    assert max(map(len, shown.stdout.splitlines())) <= 80
    for words in ("forest", "stack", "AUROC", "best single model", "160 queries"):
        assert words in shown.stdout
    assert "classifier: {folder: c}" in shown.stderr
    found = read_query_classifier(Path("c"))
    assert found.models == MODELS
    assert found.costs.tasks == ("Calculate", "Tell")
    assert len(found.categories) == 3, "those of the index that SEMROUTE_INDEX names"


@pytest.mark.slow
def test_as_json_the_report_is_that_of_the_artifact(outcomes: Path, prices: Path) -> None:
    told = json.loads(run("train", str(outcomes), "--prices", str(prices), "--out", "c", *HEADS, "--json").stdout)
    kept = json.loads(Path("c/classifier.json").read_text())
    assert told["validation"] == kept["validation"]
    assert told["trained"]["queries"] == 160
    assert told["validation"]["models"]["small"]["auroc"] > 0.8
    assert told["validation"]["worth"]["rows"] == 160


@pytest.mark.slow
def test_signals_and_efforts_of_the_outcomes_are_used_and_said(outcomes: Path, prices: Path) -> None:
    rows = [json.loads(line) for line in outcomes.read_text().splitlines()]
    for number, row in enumerate(rows):
        if number % 4 == 0:
            row["signals"] = {"turns": 3, "tool_loop": number % 7}
        is_high = number % 2 == 0
        row["outcomes"]["large"] |= {"effort": "high" if is_high else "low", "output_tokens": 300 if is_high else 100}
    outcomes.write_text("".join(json.dumps(row) + "\n" for row in rows))
    shown = run("train", str(outcomes), "--prices", str(prices), "--out", "c", "--head", "linear")
    said = " ".join(shown.stdout.split())
    assert (
        "40 of them with signals of a conversation as features: turns, tool loop, tool errors, repeated calls" in said
    )
    assert "output tokens by reasoning effort, times the model's mean: large at high effort 1.50, large at low" in said
    kept = json.loads(Path("c/classifier.json").read_text())
    assert kept["trained"]["with_signals"] == 40
    assert kept["validation"]["output_tokens_by_effort"]["low"] == {"small": 1.0, "large": 0.5}


@pytest.mark.slow
def test_predictions_stand_in_the_order_of_the_queries_with_choice_and_cost(outcomes: Path, prices: Path) -> None:
    run("train", str(outcomes), "--prices", str(prices), "--out", "c", *HEADS)
    queries = Path("queries.jsonl")
    asked = ["Calculate 4 + 12 = x^2 about cats number 3", "Tell me about cats, please, 7 times"]
    queries.write_text("".join(json.dumps({"query": query}) + "\n" for query in asked))
    # A value of its own: that of the training rests on how little the two kinds of so few queries have in common.
    command = ("predict", str(queries), "--classifier", "c", "--value", "0.1")
    lines = [json.loads(line) for line in run(*command, "--json").stdout.splitlines()]
    assert [line["query"] for line in lines] == asked
    assert [line["model"] for line in lines] == ["large", "small"]
    for line in lines:
        assert set(line) == {"query", "quality", "model", "cost_usd", "seen", "unlike_training"}
        assert set(line["quality"]) == set(MODELS)
        assert all(0 <= value <= 1 for value in line["quality"].values())
    assert lines[0]["cost_usd"] > lines[1]["cost_usd"] > 50 * 0.4e-6
    plain = run(*command).stdout.splitlines()
    assert plain[0].startswith("large  ")
    assert "Tell me about cats" in plain[1]


@pytest.mark.slow
def test_predictions_tell_what_the_classifier_was_trained_on_and_the_evaluation_warns(
    outcomes: Path, prices: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("train", str(outcomes), "--prices", str(prices), "--out", "c", *HEADS)
    new = made(40, seed=9)
    with outcomes.open("a") as file:
        for query, quality in zip(new.queries, new.quality.tolist(), strict=True):
            cells = dict(zip(MODELS, ({"quality": value, "output_tokens": 50} for value in quality), strict=True))
            file.write(json.dumps({"query": f"New: {query}", "outcomes": cells}) + "\n")
    shown = run("predict", str(outcomes), "--classifier", "c", "--json")
    Path("p.jsonl").write_text(shown.stdout)
    seen = [json.loads(line)["seen"] for line in shown.stdout.splitlines()]
    assert seen == [True] * 160 + [False] * 40
    assert "trained on 160 of the 200 queries" in shown.stderr
    monkeypatch.setenv("COLUMNS", "80")
    evaluate = ("evaluate-policy", str(outcomes), "--prices", str(prices), "--policy", "prompt-length")
    evaluate += ("--resamples", "100", "--predictions", "p.jsonl")
    said = "p.jsonl was trained on 160 of these 200 queries"
    told = json.loads(run(*evaluate, "--html", "r.html", "--json").stdout)
    assert told["predictions"] == {"queries": 200, "trained_on": 160, "not_told": 0}
    assert said in told["warnings"][0]
    assert f'<p class="warning">what made {said}' in Path("r.html").read_text()
    table = run(*evaluate).stdout
    assert f"warning: what made {said}" in " ".join(table.split())
    assert max(map(len, table.splitlines())) <= 80
    # On new queries alone there is nothing to warn of.
    outcomes.write_text("".join(outcomes.read_text().splitlines(keepends=True)[160:]))
    told = json.loads(run(*evaluate, "--json").stdout)
    assert told["predictions"]["trained_on"] == 0
    assert told["warnings"] == []
    assert any("trained on 0 of these 40 queries" in note for note in told["notes"])


@pytest.mark.slow
def test_an_artifact_that_does_not_tell_what_it_was_trained_on_still_predicts(outcomes: Path, prices: Path) -> None:
    run("train", str(outcomes), "--prices", str(prices), "--out", "c", *HEADS)
    write_query_classifier(replace(read_query_classifier(Path("c")), seen=None), Path("c"), report={})
    shown = run("predict", str(outcomes), "--classifier", "c", "--json")
    assert all("seen" not in json.loads(line) for line in shown.stdout.splitlines())
    assert "trained on" not in shown.stderr


@pytest.mark.slow
def test_value_prices_models_and_a_ceiling_change_the_choice_without_training(outcomes: Path, prices: Path) -> None:
    run("train", str(outcomes), "--prices", str(prices), "--out", "c", *HEADS)

    def models(*more: str) -> list[str]:
        shown = run("predict", str(outcomes), "--classifier", "c", "--json", *more).stdout
        return [json.loads(line)["model"] for line in shown.splitlines()]

    assert set(models("--value", "0")) == {"small"}
    assert set(models("--value", "inf", "--models", "large")) == {"large"}
    free = Path("free.yaml")
    free.write_text("large: [0, 0]\n")
    assert set(models("--value", "0", "--prices", str(free))) == {"large"}
    rows = [
        json.loads(line)
        for line in run(
            "predict", str(outcomes), "--classifier", "c", "--json", "--max-cost", "0.0003"
        ).stdout.splitlines()
    ]
    assert 0.0002 < sum(row["cost_usd"] for row in rows) / len(rows) <= 0.0003
    assert {row["model"] for row in rows} == set(MODELS)


@pytest.mark.slow
def test_what_cannot_be_done_is_said(
    outcomes: Path, prices: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def error(*arguments: str, code: int = 2) -> str:
        assert main(arguments) == code
        return capsys.readouterr().err

    few = written(Path("few.jsonl"), 10)
    assert "at least 50 are needed" in error("train", str(few), "--prices", str(prices), "--out", "x")
    priceless = Path("priceless.yaml")
    priceless.write_text("small: [1, 1]\n")
    assert 'no price for "large"' in error("train", str(outcomes), "--prices", str(priceless), "--out", "x")
    assert 'no model "huge"' in error("train", str(outcomes), "--prices", str(prices), "--models", "huge", "--out", "x")
    latin = Path("latin.jsonl")
    latin.write_bytes(b'{"query": "caf\xe9", "outcomes": {"small": {"quality": 1}}}\n')
    assert "latin.jsonl:1" in error("train", str(latin), "--prices", str(prices), "--out", "x")
    assert not Path("x").exists()
    assert main(["train", str(outcomes), "--prices", str(prices), "--out", "c", *HEADS]) == 0
    capsys.readouterr()
    assert "semroute train" in error("predict", str(outcomes), "--classifier", "nowhere", code=1)
    assert "not both" in error("predict", str(outcomes), "--classifier", "c", "--value", "1", "--max-cost", "1")
    assert "not reachable" in error("predict", str(outcomes), "--classifier", "c", "--max-cost", "1e-9")
    assert 'no model "huge"' in error("predict", str(outcomes), "--classifier", "c", "--models", "huge")
    blank = Path("blank.jsonl")
    blank.write_text('{"query": " "}\n')
    assert "blank.jsonl: holds no queries" in error("predict", str(blank), "--classifier", "c")
    blank.write_text('{"query": "fine"}\n{"query": " "}\n')
    assert main(["predict", str(blank), "--classifier", "c"]) == 0
    assert "warning: blank.jsonl:2: the query is empty" in capsys.readouterr().err
    manifest = json.loads(Path("c/classifier.json").read_text())
    Path("c/classifier.json").write_text(json.dumps({**manifest, "encoder": "other"}))
    assert "an encoder other than" in error("predict", str(outcomes), "--classifier", "c", code=1)


def test_the_heads_that_can_be_asked_for_are_those_that_there_are() -> None:
    assert tuple(estimators()) == HEADS_OF_OPTION


@pytest.mark.slow
def test_kept_vectors_are_those_of_one_encoder(routing_index: Path, static_encoder: StaticEncoder) -> None:
    queries, store = ["one", "two"], Path("vectors.npz")
    by_index, other = Workspace(routing_index), Workspace(routing_index)
    other.__dict__["encoder"] = static_encoder
    kept = by_index.vectors(queries, store, lambda *_: None)
    np.testing.assert_array_equal(by_index.vectors(queries, store, lambda *_: None), kept)
    np.testing.assert_array_equal(other.vectors(queries, store, lambda *_: None), static_encoder.encode(queries))


@pytest.mark.slow
def test_a_tuned_encoder_is_a_head_more_and_serves_without_another(
    tiny_model: Callable[..., Path], outcomes: Path, prices: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone = str(tiny_model(tmp_path / "backbone"))
    given = ("--fine-tune", backbone, "--epochs", "1", "--head", "tuned")
    shown = run("train", str(outcomes), "--prices", str(prices), "--out", "c", *given)
    kept = json.loads(Path("c/classifier.json").read_text())
    assert kept["heads"] == ["tuned"]
    assert kept["trained"]["fine_tuned"] == backbone
    # Which queries say the same, and stay together, is by vectors: a row more or less from one processor to another.
    judged_on = kept["trained"]["judged_on"]
    assert 28 <= judged_on <= 34
    assert f"{judged_on} of them" in " ".join(shown.stdout.split())
    monkeypatch.setattr(Workspace, "vectors", lambda *_: pytest.fail("no vectors are needed"))
    Path("queries.jsonl").write_text('{"query": "Tell me about cats"}\n')
    said = json.loads(run("predict", "queries.jsonl", "--classifier", "c", "--json").stdout)
    assert set(said["quality"]) == set(MODELS)


@pytest.mark.slow
@pytest.mark.torch
def test_the_tuned_head_wants_a_backbone(
    outcomes: Path, prices: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", str(outcomes), "--out", "c", "--head", "tuned"]) == 2
    assert "--fine-tune BACKBONE" in capsys.readouterr().err
    (tmp_path / "empty").mkdir()
    given = ["--prices", str(prices), "--out", "c", "--fine-tune", str(tmp_path / "empty")]
    assert main(["train", str(outcomes), *given]) != 0
    assert "unknown model" in capsys.readouterr().err
    assert not Path("c").exists()
