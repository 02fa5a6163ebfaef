"""Commands on outcomes in an empty folder: they embed with the encoder alone, and build no index."""

from __future__ import annotations

import json
from pathlib import Path

import platformdirs
import pytest
from click.testing import CliRunner, Result
from predictors.query_quality.query_heads import MODELS, made

from semroute.cli.main import cli
from semroute.encoders import minilm

HEAD = ("--head", "linear")


@pytest.fixture(autouse=True)
def _empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache without any index; the encoder's graph, which every command may make, is taken over."""
    graphs = list(platformdirs.user_cache_path("semroute").glob(f"{minilm.GRAPH_NAME}.*"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("SEMROUTE_INDEX", raising=False)
    (tmp_path / "cache" / "semroute").mkdir(parents=True)
    for path in graphs:
        (tmp_path / "cache" / "semroute" / path.name).write_bytes(path.read_bytes())


@pytest.fixture
def outcomes() -> Path:
    Path("prices.yaml").write_text("small: [0.1, 0.4]\nlarge: [5, 15]\n")
    data, path = made(300, noise=0.02), Path("outcomes.jsonl")
    with path.open("w") as file:
        for query, quality in zip(data.queries, data.quality.tolist(), strict=True):
            cells = {
                model: {"quality": value, "output_tokens": 50, "input_tokens": 20, "response": f"{query}: {value:.3f}"}
                for model, value in zip(MODELS, quality, strict=True)
            }
            file.write(json.dumps({"query": query, "outcomes": cells}) + "\n")
    return path


def run(*arguments: str, said: str = "") -> Result:
    done = CliRunner().invoke(cli, arguments, input=said, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    built = [path.name for path in platformdirs.user_cache_path("semroute").iterdir() if path.is_dir()]
    assert not built, f"{arguments[0]} has built {built}"
    assert not Path(".semroute").exists()
    return done


@pytest.mark.slow
def test_training_and_prediction_need_the_encoder_alone(outcomes: Path) -> None:
    run("train", str(outcomes), "--prices", "prices.yaml", "--out", "classifier", *HEAD)
    Path("queries.txt").write_text("Tell me about cats\n")
    told = json.loads(run("predict", "queries.txt", "--classifier", "classifier", "--json").stdout)
    assert set(told["quality"]) == set(MODELS)
    run("train-checks", str(outcomes), "--out", "checks", "--folds", "2")


@pytest.mark.slow
def test_policies_are_compared_with_the_encoder_alone(outcomes: Path) -> None:
    done = run(
        "evaluate-policy", str(outcomes), "--prices", "prices.yaml", "--policy", "cluster-table", "--resamples", "100"
    )
    assert "cluster table" in done.stdout


@pytest.mark.slow
def test_a_policy_is_tuned_with_the_encoder_alone_and_the_note_names_what_an_index_would_add(outcomes: Path) -> None:
    done = run("tune-policy", str(outcomes), "--prices", "prices.yaml", "--out", "policy", "--value", "0.001", *HEAD)
    assert 'no policy by category was tried, for there is no index; make one with "semroute build-index"' in " ".join(
        done.output.split()
    )
    assert "categories" not in json.loads(Path("policy/policy.json").read_text())["config"]
    run("config", "check", "policy/policy.yaml")


@pytest.mark.slow
def test_answers_are_put_in_order_for_judging_with_the_encoder_alone(outcomes: Path) -> None:
    done = run("label", str(outcomes), "--out", "golden.jsonl", said="n\rq")
    (row,) = map(json.loads, Path("golden.jsonl").read_text().splitlines())
    assert row["query"] in done.output
    assert row["picked"] != "random", "the first is the one that is most worth judging"
    assert {model: cell["quality"] for model, cell in row["outcomes"].items()} == dict.fromkeys(MODELS, 0.0)
